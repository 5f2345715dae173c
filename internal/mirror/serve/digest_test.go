package serve_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"freshet/internal/page/pagetest"
)

// Listings tell the checksum of what the manifest knows, also behind links.
func TestSums(t *testing.T) {
	w := newWorld(t)
	files := tree()
	files["b.rpm"], files["chain"] = "-> Packages/../latest/b-1.rpm", "-> b.rpm"
	files["again"] = "-> Packages/b-1.rpm"
	w.publish(files)
	if err := w.epel.Stamp("lastsync", []byte("1")); err != nil {
		t.Fatal(err)
	}
	sum := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	for folder, want := range map[string]map[string]string{
		"/epel/": {
			"index.html": sum("<p>of the project</p>"), "page.xml": sum("<x/>"), "again": sum("b"), "lastsync": "",
			"b.rpm": sum("b"), "chain": sum("b"),
			"Packages": "", "latest": "", "odd": "", "repodata": "",
		},
		"/epel/odd/":    {"<b>.sig": sum("sig"), "a:b % #?\n é.txt": sum("odd"), "��": sum("no UTF-8")},
		"/epel/latest/": {"a-1.rpm": sum(strings.Repeat("a", large)), "b-1.rpm": sum("b")},
	} {
		var entries []struct{ Name, SHA256 string }
		if err := json.Unmarshal([]byte(w.get(folder+"?format=json").body), &entries); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if known, ok := want[e.Name]; !ok || e.SHA256 != known {
				t.Errorf("%s%s: %q, want %q", folder, e.Name, e.SHA256, known)
			}
		}
		page := w.get(folder)
		if problems := pagetest.Problems(page.body); problems != nil {
			t.Error(problems)
		}
		for name, sum := range want {
			if sum != "" && !strings.Contains(page.body, "<code>"+sum+"</code>") {
				t.Errorf("%s: the page lacks the sum of %q", folder, name)
			}
		}
		if len(entries) != len(want) {
			t.Errorf("%s: %+v", folder, entries)
		}
	}
}

// A client that wants a digest is told that of the whole file, whatever part it asks for.
func TestDigest(t *testing.T) {
	w := newWorld(t)
	w.publish(tree())
	if err := w.epel.Stamp("lastsync", []byte("1")); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(strings.Repeat("a", large)))
	text := base64.StdEncoding.EncodeToString(sum[:])
	const path = "/epel/Packages/a-1.rpm"
	for range 2 { // the second time the file is at hand
		for _, c := range []struct{ ask, wish, name, want string }{
			{"Want-Repr-Digest", "sha-256=10", "Repr-Digest", "sha-256=:" + text + ":"},
			{"Want-Repr-Digest", "sha-512=3, sha-256=1", "Repr-Digest", "sha-256=:" + text + ":"},
			{"Want-Repr-Digest", "sha-256=0", "Repr-Digest", ""},
			{"Want-Repr-Digest", "md5=1", "Repr-Digest", ""},
			{"Want-Digest", "SHA-256;q=0.3", "Digest", "SHA-256=" + text},
			{"Want-Digest", "SHA-256;q=0.0", "Digest", ""},
			{"Accept", "*/*", "Repr-Digest", ""},
		} {
			for _, part := range []string{"bytes=0-", "bytes=5-9"} {
				a := w.get(path, c.ask, c.wish, "Range", part)
				if got := a.header.Get(c.name); got != c.want || a.status != http.StatusPartialContent {
					t.Errorf("%s: %s: %d %q, want %q", c.ask, c.wish, a.status, got, c.want)
				}
			}
		}
	}
	if a := w.get("/epel/lastsync", "Want-Repr-Digest", "sha-256=1"); a.header.Get("Repr-Digest") != "" || a.body != "1" {
		t.Errorf("of a stamp: %q", a.header)
	}
	byHash := w.get("/.freshet/by-hash/sha256/" + hex.EncodeToString(sum[:]))
	if got := byHash.header.Get("Repr-Digest"); got != "sha-256=:"+text+":" {
		t.Errorf("by its hash: %q", got)
	}
}

// BenchmarkListing lists a folder of 50,000 files, and one of few files in a tree of so
// many.
func BenchmarkListing(b *testing.B) {
	w := newWorld(b)
	files := make(map[string]string, 50_000)
	for i := range 50_000 {
		files[fmt.Sprintf("large/package-name-%06d-1.0-1.x86_64.pkg.tar.zst", i)] = ""
	}
	files["a"], files["z"] = "a", "z"
	w.publish(files)
	for name, path := range map[string]string{"html": "/epel/large/", "json": "/epel/large/?format=json", "few": "/epel/"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a := w.get(path)
				if a.status != http.StatusOK {
					b.Fatal(a.status)
				}
				b.SetBytes(int64(len(a.body)))
			}
		})
	}
}
