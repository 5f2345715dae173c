package kind_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/mirror/kind"
	"freshet/internal/peertest"
)

// flathub is a repository as Flathub has it, by flatpak itself.
type flathub struct {
	t    *testing.T
	g    gpg
	dir  string
	sign []string
}

func newFlathub(t *testing.T) *flathub {
	t.Helper()
	peertest.Require(t, "flatpak", "ostree")
	f := &flathub{t: t, g: newGPG(t), dir: filepath.Join(t.TempDir(), "repo")}
	f.sign = []string{"--gpg-sign=test@example.org", "--gpg-homedir=" + strings.TrimPrefix(f.g.env[0], "GNUPGHOME=")}
	f.run("ostree", "init", "--repo="+f.dir, "--mode=archive-z2")
	return f
}

func (f *flathub) run(program string, args ...string) {
	f.t.Helper()
	home := f.t.TempDir()
	peertest.Run(f.t, "", append(f.g.env, "LANG=C.UTF-8", "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CACHE_HOME="+home), program, args...)
}

// export makes an application with a large file.
func (f *flathub) export(id, arch, version string) {
	f.t.Helper()
	dir := f.t.TempDir()
	write(f.t, filepath.Join(dir, "metadata"), "[Application]\nname="+id+"\nruntime=org.test.Platform/"+arch+"/stable\ncommand=x\n")
	write(f.t, filepath.Join(dir, "files/bin/x"), "#!/bin/sh\necho "+version+"\n")
	write(f.t, filepath.Join(dir, "files/share/"+id+"/deep/er/text"), strings.Repeat(id+version, 1000))
	if err := os.MkdirAll(filepath.Join(dir, "export"), 0o755); err != nil {
		f.t.Fatal(err)
	}
	args := append([]string{"build-export", "--disable-sandbox", "--no-update-summary", "--arch=" + arch}, f.sign...)
	f.run("flatpak", append(args, f.dir, dir, "stable")...)
}

func (f *flathub) update(deltas bool) {
	f.t.Helper()
	args := append([]string{"build-update-repo"}, f.sign...)
	if deltas {
		args = append(args, "--generate-static-deltas")
	}
	f.run("flatpak", append(args, f.dir)...)
}

// list are the files of the repository, and the names of those that are there.
func (f *flathub) list(c kind.Config, tree kind.Tree, to string) []string {
	f.t.Helper()
	k := newKind(f.t, c)
	repositories, _ := pointers(f.t, k, tree)
	all := files(f.t, k.Files(f.t.Context(), tree, repositories[0], nil))
	last(f.t, all)
	return copied(f.t, all, f.dir, to)
}

// serve returns the URL of folders, of which the first that has a file serves it. Static
// deltas are only in the first.
func serve(t *testing.T, dirs ...string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i, dir := range dirs {
			if _, err := os.Stat(filepath.Join(dir, r.URL.Path)); err == nil && (i == 0 || !strings.Contains(r.URL.Path, "deltas/")) {
				http.ServeFile(w, r, filepath.Join(dir, r.URL.Path))
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// All of a repository: what ostree has after a pull from the copy is sound.
func TestOSTree(t *testing.T) {
	t.Parallel()
	f := newFlathub(t)
	f.export("org.test.One", "x86_64", "1")
	f.update(true)
	f.export("org.test.One", "x86_64", "2")
	f.export("org.test.Two", "aarch64", "1")
	f.export("org.test.Three", "x86_64", "1")
	f.update(true)
	tree := folder(f.dir)
	prefetched, last := 0, 0
	tree.Prefetch = func(_ context.Context, files []kind.File) error {
		prefetched, last = prefetched+1, len(files)
		return nil
	}

	to := t.TempDir()
	got := f.list(kind.Config{Format: kind.OSTree}, tree, to)
	if prefetched < 4 || prefetched > 12 || last == 0 {
		t.Errorf("%d calls for files ahead, the last of %d", prefetched, last)
	}
	text := strings.Join(got, " ")
	for _, part := range []string{"summary.idx", "summary.sig", "summaries/", ".idx.sig", "deltas/", "delta-indexes/", "superblock", ".commitmeta", "refs/heads/app/org.test.Two/aarch64/stable", "config"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is missing in %s", part, text)
		}
	}
	if err := os.MkdirAll(filepath.Join(to, "refs/remotes"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.run("ostree", "fsck", "--repo="+to)
	clone := filepath.Join(t.TempDir(), "clone")
	f.run("ostree", "init", "--repo="+clone, "--mode=archive-z2")
	f.run("ostree", "remote", "add", "--repo="+clone, "--no-gpg-verify", "x", serve(t, to))
	f.run("ostree", "pull", "--repo="+clone, "--mirror", "x")
	f.run("ostree", "fsck", "--repo="+clone)

	// Some refs: nothing that only others need.
	to = t.TempDir()
	some := f.list(kind.Config{Format: kind.OSTree, Refs: []string{"app/*", "appstream*"}, Architectures: []string{"amd64"}, Exclude: []string{"*Three*"}}, tree, to)
	text = strings.Join(some, " ")
	if !strings.Contains(text, "refs/heads/app/org.test.One/x86_64/stable") || strings.Contains(text, "org.test.Two") || strings.Contains(text, "org.test.Three") || len(some) >= len(got) {
		t.Errorf("%d of %d files: %v", len(some), len(got), some)
	}
	clone = filepath.Join(t.TempDir(), "clone")
	f.run("ostree", "init", "--repo="+clone, "--mode=archive-z2")
	f.run("ostree", "remote", "add", "--repo="+clone, "--no-gpg-verify", "x", serve(t, to))
	f.run("ostree", "pull", "--repo="+clone, "--mirror", "x", "app/org.test.One/x86_64/stable")
	f.run("ostree", "fsck", "--repo="+clone)

	// Versions.
	k := newKind(t, kind.Config{Format: kind.OSTree})
	list, _ := pointers(t, k, tree)
	v := signed(t, kind.Config{Format: kind.OSTree}, f.g, tree, list[0], "likely")
	if v.MarkOf != "summary" || v.Mark < 1700000000 || v.Name == "" {
		t.Errorf("%+v", v)
	}
	checkRollback(t, k, tree, list[0])
	if names, complete := k.Probe(list); strings.Join(names, " ") != "summary summary.idx" || !complete {
		t.Error(names, complete)
	}

	// A subsummary of another publish, and an object that lies.
	for _, end := range []string{".gz", ".dirtree"} {
		var found []string
		for _, name := range got {
			if strings.HasSuffix(name, end) {
				found = append(found, filepath.Join(f.dir, name))
			}
		}
		whole, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(found[len(found)-1])
		if err != nil {
			t.Fatal(err)
		}
		write(t, found[0], string(other))
		if got := reason(t, k.Files(t.Context(), tree, list[0], nil)); got != "inconsistent" {
			t.Errorf("%s: %q", end, got)
		}
		write(t, found[0], string(whole[:len(whole)/2]))
		if got := reason(t, k.Files(t.Context(), tree, list[0], nil)); got != "inconsistent" {
			t.Errorf("half of %s: %q", end, got)
		}
		if err := os.Remove(found[0]); err != nil {
			t.Fatal(err)
		}
		if got := reason(t, k.Files(t.Context(), tree, list[0], nil)); got != "inconsistent" {
			t.Errorf("%s is gone: %q", end, got)
		}
		write(t, found[0], string(whole))
	}
}

// A hot set has the catalogues, and of the rest what is most asked for.
func TestHotSet(t *testing.T) {
	t.Parallel()
	f := newFlathub(t)
	for _, id := range []string{"org.test.One", "org.test.Two", "org.test.Three"} {
		f.export(id, "x86_64", "1")
	}
	f.update(true)
	f.export("org.test.Bare", "x86_64", "1")
	f.update(false)
	tree := folder(f.dir)
	all := f.list(kind.Config{Format: kind.OSTree}, tree, t.TempDir())

	tree.Popular = []string{"app/org.test.Three/x86_64/stable", "app/org.test.Bare/x86_64/stable", "app/org.test.Three/x86_64/stable", "app/org.gone/x86_64/stable", "app/org.test.One/x86_64/stable"}
	sizes := make(map[int64]int)
	for _, budget := range []int64{1, 1_000_000_000} {
		to := t.TempDir()
		got := f.list(kind.Config{Format: kind.OSTree, HotSet: budget}, tree, to)
		sizes[budget] = len(got)
		text := strings.Join(got, " ")
		for _, part := range []string{"summary.idx", "summary.sig", "summaries/", "refs/heads/app/org.test.Two/x86_64/stable"} {
			if !strings.Contains(text, part) {
				t.Errorf("%d bytes: %s is missing", budget, part)
			}
		}
		if strings.Contains(text, "superblock") != (budget > 1) {
			t.Errorf("%d bytes: %v", budget, got)
		}
		if budget == 1 {
			continue
		}
		// Clients install from it what it has. They may ask for single objects while
		// they still read a delta; the edge in front of it gets these at the upstream.
		clone := filepath.Join(t.TempDir(), "clone")
		f.run("ostree", "init", "--repo="+clone, "--mode=bare-user-only")
		f.run("ostree", "remote", "add", "--repo="+clone, "--no-gpg-verify", "x", serve(t, to, f.dir))
		for _, name := range []string{"app/org.test.Three/x86_64/stable", "app/org.test.Bare/x86_64/stable", "app/org.test.One/x86_64/stable"} {
			f.run("ostree", "pull", "--repo="+clone, "x", name)
		}
	}
	if !slices.IsSorted([]int{sizes[1], sizes[1_000_000_000], len(all) - 1}) {
		t.Errorf("%v of %d", sizes, len(all))
	}
}

// What is asked for is counted by ref, over publishes and restarts, and fades.
func TestPopularity(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree")
	dir := filepath.Join(t.TempDir(), "repo")
	content := t.TempDir()
	run := func(args ...string) string {
		return strings.TrimSpace(string(peertest.Run(t, "", nil, "ostree", append([]string{"--repo=" + dir}, args...)...)))
	}
	run("init", "--mode=archive-z2")
	commit := func(ref string) string {
		write(t, filepath.Join(content, "x"), ref)
		return run("commit", "-b", ref, "--tree=dir="+content)
	}
	object := func(c string) string { return "objects/" + c[:2] + "/" + c[2:] + ".commit" }
	one, two := commit("one"), commit("two")
	commit("three")
	run("static-delta", "generate", "--empty", "two")
	run("summary", "-u")
	deltas, err := filepath.Glob(filepath.Join(dir, "deltas/*/*/superblock"))
	if err != nil || len(deltas) != 1 {
		t.Fatal(deltas, err)
	}
	superblock, err := filepath.Rel(dir, deltas[0])
	if err != nil {
		t.Fatal(err)
	}

	tree := folder(dir)
	list, _ := pointers(t, newKind(t, kind.Config{Format: kind.OSTree}), tree)
	p := new(kind.Popularity)
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	learn := func() {
		t.Helper()
		if err := p.Learn(t.Context(), tree, list[0], now); err != nil {
			t.Fatal(err)
		}
	}
	p.Asked(object(one)) // of nobody's
	learn()
	for range 3 {
		p.Asked(object(one))
	}
	for range 2 {
		p.Asked(superblock)
		p.Asked(object(two))
	}
	for _, name := range []string{"summary", object(two) + "meta", "x.commit", "deltas/x/superblock", strings.Replace(superblock, "superblock", "0", 1), object(strings.Repeat("0", 64))} {
		p.Asked(name)
	}
	if got := strings.Join(p.Ranked(), " "); got != "two one" {
		t.Error(got)
	}
	// After a restart, and a publish.
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	p = new(kind.Popularity)
	if err := json.Unmarshal(data, p); err != nil {
		t.Fatal(err)
	}
	one = commit("one")
	run("refs", "--delete", "three")
	run("summary", "-u")
	now = now.AddDate(0, 0, 28) // two has been asked for four times, which is a quarter now
	learn()
	p.Asked(object(one))
	if got := strings.Join(p.Ranked(), " "); got != "one two" {
		t.Error(got)
	}
	run("refs", "--delete", "two")
	run("summary", "-u")
	learn()
	if got := strings.Join(p.Ranked(), " "); got != "one" {
		t.Error(got)
	}
	for _, text := range []string{`{"counts":{"a":-1}}`, `[`, `{"counts":{"a":1e999}}`} {
		if err := json.Unmarshal([]byte(text), p); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
