package roots

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/gvariant"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
	"freshet/internal/sign"
)

func text(s string) Content { return strings.NewReader(s) }

// keys makes a signer and the verifier of its signatures.
func keys(t testing.TB) (*sign.Keyring, *sign.Verifier) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.asc")
	if _, err := sign.Generate(file, "Test <test@example.org>"); err != nil {
		t.Fatal(err)
	}
	ring, err := sign.Open(sign.KeyFile{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	public, err := ring.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := sign.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return ring, verifier
}

func detached(t testing.TB, ring *sign.Keyring, data string) string {
	t.Helper()
	list, err := ring.Sign(t.Context(), []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return string(list[0])
}

func summarySig(t testing.TB, ring *sign.Keyring, data string) string {
	t.Helper()
	var d gvariant.Dict
	ostree.SetGPGSignatures(&d, [][]byte{[]byte(detached(t, ring, data))})
	return string(ostree.EncodeDetached(d))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	ring, mine := keys(t)
	_, other := keys(t)
	armored := func(data string) string {
		var d []byte
		d = append(d, detached(t, ring, data)...)
		return string(d)
	}
	sum := layout.Set{Kind: "summary", Root: "/"}
	md := layout.Set{Kind: "repomd", Root: "/"}
	rel := layout.Set{Kind: "release", Root: "/d/"}
	release := func(date string) string { return "Date: " + date + "\nSHA256:\n " + strings.Repeat("a", 64) + " 1 P\n" }
	for name, c := range map[string]struct {
		set   layout.Set
		files map[string]string
		keys  *sign.Verifier
		proof Proof
		err   error
	}{
		"unsigned":            {sum, map[string]string{"/summary": "a"}, nil, Single, nil},
		"unsigned with key":   {sum, map[string]string{"/summary": "a"}, mine, 0, ErrUnsigned},
		"signature alone":     {sum, map[string]string{"/summary.sig": "a"}, nil, 0, ErrMismatch},
		"fits":                {sum, map[string]string{"/summary": "a", "/summary.sig": summarySig(t, ring, "a")}, nil, Likely, nil},
		"fits by key":         {sum, map[string]string{"/summary": "a", "/summary.sig": summarySig(t, ring, "a")}, mine, Signed, nil},
		"another key":         {sum, map[string]string{"/summary": "a", "/summary.sig": summarySig(t, ring, "a")}, other, 0, sign.ErrBadSignature},
		"does not fit":        {sum, map[string]string{"/summary": "b", "/summary.sig": summarySig(t, ring, "a")}, nil, 0, ErrMismatch},
		"does not fit by key": {sum, map[string]string{"/summary": "b", "/summary.sig": summarySig(t, ring, "a")}, mine, 0, ErrMismatch},
		"no OpenPGP":          {sum, map[string]string{"/summary": "b", "/summary.sig": "?"}, nil, Unproven, nil},
		"another kind":        {md, map[string]string{"/repodata/repomd.xml": "b", "/repodata/repomd.xml.asc": "untrusted comment: signature"}, nil, Unproven, nil},
		"repomd":              {md, map[string]string{"/repodata/repomd.xml": "a", "/repodata/repomd.xml.asc": armored("a"), "/repodata/repomd.xml.key": "k"}, nil, Likely, nil},
		"repomd, another":     {md, map[string]string{"/repodata/repomd.xml": "b", "/repodata/repomd.xml.asc": armored("a")}, nil, 0, ErrMismatch},
		"release":             {rel, map[string]string{"/d/InRelease": release("1"), "/d/Release": release("1"), "/d/Release.gpg": detached(t, ring, release("1"))}, nil, Likely, nil},
		"two releases":        {rel, map[string]string{"/d/InRelease": release("1"), "/d/Release": release("2")}, nil, 0, ErrMismatch},
		"apk":                 {layout.Set{Kind: "apkindex", Root: "/"}, map[string]string{"/APKINDEX.tar.gz": "a"}, mine, Single, nil},
	} {
		files := make(Files)
		for path, body := range c.files {
			files[path] = text(body)
		}
		proof, err := Check(c.set, files, c.keys)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || proof != c.proof {
			t.Errorf("%s: %v, %v; want %v, %v", name, proof, err, c.proof, c.err)
		}
	}
}

func TestWanted(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/r/summary.sig":             "/r/summary /r/summary.sig",
		"/r/summary.idx":             "/r/summary.idx",
		"/r/repodata/repomd.xml":     "/r/repodata/repomd.xml /r/repodata/repomd.xml.asc",
		"/r/repodata/repomd.xml.key": "/r/repodata/repomd.xml /r/repodata/repomd.xml.asc /r/repodata/repomd.xml.key",
		"/dists/s/InRelease":         "/dists/s/InRelease",
		"/dists/s/Release.gpg":       "/dists/s/Release /dists/s/Release.gpg",
		"/core/core.db":              "/core/core.db /core/core.db.sig",
		"/v3/APKINDEX.tar.gz":        "/v3/APKINDEX.tar.gz",
	} {
		set := layout.PolicyOf(path).Set
		if !IsRoot(set, path) {
			t.Errorf("%s is no root of %v", path, set)
		}
		if got := strings.Join(Wanted(set, func(p string) bool { return p == path }), " "); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"/dists/s/main/binary-amd64/Packages", "/dists/s/main/binary-amd64/Release", "/r/repodata/primary.xml"} {
		if IsRoot(layout.PolicyOf(path).Set, path) {
			t.Errorf("%s is a root", path)
		}
	}
}

func TestListRelease(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("ab", 32)
	set := layout.Set{Kind: "release", Root: "/dists/s/"}
	l, err := List(set, Files{"/dists/s/InRelease": text("Valid-Until: Sat, 01 Jan 2022 10:00:00 UTC\nAcquire-By-Hash: yes\nMD5Sum:\n " + strings.Repeat("0", 32) + " 1 weak\nSHA256:\n " + sum + " 5 main/Packages.gz\n")})
	if err != nil {
		t.Fatal(err)
	}
	m := l.Members["/dists/s/main/Packages.gz"]
	if m.Digest.Value() != sum || m.Twin != "/dists/s/main/by-hash/SHA256/"+sum || len(l.Members) != 1 || !l.ValidUntil.Equal(time.Date(2022, 1, 1, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", l)
	}
	if l, err := List(set, Files{"/dists/s/InRelease": text("Valid-Until: whenever\n")}); err != nil || l.ValidUntil.After(time.Unix(2, 0)) || l.ValidUntil.IsZero() {
		t.Errorf("a time that cannot be read: %v, %v", l, err)
	}
}

// The roots that real tools write are read, and their signatures by the real
// gpg are found to fit.
func TestRealRoots(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "createrepo_c", "apt-ftparchive", "gpg", "ostree")
	dir := t.TempDir()
	env := []string{"GNUPGHOME=" + filepath.Join(dir, "gpg"), "HOME=" + dir}
	if err := os.MkdirAll(filepath.Join(dir, "gpg"), 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) string {
		return string(peertest.Run(t, dir, env, program, args...))
	}
	run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "test@example.org", "ed25519", "sign", "never")
	public, err := sign.NewVerifier([]byte(run("gpg", "--armor", "--export")))
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) Content {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(data)
	}
	check := func(set layout.Set, files Files, members int) {
		t.Helper()
		if proof, err := Check(set, files, nil); err != nil || proof == Unproven {
			t.Errorf("%s without keys: %v, %v", set.Kind, proof, err)
		}
		if proof, err := Check(set, files, public); err != nil || proof != Signed {
			t.Errorf("%s: %v, %v", set.Kind, proof, err)
		}
		if l, err := List(set, files); err != nil || len(l.Members) < members {
			t.Errorf("%s: %d files listed, %v", set.Kind, len(l.Members), err)
		}
		first := Groups(set)[0].File
		if set.Kind != "release" {
			files[first] = text("something else")
			if _, err := Check(set, files, nil); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s: other bytes: %v", set.Kind, err)
			}
		}
	}
	run("createrepo_c", ".")
	run("gpg", "--batch", "--armor", "--detach-sign", "repodata/repomd.xml")
	check(layout.Set{Kind: "repomd", Root: "/"}, Files{"/repodata/repomd.xml": file("repodata/repomd.xml"), "/repodata/repomd.xml.asc": file("repodata/repomd.xml.asc")}, 3)

	if err := os.MkdirAll(filepath.Join(dir, "dists/s/main/binary-amd64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dists/s/main/binary-amd64/Packages"), []byte("Package: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Release"), []byte(run("apt-ftparchive", "release", "dists/s")), 0o600); err != nil {
		t.Fatal(err)
	}
	run("gpg", "--batch", "--clearsign", "-o", "InRelease", "Release")
	run("gpg", "--batch", "--armor", "--detach-sign", "-o", "Release.gpg", "Release")
	check(layout.Set{Kind: "release", Root: "/"}, Files{"/InRelease": file("InRelease"), "/Release": file("Release"), "/Release.gpg": file("Release.gpg")}, 1)

	run("ostree", "init", "--repo=repo", "--mode=archive")
	if err := os.MkdirAll(filepath.Join(dir, "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	run("ostree", "commit", "--repo=repo", "-b", "app/org.x/x86_64/stable", "--tree=dir=tree")
	run("ostree", "summary", "--repo=repo", "-u", "--gpg-sign=test@example.org", "--gpg-homedir="+filepath.Join(dir, "gpg"))
	check(layout.Set{Kind: "summary", Root: "/repo/"}, Files{"/repo/summary": file("repo/summary"), "/repo/summary.sig": file("repo/summary.sig")}, 0)
}

// Whatever an origin sends, it is answered without a panic, and with an error
// that has a meaning.
func FuzzRoots(f *testing.F) {
	ring, _ := keys(f)
	f.Add("summary", []byte("a"), []byte(summarySig(f, ring, "a")))
	f.Add("repomd", []byte(`<repomd><data type="primary"><checksum type="sha256">00</checksum><location href="../x"/></data></repomd>`), []byte(detached(f, ring, "a")))
	f.Add("release", []byte("-----BEGIN PGP SIGNED MESSAGE-----\n\nDate: x\n-----BEGIN PGP SIGNATURE-----\n\nxx\n-----END PGP SIGNATURE-----\n"), []byte{})
	f.Add("summary-index", (&ostree.SummaryIndex{}).Encode(), []byte{})
	f.Add("pacman", []byte("db"), []byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, kind string, data, sig []byte) {
		set := layout.Set{Kind: kind, Root: "/r/"}
		groups := Groups(set)
		if len(groups) == 0 {
			return
		}
		files := Files{groups[0].File: bytes.NewReader(data)}
		if groups[0].Signature != "" {
			files[groups[0].Signature] = bytes.NewReader(sig)
		}
		if proof, err := Check(set, files, nil); err != nil && (proof != Unproven || !errors.Is(err, ErrMismatch)) {
			t.Errorf("%v, %v", proof, err)
		}
		l, err := List(set, files)
		if l == nil || err != nil && (len(l.Members) > 0 || !errors.Is(err, ErrMismatch)) {
			t.Fatalf("%v, %v", l, err)
		}
		for name, m := range l.Members {
			if !strings.HasPrefix(m.Path, "/r/") || strings.Contains(m.Path, "/../") {
				t.Errorf("%q leads to %q", name, m.Path)
			}
		}
	})
}
