package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// trees are dirtrees in memory.
type trees map[Checksum]*DirTree

func (t trees) DirTree(c Checksum) (*DirTree, error) {
	if d := t[c]; d != nil {
		return d, nil
	}
	return nil, fs.ErrNotExist
}

// put makes the directory of paths with their content; a path that ends in a
// slash is an empty directory.
func (t trees) put(meta string, files map[string]string) TreeDir {
	var d DirTree
	below := map[string]map[string]string{}
	for path, content := range files {
		for i := range len(path) {
			if path[i] == '/' {
				dir := path[:i]
				if below[dir] == nil {
					below[dir] = map[string]string{}
				}
				if rest := path[i+1:]; rest != "" {
					below[dir][rest] = content
				}
				path = ""
				break
			}
		}
		if path != "" {
			d.Files = append(d.Files, TreeFile{Name: path, File: ChecksumOf([]byte(content))})
		}
	}
	slices.SortFunc(d.Files, func(a, b TreeFile) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range slices.Sorted(maps.Keys(below)) {
		sub := t.put("dir", below[name])
		d.Dirs = append(d.Dirs, TreeDir{Name: name, Tree: sub.Tree, Meta: sub.Meta})
	}
	sum := ChecksumOf(d.Encode())
	t[sum] = &d
	return TreeDir{Name: ".", Tree: sum, Meta: ChecksumOf([]byte(meta))}
}

func diffText(t *testing.T, src trees, before, after TreeDir) []string {
	t.Helper()
	var got []string
	err := DiffTrees(src, before, after, func(c Change) error {
		kind := "M"
		switch {
		case c.Added():
			kind = "A"
		case c.Removed():
			kind = "D"
		}
		got = append(got, fmt.Sprintf("%s %s", kind, c.Path))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDiffTrees(t *testing.T) {
	for _, test := range []struct {
		name          string
		before, after map[string]string
		want          []string
	}{
		{"same", map[string]string{"a": "1", "d/b": "2"}, map[string]string{"a": "1", "d/b": "2"}, nil},
		{"content", map[string]string{"a": "1", "d/b": "2"}, map[string]string{"a": "1", "d/b": "3"}, []string{"M d/b"}},
		{"added and removed", map[string]string{"a": "1", "c": "1"}, map[string]string{"b": "1", "c": "1"}, []string{"D a", "A b"}},
		{"added directory", map[string]string{"a": "1"}, map[string]string{"a": "1", "d/e/f": "1", "d/g": "1"}, []string{"A d", "A d/e", "A d/e/f", "A d/g"}},
		{"removed directory", map[string]string{"a": "1", "d/e/f": "1"}, map[string]string{"a": "1"}, []string{"D d", "D d/e", "D d/e/f"}},
		{"empty directory", map[string]string{"a": "1"}, map[string]string{"a": "1", "d/": ""}, []string{"A d"}},
		{"file to directory", map[string]string{"a": "1"}, map[string]string{"a/b": "1"}, []string{"M a", "A a/b"}},
		{"directory to file", map[string]string{"a/b": "1"}, map[string]string{"a": "1"}, []string{"M a", "D a/b"}},
		{"order of names", map[string]string{"a.d/x": "1", "a": "1", "a-b": "1"}, map[string]string{"a.d/x": "2", "a": "2", "a-b": "2"}, []string{"M a", "M a-b", "M a.d/x"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := trees{}
			got := diffText(t, src, src.put("dir", test.before), src.put("dir", test.after))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDiffTreesFromNothing(t *testing.T) {
	src := trees{}
	root := src.put("dir", map[string]string{"a": "1", "d/b": "2"})
	if diff := cmp.Diff([]string{"A .", "A a", "A d", "A d/b"}, diffText(t, src, TreeDir{}, root)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"D .", "D a", "D d", "D d/b"}, diffText(t, src, root, TreeDir{})); diff != "" {
		t.Error(diff)
	}
	other := root
	other.Meta = ChecksumOf([]byte("other"))
	if diff := cmp.Diff([]string{"M ."}, diffText(t, trees{}, root, other)); diff != "" {
		t.Errorf("metadata of the root alone, of which no tree is read: %s", diff)
	}
}

func TestDiffTreesEnds(t *testing.T) {
	src := trees{}
	root := src.put("dir", map[string]string{"a": "1", "b": "2"})
	stop := errors.New("stop")
	calls := 0
	err := DiffTrees(src, TreeDir{}, root, func(Change) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := DiffTrees(trees{}, TreeDir{}, root, func(Change) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dirtree that is not there: %v", err)
	}
}

// Forty dirtrees that each name the next one twice describe 2^40 files.
func TestDiffTreesIsBounded(t *testing.T) {
	src := trees{}
	dir := src.put("dir", map[string]string{"a": "1"})
	for range 40 {
		d := &DirTree{Dirs: []TreeDir{{Name: "x", Tree: dir.Tree, Meta: dir.Meta}, {Name: "y", Tree: dir.Tree, Meta: dir.Meta}}}
		dir.Tree = ChecksumOf(d.Encode())
		src[dir.Tree] = d
	}
	if err := DiffTrees(src, TreeDir{}, dir, func(Change) error { return nil }); !errors.Is(err, ErrTooLarge) {
		t.Errorf("wide: %v", err)
	}
	deep := src.put("dir", map[string]string{"a": "1"})
	for range maxDiffDepth + 1 {
		d := &DirTree{Dirs: []TreeDir{{Name: "x", Tree: deep.Tree, Meta: deep.Meta}}}
		deep.Tree = ChecksumOf(d.Encode())
		src[deep.Tree] = d
	}
	if err := DiffTrees(src, TreeDir{}, deep, func(Change) error { return nil }); !errors.Is(err, ErrTooLarge) {
		t.Errorf("deep: %v", err)
	}
}
