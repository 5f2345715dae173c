package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"freshet/internal/layout"
	"freshet/internal/store"
)

// Setup is a place for a repository, empty at first.
type Setup interface {
	// Open opens the repository, which was closed before.
	Open(t testing.TB) *store.Store
	// Check looks whether everything else is as it must be while nobody changes the
	// repository: in the copy, if there is one. Files are all there are, by path.
	Check(t testing.TB, files map[string]string)
}

// Store runs the contract of a store of files, whose places setup makes.
func Store(t *testing.T, setup func(t testing.TB) Setup) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Setup){
		"commit":       testCommit,
		"replace":      testReplaceFiles,
		"refused file": testRefusedFile,
		"link":         testLink,
		"abort":        testAbort,
		"cancelled":    testCancelled,
		"pending":      testPending,
		"concurrent":   testConcurrent,
		"empty":        testEmpty,
		"closed":       testClosed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, setup(t))
		})
	}
}

// Files returns all files of a repository by path.
func Files(tb testing.TB, s *store.Store) map[string]string {
	tb.Helper()
	files := make(map[string]string)
	err := s.Walk(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := s.Open(name)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(f)
		files[name] = string(data)
		return errors.Join(err, f.Close())
	})
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

// is checks the files here, after the repository was opened anew, and in the copy.
func is(t *testing.T, setup Setup, s *store.Store, want map[string]string) {
	t.Helper()
	same := func(when string, got map[string]string) {
		t.Helper()
		for name, content := range want {
			if there, ok := got[name]; !ok || there != content {
				t.Errorf("%s: %s is %q, %v; want %q", when, name, there, ok, content)
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				t.Errorf("%s: %s is there", when, name)
			}
		}
	}
	same("now", Files(t, s))
	setup.Check(t, want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = setup.Open(t)
	same("opened anew", Files(t, s))
	setup.Check(t, want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, tx *store.Tx, class layout.Class, name, content string) {
	t.Helper()
	if n, err := tx.Put(class, name, strings.NewReader(content)); err != nil || n != int64(len(content)) {
		t.Fatalf("%s: %d, %v", name, n, err)
	}
}

func commit(t testing.TB, tx *store.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context(), []byte("note")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Done(); err != nil {
		t.Fatal(err)
	}
}

// base publishes what the tests change.
func base(t *testing.T, s *store.Store) {
	t.Helper()
	tx := s.Begin()
	put(t, tx, layout.Payload, "objects/aa/1.filez", "payload")
	put(t, tx, layout.Payload, "deltas/a+/c+d/0", "part")
	put(t, tx, layout.Index, "delta-indexes/x", "index")
	put(t, tx, layout.Pointer, "refs/heads/a", "1")
	put(t, tx, layout.Pointer, "summary", "1")
	commit(t, tx)
}

func baseFiles() map[string]string {
	return map[string]string{
		"objects/aa/1.filez": "payload", "deltas/a+/c+d/0": "part", "delta-indexes/x": "index", "refs/heads/a": "1", "summary": "1",
	}
}

func testCommit(t *testing.T, setup Setup) {
	s := setup.Open(t)
	base(t, s)
	is(t, setup, s, baseFiles())
}

func testReplaceFiles(t *testing.T, setup Setup) {
	s := setup.Open(t)
	base(t, s)
	tx := s.Begin()
	put(t, tx, layout.Payload, "objects/aa/1.filez", "other payload") // stays as it was
	put(t, tx, layout.Payload, "objects/bb/2.filez", "more")
	put(t, tx, layout.Index, "delta-indexes/x", "index 2")
	put(t, tx, layout.Pointer, "summary", "dropped")
	put(t, tx, layout.Pointer, "summary", "2")
	if _, err := tx.Write(layout.Pointer, "summary.sig", func(w io.Writer) error {
		_, err := io.WriteString(w, "sig 2")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		tx.PutBytes(layout.Pointer, "refs/heads/b", []byte("2")),
		tx.Remove(layout.Pointer, "refs/heads/a"),
		tx.Remove(layout.Payload, "deltas/a+/c+d/0"),
		tx.Remove(layout.Index, "never/there"),
	); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	want := baseFiles()
	want["objects/bb/2.filez"], want["delta-indexes/x"], want["summary"], want["summary.sig"], want["refs/heads/b"] = "more", "index 2", "2", "sig 2", "2"
	delete(want, "refs/heads/a")
	delete(want, "deltas/a+/c+d/0")
	is(t, setup, s, want)
}

func testRefusedFile(t *testing.T, setup Setup) {
	s := setup.Open(t)
	tx := s.Begin()
	wrong := errors.New("wrong content")
	if _, err := tx.Put(layout.Payload, "objects/bad", iotest.ErrReader(wrong)); !errors.Is(err, wrong) {
		t.Errorf("Put = %v", err)
	}
	put(t, tx, layout.Payload, "objects/good", "good")
	for _, name := range []string{"", ".", "/a", "../a", "a/../b", "tmp/a", ".store.lock", ".store.bucket"} {
		if err := tx.PutBytes(layout.Payload, name, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	commit(t, tx)
	is(t, setup, s, map[string]string{"objects/good": "good"})
}

func testLink(t *testing.T, setup Setup) {
	s := setup.Open(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "source"), []byte("linked"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }() // opened for reading
	tx := s.Begin()
	if err := tx.Link(layout.Payload, "objects/linked", root, "source"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Link(layout.Payload, "objects/nothing", root, "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Link of nothing = %v", err)
	}
	commit(t, tx)
	is(t, setup, s, map[string]string{"objects/linked": "linked"})
}

func testAbort(t *testing.T, setup Setup) {
	s := setup.Open(t)
	base(t, s)
	tx := s.Begin()
	put(t, tx, layout.Payload, "objects/aborted", "a")
	put(t, tx, layout.Pointer, "summary", "aborted")
	if err := tx.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), nil); err == nil {
		t.Error("committed after Abort")
	}
	is(t, setup, s, baseFiles())
}

func testCancelled(t *testing.T, setup Setup) {
	s := setup.Open(t)
	base(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tx := s.Begin()
	put(t, tx, layout.Pointer, "summary", "cancelled")
	if err := tx.Commit(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit = %v", err)
	}
	is(t, setup, s, baseFiles())
}

func testPending(t *testing.T, setup Setup) {
	s := setup.Open(t)
	for i, note := range []string{"first", "second", "third"} {
		tx := s.Begin()
		put(t, tx, layout.Pointer, "summary", note)
		if err := tx.Commit(t.Context(), []byte(note)); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := tx.Done(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = setup.Open(t)
	var notes []string
	for _, p := range s.Pending() {
		notes = append(notes, string(p.Note))
		if err := s.Done(p.ID); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(notes, []string{"first", "third"}) {
		t.Errorf("pending: %q", notes)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = setup.Open(t)
	if left := s.Pending(); len(left) > 0 {
		t.Errorf("pending after Done: %v", left)
	}
	is(t, setup, s, map[string]string{"summary": "third"})
}

func testConcurrent(t *testing.T, setup Setup) {
	s := setup.Open(t)
	want := make(map[string]string)
	var all sync.WaitGroup
	for i := range 8 {
		name, ref := fmt.Sprintf("objects/%d", i), fmt.Sprintf("refs/heads/%d", i)
		want[name], want[ref], want["objects/same"] = name, ref, "same"
		all.Go(func() {
			tx := s.Begin()
			put(t, tx, layout.Payload, name, name)
			put(t, tx, layout.Payload, "objects/same", "same")
			put(t, tx, layout.Pointer, ref, ref)
			commit(t, tx)
		})
	}
	all.Wait()
	is(t, setup, s, want)
}

func testEmpty(t *testing.T, setup Setup) {
	s := setup.Open(t)
	commit(t, s.Begin())
	is(t, setup, s, map[string]string{})
}

func testClosed(t *testing.T, setup Setup) {
	s := setup.Open(t)
	tx := s.Begin()
	put(t, tx, layout.Pointer, "summary", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), nil); err == nil {
		t.Error("committed after Close")
	}
	is(t, setup, setup.Open(t), map[string]string{})
}
