package flatpak

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// peerRepo is a repository that the real flatpak makes.
type peerRepo struct {
	t    *testing.T
	dir  string
	sign []string // arguments by which exports are signed
}

func newPeerRepo(t *testing.T) *peerRepo {
	t.Helper()
	peertest.Require(t, "flatpak", "ostree")
	r := &peerRepo{t: t, dir: filepath.Join(t.TempDir(), "repo")}
	r.run("ostree", "init", "--repo="+r.dir, "--mode=archive-z2", "--collection-id=org.test.Stable")
	return r
}

func (r *peerRepo) run(program string, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "LANG=C.UTF-8", "HOME="+r.t.TempDir(), "XDG_DATA_HOME="+r.t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// write makes files below a new folder; the content "/" makes a folder.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if content == "/" {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const testTime = "2026-01-02T03:04:05Z"

func (r *peerRepo) exportRuntime(id string) {
	r.t.Helper()
	root := writeFiles(r.t, map[string]string{
		"metadata":     fmt.Sprintf("[Runtime]\nname=%s\nruntime=%[1]s/x86_64/stable\nsdk=org.test.Sdk/x86_64/stable\n", id),
		"files":        "/",
		"usr/bin/tool": "runtime tool",
	})
	args := append([]string{"build-export", "--runtime", "--disable-sandbox", "--no-update-summary", "--timestamp=" + testTime}, r.sign...)
	r.run("flatpak", append(args, r.dir, root, "stable")...)
}

// exportApp exports an application with catalogue data whose text is version.
func (r *peerRepo) exportApp(id, arch, version string, extra ...string) {
	r.t.Helper()
	more := ""
	if strings.Contains(id, "Tagged") {
		more = "tags=proprietary;test;\n"
	}
	if strings.Contains(id, "Ended") {
		more = "\n[Extra Data]\nname=blob\nuri=https://test.example/blob\nsize=123456\ninstalled-size=7890\nchecksum=" + strings.Repeat("0f", 32) + "\n"
	}
	catalogue, err := io.ReadAll(gzipped(r.t, fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<components version="0.8" origin="flatpak">
  <component type="desktop-application">
    <id>%s</id>
    <name>Name of %[1]s &amp; more</name>
    <name xml:lang="de">Größe</name>
    <summary>version %[2]s 'with' &quot;quotes&quot;</summary>
    <description><p>Text <em>inline</em>.</p></description>
    <icon type="cached" height="64" width="64">%[1]s.png</icon>
    <bundle type="flatpak">app/old/x86_64/stable</bundle>
  </component>
</components>
`, id, version)))
	if err != nil {
		r.t.Fatal(err)
	}
	info := "files/share/app-info/"
	root := writeFiles(r.t, map[string]string{
		"metadata": fmt.Sprintf("[Application]\nname=%s\nruntime=org.test.Platform/%s/stable\nsdk=org.test.Sdk/%[2]s/stable\ncommand=hello\n%s",
			id, arch, more),
		"files/bin/hello":               "#!/bin/sh\necho " + version + "\n",
		"export":                        "/",
		info + "xmls/" + id + ".xml.gz": string(catalogue),
		info + "icons/flatpak/64x64/" + id + ".png":   "small icon of " + id,
		info + "icons/flatpak/128x128/" + id + ".png": strings.Repeat("large icon of "+id, 90),
	})
	args := []string{"build-export", "--disable-sandbox", "--no-update-summary", "--arch=" + arch, "--timestamp=" + testTime}
	args = append(append(args, r.sign...), extra...)
	r.run("flatpak", append(args, r.dir, root, "stable")...)
}

func (r *peerRepo) update() {
	r.t.Helper()
	r.run("flatpak", "build-update-repo", "--title=Test", "--comment=a comment", "--description=text", "--homepage=https://test.example",
		"--icon=https://test.example/icon.png", "--default-branch=stable", r.dir)
}

// fill makes a repository with most of what a summary can hold.
func (r *peerRepo) fill() {
	r.t.Helper()
	r.exportRuntime("org.test.Platform")
	r.exportApp("org.test.Hello", "x86_64", "1")
	r.exportApp("org.test.Hello", "i386", "1")
	r.exportApp("org.test.OnlyOld", "i386", "1")
	r.exportApp("org.test.Tagged", "x86_64", "1", "--subset=floss", "--subset=verified")
	r.exportApp("org.test.Ended", "x86_64", "1", "--end-of-life=no longer & more", "--end-of-life-rebase=org.test.Hello", "--token-type=2", "--subset=floss")
}

func (r *peerRepo) open() *ostree.Repo {
	r.t.Helper()
	repo, err := ostree.OpenRepo(os.DirFS(r.dir))
	if err != nil {
		r.t.Fatal(err)
	}
	return repo
}

// infos reads every ref of which keep says so.
func (r *peerRepo) infos(keep func(ref string) bool) []CommitInfo {
	r.t.Helper()
	repo := r.open()
	refs, err := repo.ListRefs()
	if err != nil {
		r.t.Fatal(err)
	}
	var infos []CommitInfo
	for ref, checksum := range refs {
		if !keep(ref) {
			continue
		}
		info, err := ReadCommitInfo(repo, ref, checksum)
		if err != nil {
			r.t.Fatal(err)
		}
		if info.CatalogueProblem != "" {
			r.t.Errorf("%s: %s", ref, info.CatalogueProblem)
		}
		decoded, err := DecodeCommitInfo(info.Encode())
		if err != nil {
			r.t.Fatal(err)
		}
		if diff := cmp.Diff(info, decoded); diff != "" {
			r.t.Errorf("%s: serialised form differs: %s", ref, diff)
		}
		infos = append(infos, decoded)
	}
	return infos
}

func everyRef(string) bool { return true }

func noAppstream(ref string) bool { return !strings.HasPrefix(ref, "appstream") }

func (r *peerRepo) read(path string) []byte {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, path))
	if err != nil {
		r.t.Fatal(err)
	}
	return data
}

// options are those that make a Build say what update says.
func (r *peerRepo) options() BuildOptions {
	r.t.Helper()
	index, err := ostree.ParseSummaryIndex(r.read("summary.idx"))
	if err != nil {
		r.t.Fatal(err)
	}
	modified, _ := index.Metadata.Get("ostree.summary.last-modified")
	return BuildOptions{Now: modified.Uint64BE(), Repo: testRepoInfo()}
}

func testRepoInfo() RepoInfo {
	return RepoInfo{
		Title: "Test", Comment: "a comment", Description: "text", Homepage: "https://test.example",
		Icon: "https://test.example/icon.png", DefaultBranch: "stable", CollectionID: "org.test.Stable",
	}
}

func gunzip(tb testing.TB, data []byte) []byte {
	tb.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	out, err := io.ReadAll(zr)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func (f *Files) find(path string) *File {
	for i := range f.Write {
		if f.Write[i].Path == path {
			return &f.Write[i]
		}
	}
	return nil
}

// dirSink is a repository folder as an ostree.Sink.
type dirSink string

func (d dirSink) Has(name ostree.ObjectName) (bool, error) {
	_, err := os.Stat(filepath.Join(string(d), name.Path()))
	return err == nil, nil
}

func (d dirSink) Put(name ostree.ObjectName, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if _, err := ostree.VerifyObject(name, bytes.NewReader(b.Bytes())); err != nil {
		return err
	}
	return d.write(name.Path(), b.Bytes())
}

func (d dirSink) write(path string, data []byte) error {
	path = filepath.Join(string(d), path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// TestSummariesAreFlatpaks makes the summaries of a repository twice, with
// flatpak and by ourselves, and compares the bytes; then again after a change, so
// that there is a history.
func TestSummariesAreFlatpaks(t *testing.T) {
	r := newPeerRepo(t)
	r.fill()
	r.update()
	var index Index
	index.Update(r.infos(everyRef), nil)
	files := r.compareSummaries(&index)
	index.Commit(files)
	r.compareSummaries(&index) // nothing new

	old := map[ostree.Checksum][]byte{}
	for _, line := range index.subsummaries {
		old[line.current.digest] = line.current.rest(0)
	}
	var restarted Index
	if err := restarted.LoadHistory(os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	r.exportApp("org.test.Hello", "x86_64", "2")
	r.exportApp("org.test.Another", "x86_64", "1", "--subset=floss")
	r.run("ostree", "--repo="+r.dir, "refs", "--delete", "app/org.test.OnlyOld/i386/stable")
	r.update()
	index.Update(r.infos(everyRef), []string{"app/org.test.OnlyOld/i386/stable"})
	restarted.Update(r.infos(everyRef), nil)
	files = r.compareSummaries(&index)
	again := r.compareSummaries(&restarted)
	if a, b := paths(files), paths(again); !slices.Equal(a, b) {
		t.Errorf("after a restart other files are written:\n%s\n%s", a, b)
	}
	deltas := 0
	for _, file := range files.Write {
		rest, ok := strings.CutSuffix(strings.TrimPrefix(file.Path, "summaries/"), ".delta")
		if !ok {
			continue
		}
		deltas++
		from, err := ostree.ParseChecksum(rest[:64])
		if err != nil {
			t.Fatal(err)
		}
		for name, delta := range map[string][]byte{"ours": file.Bytes(), "flatpak's": r.read(file.Path)} {
			made, err := ApplySummaryDelta(old[from], gunzip(t, delta), maxSummary)
			if err != nil || ostree.ChecksumOf(made).String() != rest[65:] {
				t.Errorf("%s delta %s: %v", name, rest, err)
			}
		}
	}
	if deltas == 0 {
		t.Error("no deltas were made")
	}
}

func paths(files *Files) []string {
	var list []string
	for _, file := range files.Write {
		list = append(list, file.Path)
	}
	return list
}

// compareSummaries builds the summaries and compares them with those on disk.
func (r *peerRepo) compareSummaries(index *Index) *Files {
	r.t.Helper()
	files, err := index.Build(r.options())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, file := range files.Write {
		ours, theirs := file.Bytes(), r.read(file.Path)
		switch {
		case strings.HasSuffix(file.Path, ".delta"), strings.HasSuffix(file.Path, ".index"):
		case strings.HasSuffix(file.Path, ".gz"):
			if ours, theirs = gunzip(r.t, ours), gunzip(r.t, theirs); !bytes.Equal(ours, theirs) {
				r.t.Errorf("%s differs", file.Path)
			}
		case file.Path == "summary":
			// flatpak turns a sparse entry around when it takes it from the old summary.
			if ours, theirs = sortedSparse(r.t, ours), sortedSparse(r.t, theirs); !bytes.Equal(ours, theirs) {
				r.t.Errorf("%s differs:\n%q\n%q", file.Path, theirs, ours)
			}
		default:
			if !bytes.Equal(ours, theirs) {
				r.t.Errorf("%s differs:\n%q\n%q", file.Path, theirs, ours)
			}
		}
	}
	return files
}

// sortedSparse encodes a summary again with the entries of xa.sparse-cache sorted.
func sortedSparse(t *testing.T, data []byte) []byte {
	t.Helper()
	summary, err := ostree.ParseSummary(data)
	if err != nil {
		t.Fatal(err)
	}
	if again := summary.Encode(); !bytes.Equal(again, data) {
		t.Errorf("not what it was after reading and writing")
	}
	cache, _ := summary.Metadata.Get("xa.sparse-cache")
	sorted := gvariant.ArrayBuilder{Elem: "{sa{sv}}"}
	for e := range cache.Children() {
		entries, err := gvariant.DictOf(e.Child(1))
		if err != nil {
			t.Fatal(err)
		}
		entries.Sort()
		sorted.AppendTuple(e.Child(0), entries.Value())
	}
	summary.Metadata.Set("xa.sparse-cache", sorted.Value())
	return summary.Encode()
}

// TestAppstreamIsFlatpaks makes the appstream branches of the same applications
// with flatpak and by ourselves.
func TestAppstreamIsFlatpaks(t *testing.T) {
	r := newPeerRepo(t)
	r.fill()
	r.run("flatpak", "build-update-repo", "--no-update-summary", r.dir)
	theirs := map[string]CommitInfo{}
	for _, info := range r.infos(func(ref string) bool { return !noAppstream(ref) }) {
		theirs[info.Ref] = info
	}
	var index Index
	index.Update(r.infos(noAppstream), nil)
	sink := dirSink(t.TempDir())
	commits, err := index.BuildAppstream(sink, AppstreamOptions{
		CollectionID: "org.test.Stable",
		Now:          theirs["appstream2/x86_64"].Timestamp,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(commits) != len(theirs) {
		t.Errorf("%d branches, flatpak made %d", len(commits), len(theirs))
	}
	for _, commit := range commits {
		want, ok := theirs[commit.Info.Ref]
		if !ok {
			t.Errorf("flatpak has no %s", commit.Info.Ref)
			continue
		}
		got := commit.Info
		if strings.HasPrefix(got.Ref, "appstream/") {
			// The bytes of the compressed file are the compressor's, and so are the checksums.
			theirTree, ourTree := r.open(), sink.repo(t)
			a, err := theirTree.ReadPath(want.Checksum, "appstream.xml.gz", maxSummary)
			if err != nil {
				t.Fatal(err)
			}
			b, err := ourTree.ReadPath(got.Checksum, "appstream.xml.gz", maxSummary)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(gunzip(t, a)), string(gunzip(t, b))); diff != "" {
				t.Errorf("%s: -flatpak +ours:\n%s", got.Ref, diff)
			}
			continue
		}
		if got.Tree != want.Tree {
			a, _ := r.open().ReadPath(want.Checksum, "appstream.xml", maxSummary)
			b, _ := sink.repo(t).ReadPath(got.Checksum, "appstream.xml", maxSummary)
			t.Errorf("%s: tree differs; appstream.xml -flatpak +ours:\n%s", got.Ref, cmp.Diff(string(a), string(b)))
			continue
		}
		// flatpak may have begun the commits of several branches in different seconds.
		if got.Timestamp == want.Timestamp && got.Checksum != want.Checksum {
			t.Errorf("%s: commit differs", got.Ref)
		}
		if got.InstalledSize != want.InstalledSize || got.CommitSize != want.CommitSize {
			t.Errorf("%s: sizes %d %d, want %d %d", got.Ref, got.InstalledSize, got.CommitSize, want.InstalledSize, want.CommitSize)
		}
		read, err := ReadCommitInfo(sink.repo(t, r.dir), got.Ref, got.Checksum)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, read); diff != "" {
			t.Errorf("%s: what the builder says of its commit is not what is read of it:\n%s", got.Ref, diff)
		}
	}
	infos := make([]CommitInfo, len(commits))
	for i := range commits {
		infos[i] = commits[i].Info
	}
	index.Update(infos, nil)
	for range 2 {
		again, err := index.BuildAppstream(sink, AppstreamOptions{CollectionID: "org.test.Stable", Now: 1})
		if err != nil || len(again) != 0 {
			t.Errorf("unchanged catalogues made %d commits, %v", len(again), err)
		}
		index.catalogues = nil // as after a restart
	}
}

// repo opens the sink, with a config and, when given, the objects of another
// repository.
func (d dirSink) repo(t *testing.T, others ...string) *ostree.Repo {
	t.Helper()
	if err := d.write("config", []byte("[core]\nrepo_version=1\nmode=archive-z2\n")); err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		cmd := exec.CommandContext(t.Context(), "cp", "-rn", other+"/objects", string(d))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	repo, err := ostree.OpenRepo(os.DirFS(string(d)))
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// TestRewriteIsFlatpaks compares our commits with those of build-commit-from.
func TestRewriteIsFlatpaks(t *testing.T) {
	source := newPeerRepo(t)
	source.exportApp("org.test.Hello", "x86_64", "1", "--subset=old", "--token-type=1")
	source.exportApp("org.test.Ended", "x86_64", "1", "--end-of-life=long ago")
	text := func(s string) *string { return &s }
	number := func(n int32) *int32 { return &n }
	stamp := uint64(1767323045) // testTime + 0
	for name, test := range map[string]struct {
		ref  string
		args []string
		opt  Rewrite
	}{
		"plain": {ref: "app/org.test.Hello/x86_64/stable"},
		"everything": {
			ref: "app/org.test.Hello/x86_64/stable",
			args: []string{
				"--end-of-life=no more", "--end-of-life-rebase=org.test.Hello=org.test.Bye", "--token-type=3",
				"--subset=floss", "--subset=verified", "--extra-collection-id=org.test.Z", "--extra-collection-id=org.test.A",
				"--timestamp=2026-01-02T03:04:05Z",
			},
			opt: Rewrite{
				EndOfLife: text("no more"), EndOfLifeRebase: []Rebase{{"org.test.Hello", "org.test.Bye"}}, TokenType: number(3),
				Subsets: []string{"floss", "verified"}, ExtraCollectionIDs: []string{"org.test.Z", "org.test.A"}, Timestamp: &stamp,
			},
		},
		"removals": {
			ref:  "app/org.test.Ended/x86_64/stable",
			args: []string{"--end-of-life=", "--subset="},
			opt:  Rewrite{EndOfLife: text(""), Subsets: []string{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			target := newPeerRepo(t)
			args := append([]string{"build-commit-from", "--force", "--no-update-summary", "--src-repo=" + source.dir}, test.args...)
			target.run("flatpak", append(args, target.dir, test.ref)...)
			check := func(parent ostree.Checksum) ostree.Checksum {
				t.Helper()
				from, err := source.open().ResolveRef(test.ref)
				if err != nil {
					t.Fatal(err)
				}
				repo := target.open()
				want, err := repo.ResolveRef(test.ref)
				if err != nil {
					t.Fatal(err)
				}
				commit, err := source.open().Commit(from)
				if err != nil {
					t.Fatal(err)
				}
				opt := test.opt
				opt.Ref, opt.From, opt.Parent, opt.CollectionID = test.ref, from, parent, "org.test.Stable"
				if _, opt.DownloadSize, err = TreeSizes(repo, commit.Tree); err != nil {
					t.Fatal(err)
				}
				made, err := RewriteCommit(commit, opt)
				if err != nil {
					t.Fatal(err)
				}
				if got := ostree.ChecksumOf(made.Encode()); got != want {
					theirs, _ := repo.Commit(want)
					t.Errorf("commit differs: -flatpak +ours\n%s", cmp.Diff(dump(theirs), dump(made)))
				}
				if err := CheckBinding(made, test.ref); err != nil {
					t.Error(err)
				}
				metadata, err := repo.ReadPath(want, "metadata", maxMetadataFile)
				if err != nil {
					t.Fatal(err)
				}
				if err := CheckMetadata(made, metadata); err != nil {
					t.Error(err)
				}
				return want
			}
			parent := check(ostree.Checksum{})
			target.run("flatpak", append(args, target.dir, test.ref)...)
			check(parent)
		})
	}
}

func dump(c *ostree.Commit) []string {
	lines := []string{c.Parent.String(), c.Subject, c.Body, fmt.Sprint(c.Timestamp), c.Tree.String(), c.TreeMeta.String()}
	for key, value := range c.Metadata.All() {
		lines = append(lines, fmt.Sprintf("%s %s %q", key, value.Type(), value.Data()))
	}
	return lines
}
