package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/layout"
)

func begin(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// quickDir is a folder in memory where there is one: what syncs thousands of
// times need not wait for a disk that others use.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "store-test-") //nolint:usetesting // another file system
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func put(t testing.TB, tx *Tx, class layout.Class, name, content string) {
	t.Helper()
	if _, err := tx.Put(class, name, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, tx *Tx) {
	t.Helper()
	if err := tx.Commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := tx.Done(); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, open func(string) (*os.File, error), name string) string {
	t.Helper()
	f, err := open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// tree returns all that is below dir, as "path=content".
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		all = append(all, rel+"="+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func equal(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCommit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	s := begin(t, dir)
	tx := s.Begin()
	put(t, tx, layout.Pointer, "summary", "one")
	put(t, tx, layout.Index, "summaries/1", "index one")
	put(t, tx, layout.Payload, "objects/aa/1", "payload")
	put(t, tx, layout.Payload, "objects/aa/2", "payload two")
	if got := content(t, s.Open, "summary"); got != "(none)" {
		t.Errorf("before the commit: %s", got)
	}
	commit(t, tx)

	tx = s.Begin()
	put(t, tx, layout.Pointer, "summary", "overwritten below")
	put(t, tx, layout.Pointer, "summary", "two")
	put(t, tx, layout.Index, "summaries/2", "index two")
	put(t, tx, layout.Payload, "objects/aa/1", "other bytes under the same name")
	if err := errors.Join(
		tx.PutBytes(layout.Payload, "objects/bb/3", []byte("three")),
		tx.Remove(layout.Index, "summaries/1"),
		tx.Remove(layout.Payload, "objects/aa/2"),
		tx.Remove(layout.Payload, "objects/aa/missing"),
	); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	equal(t, tree(t, dir), []string{
		".store.lock=", "objects/aa/1=payload", "objects/bb/3=three", "summaries/2=index two", "summary=two",
	})
}

func TestPutErrorLeavesTheRest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, dir)
	tx := s.Begin()
	put(t, tx, layout.Payload, "a", "good")
	bad := errors.New("checksum mismatch")
	if _, err := tx.Put(layout.Payload, "b", io.MultiReader(strings.NewReader("half"), errReader{bad})); !errors.Is(err, bad) {
		t.Errorf("error %v", err)
	}
	commit(t, tx)
	equal(t, tree(t, dir), []string{".store.lock=", "a=good"})
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestAbort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, dir)
	tx := s.Begin()
	put(t, tx, layout.Pointer, "a", "x")
	if err := errors.Join(tx.Abort(), tx.Abort()); err != nil {
		t.Fatal(err)
	}
	if err := tx.PutBytes(layout.Pointer, "b", nil); !errors.Is(err, errEnded) {
		t.Errorf("put after abort: %v", err)
	}
	if err := tx.Commit(t.Context(), nil); !errors.Is(err, errEnded) {
		t.Errorf("commit after abort: %v", err)
	}
	if err := tx.Done(); err == nil {
		t.Error("done after abort")
	}
	equal(t, tree(t, dir), []string{".store.lock="})
	if entries, _ := os.ReadDir(filepath.Join(dir, tmpDir)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestOneWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, dir)
	if _, err := Open(dir); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("second open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	begin(t, dir)
}

func TestLink(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	for name, data := range map[string]string{"objects/aa/1": "one", "objects/bb/2": "two"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("aa/1", filepath.Join(from, "objects/link")); err != nil {
		t.Fatal(err)
	}
	source, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	dir := t.TempDir()
	s := begin(t, dir)
	tx := s.Begin()
	for _, name := range []string{"objects/aa/1", "objects/bb/2"} {
		if err := tx.Link(layout.Payload, name, source, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"objects/link", "objects/aa", "objects/missing", "../" + filepath.Base(from) + "/objects/aa/1"} {
		if err := tx.Link(layout.Payload, "bad", source, bad); err == nil {
			t.Errorf("linked %s", bad)
		}
	}
	commit(t, tx)
	equal(t, tree(t, dir), []string{".store.lock=", "objects/aa/1=one", "objects/bb/2=two"})
	a, errA := os.Stat(filepath.Join(from, "objects/aa/1"))
	b, errB := s.Stat("objects/aa/1")
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("copied instead of linked: %v, %v", errA, errB)
	}

	// /dev/shm is another file system: there are no links between the two.
	s = begin(t, quickDir(t))
	tx = s.Begin()
	if err := tx.Link(layout.Payload, "copy", source, "objects/aa/1"); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	if got := content(t, s.Open, "copy"); got != "one" {
		t.Errorf("copied %q", got)
	}
}

// TestLinkPayload: what is linked into place is there only after Commit, is one with
// its source, and is nothing but files. What cannot be linked is copied.
func TestLinkPayload(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	var names, want []string
	for i := range 1000 { // enough for several goroutines
		name := fmt.Sprintf("objects/%02x/%03d", i%16, i)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		want = append(want, name+"="+name)
	}
	if err := os.Symlink("000", filepath.Join(from, "objects/00/symlink")); err != nil {
		t.Fatal(err)
	}
	source, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	slices.Sort(want)
	want = append([]string{".store.lock="}, want...)

	dir := t.TempDir()
	s := begin(t, dir)
	tx := s.Begin()
	if err := tx.LinkPayload(t.Context(), source, names); err != nil {
		t.Fatal(err)
	}
	if s.Has(names[1]) {
		t.Error("a file is there before Commit")
	}
	commit(t, tx)
	equal(t, tree(t, dir), want)
	for _, name := range names {
		a, errA := os.Stat(filepath.Join(from, name))
		b, errB := s.Stat(name)
		if errA != nil || errB != nil || !os.SameFile(a, b) {
			t.Fatalf("%s: copied instead of linked: %v, %v", name, errA, errB)
		}
	}

	for _, bad := range []string{"objects/00/symlink", "objects/00/missing", "objects/01"} {
		tx := s.Begin()
		err := tx.LinkPayload(t.Context(), source, []string{"objects/00/000", bad})
		if err = errors.Join(err, tx.Commit(t.Context(), nil)); err == nil {
			t.Errorf("linked %s", bad)
		}
		equal(t, tree(t, dir), want)
	}

	dir = quickDir(t) // another file system
	s = begin(t, dir)
	tx = s.Begin()
	if err := tx.LinkPayload(t.Context(), source, names); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	equal(t, tree(t, dir), want)
}

func TestBadNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, dir)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	names := []string{
		"", ".", "/abs", "../up", "a/../../up", "a//b", "a/", "./a", "a\x00b",
		tmpDir, "tmp/x", lockName, ".durable-0", "a/.durable-0",
	}
	for _, name := range names {
		tx := s.Begin()
		if err := tx.PutBytes(layout.Index, name, nil); err == nil {
			t.Errorf("put %q", name)
		}
		if err := tx.Remove(layout.Index, name); err == nil {
			t.Errorf("remove %q", name)
		}
		if f, err := s.Open(name); err == nil {
			t.Errorf("opened %q", name)
			_ = f.Close()
		}
		if s.Has(name) {
			t.Errorf("has %q", name)
		}
	}
	for _, name := range []string{lockName + "x", strings.Repeat("n", 300), "out", "missing/x"} {
		if _, err := s.Open(name); !errors.Is(err, fs.ErrNotExist) && name != "out" {
			t.Errorf("%.20s: %v", name, err)
		}
	}
	if s.Has("out/secret") {
		t.Error("out/secret can be reached")
	}
	tx := s.Begin()
	put(t, tx, layout.Pointer, "out/secret", "overwritten")
	if err := tx.Commit(t.Context(), nil); err == nil {
		t.Error("wrote out/secret")
	}
	equal(t, tree(t, outside), []string{"secret="})
}

func TestWalkHidesOurFiles(t *testing.T) {
	t.Parallel()
	s := begin(t, t.TempDir())
	tx := s.Begin()
	put(t, tx, layout.Pointer, "summary", "")
	put(t, tx, layout.Payload, "objects/aa/1", "")
	commit(t, tx)
	defer s.Begin().Abort()
	var all []string
	if err := s.Walk(".", func(name string, _ fs.DirEntry, err error) error {
		all = append(all, name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	equal(t, all, []string{".", "objects", "objects/aa", "objects/aa/1", "summary"})
}

func TestPending(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, dir)
	for _, note := range []string{"first", "second"} {
		tx := s.Begin()
		put(t, tx, layout.Pointer, "summary", note)
		if err := tx.Commit(t.Context(), []byte(note)); err != nil {
			t.Fatal(err)
		}
	}
	// A third takes the second's place; repairing must not bring it back.
	tx := s.Begin()
	put(t, tx, layout.Pointer, "summary", "third")
	commit(t, tx)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = begin(t, dir)
	pending := s.Pending()
	if len(pending) != 2 || string(pending[0].Note) != "first" || string(pending[1].Note) != "second" {
		t.Fatalf("pending %v", pending)
	}
	if got := content(t, s.Open, "summary"); got != "third" {
		t.Errorf("summary %q", got)
	}
	for _, p := range pending {
		if err := s.Done(p.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.Done(p.ID); err == nil {
			t.Error("done twice")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := begin(t, dir).Pending(); len(got) != 0 {
		t.Errorf("still pending: %v", got)
	}
}

func TestForeignIntentIsRefused(t *testing.T) {
	t.Parallel()
	for _, record := range []string{
		"", "{}", `{"version":2,"id":1,"stage":"tx-1"}`, `{"version":1,"id":2,"stage":"tx-1"}`,
		`{"version":1,"id":1,"stage":"../../etc"}`, `{"version":1,"id":1,"stage":"tx-/.."}`,
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, tmpDir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, alone().intent(1)), []byte(record), 0o644); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(dir); err == nil {
			t.Errorf("accepted %s", record)
			_ = s.Close()
		}
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	s := begin(t, t.TempDir())
	publish := func(v string) {
		t.Helper()
		tx := s.Begin()
		put(t, tx, layout.Pointer, "summary", v)
		put(t, tx, layout.Pointer, "summary.sig", "signed "+v)
		if v == "2" {
			put(t, tx, layout.Pointer, "new", v)
		}
		if v == "3" {
			if err := tx.Remove(layout.Pointer, "new"); err != nil {
				t.Fatal(err)
			}
		}
		commit(t, tx)
	}
	publish("1")
	first := s.View()
	publish("2")
	second := s.View()
	publish("3")
	third := s.View()
	see := func(v *View, want string) {
		t.Helper()
		for range 2 { // each opening has its own offset
			got := content(t, v.Open, "summary") + ", " + content(t, v.Open, "summary.sig") + ", " + content(t, v.Open, "new")
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	see(second, "2, signed 2, 2")
	see(first, "1, signed 1, (none)")
	second.Close()
	second.Close()
	see(first, "1, signed 1, (none)")
	first.Close()
	see(third, "3, signed 3, (none)")
	if len(s.superseded) != 0 {
		t.Errorf("still held: %v", s.superseded)
	}
	publish("4")
	see(third, "3, signed 3, (none)")
	third.Close()
	if len(s.superseded) != 0 || len(s.views) != 0 {
		t.Errorf("still held: %v, %v", s.superseded, s.views)
	}
	if got := content(t, s.Open, "summary"); got != "4" {
		t.Errorf("now %q", got)
	}
}
