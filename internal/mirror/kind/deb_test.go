package kind_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/mirror/kind"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

// An archive of two components and three architectures by reprepro, signed by gpg.
func TestDeb(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "reprepro", "dpkg-deb")
	g := newGPG(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "conf/distributions"), `Codename: sid
Suite: unstable
Architectures: amd64 arm64 source
Components: main contrib
ValidFor: 2d
SignWith: default
DebIndices: Packages Release . .gz .xz
DscIndices: Sources Release .gz

Codename: old
Architectures: amd64
Components: main
`)
	build := t.TempDir()
	for name, component := range map[string]string{"hello": "main", "extra": "contrib", "older": "main"} {
		file := filepath.Join(build, name+".deb")
		repotest.Deb(t, file, name, "1.0")
		suite := "sid"
		if name == "older" {
			suite = "old"
		}
		peertest.Run(t, dir, g.env, "reprepro", "-C", component, "includedeb", suite, file)
	}
	src := sourcePackage(t, build)
	peertest.Run(t, dir, g.env, "reprepro", "-C", "main", "-S", "misc", "-P", "optional", "includedsc", "sid", src)
	for _, name := range []string{"README", "pool/main/gone_1_all.deb", "dists/sid/main/installer-amd64/current/images/SHA256SUMS", "project/trace/master", "Archive-Update-in-Progress-x", "dists/other/main/x"} {
		write(t, filepath.Join(dir, name), name)
	}

	tree := folder(dir)
	c := kind.Config{
		Format: kind.Deb, Repositories: []string{"dists/{release}"}, Releases: []string{"sid"},
		Architectures: []string{"x86_64"}, Components: []string{"main"},
	}
	k := newKind(t, c)
	list, names := pointers(t, k, tree)
	if names != "dists/sid/InRelease" || list[0].Root != "." {
		t.Fatal(names, list)
	}
	to := t.TempDir()
	got := copied(t, files(t, k.Files(t.Context(), tree, list[0], nil)), dir, to)
	want := "dists/sid/InRelease dists/sid/Release dists/sid/Release.gpg dists/sid/main/binary-amd64/Packages.gz dists/sid/main/binary-amd64/Packages.xz dists/sid/main/binary-amd64/Release pool/main/h/hello/hello_1.0_all.deb"
	if strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
	// What was copied is a whole repository.
	if again := copied(t, files(t, k.Files(t.Context(), folder(to), list[0], nil)), to, t.TempDir()); strings.Join(again, " ") != want {
		t.Errorf("of the copy: %v", again)
	}
	if rest := files(t, k.Rest(t.Context(), tree, list, nil)); len(rest) > 0 {
		t.Errorf("beside a part: %+v", rest)
	}

	whole := kind.Config{Format: kind.Deb, Source: true, Releases: []string{"sid"}, Exclude: []string{"conf/*", "db/*"}}
	k = newKind(t, whole)
	list, names = pointers(t, k, tree)
	if names != "dists/sid/InRelease" {
		t.Error(names)
	}
	text := strings.Join(copied(t, files(t, k.Files(t.Context(), tree, list[0], nil)), dir, t.TempDir()), " ")
	for _, part := range []string{"contrib/binary-arm64/Packages.xz", "source/Sources.gz", "src_1.dsc", "src_1.tar.gz", "extra_1.0_all.deb"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is missing: %s", part, text)
		}
	}
	var rest []string
	for _, f := range files(t, k.Rest(t.Context(), tree, list, nil)) {
		rest = append(rest, f.Path)
	}
	if strings.Join(rest, " ") != "README dists/sid/main/installer-amd64/current/images/SHA256SUMS project/trace/master" {
		t.Errorf("rest: %v", rest)
	}

	v := signed(t, c, g, tree, list[0], "likely")
	if v.MarkOf != "date" || v.Mark < 1700000000 || v.ValidUntil.IsZero() || v.Valid(time.Now()) != nil || kind.Reason(v.Valid(time.Now().AddDate(0, 0, 3))) != "expired" {
		t.Errorf("%+v", v)
	}
	checkRollback(t, k, tree, list[0])

	// Release of another publish than InRelease.
	release := filepath.Join(dir, "dists/sid/Release")
	data, err := os.ReadFile(release)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(release + ".gpg"); err != nil {
		t.Fatal(err)
	}
	write(t, release, strings.Replace(string(data), "Date: ", "Date: Thu, 01 Jan 1970 00:00:00 UTC\nX: ", 1))
	if v, err := newKind(t, c).Version(t.Context(), tree.Open, list[0]); kind.Reason(err) != "inconsistent" {
		t.Errorf("two publishes: %+v, %v", v, err)
	}
	checkBroken(t, newKind(t, c), dir, tree, list[0], "dists/sid/main/binary-amd64/Packages.*")
}

// sourcePackage makes a .dsc with its tarball.
func sourcePackage(t *testing.T, dir string) string {
	t.Helper()
	peertest.Run(t, dir, nil, "bash", "-c", `set -e
printf tar > src_1.tar.gz
cat > src_1.dsc <<END
Format: 3.0 (native)
Source: src
Binary: src
Architecture: all
Version: 1
Maintainer: a <a@b.example>
Checksums-Sha256:
 $(sha256sum src_1.tar.gz | cut -d" " -f1) 3 src_1.tar.gz
Checksums-Sha1:
 $(sha1sum src_1.tar.gz | cut -d" " -f1) 3 src_1.tar.gz
Files:
 $(md5sum src_1.tar.gz | cut -d" " -f1) 3 src_1.tar.gz
END`)
	return filepath.Join(dir, "src_1.dsc")
}

// Which files of a Release are chosen, by what Debian and Ubuntu name.
func TestDebIndexes(t *testing.T) {
	t.Parallel()
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of nothing
	dir := t.TempDir()
	var release strings.Builder
	release.WriteString("Suite: sid\nAcquire-By-Hash: yes\nSHA256:\n")
	for _, name := range []string{
		"main/binary-amd64/Packages", "main/binary-amd64/Packages.xz", "main/binary-amd64/Release", "main/binary-arm64/Packages.xz", "main/binary-all/Packages.xz",
		"main/source/Sources.xz", "main/i18n/Translation-de.bz2", "main/Contents-amd64.gz", "main/Contents-udeb-arm64.gz", "main/Contents-source.gz", "Contents-arm64.gz",
		"main/dep11/Components-amd64.yml.gz", "main/dep11/Components-arm64.yml.gz", "main/dep11/icons-64x64.tar.gz", "main/cnf/Commands-amd64.xz", "main/cnf/Commands-armhf.xz",
		"main/debian-installer/binary-amd64/Packages.xz", "main/debian-installer/binary-arm64/Packages.xz",
		"non-free/binary-amd64/Packages.xz", "non-free-firmware/binary-amd64/Packages.xz", "main/installer-arm64/current/images/SHA256SUMS",
	} {
		size := 0
		if filepath.Ext(name) == "" {
			size = 5
		}
		fmt.Fprintf(&release, " %s %d %s\n", sum, size, name)
	}
	// Lists of what lies beside the indexes.
	beside := map[string]string{
		"main/binary-amd64/Packages.diff/Index":          "SHA256-Current: x\nSHA256-Patches:\n " + sum + " 5 T-1-F-1\nSHA256-Download:\n " + sum + " 5 T-1-F-1.gz\n",
		"main/binary-arm64/Packages.diff/Index":          "not asked for",
		"main/installer-amd64/current/images/SHA256SUMS": sum + "  ./netboot/mini.iso\n",
	}
	for name, content := range beside {
		write(t, filepath.Join(dir, "dists/sid", name), content)
		fmt.Fprintf(&release, " %x %d %s\n", sha256.Sum256([]byte(content)), len(content), name)
	}
	write(t, filepath.Join(dir, "dists/sid/Release"), release.String())
	config := kind.Config{
		Format: kind.Deb, Repositories: []string{"dists/sid/Release"}, Architectures: []string{"amd64"}, Components: []string{"main", "non-free"},
		Exclude: []string{"*/dep11/icons-*"},
	}
	k := newKind(t, config)
	tree := folder(dir)
	list, _ := pointers(t, k, tree)
	if got := reason(t, k.Files(t.Context(), tree, list[0], nil)); got != "inconsistent" {
		t.Errorf("no index is there: %q", got)
	}
	for _, name := range []string{"binary-amd64", "binary-all", "debian-installer/binary-amd64", "../non-free/binary-amd64"} {
		write(t, filepath.Join(dir, "dists/sid/main", name, "Packages.xz"), "")
	}
	names := func() string {
		var got []string
		for _, f := range files(t, newKind(t, config).Files(t.Context(), tree, list[0], nil)) {
			if !strings.Contains(f.Path, "/by-hash/") || strings.Contains(f.Path, ".diff/") && !strings.Contains(f.Path, "MD5") {
				got = append(got, strings.TrimPrefix(f.Path, "dists/sid/"))
			}
		}
		slices.Sort(got)
		return strings.Join(got, " ")
	}
	want := "Release main/Contents-amd64.gz main/binary-all/Packages.xz" +
		" main/binary-amd64/Packages.diff/Index main/binary-amd64/Packages.diff/T-1-F-1.gz main/binary-amd64/Packages.diff/by-hash/SHA256/" + sum +
		" main/binary-amd64/Packages.diff/by-hash/SHA256/" + fmt.Sprintf("%x", sha256.Sum256([]byte(beside["main/binary-amd64/Packages.diff/Index"]))) +
		" main/binary-amd64/Packages.xz main/binary-amd64/Release main/cnf/Commands-amd64.xz" +
		" main/debian-installer/binary-amd64/Packages.xz main/dep11/Components-amd64.yml.gz main/i18n/Translation-de.bz2 non-free/binary-amd64/Packages.xz"
	sorted := strings.Fields(want)
	slices.Sort(sorted)
	if got := names(); got != strings.Join(sorted, " ") {
		t.Errorf("%s", got)
	}
	config.ISO = true
	if got := names(); !strings.Contains(got, "main/installer-amd64/current/images/SHA256SUMS main/installer-amd64/current/images/netboot/mini.iso") || strings.Contains(got, "installer-arm64") {
		t.Errorf("with images: %s", got)
	}
	write(t, filepath.Join(dir, "dists/sid/main/binary-amd64/Packages.diff/Index"), "another")
	if got := reason(t, k.Files(t.Context(), tree, list[0], nil)); got != "inconsistent" {
		t.Errorf("another list of differences: %q", got)
	}
}
