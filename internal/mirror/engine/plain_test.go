package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
)

// Files of a plain tree that are changed while others of it are fetched are fetched again,
// though they have the size that they had. A tree that is never still is published with a
// warning.
func TestPlainChanges(t *testing.T) {
	w := newWorld(t, kind.Config{Format: kind.Plain})
	put := func(name string, version int) {
		kindtest.Put(t, w.path(name), fmt.Sprint(version))
		when := time.Unix(int64(1_700_000_000+version), 0)
		if err := os.Chtimes(w.path(name), when, when); err != nil {
			t.Error(err)
		}
	}
	served := func() string {
		var all string
		for _, name := range []string{"a", "b"} {
			text, err := os.ReadFile(filepath.Join(w.project.Store.TreePath(), name))
			if err != nil {
				t.Error(err)
			}
			all += string(text)
		}
		return all
	}
	put("a", 1)
	put("b", 1)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")

	// Both are at version 2 when it is over; only b was when they were fetched.
	put("b", 2)
	changes := 1
	w.fetched = func() {
		if changes--; changes >= 0 {
			put("a", 2)
		}
	}
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Published, "")
	if got := served(); got != "22" {
		t.Errorf("it serves %s", got)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "upstream_inconsistent: 1 files were changed") {
		t.Errorf("it says %q", r.Warnings)
	}

	version := 2
	w.fetched = func() {
		version++
		put("a", version)
	}
	put("b", 3)
	r = w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Published, "")
	if len(r.Warnings) != 2 || !strings.Contains(r.Warnings[1], "may be of several versions") {
		t.Errorf("it says %q", r.Warnings)
	}
	w.fetched = nil
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	if got, want := served(), fmt.Sprint(version)+"3"; got != want {
		t.Errorf("it serves %s, and not %s", got, want)
	}
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Unchanged, "")
}

// Two fifths may go at once, and not half a percent more.
func TestShrinkByHalves(t *testing.T) {
	const files = 200
	w := newWorld(t, kind.Config{Format: kind.Plain})
	put := func(n int) {
		if err := os.RemoveAll(w.path("all")); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			kindtest.Put(t, w.path(fmt.Sprintf("all/%d", i)), "of one size")
		}
	}
	put(files)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	put(files * 6 / 10)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	put(files)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	put(files*6/10 - 1)
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Refused, mirrorapi.ReasonShrink)
	if !strings.Contains(r.Message, "has lost 40.5% (119 files") {
		t.Errorf("it is told so: %s", r.Message)
	}
	w.want(w.sync(mirrorapi.Order{Shrink: true}), mirrorapi.Published, "")
}

// In a plain tree a name says nothing of the content: what is called as a database or a signature, and is
// none, is a file like any other, and nobody waits for a better one.
func TestPlainNames(t *testing.T) {
	w := newWorld(t, kind.Config{Format: kind.Plain})
	w.project.Pause = time.Hour
	names := []string{"x.db", "repodata/repomd.xml", "repodata/repomd.xml.asc", "dists/sid/InRelease", "SHA256SUMS.gpg", "summary"}
	for _, name := range names {
		kindtest.Put(t, w.path(name), "no such thing")
	}
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Published, "")
	if r.Files != int64(len(names)) || len(r.Warnings) > 0 {
		t.Errorf("%+v", r)
	}
}
