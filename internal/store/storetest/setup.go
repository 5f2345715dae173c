package storetest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/layout"
	"freshet/internal/store"
	"freshet/internal/store/bucket"
)

// local is a place without a copy.
type local string

// Local is a place on the disk.
func Local(tb testing.TB) Setup { tb.Helper(); return local(Dir(tb)) }

// Dir is where a repository can be: in memory, if that is possible, since what syncs
// thousands of times need not wait for a disk that others use.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "store-test-") //nolint:usetesting // another file system
	if err != nil {
		return filepath.Join(tb.TempDir(), "repo")
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "repo")
}

func (dir local) Open(tb testing.TB) *store.Store {
	tb.Helper()
	s, err := store.Open(string(dir))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func (dir local) Check(testing.TB, map[string]string) {}

// Mirrored is a place with a copy in a bucket.
type Mirrored struct {
	Dir     string
	Objects bucket.Objects
	Prefix  string
}

// Mirror makes a place with a copy in objects, below a prefix of its own.
func Mirror(tb testing.TB, objects bucket.Objects) *Mirrored {
	tb.Helper()
	return &Mirrored{Dir: Dir(tb), Objects: objects, Prefix: "repos/" + bucket.NewID() + "/"}
}

// MirroredIn makes such places for [Store].
func MirroredIn(objects bucket.Objects) func(testing.TB) Setup {
	return func(tb testing.TB) Setup { tb.Helper(); return Mirror(tb, objects) }
}

// Copy is what a store is told of the copy.
func (m *Mirrored) Copy() store.Mirror {
	return store.Mirror{Copy: bucket.New(m.Objects, m.Prefix, nil), Class: func(name string) layout.Class { return layout.OSTree(name).Class }}
}

// Open implements [Setup].
func (m *Mirrored) Open(tb testing.TB) *store.Store {
	tb.Helper()
	s, err := m.TryOpen(tb)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TryOpen is Open where it may fail.
func (m *Mirrored) TryOpen(tb testing.TB) (*store.Store, error) {
	tb.Helper()
	s := local(m.Dir).Open(tb)
	if err := s.Mirror(tb.Context(), m.Copy()); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// Check implements [Setup]: the copy has the same files, and nothing that nobody
// needs.
func (m *Mirrored) Check(tb testing.TB, files map[string]string) {
	tb.Helper()
	c := m.Copy().Copy
	seen := 0
	err := c.List(tb.Context(), func(name string, _ bucket.Object) error {
		seen++
		want, ok := files[name]
		if !ok {
			tb.Errorf("in the copy: %s is there", name)
			return nil
		}
		var got bytes.Buffer
		if _, err := c.Download(tb.Context(), name, &got); err != nil {
			return err
		}
		if got.String() != want {
			tb.Errorf("in the copy: %s is %q, want %q", name, got.String(), want)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	if seen != len(files) {
		tb.Errorf("the copy has %d files, want %d", seen, len(files))
	}
}
