package store_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	"freshet/internal/layout"
	"freshet/internal/store"
	"freshet/internal/store/bucket"
	"freshet/internal/store/s3"
	"freshet/internal/store/storetest"
)

// prune removes payload that nothing points to, as upkeep does: here, then there.
func prune(t *testing.T, s *store.Store, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Remove(dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Forget(t.Context(), names); err != nil {
		t.Fatal(err)
	}
}

// backup is a directory as it is now, to be put back later.
func backup(t *testing.T, m *storetest.Mirrored) *storetest.Mirrored {
	t.Helper()
	old := *m
	old.Dir = storetest.Dir(t)
	if err := os.CopyFS(old.Dir, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	return &old
}

// TestMirrorBackupFromBeforeAPrune puts a directory back as it was before a prune, after
// which nothing was published: what it has more than the bucket comes there again, since
// the next change counts on it.
func TestMirrorBackupFromBeforeAPrune(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]bool{"and nothing else": false, "and before the last change": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := storetest.Mirror(t, storetest.Fake(t, nil).Open(t))
			publishBase(t, m)
			s := m.Open(t)
			unneeded := []string{"objects/cc/3.filez", "objects/dd/4.filez", "deltas/a+/c+d-e/0"}
			tx := s.Begin()
			for _, name := range unneeded {
				if err := tx.PutBytes(layout.Payload, name, []byte("of yesterday")); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(tx.Commit(t.Context(), nil), tx.Done(), s.Close()); err != nil {
				t.Fatal(err)
			}
			old := backup(t, m)
			s = m.Open(t)
			prune(t, s, m.Dir, unneeded[0])
			prune(t, s, m.Dir, unneeded[1:]...)
			want := before()
			m.Check(t, want)
			if changed {
				if err := change(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				want = after()
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = m.Open(t) // nothing is brought back to what did not come from a backup
			m.Check(t, want)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			for _, name := range unneeded {
				want[name] = "of yesterday"
			}
			s = old.Open(t)
			if got := storetest.Files(t, s); !same(got, want) {
				t.Errorf("the directory has %q", got)
			}
			m.Check(t, want)
			prune(t, s, old.Dir, unneeded...)
			for _, name := range unneeded {
				delete(want, name)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			old.Open(t)
			m.Check(t, want)
		})
	}
}

// TestMirrorPruneFails has the bucket fail while a prune removes something: a lost answer
// is no other hub, the next change is decided, and the prune does it again.
func TestMirrorPruneFails(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(w http.ResponseWriter, r *http.Request, next http.Handler){
		"refused": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"answer lost": func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var step, failing atomic.Int64
			server := storetest.Fake(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if at := failing.Load(); at > 0 && step.Add(1) == at {
						fails(w, r, next)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			config := server.Config()
			config.Attempts = 1
			objects, err := s3.Open(config)
			if err != nil {
				t.Fatal(err)
			}
			for at := int64(1); ; at++ {
				m := storetest.Mirror(t, objects)
				publishBase(t, m)
				s := m.Open(t)
				const unneeded = "objects/cc/3.filez"
				tx := s.Begin()
				if err := errors.Join(tx.PutBytes(layout.Payload, unneeded, []byte("x")), tx.Commit(t.Context(), nil), tx.Done()); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(m.Dir + "/" + unneeded); err != nil {
					t.Fatal(err)
				}
				step.Store(0)
				failing.Store(at)
				err := s.Forget(t.Context(), []string{unneeded})
				failing.Store(0)
				if errors.Is(err, bucket.ErrOvertaken) {
					t.Fatalf("request %d: %v", at, err)
				}
				if err := change(t.Context(), s); err != nil {
					t.Fatalf("request %d: the next change: %v", at, err)
				}
				if err := s.Forget(t.Context(), []string{unneeded}); err != nil {
					t.Fatalf("request %d: again: %v", at, err)
				}
				m.Check(t, after())
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				m.Open(t)
				m.Check(t, after())
				if step.Load() < at {
					break
				}
			}
		})
	}
}
