package kind_test

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

// A project as EPEL has it: releases, architectures, debug information and sources, and
// files beside the repositories.
func TestRPM(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "createrepo_c", "rpmbuild")
	g := newGPG(t)
	dir := t.TempDir()
	repotest.RPM(t, filepath.Join(dir, "9/Everything/x86_64/Packages/h"), "hello", "1")
	repotest.RPM(t, filepath.Join(dir, "9/Everything/x86_64/Packages/h"), "hello-debuginfo", "1")
	for _, to := range []string{"9/Everything/x86_64/debug", "9/Everything/aarch64", "9/Everything/source/tree", "8/Everything/x86_64"} {
		repotest.RPM(t, filepath.Join(dir, to, "Packages"), "other", "1")
	}
	repotest.RPM(t, dir, "epel-release", "9")
	for _, repo := range []string{"9/Everything/x86_64", "9/Everything/x86_64/debug", "9/Everything/aarch64", "9/Everything/source/tree", "8/Everything/x86_64"} {
		peertest.Run(t, filepath.Join(dir, repo), nil, "createrepo_c", "--quiet", "--revision=1700000000", "-x", "debug/*", ".")
		g.run(t, filepath.Join(dir, repo), "--armor", "--detach-sign", "repodata/repomd.xml")
	}
	for _, name := range []string{"RPM-GPG-KEY", "9/Everything/x86_64/images/boot.iso", "9/Everything/x86_64/images/initrd.img", "9/Everything/x86_64/.treeinfo", "9/Everything/aarch64/.treeinfo", "9/.~tmp~/x", "8/Everything/README", "9/Everything/x86_64/Packages/h/gone-1.rpm"} {
		write(t, filepath.Join(dir, name), name)
	}
	initrd := sha256.Sum256([]byte("9/Everything/x86_64/images/initrd.img"))
	write(t, filepath.Join(dir, "9/Everything/x86_64/.treeinfo"), fmt.Sprintf("[general]\narch = x86_64\n[checksums]\nimages/initrd.img = sha256:%x\nimages/boot.iso = sha256:%x\n../../x = sha256:%[1]x\nrepodata/repomd.xml = sha256:%[1]x\nimages/gone = sha256:%[1]x\n", initrd, initrd))
	for name, target := range map[string]string{"latest": "9", "out": "../../etc", "absolute": "/etc"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}

	tree := folder(dir)
	c := kind.Config{Format: kind.RPM, Architectures: []string{"amd64"}, Releases: []string{"9"}}
	k := newKind(t, c)
	list, names := pointers(t, k, tree)
	if names != "9/Everything/x86_64/repodata/repomd.xml" {
		t.Fatal(names)
	}
	var left kind.Left
	all := files(t, k.Files(t.Context(), tree, list[0], &left))
	last(t, all)
	got := copied(t, all, dir, t.TempDir())
	if text := strings.Join(got, " "); !strings.Contains(text, "hello-1.rpm") || strings.Contains(text, "debuginfo") || !strings.Contains(text, "repomd.xml.asc") || !strings.Contains(text, "images/initrd.img") || !strings.Contains(text, ".treeinfo") || strings.Contains(text, "boot.iso") ||
		strings.Contains(text, "gone") || len(got) < 6 || left.Files != 1 || left.Bytes == 0 {
		t.Errorf("%v, left %+v", got, left)
	}
	left = kind.Left{}
	var rest []string
	for _, f := range files(t, k.Rest(t.Context(), tree, list, &left)) {
		rest = append(rest, f.Path+f.Link)
	}
	if strings.Join(rest, " ") != "9/Everything/x86_64/.treeinfo 9/Everything/x86_64/images/initrd.img RPM-GPG-KEY epel-release-9.rpm latest9" {
		t.Errorf("rest: %v", rest)
	}

	c = kind.Config{Format: kind.RPM, Debug: true, Source: true, ISO: true, Exclude: []string{"8/*", "*/aarch64/*"}}
	k = newKind(t, c)
	list, names = pointers(t, k, tree)
	if names != "9/Everything/source/tree/repodata/repomd.xml 9/Everything/x86_64/debug/repodata/repomd.xml 9/Everything/x86_64/repodata/repomd.xml" {
		t.Error(names)
	}
	write(t, filepath.Join(dir, "9/Everything/x86_64/images/boot.iso"), "9/Everything/x86_64/images/initrd.img")
	if all := files(t, k.Files(t.Context(), tree, list[2], nil)); !strings.Contains(strings.Join(copied(t, all, dir, t.TempDir()), " "), "hello-debuginfo-1.rpm") {
		t.Error("debug information is missing")
	}
	rest = nil
	for _, f := range files(t, k.Rest(t.Context(), tree, list, nil)) {
		rest = append(rest, f.Path+f.Link)
	}
	if strings.Join(rest, " ") != "9/Everything/x86_64/.treeinfo 9/Everything/x86_64/images/boot.iso 9/Everything/x86_64/images/initrd.img RPM-GPG-KEY epel-release-9.rpm latest9" {
		t.Errorf("rest: %v", rest)
	}

	v := signed(t, c, g, tree, list[2], "likely")
	if v.Mark != 1700000000 || v.MarkOf != "revision" || v.Name != "1700000000" || len(v.SHA256) != 64 {
		t.Errorf("%+v", v)
	}
	checkRollback(t, k, tree, list[2])
	checkBroken(t, k, dir, tree, list[2], "9/Everything/x86_64/repodata/*primary.xml*")
}

// checkRollback goes back to an older version, by time alone.
func checkRollback(t *testing.T, k *kind.Kind, tree kind.Tree, r kind.Repository) {
	t.Helper()
	now, err := k.Version(t.Context(), tree.Open, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := now.Follows(kind.Version{}); err != nil {
		t.Error(err)
	}
	if err := now.Follows(now); err != nil {
		t.Error(err)
	}
	older := now
	older.Mark--
	if err := older.Follows(now); err != nil {
		t.Errorf("the same pointer: %v", err)
	}
	older.SHA256 = "another"
	if err := older.Follows(now); kind.Reason(err) != "rollback" {
		t.Errorf("an older one: %v", err)
	}
	if err := now.Follows(older); err != nil {
		t.Errorf("a newer one: %v", err)
	}
	if err := now.Valid(time.Now()); err != nil {
		t.Error(err)
	}
}

// checkBroken changes a file in the middle of a repository, and takes it away.
func checkBroken(t *testing.T, k *kind.Kind, dir string, tree kind.Tree, r kind.Repository, pattern string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	for _, file := range found {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		write(t, file, string(data))
	}
	if got := reason(t, k.Files(t.Context(), tree, r, nil)); got != "inconsistent" {
		t.Errorf("a changed byte: %q", got)
	}
	for _, file := range found {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if got := reason(t, k.Files(t.Context(), tree, r, nil)); got != "inconsistent" {
		t.Errorf("%s is gone: %q", pattern, got)
	}
	if err := os.Remove(filepath.Join(dir, r.Pointer)); err != nil {
		t.Fatal(err)
	}
	if got := reason(t, k.Files(t.Context(), tree, r, nil)); got != "absent" {
		t.Errorf("the pointer is gone: %q", got)
	}
	if _, err := k.Version(t.Context(), tree.Open, r); kind.Reason(err) != "absent" {
		t.Errorf("the pointer is gone: %v", err)
	}
}
