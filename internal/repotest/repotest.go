// Package repotest makes small packages of each format by the programs of the field, for
// tests that make repositories of them. There is no apk-tools in Debian: packages of apk
// are made by the definition of the format.
//
// It is imported by tests only.
package repotest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// RPM makes NAME-VERSION.rpm in a folder, which is made if need be.
func RPM(tb testing.TB, dir, name, version string) {
	tb.Helper()
	peertest.Require(tb, "rpmbuild")
	top := tb.TempDir()
	spec := fmt.Sprintf("Name: %s\nVersion: %s\nRelease: 1\nSummary: a <test> & more\nLicense: MIT\nBuildArch: noarch\nProvides: lib(x) >= 1\n%%description\nx\n%%files\n", name, version)
	write(tb, filepath.Join(top, "x.spec"), spec)
	mkdir(tb, dir)
	peertest.Run(tb, top, nil, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+top, "--define", "_rpmdir "+dir, "--define", "_rpmfilename %{name}-%{version}.rpm", "x.spec")
}

// Deb makes a package for all architectures, under any name; its folder is made if need
// be.
func Deb(tb testing.TB, file, name, version string) {
	tb.Helper()
	peertest.Require(tb, "dpkg-deb")
	root := tb.TempDir()
	mkdir(tb, filepath.Join(root, "DEBIAN"))
	write(tb, filepath.Join(root, "DEBIAN/control"),
		fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: a <a@b.example>\nSection: misc\nPriority: optional\nDescription: x\n y\n", name, version))
	mkdir(tb, filepath.Dir(file))
	peertest.Run(tb, "", nil, "dpkg-deb", "--build", "--root-owner-group", root, file)
}

// Arch makes a package of pacman for any architecture in a folder, and returns its name.
func Arch(tb testing.TB, dir, name, version string) (base string) {
	tb.Helper()
	peertest.Require(tb, "bsdtar")
	root := tb.TempDir()
	write(tb, filepath.Join(root, ".PKGINFO"),
		fmt.Sprintf("pkgname = %s\npkgbase = %s\npkgver = %s\npkgdesc = x\nbuilddate = 1700000000\npackager = A\nsize = 1\narch = any\n", name, name, version))
	base = name + "-" + version + "-any.pkg.tar.zst"
	peertest.Run(tb, root, nil, "bsdtar", "--zstd", "-cf", filepath.Join(dir, base), ".PKGINFO")
	return base
}

// Apk returns a package of apk, and its entry in an index.
func Apk(name, version string) (content, entry string) {
	control := ApkSegment(false, ".PKGINFO", "pkgname = "+name+"\npkgver = "+version+"\n")
	content = ApkSegment(false, ".SIGN.RSA.x.rsa.pub", "not looked at") + control + ApkSegment(true, "usr/bin/"+name, strings.Repeat(name, 100))
	id := sha1.Sum([]byte(control))
	entry = fmt.Sprintf("C:Q1%s\nP:%s\nV:%s\nA:x86_64\nS:%d\nI:4096\nT:a test: it says hello\n\n", base64.StdEncoding.EncodeToString(id[:]), name, version, len(content))
	return content, entry
}

// ApkIndex returns an APKINDEX.tar.gz of entries.
func ApkIndex(entries string) string {
	return ApkSegment(true, "DESCRIPTION", "x", "APKINDEX", entries)
}

// ApkSegment is a gzip stream of a piece of a tar archive, in pairs of name and content;
// only the last of a file has the end of the archive.
func ApkSegment(last bool, files ...string) string {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for pair := range slices.Chunk(files, 2) {
		_ = w.WriteHeader(&tar.Header{Name: pair[0], Mode: 0o644, Size: int64(len(pair[1]))})
		_, _ = w.Write([]byte(pair[1]))
	}
	if last {
		_ = w.Close()
	} else {
		_ = w.Flush()
	}
	_ = zip.Close()
	return b.String()
}

func mkdir(tb testing.TB, dir string) {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
}

func write(tb testing.TB, file, content string) {
	tb.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		tb.Fatal(err)
	}
}
