package ostree_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"freshet/internal/ostree"
)

// memory is a sink that keeps the rules of sinks: objects do not change, and
// name only objects that came before.
type memory struct {
	t       interface{ Fatalf(string, ...any) }
	objects map[ostree.ObjectName][]byte
	fail    error
}

func (m *memory) Has(n ostree.ObjectName) (bool, error) {
	_, ok := m.objects[n]
	return ok, nil
}

func (m *memory) Put(n ostree.ObjectName, write func(io.Writer) error) error {
	if m.fail != nil {
		return m.fail
	}
	if _, ok := m.objects[n]; ok {
		m.t.Fatalf("%s is put twice", n)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	info, err := ostree.VerifyObject(n, bytes.NewReader(b.Bytes()))
	if err != nil {
		m.t.Fatalf("%v", err)
	}
	need := func(c ostree.Checksum, t ostree.ObjectType) {
		if _, ok := m.objects[ostree.ObjectName{Checksum: c, Type: t}]; !ok {
			m.t.Fatalf("%s comes before %s.%s", n, c, t)
		}
	}
	if d := info.DirTree; d != nil {
		for _, f := range d.Files {
			need(f.File, ostree.TypeFile)
		}
		for _, s := range d.Dirs {
			need(s.Tree, ostree.TypeDirTree)
			need(s.Meta, ostree.TypeDirMeta)
		}
	}
	if c := info.Commit; c != nil {
		need(c.Tree, ostree.TypeDirTree)
		need(c.TreeMeta, ostree.TypeDirMeta)
	}
	m.objects[n] = b.Bytes()
	return nil
}

// DirTree reads a dirtree back.
func (m *memory) DirTree(c ostree.Checksum) (*ostree.DirTree, error) {
	return ostree.ParseDirTree(m.objects[ostree.ObjectName{Checksum: c, Type: ostree.TypeDirTree}])
}

// TestTreeAgainstMap changes a tree and a map of paths alike, in several
// generations, each of which is loaded from what the one before wrote.
func TestTreeAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sink := &memory{t: t, objects: map[ostree.ObjectName][]byte{}}
		want := map[string]ostree.Checksum{}
		tree := &ostree.Tree{}
		path := rapid.StringMatching(`[abc](/[abc]){0,3}`)
		under := func(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
		for range rapid.IntRange(1, 4).Draw(t, "generations") {
			for range rapid.IntRange(0, 12).Draw(t, "changes") {
				p := path.Draw(t, "path")
				if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
					if err := tree.Remove(p); err != nil {
						t.Fatal(err)
					}
					for q := range want {
						if under(q, p) {
							delete(want, q)
						}
					}
					continue
				}
				sum, err := ostree.WriteBytes(sink, []byte(rapid.StringN(0, 3, -1).Draw(t, "content")), false)
				if err != nil {
					t.Fatal(err)
				}
				blocked := false
				for q := range want {
					blocked = blocked || q != p && under(p, q)
				}
				if err := tree.SetFile(p, sum); (err != nil) != blocked {
					t.Fatalf("set %s: %v, blocked: %v", p, err, blocked)
				}
				if blocked {
					continue
				}
				for q := range want {
					if under(q, p) {
						delete(want, q)
					}
				}
				want[p] = sum
			}
			root, meta, err := tree.Write(sink)
			if err != nil {
				t.Fatal(err)
			}
			tree = ostree.LoadTree(sink, root, meta)
			for p, sum := range want {
				if got, ok, err := tree.File(p); got != sum || !ok || err != nil {
					t.Fatalf("%s: %v, %v, %v", p, got, ok, err)
				}
			}
			if got := list(t, tree); len(got) != len(want) {
				t.Fatalf("tree has %v, want %v", got, want)
			}
			again, _, err := ostree.LoadTree(sink, root, meta).Write(sink)
			if err != nil || again != root {
				t.Fatalf("unchanged tree became %s: %v", again, err)
			}
		}
	})
}

func list(t interface{ Fatal(...any) }, tree *ostree.Tree) []string {
	files, dirs, err := tree.Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range dirs {
		sub, ok, err := tree.Dir(name)
		if !ok || err != nil {
			t.Fatal(name, ok, err)
		}
		for _, f := range list(t, sub) {
			files = append(files, name+"/"+f)
		}
	}
	return files
}

func TestTreeRefusesPaths(t *testing.T) {
	var tree ostree.Tree
	for _, path := range []string{"", ".", "/a", "a/", "../a", "a/../b", "a//b", strings.Repeat("x", 256), "a\x00b", "a\x00/b"} {
		if err := tree.SetFile(path, ostree.Checksum{}); err == nil {
			t.Errorf("file %q is accepted", path)
		}
	}
	if files, dirs, err := tree.Names(); len(files)+len(dirs) > 0 || err != nil {
		t.Errorf("traces: %v %v, %v", files, dirs, err)
	}
	sub, err := tree.MakeDir("a/b")
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetFile("f", ostree.Checksum{1}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := tree.File("a/b/f"); !ok || err != nil {
		t.Errorf("a/b/f: %v, %v", ok, err)
	}
}

func TestSinkErrorsAreReturned(t *testing.T) {
	full := errors.New("disk full")
	sink := &memory{t: t, objects: map[ostree.ObjectName][]byte{}, fail: full}
	var tree ostree.Tree
	if _, _, err := tree.Write(sink); !errors.Is(err, full) {
		t.Errorf("tree: %v", err)
	}
	if _, err := ostree.WriteSymlink(sink, "x"); !errors.Is(err, full) {
		t.Errorf("symlink: %v", err)
	}
	sink.fail = nil
	calls := 0
	_, err := ostree.WriteFile(sink, ostree.RegularFile(false), func() (io.ReadCloser, error) {
		calls++
		return io.NopCloser(strings.NewReader(strings.Repeat("x", calls))), nil
	})
	if err == nil || len(sink.objects) > 0 {
		t.Errorf("content that changes: %v", err)
	}
}

func TestOpenRepo(t *testing.T) {
	for _, tt := range []struct {
		config string
		want   error
	}{
		{"[core]\nrepo_version=1\nmode=archive-z2\n", nil},
		{"[core]\nrepo_version=1\nmode=archive\n", nil},
		{"[core]\nrepo_version=1\nmode=bare-user\n", ostree.ErrUnsupported},
		{"[core]\nrepo_version=2\nmode=archive-z2\n", ostree.ErrUnsupported},
		{"[core]\nmode=archive-z2\n", ostree.ErrUnsupported},
		{"", ostree.ErrUnsupported},
		{strings.Repeat("#", 2<<20), ostree.ErrTooLarge},
	} {
		_, err := ostree.OpenRepo(fstest.MapFS{"config": &fstest.MapFile{Data: []byte(tt.config)}})
		if !errors.Is(err, tt.want) {
			t.Errorf("%.40q: %v, want %v", tt.config, err, tt.want)
		}
	}
	if _, err := ostree.OpenRepo(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no config: %v", err)
	}
}

func TestReadGoldenRepo(t *testing.T) {
	repo, commit := goldenApp(t)
	if id := repo.CollectionID(); id != "org.example.Repo" {
		t.Error(id)
	}
	if ids, err := repo.ListMirrors(); err != nil || !slices.Equal(ids, []string{"org.example.Extra"}) {
		t.Errorf("%v, %v", ids, err)
	}
	mirrored, err := repo.ListMirrorRefs("org.example.Extra")
	if err != nil || mirrored["app/org.example.App/x86_64/stable"] != commit {
		t.Errorf("%v, %v", mirrored, err)
	}
	if c, err := repo.ResolveMirrorRef("org.example.Extra", "app/org.example.App/x86_64/stable"); err != nil || c != commit {
		t.Errorf("%v, %v", c, err)
	}
	c, err := repo.Commit(commit)
	if err != nil {
		t.Fatal(err)
	}
	if refs, _ := c.Metadata.Strings(ostree.KeyRefBinding); !slices.Equal(refs, []string{"app/org.example.App/x86_64/stable"}) {
		t.Errorf("binding %v", refs)
	}
	if s, _ := c.Metadata.Str(ostree.KeyEndOfLife); s != "Use another" {
		t.Errorf("end of life %q", s)
	}
	if v, _ := c.Metadata.Get("xa.token-type"); v.Int64() != 1 {
		t.Errorf("token type %d", v.Int64())
	}
	if c.Parent.IsZero() {
		t.Error("no parent")
	}
	metadata, err := repo.ReadPath(commit, "metadata", 4096)
	if want, _ := c.Metadata.Str("xa.metadata"); err != nil || string(metadata) != want {
		t.Errorf("%q, %v", metadata, err)
	}
	if _, err := repo.ReadPath(commit, "metadata", 10); !errors.Is(err, ostree.ErrTooLarge) {
		t.Errorf("bound: %v", err)
	}
	for path, want := range map[string]error{
		"nothing": fs.ErrNotExist, "metadata/x": fs.ErrNotExist, "files/nothing/x": fs.ErrNotExist,
		"files": fs.ErrInvalid, "files/bin/hi": fs.ErrInvalid, "../x": fs.ErrInvalid, "": fs.ErrInvalid,
	} {
		if _, err := repo.ReadPath(commit, path, 4096); !errors.Is(err, want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	e, err := repo.Lookup(commit, "files/bin/hi")
	if err != nil || e.IsDir {
		t.Fatalf("%+v, %v", e, err)
	}
	f, err := repo.OpenFile(e.File)
	if err != nil {
		t.Fatal(err)
	}
	if f.Header().Symlink != "hello" {
		t.Errorf("target %q", f.Header().Symlink)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	d, err := repo.DetachedMeta(commit)
	if err != nil || len(ostree.GPGSignatures(d)) != 1 {
		t.Errorf("signatures: %v", err)
	}
	if d, err := repo.DetachedMeta(ostree.Checksum{}); err != nil || d.Len() != 0 {
		t.Errorf("commit without signatures: %v", err)
	}
	ostree.SetGPGSignatures(&d, [][]byte{[]byte("a"), []byte("bc")})
	parsed, err := ostree.ParseDetached(ostree.EncodeDetached(d))
	if sigs := ostree.GPGSignatures(parsed); err != nil || len(sigs) != 2 || string(sigs[1]) != "bc" {
		t.Errorf("%q, %v", sigs, err)
	}
	ostree.SetGPGSignatures(&d, nil)
	if d.Len() != 0 {
		t.Error("a key without signatures stays")
	}
	if root, err := repo.Lookup(commit, "."); err != nil || root.Tree != c.Tree || !root.IsDir {
		t.Errorf("%+v, %v", root, err)
	}
	plain, err := repo.ResolveRef("plain/tree")
	if err != nil {
		t.Fatal(err)
	}
	private, err := repo.Lookup(plain, "private")
	if err != nil {
		t.Fatal(err)
	}
	meta, err := repo.DirMeta(private.Meta)
	if err != nil || meta.UID != 1000 || meta.GID != 100 || meta.Mode != ostree.ModeDir|0o2750 {
		t.Errorf("%+v, %v", meta, err)
	}
	if len(meta.Xattrs) != 1 || string(meta.Xattrs[0].Name) != "user.note\x00" || string(meta.Xattrs[0].Value) != "a note" {
		t.Errorf("%q", meta.Xattrs)
	}
	if _, err := repo.ResolveRef("no/such"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := repo.ResolveRef("../../config"); !errors.Is(err, ostree.ErrName) {
		t.Error(err)
	}
	if _, err := repo.ResolveMirrorRef("../..", "config"); !errors.Is(err, ostree.ErrName) {
		t.Error(err)
	}
}

// TestCorruptMetadataIsNoticed changes each metadata object of a commit.
func TestCorruptMetadataIsNoticed(t *testing.T) {
	golden, commit := goldenApp(t)
	var names []ostree.ObjectName
	if err := golden.Walk(t.Context(), commit, func(n ostree.ObjectName) error {
		names = append(names, n)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	all := fstest.MapFS{}
	config, err := fs.ReadFile(golden.FS(), "config")
	if err != nil {
		t.Fatal(err)
	}
	all["config"] = &fstest.MapFile{Data: config}
	for _, n := range names {
		data, err := fs.ReadFile(golden.FS(), n.Path())
		if err != nil {
			t.Fatal(err)
		}
		all[n.Path()] = &fstest.MapFile{Data: data}
	}
	repo, err := ostree.OpenRepo(all)
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(ostree.ObjectName) error { return nil }
	for _, n := range names {
		if n.Type == ostree.TypeFile {
			continue
		}
		file := all[n.Path()]
		delete(all, n.Path())
		var missing *ostree.ObjectError
		if err := repo.Walk(t.Context(), commit, nothing); !errors.As(err, &missing) || missing.Name != n || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is missing: %v", n, err)
		}
		broken := bytes.Clone(file.Data)
		broken[len(broken)/2] ^= 1
		all[n.Path()] = &fstest.MapFile{Data: broken}
		var mismatch *ostree.MismatchError
		if err := repo.Walk(t.Context(), commit, nothing); !errors.As(err, &mismatch) || mismatch.Name != n {
			t.Errorf("%s is changed: %v", n, err)
		}
		all[n.Path()] = file
	}
}
