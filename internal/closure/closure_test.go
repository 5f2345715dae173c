package closure_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/apkindex"
	"freshet/internal/closure"
	"freshet/internal/layout"
)

// contents are files by path.
type contents map[string]string

func (c contents) open(_ context.Context, name string) (io.ReadCloser, error) {
	content, ok := c[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(content)), nil
}

// load reads a folder.
func load(tb testing.TB, dir string) contents {
	tb.Helper()
	c := make(contents)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		c[rel] = string(data)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// files collects what a repository names, by path.
func files(ctx context.Context, r closure.Repository, open closure.Open) (all map[string]closure.File, last closure.File, err error) {
	all = make(map[string]closure.File)
	for f, e := range r.Files(ctx, open) {
		if err != nil {
			return all, last, fmt.Errorf("%+v, %w after the error %w", f, e, err)
		}
		if err = e; err != nil {
			continue
		}
		if known, ok := all[f.Path]; ok && known.Sum.Value != f.Sum.Value {
			return all, last, fmt.Errorf("%s comes with two checksums", f.Path)
		}
		all[f.Path], last = f, f
	}
	return all, last, err
}

// checkClosure compares the list of a repository with the files that there are: it names
// all of them but unnamed, tells sizes and checksums as they are, and nothing that is
// not there but what is optional.
func checkClosure(t *testing.T, name string, r closure.Repository, c contents, unnamed ...string) map[string]closure.File {
	t.Helper()
	all, last, err := files(t.Context(), r, c.open)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	if last.Path != r.PointerPath() || last.Class != layout.Pointer || last.Optional {
		t.Errorf("%s: the last is %+v, not the pointer", name, last)
	}
	left := maps.Clone(c)
	for _, f := range all {
		content, ok := c[f.Path]
		delete(left, f.Path)
		switch {
		case !ok:
			if !f.Optional {
				t.Errorf("%s: %s is named, and is not there", name, f.Path)
			}
			continue
		case f.Size >= 0 && f.Size != int64(len(content)):
			t.Errorf("%s: %s has %d bytes, not %d", name, f.Path, len(content), f.Size)
		case f.Sum.Value != "" && f.Sum.Value != checksum(t, f.Sum, content):
			t.Errorf("%s: %s has another checksum", name, f.Path)
		case f.Sum.Value == "" && !f.Optional:
			t.Errorf("%s: no checksum of %s", name, f.Path)
		}
		// The Release of a component is an index of that of the suite.
		if class := layout.Tree(f.Path).Class; class != f.Class && path.Base(f.Path) != "Release" {
			t.Errorf("%s: %s is %v", name, f.Path, f.Class)
		}
	}
	for _, p := range unnamed {
		if _, ok := left[p]; !ok {
			t.Errorf("%s: %s is named, or not there", name, p)
		}
		delete(left, p)
	}
	if len(left) > 0 {
		t.Errorf("%s: not named: %v", name, slices.Sorted(maps.Keys(left)))
	}
	return all
}

func checksum(t *testing.T, sum closure.Sum, content string) string {
	t.Helper()
	if sum.Control {
		old, _, err := apkindex.Control(strings.NewReader(content))
		if err != nil {
			t.Error(err)
		}
		return string(old)
	}
	h := sum.Hash.New()
	_, _ = io.WriteString(h, content)
	return string(h.Sum(nil))
}

// checkBroken takes away and changes each file that is not a package: then there is no
// list, or one of the same packages. must are those without which there is none.
func checkBroken(t *testing.T, name string, r closure.Repository, c contents, must ...string) {
	t.Helper()
	for _, p := range must {
		for how, changed := range map[string]contents{"gone": without(c, p), "longer": with(c, p, c[p]+"x"), "changed": with(c, p, flipped(c[p])), "cut": with(c, p, c[p][:len(c[p])*2/3])} {
			_, _, err := files(t.Context(), r, changed.open)
			want := closure.ErrInconsistent
			if p == r.PointerPath() {
				if how == "longer" || how == "changed" {
					continue // it may be another pointer
				}
				want = fs.ErrNotExist
				if how == "cut" {
					if err == nil {
						t.Errorf("%s: %s is cut: no error", name, p)
					}
					continue
				}
			}
			if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), path.Base(p)) {
				t.Errorf("%s: %s is %s: %v", name, p, how, err)
			}
		}
	}
}

func flipped(s string) string {
	b := []byte(s)
	b[len(b)/2] ^= 1
	return string(b)
}

func with(c contents, name, content string) contents {
	c = maps.Clone(c)
	c[name] = content
	return c
}

func without(c contents, name string) contents {
	c = maps.Clone(c)
	delete(c, name)
	return c
}

// below puts everything into a folder.
func below(c contents, dir string) contents {
	all := make(contents)
	for name, content := range c {
		all[path.Join(dir, name)] = content
	}
	return all
}
