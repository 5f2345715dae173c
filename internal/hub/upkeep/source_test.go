package upkeep_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/hub/repolock"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
)

// sourceFunc is a source.
type sourceFunc func(ctx context.Context, path string) (io.ReadCloser, error)

func (f sourceFunc) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	return f(ctx, path)
}

// damagedHub is a repository of which one file is damaged, with a sound copy.
func damagedHub(t *testing.T) (h *hub, damaged string, sound fs.FS) {
	t.Helper()
	h = newHub(t)
	h.publish("org.example.A", "1")
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	damaged = needed(h, h.objects(ostree.TypeFile)).Path()
	write(t, h.path(damaged), read(t, h.path(damaged))[:20])
	return h, damaged, os.DirFS(dir)
}

// inBubble runs a test with a clock of its own, that begins now: signatures are of now.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	now := time.Now()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		time.Sleep(time.Until(now))
		test(t)
	})
}

// TestStalledSource: a source that stalls is given up, and meanwhile nobody waits for
// the lock of the repository.
func TestStalledSource(t *testing.T) {
	t.Parallel()
	h, damaged, sound := damagedHub(t)
	beginning, err := fs.ReadFile(sound, damaged)
	if err != nil {
		t.Fatal(err)
	}
	inBubble(t, func(t *testing.T) {
		stalled := make(chan struct{}, 10)
		source := sourceFunc(func(context.Context, string) (io.ReadCloser, error) {
			r, w := io.Pipe()
			go func() {
				_, _ = w.Write(beginning[:5])
				stalled <- struct{}{}
			}()
			return r, nil
		})
		type result struct {
			report upkeep.Report
			all    []upkeep.Problem
			err    error
		}
		checked := make(chan result)
		go func() {
			var r result
			r.report, r.err = upkeep.Check(t.Context(), h.dir, upkeep.CheckOptions{Repair: []upkeep.Source{source}, Found: func(p upkeep.Problem) { r.all = append(r.all, p) }})
			checked <- r
		}()
		<-stalled
		root, err := os.OpenRoot(h.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		begun := time.Now()
		lock, err := repolock.Exclusive(t.Context(), root)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("waited %v for the lock", waited)
		}
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
		r := <-checked
		if r.err != nil || r.report.Sound() || len(r.all) != 1 || r.all[0].Path != damaged || !strings.Contains(r.all[0].Failure, "it sent less than") {
			t.Errorf("%+v, %v", r.all, r.err)
		}
		if took := time.Since(begun); took < 30*time.Second || took > 3*time.Minute {
			t.Errorf("given up after %v", took)
		}
	})
	if left, _ := os.ReadDir(h.path(".upkeep/incoming")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFlakySource: what fails once is tried again, and a source that fails again and
// again is not asked for each object.
func TestFlakySource(t *testing.T) {
	t.Parallel()
	h, _, sound := damagedHub(t)
	for _, name := range h.objects(ostree.TypeDirMeta) {
		write(t, h.path(name.Path()), []byte("damaged"))
	}
	inBubble(t, func(t *testing.T) {
		asked := 0
		source := sourceFunc(func(context.Context, string) (io.ReadCloser, error) {
			asked++
			return nil, errors.New("no route to host")
		})
		report, err := upkeep.Check(t.Context(), h.dir, upkeep.CheckOptions{Repair: []upkeep.Source{source}})
		if err != nil || report.Problems < 2 || report.Repaired != 0 || asked != 3 {
			t.Errorf("asked %d times: %+v, %v", asked, report, err)
		}
		asked = 0
		source = func(_ context.Context, path string) (io.ReadCloser, error) {
			if asked++; asked == 1 {
				return nil, errors.New("no route to host")
			}
			return sound.Open(path)
		}
		if report, err := upkeep.Check(t.Context(), h.dir, upkeep.CheckOptions{Repair: []upkeep.Source{source}}); err != nil || !report.Sound() {
			t.Errorf("%+v, %v", report, err)
		}
	})
	h.sound()
}

// endless is a file without an end.
type endless struct{ io.Reader }

func (endless) Read(p []byte) (int, error) { return len(p), nil }
func (endless) Close() error               { return nil }

// TestEndlessSource: what follows an object is not received.
func TestEndlessSource(t *testing.T) {
	t.Parallel()
	h, _, sound := damagedHub(t)
	sent := int64(0)
	source := sourceFunc(func(_ context.Context, path string) (io.ReadCloser, error) {
		f, err := sound.Open(path)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.TeeReader(io.MultiReader(f, endless{}), counting{&sent}), f}, nil
	})
	report, problems := h.check(upkeep.CheckOptions{Repair: []upkeep.Source{source}})
	if report.Sound() || len(problems) != 1 || sent > 1<<20 {
		t.Errorf("%d bytes, %+v", sent, problems)
	}
}

type counting struct{ n *int64 }

func (c counting) Write(p []byte) (int, error) { *c.n += int64(len(p)); return len(p), nil }
