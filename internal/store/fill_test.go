package store_test

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"freshet/internal/layout"
	"freshet/internal/store"
	"freshet/internal/store/storetest"
)

// TestMirrorFillBreaksOff cuts the first download of each file: what is filled has all of
// it nevertheless, and it is told how far it is.
func TestMirrorFillBreaksOff(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]bool{}
	server := storetest.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			cut := r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/objects/") && !seen[r.URL.Path]
			if cut {
				seen[r.URL.Path] = true
			}
			mu.Unlock()
			if !cut {
				next.ServeHTTP(w, r)
				return
			}
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, r)
			maps.Copy(w.Header(), whole.Header())
			_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
	})
	m := storetest.Mirror(t, server.Open(t))
	publishBase(t, m)
	m.Dir = storetest.Dir(t)
	told, mirror := fillings(m)
	s := openMirrored(t, m, mirror)
	if got := storetest.Files(t, s); !same(got, before()) {
		t.Errorf("the directory has %q", got)
	}
	last := (*told)[len(*told)-1]
	if len(seen) != 1 || (*told)[0] != (store.Filling{}) || !last.Ended || last.Copy || last.Files != int64(len(before())) || last.Bytes != total(before()) {
		t.Errorf("%d files were cut, told %+v", len(seen), *told)
	}
}

// TestMirrorFillTells: how far it is when a bucket is filled.
func TestMirrorFillTells(t *testing.T) {
	t.Parallel()
	m := storetest.Mirror(t, storetest.Fake(t, nil).Open(t))
	s, err := store.Open(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	tx := s.Begin()
	for name, content := range before() {
		if err := tx.PutBytes(layout.OSTree(name).Class, name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(t.Context(), nil), tx.Done(), s.Close()); err != nil {
		t.Fatal(err)
	}
	told, mirror := fillings(m)
	s = openMirrored(t, m, mirror)
	last := (*told)[len(*told)-1]
	if (*told)[0] != (store.Filling{Copy: true}) || last != (store.Filling{Copy: true, Files: int64(len(before())), Bytes: total(before()), Ended: true}) {
		t.Errorf("told %+v", *told)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, mirror := fillings(m)
	openMirrored(t, m, mirror)
	if len(*again) != 0 {
		t.Errorf("both are the same, told %+v", *again)
	}
}

// TestMirrorFillLeavesApart: what the directory keeps apart does not come back unseen when
// the directory gets what it lacks.
func TestMirrorFillLeavesApart(t *testing.T) {
	t.Parallel()
	m := storetest.Mirror(t, storetest.Fake(t, nil).Open(t))
	publishBase(t, m)
	const damaged = "objects/aa/1.filez"
	if err := os.Remove(filepath.Join(m.Dir, damaged)); err != nil {
		t.Fatal(err)
	}
	old := backup(t, m)
	s := m.Open(t)
	tx := s.Begin()
	if err := errors.Join(tx.PutBytes(layout.Payload, "objects/bb/2.filez", []byte("new payload")), tx.PutBytes(layout.Pointer, "summary", []byte("new")),
		tx.Commit(t.Context(), nil), tx.Done(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, mirror := fillings(old)
	mirror.Apart = func(path string) bool { return path == damaged }
	s = openMirrored(t, old, mirror)
	if !s.Has("objects/bb/2.filez") || s.Has(damaged) {
		t.Errorf("the directory has %q", storetest.Files(t, s))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := before()
	want["objects/bb/2.filez"], want["summary"] = "new payload", "new"
	old.Check(t, want)
}

func fillings(m *storetest.Mirrored) (*[]store.Filling, store.Mirror) {
	told := new([]store.Filling)
	mirror := m.Copy()
	mirror.Filling = func(f store.Filling) { *told = append(*told, f) }
	return told, mirror
}

func openMirrored(t *testing.T, m *storetest.Mirrored, mirror store.Mirror) *store.Store {
	t.Helper()
	s, err := store.Open(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Mirror(t.Context(), mirror); err != nil {
		t.Fatal(err)
	}
	return s
}

func total(files map[string]string) (bytes int64) {
	for _, content := range files {
		bytes += int64(len(content))
	}
	return bytes
}
