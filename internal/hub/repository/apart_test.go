package repository

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/hub/quarantine"
	"freshet/internal/ostree"
)

// setApart damages an object and puts it into quarantine.
func (h *hub) setApart(name ostree.ObjectName) {
	h.t.Helper()
	path := filepath.Join(h.opt.Dir, filepath.FromSlash(name.Path()))
	replaceFile(h.t, path, "damaged")
	info, err := os.Stat(path)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := quarantine.Put(h.t.Context(), durable.Dir{Root: h.repo.root}, name, info, quarantine.Note{Error: "it is damaged"}); err != nil {
		h.t.Fatal(err)
	}
}

// TestUploadEndsQuarantine: what is in quarantine is missing, nothing that needs it can
// be committed, and an upload of it puts it back into its place at once.
func TestUploadEndsQuarantine(t *testing.T) {
	t.Parallel()
	repaired := 0
	h := newHub(t, func(o *Options) { o.Repaired = func() { repaired++ } })
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	refs := map[string]string{ref: sum}
	h.publish(h.commit(u, refs))
	want := 0
	for name, data := range u {
		if name.Checksum.String() == sum {
			continue // the uploaded commit is not published
		}
		h.setApart(name)
		if !h.repo.Quarantined(name.Path()) {
			t.Errorf("%s: not in quarantine", name)
		}
		b := h.upload(uploader{})
		missing, err := b.Missing(t.Context(), slices.Collect(maps.Keys(u)))
		if err != nil || !slices.Contains(missing, name) || len(missing) != 2 { // and the commit
			t.Fatalf("%s: missing %v: %v", name, missing, err)
		}
		commit := ostree.ObjectName{Checksum: checksum(t, sum), Type: ostree.TypeCommit}
		if _, err := b.PutObject(t.Context(), commit, bytes.NewReader(u[commit])); err != nil {
			t.Fatal(err)
		}
		var gone *MissingError
		if _, err := b.Commit(t.Context(), CommitRequest{Refs: refs}, nil); !errors.As(err, &gone) || gone.Name != name || gone.Ref != ref {
			t.Errorf("%s: commit: %v", name, err)
		}
		if _, err := b.PutObject(t.Context(), name, bytes.NewReader([]byte("rubbish"))); err == nil || !h.repo.Quarantined(name.Path()) {
			t.Errorf("%s was replaced by rubbish: %v", name, err)
		}
		if _, err := b.PutObject(t.Context(), name, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		want++
		if got := readFile(t, filepath.Join(h.opt.Dir, filepath.FromSlash(name.Path()))); got != string(data) || h.repo.Quarantined(name.Path()) {
			t.Errorf("%s was not repaired", name)
		}
		if items, err := quarantine.List(h.repo.root); err != nil || len(items) != 0 {
			t.Errorf("%s: still in quarantine: %v, %v", name, items, err)
		}
		told, err := quarantine.Repairs(t.Context(), h.repo.root, 10)
		if err != nil || !slices.Equal(told, []string{name.Path()}) || repaired != want {
			t.Errorf("%s: caches are told of %q, %d times: %v", name, told, repaired, err)
		}
		if err := quarantine.Told(durable.Dir{Root: h.repo.root}, told); err != nil {
			t.Error(err)
		}
		if _, err := b.Commit(t.Context(), CommitRequest{Refs: refs}, nil); err != nil {
			t.Errorf("%s: commit after the repair: %v", name, err)
		}
		if err := b.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	}
	h.check()
	ownFsck(t, h.opt.Dir)
}

// TestQuarantineStopsNothing: whatever of one application is in quarantine, the
// repository opens, with and without what the database remembers, and others publish.
func TestQuarantineStopsNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range []ostree.ObjectType{ostree.TypeCommit, ostree.TypeDirTree, ostree.TypeDirMeta, ostree.TypeFile} {
		t.Run(kind.Ext(), func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			h.publishApp("org.test.Hello", "v1")
			sum := checksum(t, h.headSum(appRef("org.test.Hello")))
			name := ostree.ObjectName{Checksum: sum, Type: kind}
			err := h.objects().Walk(t.Context(), sum, func(n ostree.ObjectName) error {
				if n.Type == kind {
					name = n
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			h.setApart(name)
			h.publishApp("org.test.Other", "v1")
			h.reopen()
			h.publishApp("org.test.Other", "v2")
			h.cache = memoryCache{}
			h.reopen()
			h.publishApp("org.test.Third", "v1")
			if !h.repo.Quarantined(name.Path()) {
				return // the others have brought it
			}
			h.publishApp("org.test.Hello", "v2")
		})
	}
}
