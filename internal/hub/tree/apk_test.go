package tree

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

func TestApkClosure(t *testing.T) {
	t.Parallel()
	hello, one := repotest.Apk("hello", "1.0-r0")
	odd, two := repotest.Apk("lib-c++", "2_rc1-r1")
	const base, gone = "v3/main/x86_64/", "v3/main/x86_64/lib-c++-2_rc1-r1.apk"
	c := contents{base + "hello-1.0-r0.apk": hello, gone: odd, base + "APKINDEX.tar.gz": repotest.ApkIndex(one + two)}
	control := sha256.Sum256([]byte(repotest.ApkSegment(false, ".PKGINFO", "pkgname = hello\npkgver = 1.0-r0\n")))
	trees := begin(t, quickDir(t), Options{})
	index := func(text string) contents { return with(c, contents{base + "APKINDEX.tar.gz": text}) }
	for name, c := range map[string]contents{
		"plain":            c,
		"signed, no keys":  index(repotest.ApkSegment(false, ".SIGN.RSA.x.rsa.pub", "bytes") + repotest.ApkIndex(one+two)),
		"no packages":      index(repotest.ApkIndex("")),
		"no last line":     index(repotest.ApkIndex(strings.TrimRight(one, "\n"))),
		"sha256":           index(repotest.ApkIndex("C:Q2" + base64.StdEncoding.EncodeToString(control[:]) + "\nP:hello\nV:1.0-r0\n")),
		"no checksum":      index(repotest.ApkIndex("P:hello\nV:1.0-r0\n")),
		"of the future":    index(repotest.ApkIndex("C:Q9abc\nP:hello\nV:1.0-r0\n")),
		"without SIGN":     with(c, contents{base + "hello-1.0-r0.apk": hello[len(repotest.ApkSegment(false, ".SIGN.RSA.x.rsa.pub", "not looked at")):], base + "APKINDEX.tar.gz": repotest.ApkIndex(strings.Replace(one, "S:", "x:", 1))}),
		"several segments": index(repotest.ApkSegment(false, "DESCRIPTION", "x") + repotest.ApkSegment(true, "APKINDEX", one+two)),
	} {
		if note, err := tryNote(t, trees, "good", c); err != nil || note != "" {
			t.Errorf("%s: %q, %v", name, note, err)
		}
	}
	v3 := contents{"a-1.apk": "ADB.and so on", "APKINDEX.tar.gz": repotest.ApkIndex("C:Q1" + base64.StdEncoding.EncodeToString(make([]byte, 20)) + "\nP:a\nV:1\n")}
	if note, err := tryNote(t, trees, "v3", v3); err != nil || !strings.Contains(note, "1 packages that APKINDEX.tar.gz names are not checked") {
		t.Errorf("%q, %v", note, err)
	}
	for name, bad := range map[string]struct {
		c     contents
		parts []string
	}{
		"missing":      {without(c, gone), []string{base + "APKINDEX.tar.gz names what", gone + " is not in the tree", "apk index"}},
		"longer":       {with(c, contents{gone: odd + "x"}), []string{gone + " has ", "bytes, but should have"}},
		"another":      {with(c, contents{gone: repotest.ApkSegment(true, ".PKGINFO", "x") + odd[:0] + strings.Repeat("x", len(odd)-len(repotest.ApkSegment(true, ".PKGINFO", "x")))}), []string{gone + " has the control-sha1 "}},
		"no package":   {with(c, contents{gone: strings.Repeat("x", len(odd))}), []string{gone + ": malformed apk data"}},
		"cut":          {index(repotest.ApkIndex(one + two)[:60]), []string{"APKINDEX.tar.gz: malformed"}},
		"no gzip":      {index("404 not found"), []string{"APKINDEX.tar.gz: malformed"}},
		"no index":     {index(repotest.ApkSegment(true, "x", "y")), []string{"APKINDEX.tar.gz: malformed"}},
		"traversal":    {index(repotest.ApkIndex("P:../../x\nV:1\n")), []string{"APKINDEX.tar.gz: malformed", "no part of a file name"}},
		"no version":   {index(repotest.ApkIndex("P:hello\n\n")), []string{"APKINDEX.tar.gz: malformed"}},
		"two problems": {index(repotest.ApkIndex("P:a\nV:1\n\nP:b\nV:1\n")), []string{"a-1.apk is not in the tree, " + base + "b-1.apk is not in the tree"}},
	} {
		if err := try(t, trees, "bad", bad.c); !refusedWith(err, bad.parts...) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rsaKey makes a key with openssl and returns the files with both halves.
func rsaKey(t *testing.T, name string) (secret, public string) {
	t.Helper()
	peertest.Require(t, "openssl")
	dir := t.TempDir()
	secret, public = filepath.Join(dir, "secret"), filepath.Join(dir, name)
	peertest.Run(t, dir, nil, "openssl", "genrsa", "-out", secret, "2048")
	peertest.Run(t, dir, nil, "openssl", "rsa", "-in", secret, "-pubout", "-out", public)
	return secret, public
}

// abuildSign does what abuild-sign does.
func abuildSign(t *testing.T, secret, digest, entry, index string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "index")
	if err := os.WriteFile(file, []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	signature := peertest.Run(t, "", nil, "openssl", "dgst", "-"+digest, "-sign", secret, file)
	return repotest.ApkSegment(false, entry, string(signature)) + index
}

func TestApkSigned(t *testing.T) {
	t.Parallel()
	secret, public := rsaKey(t, "a@example.org-5f.rsa.pub")
	stranger, _ := rsaKey(t, "b.rsa.pub")
	pgp := newSigner(t, "good")
	trees := keyed(t, public)
	index := repotest.ApkIndex("")
	for name, text := range map[string]string{
		"sha1":   abuildSign(t, secret, "sha1", ".SIGN.RSA.a@example.org-5f.rsa.pub", index),
		"sha256": abuildSign(t, secret, "sha256", ".SIGN.RSA256.a@example.org-5f.rsa.pub", index),
		"sha512": abuildSign(t, secret, "sha512", ".SIGN.RSA512.a@example.org-5f.rsa.pub", index),
	} {
		if err := try(t, trees, "good", contents{"x/APKINDEX.tar.gz": text}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]struct{ text, want string }{
		"unsigned":        {index, "unsigned"},
		"another key":     {abuildSign(t, stranger, "sha1", ".SIGN.RSA.b.rsa.pub", index), "signature"},
		"a stolen name":   {abuildSign(t, stranger, "sha1", ".SIGN.RSA.a@example.org-5f.rsa.pub", index), "signature"},
		"another digest":  {abuildSign(t, secret, "sha256", ".SIGN.RSA.a@example.org-5f.rsa.pub", index), "signature"},
		"changed":         {abuildSign(t, secret, "sha1", ".SIGN.RSA.a@example.org-5f.rsa.pub", index) + gzipped(""), "signature"},
		"an odd kind":     {repotest.ApkSegment(false, ".SIGN.DSA.a@example.org-5f.rsa.pub", "x") + index, "unsigned"},
		"in the 2nd part": {index + abuildSign(t, secret, "sha1", ".SIGN.RSA.a@example.org-5f.rsa.pub", index), "unsigned"},
	} {
		if got := fmt.Sprint(reasons(try(t, trees, "bad", contents{"x/APKINDEX.tar.gz": bad.text}))); got != "[x/APKINDEX.tar.gz "+bad.want+"]" {
			t.Errorf("%s: %s", name, got)
		}
	}
	// Keys of both kinds, for a tree with both kinds of repositories.
	both := keyed(t, public, pgp.key)
	c := contents{
		"apk/APKINDEX.tar.gz":         abuildSign(t, secret, "sha1", ".SIGN.RSA.a@example.org-5f.rsa.pub", index),
		"rpm/repodata/repomd.xml":     repomd(),
		"rpm/repodata/repomd.xml.asc": pgp.sign(t, repomd(), "--detach-sign", "--armor"),
	}
	if err := try(t, both, "good", c); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(reasons(try(t, trees, "bad", c))); got != "[rpm/repodata/repomd.xml unsigned]" {
		t.Errorf("with an RSA key only: %s", got)
	}
}
