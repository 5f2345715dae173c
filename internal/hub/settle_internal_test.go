package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/peertest"
)

// tinyDisk mounts a file system, and returns a function that fills it and one
// that makes room again.
func tinyDisk(t *testing.T) (dir string, fill, empty func()) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		peertest.Missing(t, "mount")
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	fill = func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1 << 20, 64 << 10, 4 << 10, 1} {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, size))
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir, fill, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

// How a job ends is written down as soon as the disk has room for it. A commit
// for which the disk was full goes back into the queue, but not for ever.
func TestSettleOnFullDisk(t *testing.T) {
	full := fmt.Errorf("write commit: %w", syscall.ENOSPC)
	for name, test := range map[string]struct {
		cause   error
		attempt int64
		status  hubapi.JobStatus
		state   hubapi.RepoState
		log     string
	}{
		"no space":           {full, 1, hubapi.JobNew, hubapi.RepoCommitting, "disk is full; trying again in 10s"},
		"no space for ever":  {full, maxSpaceAttempts, hubapi.JobBroken, hubapi.RepoFailed, "Failed: write commit: no space"},
		"something else":     {errors.New("bad commit"), 1, hubapi.JobBroken, hubapi.RepoFailed, "Failed: bad commit"},
		"no error, but full": {nil, 1, hubapi.JobEnded, hubapi.RepoReady, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, fill, empty := tinyDisk(t)
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				c, err := catalog.Open(ctx, catalog.Config{Path: filepath.Join(dir, "hub.db")})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				s := &server{catalog: c, log: slog.New(slog.NewTextHandler(t.Output(), nil)), stopping: ctx}
				build, err := c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.StartCommit(ctx, build.ID, nil); err != nil {
					t.Fatal(err)
				}
				job, err := c.NextJob(ctx, catalog.JobFilter{})
				for err == nil && job.Attempt < test.attempt {
					err = c.ReleaseJob(ctx, job.Claim(), time.Time{})
					if err == nil {
						job, err = c.NextJob(ctx, catalog.JobFilter{})
					}
				}
				if err != nil {
					t.Fatal(err)
				}

				fill()
				done := make(chan struct{})
				go func() {
					defer close(done)
					if test.cause != nil {
						s.settle(ctx, job, test.cause)
					} else if err := s.insist(ctx, job, func() error { return c.FinishCommit(ctx, job.Claim(), nil) }); err != nil {
						t.Error(err)
					}
				}()
				time.Sleep(10 * time.Second)
				select {
				case <-done:
					t.Fatal("it was written down on a full disk")
				default:
				}
				empty()
				<-done
				now, err := c.JobWithLog(ctx, job.ID, 0)
				if err != nil || now.Status != test.status || !strings.Contains(now.Log, test.log) {
					t.Errorf("job %+v, %v", now, err)
				}
				if build, err = c.Build(ctx, build.ID); err != nil || build.RepoState != test.state {
					t.Errorf("build %+v, %v", build, err)
				}
				if next, err := c.NextJob(ctx, catalog.JobFilter{}); err != nil || next != nil {
					t.Errorf("at once again: %+v, %v", next, err)
				}
				time.Sleep(minSpacePause)
				if next, err := c.NextJob(ctx, catalog.JobFilter{}); err != nil || (next != nil) != (test.status == hubapi.JobNew) {
					t.Errorf("after the pause: %+v, %v", next, err)
				}
			})
		})
	}
}

// A hub that stops does not wait for room.
func TestInsistEndsWithTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		s := &server{log: slog.New(slog.DiscardHandler), stopping: stopping}
		time.AfterFunc(time.Minute, stop)
		begin, calls := time.Now(), 0
		err := s.insist(t.Context(), &catalog.Job{}, func() error { calls++; return syscall.ENOSPC })
		if !errors.Is(err, syscall.ENOSPC) || time.Since(begin) != time.Minute || calls < 50 {
			t.Errorf("after %v and %d calls: %v", time.Since(begin), calls, err)
		}
		for _, final := range []error{catalog.ErrClaimLost, catalog.ErrNotFound, &catalog.WrongStateError{}} {
			if err := s.insist(t.Context(), &catalog.Job{}, func() error { return final }); !errors.Is(err, final) {
				t.Errorf("%v: %v", final, err)
			}
		}
	})
}
