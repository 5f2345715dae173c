package generation

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// tb is what all tests have, those of rapid too.
type tb interface {
	Fatal(args ...any)
	Cleanup(f func())
}

// generationOf is one with a manifest of these files, and nothing else.
func generationOf(t tb, dir, id string, files []File) *Generation {
	info := Info{Project: "demo", ID: id}
	path := filepath.Join(dir, id)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(path, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := newManifestWriter(f, info.Project, info.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := w.add(f); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.close()
	if err != nil {
		t.Fatal(err)
	}
	info.Manifest = fmt.Sprintf("%x", sum)
	root, err := os.OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return &Generation{info: info, dir: root}
}

// twoGenerations draws one, and one that differs in a few places.
func twoGenerations(t *rapid.T, dir string) (before, after *Generation) {
	n := rapid.SampledFrom([]int{0, 1, 60, 500, 1500}).Draw(t, "files")
	var old []File
	for i := range n {
		f := File{Path: fmt.Sprintf("pool/%04d/%s", i, strings.Repeat("x", i%90)+"y"), Size: int64(i), ModTime: time.Unix(int64(i), 0).UTC()}
		f.SHA256 = sha256.Sum256([]byte(f.Path))
		if i%9 == 0 {
			f = File{Path: f.Path, Link: "to a link"}
		}
		old = append(old, f)
	}
	var now []File
	gone := rapid.SliceOfN(rapid.IntRange(0, n), 0, 4).Draw(t, "gone")
	changed := rapid.SliceOfN(rapid.IntRange(0, n), 0, 4).Draw(t, "changed")
	come := rapid.SliceOfN(rapid.IntRange(0, n), 0, 4).Draw(t, "come")
	for i, f := range old {
		if slices.Contains(come, i) {
			now = append(now, File{Path: f.Path[:len("pool/0000")] + "/\x01\\ \xff", Size: 1, ModTime: time.Unix(1, 0).UTC()})
		}
		if slices.Contains(gone, i) {
			continue
		}
		if slices.Contains(changed, i) {
			f.Size, f.Link = f.Size+1, ""
			f.ModTime = time.Unix(int64(i+1), 0).UTC()
		}
		now = append(now, f)
	}
	return generationOf(t, dir, "000001", old), generationOf(t, dir, "000002", now)
}

type change struct {
	path        string
	left, right File
}

func changesIn(t *rapid.T, seq func(func(Change, error) bool)) (list []change) {
	for c, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		one := change{path: c.Path}
		if c.Left != nil {
			one.left = *c.Left
		}
		if c.Right != nil {
			one.right = *c.Right
		}
		list = append(list, one)
	}
	return list
}

// TestChangesOfFrames: what is passed over makes no difference.
func TestChangesOfFrames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		before, after := twoGenerations(t, dir)
		for _, pair := range [][2]*Generation{{before, after}, {after, before}, {nil, after}, {before, nil}, {after, after}} {
			got, want := changesIn(t, Changes(pair[0], pair[1])), changesIn(t, changesOfAll(pair[0], pair[1]))
			if !slices.Equal(got, want) {
				t.Fatalf("%d changes, want %d:\n%+v\n%+v", len(got), len(want), got, want)
			}
		}
	})
}
