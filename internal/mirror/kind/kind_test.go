package kind_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"freshet/internal/layout"
	"freshet/internal/mirror/kind"
	"freshet/internal/peertest"
	"freshet/internal/sign"
)

// folder is the tree in a folder.
func folder(dir string) kind.Tree {
	fsys := os.DirFS(dir)
	return kind.Tree{
		Open: func(_ context.Context, name string) (fs.File, error) { return fsys.Open(name) },
		List: func(context.Context) iter.Seq2[kind.File, error] {
			return func(yield func(kind.File, error) bool) {
				err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
					if err != nil || d.IsDir() {
						return err
					}
					f, err := listed(dir, name, d)
					if !yield(f, err) {
						return fs.SkipAll
					}
					return nil
				})
				if err != nil {
					yield(kind.File{}, err)
				}
			}
		},
	}
}

func listed(dir, name string, d fs.DirEntry) (f kind.File, err error) {
	f.Path = name
	info, err := d.Info()
	if err != nil {
		return f, err
	}
	f.Size, f.ModTime = info.Size(), info.ModTime()
	if d.Type()&fs.ModeSymlink != 0 {
		f.Link, err = os.Readlink(filepath.Join(dir, name))
	}
	return f, err
}

func newKind(t testing.TB, c kind.Config) *kind.Kind {
	t.Helper()
	k, err := kind.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pointers are those of the repositories that a kind finds.
func pointers(t *testing.T, k *kind.Kind, tree kind.Tree) (list []kind.Repository, names string) {
	t.Helper()
	list, err := k.Repositories(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range list {
		all = append(all, r.Pointer)
	}
	return list, strings.Join(all, " ")
}

// files are the paths that a sequence has, those that may be missing with "?".
func files(t *testing.T, seq iter.Seq2[kind.File, error]) []kind.File {
	t.Helper()
	var list []kind.File
	for f, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

// copied makes a copy of the files that are there, fails for one that has to be there and
// is not, or is another, and returns the names.
func copied(t *testing.T, list []kind.File, from, to string) []string {
	t.Helper()
	var names []string
	for _, f := range list {
		data, err := os.ReadFile(filepath.Join(from, f.Path))
		if errors.Is(err, fs.ErrNotExist) && f.Optional {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := kind.Verify(f, strings.NewReader(string(data))); err != nil {
			t.Error(err)
		}
		names = append(names, f.Path)
		write(t, filepath.Join(to, f.Path), string(data))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// last is the last of a list: the pointer.
func last(t *testing.T, list []kind.File) kind.File {
	t.Helper()
	if len(list) == 0 || list[len(list)-1].Class != layout.Pointer || list[len(list)-1].Optional {
		t.Fatalf("the last of %d files is no pointer", len(list))
	}
	return list[len(list)-1]
}

// gpg is a key of the real gpg.
type gpg struct {
	env  []string
	file string // of the public key
}

func newGPG(t *testing.T) gpg {
	t.Helper()
	peertest.Require(t, "gpg")
	home := filepath.Join(t.TempDir(), "gpg")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	g := gpg{env: []string{"GNUPGHOME=" + home}, file: filepath.Join(home, "public.asc")}
	peertest.Run(t, home, g.env, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "test@example.org", "ed25519", "sign", "never")
	write(t, g.file, string(peertest.Run(t, home, g.env, "gpg", "--armor", "--export")))
	return g
}

func (g gpg) run(t *testing.T, dir string, args ...string) {
	t.Helper()
	peertest.Run(t, dir, g.env, "gpg", append([]string{"--batch", "--yes"}, args...)...)
}

func loadKeys(t *testing.T, format kind.Format, files ...string) kind.Keys {
	t.Helper()
	keys, err := kind.LoadKeys(format, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// otherKey is a file with a key that has signed nothing.
func otherKey(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "other.asc")
	if _, err := sign.Generate(file, "Other <other@example.org>"); err != nil {
		t.Fatal(err)
	}
	return file
}

// signed checks what a repository's version says with the right key, with another one and
// without any.
func signed(t *testing.T, c kind.Config, g gpg, tree kind.Tree, r kind.Repository, without string) kind.Version {
	t.Helper()
	c.Keys = kind.Keys{}
	v, err := newKind(t, c).Version(t.Context(), tree.Open, r)
	if err != nil || v.Proof != without {
		t.Errorf("without keys: %+v, %v", v, err)
	}
	c.Keys = loadKeys(t, c.Format, otherKey(t))
	if v, err := newKind(t, c).Version(t.Context(), tree.Open, r); kind.Reason(err) != "bad-signature" {
		t.Errorf("with another key: %+v, %v", v, err)
	}
	c.Keys = loadKeys(t, c.Format, g.file)
	v, err = newKind(t, c).Version(t.Context(), tree.Open, r)
	if err != nil || v.Proof != "signed" {
		t.Errorf("with the key: %+v, %v", v, err)
	}
	checkHalf(t, c, tree, r)
	return v
}

// checkHalf has the upstream in the middle of writing each signature and key: that is
// inconsistent, whether signatures are asked for or not.
func checkHalf(t *testing.T, c kind.Config, tree kind.Tree, r kind.Repository) {
	t.Helper()
	read := func(c kind.Config, tree kind.Tree) error {
		k := newKind(t, c)
		if _, err := k.Version(t.Context(), tree.Open, r); err != nil {
			return err
		}
		for _, err := range k.Files(t.Context(), tree, r, nil) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	beside := make(map[string][]byte)
	noting := tree
	noting.Open = func(ctx context.Context, name string) (fs.File, error) {
		f, err := tree.Open(ctx, name)
		if err == nil && (name == r.Pointer || slices.Contains([]string{".asc", ".key", ".gpg", ".sig"}, path.Ext(name)) || path.Base(name) == "InRelease") {
			data, err := io.ReadAll(f)
			if err != nil {
				return nil, err
			}
			if name != r.Pointer || strings.HasPrefix(string(data), "-----BEGIN") {
				beside[name] = data
			}
			_ = f.Close() // opened for reading
			return tree.Open(ctx, name)
		}
		return f, err
	}
	if err := read(c, noting); err != nil {
		t.Fatal(err)
	}
	if len(beside) == 0 {
		t.Fatal("it has no signature")
	}
	for name, whole := range beside {
		for _, length := range []int{0, len(whole) / 2, len(whole) - 20} {
			if name == r.Pointer && length < len(whole)-20 {
				continue // then it is not a pointer
			}
			half := tree
			half.Open = func(ctx context.Context, asked string) (fs.File, error) {
				if asked != name {
					return tree.Open(ctx, asked)
				}
				return fstest.MapFS{name: &fstest.MapFile{Data: whole[:length], ModTime: time.Unix(1, 0)}}.Open(name)
			}
			for _, keys := range []kind.Keys{c.Keys, {}} {
				c := c
				c.Keys = keys
				if err := read(c, half); kind.Reason(err) != "inconsistent" {
					t.Errorf("%d of %d bytes of %s: %v", length, len(whole), name, err)
				}
			}
		}
	}
}

func reason(t *testing.T, seq iter.Seq2[kind.File, error]) string {
	t.Helper()
	for _, err := range seq {
		if err != nil {
			return kind.Reason(err)
		}
	}
	return ""
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []kind.Config{
		{},
		{Format: "zip"},
		{Format: kind.RPM, Repositories: []string{"/os"}},
		{Format: kind.RPM, Repositories: []string{"os/"}},
		{Format: kind.RPM, Repositories: []string{"../os"}},
		{Format: kind.RPM, Repositories: []string{"{version}/os"}},
		{Format: kind.Arch, Repositories: []string{"core/os/x86_64"}},
		{Format: kind.Plain, Repositories: []string{"a"}},
		{Format: kind.Plain, HotSet: 1},
		{Format: kind.OSTree, HotSet: -1},
		{Format: kind.Plain, Probe: []string{"/lastupdate"}},
		{Format: kind.Plain, Stamps: []string{""}},
	} {
		if _, err := kind.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	k := newKind(t, kind.Config{Format: kind.RPM, Repositories: []string{"{release}/os"}, Releases: []string{"9"}})
	if k.Format() != kind.RPM {
		t.Errorf("%v", k.Format())
	}
	if _, err := kind.LoadKeys(kind.Plain, []string{otherKey(t)}, nil); err == nil {
		t.Error("a key of a plain tree is taken")
	}
	if _, err := kind.LoadKeys(kind.Alpine, []string{otherKey(t)}, nil); err == nil {
		t.Error("an OpenPGP key of Alpine is taken")
	}
	if _, err := kind.LoadKeys(kind.RPM, []string{"no such file"}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Patterns without "*" need no listing.
func TestPatterns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config kind.Config
		want   string
	}{
		"deb":     {kind.Config{Format: kind.Deb, Repositories: []string{"dists/{release}"}, Releases: []string{"sid", "bookworm/updates"}}, "dists/bookworm/updates/InRelease dists/sid/InRelease"},
		"release": {kind.Config{Format: kind.Deb, Repositories: []string{"dists/old/Release", "."}}, "InRelease dists/old/Release"},
		"rpm": {
			kind.Config{Format: kind.RPM, Repositories: []string{"{release}/Everything/{arch}", "."}, Releases: []string{"9", "10"}, Architectures: []string{"x86_64"}},
			"10/Everything/x86_64/repodata/repomd.xml 9/Everything/x86_64/repodata/repomd.xml repodata/repomd.xml",
		},
		"arch": {
			kind.Config{Format: kind.Arch, Repositories: []string{"{component}/os/{arch}/{component}.db"}, Components: []string{"core", "extra"}, Architectures: []string{"x86_64"}},
			"core/os/x86_64/core.db extra/os/x86_64/extra.db",
		},
		"alpine": {kind.Config{Format: kind.Alpine, Repositories: []string{"{release}/main/{arch}"}, Releases: []string{"edge"}, Architectures: []string{"x86"}}, "edge/main/x86/APKINDEX.tar.gz"},
		"images": {kind.Config{Format: kind.Images, Repositories: []string{"current", "old/x-CHECKSUM"}}, "current/SHA256SUMS old/x-CHECKSUM"},
		"ostree": {kind.Config{Format: kind.OSTree}, "summary"},
		"repo":   {kind.Config{Format: kind.OSTree, Repositories: []string{"repo"}}, "repo/summary"},
		"plain":  {kind.Config{Format: kind.Plain}, ""},
	} {
		list, got := pointers(t, newKind(t, c.config), kind.Tree{})
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		for _, r := range list {
			if r.Root != "." && !strings.HasPrefix(r.Pointer, path.Clean(r.Root)+"/") {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	for _, c := range []kind.Config{{Format: kind.RPM}, {Format: kind.Deb, Repositories: []string{"dists/{release}"}}} {
		if _, err := newKind(t, c).Repositories(t.Context(), kind.Tree{}); !errors.Is(err, kind.ErrNoListing) || kind.Reason(err) != "no-listing" {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A reader that fails is not a wrong file, and whoever stops is not asked again.
func TestStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		write(t, filepath.Join(dir, name), name)
	}
	k := newKind(t, kind.Config{Format: kind.Plain})
	n := 0
	for range k.Rest(t.Context(), folder(dir), nil, nil) {
		n++
		break
	}
	if n != 1 {
		t.Error(n)
	}
	if err := kind.Verify(kind.File{}, io.MultiReader(strings.NewReader("a"), errReader{})); !errors.Is(err, os.ErrClosed) || errors.Is(err, kind.ErrWrong) {
		t.Error(err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, os.ErrClosed }
