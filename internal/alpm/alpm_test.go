package alpm_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/alpm"
	"freshet/internal/peertest"
)

func database(files ...string) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if strings.HasSuffix(files[i], "/") {
			_ = w.WriteHeader(&tar.Header{Name: files[i], Typeflag: tar.TypeDir, Mode: 0o755})
			continue
		}
		_ = w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))})
		_, _ = w.Write([]byte(files[i+1]))
	}
	_ = w.Close()
	return b.String()
}

func collect(seq iter.Seq2[alpm.Package, error]) (all []alpm.Package, err error) {
	for p, failed := range seq {
		if failed != nil {
			return all, failed
		}
		all = append(all, p)
	}
	return all, nil
}

const sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

var whole = database(
	"hello-1-1/", "",
	"hello-1-1/desc", "%FILENAME%\nhello-1-1-any.pkg.tar.zst\n\n%NAME%\nhello\n\n%CSIZE%\n1234\n\n%SHA256SUM%\n"+strings.ToUpper(sha256)+"\n\n%PGPSIG%\naGFsbG8=\n\n%DEPENDS%\na\nb\n\n",
	"hello-1-1/files", "%FILES%\nusr/\n",
	"./flat-1-1/desc", "%FILENAME%\nflat-1-1-any.pkg.tar",
	"desc", "%FILENAME%\nnot/this\n",
	"a/b/desc", "nor this",
)

func TestPackages(t *testing.T) {
	got, err := collect(alpm.Packages(iotest.OneByteReader(strings.NewReader(whole))))
	want := []alpm.Package{
		{File: "hello-1-1-any.pkg.tar.zst", Size: 1234, SHA256: sha256, Signature: []byte("hallo")},
		{File: "flat-1-1-any.pkg.tar", Size: -1},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if got, err := collect(alpm.Packages(strings.NewReader(database()))); err != nil || len(got) != 0 {
		t.Errorf("without packages: %v, %v", got, err)
	}
	for range alpm.Packages(strings.NewReader(whole)) {
		break // and nothing more is yielded
	}
}

func TestMalformed(t *testing.T) {
	for name, bad := range map[string]string{
		"empty":         "",
		"text":          "404 page not found",
		"cut":           whole[:1100],
		"no name":       database("a/desc", "%NAME%\na\n"),
		"a folder":      database("a/desc", "%FILENAME%\n../a\n"),
		"parent":        database("a/desc", "%FILENAME%\n..\n"),
		"long":          database("a/desc", "%FILENAME%\n"+strings.Repeat("x", 300)+"\n"),
		"two names":     database("a/desc", "%FILENAME%\na\nb\n"),
		"size":          database("a/desc", "%FILENAME%\na\n\n%CSIZE%\n-1\n"),
		"checksum":      database("a/desc", "%FILENAME%\na\n\n%SHA256SUM%\nabc\n"),
		"signature":     database("a/desc", "%FILENAME%\na\n\n%PGPSIG%\n!\n"),
		"huge desc":     database("a/desc", strings.Repeat("x\n", 1<<20)),
		"huge line":     database("a/desc", strings.Repeat("x", 1<<20)),
		"after a good":  database("a/desc", "%FILENAME%\na\n", "b/desc", "x"),
		"a second name": database("a/desc", "%FILENAME%\na\n\n%FILENAME%\nb\n"),
	} {
		if _, err := collect(alpm.Packages(strings.NewReader(bad))); !errors.Is(err, alpm.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("broken disk")
	r := io.MultiReader(strings.NewReader(whole[:700]), iotest.ErrReader(broken))
	if _, err := collect(alpm.Packages(r)); !errors.Is(err, broken) || errors.Is(err, alpm.ErrMalformed) {
		t.Errorf("error of the reader: %v", err)
	}
}

// TestRepoAdd reads what repo-add writes, both databases.
func TestRepoAdd(t *testing.T) {
	peertest.Require(t, "repo-add", "bsdtar")
	dir := t.TempDir()
	info := "pkgname = hello\npkgbase = hello\npkgver = 1:2-1\npkgdesc = x\nbuilddate = 1700000000\npackager = A\nsize = 1\narch = any\ndepend = glibc\n"
	if err := os.WriteFile(filepath.Join(dir, ".PKGINFO"), []byte(info), 0o644); err != nil {
		t.Fatal(err)
	}
	const name = "hello-1:2-1-any.pkg.tar.gz"
	peertest.Run(t, dir, nil, "bsdtar", "-czf", name, ".PKGINFO")
	peertest.Run(t, dir, nil, "repo-add", "-q", "core.db.tar", name)
	stat, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, db := range []string{"core.db.tar", "core.files.tar"} {
		f, err := os.Open(filepath.Join(dir, db))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := collect(alpm.Packages(f))
		if err != nil || len(got) != 1 || got[0].File != name || got[0].Size != stat.Size() || len(got[0].SHA256) != 64 {
			t.Errorf("%s: %+v, %v", db, got, err)
		}
	}
}

func FuzzPackages(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(database("a/desc", "%FILENAME%\na\n\n%PGPSIG%\naGFsbG8=\n")))
	f.Add([]byte("404"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := collect(alpm.Packages(bytes.NewReader(data)))
		if err != nil && !errors.Is(err, alpm.ErrMalformed) {
			t.Errorf("%v", err)
		}
		for _, p := range all {
			if p.File == "" || strings.Contains(p.File, "/") || p.File == ".." || p.Size < -1 || len(p.SHA256) != 0 && len(p.SHA256) != 64 {
				t.Errorf("%+v", p)
			}
		}
	})
}
