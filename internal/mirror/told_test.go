package mirror_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/api/mirrorapi"
	"freshet/internal/inventory/manifest"
	"freshet/internal/mirror"
	"freshet/internal/mirror/project"
	"freshet/internal/unpack"
)

// told is what a director was told: "NAME since NAME" and the paths, with "-" before those
// that are gone.
type told struct{ head, files string }

func readTold(r *http.Request) (got told, err error) {
	plain, done, err := unpack.NewReader(r.Body)
	if err != nil {
		return got, err
	}
	defer done()
	m, err := manifest.NewReader(plain)
	if err != nil {
		return got, err
	}
	got.head = fmt.Sprintf("%s since %s", m.Head.Generation, m.Head.Base)
	var files []string
	for e, err := range m.Entries() {
		if err != nil {
			return got, err
		}
		if e.Gone {
			e.Path = "-" + e.Path
		}
		files = append(files, e.Path)
	}
	got.files = strings.Join(files, " ")
	return got, nil
}

// A director is told of all files once, and then of what is different: files, since
// clients are not sent to links.
func TestDirectorIsToldOfChanges(t *testing.T) {
	t.Parallel()
	came := make(chan told, 100)
	var refuses atomic.Bool
	director := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuses.Load() {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(directorapi.Error{Reason: "not_found", Message: "no such mirror"})
			return
		}
		one, err := readTold(r)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
		came <- one
	}))
	defer director.Close()
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.cfg.Directors = map[string]mirror.DirectorConfig{"d": {URL: director.URL, TokenFile: token}}
	for _, name := range []string{"changes", "gone", "stays", "turns"} {
		w.writeOld(name, "one")
	}
	link := func(name string) {
		t.Helper()
		if err := os.Symlink("stays", filepath.Join(w.up, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("link")
	w.start()
	next := func() told {
		t.Helper()
		if got := w.sync(mirrorapi.SyncRequest{}); got.Result != mirrorapi.Published {
			t.Fatalf("%+v", got)
		}
		select {
		case one := <-came:
			return one
		case <-time.After(time.Minute):
			t.Fatal("the director was not told")
			return told{}
		}
	}
	first := next()
	name, base, _ := strings.Cut(first.head, " since ")
	if base != "" || first.files != "changes gone stays turns" {
		t.Fatalf("%+v", first)
	}
	w.writeOld("changes", "another")
	w.writeOld("new", "new")
	if err := errors.Join(os.Remove(filepath.Join(w.up, "gone")), os.Remove(filepath.Join(w.up, "turns"))); err != nil {
		t.Fatal(err)
	}
	link("turns")
	link("another link")
	if got := next(); !strings.HasSuffix(got.head, " since "+name) || got.files != "changes -gone new -turns" {
		t.Errorf("%+v, behind %s", got, name)
	}
	refuses.Store(true)
	w.writeOld("newer", "newer")
	if got := w.sync(mirrorapi.SyncRequest{}); got.Result != mirrorapi.Published {
		t.Fatalf("%+v", got)
	}
	w.until("the doctor tells of the director", func() bool { return w.finding("it does not take what it is told of project p") != "" })
}
