package store_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"freshet/internal/layout"
	"freshet/internal/store"
	"freshet/internal/store/bucket"
	"freshet/internal/store/s3"
	"freshet/internal/store/storetest"
)

// TestMirrorDirectoryOneBehind restores a directory as it was before the last change,
// which it does not have the payload of: it gets that too.
func TestMirrorDirectoryOneBehind(t *testing.T) {
	t.Parallel()
	m := storetest.Mirror(t, storetest.Fake(t, nil).Open(t))
	publishBase(t, m)
	old := storetest.Dir(t)
	if err := os.CopyFS(old, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	s := m.Open(t)
	if err := errors.Join(change(t.Context(), s), s.Close()); err != nil {
		t.Fatal(err)
	}
	m.Dir = old
	if got := storetest.Files(t, m.Open(t)); !same(got, after()) {
		t.Errorf("the directory has %q", got)
	}
	m.Check(t, after())
}

// TestMirrorPayloadOfFailedAttempt has a change fail after its payload was uploaded,
// and the next one bring other payload of that name, as the head of a static delta is
// that is signed again: it counts in both places.
func TestMirrorPayloadOfFailedAttempt(t *testing.T) {
	t.Parallel()
	m := storetest.Mirror(t, storetest.Fake(t, nil).Open(t))
	publishBase(t, m)
	const head = "deltas/a+/c+d/superblock"
	put := func(s *store.Store, content string) error {
		tx := s.Begin()
		if err := tx.PutBytes(layout.Payload, head, []byte(content)); err != nil {
			return err
		}
		return tx.Commit(t.Context(), nil)
	}
	broken := errors.New("the disk is broken")
	s, err := store.OpenFaulty(m.Dir, func(step, name string) error {
		if filepath.Base(name) == "superblock" && step != "" {
			return broken
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mirror(t.Context(), m.Copy()); err != nil {
		t.Fatal(err)
	}
	if err := put(s, "signed at first"); !errors.Is(err, broken) {
		t.Fatalf("put: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = m.Open(t)
	if err := put(s, "signed again"); err != nil {
		t.Fatal(err)
	}
	want := before()
	want[head] = "signed again"
	if got := storetest.Files(t, s); !same(got, want) {
		t.Errorf("the directory has %q", got)
	}
	m.Check(t, want)
}

// TestMirrorFormerLeaderIsLate stops a leader after it has decided a change, until
// somebody else has taken over, completed that and made another one: what it then does
// of its own change harms nothing.
func TestMirrorFormerLeaderIsLate(t *testing.T) {
	t.Parallel()
	m := storetest.Mirror(t, storetest.Fake(t, nil).Open(t))
	publishBase(t, m)
	ctx := t.Context()
	former, next := m.Copy().Copy, m.Copy().Copy
	decided := func(c *bucket.Copy, content string) *bucket.Change {
		t.Helper()
		if err := propose(ctx, t, c, content); err != nil {
			t.Fatal(err)
		}
		change, err := last(ctx, t, c)
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
	show := func(c *bucket.Copy, change *bucket.Change) {
		t.Helper()
		if err := c.Show(ctx, change); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := former.Take(ctx, 0); err != nil {
		t.Fatal(err)
	}
	late := decided(former, "of the former")
	if _, err := next.Take(ctx, 0); err != nil {
		t.Fatal(err)
	}
	completed, err := last(ctx, t, next)
	if err != nil {
		t.Fatal(err)
	}
	show(next, completed)
	show(next, decided(next, "of the next"))
	if err := former.Show(ctx, late); !errors.Is(err, bucket.ErrOvertaken) {
		t.Errorf("the former leader: %v", err)
	}
	want := before()
	want["delta-indexes/x"], want["summary"] = "of the next", "of the next"
	m.Check(t, want)
}

// TestMirrorLateRemoval stops a leader's request to remove a file, which it has sent when
// it led, until somebody else has taken over and written that file anew: it stays.
func TestMirrorLateRemoval(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var meanwhile func()
	server := storetest.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete || r.Method == http.MethodPost && r.URL.Query().Has("delete") {
				if do := meanwhile; do != nil {
					meanwhile = nil
					do()
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	m := storetest.Mirror(t, server.Open(t))
	publishBase(t, m)
	former, next := m.Copy().Copy, m.Copy().Copy
	if _, err := former.Take(ctx, 0); err != nil {
		t.Fatal(err)
	}
	_, serial := former.Serial()
	removal := &bucket.Change{Serial: serial, Remove: []string{"delta-indexes/x"}}
	if err := decide(ctx, t, former, removal); err != nil {
		t.Fatal(err)
	}
	meanwhile = func() {
		if _, err := next.Take(ctx, 0); err != nil {
			t.Error(err)
		}
		completed, err := last(ctx, t, next)
		if err == nil {
			err = next.Show(ctx, completed)
		}
		if err == nil {
			err = propose(ctx, t, next, "of the next")
		}
		if err == nil {
			completed, err = last(ctx, t, next)
		}
		if err = errors.Join(err, next.Show(ctx, completed)); err != nil {
			t.Error(err)
		}
	}
	if err := former.Show(ctx, removal); !errors.Is(err, bucket.ErrOvertaken) {
		t.Errorf("the former leader: %v", err)
	}
	want := before()
	want["delta-indexes/x"], want["summary"] = "of the next", "of the next"
	m.Check(t, want)
}

// TestMirrorOverwriteGivesWay: who does not lead writes once over what he saw, and not
// over what somebody else has put there meanwhile.
func TestMirrorOverwriteGivesWay(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var meanwhile func()
	server := storetest.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if do := meanwhile; do != nil && r.Method == http.MethodPut {
				meanwhile = nil
				do()
			}
			next.ServeHTTP(w, r)
		})
	})
	m := storetest.Mirror(t, server.Open(t))
	publishBase(t, m)
	leader, beside := m.Copy().Copy, m.Copy().Copy
	if _, err := leader.Take(ctx, 0); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(file, []byte("of who looks after it"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	meanwhile = func() {
		if err := propose(ctx, t, leader, "of the leader"); err != nil {
			t.Error(err)
		}
		change, err := last(ctx, t, leader)
		if err = errors.Join(err, leader.Show(ctx, change)); err != nil {
			t.Error(err)
		}
	}
	if err := beside.Overwrite(ctx, "summary", f); !errors.Is(err, bucket.ErrConflict) || errors.Is(err, bucket.ErrOvertaken) {
		t.Errorf("over what it did not see: %v", err)
	}
	want := before()
	want["delta-indexes/x"], want["summary"] = "of the leader", "of the leader"
	m.Check(t, want)
	if err := beside.Overwrite(ctx, "summary", f); err != nil {
		t.Error(err)
	}
	want["summary"] = "of who looks after it"
	m.Check(t, want)
}

// propose decides a change of an index file and a pointer.
func propose(ctx context.Context, t *testing.T, c *bucket.Copy, content string) error {
	t.Helper()
	file := func(path string) bucket.File {
		return bucket.File{Path: path, Open: func() (*os.File, error) {
			name := filepath.Join(t.TempDir(), "content")
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				return nil, err
			}
			return os.Open(name)
		}}
	}
	_, serial := c.Serial()
	change := &bucket.Change{Serial: serial, Index: []bucket.File{file("delta-indexes/x")}, Pointers: []bucket.File{file("summary")}}
	return decide(ctx, t, c, change)
}

// decide decides a change.
func decide(ctx context.Context, t *testing.T, c *bucket.Copy, change *bucket.Change) error {
	t.Helper()
	record, err := os.Create(filepath.Join(t.TempDir(), "record"))
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = record.Close() })
	return errors.Join(change.Write(record), c.Propose(ctx, change, record))
}

// last fetches the last change.
func last(ctx context.Context, t *testing.T, c *bucket.Copy) (*bucket.Change, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "fetched"))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = f.Close() })
	refs := c.Changes()
	return c.Fetch(ctx, refs[len(refs)-1], f)
}

// TestMirrorTwoAnswersLost has the bucket fail while a change is decided, and again
// while that is taken back, of which the answer is lost: nobody else has written, and
// the next change is decided.
func TestMirrorTwoAnswersLost(t *testing.T) {
	t.Parallel()
	var puts atomic.Int64
	server := storetest.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifest") {
				switch puts.Add(1) {
				case 1:
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				case 2:
					next.ServeHTTP(httptest.NewRecorder(), r)
					panic(http.ErrAbortHandler)
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	puts.Store(100)
	config := server.Config()
	config.Attempts = 1
	objects, err := s3.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	m := storetest.Mirror(t, objects)
	publishBase(t, m)
	s := m.Open(t)
	puts.Store(0)
	if err := change(t.Context(), s); !errors.Is(err, bucket.ErrAway) || errors.Is(err, store.ErrBroken) {
		t.Fatalf("the bucket is away: %v", err)
	}
	if err := change(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	m.Check(t, after())
}
