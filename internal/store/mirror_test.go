package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"freshet/internal/layout"
	"freshet/internal/store"
	"freshet/internal/store/bucket"
	"freshet/internal/store/s3"
	"freshet/internal/store/storetest"
)

// change takes the base to a state in which everything is another one.
func change(ctx context.Context, s *store.Store) error {
	tx := s.Begin()
	err := errors.Join(
		tx.PutBytes(layout.Payload, "objects/bb/2.filez", []byte("new payload")),
		tx.PutBytes(layout.Payload, "deltas/a+/c+d/0", []byte("stays")),
		tx.PutBytes(layout.Index, "delta-indexes/x", []byte("new")),
		tx.PutBytes(layout.Pointer, "refs/heads/b", []byte("new")),
		tx.Remove(layout.Pointer, "refs/heads/a"),
		tx.PutBytes(layout.Pointer, "summary", []byte("new")),
		tx.Remove(layout.Payload, "objects/aa/1.filez"),
	)
	if err != nil {
		return err
	}
	return tx.Commit(ctx, []byte("changed"))
}

func before() map[string]string {
	return map[string]string{
		"objects/aa/1.filez": "old payload", "deltas/a+/c+d/0": "part", "delta-indexes/x": "old", "refs/heads/a": "old", "summary": "old",
	}
}

func after() map[string]string {
	return map[string]string{
		"objects/bb/2.filez": "new payload", "deltas/a+/c+d/0": "part", "delta-indexes/x": "new", "refs/heads/b": "new", "summary": "new",
	}
}

// publishBase makes the state before the change.
func publishBase(t testing.TB, m *storetest.Mirrored) {
	t.Helper()
	s := m.Open(t)
	tx := s.Begin()
	for name, content := range before() {
		if err := tx.PutBytes(layout.OSTree(name).Class, name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(t.Context(), nil), tx.Done(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func same(a, b map[string]string) bool {
	for name, content := range a {
		if there, ok := b[name]; !ok || there != content {
			return false
		}
	}
	return len(a) == len(b)
}

const mirrorKillEnv = "STORE_TEST_MIRROR_KILL"

// TestMirrorKilledAtEveryStep kills a process before the n-th step that it does
// while it commits, on the disk or on the way to the bucket and back, for each n.
// Every other time the disk is lost too.
func TestMirrorKilledAtEveryStep(t *testing.T) {
	if args := strings.Split(os.Getenv(mirrorKillEnv), "|"); len(args) == 5 {
		mirrorKilled(t, args)
		return
	}
	t.Parallel()
	server := storetest.Fake(t, nil)
	objects := server.Open(t)
	seen := make(map[string]int)
	for n := 1; ; n++ {
		m := storetest.Mirror(t, objects)
		publishBase(t, m)
		dead := runMirrorKilled(t, n, server, m)
		if dead && n%3 == 0 { // while it is repaired, too
			for step := 1; runMirrorKilled(t, -step*7, server, m); step++ {
			}
		}
		lost := n%2 == 0
		if lost {
			if err := os.RemoveAll(m.Dir); err != nil {
				t.Fatal(err)
			}
		}
		checkRepaired(t, m, fmt.Sprintf("step %d, disk lost: %v", n, lost), seen)
		if !dead {
			break
		}
	}
	if seen["before"] == 0 || seen["after"] == 0 {
		t.Errorf("seen: %v", seen)
	}
	t.Logf("seen: %v", seen)
}

// checkRepaired opens the place: the state is that before or after the change, in the
// copy too, with what is pending in the latter case.
func checkRepaired(t *testing.T, m *storetest.Mirrored, when string, seen map[string]int) {
	t.Helper()
	s := m.Open(t)
	files, pending := storetest.Files(t, s), s.Pending()
	// Done is told with the next change: on a disk that was lost, the first one may
	// come back.
	pending = slices.DeleteFunc(pending, func(p store.Intent) bool { return len(p.Note) == 0 })
	delete(files, "objects/bb/2.filez") // payload may be there before
	want := after()
	delete(want, "objects/bb/2.filez")
	switch {
	case same(files, before()):
		seen["before"]++
		if len(pending) > 0 {
			t.Errorf("%s: pending: %v", when, pending)
		}
	case same(files, want):
		seen["after"]++
		if len(pending) != 1 || string(pending[0].Note) != "changed" {
			t.Errorf("%s: pending: %v", when, pending)
		}
		for _, p := range pending {
			if err := s.Done(p.ID); err != nil {
				t.Error(err)
			}
		}
	default:
		t.Fatalf("%s: neither: %q", when, files)
	}
	// It can be changed again, and then everything is as it is to be.
	if err := change(t.Context(), s); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if got := storetest.Files(t, s); !same(got, after()) {
		t.Errorf("%s: afterwards: %q", when, got)
	}
	m.Check(t, after())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func runMirrorKilled(t *testing.T, n int, server *storetest.Server, m *storetest.Mirrored) (dead bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMirrorKilledAtEveryStep$")
	cmd.Env = append(os.Environ(), mirrorKillEnv+"="+strings.Join([]string{strconv.Itoa(n), m.Dir, m.Prefix, server.Endpoint, server.Credentials}, "|"))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL { //nolint:forcetypeassert // on Linux
		return true
	}
	if err != nil {
		t.Fatalf("step %d: %v\n%s", n, err, output.String())
	}
	return false
}

// countdown kills the process at a step.
type countdown struct {
	left atomic.Int64
	next http.RoundTripper
}

func (c *countdown) step() {
	if c.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// RoundTrip implements http.RoundTripper: a request, and its answer, are a step each.
func (c *countdown) RoundTrip(r *http.Request) (*http.Response, error) {
	c.step()
	answer, err := c.next.RoundTrip(r)
	c.step()
	return answer, err
}

// mirrorKilled is the process that is killed: at a step of a commit, or for a
// negative number of the opening.
func mirrorKilled(t *testing.T, args []string) {
	t.Helper()
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	c := &countdown{next: http.DefaultTransport}
	objects, err := s3.Open(s3.Config{Endpoint: args[3], Bucket: storetest.Bucket, PathStyle: true, Credentials: args[4], Transport: c})
	if err != nil {
		t.Fatal(err)
	}
	m := storetest.Mirrored{Dir: args[1], Prefix: args[2], Objects: objects}
	if n < 0 {
		c.left.Store(-n)
	}
	s, err := store.OpenFaulty(m.Dir, func(string, string) error { c.step(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mirror(t.Context(), m.Copy()); err != nil {
		t.Fatal(err)
	}
	if n < 0 {
		os.Exit(0) // as if it were killed now
	}
	c.left.Store(n)
	if err := change(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// TestMirrorDiskFails fails each change of the disk in turn: the transaction has
// happened, here and there, or it has not, and the store goes on.
func TestMirrorDiskFails(t *testing.T) {
	t.Parallel()
	objects := storetest.Fake(t, nil).Open(t)
	full := errors.New("disk full")
	for n, failed := 1, true; failed; n++ {
		m := storetest.Mirror(t, objects)
		publishBase(t, m)
		var left atomic.Int64
		s, err := store.OpenFaulty(m.Dir, func(string, string) error {
			if left.Add(-1) == 0 {
				return full
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Mirror(t.Context(), m.Copy()); err != nil {
			t.Fatal(err)
		}
		left.Store(int64(n))
		err = change(t.Context(), s)
		failed = err != nil
		switch {
		case errors.Is(err, store.ErrBroken):
		case failed:
			if files := storetest.Files(t, s); !same(files, before()) {
				delete(files, "objects/bb/2.filez")
				if !same(files, before()) {
					t.Errorf("step %d: %v: %q", n, err, files)
				}
			}
			if err := change(t.Context(), s); err != nil {
				t.Errorf("step %d: once more: %v", n, err)
			}
			m.Check(t, after())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = m.Open(t)
		if got := storetest.Files(t, s); !errors.Is(err, store.ErrBroken) && !same(got, after()) {
			t.Errorf("step %d: opened anew: %q", n, got)
		}
	}
}

// TestMirrorRefuses what does not belong together.
func TestMirrorRefuses(t *testing.T) {
	t.Parallel()
	objects := storetest.Fake(t, nil).Open(t)
	m := storetest.Mirror(t, objects)
	publishBase(t, m)

	// Without the bucket the directory is only read.
	s, err := store.Open(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := change(t.Context(), s); !errors.Is(err, store.ErrUnmirrored) || !s.IsCopied() {
		t.Errorf("changed without the bucket: %v", err)
	}
	_ = s.Close()

	other := storetest.Mirror(t, objects)
	publishBase(t, other)
	for name, wrong := range map[string]*storetest.Mirrored{
		"another bucket":  {Dir: m.Dir, Objects: objects, Prefix: other.Prefix},
		"an empty bucket": {Dir: m.Dir, Objects: objects, Prefix: "nothing/"},
	} {
		if _, err := wrong.TryOpen(t); !errors.Is(err, store.ErrNotMirrored) {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := storetest.Mirror(t, objects)
	if _, err := objects.Create(t.Context(), foreign.Prefix+"a/b", bytesReader("x"), bucket.Headers{}); err != nil {
		t.Fatal(err)
	}
	if _, err := foreign.TryOpen(t); !errors.Is(err, store.ErrNotMirrored) {
		t.Errorf("a prefix with files of others: %v", err)
	}

	// A directory from a backup is too old.
	old := storetest.Dir(t)
	if err := os.CopyFS(old, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	s = m.Open(t)
	for range 2 {
		if err := change(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	stale := &storetest.Mirrored{Dir: old, Objects: objects, Prefix: m.Prefix}
	if _, err := stale.TryOpen(t); !errors.Is(err, store.ErrBehind) {
		t.Errorf("an old directory: %v", err)
	}
}

// TestMirrorOvertaken has somebody else take the bucket: the former leader changes
// nothing any more.
func TestMirrorOvertaken(t *testing.T) {
	t.Parallel()
	objects := storetest.Fake(t, nil).Open(t)
	m := storetest.Mirror(t, objects)
	publishBase(t, m)
	former := m.Open(t)
	next := &storetest.Mirrored{Dir: storetest.Dir(t), Objects: objects, Prefix: m.Prefix}
	s := next.Open(t)
	if got := storetest.Files(t, s); !same(got, before()) {
		t.Errorf("taken over: %q", got)
	}
	if err := change(t.Context(), former); !errors.Is(err, bucket.ErrOvertaken) {
		t.Errorf("the former leader changed it: %v", err)
	}
	if err := former.Forget(t.Context(), []string{"summary"}); !errors.Is(err, bucket.ErrOvertaken) {
		t.Errorf("the former leader removed a file: %v", err)
	}
	files := before()
	files["objects/bb/2.filez"] = "new payload" // which nobody points to
	m.Check(t, files)
	if err := change(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	m.Check(t, after())
}

// TestMirrorFilled brings a repository that is there to a bucket.
func TestMirrorFilled(t *testing.T) {
	t.Parallel()
	objects := storetest.Fake(t, nil).Open(t)
	m := storetest.Mirror(t, objects)
	s, err := store.Open(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	want := before()
	for i := range 600 {
		want[fmt.Sprintf("objects/%02x/%d.filez", i%256, i)] = strconv.Itoa(i)
	}
	tx := s.Begin()
	for name, content := range want {
		if err := tx.PutBytes(layout.OSTree(name).Class, name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(t.Context(), []byte("first")), tx.Done(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = m.Open(t)
	m.Check(t, want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.Dir); err != nil {
		t.Fatal(err)
	}
	s = m.Open(t)
	if got := storetest.Files(t, s); !same(got, want) {
		t.Errorf("%d files of %d", len(got), len(want))
	}
}

func bytesReader(text string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
}
