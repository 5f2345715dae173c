package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	top, err := open(t, dir).Folder(".")
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	if err := top.Mkdir("sub", 0o755); err != nil {
		t.Fatal(err)
	}
	sub, err := top.Sub("sub")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	f, err := sub.Create("a", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("data"); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1767225600, 5).UTC()
	if err := errors.Join(f.Close(), sub.Chmod("a", 0o644), sub.Chtimes("a", when), top.Link("b", sub, "a"), top.Symlink("sub", "link")); err != nil {
		t.Fatal(err)
	}
	info, err := top.Lstat("b")
	if err != nil || info.Size != 4 || info.Links != 2 || info.Mode != 0o644 || !info.ModTime.Equal(when) {
		t.Errorf("%+v %v", info, err)
	}
	if other, err := sub.Lstat("a"); err != nil || other != info {
		t.Errorf("%+v %v", other, err)
	}
	if target, err := top.Readlink("link"); target != "sub" || err != nil {
		t.Error(target, err)
	}
	if info, err := top.Lstat("link"); err != nil || info.Mode.Type() != fs.ModeSymlink {
		t.Errorf("%+v %v", info, err)
	}
	if _, err := top.Sub("link"); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		t.Error("a link was followed:", err)
	}
	if _, err := sub.Create("a", 0o644); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if err := sub.Move("b", top, "b"); err != nil {
		t.Error(err)
	}
	all, err := sub.Names(-1)
	if slices.Sort(all); err != nil || !slices.Equal(all, []string{"a", "b"}) {
		t.Error(all, err)
	}
	if err := top.Rmdir("sub"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Error(err)
	}
	if err := errors.Join(sub.Remove("a"), sub.Remove("b"), sub.Remove("never"), top.Rmdir("sub"), top.Rmdir("sub"), top.Remove("link")); err != nil {
		t.Error(err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Error(left)
	}
	for _, bad := range []string{"", "..", "a/b"} {
		if err := top.Mkdir(bad, 0o755); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "sub")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
