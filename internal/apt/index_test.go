package apt_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/apt"
)

var packagesIndex = `# a comment
Package: hello
Version: 1
Filename: pool/main/h/hello/hello_1_amd64.deb
Size: 1234
MD5sum: ` + md5 + `
SHA256: ` + strings.ToUpper(sha256) + `
Description: several
 lines of text
 Filename: not this one
 .


Package: status-only
Filename-Of-Old: x
Tag: ` + strings.Repeat("long::tag, ", 1<<15) + `
 ` + strings.Repeat("long::tag, ", 1<<15) + `
` + "\t" + `
Package: flat
filename:./flat_1%3a2_all.deb
SIZE:	0
Package-Type: deb`

var sourcesIndex = `Package: hello
Binary: a,
 b
Directory: pool/main/h/hello
Files:
 ` + md5 + ` 12 hello_1.dsc
 ` + md5 + ` 34 hello_1.tar.xz
Checksums-Sha1:
 whatever this is
Checksums-Sha256:
 ` + sha256 + ` 12 hello_1.dsc
 ` + sha256 + ` 34 hello_1.tar.xz

Package: flat
Files: ` + md5 + ` 5 flat.dsc
`

func collect(seq iter.Seq2[apt.IndexEntry, error]) (all []apt.IndexEntry, err error) {
	for e, failed := range seq {
		if err != nil {
			return all, fmt.Errorf("%+v, %w after the error %w", e, failed, err)
		}
		if err = failed; err == nil {
			all = append(all, e)
		}
	}
	return all, err
}

func TestIndexes(t *testing.T) {
	t.Parallel()
	packages := []apt.IndexEntry{
		{Path: "pool/main/h/hello/hello_1_amd64.deb", Size: 1234, SHA256: sha256},
		{Path: "flat_1%3a2_all.deb", Size: 0},
	}
	sources := []apt.IndexEntry{
		{Path: "pool/main/h/hello/hello_1.dsc", Size: 12, SHA256: sha256},
		{Path: "pool/main/h/hello/hello_1.tar.xz", Size: 34, SHA256: sha256},
		{Path: "flat.dsc", Size: 5},
	}
	wrap := map[string]func(string) io.Reader{
		"whole":       func(s string) io.Reader { return strings.NewReader(s) },
		"byte by one": func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) },
		"late EOF":    func(s string) io.Reader { return iotest.DataErrReader(strings.NewReader(s)) },
		"CRLF":        func(s string) io.Reader { return strings.NewReader(strings.ReplaceAll(s, "\n", "\r\n")) },
		"more lines":  func(s string) io.Reader { return strings.NewReader("\n\n" + s + "\n\n\n") },
	}
	for name, reader := range wrap {
		got, err := collect(apt.Packages(reader(packagesIndex)))
		if diff := cmp.Diff(packages, got); diff != "" || err != nil {
			t.Errorf("Packages, %s: %v %s", name, err, diff)
		}
		got, err = collect(apt.Sources(reader(sourcesIndex)))
		if diff := cmp.Diff(sources, got); diff != "" || err != nil {
			t.Errorf("Sources, %s: %v %s", name, err, diff)
		}
	}
	if got, err := collect(apt.Packages(strings.NewReader(""))); err != nil || got != nil {
		t.Errorf("an index of no package: %+v, %v", got, err)
	}
	got, err := collect(apt.Packages(strings.NewReader("Filename: a\n")))
	if diff := cmp.Diff([]apt.IndexEntry{{Path: "a", Size: -1}}, got); diff != "" || err != nil {
		t.Errorf("no size: %v %s", err, diff)
	}
	for e, err := range apt.Packages(strings.NewReader(packagesIndex)) {
		if err != nil || e != packages[0] {
			t.Errorf("%+v, %v", e, err)
		}
		break
	}
}

func TestIndexesMalformed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<17)
	for name, in := range map[string]string{
		"html":          "<html>404: not found</html>",
		"text":          "not found",
		"no name":       ": x\n",
		"continuation":  "\n x\n",
		"traversal":     "Filename: ../x\n",
		"absolute":      "Filename: /etc/passwd\n",
		"no path":       "Filename:\n",
		"NUL":           "Filename: a\x00b\n",
		"long path":     "Filename: " + long[:8000] + "\n",
		"long line":     "Filename: " + long + "\n",
		"two paths":     "Filename: a\nFilename: b\n",
		"lines":         "Filename: a\n b\n",
		"long lines":    "Filename: a\n " + long + "\n",
		"size":          "Filename: a\nSize: many\n",
		"negative size": "Filename: a\nSize: -1\n",
		"two sizes":     "Filename: a\nSize: 1\nSize: 2\n",
		"checksum":      "Filename: a\nSHA256: abcd\n",
		"two checksums": "Filename: a\nSHA256: " + sha256 + "\nSHA256: " + sha256 + "\n",
		"after a good":  "Filename: a\n\nFilename: ../b\n",
	} {
		if got, err := collect(apt.Packages(strings.NewReader(in))); !errors.Is(err, apt.ErrMalformed) {
			t.Errorf("Packages, %s: %+v, %v", name, got, err)
		}
	}
	var many strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&many, " %s 1 f%d\n", md5, i)
	}
	for name, in := range map[string]string{
		"traversal":       "Directory: ../x\n",
		"two directories": "Directory: a\nDirectory: b\n",
		"lines":           "Directory: a\n b\n",
		"columns":         "Files:\n " + md5 + " 1\n",
		"name":            "Files:\n " + md5 + " 1 ../../x\n",
		"size":            "Files:\n " + md5 + " one x\n",
		"two sizes":       "Files:\n " + md5 + " 1 x\nChecksums-Sha256:\n " + sha256 + " 2 x\n",
		"checksum":        "Checksums-Sha256:\n " + md5 + " 2 x\n",
		"many":            "Files:\n" + many.String(),
	} {
		if got, err := collect(apt.Sources(strings.NewReader(in))); !errors.Is(err, apt.ErrMalformed) {
			t.Errorf("Sources, %s: %+v, %v", name, got, err)
		}
	}
	r := io.MultiReader(strings.NewReader("Filename: a\n\nFilename: b"), iotest.ErrReader(os.ErrClosed))
	if got, err := collect(apt.Packages(r)); len(got) != 1 || !errors.Is(err, os.ErrClosed) || errors.Is(err, apt.ErrMalformed) {
		t.Errorf("reader's error: %+v, %v", got, err)
	}
}

func FuzzIndexes(f *testing.F) {
	f.Add("Package: a\nFilename: ./a\nSize: 1\nSHA256: " + sha256 + "\n\nFilename: b")
	f.Add(sourcesIndex)
	f.Add("SHA256-Download:\n " + sha256 + " 1 T-1.gz\n")
	f.Add("Files: " + md5 + " 1 a\n " + md5 + " 2 b\n\nDirectory: x\r\nFiles:\n")
	f.Fuzz(func(t *testing.T, in string) {
		for _, read := range []func(io.Reader) iter.Seq2[apt.IndexEntry, error]{apt.Packages, apt.Sources, apt.Diffs} {
			all, err := collect(read(strings.NewReader(in)))
			if err != nil && !errors.Is(err, apt.ErrMalformed) {
				t.Errorf("error %v", err)
			}
			for _, e := range all {
				if !fs.ValidPath(e.Path) || e.Size < -1 || e.SHA256 != "" && len(e.SHA256) != 64 {
					t.Errorf("%+v", e)
				}
			}
		}
	})
}

// BenchmarkPackages reads an index as large as that of Debian.
func BenchmarkPackages(b *testing.B) {
	var text bytes.Buffer
	for i := range 60_000 {
		fmt.Fprintf(&text, "Package: package-%d\nVersion: 1-%d\nInstalled-Size: 100\nMaintainer: Some Body <some@body.example>\nArchitecture: amd64\n"+
			"Depends: %s\nDescription: one of many\nDescription-md5: %s\nSection: misc\nPriority: optional\nTag: %s\n"+
			"Filename: pool/main/p/package-%d/package-%d_1_amd64.deb\nSize: %d\nMD5sum: %s\nSHA256: %064x\n\n",
			i, i, strings.Repeat("libsomething1 (>= 1.2), ", 8), md5, strings.Repeat("implemented-in::c, ", 8), i, i, i, md5, i)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range apt.Packages(bytes.NewReader(text.Bytes())) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 60_000 {
			b.Fatal(n)
		}
	}
}
