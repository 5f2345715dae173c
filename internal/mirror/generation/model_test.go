package generation_test

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/mirror/generation"

	"pgregory.net/rapid"
)

// Whatever is done in whatever order, and however often the program is started anew:
// readers get what a list of maps would give them, IDs are never given twice, and the
// disk has what the generations have and nothing else.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		m := &model{t: r, dir: t.TempDir(), trees: make(map[string]map[string]string), dated: rapid.Bool().Draw(r, "dated")}
		m.reopen()
		r.Repeat(map[string]func(*rapid.T){
			"publish":  m.publish,
			"rollback": m.rollback,
			"drop":     m.drop,
			"abandon":  m.abandon,
			"reopen":   func(*rapid.T) { m.reopen() },
			"":         func(*rapid.T) { m.check() },
		})
		_ = m.store.Close()
	})
}

type model struct {
	t     *rapid.T
	dir   string
	store *generation.Store
	p     *generation.Project
	order []string // of IDs: the current one, then the others
	trees map[string]map[string]string
	given string // the ID that was given last
	dated bool   // paths have times of their own
}

func (m *model) must(err error) {
	if err != nil {
		m.t.Helper()
		m.t.Fatal(err)
	}
}

func (m *model) reopen() {
	var err error
	if m.store != nil {
		m.must(m.store.Close())
	}
	m.store, err = generation.Open(m.t.Context(), m.dir, generation.Options{UnlinksPerSecond: 1 << 20})
	m.must(err)
	m.p, err = m.store.Project("demo", nil)
	m.must(err)
	for _, g := range m.p.Generations() {
		m.must(m.p.Verify(m.t.Context(), g, generation.VerifyOptions{}, func(_ generation.File, err error) error { return err }))
	}
}

// draw makes a tree of few names and contents, so that they meet.
func draw(t *rapid.T) map[string]string {
	return rapid.MapOfN(
		rapid.SampledFrom([]string{"pool/a.deb", "pool/b.deb", "pool/x/c.deb", "pool-2/d.deb", "dists/InRelease", "e", "z"}),
		rapid.SampledFrom([]string{"", "one", "two", "three", "-> e", "-> pool"}), 0, 6).Draw(t, "files")
}

func (m *model) stage(files map[string]string) *generation.Staging {
	st, err := m.p.Stage(m.t.Context())
	m.must(err)
	base := make(map[string]generation.File)
	for f, err := range m.p.Current().Files() {
		m.must(err)
		base[f.Path] = f
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if target, ok := strings.CutPrefix(files[path], "-> "); ok {
			m.must(st.Symlink(path, target))
			continue
		}
		f, data := m.content(path, files[path])
		if base[path].SHA256 == f.SHA256 {
			ok, err := st.Keep(m.p.Current(), base[path])
			m.must(err)
			if !ok {
				m.t.Fatalf("%s is not there to be kept", path)
			}
			continue
		}
		ok, err := st.LinkObject(f)
		m.must(err)
		if !ok {
			m.must(fetch(st, f, data))
		}
	}
	return st
}

// content gives a path a time of its own, so that equal contents meet with different
// times.
func (m *model) content(path, data string) (generation.File, string) {
	f, data := content(path, data)
	if m.dated {
		f.ModTime = f.ModTime.Add(time.Duration(len(path)) * time.Second)
	}
	return f, data
}

func (m *model) publish(t *rapid.T) {
	files := draw(t)
	g, err := m.stage(files).Commit(t.Context(), generation.Meta{})
	m.must(err)
	if g.ID() <= m.given {
		t.Fatalf("the ID %s after %s", g.ID(), m.given)
	}
	m.given = g.ID()
	m.trees[g.ID()] = files
	m.order = append([]string{g.ID()}, m.order...)
}

func (m *model) abandon(t *rapid.T) {
	st := m.stage(draw(t))
	if rapid.Bool().Draw(t, "close") {
		m.must(st.Close())
		st, _ = m.p.Stage(t.Context())
	}
	m.must(st.Abandon(t.Context()))
}

func (m *model) rollback(t *rapid.T) {
	if len(m.order) == 0 {
		t.Skip("no generation")
	}
	id := rapid.SampledFrom(m.order).Draw(t, "id")
	_, err := m.p.Rollback(t.Context(), id)
	m.must(err)
	m.order = append([]string{id}, slices.DeleteFunc(m.order, func(o string) bool { return o == id })...)
}

func (m *model) drop(t *rapid.T) {
	if len(m.order) < 2 {
		t.Skip("no old generation")
	}
	id := rapid.SampledFrom(m.order[1:]).Draw(t, "id")
	before := usage(t, m.dir)
	freed, err := m.p.Freed(t.Context(), id)
	m.must(err)
	copies := m.copies(id)
	m.must(m.p.Drop(t.Context(), id))
	m.order = slices.DeleteFunc(m.order, func(o string) bool { return o == id })
	delete(m.trees, id)
	// The files beside the trees are as long as they are; a file serial may have come.
	if after := usage(t, m.dir); before.payload-after.payload < freed.Bytes || before.payload-after.payload > freed.Bytes+copies {
		t.Fatalf("%+v was told and up to %d more, from %+v to %+v", freed, copies, before, after)
	}
}

// copies are the bytes of files that the current generation has too, as other inodes.
func (m *model) copies(id string) (bytes int64) {
	for path, content := range m.trees[id] {
		if now, ok := m.trees[m.order[0]][path]; !ok || now != content || strings.HasPrefix(content, "-> ") {
			continue
		}
		at := func(id string) os.FileInfo {
			info, err := os.Lstat(filepath.Join(m.dir, "projects/demo/generations", id, "tree", path))
			m.must(err)
			return info
		}
		if info := at(id); !os.SameFile(info, at(m.order[0])) {
			bytes += info.Size()
		}
	}
	return bytes
}

// want is what a list of maps says of a path.
func (m *model) want(path string) (data, id string) {
	for i, id := range m.order {
		data, ok := m.trees[id][path]
		if target, link := strings.CutPrefix(data, "-> "); link {
			data, ok = m.trees[id][filepath.Join(filepath.Dir(path), target)]
			ok = ok && !strings.HasPrefix(data, "-> ")
		}
		if ok && (i == 0 || strings.HasSuffix(path, ".deb")) {
			return data, id
		}
	}
	return "", ""
}

func (m *model) check() {
	for _, path := range []string{"pool/a.deb", "pool/b.deb", "pool/x/c.deb", "pool-2/d.deb", "dists/InRelease", "e", "z"} {
		want, wantID := m.want(path)
		data, id, err := read(m.p, path)
		if errors.Is(err, syscall.EISDIR) {
			continue // a link to a folder
		}
		if data != want || id != wantID || (err != nil) != (wantID == "") {
			m.t.Fatalf("%s: %q of %s, %v; want %q of %s", path, data, id, err, want, wantID)
		}
	}
	wanted := make(map[string]bool) // hashes
	for i, g := range m.p.Generations() {
		if g.ID() != m.order[i] || g.Info().Superseded.IsZero() != (i == 0) {
			m.t.Fatalf("%+v is number %d of %v", g.Info(), i, m.order)
		}
		files := m.trees[g.ID()]
		if got := slices.Collect(maps.Keys(files)); len(got) != int(g.Info().Files+g.Info().Links) {
			m.t.Fatalf("%+v has %v", g.Info(), got)
		}
		for f, err := range g.Files() {
			m.must(err)
			if !f.IsLink() {
				wanted[hex.EncodeToString(f.SHA256[:])] = true
				if want, _ := m.content(f.Path, files[f.Path]); want != f {
					m.t.Fatalf("%+v in the place of %+v", f, want)
				}
			} else if files[f.Path] != "-> "+f.Link {
				m.t.Fatalf("%+v", f)
			}
		}
	}
	for sum := range objectNames(m.t, m.dir) {
		if !wanted[sum] {
			m.t.Fatalf("nobody has the object %s", sum)
		}
		delete(wanted, sum)
	}
	if len(wanted) > 0 && !m.dated { // a content with a second time is no object
		m.t.Fatalf("there is no object of %v", wanted)
	}
	if left, _ := filepath.Glob(filepath.Join(m.dir, "projects/*/{trash,staging}*")); len(left) > 0 {
		m.t.Fatal(left)
	}
}

type fataler interface{ Fatal(args ...any) }

// objectNames are the objects, with how many names their files have.
func objectNames(t fataler, dir string) map[string]uint64 {
	names := make(map[string]uint64)
	err := filepath.WalkDir(filepath.Join(dir, "objects"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			names[d.Name()] = info.Sys().(*syscall.Stat_t).Nlink
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

type used struct {
	inodes  int
	bytes   int64
	payload int64 // of files in trees and of objects
}

// usage counts each file once.
func usage(t fataler, dir string) used {
	var u used
	seen := make(map[uint64]bool)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if seen[st.Ino] {
			return nil
		}
		seen[st.Ino] = true
		u.inodes++
		u.bytes += st.Blocks * 512
		if info.Mode().IsRegular() && (strings.Contains(path, "/tree/") || strings.Contains(path, "/objects/")) {
			u.payload += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}
