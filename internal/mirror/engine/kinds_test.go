package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/mirror/nginxtest"
	"freshet/internal/sign"
)

// Every kind, over every protocol: published, unchanged, published anew with what has
// changed alone, and whole each time.
func TestKinds(t *testing.T) {
	for _, f := range kindtest.Upstreams() {
		for _, protocol := range []string{"rsync", "http"} {
			t.Run(f.Name+"-"+protocol, func(t *testing.T) {
				needs(t, f.Needs...)
				w := newWorld(t, f.Config)
				if protocol == "http" {
					w.upstreamIs(nginxtest.Serve(t, w.up), fetch.Options{})
				}
				f.Publish(t, w.up, 1)
				w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
				first := w.visit(f)
				w.want(w.sync(mirrorapi.Order{}), mirrorapi.Unchanged, "")
				w.want(w.sync(mirrorapi.Order{Force: true}), mirrorapi.Unchanged, "")
				f.Publish(t, w.up, 2)
				r := w.sync(mirrorapi.Order{})
				w.want(r, mirrorapi.Published, "")
				if second := w.visit(f); second == 0 || second < first-1 {
					t.Errorf("%d files, before %d", second, first)
				}
				if r.Linked.Files == 0 || r.Fetched[mirrorapi.FromUpstream].Files == 0 || len(r.Warnings) > 0 {
					t.Errorf("the report: %+v", r)
				}
				w.want(w.sync(mirrorapi.Order{}), mirrorapi.Unchanged, "")
			})
		}
	}
}

// visit walks what is served as a client does.
func (w *world) visit(f kindtest.Upstream) int {
	w.Helper()
	files, err := visit(w.Context(), f.Config, w.project.Store.TreePath())
	if err != nil {
		w.Error(err)
	}
	return files
}

// visit does what a client does with the tree in a folder.
func visit(ctx context.Context, c kind.Config, dir string) (files int, err error) {
	tree := kindtest.FolderTree(dir)
	return kindtest.Visit(ctx, c, tree, tree.Open)
}

// What lies beside a pointer, and nothing tells what is in it, is not taken over while it
// is being written.
func TestHalfBesidePointer(t *testing.T) {
	for _, f := range kindtest.Upstreams() {
		if f.Name != "arch" {
			continue
		}
		needs(t, f.Needs...)
		w := newWorld(t, f.Config)
		w.project.MaxShrink = 90
		f.Publish(t, w.up, 1)
		w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
		f.Publish(t, w.up, 2)
		const name = "core/os/x86_64/core.files.tar.gz"
		whole, err := os.ReadFile(w.path(name))
		if err != nil {
			t.Fatal(err)
		}
		half := func() {
			if err := os.WriteFile(w.path(name), whole[:len(whole)/2], 0o644); err != nil {
				t.Error(err)
			}
		}
		half()
		asked := 0
		w.onRequest(func(path string) {
			if path != name {
				return
			}
			if asked++; asked == 2 { // then it is complete
				if err := os.WriteFile(w.path(name), whole, 0o644); err != nil {
					t.Error(err)
				}
			}
		})
		r := w.sync(mirrorapi.Order{})
		w.want(r, mirrorapi.Published, "")
		got, err := os.ReadFile(filepath.Join(w.project.Store.TreePath(), name))
		if err != nil || !bytes.Equal(got, whole) {
			t.Errorf("it serves %d of %d bytes, %v", len(got), len(whole), err)
		}
		if len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "core.files") {
			t.Errorf("it is not said: %q", r.Warnings)
		}
		w.visit(f)

		f.Publish(t, w.up, 3)
		half()
		w.onRequest(nil)
		w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
		if got, err := os.ReadFile(filepath.Join(w.project.Store.TreePath(), name)); err == nil {
			t.Errorf("it serves %d of %d bytes", len(got), len(whole))
		}
		w.visit(f)
	}
}

// Of two repositories of one project the one that names a package that is not there stays as
// it is, and the other one is published; of every kind that has several in a tree.
func TestOthersGoOn(t *testing.T) {
	for _, f := range kindtest.Upstreams() {
		if f.Name == "plain" || f.Name == "ostree" { // of these a project has one
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			needs(t, f.Needs...)
			c := f.Config
			c.Repositories = nil
			for _, part := range []string{"one", "two"} {
				for _, r := range f.Config.Repositories {
					c.Repositories = append(c.Repositories, part+"/"+r)
				}
			}
			w := newWorld(t, c)
			w.project.MaxShrink = 90
			one := f
			one.Config = c
			publish := func(versions map[string]int) {
				for part, v := range versions {
					if err := os.MkdirAll(w.path(part), 0o755); err != nil {
						t.Fatal(err)
					}
					f.Publish(t, w.path(part), v)
				}
			}
			publish(map[string]int{"one": 1, "two": 1})
			w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
			publish(map[string]int{"one": 2, "two": 3}) // not the same, which would be had from the other one
			gone, err := filepath.Glob(w.path("one/*/new2*"))
			for _, pattern := range []string{"one/*/*/new2*", "one/*/*/*/new2*"} {
				more, failed := filepath.Glob(w.path(pattern))
				gone, err = append(gone, more...), errors.Join(err, failed)
			}
			if err != nil || len(gone) != 1 {
				t.Fatal(gone, err)
			}
			name, err := filepath.Rel(w.up, gone[0])
			if err != nil {
				t.Fatal(err)
			}
			w.remove(name)
			r := w.sync(mirrorapi.Order{})
			w.want(r, mirrorapi.Published, "")
			held := 0
			for _, repository := range r.Repositories {
				if repository.Held != strings.HasPrefix(repository.Pointer, "one/") {
					t.Errorf("%+v", repository)
				}
				if repository.Held {
					held++
					if repository.Reason != mirrorapi.ReasonInconsistent || !strings.Contains(repository.Message, name) {
						t.Errorf("why it is held does not name %s: %+v", name, repository)
					}
				}
			}
			if held != 1 || len(r.Repositories) != 2 {
				t.Errorf("the repositories: %+v", r.Repositories)
			}
			w.visit(one)
			if other := "two" + strings.Replace(strings.TrimPrefix(name, "one"), "new2", "new3", 1); w.has(name) || !w.has(other) {
				t.Errorf("%s is served, or %s is not", name, other)
			}
			r = w.sync(mirrorapi.Order{})
			w.want(r, mirrorapi.Failed, mirrorapi.ReasonInconsistent)
		})
	}
}

// While what lies beside the repositories is looked at again, a repository stays as it was read, be
// it the new version, which is complete, or the one that is served: the upstream goes on meanwhile.
func TestPointersStay(t *testing.T) {
	for _, f := range kindtest.Upstreams() {
		if f.Name == "plain" || f.Name == "ostree" || f.Name == "arch" { // of these nothing is read for what lies beside
			continue
		}
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s held=%v", f.Name, held), func(t *testing.T) {
				needs(t, f.Needs...)
				f.Config.Repositories = nil // all of the tree is wanted
				w := newWorld(t, f.Config)
				w.project.MaxShrink = 90
				f.Publish(t, w.up, 1)
				const beside = "notes/README"
				kindtest.Put(t, w.path(beside), "one")
				w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
				w.visit(f)

				f.Publish(t, w.up, 2)
				kindtest.Put(t, w.path(beside), "two")
				next := func() { f.Publish(t, w.up, 3) }
				if held {
					next = w.spoil(f)
				}
				asked := false
				w.onRequest(func(name string) {
					if name == beside && !asked {
						asked = true
						kindtest.Put(t, w.path(beside), "another size than what was listed has")
						w.mu.Lock()
						defer w.mu.Unlock()
						w.fetched = func() { next(); next = func() {} }
					}
				})
				r := w.sync(mirrorapi.Order{})
				w.want(r, mirrorapi.Published, "")
				w.visit(f)
				if !asked || len(r.Warnings) == 0 || r.Repositories[0].Held != held {
					t.Errorf("the report: %+v", r)
				}
			})
		}
	}
}

// spoil makes the pointers of an upstream unreadable, and returns what mends them.
func (w *world) spoil(f kindtest.Upstream) (mend func()) {
	w.Helper()
	k, err := kind.New(f.Config)
	if err != nil {
		w.Fatal(err)
	}
	list, err := k.Repositories(w.Context(), kindtest.FolderTree(w.up))
	if err != nil || len(list) == 0 {
		w.Fatal(list, err)
	}
	whole := make(map[string][]byte)
	for _, r := range list {
		text, err := os.ReadFile(w.path(r.Pointer))
		if err != nil {
			w.Fatal(err)
		}
		whole[r.Pointer] = text
		kindtest.Put(w.T, w.path(r.Pointer), "this is no index\n")
	}
	return func() {
		for name, text := range whole {
			kindtest.Put(w.T, w.path(name), string(text))
		}
	}
}

// What takes the place of another file has a later time, though the upstream's server says that it has
// the same: clients of rsync, and those that ask for what was modified since, see no other difference.
func TestTimesTell(t *testing.T) {
	w := newWorld(t, kind.Config{Format: kind.Images})
	when := time.Unix(1_700_000_000, 0)
	const image, sums = "iso/latest.iso", "iso/SHA256SUMS"
	publish := func(content string) {
		kindtest.Put(t, w.path(image), content)
		kindtest.Put(t, w.path(sums), fmt.Sprintf("%x  latest.iso\n", sha256.Sum256([]byte(content))))
		for _, name := range []string{image, sums} {
			if err := os.Chtimes(w.path(name), when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	served := func(name string) time.Time {
		info, err := os.Stat(filepath.Join(w.project.Store.TreePath(), name))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	publish("one")
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	if got := served(sums); !got.Equal(when) {
		t.Fatalf("it has the time %v, upstream %v", got, when)
	}
	for _, content := range []string{"two", "six"} {
		before := served(sums)
		publish(content)
		w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
		for _, name := range []string{image, sums} {
			if !served(name).After(before) {
				t.Errorf("%s has the time of one before", name)
			}
		}
	}
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Unchanged, "")
	w.want(w.sync(mirrorapi.Order{Force: true}), mirrorapi.Unchanged, "")

	// What the upstream says is older is refused, be it by a second.
	when = when.Add(-time.Second)
	publish("old")
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Refused, mirrorapi.ReasonRollback)
	when = when.Add(time.Second)
	publish("new")
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
}

// What lies beside the repositories stays while the upstream does not agree with itself about it. A
// signature of the version before is none of that.
func TestSignatureGoes(t *testing.T) {
	w := newWorld(t, kind.Config{Format: kind.Images})
	w.project.MaxShrink = 90
	const sums, beside = "iso/SHA256SUMS", "notes/README"
	publish := func(content string) {
		kindtest.Put(t, w.path("iso/one.iso"), content)
		kindtest.Put(t, w.path(sums), fmt.Sprintf("%x  one.iso\n", sha256.Sum256([]byte(content))))
	}
	publish("one")
	kindtest.Put(t, w.path(beside), "read me")
	key := filepath.Join(t.TempDir(), "key.asc")
	if _, err := sign.Generate(key, "Someone <someone@example.org>"); err != nil {
		t.Fatal(err)
	}
	ring, err := sign.Open(sign.KeyFile{Path: key})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	text, err := os.ReadFile(w.path(sums))
	if err != nil {
		t.Fatal(err)
	}
	signatures, err := ring.Sign(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	kindtest.Put(t, w.path(sums+".sig"), string(signatures[0]))
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	if !w.has(sums + ".sig") {
		t.Fatal("the signature is not served")
	}

	publish("two")
	w.remove(sums + ".sig")
	length := 10
	w.onRequest(func(name string) {
		if name == beside { // it is never as it was listed
			length++
			kindtest.Put(t, w.path(beside), strings.Repeat("x", length))
		}
	})
	kindtest.Put(t, w.path(beside), "x")
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Published, "")
	tree := w.project.Store.TreePath()
	if got, err := os.ReadFile(filepath.Join(tree, beside)); err != nil || string(got) != "read me" {
		t.Errorf("beside the repositories it serves %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(tree, "iso/one.iso")); err != nil || string(got) != "two" {
		t.Errorf("in the repository it serves %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(tree, sums+".sig")); err == nil {
		t.Errorf("the signature of the version before is served beside the new list: %+v", r)
	}
}
