package scan

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
)

func TestFolder(t *testing.T) {
	t.Parallel()
	folder := files{
		"dists/x/InRelease": "release", "pool/a.deb": "a", "pool/n\xff.deb": "bytes", "secret": "s", "closed/b": "b", ".~tmp~/c": "c", "pool/line\nbreak": "l",
	}.write(t)
	link(t, folder, "dists/stable", "x")
	link(t, folder, "newest.deb", "pool/a.deb")
	link(t, folder, "out", "/etc/passwd")
	link(t, folder, "up", "../../../../etc")
	if err := errors.Join(os.Chmod(filepath.Join(folder, "secret"), 0o600), os.Chmod(filepath.Join(folder, "closed"), 0o700)); err != nil {
		t.Fatal(err)
	}
	s := newScanner(t, Options{})
	target := target{key: key{"", "p"}, how: directorapi.HowFolder, source: folder}
	m := new(memo)
	want := map[string]int64{"dists/x/InRelease": 7, "dists/stable/InRelease": 7, "pool/a.deb": 1, "newest.deb": 1, "pool/n\xff.deb": 5}
	got, err := once(t, s, target, m)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)

	target.source = filepath.Join(folder, "none")
	if _, err := once(t, s, target, m); reasonOf(err) != Setup {
		t.Errorf("no folder: %v", err)
	}
	same(t, held(s.o.Inventory, "p", ""), want)
}

// Payload is hashed, once; what changes under its name is not, nor what has just changed.
func TestFolderHashes(t *testing.T) {
	t.Parallel()
	folder := files{"pool/a.deb": "a", "pool/new.deb": "n", "dists/x/InRelease": "r"}.write(t)
	age := func(name string, by time.Duration) {
		at := time.Now().Add(-by)
		if err := os.Chtimes(filepath.Join(folder, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	age("pool/a.deb", time.Hour)
	age("dists/x/InRelease", time.Hour)
	age("pool/new.deb", -time.Minute) // the machine is slow, but not that slow
	s := newScanner(t, Options{})
	target := target{key: key{"", "p"}, how: directorapi.HowFolder, source: folder}
	tree := s.o.Inventory.Project("p")
	mirror, err := s.o.Inventory.Holder("m")
	if err != nil {
		t.Fatal(err)
	}
	scan := func() {
		t.Helper()
		if _, err := once(t, s, target, new(memo)); err != nil {
			t.Fatal(err)
		}
	}
	scan()
	if _, err := tree.Replace(mirror, inventory.Listing{At: time.Now(), Entries: each([]inventory.Entry{{Path: "pool/a.deb", Size: 1}})}); err != nil {
		t.Fatal(err)
	}
	if err := s.hashes(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	check := func(path string, want string) {
		t.Helper()
		f, ok := tree.Find(path)
		if !ok || f.HasSHA256() != (want != "") || want != "" && f.SHA256 != sha256.Sum256([]byte(want)) {
			t.Errorf("%s: %v, %x", path, ok, f.SHA256)
		}
	}
	check("pool/a.deb", "a")
	check("pool/new.deb", "")
	check("dists/x/InRelease", "")
	if f, _ := tree.Find("pool/a.deb"); !f.Holders.Has(mirror) {
		t.Error("a hash has cost a file its mirror")
	}
	scan()
	check("pool/a.deb", "a") // it has not changed
	if err := os.WriteFile(filepath.Join(folder, "pool/a.deb"), []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	age("pool/a.deb", time.Minute)
	scan()
	check("pool/a.deb", "")
	if err := s.hashes(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	check("pool/a.deb", "b")
}
