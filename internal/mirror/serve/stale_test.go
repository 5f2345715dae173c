package serve_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files of a generation that has ended are not kept open: the disk would not have their
// room. What a project that was taken off the disk had, is nowhere, and is said to be.
func TestCloseStale(t *testing.T) {
	dir := t.TempDir()
	w := newWorldIn(t, dir)
	w.publish(map[string]string{"Packages/old.rpm": "old"})
	for range 3 {
		if a := w.get("/epel/Packages/old.rpm"); a.body != "old" {
			t.Fatalf("%+v", a)
		}
	}
	w.publish(map[string]string{"Packages/new.rpm": "new"})
	if _, err := w.epel.Retire(t.Context(), -1<<50); err != nil {
		t.Fatal(err)
	}
	w.site.CloseStale()
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if name, err := os.Readlink(fd); err == nil && strings.HasPrefix(name, dir) && strings.HasSuffix(name, "(deleted)") && strings.Contains(name, "old.rpm") {
			t.Error("still open:", name)
		}
	}
	if _, err := w.epel.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := w.get("/epel/Packages/new.rpm"); a.status != 503 || a.header.Get("Freshet-Reason") != "drained" {
		t.Errorf("%d %v", a.status, a.header)
	}
}
