package serve_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Files of a generation that has ended are not kept open: the disk would not have their
// room. What a project that was taken off the disk had, is nowhere, and is said to be.
func TestCloseStale(t *testing.T) {
	dir := t.TempDir()
	w := newWorldIn(t, dir, 0)
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
	for deadline := time.Now().Add(time.Minute); isOpen(t, dir); time.Sleep(time.Millisecond) { // the last answer may be under way
		if time.Now().After(deadline) {
			t.Fatal("the file is still open")
		}
	}
	if _, err := w.epel.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := w.get("/epel/Packages/new.rpm"); a.status != 503 || a.header.Get("Freshet-Reason") != "drained" {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// isOpen reports whether this process has a file of a folder open that was removed.
func isOpen(t *testing.T, dir string) bool {
	t.Helper()
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(open, func(fd string) bool {
		name, err := os.Readlink(fd)
		return err == nil && strings.HasPrefix(name, dir) && strings.HasSuffix(name, "old.rpm (deleted)")
	})
}
