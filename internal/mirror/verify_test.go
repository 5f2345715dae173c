package mirror_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/project"
)

// A check that is interrupted goes on where it was, also after a restart, and tells each
// damaged file once.
func TestVerifyGoesOn(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	const files, size = 40, 100_000
	for i := range files {
		w.write(fmt.Sprintf("%02d", i), strings.Repeat("x", size))
	}
	w.start()
	if r := w.sync(mirrorapi.SyncRequest{}); r.Result != mirrorapi.Published {
		t.Fatalf("%+v", r)
	}
	w.stop()
	damage := func(name string) {
		path := filepath.Join(w.cfg.Directory, "projects/p/current/tree", name)
		info, err := os.Stat(path)
		if err == nil {
			err = os.WriteFile(path, []byte(strings.Repeat("y", size)), 0o600)
		}
		if err == nil {
			err = os.Chtimes(path, time.Time{}, info.ModTime())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	damage("05")
	damage("30")
	if err := os.Remove(filepath.Join(w.cfg.Directory, "projects/p/current/tree/35")); err != nil {
		t.Fatal(err)
	}
	verify := func(restart bool, until func(mirrorapi.VerifyProgress) bool) (found []string, last mirrorapi.VerifyProgress) {
		for p, err := range w.client.Verify(t.Context(), "p", mirrorapi.VerifyRequest{Restart: restart}) {
			if err != nil {
				t.Fatal(err)
			}
			if last = p; p.Found != nil {
				found = append(found, p.Found.Path+" "+p.Found.Reason)
			}
			if until(p) {
				break
			}
		}
		return found, last
	}
	w.cfg.Limits.IO = 4 * size // a second for four of them
	w.start()
	found, _ := verify(false, func(p mirrorapi.VerifyProgress) bool { return p.Found != nil })
	w.stop()
	if got := strings.Join(found, ", "); got != "05 damaged" {
		t.Errorf("found %s", got)
	}
	w.cfg.Limits.IO = 0
	w.start()
	end := func(p mirrorapi.VerifyProgress) bool { return p.End }
	found, last := verify(false, end)
	if got := strings.Join(found, ", "); got != "30 damaged, 35 missing" {
		t.Errorf("found %s", got)
	}
	if last.Resumed < 6 || last.Resumed >= 30 || last.Files != files || last.Bad != 3 || last.Bytes != files*size || last.Error != "" {
		t.Errorf("%+v", last)
	}
	for _, restart := range []bool{false, true} { // it has ended: both begin anew
		found, last = verify(restart, end)
		if len(found) != 3 || last.Resumed != 0 || last.Bad != 3 {
			t.Errorf("%q %+v", found, last)
		}
	}
}

// A check that takes a damaged file away has a sync fetch it again, though the upstream
// has nothing new; and one that is not there any more, too.
func TestVerifyRepairs(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	for _, name := range []string{"a", "folder/b", "folder/c", "gone/d"} {
		w.write(name, "what is in "+name)
	}
	w.start()
	if r := w.sync(mirrorapi.SyncRequest{}); r.Result != mirrorapi.Published {
		t.Fatalf("%+v", r)
	}
	tree := filepath.Join(w.cfg.Directory, "projects/p/current/tree")
	name := filepath.Join(tree, "folder/b")
	info, err := os.Stat(name)
	err = errors.Join(err, os.WriteFile(name, []byte("what is on folder/b"), 0o600), os.Chtimes(name, time.Time{}, info.ModTime()), os.RemoveAll(filepath.Join(tree, "gone")))
	if err != nil {
		t.Fatal(err)
	}
	verify := func(repair bool) (bad int64) {
		for p, err := range w.client.Verify(t.Context(), "p", mirrorapi.VerifyRequest{Repair: repair}) {
			if err != nil {
				t.Fatal(err)
			}
			bad = p.Bad
		}
		return bad
	}
	diagnosis := func(want string, part ...string) {
		t.Helper()
		d, err := w.client.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Findings {
			if strings.Contains(f.Message, "should be") {
				if f.Level != mirrorapi.LevelError || !strings.Contains(f.Message, want) || want == "" || len(part) > 0 && !strings.Contains(f.Do, part[0]) {
					t.Errorf("the doctor says: %+v, want %q", f, want)
				}
				return
			}
		}
		if want != "" {
			t.Errorf("the doctor does not say %q: %+v", want, d.Findings)
		}
	}
	diagnosis("")
	if bad := verify(false); bad != 2 {
		t.Errorf("%d files are found bad", bad)
	}
	// That is told until it is repaired: by syncs and restarts it is not.
	w.sync(mirrorapi.SyncRequest{})
	w.stop()
	w.start()
	diagnosis(`2 files are not what they should be`, "--repair")
	diagnosis(`damaged: "folder/b"`)
	diagnosis(`missing: "gone/d"`)
	if _, err := w.client.Hold(t.Context(), "p", mirrorapi.HoldRequest{}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // from the second time on it is kept open
		if got := w.get("/p/folder/b"); got != "what is on folder/b" {
			t.Errorf("before the repair: %q", got)
		}
	}
	if bad := verify(true); bad != 2 {
		t.Errorf("%d files are found bad", bad)
	}
	if status, _, body := w.fetch("/p/folder/b"); status != http.StatusNotFound {
		t.Errorf("what is out of service: %d %q", status, body)
	}
	diagnosis(`damaged: "folder/b"`, "mirror release p")
	if _, err := w.client.Release(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	w.await("the repair", func(p mirrorapi.ProjectStatus) bool {
		return p.State == mirrorapi.Idle && p.Last != nil && p.Last.Order.Force
	})
	diagnosis("")
	if left, err := filepath.Glob(filepath.Join(w.cfg.Directory, "state/damage-*")); err != nil || left != nil {
		t.Errorf("%q, %v", left, err)
	}
	if bad := verify(false); bad != 0 {
		t.Errorf("%d files are bad after the repair", bad)
	}
	if got := w.get("/p/folder/b"); got != "what is in folder/b" {
		t.Errorf("served: %q", got)
	}
	if r := w.sync(mirrorapi.SyncRequest{Force: true}); r.Result != mirrorapi.Unchanged {
		t.Errorf("and then: %+v", r)
	}
}

// What is damaged and not repaired is told until a check finds it right, or upstream has
// another file in its place.
func TestDamageEnds(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	for _, name := range []string{"a", "b"} {
		w.write(name, "what is in "+name)
	}
	w.start()
	w.sync(mirrorapi.SyncRequest{})
	put := func(name, content string) {
		t.Helper()
		path := filepath.Join(w.cfg.Directory, "projects/p/current/tree", name)
		info, err := os.Stat(path)
		if err == nil {
			err = errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, time.Time{}, info.ModTime()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	verify := func() {
		t.Helper()
		for _, err := range w.client.Verify(t.Context(), "p", mirrorapi.VerifyRequest{}) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	damaged := func(what string, want int64) {
		t.Helper()
		st, err := w.client.Project(t.Context(), "p")
		if err != nil || st.Damaged != want {
			t.Errorf("%s: %d files are damaged, want %d: %v", what, st.Damaged, want, err)
		}
	}
	put("a", "what is on a")
	put("b", "what is on b")
	verify()
	damaged("both", 2)
	put("b", "what is in b") // somebody has it from elsewhere
	damaged("nobody has looked", 2)
	verify()
	damaged("one", 1)
	w.write("a", "what is new in a")
	w.sync(mirrorapi.SyncRequest{Force: true})
	damaged("none", 0)
}
