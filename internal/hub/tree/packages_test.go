package tree

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"freshet/api/hubapi"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

// tryNote is try, with the note of the generation.
func tryNote(t *testing.T, trees *Trees, name string, c contents) (string, error) {
	t.Helper()
	push, err := trees.Begin(t.Context(), name, c.files(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(trees, c, push); err != nil {
		t.Fatal(err)
	}
	done, err := trees.Publish(t.Context(), push.ID, new(ledger).commit)
	return done.Generation.Note, err
}

func with(c contents, more contents) contents {
	c = maps.Clone(c)
	maps.Copy(c, more)
	return c
}

func without(c contents, name string) contents {
	c = maps.Clone(c)
	delete(c, name)
	return c
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func zstded(s string) string {
	w, _ := zstd.NewWriter(nil)
	return string(w.EncodeAll([]byte(s), nil))
}

// rpm is a package in a primary.xml.
func rpm(href string, size int, kind, checksum string) string {
	return fmt.Sprintf(`<package type="rpm"><checksum type="%s" pkgid="YES">%s</checksum><size package="%d"/><location %s/></package>`, kind, checksum, size, href)
}

// rpms is a repository at base whose primary.xml has these packages.
func rpms(base string, packages ...string) contents {
	return contents{
		base + "repodata/repomd.xml": repomd(`<data type="primary"><location href="repodata/p"/></data>`),
		base + "repodata/p":          "<metadata>" + strings.Join(packages, "\n") + "</metadata>",
	}
}

func refusedWith(err error, parts ...string) bool {
	if !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "\n") {
		return false
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			return false
		}
	}
	return true
}

func TestPrimaryClosure(t *testing.T) {
	t.Parallel()
	s1 := sha1.Sum([]byte("content"))
	sha := hex.EncodeToString(s1[:])
	plain := rpm(`href="P/a.rpm"`, 7, "sha256", sum("content"))
	trees := begin(t, quickDir(t), Options{})
	for name, c := range map[string]contents{
		"plain":          with(rpms("", plain), contents{"P/a.rpm": "content"}),
		"below":          with(rpms("el9/x86_64/", plain), contents{"el9/x86_64/P/a.rpm": "content"}),
		"two":            with(with(rpms("a/", plain), rpms("b/", plain)), contents{"a/P/a.rpm": "content", "b/P/a.rpm": "content"}),
		"beside":         with(rpms("el9/x86_64/", rpm(`href="../all/a.rpm"`, 7, "sha256", sum("content"))), contents{"el9/all/a.rpm": "content"}),
		"elsewhere":      rpms("", rpm(`xml:base="https://elsewhere/x" href="a.rpm"`, 7, "sha256", sum("content"))),
		"a whole URL":    rpms("", rpm(`href="https://elsewhere/a.rpm"`, 7, "sha256", sum("content"))),
		"encoded":        with(rpms("", rpm(`href="P/a%2Bb%20c.rpm"`, 7, "sha256", sum("content"))), contents{"P/a+b c.rpm": "content"}),
		"not encoded":    with(rpms("", rpm(`href="P/a%2Bb.rpm"`, 7, "sha256", sum("content"))), contents{"P/a%2Bb.rpm": "content"}),
		"no escape":      with(rpms("", rpm(`href="P/100%.rpm"`, 7, "sha256", sum("content"))), contents{"P/100%.rpm": "content"}),
		"an entity":      with(rpms("", rpm(`href="P/a&amp;b.rpm"`, 7, "sha256", sum("content"))), contents{"P/a&b.rpm": "content"}),
		"other checksum": with(rpms("", rpm(`href="P/a.rpm"`, 7, "sha", sha)), contents{"P/a.rpm": "content"}),
		"no size":        with(rpms("", `<package><location href="P/a.rpm"/></package>`), contents{"P/a.rpm": "content"}),
		"through links": with(rpms("", rpm(`href="l/a.rpm"`, 7, "sha256", sum("content")), rpm(`href="l/b.rpm"`, 7, "sha256", sum("content"))),
			contents{"P/a.rpm": "content", "P/b.rpm": "@a.rpm", "l": "@m", "m": "@P"}),
		"no package":  rpms(""),
		"not indexed": with(rpms("", plain), contents{"P/a.rpm": "content", "P/b.rpm": "other"}),
	} {
		if note, err := tryNote(t, trees, "good", c); err != nil || note != "" {
			t.Errorf("%s: %q, %v", name, note, err)
		}
	}
	var many []string
	for i := range 10 {
		many = append(many, rpm(fmt.Sprintf(`href="P/%d.rpm"`, i), 1, "sha256", sum("x")))
	}
	for name, bad := range map[string]struct {
		c     contents
		parts []string
	}{
		"missing":          {rpms("", plain), []string{"repodata/p names what", "P/a.rpm is not in the tree", "createrepo_c"}},
		"missing below":    {with(rpms("x/", plain), contents{"P/a.rpm": "content"}), []string{"x/repodata/p", " x/P/a.rpm is not in the tree"}},
		"wrong size":       {with(rpms("", rpm(`href="P/a.rpm"`, 8, "sha256", sum("content"))), contents{"P/a.rpm": "content"}), []string{"P/a.rpm has 7 bytes, but should have 8"}},
		"wrong checksum":   {with(rpms("", plain), contents{"P/a.rpm": "CONTENT"}), []string{"P/a.rpm has the sha256 " + sum("CONTENT") + ", but should have " + sum("content")}},
		"wrong by link":    {with(rpms("", plain), contents{"P/a.rpm": "@b.rpm", "P/b.rpm": "CONTENT"}), []string{"P/a.rpm has the sha256"}},
		"wrong size, sha1": {with(rpms("", rpm(`href="P/a.rpm"`, 8, "sha", sha)), contents{"P/a.rpm": "content"}), []string{"P/a.rpm has 7 bytes"}},
		"a dead link":      {with(rpms("", plain), contents{"P/a.rpm": "@b.rpm"}), []string{"P/a.rpm is not"}},
		"a circle":         {with(rpms("", plain), contents{"P/a.rpm": "@b.rpm", "P/b.rpm": "@a.rpm"}), []string{"P/a.rpm is not"}},
		"a folder":         {with(rpms("", rpm(`href="P"`, 7, "sha256", "")), contents{"P/a.rpm": "content"}), []string{"P is not"}},
		"many":             {rpms("", many...), []string{"P/0.rpm is not", "P/1.rpm is not", "P/2.rpm is not", "and 7 more"}},
		"outside":          {rpms("x/", rpm(`href="../../a.rpm"`, 7, "sha256", "")), []string{"../a.rpm is outside"}},
		"absolute":         {with(rpms("", rpm(`href="/P/a.rpm"`, 7, "sha256", "")), contents{"P/a.rpm": "content"}), []string{"/P/a.rpm is outside"}},
		"odd":              {rpms("", rpm(`href="a&#10;b"`, 7, "sha256", "")), []string{`"a\nb" is not`}},
		"long":             {rpms("", rpm(`href="`+strings.Repeat("x", 5000)+`"`, 7, "sha256", "")), []string{"x… is not"}},
		"not XML":          {with(rpms(""), contents{"repodata/p": "404 not found"}), []string{"repodata/p: malformed"}},
		"cut":              {with(rpms(""), contents{"repodata/p": "<metadata><package>"}), []string{"repodata/p: malformed"}},
		"cut gz":           {with(rpms(""), contents{"repodata/p": gzipped("<metadata/>")[:15]}), []string{"repodata/p: "}},
		"cut gz in text":   {with(rpms(""), contents{"repodata/p": gzipped("<metadata/>" + strings.Repeat(" ", 1000))[:20]}), []string{"repodata/p: "}},
		"bad zstd":         {with(rpms(""), contents{"repodata/p": "\x28\xb5\x2f\xfd garbage"}), []string{"repodata/p: "}},
	} {
		if err := try(t, trees, "bad", bad.c); !refusedWith(err, bad.parts...) {
			t.Errorf("%s: %v", name, err)
		} else if len(err.Error()) > 1500 {
			t.Errorf("%s: %d bytes: %v", name, len(err.Error()), err)
		}
	}
	if _, err := trees.Info("bad"); !errors.Is(err, ErrNotFound) {
		t.Errorf("something bad was published: %v", err)
	}
}

// TestForms checks a repository in each form of compression: those that can be
// read are, and of the others a note tells.
func TestForms(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "xz", "bzip2")
	primary := "<metadata>" + rpm(`href="a.rpm"`, 7, "sha256", sum("content")) + "</metadata>"
	packages := fmt.Sprintf("Filename: a.deb\nSize: 7\nSHA256: %s\n", sum("content"))
	compress := func(program, text string) string {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return string(peertest.Run(t, "", nil, program, "-c", file))
	}
	trees := begin(t, quickDir(t), Options{})
	for ext, c := range map[string]struct {
		pack func(string) string
		note string
	}{
		"":     {func(s string) string { return s }, ""},
		".gz":  {gzipped, ""},
		".zst": {zstded, ""},
		".bz2": {func(s string) string { return compress("bzip2", s) }, ""},
		".xz":  {func(s string) string { return compress("xz", s) }, ""},
		".zck": {func(s string) string { return "\x00ZCK1" + s }, "zchunk cannot be read here"},
	} {
		tree := rpms("")
		tree["repodata/p"] = c.pack(primary)
		if note, err := tryNote(t, trees, "good", with(tree, contents{"a.rpm": "content"})); err != nil || !strings.Contains(note, c.note) || (c.note == "") != (note == "") {
			t.Errorf("rpm %s: %q, %v", ext, note, err)
		}
		note, err := tryNote(t, trees, "bad"+ext, tree)
		if info, err := trees.Info("bad.zck"); ext == ".zck" && (err != nil || info.Generations[0].Note != note) {
			t.Errorf("the note is not kept: %+v, %v", info, err)
		}
		if c.note == "" && !refusedWith(err, "a.rpm is not in the tree") || c.note != "" && (err != nil || !strings.Contains(note, "repodata/p") || !strings.Contains(note, c.note)) {
			t.Errorf("rpm %s, missing: %q, %v", ext, note, err)
		}
		if ext == ".zck" {
			continue
		}
		index := c.pack(packages)
		tree = contents{"dists/s/main/Packages" + ext: index, "dists/s/Release": release("main/Packages"+ext, index)}
		if note, err := tryNote(t, trees, "good", with(tree, contents{"a.deb": "content"})); err != nil || !strings.Contains(note, c.note) || (c.note == "") != (note == "") {
			t.Errorf("apt %s: %q, %v", ext, note, err)
		}
		note, err = tryNote(t, trees, "bad-deb"+ext, tree)
		if c.note == "" && !refusedWith(err, "a.deb is not in the tree") || c.note != "" && (err != nil || !strings.Contains(note, c.note)) {
			t.Errorf("apt %s, missing: %q, %v", ext, note, err)
		}
	}
	tree := make(contents)
	for i := range 5 {
		maps.Copy(tree, rpms(fmt.Sprintf("%d/", i)))
		tree[fmt.Sprintf("%d/repodata/p", i)] = "\x00ZCK1"
	}
	if note, err := tryNote(t, trees, "many", tree); err != nil || !strings.Contains(note, "2/repodata/p") || !strings.Contains(note, "2 more") || strings.Contains(note, "3/repodata/p") {
		t.Errorf("%q, %v", note, err)
	}
}

// release is a Release that names one or more files, in pairs of name and
// content.
func release(pairs ...string) string {
	text := "SHA256:\n"
	for i := 0; i < len(pairs); i += 2 {
		text += fmt.Sprintf(" %s %d %s\n", sum(pairs[i+1]), len(pairs[i+1]), pairs[i])
	}
	return text
}

func TestAptClosure(t *testing.T) {
	t.Parallel()
	deb := func(name, content string) string {
		return fmt.Sprintf("Package: x\nFilename: %s\nSize: %d\nSHA256: %s\n\n", name, len(content), sum(content))
	}
	one := deb("pool/a.deb", "content")
	src := fmt.Sprintf("Package: x\nDirectory: pool/s\nFiles:\n 0 3 x.dsc\nChecksums-Sha256:\n %s 3 x.dsc\n %s 3 x.tar\n", sum("dsc"), sum("tar"))
	suite := func(base string, pairs ...string) contents {
		c := contents{base + "Release": release(pairs...)}
		for i := 0; i < len(pairs); i += 2 {
			c[base+pairs[i]] = pairs[i+1]
		}
		return c
	}
	pool := contents{"pool/a.deb": "content"}
	trees := begin(t, quickDir(t), Options{})
	for name, c := range map[string]contents{
		"plain":            with(suite("dists/s/", "main/Packages", one), pool),
		"below":            with(suite("debian/dists/s/u/", "main/Packages", one), contents{"debian/pool/a.deb": "content"}),
		"sources":          with(suite("dists/s/", "main/Sources.gz", gzipped(src)), contents{"pool/s/x.dsc": "dsc", "pool/s/x.tar": "tar"}),
		"encoded":          with(suite("dists/s/", "main/Packages", deb("pool/a_1%3a2.deb", "content")), contents{"pool/a_1:2.deb": "content"}),
		"a wrong index":    with(suite("dists/s/", "main/Packages", one, "main/Packages.gz", gzipped(deb("no", "no"))), pool), // the first form decides
		"not offered":      without(suite("dists/s/", "main/Packages", one), "dists/s/main/Packages"),
		"not listed":       with(suite("dists/s/", "x", ""), contents{"dists/s/main/Packages": one}),
		"by hash":          with(without(suite("dists/s/", "main/Packages", one), "dists/s/main/Packages"), with(pool, contents{"dists/s/main/by-hash/SHA256/" + sum(one): one})),
		"suite by link":    with(suite("dists/s/", "main/Packages", one), with(pool, contents{"dists/stable": "@s"})),
		"flat":             with(suite("", "Packages", deb("./a.deb", "content")), contents{"a.deb": "content"}),
		"flat below":       with(suite("debs/x/", "Packages", deb("a.deb", "content")), contents{"debs/x/a.deb": "content"}),
		"flat from above":  with(suite("debs/x/", "Packages.gz", gzipped(deb("x/a.deb", "content"))), contents{"debs/x/a.deb": "content"}),
		"flat from top":    with(suite("debs/x/", "Packages", deb("debs/x/a.deb", "content")), contents{"debs/x/a.deb": "content"}),
		"flat of itself":   with(suite("", "Packages", deb("a.deb", "content")), contents{"a.deb": "content", "Release": release("Packages", deb("a.deb", "content"), "Release", "", "x/Packages", "y"), "x/Packages": "z"}),
		"no repository":    {"Release": "notes of our release"},
		"none either":      {"Release": release("Packages", "x"), "Packages/a": "a folder"},
		"itself":           {"dists/s/Release": release("Release", "what it was before")},
		"empty":            suite("dists/s/", "main/Packages", "", "main/Packages.gz", gzipped("")),
		"another InRelase": with(with(suite("dists/s/", "main/Packages", one), pool), contents{"dists/s/InRelease": release("main/Packages", one)}),
	} {
		if note, err := tryNote(t, trees, "good", c); err != nil || note != "" {
			t.Errorf("%s: %q, %v", name, note, err)
		}
	}
	for name, bad := range map[string]struct {
		c     contents
		parts []string
	}{
		"missing":        {suite("dists/s/", "main/Packages", one), []string{"dists/s/main/Packages names what", "pool/a.deb is not in the tree", "make the index"}},
		"missing below":  {with(suite("debian/dists/s/", "main/Packages", one), pool), []string{" debian/pool/a.deb is not"}},
		"InRelease":      {contents{"dists/s/InRelease": release("main/Packages", one), "dists/s/main/Packages": one}, []string{"pool/a.deb is not"}},
		"wrong size":     {with(suite("dists/s/", "main/Packages", one), contents{"pool/a.deb": "cont"}), []string{"pool/a.deb has 4 bytes, but should have 7"}},
		"wrong checksum": {with(suite("dists/s/", "main/Packages", one), contents{"pool/a.deb": "CONTENT"}), []string{"pool/a.deb has the sha256 " + sum("CONTENT")}},
		"second of two":  {with(suite("dists/s/", "main/Packages", one, "contrib/Packages.zst", zstded(deb("pool/b.deb", ""))), pool), []string{"contrib/Packages.zst", "pool/b.deb is not"}},
		"behind lz4":     {suite("dists/s/", "main/Packages.gz", gzipped(one), "main/Packages.lz4", "\x04\x22\x4d\x18..."), []string{"Packages.gz", "pool/a.deb is not"}},
		"misnamed":       {suite("dists/s/", "main/Packages.gz", "\x04\x22\x4d\x18...", "main/Packages.bz2", one), []string{"Packages.bz2", "pool/a.deb is not"}},
		"source":         {with(suite("dists/s/", "main/Sources", src), contents{"pool/s/x.dsc": "dsc"}), []string{"pool/s/x.tar is not"}},
		"by hash":        {with(without(suite("dists/s/", "main/Packages", one), "dists/s/main/Packages"), contents{"dists/s/main/by-hash/SHA256/" + sum(one): one}), []string{"by-hash", "pool/a.deb is not"}},
		"flat":           {suite("", "Packages", deb("./a.deb", "content")), []string{"Packages names", "a.deb is not"}},
		"flat InRelease": {contents{"x/InRelease": release("Packages", one), "x/Packages": one}, []string{"x/Packages names", "x/pool/a.deb is not"}},
		"flat from two":  {with(suite("x/", "Packages", deb("a.deb", "1")+deb("x/b.deb", "2")), contents{"x/a.deb": "1", "x/b.deb": "2"}), []string{"x/x/b.deb is not"}},
		"flat, changed":  {with(suite("", "Packages", one), with(pool, contents{"Packages": one + "\n"})), []string{"Release names what clients could not get: Packages has"}},
		"malformed":      {suite("dists/s/", "main/Packages", "404 not found"), []string{"dists/s/main/Packages: malformed"}},
		"traversal":      {suite("dists/s/", "main/Packages", "Filename: ../a\n"), []string{"dists/s/main/Packages: malformed", "leads out"}},
		"a dead page":    {contents{"x/Release": "404 not found", "x/Packages.gz": ""}, []string{"x/Release: malformed"}},
	} {
		if err := try(t, trees, "bad", bad.c); !refusedWith(err, bad.parts...) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := trees.Info("bad"); !errors.Is(err, ErrNotFound) {
		t.Errorf("something bad was published: %v", err)
	}
}

// TestCreaterepoPackages publishes real packages with what createrepo_c makes
// of them in several ways, and refuses each without one of its packages.
func TestCreaterepoPackages(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "createrepo_c", "rpmbuild")
	source := t.TempDir()
	repotest.RPM(t, filepath.Join(source, "x86_64/Packages"), "hello", "1")
	repotest.RPM(t, filepath.Join(source, "x86_64/Packages"), "c++odd", "1~rc^2")
	repotest.RPM(t, filepath.Join(source, "aarch64"), "hello", "2")
	odd := filepath.Join(source, "aarch64/a b&c+%41.rpm")
	if err := os.Link(filepath.Join(source, "aarch64/hello-2.rpm"), odd); err != nil {
		t.Fatal(err)
	}
	trees := begin(t, quickDir(t), Options{})
	for name, commands := range map[string][]string{
		"one repository":      {"."},
		"a folder each":       {"x86_64", "aarch64"},
		"sha512":              {"--checksum=sha512 ."},
		"bz2":                 {"--general-compress-type=bz2 ."},
		"xz":                  {"--general-compress-type=xz ."},
		"zchunk too":          {"--zck ."},
		"updated":             {". ", "--update ."},
		"elsewhere":           {"--baseurl=https://elsewhere/ ."},
		"location prefix":     {"--location-prefix=x/../ ."},
		"uncompressed, later": {"--simple-md-filenames ."},
	} {
		dir := t.TempDir()
		peertest.Run(t, "", nil, "cp", "-r", source+"/.", dir)
		for _, command := range commands {
			peertest.Run(t, dir, nil, "createrepo_c", append([]string{"--quiet"}, strings.Fields(command)...)...)
		}
		if name == "uncompressed, later" {
			peertest.Run(t, dir, nil, "gunzip", "repodata/primary.xml.gz")
			peertest.Run(t, dir, nil, "modifyrepo_c", "--remove", "primary", "repodata")
			peertest.Run(t, dir, nil, "modifyrepo_c", "--no-compress", "--mdtype=primary", "repodata/primary.xml", "repodata")
		}
		c := load(t, dir)
		note, err := tryNote(t, trees, "rpms", c)
		if err != nil || note != "" {
			t.Errorf("%s: %q, %v", name, note, err)
		}
		for _, gone := range []string{"x86_64/Packages/c++odd-1~rc^2.rpm", "aarch64/a b&c+%41.rpm"} {
			err := try(t, trees, "bad", without(c, gone))
			if name == "elsewhere" {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if !refusedWith(err, gone+" is not in the tree", "primary.xml") {
				t.Errorf("%s without %s: %v", name, gone, err)
			}
		}
		if name != "elsewhere" {
			err := try(t, trees, "bad", with(c, contents{"aarch64/hello-2.rpm": c["aarch64/hello-2.rpm"] + "x"}))
			if !refusedWith(err, "aarch64/hello-2.rpm has ") {
				t.Errorf("%s with another package: %v", name, err)
			}
		}
	}
}

// TestAptTools does the same with a repository of real packages, in both forms.
func TestAptTools(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "apt-ftparchive", "dpkg-deb", "dpkg-scanpackages")
	dir := t.TempDir()
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"hello_1.0", "other_2:1.0"} {
		name, version, _ := strings.Cut(p, "_")
		for _, folder := range []string{"archive/pool/main", "flat"} {
			repotest.Deb(t, filepath.Join(dir, folder, p+"_all.deb"), name, version)
		}
	}
	write("archive/pool/main/src_1.tar.gz", []byte("tar"))
	write("archive/pool/main/src_1.dsc", fmt.Appendf(nil, "Format: 3.0 (native)\nSource: src\nBinary: src\nArchitecture: all\nVersion: 1\n"+
		"Maintainer: a <a@b.example>\nChecksums-Sha256:\n %s 3 src_1.tar.gz\nFiles:\n %s 3 src_1.tar.gz\n", sum("tar"), strings.Repeat("0", 32)))
	archive, flat := filepath.Join(dir, "archive"), filepath.Join(dir, "flat")
	index := peertest.Run(t, archive, nil, "apt-ftparchive", "packages", "pool")
	write("archive/dists/stable/main/binary-amd64/Packages", index)
	peertest.Run(t, archive, nil, "gzip", "-k", "dists/stable/main/binary-amd64/Packages")
	write("archive/dists/stable/main/source/Sources", peertest.Run(t, archive, nil, "apt-ftparchive", "sources", "pool"))
	peertest.Run(t, archive, nil, "xz", "-k", "dists/stable/main/source/Sources")
	// The shell of people: the file is there, and empty, when it is read.
	peertest.Run(t, archive, nil, "sh", "-c", "apt-ftparchive release dists/stable > dists/stable/Release")
	write("flat/Packages", peertest.Run(t, flat, nil, "dpkg-scanpackages", "--multiversion", "."))
	peertest.Run(t, flat, nil, "sh", "-c", "apt-ftparchive release . > Release")

	trees := begin(t, quickDir(t), Options{})
	for name, gone := range map[string][]string{
		"archive": {"pool/main/hello_1.0_all.deb", "pool/main/other_2:1.0_all.deb", "pool/main/src_1.dsc", "pool/main/src_1.tar.gz"},
		"flat":    {"hello_1.0_all.deb", "other_2:1.0_all.deb"},
	} {
		c := load(t, filepath.Join(dir, name))
		if note, err := tryNote(t, trees, name, c); err != nil || note != "" {
			t.Errorf("%s: %q, %v", name, note, err)
		}
		for _, file := range gone {
			if err := try(t, trees, "bad", without(c, file)); !refusedWith(err, file+" is not in the tree") {
				t.Errorf("%s without %s: %v", name, file, err)
			}
		}
		other := with(c, contents{gone[0]: strings.Repeat("x", len(c[gone[0]]))})
		if err := try(t, trees, "bad", other); !refusedWith(err, gone[0]+" has the sha256 "+sum(other[gone[0]])) {
			t.Errorf("%s with another package: %v", name, err)
		}
	}
	// From above, as sources.list says "deb URL flat/".
	c := make(contents)
	for name, content := range load(t, flat) {
		c["flat/"+name] = content
	}
	c["flat/Packages"] = string(peertest.Run(t, dir, nil, "dpkg-scanpackages", "flat"))
	c["flat/Release"] = release("Packages", c["flat/Packages"])
	if note, err := tryNote(t, trees, "above", c); err != nil || note != "" {
		t.Errorf("from above: %q, %v", note, err)
	}
	if err := try(t, trees, "bad", without(c, "flat/hello_1.0_all.deb")); !refusedWith(err, "hello_1.0_all.deb is not in the tree") {
		t.Errorf("from above: %v", err)
	}
}

// BenchmarkClosure checks a suite of the size of Debian's.
func BenchmarkClosure(b *testing.B) {
	const packages = 60_000
	dir := b.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "dists/s/main"), 0o755); err != nil {
		b.Fatal(err)
	}
	var text strings.Builder
	files := make([]hubapi.TreeFile, 0, packages+2)
	for i := range packages {
		name := fmt.Sprintf("pool/main/p/package-%05d/package-%05d_1_amd64.deb", i, i)
		f := hubapi.TreeFile{Path: name, Size: int64(i), SHA256: sum(name)}
		files = append(files, f)
		fmt.Fprintf(&text, "Package: package-%d\nVersion: 1-%d\nMaintainer: Some Body <some@body.example>\nDepends: %s\nTag: %s\nFilename: %s\nSize: %d\nSHA256: %s\n\n",
			i, i, strings.Repeat("libsomething1 (>= 1.2), ", 10), strings.Repeat("implemented-in::c, ", 15), name, i, f.SHA256)
	}
	index := gzipped(text.String())
	for name, content := range map[string]string{"dists/s/Release": release("main/Packages.gz", index), "dists/s/main/Packages.gz": index} {
		files = append(files, hubapi.TreeFile{Path: name, Size: int64(len(content)), SHA256: sum(content)})
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	files, err := checkFiles(files)
	if err != nil {
		b.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		check := closure{root: root, files: files}
		if note, err := check.run(b.Context()); err != nil || note != "" {
			b.Fatal(note, err)
		}
	}
}
