package closure_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/closure"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

// TestCreaterepo lists what createrepo_c makes, in several ways.
func TestCreaterepo(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "createrepo_c", "rpmbuild")
	source := t.TempDir()
	repotest.RPM(t, filepath.Join(source, "Packages/h"), "hello", "1")
	repotest.RPM(t, filepath.Join(source, "Packages/c"), "c++odd", "1~rc^2")
	for name, args := range map[string]string{
		"plain": ".", "sha512": "--checksum=sha512 .", "sha1": "--checksum=sha .", "bz2": "--general-compress-type=bz2 .",
		"xz": "--general-compress-type=xz .", "zchunk too": "--zck .", "simple names": "--simple-md-filenames .",
	} {
		dir := t.TempDir()
		peertest.Run(t, "", nil, "cp", "-r", source+"/.", dir)
		peertest.Run(t, dir, nil, "createrepo_c", append([]string{"--quiet"}, strings.Fields(args)...)...)
		c := load(t, dir)
		c["repodata/repomd.xml.asc"] = "a signature"
		primary := ""
		for p := range c {
			if strings.Contains(p, "primary.xml") && !strings.HasSuffix(p, ".zck") {
				primary = p
			}
		}
		checkClosure(t, name, closure.Repository{}, c)
		checkBroken(t, name, closure.Repository{}, c, primary, "repodata/repomd.xml")
		c = below(c, "40/os")
		c["README"] = "outside"
		for _, root := range []string{"40/os", "40/os/"} {
			checkClosure(t, name, closure.Repository{Root: root}, c, "README")
		}
	}
	elsewhere := t.TempDir()
	peertest.Run(t, "", nil, "cp", "-r", source+"/.", elsewhere)
	peertest.Run(t, elsewhere, nil, "createrepo_c", "--quiet", "--baseurl=https://elsewhere.example/", ".")
	checkClosure(t, "packages elsewhere", closure.Repository{}, load(t, elsewhere), "Packages/h/hello-1.rpm", "Packages/c/c++odd-1~rc^2.rpm")
}

// aptArchive makes an archive by apt-ftparchive, with a source.
func aptArchive(t *testing.T, byHash bool) contents {
	t.Helper()
	dir := t.TempDir()
	repotest.Deb(t, filepath.Join(dir, "pool/main/h/hello_1.0_all.deb"), "hello", "1.0")
	repotest.Deb(t, filepath.Join(dir, "pool/main/o/other_2:1.0_all.deb"), "other", "2:1.0")
	script := `set -e
printf tar > pool/main/h/src_1.tar.gz
cat > pool/main/h/src_1.dsc <<END
Format: 3.0 (native)
Source: src
Binary: src
Architecture: all
Version: 1
Maintainer: a <a@b.example>
Checksums-Sha256:
 $(sha256sum pool/main/h/src_1.tar.gz | cut -d" " -f1) 3 src_1.tar.gz
Files:
 $(md5sum pool/main/h/src_1.tar.gz | cut -d" " -f1) 3 src_1.tar.gz
END
mkdir -p dists/sid/main/binary-amd64 dists/sid/main/binary-arm64 dists/sid/main/source
apt-ftparchive packages pool > dists/sid/main/binary-amd64/Packages
: > dists/sid/main/binary-arm64/Packages
apt-ftparchive sources pool > dists/sid/main/source/Sources
gzip -k dists/sid/main/binary-*/Packages
xz -k dists/sid/main/source/Sources
apt-ftparchive -o APT::FTPArchive::Release::Suite=sid release dists/sid > Release
mv Release dists/sid/
`
	if byHash {
		script = strings.Replace(script, "-o APT", "-o APT::FTPArchive::DoByHash=true -o APT", 1) + `
cd dists/sid
sed -i '1i Acquire-By-Hash: yes' Release
for f in $(find main -type f | grep -v by-hash); do
  d=$(dirname $f)/by-hash/SHA256; mkdir -p $d; cp $f $d/$(sha256sum $f | cut -d" " -f1)
done
`
	}
	peertest.Run(t, dir, nil, "bash", "-c", script)
	return load(t, dir)
}

// TestAptFtparchive lists what apt-ftparchive makes, with and without files by their
// hash, and of indexes in one form only.
func TestAptFtparchive(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "apt-ftparchive", "dpkg-deb", "xz")
	r := closure.Repository{Kind: closure.Deb, Pointer: "dists/sid/Release"}
	c := aptArchive(t, false)
	all := checkClosure(t, "plain", r, c)
	for _, p := range []string{"pool/main/h/hello_1.0_all.deb", "pool/main/o/other_2:1.0_all.deb", "pool/main/h/src_1.dsc", "pool/main/h/src_1.tar.gz"} {
		if _, ok := all[p]; !ok {
			t.Errorf("%s is not named", p)
		}
	}
	const packages, sources = "dists/sid/main/binary-amd64/Packages", "dists/sid/main/source/Sources"
	compressed := without(without(c, packages), sources)
	checkClosure(t, "compressed only", r, compressed)
	for _, p := range []string{packages + ".gz", sources + ".xz"} {
		for how, changed := range map[string]contents{"longer": with(compressed, p, c[p]+"x"), "changed": with(compressed, p, flipped(c[p]))} {
			if _, _, err := files(t.Context(), r, changed.open); err == nil || !strings.Contains(err.Error(), p) {
				t.Errorf("%s is %s: %v", p, how, err)
			}
		}
	}
	checkClosure(t, "below", closure.Repository{Kind: closure.Deb, Root: "debian/", Pointer: "dists/sid/Release"}, below(c, "debian"))
	checkClosure(t, "in its folder", closure.Repository{Kind: closure.Deb, Root: "debian/dists/sid", Pointer: "Release"}, below(c, "debian"))
	inline := with(c, "dists/sid/InRelease", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"+c["dists/sid/Release"]+"-----BEGIN PGP SIGNATURE-----\n\nwgEA\n-----END PGP SIGNATURE-----\n")
	inline["dists/sid/Release.gpg"] = "a signature"
	checkClosure(t, "InRelease", closure.Repository{Kind: closure.Deb, Pointer: "dists/sid/InRelease"}, inline)

	hashed := aptArchive(t, true)
	checkClosure(t, "by hash", r, hashed)
	moved := make(contents) // a publish is under way: the names are those of the next
	for p, content := range hashed {
		if strings.HasSuffix(p, "Packages.gz") {
			content = "of the next"
		}
		moved[p] = content
	}
	if _, _, err := files(t.Context(), r, moved.open); err != nil {
		t.Errorf("found by hash: %v", err)
	}

	dir := t.TempDir()
	repotest.Deb(t, filepath.Join(dir, "debs/hello_1.0_all.deb"), "hello", "1.0")
	peertest.Run(t, dir, nil, "sh", "-c", "cd debs && dpkg-scanpackages . > Packages && gzip -k Packages && apt-ftparchive release . > Release; echo x > README")
	flat := load(t, dir)
	checkClosure(t, "flat", closure.Repository{Kind: closure.Deb, Root: "debs/", Pointer: "Release"}, flat, "debs/README")
	peertest.Run(t, dir, nil, "sh", "-c", "rm debs/[PR]*; dpkg-scanpackages debs > Packages && mv Packages debs && cd debs && apt-ftparchive release . > Release")
	checkClosure(t, "flat, from above", closure.Repository{Kind: closure.Deb, Pointer: "debs/Release"}, load(t, dir))
}

// TestReprepro lists what reprepro makes.
func TestReprepro(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "reprepro", "dpkg-deb")
	dir, made := t.TempDir(), t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.Mkdir(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conf, "distributions"), []byte("Codename: sid\nSuite: unstable\nArchitectures: amd64 arm64 source\nComponents: main contrib\nContents: .gz\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"hello", "libhello1"} {
		file := filepath.Join(made, name+".deb")
		repotest.Deb(t, file, name, fmt.Sprintf("%d:1.0-1", i))
		peertest.Run(t, dir, nil, "reprepro", "-C", []string{"main", "contrib"}[i], "includedeb", "sid", file)
	}
	c := make(contents)
	for name, content := range load(t, dir) {
		if strings.HasPrefix(name, "dists/") || strings.HasPrefix(name, "pool/") {
			c[name] = content
		}
	}
	r := closure.Repository{Kind: closure.Deb, Pointer: "dists/sid/Release"}
	all := checkClosure(t, "reprepro", r, c, "dists/sid/Contents-amd64.gz", "dists/sid/Contents-arm64.gz")
	n := 0
	for p := range all {
		if strings.HasSuffix(p, ".deb") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d packages", n)
	}
	checkBroken(t, "reprepro", r, c, "dists/sid/Release")
}

// TestRepoAdd lists what repo-add makes, with packages that are signed.
func TestRepoAdd(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "repo-add", "bsdtar", "gpg")
	home := t.TempDir()
	env := []string{"GNUPGHOME=" + home}
	peertest.Run(t, "", env, "gpg", "--batch", "--passphrase", "", "--quick-gen-key", "a@b.example", "ed25519", "sign", "never")
	t.Cleanup(func() { _, _ = peertest.Try(t, "", env, "gpgconf", "--kill", "all") })
	for _, ext := range []string{".gz", ".zst", ".xz"} {
		dir := t.TempDir()
		var names []string
		for _, name := range []string{"hello", "c++odd"} {
			base := repotest.Arch(t, dir, name, "1:2-1")
			peertest.Run(t, dir, env, "gpg", "--batch", "--detach-sign", base)
			names = append(names, base)
		}
		args := append([]string{"-q", "--sign"}, append([]string{"core.db.tar" + ext}, names...)...)
		peertest.Run(t, dir, env, "repo-add", args...)
		c := load(t, dir)
		r := closure.Repository{Kind: closure.Arch, Root: "core/os/x86_64/", Pointer: "core.db"}
		all := checkClosure(t, ext, r, below(c, "core/os/x86_64"))
		for _, name := range names {
			if f := all["core/os/x86_64/"+name]; f.Size < 0 || f.Optional {
				t.Errorf("%s: %+v", ext, f)
			}
		}
		checkBroken(t, ext, r, below(c, "core/os/x86_64"), "core/os/x86_64/core.db")
		checkClosure(t, ext, closure.Repository{Kind: closure.Arch, Pointer: "core.db.tar" + ext}, without(without(c, "core.db"), "core.db.sig"))
	}
}

// TestApk lists an index of apk.
func TestApk(t *testing.T) {
	t.Parallel()
	hello, one := repotest.Apk("hello", "1.0-r0")
	odd, two := repotest.Apk("lib-c++", "2_rc1-r1")
	const base = "v3/main/x86_64/"
	r := closure.Repository{Kind: closure.Alpine, Root: base}
	c := contents{base + "hello-1.0-r0.apk": hello, base + "lib-c++-2_rc1-r1.apk": odd, base + "APKINDEX.tar.gz": repotest.ApkIndex(one + two)}
	checkClosure(t, "apk", r, c)
	checkClosure(t, "signed", r, with(c, base+"APKINDEX.tar.gz", repotest.ApkSegment(false, ".SIGN.RSA.x.rsa.pub", "bytes")+repotest.ApkIndex(one+two)))
	checkBroken(t, "apk", r, c, base+"APKINDEX.tar.gz")
}
