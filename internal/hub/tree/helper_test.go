package tree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/api/hubapi"
)

// quickDir is a folder in memory where there is one: what syncs thousands of
// times need not wait for a disk that others use.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tree-test-") //nolint:usetesting // another file system
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func begin(t testing.TB, dir string, opts Options) *Trees {
	t.Helper()
	trees, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = trees.Close() })
	return trees
}

func sum(content string) string {
	h := sha256.Sum256([]byte(content))
	return hex.EncodeToString(h[:])
}

// contents is a tree as "path" → content, or "@target" for a link.
type contents map[string]string

func (c contents) files(mtime int64) []hubapi.TreeFile {
	var files []hubapi.TreeFile
	for p, content := range c {
		f := hubapi.TreeFile{Path: p, ModTime: mtime}
		if target, ok := strings.CutPrefix(content, "@"); ok {
			f.Link = target
		} else {
			f.Size, f.SHA256 = int64(len(content)), sum(content)
		}
		files = append(files, f)
	}
	return files
}

// ledger is a caller that keeps the contract of Commit, and complains when the
// same switch is told with other words.
type ledger struct {
	mu       sync.Mutex
	switches []Switch
}

func (l *ledger) commit(_ context.Context, s Switch) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, known := range l.switches {
		if known.Key == s.Key {
			if diff := cmp.Diff(known, s); diff != "" {
				return 0, fmt.Errorf("the same switch in other words: %s", diff)
			}
			return int64(i + 1), nil
		}
	}
	l.switches = append(l.switches, s)
	return int64(len(l.switches)), nil
}

func upload(trees *Trees, c contents, push hubapi.TreePush) error {
	bySum := make(map[string]string)
	for _, content := range c {
		bySum[sum(content)] = content
	}
	var errs []error
	for _, missing := range push.Missing {
		errs = append(errs, trees.PutBlob(context.Background(), push.ID, missing, strings.NewReader(bySum[missing])))
	}
	return errors.Join(errs...)
}

func publish(t testing.TB, trees *Trees, name string, mtime int64, c contents, l *ledger) Switch {
	t.Helper()
	push, err := trees.Begin(t.Context(), name, c.files(mtime))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(trees, c, push); err != nil {
		t.Fatal(err)
	}
	s, err := trees.Publish(t.Context(), push.ID, l.commit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t testing.TB, trees *Trees, tree, name string) string {
	t.Helper()
	f, err := trees.Lookup(tree, name)
	if errors.Is(err, ErrNotFound) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if f.SHA256 != "" && f.SHA256 != sum(string(data)) {
		t.Errorf("%s: SHA256 %s of %q", name, f.SHA256, data)
	}
	return string(data)
}

// current is what a plain web server sees below trees/<name>/current.
func current(t testing.TB, dir, name string) contents {
	t.Helper()
	c := make(contents)
	root, err := filepath.EvalSymlinks(filepath.Join(dir, "trees", name, "current"))
	if errors.Is(err, fs.ErrNotExist) {
		return c
	}
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(p)
			c[rel] = "@" + target
			return err
		}
		data, err := os.ReadFile(p)
		c[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// all lists what is on the disk below dir, without the lock.
func all(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if !d.IsDir() && rel != "lock" {
			names = append(names, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func equal(t testing.TB, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

const (
	primaryOne = `<metadata><package><location href="Packages/hello-1.rpm"/></package></metadata>`
	primaryTwo = `<metadata><package><location href="Packages/hello-2.rpm"/></package></metadata>`
)

var (
	first = contents{
		"repodata/repomd.xml":   `<repomd><data type="primary"><location href="repodata/primary.xml"/></data></repomd>`,
		"repodata/primary.xml":  primaryOne,
		"Packages/hello-1.rpm":  "hello one",
		"Packages/common-1.rpm": "common",
		"empty":                 "",
		"latest":                "@Packages/hello-1.rpm",
		"stable":                "@.",
	}
	second = contents{
		"repodata/repomd.xml":   `<repomd><data type="primary"><location href="repodata/primary.xml"/></data><revision/></repomd>`,
		"repodata/primary.xml":  primaryTwo,
		"Packages/hello-2.rpm":  "hello two",
		"Packages/common-1.rpm": "common",
		"latest":                "@Packages/hello-2.rpm",
		"stable":                "@.",
	}
)
