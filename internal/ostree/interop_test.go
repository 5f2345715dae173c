package ostree_test

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
	"freshet/internal/peertest"
)

// TestToolsOfToday is [TestGolden] with the tools that are installed here.
func TestToolsOfToday(t *testing.T) {
	peertest.Require(t, "ostree", "flatpak", "gpg")
	dir := filepath.Join(t.TempDir(), "repo")
	peertest.Run(t, "", nil, "sh", "testdata/regenerate.sh", dir)
	checkRepo(t, os.DirFS(dir))

	repo, err := ostree.OpenRepo(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	refs, err := repo.ListRefs()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		out := peertest.Run(t, "", nil, "ostree", "rev-parse", "--repo="+dir, ref)
		if got := strings.TrimSpace(string(out)); got != refs[ref].String() {
			t.Errorf("%s is at %s, and for ostree at %s", ref, refs[ref], got)
		}
		if _, err := reachable(t, repo, refs[ref]); err != nil {
			t.Error(err)
		}
	}
	listed := strings.Fields(string(peertest.Run(t, "", nil, "ostree", "refs", "--repo="+dir)))
	slices.Sort(listed)
	if diff := cmp.Diff(listed, slices.Sorted(maps.Keys(refs))); diff != "" {
		t.Error("refs:", diff)
	}
}

// reachable returns the objects of a commit, each of which must be there.
func reachable(t *testing.T, repo *ostree.Repo, commit ostree.Checksum) (map[ostree.ObjectName]bool, error) {
	t.Helper()
	names := map[ostree.ObjectName]bool{}
	err := repo.Walk(t.Context(), commit, func(n ostree.ObjectName) error {
		if names[n] {
			t.Errorf("%s is visited twice", n)
		}
		names[n] = true
		f, err := repo.Open(n)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = ostree.VerifyObject(n, f)
		return err
	})
	return names, err
}

// TestOstreeReadsOurTrees has the real ostree check and read what we wrote.
func TestOstreeReadsOurTrees(t *testing.T) {
	peertest.Require(t, "ostree")
	const ref = "app/org.example.App/x86_64/stable"
	r := ostreetest.New(t, "org.example.Repo")
	files := map[string]string{
		"metadata":               "[Application]\nname=org.example.App\n",
		"files/bin/hello":        "#!/bin/sh\necho hello\n",
		"files/bin/hi":           "-> hello",
		"files/empty":            "",
		"files/large":            strings.Repeat("all work and no play ", 100_000),
		"files/share/ümläut":     "names are bytes",
		"files/share/a":          "1",
		"files/share/a.b":        "2", // sorted by bytes: "a" < "a.b" < "a0"
		"files/share/a0":         "3",
		"files/deep/1/2/3/4/5/6": "deep",
	}
	// More entries than one byte, and than two bytes, can address.
	for i := range 1500 {
		files["files/many/"+strings.Repeat("n", 20)+string(rune('a'+i%26))+strings.Repeat("i", i/26)] = "same"
	}
	first := r.Commit(ref, 1_700_000_000, files)
	fsck(t, r.Dir)

	out := filepath.Join(t.TempDir(), "checkout")
	peertest.Run(t, "", nil, "ostree", "checkout", "--repo="+r.Dir, "-U", ref, out)
	got := map[string]string{}
	err := filepath.WalkDir(out, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(out, path)
		if err != nil {
			return err
		}
		if e.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			got[rel] = "-> " + target
			return err
		}
		data, err := os.ReadFile(path)
		got[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, got); diff != "" {
		t.Error("checkout:", diff)
	}
	listing := string(peertest.Run(t, "", nil, "ostree", "ls", "--repo="+r.Dir, ref, "/files/bin"))
	want := "d00755 0 0      0 /files/bin\n" +
		"-00755 0 0     21 /files/bin/hello\n" +
		"l00777 0 0      0 /files/bin/hi -> hello\n"
	if listing != want {
		t.Errorf("ls:\n%s\nwant:\n%s", listing, want)
	}

	// Change one path of the commit: all else is taken over unread.
	repo := r.Open()
	c, err := repo.Commit(first)
	if err != nil {
		t.Fatal(err)
	}
	reads := &countingTrees{Repo: repo}
	tree := ostree.LoadTree(reads, c.Tree, c.TreeMeta)
	file, err := ostree.WriteBytes(r, []byte("changed"), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		tree.SetFile("files/share/a", file),
		tree.SetFile("files/deep/1", file),
		tree.Remove("files/many"),
		tree.Remove("files/nothing/here"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	next := *c
	next.Parent = first
	next.Timestamp++
	if next.Tree, next.TreeMeta, err = tree.Write(r); err != nil {
		t.Fatal(err)
	}
	if reads.n != 4 { // root, files, share, deep
		t.Errorf("%d dirtrees were read", reads.n)
	}
	second, err := ostree.WriteCommit(r, &next)
	if err != nil {
		t.Fatal(err)
	}
	r.SetRef(ref, second)
	fsck(t, r.Dir)
	diff := string(peertest.Run(t, "", nil, "ostree", "diff", "--repo="+r.Dir, ref))
	if !strings.Contains(diff, "M    /files/share/a\n") || !strings.Contains(diff, "D    /files/many") || strings.Contains(diff, "ümläut") {
		t.Errorf("diff:\n%s", diff)
	}
	if content, err := repo.ReadPath(second, "files/deep/1", 100); err != nil || string(content) != "changed" {
		t.Errorf("files/deep/1: %q, %v", content, err)
	}

	// A pull takes exactly what Walk names.
	client := filepath.Join(t.TempDir(), "client")
	peertest.Run(t, "", nil, "ostree", "init", "--repo="+client, "--mode=archive-z2")
	peertest.Run(t, "", nil, "ostree", "pull-local", "--repo="+client, "--untrusted", r.Dir, ref)
	pulled, err := ostree.OpenRepo(os.DirFS(client))
	if err != nil {
		t.Fatal(err)
	}
	names, err := reachable(t, repo, second)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	err = fs.WalkDir(pulled.FS(), "objects", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		n, err := ostree.ParseObjectPath(path)
		if err == nil && !names[n] {
			t.Errorf("ostree pulled %s, which Walk did not name", n)
		}
		count++
		return err
	})
	if err != nil || count != len(names) {
		t.Errorf("ostree pulled %d objects of the %d that Walk named: %v", count, len(names), err)
	}
}

// TestOstreeReadsOurSummary has ostree list what a summary of ours says.
func TestOstreeReadsOurSummary(t *testing.T) {
	peertest.Require(t, "ostree")
	r := ostreetest.New(t, "")
	sum := r.Commit("test/ref", 1_700_000_000, map[string]string{"a": "b"})
	c, data, err := r.Open().CommitData(sum)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.Encode(), data) {
		t.Error("the commit became another one")
	}
	s := ostree.Summary{Refs: []ostree.SummaryRef{{Ref: "test/ref", CommitSize: uint64(len(data)), Commit: sum}}}
	r.WriteFile("summary", s.Encode())
	out := string(peertest.Run(t, "", nil, "ostree", "summary", "--view", "--repo="+r.Dir))
	if !strings.Contains(out, "* test/ref\n") || !strings.Contains(out, sum.String()) {
		t.Errorf("ostree sees:\n%s", out)
	}
}

func fsck(t *testing.T, dir string) {
	t.Helper()
	peertest.Run(t, "", nil, "ostree", "fsck", "--repo="+dir)
}

// countingTrees counts the dirtrees that are read.
type countingTrees struct {
	*ostree.Repo
	n int
}

func (c *countingTrees) DirTree(sum ostree.Checksum) (*ostree.DirTree, error) {
	c.n++
	return c.Repo.DirTree(sum)
}

func TestWalkEndsEarly(t *testing.T) {
	repo, commit := goldenApp(t)
	seen := 0
	if err := repo.Walk(t.Context(), commit, func(ostree.ObjectName) error { seen++; return fs.SkipAll }); err != nil || seen != 1 {
		t.Errorf("SkipAll: %d visited, %v", seen, err)
	}
	var kinds []string
	err := repo.Walk(t.Context(), commit, func(n ostree.ObjectName) error {
		kinds = append(kinds, n.Type.String())
		if n.Type == ostree.TypeDirTree {
			return fs.SkipDir
		}
		return nil
	})
	if want := []string{"commit", "dirmeta", "dirtree"}; err != nil || !slices.Equal(kinds, want) {
		t.Errorf("SkipDir: visited %v, %v", kinds, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := repo.Walk(ctx, commit, func(ostree.ObjectName) error { return nil }); err == nil {
		t.Error("a walk does not end with its context")
	}
}

func goldenApp(tb testing.TB) (*ostree.Repo, ostree.Checksum) {
	tb.Helper()
	repo, err := ostree.OpenRepo(goldenRepo())
	if err != nil {
		tb.Fatal(err)
	}
	commit, err := repo.ResolveRef("app/org.example.App/x86_64/stable")
	if err != nil {
		tb.Fatal(err)
	}
	return repo, commit
}
