package upkeep_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
	"freshet/internal/hub/repository"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
)

// give puts an object into a build, as a client does.
func (h *hub) give(build *repository.Build, in *ostree.Repo, name ostree.ObjectName) error {
	missing, err := build.Missing(h.Context(), []ostree.ObjectName{name})
	if err != nil || len(missing) == 0 {
		return err
	}
	f, err := in.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = build.PutObject(h.Context(), name, f)
	return err
}

// compose makes a commit for ref, and a build to upload it to.
func (h *hub) compose(kind flatpak.Kind, ref, id string, files []archive.File) (*repository.Build, *ostree.Repo, ostree.Checksum) {
	h.next++
	source := filepath.Join(h.TempDir(), "source")
	made, err := archive.Create(source)
	if err != nil {
		h.Fatal(err)
	}
	meta := flatpak.Metadata{Kind: kind, Name: id, Runtime: "org.example.P/x86_64/stable", SDK: "org.example.S/x86_64/stable"}
	if err := made.CommitFlatpak(ref, meta, files, nil, time.Unix(1_700_000_000+h.next, 0)); err != nil {
		h.Fatal(err)
	}
	build, err := h.repo.Build(h.next)
	if err != nil {
		h.Fatal(err)
	}
	in := ostreetest.OpenDir(h, source)
	head, err := in.ResolveRef(ref)
	if err != nil {
		h.Fatal(err)
	}
	return build, in, head
}

// What the rule of a ref keeps stays, though its commits are also those of a
// ref of another collection, for which there is no rule.
func TestRulesOfMirroredRefs(t *testing.T) {
	h := newHub(t)
	ref := "runtime/org.example.R/x86_64/stable"
	var heads []ostree.Checksum
	for i := range 4 {
		build, in, head := h.compose(flatpak.Runtime, ref, "org.example.R", app("org.example.R", fmt.Sprint(i)))
		if err := in.Walk(h.Context(), head, func(n ostree.ObjectName) error { return h.give(build, in, n) }); err != nil {
			t.Fatal(err)
		}
		made, err := build.Commit(h.Context(), repository.CommitRequest{Refs: map[string]string{ref: head.String()}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.change(repository.PublishRequest{Key: fmt.Sprint("b", i), Build: build, Refs: made, ExtraCollections: []string{"org.example.Extra"}})
		if err := build.Remove(h.Context()); err != nil {
			t.Fatal(err)
		}
		sum, _ := h.head(ref)
		heads = append(heads, sum)
	}
	h.prune(upkeep.PruneOptions{Rules: upkeep.Rules{{Ref: "runtime/*", Depth: 9, Age: 1000 * time.Hour}, {Ref: "*"}}})
	for i, s := range heads {
		if !h.has(s) {
			t.Errorf("rule keeps 9 of runtime/*, commit %d is gone", i)
		}
	}
}
