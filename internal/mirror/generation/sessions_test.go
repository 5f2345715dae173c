package generation_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/mirror/generation"
)

// written has all that was fetched noted, as it is sooner or later.
func written(t testing.TB, st *generation.Staging) {
	t.Helper()
	if err := st.Written(); err != nil {
		t.Fatal(err)
	}
}

// interrupted opens the store again as after a kill: the staging was never closed.
func interrupted(t testing.TB, s *generation.Store, dir string) (*generation.Store, *generation.Staging) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	return s, stage(t, project(t, s))
}

// What an interrupted sync has fetched is found by its hash, and by its path, size and
// time where the upstream tells no hash, through any number of interruptions.
func TestResume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	st := stage(t, project(t, s))
	a, b := mustFetch(t, st, "a", "aaa"), mustFetch(t, st, "dir/b", "bbb")
	mustFetch(t, st, "c", "old")
	c := mustFetch(t, st, "c", "new") // fetched again, with the same size and time
	if err := os.WriteFile(filepath.Join(st.Incoming(), "part"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	written(t, st)
	for range 3 {
		s, st = interrupted(t, s, dir)
		if ok, err := st.LinkObject(a); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := st.Resume("c", c.Size, c.ModTime); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	for _, wrong := range []generation.File{{Path: "dir/b", Size: 4, ModTime: b.ModTime}, {Path: "dir/b", Size: 3, ModTime: b.ModTime.Add(time.Second)}, {Path: "b", Size: 3, ModTime: b.ModTime}} {
		if ok, err := st.Resume(wrong.Path, wrong.Size, wrong.ModTime); ok || err != nil {
			t.Errorf("%+v: %t %v", wrong, ok, err)
		}
	}
	if ok, err := st.Resume("dir/b", -1, time.Time{}); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if data, err := os.ReadFile(filepath.Join(st.Incoming(), "part")); string(data) != "half" {
		t.Errorf("the part of a transfer: %q %v", data, err)
	}
	if ok, err := st.LinkObject(generation.File{Path: "old", Size: 3, SHA256: sha256.Sum256([]byte("old"))}); ok || err != nil {
		t.Errorf("what was replaced is found: %v", err)
	}
	if got := paths(t, st.Files()); !slices.Equal(got, []string{"a", "c", "dir/b"}) {
		t.Errorf("%q", got)
	}
	g := commit(t, st)
	if i := g.Info(); i.AddedFiles != 3 || i.AddedBytes != 9 {
		t.Errorf("%+v", i)
	}
	p := project(t, s)
	wantFiles(t, p, map[string]string{"a": "aaa", "dir/b": "bbb", "c": "new"})
	tidy(t, dir, p)
}

// What this staging has fetched itself is asked for again when a sync goes round once
// more: it stays where it is.
func TestGoRoundAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	st := stage(t, project(t, s))
	a, b := mustFetch(t, st, "a", "aaa"), mustFetch(t, st, "dir/b", "bbb")
	for range 2 {
		if ok, err := st.LinkObject(a); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := st.LinkObject(generation.File{Path: "a", Size: 3, SHA256: a.SHA256}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := st.LinkObject(generation.File{Path: "twin", Size: 3, SHA256: a.SHA256}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := st.Resume("dir/b", b.Size, b.ModTime); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := st.Resume("dir/b", -1, time.Time{}); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	later := a
	later.ModTime = a.ModTime.Add(time.Hour)
	for _, ask := range []func() (bool, error){
		func() (bool, error) { return st.LinkObject(later) }, // fetched with another time
		func() (bool, error) { return st.Resume("dir/b", 4, b.ModTime) },
		func() (bool, error) { return st.Resume("dir/b", 3, b.ModTime.Add(time.Hour)) },
		func() (bool, error) { return st.Resume("dir", -1, time.Time{}) },
		func() (bool, error) { return st.Resume("none", -1, time.Time{}) },
	} {
		if ok, err := ask(); ok || err != nil {
			t.Error(ok, err)
		}
	}
	g := commit(t, st)
	if i := g.Info(); i.AddedFiles != 2 || i.AddedBytes != 6 || i.Files != 3 {
		t.Errorf("%+v", i)
	}
	p := project(t, s)
	wantFiles(t, p, map[string]string{"a": "aaa", "dir/b": "bbb", "twin": "aaa"})
	tidy(t, dir, p)
}

// What is not to be published yet is there for the next staging: by its hash, and by its
// path, size and time.
func TestSetAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	p := project(t, s)
	publish(t, p, map[string]string{"kept": "kept"})
	st := stage(t, p)
	kept := mustFile(t, p.Current(), "kept")
	if ok, err := st.Keep(p.Current(), kept); !ok || err != nil {
		t.Fatal(ok, err)
	}
	old := mustFetch(t, st, "sub/a", "old")
	if err := st.SetAside(old); err != nil {
		t.Fatal(err)
	}
	a, b, twin := mustFetch(t, st, "sub/a", "aaa"), mustFetch(t, st, "b", "bbb"), generation.File{Path: "twin", Size: 3, SHA256: sha256.Sum256([]byte("bbb"))}
	if ok, err := st.LinkObject(twin); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := st.Symlink("link", "b"); err != nil {
		t.Fatal(err)
	}
	mustFetch(t, st, "new", "new")
	for _, f := range []generation.File{kept, b, twin, {Path: "link", Link: "b"}, {Path: "never"}, {Path: "sub/never"}} {
		if err := st.SetAside(f); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // nothing is lost if it has to be set aside again
		if err := st.SetAside(a); err != nil {
			t.Fatal(err)
		}
		if got := paths(t, commit(t, st).Files()); !slices.Equal(got, []string{"new"}) {
			t.Fatalf("%q", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		p = project(t, s)
		st = stage(t, p)
		if ok, err := st.Keep(p.Current(), mustFile(t, p.Current(), "new")); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := st.Resume("b", b.Size, b.ModTime); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := st.LinkObject(a); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := st.SetAside(b); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := st.Resume("b", b.Size, b.ModTime); ok || err != nil {
		t.Fatal("what was set aside is found in the same staging", ok, err)
	}
	if got := paths(t, commit(t, st).Files()); !slices.Equal(got, []string{"new", "sub/a"}) {
		t.Fatalf("%q", got)
	}
	wantFiles(t, p, map[string]string{"new": "new", "sub/a": "aaa"})
	if dropped, err := p.DropStaged(t.Context()); !dropped || err != nil {
		t.Error(dropped, err)
	}
	tidy(t, dir, p)
}

// A kill loses the notes of small files that were fetched last: they are fetched again. One
// that is long is noted at once.
func TestLostNotes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	st := stage(t, project(t, s))
	long := mustFetch(t, st, "long", strings.Repeat("l", generation.MostAtRisk))
	short := mustFetch(t, st, "short", "short")
	if ok, err := st.LinkObject(generation.File{Path: "twin", Size: short.Size, SHA256: short.SHA256}); !ok || err != nil {
		t.Error("what is not noted yet is not found:", ok, err)
	}
	s, st = interrupted(t, s, dir)
	if ok, err := st.LinkObject(long); !ok || err != nil {
		t.Error("a long file:", ok, err)
	}
	if ok, err := st.LinkObject(short); ok || err != nil {
		t.Error("a short file:", ok, err)
	}
	mustFetch(t, st, "short", "other")
	p := project(t, s)
	if got := paths(t, commit(t, st).Files()); !slices.Equal(got, []string{"long", "short"}) {
		t.Errorf("%q", got)
	}
	if data, _, err := read(p, "short"); data != "other" || err != nil {
		t.Error(data, err)
	}
	tidy(t, dir, p)
}

// After a loss of power nothing is used that was not read again, and parts of
// transfers not at all.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	st := stage(t, project(t, s))
	good, bad := mustFetch(t, st, "good", "good"), mustFetch(t, st, "bad", "bad!")
	if err := os.WriteFile(filepath.Join(st.Incoming(), "part"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	written(t, st)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	staging := filepath.Join(dir, "projects/demo/staging")
	damage(t, filepath.Join(staging, "1/tree/bad"))
	journal := filepath.Join(staging, "placed")
	text, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	text = slices.Concat([]byte("session 1 another-boot\n"), rest, make([]byte, 100)) // zeros, as file systems leave them
	if err := os.WriteFile(journal, text, 0o644); err != nil || !bytes.HasPrefix(first, []byte("session 1 ")) {
		t.Fatalf("%q %v", first, err)
	}
	for range 2 { // the second time as of a boot like any other
		s, st = interrupted(t, open(t, dir), dir)
		if ok, err := st.LinkObject(good); !ok || err != nil {
			t.Error(ok, err)
		}
		if ok, err := st.LinkObject(bad); ok || err != nil {
			t.Error(ok, err)
		}
		if _, err := os.Stat(filepath.Join(st.Incoming(), "part")); !errors.Is(err, fs.ErrNotExist) {
			t.Error("the part of a transfer:", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
