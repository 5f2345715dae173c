package repository

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// makeDelta makes a static delta with ostree, in a copy of the repository.
func (h *hub) makeDelta(name ostree.DeltaName) NewDelta {
	h.t.Helper()
	dir := filepath.Join(h.t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(h.opt.Dir)); err != nil {
		h.t.Fatal(err)
	}
	args := []string{"--repo=" + dir, "static-delta", "generate", "--to=" + name.To.String()}
	if name.FromScratch() {
		args = append(args, "--empty")
	} else {
		args = append(args, "--from="+name.From.String())
	}
	peertest.Run(h.t, "", nil, "ostree", args...)
	return NewDelta{Name: name, Dir: filepath.Join(dir, name.Dir())}
}

// deltaIndex are the deltas to a commit that clients find.
func (h *hub) deltaIndex(to ostree.Checksum) int {
	return len(readDeltaIndex(os.DirFS(h.opt.Dir), to))
}

// saveAlone is the cache's save, which no publish may run beside.
func (h *hub) saveAlone(result Result) error {
	h.t.Helper()
	if len(h.repo.publishing) == 0 {
		h.t.Errorf("while %q is written down, a publish could begin", result.Keys)
	}
	return h.cache.save(result)
}

// TestNewDeltas takes deltas in, has a client use one, retires and removes them.
func TestNewDeltas(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "flatpak", "ostree", "gpg")
	signer, key := newSigner(t)
	h := newHub(t, func(o *Options) { o.Signer = signer })
	url := h.serve()
	const id = "org.test.Hello"
	u := uploader{}
	h.publish(h.commit(u, map[string]string{platformRef: u.commit(t, platformRef, runtimeTree(t))}))
	h.publishApp(id, "v1")
	old := checksum(t, h.headSum(appRef(id)))
	h.publishApp(id, "v2")
	head := checksum(t, h.headSum(appRef(id)))

	scratch, update := h.makeDelta(ostree.DeltaName{To: head}), h.makeDelta(ostree.DeltaName{From: old, To: head})
	damaged := h.makeDelta(ostree.DeltaName{To: checksum(t, h.headSum(platformRef))})
	if err := os.WriteFile(filepath.Join(damaged.Dir, "0"), []byte("no part"), 0o600); err != nil {
		t.Fatal(err)
	}
	stale := h.makeDelta(ostree.DeltaName{To: old})
	serial := h.serial()
	result, err := h.repo.AddDeltas(t.Context(), []NewDelta{scratch, damaged, update, stale}, &h.log, h.saveAlone)
	if err != nil || len(result.Keys) != 2 || len(result.Failed) != 2 || result.Failed[damaged.Name.String()] == nil || !errors.Is(result.Failed[stale.Name.String()], ErrDeltaStale) {
		t.Fatalf("published %q, failed %v: %v", result.Keys, result.Failed, err)
	}
	if result.Serial != serial+1 || h.deltaIndex(head) != 2 || h.deltaIndex(damaged.Name.To) != 0 {
		t.Errorf("serial %d, %d deltas", result.Serial, h.deltaIndex(head))
	}
	if _, err := os.Stat(filepath.Join(h.opt.Dir, damaged.Name.Dir())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged delta left something: %v", err)
	}
	h.check()
	fsck(t, h.opt.Dir)

	again, err := h.repo.AddDeltas(t.Context(), []NewDelta{scratch}, &h.log, h.saveAlone)
	if err != nil || len(again.Keys) != 1 || len(again.Changed) != 0 {
		t.Errorf("published %q again, changed %q: %v", again.Keys, again.Changed, err)
	}
	if err := os.WriteFile(filepath.Join(scratch.Dir, "superblock"), otherSuperblock(t, scratch), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err = h.repo.AddDeltas(t.Context(), []NewDelta{scratch}, &h.log, h.saveAlone)
	if err != nil || !errors.Is(again.Failed[scratch.Name.String()], ErrDeltaThere) {
		t.Errorf("another delta under the name: %v, %v", again.Failed, err)
	}

	c := newClient(t)
	c.flatpak("remote-add", "--gpg-import="+key, "hub", url)
	c.flatpak("install", "-y", "--noninteractive", "hub", id)
	if _, asked := h.requests.Load(scratch.Name.SuperblockPath()); !asked {
		t.Error("the client did not use the delta")
	}

	h.reopen()
	h.check()
	if err := h.repo.RemoveDeltas(t.Context(), []ostree.DeltaName{update.Name}); err == nil {
		t.Error("a delta was removed while it was listed")
	}
	result, err = h.repo.RetireDeltas(t.Context(), []ostree.DeltaName{update.Name, stale.Name}, h.saveAlone)
	if err != nil || len(result.Keys) != 1 || h.deltaIndex(head) != 1 {
		t.Errorf("retired %q, %d left: %v", result.Keys, h.deltaIndex(head), err)
	}
	if _, err := os.Stat(filepath.Join(h.opt.Dir, update.Name.SuperblockPath())); err != nil {
		t.Errorf("who has begun cannot go on: %v", err)
	}
	// The other one is of a former head, which the index in memory knows no more.
	h.publishApp(id, "v3")
	h.reopen()
	result, err = h.repo.RetireDeltas(t.Context(), []ostree.DeltaName{scratch.Name}, h.saveAlone)
	if err != nil || len(result.Keys) != 1 || h.deltaIndex(head) != 0 {
		t.Errorf("retired %q, %d left: %v", result.Keys, h.deltaIndex(head), err)
	}
	if err := h.repo.RemoveDeltas(t.Context(), []ostree.DeltaName{update.Name, scratch.Name, stale.Name}); err != nil {
		t.Error(err)
	}
	for _, name := range []ostree.DeltaName{update.Name, scratch.Name} {
		if _, err := os.Stat(filepath.Join(h.opt.Dir, name.Dir())); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name.Dir(), err)
		}
	}
	h.check()
	fsck(t, h.opt.Dir)
	h.reopen()
	h.check()
}

// otherSuperblock is a superblock of the same delta with other bytes.
func otherSuperblock(t *testing.T, delta NewDelta) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(delta.Dir, "superblock"))
	if err != nil {
		t.Fatal(err)
	}
	block, err := ostree.ParseSuperblock(data)
	if err != nil {
		t.Fatal(err)
	}
	block.Timestamp++
	other := block.Encode()
	if bytes.Equal(other, data) {
		t.Fatal("the superblocks are the same")
	}
	return other
}

// TestSignatures reads what a client reads.
func TestSignatures(t *testing.T) {
	t.Parallel()
	signer, _ := newSigner(t)
	h := newHub(t, func(o *Options) { o.Signer = signer })
	h.publishApp("org.test.Hello", "v1")
	head := checksum(t, h.headSum(appRef("org.test.Hello")))
	data, err := h.repo.Signatures(head)
	if err != nil || !strings.Contains(string(data), "ostree.gpgsigs") {
		t.Errorf("%q, %v", data, err)
	}
	if data, err := h.repo.Signatures(ostree.Checksum{}); data != nil || err != nil {
		t.Errorf("of no commit: %q, %v", data, err)
	}
}
