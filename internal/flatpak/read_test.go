package flatpak

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

const readRef = "app/org.example.App/x86_64/stable"

// makeCommit writes a commit with files, of which those that begin with "->" are
// symlinks, and returns its checksum.
func makeCommit(t *testing.T, sink dirSink, metadata gvariant.Dict, files map[string]string) ostree.Checksum {
	t.Helper()
	tree := &ostree.Tree{}
	for path, content := range files {
		var sum ostree.Checksum
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			sum, err = ostree.WriteSymlink(sink, target)
		} else {
			sum, err = ostree.WriteBytes(sink, []byte(content), false)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.SetFile(path, sum); err != nil {
			t.Fatal(err)
		}
	}
	root, meta, err := tree.Write(sink)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := ostree.WriteCommit(sink, &ostree.Commit{Metadata: metadata, Subject: "s", Timestamp: 77, Tree: root, TreeMeta: meta})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

const goodXML = `<components><component><id>org.example.App</id></component></components>`

const keyFile = "[Application]\nname=org.example.App\nruntime=org.example.Platform/x86_64/1\n"

func xmlFile(t *testing.T, text string) string {
	t.Helper()
	data, err := io.ReadAll(gzipped(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const xmlPath = appInfoDir + "/xmls/org.example.App.xml.gz"

func TestReadCommitInfo(t *testing.T) {
	sink := dirSink(t.TempDir())
	sources := gvariant.ArrayBuilder{Elem: "(ayttays)"}
	for i := range 2 {
		sources.AppendTuple(gvariant.Bytes([]byte("name\x00")), gvariant.Uint64BE(1000+uint64(i)), gvariant.Uint64BE(5),
			gvariant.Bytes(make([]byte, 32)), gvariant.String("https://example"))
	}
	metadata := gvariant.NewDict(
		gvariant.Entry{Key: "xa.metadata", Value: gvariant.String(keyFile)},
		gvariant.Entry{Key: "xa.installed-size", Value: gvariant.Uint64BE(512)},
		gvariant.Entry{Key: "xa.download-size", Value: gvariant.Uint64BE(300)},
		gvariant.Entry{Key: "xa.token-type", Value: gvariant.Int32(0)},
		gvariant.Entry{Key: "xa.subsets", Value: gvariant.Strings([]string{"floss"})},
		gvariant.Entry{Key: "xa.extra-data-sources", Value: sources.Value()},
		gvariant.Entry{Key: "ostree.endoflife", Value: gvariant.String("over")},
		gvariant.Entry{Key: "ostree.endoflife-rebase", Value: gvariant.String("app/a.b.c/x86_64/stable")},
	)
	checksum := makeCommit(t, sink, metadata, map[string]string{
		"metadata": keyFile,
		xmlPath:    xmlFile(t, goodXML),
		appInfoDir + "/icons/flatpak/64x64/org.example.App.png":      "icon",
		appInfoDir + "/icons/flatpak/128x128/org.example.Other.png":  "icon of another",
		appInfoDir + "/icons/flatpak/128x128/org.example.App.png/no": "a directory",
	})
	repo := sink.repo(t)
	got, err := ReadCommitInfo(repo, readRef, checksum)
	if err != nil {
		t.Fatal(err)
	}
	commit, data, err := repo.CommitData(checksum)
	if err != nil {
		t.Fatal(err)
	}
	icon, err := repo.Lookup(checksum, appInfoDir+"/icons/flatpak/64x64/org.example.App.png")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := repo.StoredSize(ostree.ObjectName{Checksum: icon.File, Type: ostree.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	want := CommitInfo{
		Ref: readRef, Checksum: checksum, Tree: commit.Tree, TreeMeta: commit.TreeMeta, CommitSize: uint64(len(data)), Timestamp: 77,
		InstalledSize: 522, DownloadSize: 2301, Metadata: keyFile, EndOfLife: "over", EndOfLifeRebase: "app/a.b.c/x86_64/stable",
		HasTokenType: true, Subsets: []string{"floss"}, ExtraDataCount: 2, ExtraDataSize: 2001,
		Components: []byte(`<component><id>org.example.App</id>  <bundle type="flatpak" runtime="org.example.Platform/x86_64/1">` + readRef +
			"</bundle>\n  </component>"),
		Icons: []Icon{{Icon64, "org.example.App.png", icon.File, 4, uint64(stored)}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadCommitInfoWithoutMetadata(t *testing.T) {
	sink := dirSink(t.TempDir())
	checksum := makeCommit(t, sink, gvariant.Dict{}, map[string]string{
		"metadata": keyFile, "files/a": strings.Repeat("x", 513), "files/sub/b": strings.Repeat("x", 513), "files/link": "->a",
	})
	info, err := ReadCommitInfo(sink.repo(t), readRef, checksum)
	if err != nil {
		t.Fatal(err)
	}
	if info.Metadata != keyFile || info.InstalledSize != 2*1024+512 || info.DownloadSize == 0 || info.HasTokenType {
		t.Errorf("info %+v", info)
	}
	other, err := ReadCommitInfo(sink.repo(t), "ostree-metadata", checksum)
	if err != nil || other.InstalledSize != 0 || other.Timestamp != 77 {
		t.Errorf("a ref that is not flatpak's: %+v, %v", other, err)
	}
}

// TestCatalogueProblems shows that what is wrong with an application's catalogue
// data is told and does not stop anything.
func TestCatalogueProblems(t *testing.T) {
	for name, test := range map[string]struct {
		files   map[string]string
		problem string
	}{
		"none":         {map[string]string{"metadata": keyFile}, ""},
		"good":         {map[string]string{"metadata": keyFile, xmlPath: xmlFile(t, goodXML)}, ""},
		"bad XML":      {map[string]string{"metadata": keyFile, xmlPath: xmlFile(t, "<components><component>")}, "not closed"},
		"not gzip":     {map[string]string{"metadata": keyFile, xmlPath: goodXML}, "gzip"},
		"symlink":      {map[string]string{"metadata": keyFile, xmlPath: "->/etc/passwd"}, "symlink"},
		"directory":    {map[string]string{"metadata": keyFile, xmlPath + "/x": "x"}, "directory"},
		"bad metadata": {map[string]string{"metadata": "junk", xmlPath: xmlFile(t, goodXML)}, "metadata"},
		"other id":     {map[string]string{"metadata": keyFile, xmlPath: xmlFile(t, strings.ReplaceAll(goodXML, "App", "Bpp"))}, "no component"},
	} {
		sink := dirSink(t.TempDir())
		checksum := makeCommit(t, sink, gvariant.Dict{}, test.files)
		info, err := ReadCommitInfo(sink.repo(t), readRef, checksum)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if (test.problem == "") != (info.CatalogueProblem == "") || !strings.Contains(info.CatalogueProblem, test.problem) {
			t.Errorf("%s: problem %q, want %q", name, info.CatalogueProblem, test.problem)
		}
		var index Index
		index.Update([]CommitInfo{info}, nil)
		if commits, err := index.BuildAppstream(&countSink{}, AppstreamOptions{}); err != nil || len(commits) != 2 {
			t.Errorf("%s: %d commits, %v", name, len(commits), err)
		}
	}
}

// TestReadCommitInfoMissing removes each object of a commit in turn: that must be
// an error, never an application without catalogue data.
func TestReadCommitInfoMissing(t *testing.T) {
	sink := dirSink(t.TempDir())
	checksum := makeCommit(t, sink, gvariant.NewDict(gvariant.Entry{Key: "xa.metadata", Value: gvariant.String(keyFile)}), map[string]string{
		xmlPath: xmlFile(t, goodXML), appInfoDir + "/icons/flatpak/64x64/org.example.App.png": "icon",
	})
	repo := sink.repo(t)
	if _, err := ReadCommitInfo(repo, readRef, checksum); err != nil {
		t.Fatal(err)
	}
	removed := 0
	err := repo.Walk(t.Context(), checksum, func(name ostree.ObjectName) error {
		if name.Type == ostree.TypeDirMeta {
			return nil // not needed
		}
		path := filepath.Join(string(sink), name.Path())
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, damaged := range [][]byte{nil, data[:len(data)/2]} {
			if err := os.Remove(path); err != nil {
				return err
			}
			if damaged != nil {
				if err := sink.write(name.Path(), damaged); err != nil {
					return err
				}
			}
			info, err := ReadCommitInfo(repo, readRef, checksum)
			var mismatch *ostree.MismatchError
			var object *ostree.ObjectError
			if !errors.As(err, &object) && !errors.As(err, &mismatch) {
				t.Errorf("with %s damaged or absent: %v, problem %q", name, err, info.CatalogueProblem)
			}
			if err := sink.write(name.Path(), data); err != nil {
				return err
			}
		}
		removed++
		return nil
	})
	if err != nil || removed < 8 {
		t.Errorf("%d objects, %v", removed, err)
	}
}

// TestTreeBomb adds up a tree that is small on disk and large when walked.
func TestTreeBomb(t *testing.T) {
	sink := dirSink(t.TempDir())
	meta := ostree.CanonicalDirMeta()
	var below ostree.Checksum
	for level := range 4 {
		tree := ostree.DirTree{}
		for i := range 100 {
			if level > 0 {
				tree.Dirs = append(tree.Dirs, ostree.TreeDir{Name: fmt.Sprintf("%03d", i), Tree: below, Meta: ostree.ChecksumOf(meta.Encode())})
			}
		}
		data := tree.Encode()
		below = ostree.ChecksumOf(data)
		if err := sink.write((ostree.ObjectName{Checksum: below, Type: ostree.TypeDirTree}).Path(), data); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := treeSizes(sink.repo(t), below, 10_000); !errors.Is(err, ostree.ErrTooLarge) {
		t.Error(err)
	}
}
