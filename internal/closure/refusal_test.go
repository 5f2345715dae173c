package closure_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"

	"freshet/internal/apt"
	"freshet/internal/closure"
	"freshet/internal/repotest"
	"freshet/internal/rpmmd"
	"freshet/internal/unpack"
)

func sum(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

func data(kind, href, content string) string {
	return fmt.Sprintf(`<data type="%s"><checksum type="sha256">%s</checksum><location href="%s"/><size>%d</size></data>`, kind, sum(content), href, len(content))
}

// rpms is a repository with this primary.xml.
func rpms(primary string) contents {
	return contents{"repodata/p": primary, "repodata/repomd.xml": "<repomd>" + data("primary", "repodata/p", primary) + "</repomd>"}
}

// debs is a suite with these files, in pairs of name and content.
func debs(pairs ...string) contents {
	c := contents{}
	text := "SHA256:\n"
	for i := 0; i < len(pairs); i += 2 {
		text += fmt.Sprintf(" %s %d %s\n", sum(pairs[i+1]), len(pairs[i+1]), pairs[i])
		c["dists/sid/"+pairs[i]] = pairs[i+1]
	}
	c["dists/sid/InRelease"] = text
	return c
}

func database(files ...string) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		_ = w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))})
		_, _ = w.Write([]byte(files[i+1]))
	}
	_ = w.Close()
	return b.String()
}

// What cannot be believed is no list, and the error says why and of which file.
func TestRefused(t *testing.T) {
	t.Parallel()
	const head = `<metadata><package><checksum type="sha256">`
	for name, test := range map[string]struct {
		kind closure.Kind
		c    contents
		want error
		part string
	}{
		"no repomd.xml":         {closure.RPM, contents{}, fs.ErrNotExist, "repodata/repomd.xml"},
		"no XML":                {closure.RPM, contents{"repodata/repomd.xml": "404 not found"}, rpmmd.ErrMalformed, "repodata/repomd.xml"},
		"a long repomd.xml":     {closure.RPM, contents{"repodata/repomd.xml": strings.Repeat(" ", rpmmd.MaxRepomdSize+1)}, nil, "longer than"},
		"an index outside":      {closure.RPM, contents{"repodata/repomd.xml": "<repomd>" + data("x", "../../x", "") + "</repomd>"}, nil, `../x" is outside`},
		"an absolute index":     {closure.RPM, contents{"repodata/repomd.xml": "<repomd>" + data("x", "/x", "") + "</repomd>"}, nil, `"/x" is outside`},
		"an odd checksum":       {closure.RPM, contents{"repodata/repomd.xml": strings.Replace("<repomd>"+data("x", "x", "")+"</repomd>", sum(""), "abc", 1)}, nil, `"abc" is no checksum`},
		"no primary.xml":        {closure.RPM, without(rpms("<metadata/>"), "repodata/p"), closure.ErrInconsistent, "repodata/p"},
		"a malformed one":       {closure.RPM, rpms("404 not found"), rpmmd.ErrMalformed, "repodata/p"},
		"a package outside":     {closure.RPM, rpms(head + sum("") + `</checksum><location href="../x.rpm"/></package></metadata>`), nil, `"../x.rpm" is outside`},
		"an absolute package":   {closure.RPM, rpms(head + sum("") + `</checksum><location href="/x.rpm"/></package></metadata>`), nil, `"/x.rpm" is outside`},
		"a folder":              {closure.RPM, rpms(`<metadata><package><location href="."/></package></metadata>`), nil, `repodata/p: "." is outside`},
		"a package of a suite":  {closure.Deb, debs("main/Packages", "Filename: .\n"), nil, `main/Packages: "." is outside`},
		"its checksum":          {closure.RPM, rpms(head + `12</checksum><location href="x.rpm"/></package></metadata>`), nil, `"12" is no checksum`},
		"zchunk only":           {closure.RPM, rpms("\x00ZCK1..."), unpack.FormatError("zchunk"), "repodata/p"},
		"no InRelease":          {closure.Deb, contents{}, fs.ErrNotExist, "dists/sid/InRelease"},
		"no Release":            {closure.Deb, contents{"dists/sid/InRelease": "<html>"}, apt.ErrMalformed, "InRelease"},
		"another index":         {closure.Deb, with(debs("main/Packages", "Filename: a\n"), "dists/sid/main/Packages", "Filename: b\n"), closure.ErrInconsistent, "main/Packages has not the checksum"},
		"a longer one":          {closure.Deb, with(debs("main/Packages", "Filename: a\n"), "dists/sid/main/Packages", "Filename: a\n\n"), closure.ErrInconsistent, "has not the 12 bytes"},
		"an endless one":        {closure.Deb, with(debs("main/Packages", "Filename: a\n"), "dists/sid/main/Packages", strings.Repeat("Filename: a\n\n", 1000)), closure.ErrInconsistent, "has not the 12 bytes"},
		"a bad path":            {closure.Deb, debs("main/Packages", "Filename: ../a\n"), apt.ErrMalformed, "main/Packages"},
		"lz4 only":              {closure.Deb, debs("main/Packages.lz4", "\x04\x22\x4d\x18..."), unpack.FormatError("lz4"), "Packages.lz4"},
		"no database":           {closure.Arch, contents{"core.db": "404 not found"}, nil, "core.db"},
		"a database in lrzip":   {closure.Arch, contents{"core.db": "LRZI..."}, unpack.FormatError("lrzip"), "core.db"},
		"a package elsewhere":   {closure.Arch, contents{"core.db": database("a-1/desc", "%FILENAME%\n../a\n\n")}, nil, "no file name"},
		"no index of apk":       {closure.Alpine, contents{"APKINDEX.tar.gz": "404 not found"}, nil, "APKINDEX.tar.gz"},
		"a package of apk":      {closure.Alpine, contents{"APKINDEX.tar.gz": repotest.ApkIndex("P:../../x\nV:1\n")}, nil, "no part of a file name"},
		"a kind of the future":  {99, contents{}, nil, "pointer"},
		"the second of indexes": {closure.Deb, with(debs("a/Packages", "Filename: a\n", "b/Packages", "Filename: b\n"), "dists/sid/b/Packages", "x"), closure.ErrInconsistent, "b/Packages"},
	} {
		r := closure.Repository{Kind: test.kind, Pointer: map[closure.Kind]string{closure.Deb: "dists/sid/InRelease", closure.Arch: "core.db"}[test.kind]}
		_, _, err := files(t.Context(), r, test.c.open)
		if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.part) || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range []closure.Repository{{Kind: closure.Deb}, {Kind: closure.Arch, Pointer: ""}, {Pointer: "../x"}, {Root: "/etc", Pointer: "x"}} {
		if _, _, err := files(t.Context(), r, contents{}.open); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// What another program may leave out is no reason to refuse.
func TestTolerated(t *testing.T) {
	t.Parallel()
	one := "Filename: pool/a.deb\nSize: 1\n"
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(w, one)
	_ = w.Close()
	deb := closure.Repository{Kind: closure.Deb, Pointer: "dists/sid/InRelease"}
	for name, c := range map[string]contents{
		"another form":         debs("main/Packages.lz4", "\x04\x22\x4d\x18...", "main/Packages.xz", one),
		"a form is missing":    without(debs("main/Packages.gz", zipped.String(), "main/Packages", one), "dists/sid/main/Packages.gz"),
		"an index is missing":  without(debs("main/Packages", one, "contrib/Packages.gz", "not read"), "dists/sid/contrib/Packages.gz"),
		"one of no packages":   with(debs("main/Packages", one, "contrib/Packages", "", "contrib/Packages.gz", "not read"), "dists/sid/contrib/Packages.gz", "another"),
		"an unknown checksum":  debs("main/Packages", one),
		"itself, as it was":    debs("main/Packages", one, "Release", "as it was"),
		"a long file beside":   with(debs("main/Packages", one), "dists/sid/Release.gpg", strings.Repeat("x", 17<<20)),
		"files of other kinds": with(debs("main/Packages", one, "main/Contents-amd64.gz", "c", "main/i18n/Translation-en.bz2", "t"), "dists/sid/main/Contents-amd64.gz", "not looked at"),
	} {
		all, last, err := files(t.Context(), deb, c.open)
		if err != nil || last.Path != "dists/sid/InRelease" {
			t.Errorf("%s: %v", name, err)
		}
		if f, ok := all["pool/a.deb"]; !ok || f.Size != 1 || f.Optional {
			t.Errorf("%s: %+v", name, f)
		}
	}
	rpm := rpms(`<metadata><package><location href="https://elsewhere/a.rpm"/></package><package><checksum type="new">x</checksum><location href="b.rpm"/></package></metadata>`)
	all, _, err := files(t.Context(), closure.Repository{}, rpm.open)
	if f, ok := all["b.rpm"]; err != nil || !ok || f.Size != -1 || f.Sum.Value != "" || len(all) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
}

// A walk ends when its context does, when nobody listens, and with the errors of files.
func TestEnds(t *testing.T) {
	t.Parallel()
	c := rpms(`<metadata><package><location href="a"/></package><package><location href="b"/></package></metadata>`)
	for stop := 1; stop <= 4; stop++ {
		n := 0
		for _, err := range (closure.Repository{}).Files(t.Context(), c.open) {
			if n++; err != nil || n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("%d instead of %d files", n, stop)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var err error
	for f, e := range (closure.Repository{}).Files(ctx, c.open) {
		if err = e; f.Path == "a" {
			cancel()
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	for broken := range c {
		_, _, err := files(t.Context(), closure.Repository{}, func(ctx context.Context, name string) (io.ReadCloser, error) {
			f, err := c.open(ctx, name)
			if name == broken {
				f = io.NopCloser(io.MultiReader(strings.NewReader(c[name][:10]), iotest.ErrReader(os.ErrDeadlineExceeded)))
			}
			return f, err
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), broken) || errors.Is(err, closure.ErrInconsistent) {
			t.Errorf("%s breaks: %v", broken, err)
		}
	}
}

// FuzzFiles reads anything as the pointer of a repository, and as all that it names: what
// comes out stays inside the tree, and ends with the pointer if there is no error.
func FuzzFiles(f *testing.F) {
	one := "Filename: pool/a.deb\nSize: 1\nSHA256: " + sum("x") + "\n"
	f.Add(byte(closure.RPM), `<repomd><data type="primary"><location href="repodata/p"/></data></repomd>`, `<metadata><package><location href="a.rpm"/></package></metadata>`)
	f.Add(byte(closure.Deb), debs("main/Packages", one)["dists/sid/InRelease"], one)
	f.Add(byte(closure.Deb), "Acquire-By-Hash: yes\nMD5Sum:\n "+strings.Repeat("0", 32)+" 3 main/Sources.gz\n", "Directory: x\nFiles:\n "+strings.Repeat("0", 32)+" 3 a.dsc\n")
	f.Add(byte(closure.Arch), database("a-1/desc", "%FILENAME%\na.pkg.tar.zst\n\n%PGPSIG%\nAAAA\n"), "")
	f.Add(byte(closure.Alpine), repotest.ApkIndex("P:a\nV:1\nS:3\n"), "")
	f.Fuzz(func(t *testing.T, kind byte, pointer, others string) {
		r := closure.Repository{Kind: closure.Kind(kind), Pointer: map[closure.Kind]string{closure.Deb: "dists/sid/InRelease", closure.Arch: "core.db"}[closure.Kind(kind)]}
		all, last, err := files(t.Context(), r, func(_ context.Context, name string) (io.ReadCloser, error) {
			if name == r.PointerPath() {
				return io.NopCloser(strings.NewReader(pointer)), nil
			}
			return io.NopCloser(strings.NewReader(others)), nil
		})
		for _, f := range all {
			if !fs.ValidPath(f.Path) || f.Path == "." || strings.ContainsRune(f.Path, 0) || f.Size < -1 {
				t.Errorf("%+v", f)
			}
		}
		if got, ok := last.Sum.SHA256(); err == nil && (!ok || last.Path != r.PointerPath() || fmt.Sprintf("%x", got) != sum(pointer)) {
			t.Errorf("the last is %+v", last)
		}
	})
}

// BenchmarkDebian lists a suite as large as main of Debian for one architecture, from
// the form of its index that Debian has.
func BenchmarkDebian(b *testing.B) {
	const packages = 63_440
	var text strings.Builder
	for i := range packages {
		fmt.Fprintf(&text, "Package: package-%d\nVersion: 1-%d\nInstalled-Size: 100\nMaintainer: Some Body <some@body.example>\nArchitecture: amd64\n"+
			"Depends: %s\nDescription: one of many\nDescription-md5: %032x\nSection: misc\nPriority: optional\nTag: %s\n"+
			"Filename: pool/main/p/package-%d/package-%d_1_amd64.deb\nSize: %d\nMD5sum: %032x\nSHA256: %064x\n\n",
			i, i, strings.Repeat("libsomething1 (>= 1.2), ", 8), i, strings.Repeat("implemented-in::c, ", 8), i, i, i, i, i)
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(w, text.String())
	_ = w.Close()
	c := debs("main/binary-amd64/Packages.gz", zipped.String())
	r := closure.Repository{Kind: closure.Deb, Pointer: "dists/sid/InRelease"}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range r.Files(b.Context(), c.open) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != packages+2 {
			b.Fatal(n)
		}
	}
}
