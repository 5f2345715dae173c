// Package kindtest has an upstream of each kind, made by the programs of the field, and
// what a client does with it. It is imported by tests only.
package kindtest

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/mirror/kind"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

// Upstream is one of one kind.
type Upstream struct {
	Name string
	// Needs are the programs that make it.
	Needs  []string
	Config kind.Config
	// Publish makes version v, from 1, in the upstream's folder: some files stay, one is
	// gone, one is new, one has another content.
	Publish func(tb testing.TB, up string, v int)
}

// Upstreams are one of each kind.
func Upstreams() []Upstream {
	return []Upstream{
		{"rpm", []string{"rpmbuild", "createrepo_c"}, kind.Config{Format: kind.RPM, Repositories: []string{"repo"}}, publishRPM},
		{"deb", []string{"dpkg-deb", "apt-ftparchive"}, kind.Config{Format: kind.Deb, Repositories: []string{"dists/sid"}}, publishDeb},
		{"arch", []string{"bsdtar", "repo-add"}, kind.Config{Format: kind.Arch, Repositories: []string{"core/os/x86_64/core.db"}}, publishArch},
		{"alpine", nil, kind.Config{Format: kind.Alpine, Repositories: []string{"v3/main/x86_64"}}, publishAlpine},
		{"images", nil, kind.Config{Format: kind.Images}, publishImages},
		{"ostree", []string{"ostree"}, kind.Config{Format: kind.OSTree}, publishOSTree},
		{"plain", nil, kind.Config{Format: kind.Plain}, publishPlain},
	}
}

// Put replaces a file, never in place: a server may be reading it. Its folder is made if
// need be.
func Put(tb testing.TB, file string, data string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(file+"~", []byte(data), 0o644); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(file+"~", file); err != nil {
		tb.Fatal(err)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func remove(tb testing.TB, file string) {
	tb.Helper()
	if err := os.RemoveAll(file); err != nil {
		tb.Fatal(err)
	}
}

func publishRPM(tb testing.TB, up string, v int) {
	tb.Helper()
	packages := filepath.Join(up, "repo/Packages")
	if v == 1 {
		for _, name := range []string{"stays", "too"} {
			repotest.RPM(tb, packages, name, "1")
		}
	}
	// What is behind a package is not read by the programs that make repositories.
	text, err := os.ReadFile(filepath.Join(packages, "stays-1.rpm"))
	if err != nil {
		tb.Fatal(err)
	}
	remove(tb, filepath.Join(packages, fmt.Sprintf("new%d.rpm", v-1)))
	Put(tb, filepath.Join(packages, fmt.Sprintf("new%d.rpm", v)), string(text)+strings.Repeat("x", v))
	Put(tb, filepath.Join(packages, "changes.rpm"), string(text)+strings.Repeat("y", 50+v%2)+fmt.Sprint(v))
	peertest.Run(tb, up, nil, "createrepo_c", "--quiet", fmt.Sprintf("--revision=%d", v), "repo")
}

func publishDeb(tb testing.TB, up string, v int) {
	tb.Helper()
	for _, name := range []string{"stays", "too", fmt.Sprintf("new%d", v)} {
		if file := filepath.Join(up, "pool", name+".deb"); !exists(file) {
			repotest.Deb(tb, file, name, "1")
		}
	}
	remove(tb, filepath.Join(up, fmt.Sprintf("pool/new%d.deb", v-1)))
	peertest.Run(tb, up, nil, "sh", "-ec", `
		mkdir -p dists/sid/main/binary-amd64
		apt-ftparchive packages pool > dists/sid/main/binary-amd64/Packages
		gzip -nkf dists/sid/main/binary-amd64/Packages
		apt-ftparchive -o APT::FTPArchive::Release::Suite=sid -o APT::FTPArchive::Release::Acquire-By-Hash=no release dists/sid > Release
		mv Release dists/sid/Release`)
	// The date is that of the version.
	text, err := os.ReadFile(filepath.Join(up, "dists/sid/Release"))
	if err != nil {
		tb.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Date:") {
			line = fmt.Sprintf("Date: Thu, 01 Jan 2026 %02d:%02d:00 UTC\n", v/60, v%60)
		}
		lines = append(lines, line)
	}
	Put(tb, filepath.Join(up, "dists/sid/InRelease"), strings.Join(lines, ""))
	remove(tb, filepath.Join(up, "dists/sid/Release"))
}

func publishArch(tb testing.TB, up string, v int) {
	tb.Helper()
	dir := filepath.Join(up, "core/os/x86_64")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	var bases []string
	for _, name := range []string{"stays", "too", fmt.Sprintf("new%d", v)} {
		if base := name + "-1-1-any.pkg.tar.zst"; !exists(filepath.Join(dir, base)) {
			repotest.Arch(tb, dir, name, "1-1")
			bases = append(bases, base)
		}
	}
	db := []string{"-q", "core.db.tar.gz"}
	if gone := fmt.Sprintf("new%d", v-1); exists(filepath.Join(dir, gone+"-1-1-any.pkg.tar.zst")) {
		peertest.Run(tb, dir, nil, "repo-remove", append(db, gone)...)
		remove(tb, filepath.Join(dir, gone+"-1-1-any.pkg.tar.zst"))
	}
	peertest.Run(tb, dir, nil, "repo-add", append(db, bases...)...)
}

func publishAlpine(tb testing.TB, up string, v int) {
	tb.Helper()
	dir := filepath.Join(up, "v3/main/x86_64")
	var entries strings.Builder
	for _, name := range []string{"stays", "too", fmt.Sprintf("new%d", v)} {
		content, entry := repotest.Apk(name, "1")
		if file := filepath.Join(dir, name+"-1.apk"); !exists(file) {
			Put(tb, file, content)
		}
		entries.WriteString(entry)
	}
	remove(tb, filepath.Join(dir, fmt.Sprintf("new%d-1.apk", v-1)))
	Put(tb, filepath.Join(dir, "APKINDEX.tar.gz"), repotest.ApkIndex(entries.String()))
}

func publishImages(tb testing.TB, up string, v int) {
	tb.Helper()
	contents := map[string]string{
		"iso/stays.iso":                   "the same",
		fmt.Sprintf("iso/new%d.iso", v):   fmt.Sprintf("image %d", v),
		"iso/changes.iso":                 fmt.Sprintf("changes %d", v),
		fmt.Sprintf("iso/other%d.iso", v): fmt.Sprintf("image %d", v),
	}
	var sums strings.Builder
	for name, text := range contents {
		Put(tb, filepath.Join(up, name), text)
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256([]byte(text)), filepath.Base(name))
	}
	remove(tb, filepath.Join(up, fmt.Sprintf("iso/new%d.iso", v-1)))
	remove(tb, filepath.Join(up, fmt.Sprintf("iso/other%d.iso", v-1)))
	Put(tb, filepath.Join(up, "iso/SHA256SUMS"), sums.String())
}

func publishOSTree(tb testing.TB, up string, v int) {
	tb.Helper()
	tree := tb.TempDir()
	Put(tb, filepath.Join(tree, "stays"), "the same")
	Put(tb, filepath.Join(tree, "usr/changes"), fmt.Sprintf("version %d", v))
	Put(tb, filepath.Join(tree, fmt.Sprintf("usr/new%d", v)), fmt.Sprintf("new %d", v))
	if v == 1 {
		peertest.Run(tb, up, nil, "ostree", "init", "--mode=archive", "--repo=.")
	}
	peertest.Run(tb, up, nil, "ostree", "--repo=.", "commit", "--branch=app/x", fmt.Sprintf("--timestamp=@%d", 1_700_000_000+v), "--tree=dir="+tree)
	peertest.Run(tb, up, nil, "ostree", "--repo=.", "prune", "--refs-only", "--depth=0")
	peertest.Run(tb, up, nil, "ostree", "--repo=.", "summary", "-u")
}

func publishPlain(tb testing.TB, up string, v int) {
	tb.Helper()
	if stays := filepath.Join(up, "stays"); v == 1 {
		Put(tb, stays, "the same")
		if err := os.Chtimes(stays, time.Unix(1_700_000_000, 0), time.Unix(1_700_000_000, 0)); err != nil {
			tb.Fatal(err)
		}
	}
	Put(tb, filepath.Join(up, "dir/changes"), fmt.Sprintf("version %d", v))
	Put(tb, filepath.Join(up, "odd: % # ? name\n"), fmt.Sprintf("version %d", v))
	Put(tb, filepath.Join(up, fmt.Sprintf("dir/new%d", v)), fmt.Sprintf("version %d", v))
	remove(tb, filepath.Join(up, fmt.Sprintf("dir/new%d", v-1)))
	if v == 1 {
		if err := os.Symlink("stays", filepath.Join(up, "link")); err != nil {
			tb.Fatal(err)
		}
	}
}
