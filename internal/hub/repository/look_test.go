package repository

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"freshet/internal/hub/stamps"
	"freshet/internal/ostree"
)

// accident is what happens to a file of a build.
type accident struct {
	name    string
	do      func(t testing.TB, path string)
	hidden  bool // a look at size and header does not show it
	missing bool
}

func accidents() []accident {
	edit := func(change func([]byte) []byte) func(testing.TB, string) {
		return func(t testing.TB, path string) {
			t.Helper()
			data := change([]byte(readFile(t, path)))
			if err := os.WriteFile(path, data, 0o600); err != nil { // the same inode
				t.Fatal(err)
			}
			later := time.Now().Add(time.Minute) // clocks of file systems tick slowly
			if err := os.Chtimes(path, later, later); err != nil {
				t.Fatal(err)
			}
		}
	}
	return []accident{
		{name: "removed", do: removeFile, missing: true},
		{name: "emptied", do: edit(func([]byte) []byte { return nil })},
		{name: "cut", do: edit(func(data []byte) []byte { return data[:20] })},
		{name: "changed", do: edit(func(data []byte) []byte { data[len(data)-1] ^= 1; return data }), hidden: true},
		{name: "replaced", do: func(t testing.TB, path string) {
			t.Helper()
			data := []byte(readFile(t, path))
			data[len(data)-1] ^= 1
			replaceFile(t, path, string(data))
		}, hidden: true},
	}
}

// TestAccidentsBeforePublish: what happens to an object between upload and publish, by
// whatever program or disk, is found before anything points at it.
func TestAccidentsBeforePublish(t *testing.T) {
	t.Parallel()
	for _, a := range accidents() {
		for _, restart := range []bool{false, true} {
			for _, committed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/restart=%t/committed=%t", a.name, restart, committed), func(t *testing.T) {
					t.Parallel()
					newHub(t).meet(a, restart, committed)
				})
			}
		}
	}
}

// meet has an object of each type of a build meet an accident.
func (h *hub) meet(a accident, restart, committed bool) {
	t := h.t
	t.Helper()
	h.publishApp("org.test.Hello", "v1")
	ref := appRef("org.test.Hello")
	before := h.headSum(ref)
	u := uploader{}
	sum := u.commit(t, ref, appTree("org.test.Hello", "v2"))
	refs := map[string]string{ref: sum}
	done := map[ostree.ObjectType]bool{}
	for name, data := range u {
		if _, err := os.Stat(filepath.Join(h.opt.Dir, name.Path())); err == nil || done[name.Type] {
			continue
		}
		done[name.Type] = true
		b := h.upload(u)
		request := PublishRequest{Key: "k", Build: b, Refs: refs}
		path := filepath.Join(b.dir, filepath.FromSlash(name.Path()))
		if committed {
			made, err := b.Commit(t.Context(), CommitRequest{Refs: refs}, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Refs = made
		}
		a.do(t, path)
		if restart {
			h.reopen()
			var err error
			if b, err = h.repo.Build(b.id); err != nil {
				t.Fatal(err)
			}
			request.Build = b
		}
		if restart && a.hidden && name.Type == ostree.TypeFile || committed && name.Type == ostree.TypeCommit {
			continue // found by fsck; not published
		}
		var err error
		if committed {
			_, err = h.repo.Publish(t.Context(), []PublishRequest{request}, nil, h.cache.save)
		} else {
			_, err = b.Commit(t.Context(), CommitRequest{Refs: refs}, nil)
		}
		missing, isMissing := errors.AsType[*MissingError](err)
		damaged, isDamaged := errors.AsType[*DamagedError](err)
		if a.missing && (!isMissing || missing.Name != name || missing.Ref != ref) || !a.missing && (!isDamaged || damaged.Name != name) {
			t.Fatalf("%s: %v", name, err)
		}
		if now := h.headSum(ref); now != before {
			t.Fatalf("%s: the ref moved to %s", name, now)
		}
		// The uploader is told, and what it sends takes the place.
		if lacks, err := b.Missing(t.Context(), []ostree.ObjectName{name}); err != nil || !slices.Equal(lacks, []ostree.ObjectName{name}) {
			t.Fatalf("%s: missing %v: %v", name, lacks, err)
		}
		if _, err := b.PutObject(t.Context(), name, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Commit(t.Context(), CommitRequest{Refs: refs}, nil); err != nil {
			t.Fatalf("%s: after the repair: %v", name, err)
		}
	}
	h.check()
}

// TestUploadAfterALook: of a file of a build that a new process has looked at, it knows
// header and size, and no more: who sends it again is not told that it is whole.
func TestUploadAfterALook(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	object, data := anObject(t)
	b, err := h.repo.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.PutObject(t.Context(), object, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.dir, filepath.FromSlash(object.Path()))
	damaged := slices.Clone(data)
	damaged[len(damaged)-1] ^= 1
	replaceFile(t, path, string(damaged))
	h.reopen()
	if b, err = h.repo.Build(1); err != nil {
		t.Fatal(err)
	}
	if missing, err := b.Missing(t.Context(), []ostree.ObjectName{object}); err != nil || len(missing) > 0 {
		t.Fatalf("header and size are right: missing %v: %v", missing, err)
	}
	if _, err := b.PutObject(t.Context(), object, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if readFile(t, path) != string(data) {
		t.Error("it was not replaced by a sound one")
	}
	// What was read once is not read again, nor is what is sent.
	h.reopen()
	if b, err = h.repo.Build(1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := b.Missing(t.Context(), []ostree.ObjectName{object}); err != nil {
			t.Fatal(err)
		}
		if n, err := b.PutObject(t.Context(), object, iotest.ErrReader(errors.New("it was read"))); err != nil || n != int64(len(data)) {
			t.Errorf("%d, %v", n, err)
		}
	}
	if _, _, _, state, err := b.glance(object); err != nil || state != stamps.Same {
		t.Errorf("the object is known as %d: %v", state, err)
	}
}

// TestStampsAreBounded: a repository remembers no more than it may, and what it forgot
// is looked at again.
func TestStampsAreBounded(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := newHub(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ref := appRef("org.test.Hello")
	u := uploader{}
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	h.repo.maxStamps = int64(len(u)) + 3
	var requests []PublishRequest
	for range 3 {
		requests = append(requests, h.commit(u, map[string]string{ref: sum}))
		if n := h.repo.stamped.Load(); n < int64(len(u)) || n > h.repo.maxStamps {
			t.Errorf("%d objects are remembered, with %d of a build", n, len(u))
		}
	}
	h.publish(requests[0])
	for _, request := range requests {
		if err := request.Build.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := h.repo.stamped.Load(); n != 0 {
		t.Errorf("%d objects of no build are remembered", n)
	}
	if bytes.Contains(log.Bytes(), []byte("as it was left")) {
		t.Error(log.String())
	}
	h.check()
}
