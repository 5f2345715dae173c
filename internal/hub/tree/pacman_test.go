package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

// loadLinks is load, with symbolic links as such.
func loadLinks(t *testing.T, dir string) contents {
	t.Helper()
	c := load(t, dir)
	for name := range c {
		if target, err := os.Readlink(filepath.Join(dir, name)); err == nil {
			c[name] = "@" + target
		}
	}
	return c
}

// pacmanRepo makes packages and a database of them with repo-add, in env.
func pacmanRepo(t *testing.T, env []string, ext string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"hello", "c++odd"} {
		file := filepath.Join(dir, repotest.Arch(t, dir, name, "1:2-1"))
		if env != nil {
			peertest.Run(t, dir, env, "gpg", "--batch", "--detach-sign", file)
		}
		peertest.Run(t, dir, env, "repo-add", append(append([]string{"-q"}, args...), "core.db.tar"+ext, filepath.Base(file))...)
	}
	return dir
}

// TestRepoAdd publishes what repo-add makes, and refuses each without one of its
// packages or with another.
func TestRepoAdd(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "repo-add", "bsdtar")
	trees := begin(t, quickDir(t), Options{})
	for _, ext := range []string{".gz", ".zst", ".xz", ".bz2", ""} {
		c := make(contents)
		for name, content := range loadLinks(t, pacmanRepo(t, nil, ext)) {
			c["core/os/any/"+name] = content
		}
		if c["core/os/any/core.db"] != "@core.db.tar"+ext {
			t.Fatalf("%s: no link core.db", ext)
		}
		if note, err := tryNote(t, trees, "good", c); err != nil || note != "" {
			t.Errorf("%s: %q, %v", ext, note, err)
		}
		const gone = "core/os/any/c++odd-1:2-1-any.pkg.tar.zst"
		err := try(t, trees, "bad", without(c, gone))
		refusal, ok := errors.AsType[*RefusalError](err)
		if !refusedWith(err, "core.db names what", gone+" is not in the tree", "repo-add") || !ok || len(refusal.Problems) != 1 ||
			refusal.Problems[0] != (hubapi.TreeProblem{File: gone, By: "core/os/any/core.db", Reason: hubapi.TreeMissing}) {
			t.Errorf("%s without a package: %v", ext, err)
		}
		if err := try(t, trees, "bad", without(without(c, gone), "core/os/any/hello-1:2-1-any.pkg.tar.zst")); !refusedWith(err, "hello", "c++odd") {
			t.Errorf("%s without any package: %v", ext, err)
		}
		if err := try(t, trees, "bad", with(c, contents{gone: c[gone] + "x"})); !refusedWith(err, gone+" has ", " bytes, but should have") {
			t.Errorf("%s with a longer package: %v", ext, err)
		}
		other := strings.Repeat("x", len(c[gone]))
		if err := try(t, trees, "bad", with(c, contents{gone: other})); !refusedWith(err, gone+" has the sha256 "+sum(other)) {
			t.Errorf("%s with another package: %v", ext, err)
		}
		cut := c["core/os/any/core.db.tar"+ext]
		if err := try(t, trees, "bad", with(c, contents{"core/os/any/core.db.tar" + ext: cut[:len(cut)/3]})); !refusedWith(err, "core.db: ") {
			t.Errorf("%s, cut: %v", ext, err)
		}
	}
}

func desc(fields ...string) string {
	var text strings.Builder
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&text, "%%%s%%\n%s\n\n", fields[i], fields[i+1])
	}
	return text.String()
}

// database is a pacman database, in pairs of the name of a file and its content.
func database(files ...string) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		_ = w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))})
		_, _ = w.Write([]byte(files[i+1]))
	}
	_ = w.Close()
	return b.String()
}

func TestPacmanClosure(t *testing.T) {
	t.Parallel()
	trees := begin(t, quickDir(t), Options{})
	p := contents{"a.pkg.tar.zst": "content"}
	one := database("a-1/desc", desc("FILENAME", "a.pkg.tar.zst", "CSIZE", "7", "SHA256SUM", sum("content")))
	for name, c := range map[string]contents{
		"plain":                     with(p, contents{"core.db": gzipped(one)}),
		"no checksum":               with(p, contents{"core.db": database("a-1/desc", desc("FILENAME", "a.pkg.tar.zst"))}),
		"empty":                     with(p, contents{"core.db": gzipped(database())}),
		"another database":          {"wiki.db": "SQLite format 3\x00 and so on"},
		"another archive":           {"wiki.db.tar.gz": gzipped(database("desc", "x", "dump/wiki.sql", "y"))},
		"an old one, a lock":        {"core.db.tar.gz.old": gzipped(one), "core.db.tar.gz.lck": ""},
		"files beside the packages": with(p, contents{"core.db": one, "core.files": "not looked at"}),
		"a dead link":               {"core.db": "@core.db.tar.gz"},
	} {
		if note, err := tryNote(t, trees, "good", c); err != nil || note != "" {
			t.Errorf("%s: %q, %v", name, note, err)
		}
	}
	if note, err := tryNote(t, trees, "good", with(p, contents{"core.db.tar.lrz": "LRZI..."})); err != nil || !strings.Contains(note, "core.db.tar.lrz names are not checked, because lrzip") {
		t.Errorf("lrzip: %q, %v", note, err)
	}
	for name, bad := range map[string]struct {
		c     contents
		parts []string
	}{
		"no database": {with(p, contents{"core.db": "404 not found"}), []string{"core.db: malformed"}},
		"no bytes":    {with(p, contents{"core.db": ""}), []string{"core.db: malformed"}},
		"traversal":   {with(p, contents{"core.db": database("a-1/desc", desc("FILENAME", "../a"))}), []string{"core.db: malformed", "no file name"}},
		"two":         {contents{"core.db": one, "x/extra.db.tar.gz": gzipped(one)}, []string{"core.db names", " a.pkg.tar.zst is not", "x/extra.db.tar.gz names", " x/a.pkg.tar.zst is not"}},
		"not its own": {with(p, contents{"core.db": one, "core.db.tar": database("b-1/desc", desc("FILENAME", "b.pkg.tar"))}), []string{"core.db.tar names", "b.pkg.tar is not"}},
	} {
		if err := try(t, trees, "bad", bad.c); !refusedWith(err, bad.parts...) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A refusal lists everything up to a bound, and counts the rest.
func TestRefusalListsAll(t *testing.T) {
	t.Parallel()
	trees := begin(t, quickDir(t), Options{})
	var packages []string
	for i := range maxProblems + 50 {
		packages = append(packages, fmt.Sprintf("p%d-1/desc", i), desc("FILENAME", fmt.Sprintf("p%04d.pkg.tar.zst", i)))
	}
	c := contents{
		"core.db":             gzipped(database(packages...)),
		"repodata/repomd.xml": repomd(data("sha256", sum("content"), "repodata/gone", 7)),
	}
	err := try(t, trees, "bad", c)
	refusal, ok := errors.AsType[*RefusalError](err)
	if !ok || len(refusal.Problems) != maxProblems || refusal.More != 51 || refusal.Problems[999].File != "p0999.pkg.tar.zst" {
		t.Fatalf("%v", err)
	}
	if !refusedWith(err, "p0002.pkg.tar.zst is not in the tree, and 1048 more; push") {
		t.Errorf("%v", err)
	}
	long := make([]string, 0, 2*maxProblems)
	for range maxProblems {
		long = append(long, rpm(`href="`+strings.Repeat("x", 5000)+`"`, 7, "sha256", ""))
	}
	refusal, ok = errors.AsType[*RefusalError](try(t, trees, "bad", rpms("", long...)))
	if !ok || len(refusal.Problems)+refusal.More != maxProblems || len(refusal.Problems) == maxProblems || len(refusal.Problems) < 500 {
		t.Errorf("%d and %d", len(refusal.Problems), refusal.More)
	}
}
