package kind_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/mirror/kind"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

// Repositories of pacman as Arch lays them out: databases among packages that are links
// into a pool.
func TestArch(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "repo-add", "bsdtar")
	g := newGPG(t)
	dir := t.TempDir()
	pool := filepath.Join(dir, "pool/packages")
	for _, repo := range []string{"core", "extra"} {
		at := filepath.Join(dir, repo, "os/x86_64")
		if err := os.MkdirAll(pool, 0o755); err != nil {
			t.Fatal(err)
		}
		base := repotest.Arch(t, pool, repo+"-hello", "1-1")
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../../pool/packages/"+base, filepath.Join(at, base)); err != nil {
			t.Fatal(err)
		}
		g.run(t, pool, "--detach-sign", base)
		peertest.Run(t, at, g.env, "repo-add", "--quiet", "--sign", repo+".db.tar.gz", base)
	}
	write(t, filepath.Join(dir, "lastupdate"), "1700000000\n")
	write(t, filepath.Join(dir, "iso/2026.11.01/archlinux.iso"), "an image")

	tree := folder(dir)
	c := kind.Config{
		Format: kind.Arch, Repositories: []string{"{component}/os/{arch}/{component}.db"}, Components: []string{"core", "extra"},
		Architectures: []string{"x86_64"}, Probe: []string{"lastupdate"},
	}
	k := newKind(t, c)
	list, names := pointers(t, k, tree)
	if names != "core/os/x86_64/core.db extra/os/x86_64/extra.db" {
		t.Fatal(names)
	}
	all := files(t, k.Files(t.Context(), tree, list[0], nil))
	last(t, all)
	text := strings.Join(copied(t, all, dir, t.TempDir()), " ")
	for _, part := range []string{"core-hello-1-1-any.pkg.tar.zst", "core.db.tar.gz", "core.files", "core.db.sig"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is missing: %s", part, text)
		}
	}
	if probe, complete := k.Probe(list); strings.Join(probe, " ") != "core/os/x86_64/core.db extra/os/x86_64/extra.db lastupdate" || !complete {
		t.Errorf("%v, %v", probe, complete)
	}
	if got := strings.Join(k.Stamps(), " "); got != "lastsync lastupdate" {
		t.Error(got)
	}
	if v := signed(t, c, g, tree, list[0], "likely"); v.MarkOf != "mtime" || v.Mark == 0 {
		t.Errorf("%+v", v)
	}
	checkRollback(t, k, tree, list[0])

	// From a listing: databases are files or links, packages are not beside them.
	k = newKind(t, kind.Config{Format: kind.Arch, ISO: true})
	list, names = pointers(t, k, tree)
	if names != "core/os/x86_64/core.db extra/os/x86_64/extra.db" {
		t.Errorf("from a listing: %s", names)
	}
	var rest []string
	for _, f := range files(t, k.Rest(t.Context(), tree, list, nil)) {
		rest = append(rest, f.Path)
	}
	if got := strings.Join(rest, " "); got != "iso/2026.11.01/archlinux.iso lastupdate" {
		t.Errorf("rest: %s", got)
	}
	at := filepath.Join(dir, "core/os/x86_64")
	if err := os.WriteFile(filepath.Join(at, "core.db.tar.gz"), []byte("<html>"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := reason(t, k.Files(t.Context(), tree, list[0], nil)); got != "unreadable" {
		t.Errorf("not a database: %q", got)
	}
}

// A repository of Alpine, and its signature by an RSA key.
func TestAlpine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	content, entry := repotest.Apk("hello", "1.0-r0")
	body := repotest.ApkIndex(entry)
	key, public := rsaKey(t)
	hash := sha1.Sum([]byte(body))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA1, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	index := repotest.ApkSegment(false, ".SIGN.RSA.me.rsa.pub", string(signature)) + body
	for _, arch := range []string{"x86_64", "aarch64"} {
		at := filepath.Join(dir, "v3.23/main", arch)
		write(t, filepath.Join(at, "APKINDEX.tar.gz"), index)
		write(t, filepath.Join(at, "hello-1.0-r0.apk"), content)
		write(t, filepath.Join(at, "gone-1.0-r0.apk"), content)
	}
	write(t, filepath.Join(dir, "last-updated"), "x")
	write(t, filepath.Join(dir, "me.rsa.pub"), public)
	_, otherPublic := rsaKey(t)
	write(t, filepath.Join(dir, "other/me.rsa.pub"), otherPublic)

	tree := folder(dir)
	c := kind.Config{Format: kind.Alpine, Releases: []string{"v3.23"}, Architectures: []string{"amd64"}}
	k := newKind(t, c)
	list, names := pointers(t, k, tree)
	if names != "v3.23/main/x86_64/APKINDEX.tar.gz" {
		t.Fatal(names)
	}
	got := copied(t, files(t, k.Files(t.Context(), tree, list[0], nil)), dir, t.TempDir())
	if strings.Join(got, " ") != "v3.23/main/x86_64/APKINDEX.tar.gz v3.23/main/x86_64/hello-1.0-r0.apk" {
		t.Error(got)
	}
	if _, complete := k.Probe(list); complete {
		t.Error("a listing may have more")
	}
	if got := k.Stamps(); len(got) != 1 || got[0] != "last-updated" {
		t.Error(got)
	}
	for want, file := range map[string]string{"signed": "me.rsa.pub", "bad-signature": "other/me.rsa.pub"} {
		c.Keys = loadKeys(t, kind.Alpine, filepath.Join(dir, file))
		v, err := newKind(t, c).Version(t.Context(), tree.Open, list[0])
		if want != v.Proof && (err == nil || kind.Reason(err) != want) {
			t.Errorf("%s: %+v, %v", want, v, err)
		}
	}
	write(t, filepath.Join(dir, list[0].Pointer), body)
	if _, err := newKind(t, c).Version(t.Context(), tree.Open, list[0]); kind.Reason(err) != "unsigned" {
		t.Errorf("without a signature: %v", err)
	}
	// An older file is a step backwards.
	now, err := k.Version(t.Context(), tree.Open, list[0])
	if err != nil || now.Proof != "single" {
		t.Fatal(now, err)
	}
	write(t, filepath.Join(dir, list[0].Pointer), index)
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, list[0].Pointer), hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	older, err := k.Version(t.Context(), tree.Open, list[0])
	if err != nil || kind.Reason(older.Follows(now)) != "rollback" {
		t.Errorf("%+v after %+v, %v", older, now, err)
	}
	damaged := kind.File{}
	for _, f := range files(t, k.Files(t.Context(), tree, list[0], nil)) {
		if strings.HasSuffix(f.Path, ".apk") {
			damaged = f
		}
	}
	other, _ := repotest.Apk("hellO", "1.0-r0")
	if err := kind.Verify(damaged, strings.NewReader(other)); err == nil || kind.Reason(err) != "wrong" {
		t.Errorf("another package: %v", err)
	}
}

func rsaKey(t *testing.T) (key *rsa.PrivateKey, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Images with lists of checksums as Kali, Fedora and VideoLAN have them.
func TestImages(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "sha256sum", "sha512sum", "sha1sum")
	g := newGPG(t)
	dir := t.TempDir()
	for _, name := range []string{"kali/live-amd64.iso", "kali/live-arm64.iso", "kali/README", "fedora/f.iso", "vlc/vlc.tar.xz", "odd/a.iso"} {
		write(t, filepath.Join(dir, name), strings.Repeat(name, 100))
	}
	peertest.Run(t, dir, g.env, "bash", "-c", `set -e
cd kali; sha256sum *.iso > SHA256SUMS; sha1sum *.iso > SHA1SUMS; gpg --batch --armor --detach-sign -o SHA256SUMS.gpg SHA256SUMS; gpg --batch --armor --detach-sign -o SHA1SUMS.gpg SHA1SUMS
cd ../fedora; (echo "# f.iso: $(stat -c %s f.iso) bytes"; sha256sum --tag f.iso) > x; gpg --batch --clearsign -o Fedora-40-CHECKSUM x; rm x
cd ../vlc; sha256sum vlc.tar.xz > vlc.tar.xz.sha256; sha1sum vlc.tar.xz | cut -d" " -f1 > vlc.tar.xz.sha1; gpg --batch --armor --detach-sign -o vlc.tar.xz.sha256.asc vlc.tar.xz.sha256
cd ../odd; sha512sum a.iso > sha512sum.txt`)

	tree := folder(dir)
	c := kind.Config{Format: kind.Images, Architectures: []string{"x86_64"}}
	k := newKind(t, c)
	list, names := pointers(t, k, tree)
	if names != "fedora/Fedora-40-CHECKSUM kali/SHA256SUMS odd/sha512sum.txt vlc/vlc.tar.xz.sha256" {
		t.Fatal(names)
	}
	for i, want := range []string{
		"fedora/Fedora-40-CHECKSUM fedora/f.iso", "kali/SHA1SUMS kali/SHA1SUMS.gpg kali/SHA256SUMS kali/SHA256SUMS.gpg kali/live-amd64.iso", "odd/a.iso odd/sha512sum.txt",
		"vlc/vlc.tar.xz vlc/vlc.tar.xz.sha1 vlc/vlc.tar.xz.sha256 vlc/vlc.tar.xz.sha256.asc",
	} {
		var left kind.Left
		all := files(t, k.Files(t.Context(), tree, list[i], &left))
		last(t, all)
		if got := strings.Join(copied(t, all, dir, t.TempDir()), " "); got != want {
			t.Errorf("%s", got)
		}
		if (left.Files == 1) != (i == 1) {
			t.Errorf("%s: left %+v", want, left)
		}
	}
	var rest []string
	for _, f := range files(t, k.Rest(t.Context(), tree, list, nil)) {
		rest = append(rest, f.Path)
	}
	if got := strings.Join(rest, " "); got != "kali/README" {
		t.Errorf("rest: %s", got)
	}
	// With a pattern, a list is all.
	part := newKind(t, kind.Config{Format: kind.Images, Repositories: []string{"kali"}})
	only, names := pointers(t, part, kind.Tree{Open: tree.Open})
	if rest := files(t, part.Rest(t.Context(), tree, only, nil)); names != "kali/SHA256SUMS" || len(rest) > 0 {
		t.Errorf("%s, beside a list: %+v", names, rest)
	}
	if probe, complete := part.Probe(only); len(probe) != 1 || !complete {
		t.Errorf("%v, %v", probe, complete)
	}
	signed(t, c, g, tree, list[0], "likely")
	signed(t, c, g, tree, list[1], "likely")
	signed(t, c, g, tree, list[3], "likely")
	c.Keys = loadKeys(t, c.Format, g.file)
	if _, err := newKind(t, c).Version(t.Context(), tree.Open, list[2]); kind.Reason(err) != "unsigned" {
		t.Errorf("unsigned: %v", err)
	}
	write(t, filepath.Join(dir, "kali/SHA256SUMS"), strings.Repeat("0", 64)+"  live-amd64.iso\n")
	if _, err := newKind(t, kind.Config{Format: kind.Images}).Version(t.Context(), tree.Open, list[1]); kind.Reason(err) != "inconsistent" {
		t.Errorf("a list without its signature: %v", err)
	}
	for _, f := range files(t, k.Files(t.Context(), tree, list[1], nil)) {
		data, err := os.ReadFile(filepath.Join(dir, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		if err := kind.Verify(f, strings.NewReader(string(data))); (err != nil) != strings.HasSuffix(f.Path, ".iso") {
			t.Errorf("%s: %v", f.Path, err)
		}
	}
}

// A plain tree is what a listing has, links too.
func TestPlain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a/b.tar.xz", "a/source/c.tar", "d.iso", "tmp/x", ".~tmp~/y", "odd: %#? name"} {
		write(t, filepath.Join(dir, name), name)
	}
	if err := os.Symlink("a", filepath.Join(dir, "stable")); err != nil {
		t.Fatal(err)
	}
	k := newKind(t, kind.Config{Format: kind.Plain, Exclude: []string{"tmp/*"}, Stamps: []string{"TIME"}})
	tree := folder(dir)
	list, _ := pointers(t, k, tree)
	var got []string
	var left kind.Left
	for _, f := range files(t, k.Rest(t.Context(), tree, list, &left)) {
		if f.ModTime.IsZero() || f.Size < 0 {
			t.Errorf("%+v", f)
		}
		got = append(got, f.Path)
	}
	if strings.Join(got, "|") != "a/b.tar.xz|a/source/c.tar|d.iso|odd: %#? name|stable" || left.Files != 1 {
		t.Errorf("%v, left %+v", got, left)
	}
	if names, complete := k.Probe(list); len(names) > 0 || complete {
		t.Error(names, complete)
	}
	if got := k.Stamps(); len(got) != 1 || got[0] != "TIME" {
		t.Error(got)
	}
	tree.List = nil
	if got := reason(t, k.Rest(t.Context(), tree, list, nil)); got != "no-listing" {
		t.Error(got)
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	trace := kind.Trace{
		Host: "mirror.example", Machine: "box7.example", Upstream: "deb.example\nX: y", Software: "freshet v1.2", Began: began, Ended: began.Add(time.Minute), Bytes: 600,
		Rsync: true, Serial: "2026112201", Trigger: "trigger (master)", Architectures: []string{"all", "amd64", "source"},
		Maintainer: "Admins <admins@mirror.example>", Sponsor: "Example <https://example.com>", Country: "DE", Location: "Berlin", Throughput: "1Gb",
	}
	name, content := newKind(t, kind.Config{Format: kind.Deb, Architectures: []string{"amd64"}}).Trace(trace)
	want := `Sun Nov 22 01:03:03 UTC 2026
Date: Sun, 22 Nov 2026 01:03:03 +0000
Date-Started: Sun, 22 Nov 2026 01:02:03 +0000
Archive serial: 2026112201
Creator: freshet v1.2
Running on host: box7.example
Maintainer: Admins <admins@mirror.example>
Sponsor: Example <https://example.com>
Country: DE
Location: Berlin
Throughput: 1Gb
Trigger: trigger (master)
Architectures: all amd64 source
Architectures-Configuration: INCLUDE amd64
Upstream-mirror: deb.exampleX: y
Rsync-Transport: plain
Total bytes received in rsync: 600
Total time spent in rsync: 60
Average rate: 10 B/s
`
	if name != "project/trace/mirror.example" || string(content) != want {
		t.Errorf("%s\n%s", name, content)
	}
	for text, want := range map[string]string{
		"Sun Nov 22 01:03:03 UTC 2026\nArchive serial: 2026112201\nX: y\n": "2026112201", "archive Serial:\t7": "7", "": "", "Archive serial\n": "",
		"Archive serial: " + strings.Repeat("1", 100): "",
	} {
		if got := kind.ArchiveSerial([]byte(text)); got != want {
			t.Errorf("%.30q: %q", text, got)
		}
	}
	for file, want := range map[string]string{
		"dists/sid/main/binary-amd64/Packages.xz": "amd64", "dists/sid/main/source/Sources.gz": "source", "dists/sid/main/binary-all/Packages": "all",
		"dists/sid/main/binary-amd64/Release": "", "pool/source/Packages": "", "Packages": "",
	} {
		if got := kind.ArchitectureOf(file); got != want {
			t.Errorf("%s: %q", file, got)
		}
	}
	for _, host := range []string{"", "a/b", "..", "a\nb", "_traces"} {
		trace.Host = host
		if name, _ := newKind(t, kind.Config{Format: kind.Deb}).Trace(trace); name != "" {
			t.Errorf("%q: %s", host, name)
		}
	}
	trace.Host = "x"
	if name, _ := newKind(t, kind.Config{Format: kind.RPM}).Trace(trace); name != "" {
		t.Error(name)
	}
}
