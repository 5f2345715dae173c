package diskcache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// keep writes slice i of body.
func keep(t *testing.T, p *Partial, body []byte, i int64) {
	t.Helper()
	off := i * p.SliceSize()
	piece := body[off:min(off+p.SliceSize(), int64(len(body)))]
	if err := p.Reserve(i); err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteAt(piece, off); err != nil {
		t.Fatal(err)
	}
	p.Keep(i, Sum(0, piece))
}

func partialBody() []byte { return bytes.Repeat([]byte("0123456789abcdef!"), 5<<20/17+100) }

func partialOf(t *testing.T, s *Store, id ID) *Partial {
	t.Helper()
	e := s.Get(id)
	if e == nil || !e.Partial() {
		t.Fatalf("entry %v is not there in part", e)
	}
	if _, err := e.Open(); !errors.Is(err, ErrPartial) {
		t.Errorf("a partial body was opened as a whole: %v", err)
	}
	p, err := s.Partial(e)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Slices come in any order, are found after a restart, count exactly, and make
// an entry like any other once all are there.
func TestPartial(t *testing.T) {
	dir, body := t.TempDir(), partialBody()
	s := open(t, dir, 64<<20)
	empty := s.Stat().Used
	p, e, err := s.CreatePartial(idOf(2), metaOf(2), int64(len(body)), 1<<20, stateOf())
	if err != nil {
		t.Fatal(err)
	}
	if e.Size() != int64(len(body)) || p.Slices() != 6 {
		t.Fatalf("%d bytes, %d slices", e.Size(), p.Slices())
	}
	keep(t, p, body, 5)
	keep(t, p, body, 1)
	p.Release()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, 64<<20)
		p = partialOf(t, s, idOf(2))
		if p.Has(0) || !p.Has(1) || !p.Has(5) || p.Kept() != 1<<20+int64(len(body))-5<<20 {
			t.Errorf("%b, %d bytes", p.have, p.Kept())
		}
		if n, err := p.Verified(1<<20+7, 3<<20); n != 1<<20-7 || err != nil {
			t.Errorf("%d bytes can be sent, %v", n, err)
		}
		if n, err := p.Verified(0, 10); n != 0 || err != nil {
			t.Errorf("%d bytes of a missing slice can be sent, %v", n, err)
		}
		if used := diskUsage(t, dir); s.Stat().Used < used-16<<10 || s.Stat().Used > used+16<<10 {
			t.Errorf("counted %d, on the disk are %d", s.Stat().Used, used)
		}
		p.Release()
	}
	e = s.Get(idOf(2))
	meta, st := *e.Meta(), stateOf()
	meta.Header = map[string][]string{"New": {"field"}}
	st.Flags = 64
	e.Freshen(&meta, st)
	p = partialOf(t, s, idOf(2))
	if e := s.Get(idOf(2)); e.State() != st || e.Meta().Header.Get("New") != "field" || !p.Has(5) {
		t.Errorf("after a validation: %+v, %v", e.State(), e.Meta().Header)
	}
	if it := s.Get(idOf(2)).at; fileCost(it) != diskCost(roundUp(p.Kept())) {
		t.Errorf("after a validation, %d bytes are counted for %d", fileCost(it), p.Kept())
	}
	for _, i := range []int64{0, 4, 2, 3} {
		keep(t, p, body, i)
	}
	s.Get(idOf(2)).Mark(func(st *State) { st.Flags |= 128 })
	if err := p.Save(); err != nil {
		t.Error(err)
	}
	whole := s.Get(idOf(2))
	if whole.Partial() || content(t, whole) != string(body) || whole.State().Flags != 64|128 {
		t.Errorf("not whole: %v, %+v", whole.Partial(), whole.State())
	}
	p.Release()
	_ = s.Close()
	s = open(t, dir, 64<<20)
	whole = s.Get(idOf(2))
	if content(t, whole) != string(body) || s.Verify(whole) != nil {
		t.Error("not whole after a restart")
	}
	s.Delete(whole)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	s.files.closeAll()
	if used := s.Stat().Used; used > empty+16<<10 {
		t.Errorf("%d bytes are used in an empty store, %d before", used, empty)
	}
}

// What is evicted, deleted or replaced while slices come is read to its end by
// who has it, and counts until then.
func TestPartialLost(t *testing.T) {
	body := partialBody()
	s := open(t, t.TempDir(), 64<<20)
	p, e, err := s.CreatePartial(idOf(2), metaOf(2), int64(len(body)), 1<<20, stateOf())
	if err != nil {
		t.Fatal(err)
	}
	keep(t, p, body, 0)
	if err := p.Save(); err != nil {
		t.Fatal(err)
	}
	keep(t, p, body, 1)
	s.Delete(e)
	keep(t, p, body, 2)
	got := make([]byte, 3<<20)
	if _, err := p.ReadAt(got, 0); err != nil || !bytes.Equal(got, body[:3<<20]) {
		t.Error("cannot be read by who has it")
	}
	if used := s.Stat().Used; used < 3<<20 {
		t.Errorf("%d bytes are counted while 3 MiB are held", used)
	}
	p.Release()
	if used := s.Stat().Used; used > 1<<20 {
		t.Errorf("%d bytes are counted when nobody has it", used)
	}
	if s.Get(idOf(2)) != nil {
		t.Error("came back")
	}
	p, _, err = s.CreatePartial(idOf(2), metaOf(2), int64(len(body)), 1<<20, stateOf())
	if err != nil {
		t.Fatal(err)
	}
	keep(t, p, body, 3)
	put(t, s, 2, "something else")
	keep(t, p, body, 4)
	p.Release()
	if got := content(t, s.Get(idOf(2))); got != "something else" {
		t.Errorf("%.40q", got)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if used := s.Stat().Used; used > 1<<20 {
		t.Errorf("%d bytes are counted when nobody has it", used)
	}
	for i := 10; i < 400; i++ { // drives out what is there in part
		p, _, err := s.CreatePartial(idOf(i), metaOf(i), int64(len(body)), 1<<20, stateOf())
		if errors.Is(err, ErrFirstSight) { // full, and nobody made room ahead: the second time it drives out others
			p, _, err = s.CreatePartial(idOf(i), metaOf(i), int64(len(body)), 1<<20, stateOf())
		}
		if err != nil {
			t.Fatal(i, err)
		}
		keep(t, p, body, int64(i%6))
		p.Release()
		if st := s.Stat(); st.Used > st.Size {
			t.Fatalf("%+v", st)
		}
	}
	if s.Stat().Evicted == 0 {
		t.Error("nothing was evicted")
	}
}

// A slice that is not what was written is not sent, and drops the entry.
func TestPartialDamaged(t *testing.T) {
	dir, body := t.TempDir(), partialBody()
	s := open(t, dir, 64<<20)
	p, _, err := s.CreatePartial(idOf(2), metaOf(2), int64(len(body)), 1<<20, stateOf())
	if err != nil {
		t.Fatal(err)
	}
	keep(t, p, body, 1)
	name := s.Path(p.h.name)
	p.Release()
	_ = s.Close()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("?"), 1<<20+5000); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	s = open(t, dir, 64<<20)
	p = partialOf(t, s, idOf(2))
	if _, err := p.Verified(1<<20, 10); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged slice gives %v", err)
	}
	p.Release()
	if s.Get(idOf(2)) != nil {
		t.Error("the damaged entry is still there")
	}
}

// After a crash in the middle of a slice, what was saved before is there, and
// nothing else.
func TestPartialCrash(t *testing.T) {
	dir, body := t.TempDir(), partialBody()
	s := open(t, dir, 64<<20)
	p, _, err := s.CreatePartial(idOf(2), metaOf(2), int64(len(body)), 1<<20, stateOf())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	for _, i := range []int64{3, 0, 5} {
		keep(t, p, body, i)
		if err := p.Save(); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := p.Reserve(4); err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteAt(body[4<<20:4<<20+5000], 4<<20); err != nil {
			t.Fatal(err)
		}
		image := t.TempDir()
		if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		p.Give(4)
		after := open(t, image, 64<<20)
		q := partialOf(t, after, idOf(2))
		for j := range q.Slices() {
			if q.Has(j) != p.Has(j) {
				t.Errorf("slice %d: %v, was %v", j, q.Has(j), p.Has(j))
			}
			if n, err := q.Verified(j<<20, 1); err != nil || (n > 0) != p.Has(j) {
				t.Errorf("slice %d: %d bytes, %v", j, n, err)
			}
		}
		q.Release()
	}
}

// A look at the whole store checks the slices that are there, and no others.
func TestCheckPartial(t *testing.T) {
	dir, body := t.TempDir(), partialBody()
	s := open(t, dir, 64<<20)
	p, _, err := s.CreatePartial(idOf(2), metaOf(2), int64(len(body)), 1<<20, stateOf())
	if err != nil {
		t.Fatal(err)
	}
	keep(t, p, body, 1)
	keep(t, p, body, 4)
	name := p.h.name
	p.Release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for damaged := range 2 {
		i := inspect(t, dir)
		done, err := i.Check(t.Context(), func(int64) {}, func(Damage) {})
		if err != nil || done.Entries != 1 || done.Damaged != damaged || done.Bytes < 2<<20 || done.Bytes > 3<<20 {
			t.Errorf("%+v, %v; want %d damaged", done, err, damaged)
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
		if f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0); err == nil {
			_, _ = f.WriteAt([]byte("?"), 4<<20+5000)
			_ = f.Close()
		}
	}
}
