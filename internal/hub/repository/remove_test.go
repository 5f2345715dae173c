package repository

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// serial is the number of the publish that the summary index has on disk.
func (h *hub) serial() uint64 {
	h.t.Helper()
	index, err := ostree.ParseSummaryIndex([]byte(readFile(h.t, h.opt.Dir+"/summary.idx")))
	if err != nil {
		h.t.Fatal(err)
	}
	value, _ := index.Metadata.Get(flatpak.KeySerial)
	if !value.Is("t") {
		h.t.Fatal("the summary index has no serial")
	}
	return value.Uint64BE()
}

// TestRemove takes an application out branch by branch and brings it back with the
// tree that it had first, as a client sees it.
func TestRemove(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "flatpak", "ostree", "gpg")
	signer, key := newSigner(t)
	h := newHub(t, func(o *Options) {
		o.Signer = signer
		o.BaseURL = "http://127.0.0.1/repo"
	})
	url := h.serve()
	const id = "org.test.Hello"
	stable, beta := appRef(id), "app/"+id+"/x86_64/beta"
	const refFile = "/appstream/" + id + ".flatpakref"

	u := uploader{}
	request := h.commit(u, map[string]string{
		platformRef: u.commit(t, platformRef, runtimeTree(t)),
		stable:      u.commit(t, stable, appTree(id, "v1")),
		beta:        u.commit(t, beta, appTree(id, "b1")),
	})
	request.ExtraCollections = []string{"org.test.Stable.Extra"}
	first := h.publish(request)
	if first.Before[stable] != "" || len(first.Before) != 3 {
		t.Errorf("before the first publish: %v", first.Before)
	}
	second := h.publishApp(id, "v2")
	if got, want := second.Before, first.Refs[request.Key][stable]; len(got) != 1 || got[stable] != want {
		t.Errorf("before the second publish: %v, want %s", got, want)
	}
	c := newClient(t)
	c.flatpak("remote-add", "--gpg-import="+key, "hub", url)
	c.flatpak("install", "-y", "--noninteractive", "hub", stable)

	result := h.publish(PublishRequest{Key: "remove-1", Remove: []string{beta}})
	if got := result.Refs["remove-1"]; len(got) != 1 || got[beta] != "" || !slices.Equal(result.Removed, []string{beta}) {
		t.Errorf("removed %v, %v", got, result.Removed)
	}
	if got, want := result.Before[beta], first.Refs[request.Key][beta]; got != want {
		t.Errorf("removed %s at %s, want %s", beta, got, want)
	}
	if got := readFile(t, h.opt.Dir+refFile); !strings.Contains(got, "Branch=stable\n") {
		t.Errorf("the file leads to\n%s", got)
	}
	for _, path := range []string{ostree.RefPath(beta), ostree.MirrorRefPath("org.test.Stable.Extra", beta)} {
		if _, err := os.Stat(h.opt.Dir + "/" + path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
		if !slices.Contains(result.Changed, path) {
			t.Errorf("nobody is told of %s", path)
		}
	}
	c.flatpak("update", "--appstream", "hub")
	if got := c.catalogue(); !strings.Contains(got, "Hello v2") || strings.Contains(got, "Hello b1") {
		t.Errorf("catalogue %q", got)
	}

	h.publish(PublishRequest{Key: "remove-2", Remove: []string{stable}})
	if _, err := os.Stat(h.opt.Dir + refFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file leads to nothing: %v", err)
	}
	c.flatpak("update", "--appstream", "hub")
	if got := c.catalogue(); strings.Contains(got, id) {
		t.Errorf("catalogue %q", got)
	}
	if got := c.flatpak("remote-ls", "hub"); strings.Contains(got, id) {
		t.Errorf("listed:\n%s", got)
	}
	fsck(t, h.opt.Dir)
	h.reopen()
	h.check()

	back := h.publish(PublishRequest{Key: "rollback-3", Refs: map[string]string{stable: first.Refs[request.Key][stable]}})
	c.flatpak("update", "-y", "--noninteractive")
	if got := c.installed(id, "bin/hello"); !strings.Contains(got, "hello v1") {
		t.Errorf("rolled back to %q", got)
	}
	if got := readFile(t, h.opt.Dir+refFile); !strings.Contains(got, "Branch=stable\n") {
		t.Errorf("the file leads to\n%s", got)
	}
	if got := readFile(t, h.opt.Dir+"/"+formerFile); strings.Contains(got, stable) || !strings.Contains(got, beta) {
		t.Errorf("removed, and not back:\n%s", got)
	}
	// One each for the empty repository, two publishes and two removals.
	if back.Serial != 6 || h.serial() != back.Serial {
		t.Errorf("serial %d, on disk %d, want 6", back.Serial, h.serial())
	}
	fsck(t, h.opt.Dir)
	h.check()

	_, err := h.repo.Publish(t.Context(), []PublishRequest{{Key: "remove-4", Remove: []string{beta}}}, &h.log, h.cache.save)
	if !errors.Is(err, ErrNotPublished) {
		t.Errorf("removed twice: %v", err)
	}
}

// TestRemoveAmongOthers merges requests about the same ref: the last one counts.
func TestRemoveAmongOthers(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	const id = "org.test.Hello"
	ref := appRef(id)
	h.publishApp(id, "v1")
	publish := func(version string) PublishRequest {
		u := uploader{}
		return h.commit(u, map[string]string{ref: u.commit(t, ref, appTree(id, version))})
	}
	remove := PublishRequest{Key: "remove", Remove: []string{ref}}
	v2 := publish("v2")
	result := h.publish(v2, remove)
	if result.Refs[v2.Key][ref] != "" || !slices.Equal(result.Removed, []string{ref}) {
		t.Errorf("%v, removed %v", result.Refs, result.Removed)
	}
	h.check()
	h.publishApp(id, "v3")
	v4 := publish("v4")
	result = h.publish(remove, v4)
	if result.Refs["remove"][ref] == "" || len(result.Removed) != 0 || h.headSum(ref) != result.Refs[v4.Key][ref] {
		t.Errorf("%v, removed %v", result.Refs, result.Removed)
	}
	h.check()
	h.reopen()
	h.check()
}

// TestSerialGoesOn has another program write the summary.
func TestSerialGoesOn(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree")
	h := newHub(t)
	serial := h.publishApp("org.test.Hello", "v1").Serial
	for _, name := range []string{"summary", "summary.idx"} {
		if err := os.Remove(h.opt.Dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	peertest.Run(t, "", nil, "ostree", "summary", "-u", "--repo="+h.opt.Dir)
	h.opt.AfterSerial = serial
	h.reopen()
	if got := h.publishApp("org.test.Hello", "v2").Serial; got <= serial || h.serial() != got {
		t.Errorf("serial %d after %d", got, serial)
	}
}
