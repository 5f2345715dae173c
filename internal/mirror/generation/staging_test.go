package generation_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/durable"
	"freshet/internal/mirror/generation"

	"golang.org/x/sys/unix"
)

func stage(t testing.TB, p *generation.Project) *generation.Staging {
	t.Helper()
	st, err := p.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func mustFetch(t testing.TB, st *generation.Staging, path, data string) generation.File {
	t.Helper()
	f, data := content(path, data)
	if err := fetch(st, f, data); err != nil {
		t.Fatal(err)
	}
	return f
}

func mustFile(t testing.TB, g *generation.Generation, path string) generation.File {
	t.Helper()
	for f, err := range g.Files() {
		if err != nil {
			t.Fatal(err)
		}
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("there is no %s", path)
	return generation.File{}
}

func commit(t testing.TB, st *generation.Staging) *generation.Generation {
	t.Helper()
	g, err := st.Commit(t.Context(), generation.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// wantFiles checks what is in files of the current generation.
func wantFiles(t testing.TB, p *generation.Project, want map[string]string) {
	t.Helper()
	for path, want := range want {
		if data, _, err := read(p, path); data != want || err != nil {
			t.Errorf("%s: %q %v", path, data, err)
		}
	}
}

// damage changes a byte of a file, and neither its size nor its time.
func damage(t testing.TB, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{'#'}, info.Size()/2)
	}
	if err = errors.Join(err, f.Close(), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
}

func TestStagingRules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	p := project(t, s)
	st := stage(t, p)
	if _, err := p.Stage(t.Context()); !errors.Is(err, generation.ErrBusy) {
		t.Error(err)
	}
	if _, err := generation.Open(t.Context(), dir, generation.Options{}); !errors.Is(err, durable.ErrInUse) {
		t.Error(err)
	}
	f, _ := content("a", "data")
	for _, bad := range []string{"", "/a", "a/", "a//b", "../a", "a/./b", "a\x00", strings.Repeat("x", 256), strings.Repeat("x/", 128) + "x"} {
		f.Path = bad
		if err := fetch(st, f, "data"); !errors.Is(err, generation.ErrPath) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	f.Path = "a"
	if err := fetch(st, f, "more data"); err == nil || !strings.Contains(err.Error(), "9 bytes") {
		t.Error("a wrong size:", err)
	}
	f.SHA256, f.ModTime = [32]byte{}, time.Time{}
	temp := filepath.Join(st.Incoming(), "sub/temp")
	when := epoch.Add(time.Hour + time.Millisecond)
	if err := errors.Join(os.Mkdir(filepath.Dir(temp), 0o755), os.WriteFile(temp, []byte("data"), 0o600), os.Chtimes(temp, when, when)); err != nil {
		t.Fatal(err)
	}
	got, err := st.Place(f, "sub/temp")
	if err != nil || got.SHA256 != sha256.Sum256([]byte("data")) || !got.ModTime.Equal(epoch.Add(time.Hour)) {
		t.Errorf("%+v %v", got, err)
	}
	if has, err := st.Has("a", 4); !has || err != nil {
		t.Error(has, err)
	}
	for _, path := range []string{"a", "b/c"} {
		if has, err := st.Has(path, 5); has || err != nil {
			t.Error(path, has, err)
		}
	}
	if err := errors.Join(st.Symlink("link", "a"), st.Symlink("link", "b")); err != nil {
		t.Error(err)
	}
	mustFetch(t, st, "folder/x", "x")
	if err := st.Symlink("folder", "a"); err == nil {
		t.Error("a link in the place of a folder")
	}
	if err := fetch(st, generation.File{Path: "link/x", Size: 1}, "x"); err == nil {
		t.Error("a file below a link")
	}
	opened, err := st.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	opened.Close()
	g := commit(t, st)
	if got := paths(t, g.Files()); !slices.Equal(got, []string{"a", "folder/x", "link"}) {
		t.Errorf("%q", got)
	}
	if info, err := os.Stat(filepath.Join(p.TreePath(), "a")); err != nil || info.Mode() != 0o644 || !info.ModTime().Equal(epoch.Add(time.Hour)) {
		t.Error(info, err)
	}
	if _, err := st.Commit(t.Context(), generation.Meta{}); !errors.Is(err, generation.ErrEnded) {
		t.Error(err)
	}
	if err := st.Symlink("x", "y"); !errors.Is(err, generation.ErrEnded) {
		t.Error(err)
	}
	tidy(t, dir, p)
}

// A content is stored once for all projects, and again for another time.
func TestSharedByProjects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	publish(t, project(t, s), map[string]string{"a": "data"})
	other, err := s.Project("other", nil)
	if err != nil {
		t.Fatal(err)
	}
	st := stage(t, other)
	same, _ := content("x/same", "data")
	unknown, late := same, same
	unknown.Path, unknown.ModTime = "unknown", time.Time{}
	late.Path, late.ModTime = "late", epoch.Add(time.Hour)
	for _, f := range []generation.File{same, unknown, late} {
		if ok, err := st.LinkObject(f); !ok || err != nil {
			t.Fatal(f, ok, err)
		}
	}
	mustFetch(t, st, "fetched", "data")
	commit(t, st)
	inode := func(name string) uint64 {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, "projects", name), &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	first := inode("demo/current/tree/a")
	for path, want := range map[string]bool{"x/same": true, "unknown": true, "fetched": true, "late": false} {
		if got := inode("other/current/tree/"+path) == first; got != want {
			t.Errorf("%s is shared: %t", path, got)
		}
	}
	if err := s.Remove(t.Context(), "demo"); err != nil {
		t.Fatal(err)
	}
	if data, _, err := read(other, "x/same"); data != "data" || err != nil {
		t.Error(data, err)
	}
	if got := objectNames(t, dir); len(got) != 1 || !slices.Equal(s.Names(), []string{"other"}) {
		t.Error(got, s.Names())
	}
	if err := s.Remove(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if got := objectNames(t, dir); len(got) != 0 {
		t.Error(got)
	}
}

// A file that has all the names a file system allows is copied.
func TestTooManyLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full := false
	s, err := generation.Open(t.Context(), dir, generation.Options{Fault: func(step, _ string) error {
		if full && step == "link" {
			full = false
			return unix.EMLINK
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := project(t, s)
	g := publish(t, p, map[string]string{"a": "data"})
	f, _ := content("a", "data")
	st := stage(t, p)
	full = true
	if ok, err := st.Keep(g, f); !ok || err != nil || full {
		t.Fatal(ok, err)
	}
	f.Path = "b"
	full = true
	if ok, err := st.LinkObject(f); !ok || err != nil || full {
		t.Fatal(ok, err)
	}
	g = commit(t, st)
	if err := p.Verify(t.Context(), g, generation.VerifyOptions{}, func(_ generation.File, err error) error { return err }); err != nil {
		t.Error(err)
	}
	tidy(t, dir, p)
}

// A flipped byte with the same size and time is found; the file is taken away, and the
// next sync fetches it.
func TestVerify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := project(t, open(t, dir))
	files := release(1)
	g := publish(t, p, files)
	damage(t, filepath.Join(p.TreePath(), "Packages/3.rpm"))
	if err := errors.Join(os.Remove(filepath.Join(p.TreePath(), "latest.rpm")), os.Symlink("elsewhere", filepath.Join(p.TreePath(), "latest.rpm")),
		os.Remove(filepath.Join(p.TreePath(), "Packages/5.rpm"))); err != nil {
		t.Fatal(err)
	}
	check := func(opts generation.VerifyOptions) (all, damaged []string) {
		t.Helper()
		err := p.Verify(t.Context(), g, opts, func(f generation.File, err error) error {
			all = append(all, f.Path)
			if errors.Is(err, generation.ErrDamaged) {
				damaged = append(damaged, f.Path)
			} else if err != nil {
				t.Error(err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return all, damaged
	}
	want := []string{"Packages/3.rpm", "Packages/5.rpm", "latest.rpm"}
	if all, damaged := check(generation.VerifyOptions{}); !slices.Equal(damaged, want) || len(all) != len(files) {
		t.Errorf("%q of %q", damaged, all)
	}
	if all, _ := check(generation.VerifyOptions{After: "Packages/4.rpm"}); all[0] != "Packages/5.rpm" || len(all) != len(files)-4 {
		t.Errorf("%q", all)
	}
	read := 0
	count := func(_ context.Context, n int) error { read += n; return nil }
	if _, damaged := check(generation.VerifyOptions{Remove: true, Read: count}); !slices.Equal(damaged, want) || read == 0 {
		t.Errorf("%q", damaged)
	}
	if _, err := p.Current().Open("Packages/3.rpm"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it is served:", err)
	}
	if err := syncTo(t.Context(), p, files); err != nil {
		t.Fatal(err)
	}
	if got := wholeRelease(t, p); got != 1 {
		t.Error(got)
	}
	tidy(t, dir, p)
}

// A broken generation does not keep the store from being opened.
func TestBrokenGeneration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	p := project(t, s)
	publish(t, p, release(1))
	g := publish(t, p, release(2))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "projects/demo/generations", g.ID(), "generation.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	p = project(t, s)
	if got := wholeRelease(t, p); got != 1 {
		t.Errorf("release %d", got)
	}
	if g := publish(t, p, release(2)); g.ID() != "000003" {
		t.Error(g.ID())
	}
	tidy(t, dir, p)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "projects/demo/generations/000003/generation.json"), []byte(`{"version":2}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := generation.Open(t.Context(), dir, generation.Options{}); err == nil || !strings.Contains(err.Error(), "version 1, and not 2") {
		t.Error("of a later program:", err)
	}
}

func TestStamp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := project(t, open(t, dir))
	if err := p.Stamp("lastsync", nil); !errors.Is(err, generation.ErrUnknown) {
		t.Error(err)
	}
	publish(t, p, map[string]string{"a": "data"})
	for _, data := range []string{"one", "two"} {
		if err := p.Stamp("project/trace/host", []byte(data)); err != nil {
			t.Fatal(err)
		}
		if got, _, err := read(p, "project/trace/host"); got != data || err != nil {
			t.Error(got, err)
		}
	}
	if err := p.Stamp("a", []byte("no")); err == nil || !strings.Contains(err.Error(), "leave it out") {
		t.Error(err)
	}
	if got := p.Current().Info().Stamps; !slices.Equal(got, []string{"project/trace/host"}) {
		t.Error(got)
	}
	g := publish(t, p, map[string]string{"a": "data"})
	if _, err := g.Open("project/trace/host"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	tidy(t, dir, p)
}

func TestRetireAndDrop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	p := project(t, s)
	for n := range 5 {
		publish(t, p, release(n))
	}
	if ended, err := p.Retire(t.Context(), time.Hour); len(ended) != 0 || err != nil {
		t.Error(ended, err)
	}
	for _, id := range []string{"000001", "000002"} {
		if err := p.Drop(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if err := p.Drop(t.Context(), p.Current().ID()); !errors.Is(err, generation.ErrCurrent) {
		t.Error(err)
	}
	if err := p.Drop(t.Context(), "000001"); !errors.Is(err, generation.ErrUnknown) {
		t.Error(err)
	}
	// What is interrupted goes on.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ended, err := p.Retire(ctx, -time.Hour); len(ended) != 2 || !errors.Is(err, context.Canceled) {
		t.Error(ended, err)
	}
	if err := p.EmptyTrash(t.Context()); err != nil {
		t.Error(err)
	}
	tidy(t, dir, p)
	if space, err := s.Space(); err != nil || space.Bytes == 0 || space.FreeBytes > space.Bytes {
		t.Error(space, err)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	p := project(t, open(t, t.TempDir()))
	one := publish(t, p, map[string]string{"a": "a", "b": "b", "c": "-> a", "d": "d"})
	two := publish(t, p, map[string]string{"a": "a", "b": "B", "c": "-> b", "e": "e"})
	var got []string
	for c, err := range generation.Changes(one, two) {
		switch {
		case err != nil:
			t.Fatal(err)
		case c.Left == nil:
			got = append(got, "+"+c.Path)
		case c.Right == nil:
			got = append(got, "-"+c.Path)
		default:
			got = append(got, "*"+c.Path)
		}
	}
	if !slices.Equal(got, []string{"*b", "*c", "-d", "+e"}) {
		t.Errorf("%q", got)
	}
	n := 0
	for _, err := range generation.Changes(nil, two) {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != 4 {
		t.Error(n)
	}
}
