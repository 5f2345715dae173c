package generation_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
	"freshet/internal/ramtest"
)

func TestMain(m *testing.M) { os.Exit(ramtest.Run(m)) }

var epoch = time.Unix(1767225600, 0).UTC()

func open(t testing.TB, dir string) *generation.Store {
	t.Helper()
	s, err := generation.Open(t.Context(), dir, generation.Options{UnlinksPerSecond: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func project(t testing.TB, s *generation.Store) *generation.Project {
	t.Helper()
	p, err := s.Project("demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// content makes a file as an upstream has it.
func content(path, data string) (generation.File, string) {
	return generation.File{Path: path, Size: int64(len(data)), ModTime: epoch, SHA256: sha256.Sum256([]byte(data))}, data
}

// fetch stages a file as a transfer does.
func fetch(st *generation.Staging, f generation.File, data string) error {
	temp := durable.TempName()
	if err := os.WriteFile(filepath.Join(st.Incoming(), temp), []byte(data), 0o600); err != nil {
		return err
	}
	_, err := st.Place(f, temp)
	return err
}

// publish makes a generation of these files, with the help of what is there.
func publish(t testing.TB, p *generation.Project, files map[string]string) *generation.Generation {
	t.Helper()
	st, err := p.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(mapKeys(files)) {
		if target, ok := strings.CutPrefix(files[path], "-> "); ok {
			err = st.Symlink(path, target)
		} else {
			f, data := content(path, files[path])
			var ok bool
			if ok, err = st.LinkObject(f); err == nil && !ok {
				err = fetch(st, f, data)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	g, err := st.Commit(t.Context(), generation.Meta{Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func mapKeys[V any](m map[string]V) iter.Seq[string] {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// read returns what readers get at a path, and from which generation.
func read(p *generation.Project, path string) (data, id string, err error) {
	f, _, g, err := p.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), g.ID(), err
}

func TestPublishAndServe(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	p := project(t, s)
	if _, _, err := read(p, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	one := publish(t, p, map[string]string{
		"Packages/a-1.rpm": "a1", "repodata/repomd.xml": "one", "latest": "-> Packages", "odd %#?:\n\\ ü": "odd", "out": "-> ../../../../../lock", "none": "-> nowhere",
	})
	two := publish(t, p, map[string]string{"Packages/a-2.rpm": "a2", "repodata/repomd.xml": "two", "same": "a2"})
	for path, want := range map[string]string{
		"Packages/a-2.rpm": "a2 000002", "Packages/a-1.rpm": "a1 000001", "repodata/repomd.xml": "two 000002", "same": "a2 000002",
		"latest/a-1.rpm": "a1 000001", // through a link of the older one
	} {
		if data, id, err := read(p, path); err != nil || data+" "+id != want {
			t.Errorf("%q: %q %s %v, want %s", path, data, id, err, want)
		}
	}
	for _, path := range []string{"odd %#?:\n\\ ü", "latest", "out", "none", "../2", "/etc/passwd", "Packages//a-2.rpm", "Packages/a-2.rpm/x", ""} {
		if data, id, err := read(p, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %q %s %v", path, data, id, err)
		}
	}
	for _, path := range []string{"out", "none"} {
		if _, err := one.Open(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if got := paths(t, one.Files()); !slices.Equal(got, []string{"Packages/a-1.rpm", "latest", "none", "odd %#?:\n\\ ü", "out", "repodata/repomd.xml"}) {
		t.Errorf("%q", got)
	}
	if i := two.Info(); i.Files != 3 || i.Links != 0 || i.Folders != 3 || i.Bytes != 7 || i.AddedFiles != 2 || i.Reason != "test" {
		t.Errorf("%+v", i)
	}
	if _, err := os.Stat(filepath.Join(p.TreePath(), "same")); err != nil {
		t.Error(err)
	}
	f, err := s.Object(sha256.Sum256([]byte("a2")))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.ModTime().Equal(epoch) {
		t.Error(info, err)
	}
}

func paths(t testing.TB, files iter.Seq2[generation.File, error]) []string {
	t.Helper()
	var list []string
	for f, err := range files {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f.Path)
	}
	return list
}
