package diskcache

import (
	"bytes"
	"testing"
)

// Of a body that is given up, the whole slices are kept, and no more of the disk
// than they take; the rest comes later, also after a restart.
func TestCommitPart(t *testing.T) {
	dir, body := t.TempDir(), partialBody()
	size := int64(len(body))
	s := open(t, dir, 64<<20)
	empty := s.Stat().Used
	begin := func(i int, n int64) *Writer {
		w, err := s.Create(idOf(i), metaOf(i), size)
		if err != nil {
			t.Fatal(err)
		}
		for off := int64(0); off < n; off += 100_000 {
			if _, err := w.Write(body[off:min(off+100_000, n)]); err != nil {
				t.Fatal(err)
			}
		}
		return w
	}
	w := begin(2, 3<<20-1)
	release := w.Retain()
	if err := w.CommitPart(size, stateOf()); err != nil {
		t.Fatal(err)
	}
	w.Abort() // does nothing
	got := make([]byte, 2<<20)
	if _, err := w.ReadAt(got, 0); err != nil || !bytes.Equal(got, body[:2<<20]) {
		t.Errorf("cannot be read by who has it: %v", err)
	}
	release()
	for range 2 {
		p := partialOf(t, s, idOf(2))
		for i := range p.Slices() {
			if n, err := p.Verified(i<<20, 1<<20); p.Has(i) != (i < 2) || (n > 0) != (i < 2) || err != nil {
				t.Errorf("slice %d: %v, %d bytes can be sent, %v", i, p.Has(i), n, err)
			}
		}
		p.Release()
		if used := diskUsage(t, dir); s.Stat().Used < used-16<<10 || s.Stat().Used > used+16<<10 {
			t.Errorf("counted %d, on the disk are %d", s.Stat().Used, used)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, 64<<20)
	}
	p := partialOf(t, s, idOf(2))
	for i := int64(2); i < p.Slices(); i++ {
		keep(t, p, body, i)
	}
	p.Release()
	if whole := s.Get(idOf(2)); whole.Partial() || content(t, whole) != string(body) || s.Verify(whole) != nil {
		t.Error("not whole in the end")
	}

	// Without a whole slice, and of a length that is not the one announced,
	// nothing is kept.
	if err := begin(3, 1<<20-1).CommitPart(size, stateOf()); err == nil {
		t.Error("kept without a slice")
	}
	if err := begin(4, 3<<20).CommitPart(2<<20, stateOf()); err == nil {
		t.Error("kept more than there is")
	}
	if s.Get(idOf(3)) != nil || s.Get(idOf(4)) != nil {
		t.Error("found")
	}
	s.Delete(s.Get(idOf(2)))
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	s.files.closeAll()
	if used := s.Stat().Used; used > empty+64<<10 {
		t.Errorf("%d bytes are used in an empty store, %d before", used, empty)
	}
}
