package repository

import (
	"strings"
	"testing"

	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// publishAt publishes with a clock that shows something else.
func (h *hub) publishAt(now uint64, requests ...PublishRequest) {
	h.t.Helper()
	p := h.repo.begin(h.t.Context(), newJournal(&h.log))
	p.now = now
	if _, err := p.run(requests, h.cache.save); err != nil {
		h.t.Fatal(err)
	}
}

// modified is when the summary says that the repository was published.
func (h *hub) modified(file string) uint64 {
	h.t.Helper()
	data := []byte(readFile(h.t, h.opt.Dir+"/"+file))
	const key = "ostree.summary.last-modified"
	if file == "summary" {
		summary, err := ostree.ParseSummary(data)
		if err != nil {
			h.t.Fatal(err)
		}
		value, _ := summary.Metadata.Get(key)
		return value.Uint64BE()
	}
	index, err := ostree.ParseSummaryIndex(data)
	if err != nil {
		h.t.Fatal(err)
	}
	value, _ := index.Metadata.Get(key)
	return value.Uint64BE()
}

// TestTimeNeverGoesBack publishes a version whose commit is older than that
// before it, with a clock that was set back.
func TestTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "flatpak")
	signer, key := newSigner(t)
	h := newHub(t, func(o *Options) { o.Signer = signer })
	const id = "org.test.Hello"
	ref := appRef(id)

	u := uploader{}
	h.publish(h.commit(u, map[string]string{
		platformRef: u.commit(t, platformRef, runtimeTree(t)),
		ref:         u.commit(t, ref, appTree(id, "v1")),
	}))
	c := newClient(t)
	c.flatpak("remote-add", "--gpg-import="+key, "hub", h.serve())
	c.flatpak("install", "-y", "--noninteractive", "hub", id)
	c.flatpak("update", "--appstream", "hub")

	refs := []string{ref, "appstream/x86_64", "appstream2/x86_64"}
	before := map[string]uint64{}
	for _, ref := range refs {
		before[ref] = h.head(ref).Timestamp
	}
	modified := h.modified("summary.idx")
	h.reopen()

	u = uploader{}
	sum := u.commit(t, ref, appTree(id, "v2")) // in 2023
	h.publishAt(1_600_000_000, PublishRequest{Key: "k", Build: h.upload(u), Refs: map[string]string{ref: sum}})
	for _, ref := range refs {
		if now := h.head(ref).Timestamp; now <= before[ref] {
			t.Errorf("%s was made at %d, the one before at %d", ref, now, before[ref])
		}
	}
	for _, file := range []string{"summary", "summary.idx"} {
		if now := h.modified(file); now < modified {
			t.Errorf("%s is of %d, the one before of %d", file, now, modified)
		}
	}
	h.check()
	c.flatpak("update", "-y", "--noninteractive")
	if got := c.installed(id, "bin/hello"); !strings.Contains(got, "hello v2") {
		t.Errorf("updated to %q", got)
	}
	c.flatpak("update", "--appstream", "hub")
	if got := c.catalogue(); !strings.Contains(got, "Hello v2") {
		t.Errorf("catalogue %q", got)
	}
}
