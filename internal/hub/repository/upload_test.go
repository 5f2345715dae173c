package repository

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"freshet/internal/ostree"
)

// stalled is a body that hands out some bytes, tells that, and then waits for
// its end.
type stalled struct {
	data    []byte
	started chan struct{}
	resume  chan struct{}
	told    bool
}

func newStalled(data []byte) *stalled {
	return &stalled{data: data, started: make(chan struct{}), resume: make(chan struct{})}
}

func (s *stalled) Read(p []byte) (int, error) {
	if !s.told {
		s.told = true
		n := copy(p, s.data[:1])
		s.data = s.data[n:]
		close(s.started)
		return n, nil
	}
	<-s.resume
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

// anObject returns an object that is of no use to anybody.
func anObject(t *testing.T) (ostree.ObjectName, []byte) {
	t.Helper()
	u := uploader{}
	sum, err := ostree.WriteBytes(u, []byte("sent slowly"), false)
	if err != nil {
		t.Fatal(err)
	}
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}
	return name, u[name]
}

// TestNobodyWaitsForSlowUploads has clients stall while everything else goes on.
func TestNobodyWaitsForSlowUploads(t *testing.T) {
	t.Parallel()
	object, data := anObject(t)
	delta := ostree.DeltaFile{Delta: ostree.DeltaName{To: object.Checksum}, Part: 0}
	ref := appRef("org.test.Hello")
	for name, put := range map[string]func(context.Context, *Build, io.Reader) (int64, error){
		"object": func(ctx context.Context, b *Build, r io.Reader) (int64, error) { return b.PutObject(ctx, object, r) },
		"delta":  func(ctx context.Context, b *Build, r io.Reader) (int64, error) { return b.PutDelta(ctx, delta, r) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			u := uploader{}
			sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
			b := h.upload(u)
			send := func() (*stalled, chan error) {
				body, failed := newStalled(data), make(chan error, 1)
				go func() {
					_, err := put(t.Context(), b, body)
					failed <- err
				}()
				<-body.started
				return body, failed
			}

			body, failed := send()
			made, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{ref: sum}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			close(body.resume)
			if err := <-failed; !errors.Is(err, ErrLateUpload) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after the commit: %v", err)
			}
			if has, err := b.objects.Has(object); err != nil || has {
				t.Errorf("stored after the commit: %v", err)
			}

			body, failed = send()
			h.publish(PublishRequest{Key: "build-1", Build: b, Refs: made})
			if err := b.Remove(context.Background()); err != nil {
				t.Fatal(err)
			}
			close(body.resume)
			if err := <-failed; !errors.Is(err, ErrLateUpload) || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after the removal: %v", err)
			}
			if _, err := os.Stat(b.dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder of the build: %v", err)
			}
			h.check()
		})
	}
}

// TestUploadDuringCommit refuses what comes while a commit has the build.
func TestUploadDuringCommit(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	b, err := h.repo.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	object, data := anObject(t)
	done, err := b.seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.PutObject(t.Context(), object, bytes.NewReader(data)); !errors.Is(err, ErrLateUpload) {
		t.Errorf("during a commit: %v", err)
	}
	done()
	if _, err := b.PutObject(t.Context(), object, bytes.NewReader(data)); err != nil {
		t.Errorf("after one that failed: %v", err)
	}
}

// TestWaitingForABuildEnds gives up waiting where somebody keeps a build.
func TestWaitingForABuildEnds(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	b, err := h.repo.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	done, err := b.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := b.Commit(ctx, CommitRequest{}, nil); !errors.Is(err, gone) {
		t.Errorf("commit: %v", err)
	}
	done()
	if done, err = b.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Missing(ctx, nil); !errors.Is(err, gone) {
		t.Errorf("missing: %v", err)
	}
	if _, err := h.repo.Publish(ctx, []PublishRequest{{Build: b}}, nil, nil); !errors.Is(err, gone) {
		t.Errorf("publish: %v", err)
	}
	done()
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &Build{gate: newGate(7)}
		done, err := b.seal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := b.Open(context.Background(), "config"); err == nil {
			t.Errorf("open: %v", err)
		}
		if err := b.Remove(context.Background()); err == nil {
			t.Error("removed while in use")
		}
		if waited := time.Since(begun); waited != 2*gatePatience {
			t.Errorf("waited %v", waited)
		}
		done()
	})
}

// TestBigBuildHoldsUpNoOther verifies a build after a reboot, forever, while
// another one is opened.
func TestBigBuildHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	// The boot file of the build is a pipe: who prepares it waits for a writer.
	dir := filepath.Join(h.opt.BuildsDir, "1")
	if _, err := makeArchive(dir, (&Build{repo: h.repo, id: 1}).configure, nil); err != nil {
		t.Fatal(err)
	}
	pipe := newPipe(t, filepath.Join(dir, bootFile))
	opened := make(chan *Build, 2)
	for range 2 {
		go func() {
			b, err := h.repo.Build(1)
			if err != nil {
				t.Error(err)
			}
			opened <- b
		}()
	}
	w := pipe() // returns when somebody reads
	if _, err := h.repo.Build(2); err != nil {
		t.Error(err)
	}
	if n := len(opened); n != 0 {
		t.Errorf("%d builds opened before they were prepared", n)
	}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, boot); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if a, b := <-opened, <-opened; a != b {
		t.Error("two of the same number")
	}
}

// TestBuildIsOpenedAfterAFailure tries again where preparing did not succeed.
func TestBuildIsOpenedAfterAFailure(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	file := filepath.Join(h.opt.BuildsDir, "1")
	writeFile(t, file, "in the way")
	if _, err := h.repo.Build(1); err == nil {
		t.Fatal("a file is a build")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	u := uploader{}
	u.commit(t, appRef("org.test.Hello"), appTree("org.test.Hello", "v1"))
	b := h.upload(u)
	if missing, err := b.Missing(t.Context(), slices.Collect(maps.Keys(u))); err != nil || len(missing) != 0 {
		t.Errorf("missing %v: %v", missing, err)
	}
}

// newPipe makes a named pipe, and returns what opens it for writing.
func newPipe(t *testing.T, path string) func() *os.File {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() *os.File {
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
}
