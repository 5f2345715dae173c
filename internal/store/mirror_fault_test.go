package store_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"freshet/internal/store"
	"freshet/internal/store/s3"
	"freshet/internal/store/storetest"
)

// TestMirrorRequestFails has each request of a commit fail in turn, or its answer get
// lost after it was done, and tries no request twice: the transaction has happened,
// here and there, or it has not; it can be tried again; nothing is inconsistent.
func TestMirrorRequestFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(http.Handler, http.ResponseWriter, *http.Request){
		"refused": func(_ http.Handler, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"denied": func(_ http.Handler, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"cut":    func(http.Handler, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"answer lost": func(next http.Handler, _ http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failEachRequest(t, fault)
		})
	}
}

func failEachRequest(t *testing.T, fault func(http.Handler, http.ResponseWriter, *http.Request)) {
	t.Helper()
	var left atomic.Int64
	server := storetest.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if left.Add(-1) == 0 {
				fault(next, w, r)
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
	failed, succeeded := 0, 0
	for n := int64(1); ; n++ {
		m := storetest.Mirror(t, objects)
		publishBase(t, m)
		s := m.Open(t)
		left.Store(n)
		err := change(t.Context(), s)
		reached := left.Load() <= 0
		left.Store(0)
		if err != nil {
			failed++
			unchanged(t, s, n, err)
			if err := change(t.Context(), s); err != nil {
				t.Fatalf("request %d: once more: %v", n, err)
			}
		} else {
			succeeded++
		}
		if got := storetest.Files(t, s); !same(got, after()) {
			t.Errorf("request %d: %q", n, got)
		}
		m.Check(t, after())
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s = m.Open(t); !same(storetest.Files(t, s), after()) {
			t.Errorf("request %d: another state when opened anew", n)
		}
		if !reached {
			break
		}
	}
	if failed == 0 || succeeded < 2 {
		t.Errorf("%d failed, %d succeeded", failed, succeeded)
	}
}

// unchanged demands the state before the change, but for payload that nobody points to.
func unchanged(t *testing.T, s *store.Store, n int64, cause error) {
	t.Helper()
	got := storetest.Files(t, s)
	delete(got, "objects/bb/2.filez")
	if !same(got, before()) {
		t.Errorf("request %d failed with %v: %q", n, cause, got)
	}
}
