package repository

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/ostree"
)

// sharedHub opens a repository in one of the processes that share it.
func sharedHub(t *testing.T, dir, instance string, cache memoryCache) *hub {
	t.Helper()
	h := newHubIn(t, dir, func(o *Options) { o.Instance = instance })
	h.cache = cache
	return h
}

func (h *hub) lead(fence int64) []Pending {
	h.t.Helper()
	pending, err := h.repo.Lead(h.t.Context(), fence, 0, h.cache)
	if err != nil {
		h.t.Fatal(err)
	}
	return pending
}

func (h *hub) confirm(pending []Pending) {
	h.t.Helper()
	for _, p := range pending {
		if err := errors.Join(h.cache.save(p.Result), p.Confirm()); err != nil {
			h.t.Fatal(err)
		}
	}
}

// Any of the processes takes a build, one of them publishes it, and when another
// takes over in the middle, the publish is either its own to record, or has not
// happened and can be done again.
func TestShared(t *testing.T) {
	t.Parallel()
	dir, cache := t.TempDir(), memoryCache{}
	a, b := sharedHub(t, dir, "a", cache), sharedHub(t, dir, "b", cache)
	b.next = 100
	const id = "org.test.Hello"

	// Uploaded and committed through b, published by a.
	u := uploader{}
	sum := u.commit(t, appRef(id), appTree(id, "v1"))
	request := b.commit(u, map[string]string{appRef(id): sum})
	if _, err := b.repo.Publish(t.Context(), []PublishRequest{request}, io.Discard, b.cache.save); !errors.Is(err, ErrNotLeading) {
		t.Fatalf("published without leading: %v", err)
	}
	a.confirm(a.lead(1))
	build, err := a.repo.Build(request.Build.id)
	if err != nil {
		t.Fatal(err)
	}
	theirs := request
	theirs.Build = build
	first := a.publish(theirs)
	a.check()
	if err := b.repo.Learn(t.Context(), first.Infos, nil); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.repo.Snapshot().Get(appRef(id)); !ok || got.Checksum != mustResolve(t, a.objects(), appRef(id)) {
		t.Errorf("b has learned %v, %v", got.Checksum, ok)
	}

	// b takes over while a has published and not yet recorded it.
	u = uploader{}
	sum = u.commit(t, appRef(id), appTree(id, "v2"))
	second := a.commit(u, map[string]string{appRef(id): sum})
	overtaken := errors.New("b was faster")
	var pending []Pending
	_, err = a.repo.Publish(t.Context(), []PublishRequest{second}, io.Discard, func(Result) error {
		pending = b.lead(2)
		return overtaken
	})
	if !errors.Is(err, overtaken) || len(pending) != 1 || pending[0].Keys[0] != second.Key {
		t.Fatalf("%v, pending %+v", err, pending)
	}
	b.confirm(pending)
	if !a.repo.Overtaken() || b.repo.Overtaken() {
		t.Error("who leads?")
	}
	// a does not know it yet, and learns what b tells all the same.
	if err := a.repo.Learn(t.Context(), pending[0].Infos, nil); err != nil {
		t.Fatal(err)
	}
	if got, ok := a.repo.Snapshot().Get(appRef(id)); !ok || got.Checksum != mustResolve(t, b.objects(), appRef(id)) {
		t.Errorf("a has learned %v, %v", got.Checksum, ok)
	}
	b.check()

	// a does not know it yet, and publishes in vain.
	u = uploader{}
	sum = u.commit(t, appRef(id), appTree(id, "v3"))
	third := a.commit(u, map[string]string{appRef(id): sum})
	if _, err := a.repo.Publish(t.Context(), []PublishRequest{third}, io.Discard, a.cache.save); !errors.Is(err, ErrNotLeading) {
		t.Fatalf("published after it was overtaken: %v", err)
	}
	if third.Build, err = b.repo.Build(third.Build.id); err != nil {
		t.Fatal(err)
	}
	result := b.publish(third)
	b.check()
	if result.Serial != first.Serial+2 {
		t.Errorf("serial %d after %d", result.Serial, first.Serial)
	}

	// b resigns, and a leads once more, with a new number.
	b.repo.Resign()
	if fence, err := a.repo.Fence(t.Context()); err != nil || fence != 2 {
		t.Errorf("fence %d, %v", fence, err)
	}
	if _, err := a.repo.Lead(t.Context(), 1, 0, cache); !errors.Is(err, ErrNotLeading) {
		t.Errorf("led with an old number: %v", err)
	}
	if pending := a.lead(3); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}
	a.publishApp("org.test.Other", "v1")
	a.check()
}

func mustResolve(t *testing.T, r *ostree.Repo, ref string) ostree.Checksum {
	t.Helper()
	sum, err := r.ResolveRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A process that starts leaves what another one is receiving, and removes what it
// received itself when it died.
func TestSharedUploads(t *testing.T) {
	t.Parallel()
	dir, cache := t.TempDir(), memoryCache{}
	a := sharedHub(t, dir, "a", cache)
	u := uploader{}
	u.commit(t, appRef("org.test.Hello"), appTree("org.test.Hello", "v1"))
	b := a.upload(u)
	temp := filepath.Join(b.dir, tempDir)
	for _, name := range []string{"upload-a=1", "upload-b=1", "upload-a-b=1"} {
		writeFile(t, filepath.Join(temp, name), "half an object")
	}
	if _, err := os.Stat(filepath.Join(b.dir, bootFile)); err == nil {
		t.Error("what is on the disk needs no boot")
	}
	a.reopen()
	left, err := filepath.Glob(temp + "/upload-*")
	if err != nil || len(left) != 2 || filepath.Base(left[0]) != "upload-a-b=1" || filepath.Base(left[1]) != "upload-b=1" {
		t.Errorf("left %q, %v", left, err)
	}

	// A build from a time when nobody shared is looked at once.
	for name := range u {
		damaged := filepath.Join(b.dir, filepath.FromSlash(name.Path()))
		writeFile(t, damaged, "")
		writeFile(t, filepath.Join(b.dir, bootFile), "an earlier boot")
		again, err := a.repo.Build(b.id)
		if err != nil {
			t.Fatal(err)
		}
		if missing, err := again.Missing(context.Background(), []ostree.ObjectName{name}); err != nil || len(missing) != 1 {
			t.Errorf("missing %v, %v", missing, err)
		}
		if _, err := os.Stat(damaged); err == nil {
			t.Error("a damaged object stays")
		}
		if _, err := os.Stat(filepath.Join(b.dir, bootFile)); err == nil {
			t.Error("it would be looked at again")
		}
		if _, err := again.PutObject(context.Background(), name, bytes.NewReader(u[name])); err != nil {
			t.Fatal(err)
		}
		break
	}
}
