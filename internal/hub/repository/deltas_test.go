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
)

// TestUploadedDeltasAreDropped brings a delta whose parts are whole, but do not
// hold the objects of the commit: nobody could install by it.
func TestUploadedDeltasAreDropped(t *testing.T) {
	t.Parallel()
	for _, trust := range []bool{false, true} {
		h := newHub(t, func(o *Options) { o.TrustUploadedDeltas = trust })
		u := uploader{}
		ref := appRef("org.test.Hello")
		sum := checksum(t, u.commit(t, ref, appTree("org.test.Hello", "v1")))
		b := h.upload(u)
		commit, err := ostree.ParseCommit(u[commitName(sum)])
		if err != nil {
			t.Fatal(err)
		}
		part := []byte("not the objects of the commit")
		name := ostree.DeltaName{To: sum}
		block := ostree.Superblock{Name: name, Commit: commit, Parts: []ostree.DeltaPart{{
			Checksum: ostree.ChecksumOf(part), Size: uint64(len(part)), USize: uint64(len(part)),
		}}}
		for number, data := range map[int][]byte{-1: block.Encode(), 0: part} {
			if _, err := b.PutDelta(t.Context(), ostree.DeltaFile{Delta: name, Part: number}, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		made, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{ref: sum.String()}}, &h.log)
		if err != nil {
			t.Fatal(err)
		}
		h.publish(PublishRequest{Key: "build-1", Build: b, Refs: made})
		head := checksum(t, h.headSum(ref))
		_, err = os.Stat(filepath.Join(h.opt.Dir, ostree.DeltaName{To: head}.SuperblockPath()))
		if trust != (err == nil) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("trusted %v: %v", trust, err)
		}
		_, listed := h.summary().Metadata.Get("ostree.static-deltas")
		if listed != trust {
			t.Errorf("trusted %v, listed %v", trust, listed)
		}
		if trust == strings.Contains(h.log.String(), "1 static delta dropped") {
			t.Errorf("trusted %v:\n%s", trust, h.log.String())
		}
		h.check()
	}
}
