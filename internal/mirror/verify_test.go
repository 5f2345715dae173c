package mirror_test

import (
	"fmt"
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
