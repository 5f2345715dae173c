package tree

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// try pushes and publishes and returns the error of Publish.
func try(t *testing.T, trees *Trees, name string, c contents) error {
	t.Helper()
	push, err := trees.Begin(t.Context(), name, c.files(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(trees, c, push); err != nil {
		t.Fatal(err)
	}
	_, err = trees.Publish(t.Context(), push.ID, new(ledger).commit)
	return err
}

func repomd(data ...string) string {
	return "<repomd>" + strings.Join(data, "") + "</repomd>"
}

func data(kind, checksum, href string, size int) string {
	return fmt.Sprintf(`<data type="x"><checksum type="%s">%s</checksum><location href="%s"/><size>%d</size></data>`, kind, checksum, href, size)
}

func TestRepomdClosure(t *testing.T) {
	t.Parallel()
	s1, s512, m := sha1.Sum([]byte("content")), sha512.Sum512([]byte("content")), md5.Sum([]byte("content"))
	good := map[string]string{
		"sha256": sum("content"), "sha": hex.EncodeToString(s1[:]), "sha1": hex.EncodeToString(s1[:]),
		"sha512": hex.EncodeToString(s512[:]), "md5": hex.EncodeToString(m[:]), "of-the-future": "whatever",
	}
	trees := begin(t, quickDir(t), Options{})
	for kind, value := range good {
		for _, base := range []string{"", "el9/x86_64/"} {
			c := contents{base + "repodata/f": "content", base + "repodata/repomd.xml": repomd(data(kind, value, "repodata/f", 7))}
			if err := try(t, trees, "good", c); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if kind == "of-the-future" {
				continue
			}
			c[base+"repodata/f"] = "CONTENT"
			err := try(t, trees, "bad", c)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), base+"repodata/repomd.xml names what clients could not get: "+base+"repodata/f has the "+kind+" ") || !strings.HasSuffix(strings.Split(err.Error(), ";")[0], "but should have "+value) {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	f := contents{"repodata/f": "content"}
	for name, bad := range map[string]struct {
		repomd  string
		message string
	}{
		"missing":      {repomd(data("sha256", sum("content"), "repodata/g", 7)), "repodata/g is not in the tree"},
		"a folder":     {repomd(data("sha256", sum("content"), "repodata", 7)), "repodata is not in the tree"},
		"wrong size":   {repomd(data("sha256", sum("content"), "repodata/f", 8)), "repodata/f has 7 bytes, but should have 8"},
		"outside":      {repomd(data("sha256", sum("content"), "../f", 7)), `../f is outside`},
		"absolute":     {repomd(data("sha256", sum("content"), "/f", 7)), `/f is outside`},
		"second wrong": {repomd(data("sha256", sum("content"), "repodata/f", 7), data("sha256", sum("x"), "repodata/f", 7)), "has the sha256"},
		"no XML":       {"404 page not found", "repodata/repomd.xml: malformed"},
		"cut":          {repomd(data("sha256", sum("content"), "repodata/f", 7))[:60], "repodata/repomd.xml: malformed"},
	} {
		c := maps.Clone(f)
		c["repodata/repomd.xml"] = bad.repomd
		if err := try(t, trees, "bad", c); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), bad.message) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := trees.Info("bad"); !errors.Is(err, ErrNotFound) {
		t.Errorf("something bad was published: %v", err)
	}
	// Files elsewhere cannot be checked.
	c := contents{"repodata/repomd.xml": `<repomd><data><location xml:base="http://elsewhere/" href="f"/></data></repomd>`}
	if err := try(t, trees, "good", c); err != nil {
		t.Error(err)
	}
}

func TestReleaseClosure(t *testing.T) {
	t.Parallel()
	s1, m := sha1.Sum([]byte("content")), md5.Sum([]byte("content"))
	trees := begin(t, quickDir(t), Options{})
	for name, c := range map[string]contents{
		"sha256":       {"dists/s/main/P": "content", "dists/s/Release": "SHA256:\n " + sum("content") + " 7 main/P\n"},
		"sha1":         {"dists/s/main/P": "content", "dists/s/Release": "SHA1:\n " + hex.EncodeToString(s1[:]) + " 7 main/P\n"},
		"md5":          {"dists/s/main/P": "content", "debian/dists/s/InRelease": "MD5Sum:\n " + hex.EncodeToString(m[:]) + " 7 main/P\n"},
		"through link": {"dists/s/main/P": "content", "dists/s/Release": "SHA256:\n " + sum("content") + " 7 link/P\n", "dists/s/link": "@main"},
		"not there":    {"dists/s/Release": "SHA256:\n " + sum("content") + " 7 main/P\n"},
		"no index":     {"dists/s/main/binary-amd64/Release": "Archive: s\nComponent: main\n"},
		"another file": {"Release": "notes of our release"},
	} {
		if err := try(t, trees, "good", c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]contents{
		"sha256":       {"dists/s/main/P": "CONTENT", "dists/s/Release": "SHA256:\n " + sum("content") + " 7 main/P\n"},
		"size":         {"dists/s/main/P": "content", "dists/s/InRelease": "SHA256:\n " + sum("content") + " 8 main/P\n"},
		"md5":          {"dists/s/main/P": "CONTENT", "dists/s/Release": "MD5Sum:\n " + hex.EncodeToString(m[:]) + " 7 main/P\n"},
		"through link": {"dists/s/main/P": "CONTENT", "dists/s/Release": "SHA256:\n " + sum("content") + " 7 link/P\n", "dists/s/link": "@main"},
		"malformed":    {"dists/s/Release": "404 page not found"},
	} {
		if err := try(t, trees, "bad", c); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "dists/s/") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// load reads a folder as a tree.
func load(t *testing.T, dir string) contents {
	t.Helper()
	c := make(contents)
	for _, name := range all(t, dir) {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		c[name] = string(content)
	}
	return c
}

// TestCreaterepo publishes what createrepo_c makes, and refuses it when a file
// is not the one that was indexed.
func TestCreaterepo(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "createrepo_c")
	for _, args := range [][]string{nil, {"--simple-md-filenames"}, {"--checksum=sha512"}, {"--checksum=sha"}} {
		dir := t.TempDir()
		peertest.Run(t, dir, nil, "createrepo_c", append(args, "--quiet", ".")...)
		c := load(t, dir)
		trees := begin(t, quickDir(t), Options{})
		if err := try(t, trees, "rpms", c); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		for name := range c {
			if strings.Contains(name, "repomd.xml") {
				continue
			}
			for _, content := range []string{c[name] + "x", strings.Repeat("x", len(c[name]))} {
				bad := maps.Clone(c)
				bad[name] = content
				if err := try(t, trees, "rpms", bad); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) {
					t.Errorf("%v: %s is wrong: %v", args, name, err)
				}
			}
			bad := maps.Clone(c)
			delete(bad, name)
			if err := try(t, trees, "rpms", bad); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) {
				t.Errorf("%v: %s is missing: %v", args, name, err)
			}
		}
		if info, err := trees.Info("rpms"); err != nil || info.Current != 1 {
			t.Errorf("%v: %+v, %v", args, info, err)
		}
	}
}

// TestAptFtparchive does the same with an apt repository.
func TestAptFtparchive(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "apt-ftparchive")
	dir := t.TempDir()
	packages := filepath.Join(dir, "dists/stable/main/binary-amd64")
	if err := os.MkdirAll(packages, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(packages, "Packages"), []byte("Package: hello\nVersion: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	release := peertest.Run(t, dir, nil, "apt-ftparchive", "release", "dists/stable")
	if err := os.WriteFile(filepath.Join(dir, "dists/stable/Release"), release, 0o644); err != nil {
		t.Fatal(err)
	}
	trees := begin(t, quickDir(t), Options{})
	c := load(t, dir)
	if err := try(t, trees, "debs", c); err != nil {
		t.Error(err)
	}
	c["dists/stable/main/binary-amd64/Packages"] = "Package: hullo\nVersion: 1\n"
	if err := try(t, trees, "debs", c); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "main/binary-amd64/Packages") {
		t.Errorf("error %v", err)
	}
}
