package generation_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"sync"
	"testing"

	"freshet/internal/mirror/generation"
)

// object reads what a store has of a content; "" if there is nothing.
func object(t testing.TB, s *generation.Store, content string) string {
	t.Helper()
	f, err := s.Object(sha256.Sum256([]byte(content)))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Error(err)
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

// A file is found by its content from when it was fetched, through the commit and after
// it, but not what was replaced or abandoned.
func TestObjectOfStaging(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	p := project(t, s)
	st := stage(t, p)
	if got := object(t, s, "new"); got != "" {
		t.Errorf("before it is fetched: %q", got)
	}
	mustFetch(t, st, "a/b", "old")
	mustFetch(t, st, "a/b", "new")
	mustFetch(t, st, "c", "other")
	if got := object(t, s, "new"); got != "new" {
		t.Errorf("staged: %q", got)
	}
	if got := object(t, s, "old"); got != "" {
		t.Errorf("replaced: %q", got)
	}
	done := make(chan struct{})
	var reading sync.WaitGroup
	for range 4 {
		reading.Go(func() {
			for {
				for _, content := range []string{"new", "other"} {
					if got := object(t, s, content); got != content {
						t.Errorf("while it is committed: %q, want %q", got, content)
						return
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	commit(t, st)
	close(done)
	reading.Wait()
	st = stage(t, p)
	mustFetch(t, st, "d", "unwanted")
	if got := object(t, s, "unwanted"); got != "unwanted" {
		t.Errorf("staged after a commit: %q", got)
	}
	if err := st.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := object(t, s, "unwanted"); got != "" {
		t.Errorf("abandoned: %q", got)
	}
}
