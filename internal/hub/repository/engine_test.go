package repository

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
	"freshet/internal/xzrun"
)

// TestEngines lets each engine make deltas of published apps, with which the
// real flatpak installs and updates: it asks for no object that is in them.
func TestEngines(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "flatpak", "ostree", "gpg", "xz")
	xz, err := xzrun.Find(xzrun.Balanced())
	if err != nil {
		t.Fatal(err)
	}
	flatpak, err := deltas.FindFlatpak()
	if err != nil {
		t.Fatal(err)
	}
	for name, engine := range map[string]deltas.Engine{"native": &deltas.Native{XZ: xz}, "flatpak": flatpak} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signer, key := newSigner(t)
			h := newHub(t, func(o *Options) { o.Signer = signer })
			url := h.serve()
			const id = "org.test.Hello"
			u := uploader{}
			h.publish(h.commit(u, map[string]string{platformRef: u.commit(t, platformRef, runtimeTree(t))}))
			h.publishApp(id, "v1")
			v1 := checksum(t, h.headSum(appRef(id)))
			h.made(engine, ostree.DeltaName{To: v1}, ostree.DeltaName{To: checksum(t, h.headSum(platformRef))})

			c := newClient(t)
			c.flatpak("remote-add", "--gpg-import="+key, "hub", url)
			c.flatpak("install", "-y", "--noninteractive", "hub", id)
			h.askedForDelta(ostree.DeltaName{To: v1})
			c.run(id, "hello v1")

			h.publishApp(id, "v2")
			v2 := checksum(t, h.headSum(appRef(id)))
			h.made(engine, ostree.DeltaName{From: v1, To: v2})
			c.flatpak("update", "-y", "--noninteractive")
			h.askedForDelta(ostree.DeltaName{From: v1, To: v2})
			c.run(id, "hello v2")
			c.flatpak("repair", "--user")
			peertest.Run(t, "", nil, "ostree", "--repo="+filepath.Join(c.dir, "user", "repo"), "fsck", "--quiet")
			h.check()
			fsck(t, h.opt.Dir)
		})
	}
}

// made publishes deltas that an engine makes.
func (h *hub) made(engine deltas.Engine, names ...ostree.DeltaName) {
	h.t.Helper()
	repo, err := deltas.OpenSource(h.opt.Dir)
	if err != nil {
		h.t.Fatal(err)
	}
	var all []NewDelta
	for _, name := range names {
		dir := h.t.TempDir()
		report, err := engine.Make(h.t.Context(), repo, name, dir)
		if err != nil {
			h.t.Fatal(err)
		}
		if report.Size == 0 || report.Parts == 0 || report.Objects == 0 {
			h.t.Errorf("%s: %+v", name.Hex(), report)
		}
		h.verifyDelta(dir)
		all = append(all, NewDelta{Name: name, Dir: dir})
	}
	result, err := h.repo.AddDeltas(h.t.Context(), all, &h.log, h.cache.save)
	if err != nil || len(result.Failed) > 0 {
		h.t.Fatalf("%v: %v", result.Failed, err)
	}
}

// verifyDelta lets ostree look at a delta.
func (h *hub) verifyDelta(dir string) {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "superblock"))
	if err != nil {
		h.t.Fatal(err)
	}
	block, err := ostree.ParseSuperblock(data)
	if err != nil || !bytes.Equal(block.Encode(), data) {
		h.t.Fatal(err)
	}
	for key := range block.Metadata.All() {
		if !strings.HasPrefix(key, "ostree.") && key != block.Name.Dir()+"/commitmeta" {
			h.t.Errorf("superblock has %q", key)
		}
	}
}

func (h *hub) askedForDelta(name ostree.DeltaName) {
	h.t.Helper()
	for _, path := range []string{name.SuperblockPath(), name.PartPath(0)} {
		if _, asked := h.requests.Load(path); !asked {
			h.t.Errorf("the client did not ask for %s", path)
		}
	}
}
