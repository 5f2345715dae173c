package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"

	"freshet/internal/edge/diskcache/index"
)

// ErrPartial says that an entry's body is not all there; see [Store.Partial].
var ErrPartial = errors.New("body is there in part")

// Partial is an entry whose long body is there in part: in whole slices of
// [Partial.SliceSize] bytes, which come in any order. With the last of them it
// becomes an entry like any other.
//
// All who use an entry at the same time share one Partial. Its methods are safe
// for concurrent use; who writes a slice does so alone. What is written is found
// again after a crash, but for the last second.
type Partial struct {
	store *Store
	head  record
	h     *bodyFile
	refs  int // under partials.mu

	saving sync.Mutex // one saves at a time; taken before mu

	mu    sync.Mutex
	meta  *Meta
	state State // of the first record
	have  []uint64
	sums  []byte
	left  int64 // slices that are missing
	kept  int64 // bytes of the slices that are there
	saved int64 // of them, those the index knows of
	taken int64 // bytes reserved, for which the index has no item
	fresh bool  // there is no record yet
	dirty bool  // slices have come since the last record
	lost  bool  // evicted, deleted or replaced
}

// partials are those in use, by the number of the body.
type partials struct {
	mu sync.Mutex
	m  map[uint64]*Partial
}

// CreatePartial begins an entry for a body of size bytes of which nothing is
// there yet, and puts it in place of an older one. expect is how much of it is
// going to be kept soon, by which it is decided whether a long body seen for the
// first time may drive out others ([ErrFirstSight]). The caller releases it.
func (s *Store) CreatePartial(id ID, meta *Meta, size, expect int64, state State) (*Partial, *Entry, error) {
	p, e, err := s.createPartial(id, meta, size, expect, state)
	if err != nil {
		return nil, nil, fmt.Errorf("create %s: %w", meta.Key, err)
	}
	return p, e, nil
}

func (s *Store) createPartial(id ID, meta *Meta, size, expect int64, state State) (*Partial, *Entry, error) {
	if s.Err() != nil {
		return nil, nil, ErrUnavailable
	}
	if size <= 0 || size > 1<<50 {
		return nil, nil, fmt.Errorf("%d bytes", size)
	}
	if !s.admit(id, expect) {
		s.counts.refused.Add(1)
		return nil, nil, ErrFirstSight
	}
	if n := sliceCount(size, shiftFor(size)); n*5 > maxRecord/2 {
		return nil, nil, ErrFull
	}
	p := newPartial(s, id, uint64(s.run)<<32|uint64(s.serial.Add(1)), meta, size, state)
	var err error
	if p.h, err = s.files.createSparse(p.head); err != nil {
		s.fault("begin a body", err)
		return nil, nil, err
	}
	p.enter()
	e, err := p.save()
	if err != nil {
		p.Release()
		return nil, nil, err
	}
	return p, e, nil
}

// newPartial begins an entry of which nothing is there, and which nobody knows.
// It has no file yet.
func newPartial(s *Store, id ID, num uint64, meta *Meta, size int64, state State) *Partial {
	p := &Partial{store: s, meta: meta, state: state, fresh: true, refs: 1}
	p.head = record{id: id, num: num, bodyLen: size, flags: flagFile | flagPartial | meta.flags(), shift: shiftFor(size)}
	n := sliceCount(size, p.head.shift)
	p.have, p.sums, p.left = make([]uint64, (n+63)/64), make([]byte, 4*n), n
	return p
}

// shiftFor chooses slices for a body of n bytes.
func shiftFor(n int64) uint8 {
	shift := uint8(minShift)
	for shift < 40 && n>>shift > 4096 {
		shift += 2
	}
	return shift
}

func (p *Partial) enter() {
	t := &p.store.partials
	t.mu.Lock()
	if t.m == nil {
		t.m = make(map[uint64]*Partial)
	}
	t.m[p.head.num] = p
	t.mu.Unlock()
}

// Partial returns what there is of an entry's body, to be added to. The caller
// releases it.
func (s *Store) Partial(e *Entry) (*Partial, error) {
	if !e.Partial() {
		return nil, fmt.Errorf("open %s: not partial", e.Meta().Key)
	}
	if p := s.partialInUse(e.num); p != nil {
		return p, nil
	}
	h, err := s.files.acquire(e.record)
	if err != nil {
		s.Delete(e) // somebody removed the file
		return nil, fmt.Errorf("open %s: %w", e.Meta().Key, err)
	}
	p := &Partial{store: s, head: e.record, h: h, meta: e.Meta(), refs: 1}
	p.head.flags |= flagPartial
	s.partials.mu.Lock()
	if other := s.partials.m[e.num]; other != nil {
		other.refs++
		s.partials.mu.Unlock()
		h.release()
		return other, nil
	}
	// What was saved last counts, not what the caller found once.
	s.index.View(index.Key(e.id), false, func(it index.Item) { err = p.load(it) })
	if err == nil && p.have == nil {
		err = fs.ErrNotExist
	}
	if err == nil {
		if s.partials.m == nil {
			s.partials.m = make(map[uint64]*Partial)
		}
		s.partials.m[e.num] = p
	}
	s.partials.mu.Unlock()
	if err != nil {
		h.release()
		return nil, fmt.Errorf("open %s: %w", e.Meta().Key, err)
	}
	return p, nil
}

func (s *Store) partialInUse(num uint64) *Partial {
	s.partials.mu.Lock()
	defer s.partials.mu.Unlock()
	p := s.partials.m[num]
	if p != nil {
		p.refs++
	}
	return p
}

// Size is the length of the whole body.
func (p *Partial) Size() int64 { return p.head.bodyLen }

// SliceSize is the length of a slice but the last: a power of two.
func (p *Partial) SliceSize() int64 { return 1 << p.head.shift }

// Slices is the number of slices of the whole body.
func (p *Partial) Slices() int64 { return sliceCount(p.head.bodyLen, p.head.shift) }

// length is that of slice i.
func (p *Partial) length(i int64) int64 {
	return min(p.head.bodyLen-i<<p.head.shift, 1<<p.head.shift)
}

// Has reports whether slice i is there.
func (p *Partial) Has(i int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hasLocked(i)
}

func (p *Partial) hasLocked(i int64) bool { return p.have[i/64]>>(i%64)&1 != 0 }

// Kept is how many bytes are there.
func (p *Partial) Kept() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept
}

// Whole reports whether all slices are there.
func (p *Partial) Whole() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left == 0
}

// Reserve makes room for slice i, which the caller is going to write, and then
// to [Partial.Keep] or [Partial.Give] up.
func (p *Partial) Reserve(i int64) error {
	s := p.store
	if s.Err() != nil {
		return ErrUnavailable
	}
	n := p.room(i)
	if p.Kept()+n > s.opts.Size/2 {
		return ErrFull // larger than is worth the rest
	}
	if err := s.reserve(p.head.pool(), n); err != nil {
		return err
	}
	p.mu.Lock()
	p.taken += n
	p.mu.Unlock()
	return nil
}

// room is what slice i takes on the disk.
func (p *Partial) room(i int64) int64 { return (p.length(i) + blockSize - 1) / blockSize * blockSize }

// Give gives up the room for slice i.
func (p *Partial) Give(i int64) {
	n := p.room(i)
	p.mu.Lock()
	p.taken -= n
	p.mu.Unlock()
	if p.store.given.begin() {
		_ = p.h.punch(i<<p.head.shift, n) // if it cannot, the disk has less; a full disk tells
		p.store.given.end()
	}
	p.store.space.free(p.head.pool(), n)
}

// WriteAt writes to a slice there is room for.
func (p *Partial) WriteAt(b []byte, off int64) (int, error) {
	if !p.store.given.begin() {
		return 0, ErrUnavailable
	}
	defer p.store.given.end()
	n, err := p.h.f.WriteAt(b, off)
	if err != nil {
		p.store.fault("write a body", err)
	}
	return n, err
}

// Sum continues the checksum of a slice, which begins with 0.
func Sum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli(), b) }

// Keep says that slice i was written as a whole and has this checksum.
func (p *Partial) Keep(i int64, sum uint32) {
	p.mu.Lock()
	binary.LittleEndian.PutUint32(p.sums[4*i:], sum)
	p.have[i/64] |= 1 << (i % 64)
	p.h.checked[i/64].Or(1 << (i % 64))
	p.left--
	p.kept += p.length(i)
	p.dirty = true
	p.mu.Unlock()
	p.store.rouse()
}

// ReadAt reads what was written; the caller knows what that is. Slices that are
// there are compared with their checksums by [Partial.Verified].
func (p *Partial) ReadAt(b []byte, off int64) (int, error) { return p.h.f.ReadAt(b, off) }

// File returns a descriptor of its own, placed at the given offset of the body.
// The caller closes it.
func (p *Partial) File(off int64) (*os.File, error) {
	f, err := p.store.home.Load().root.Open(p.h.name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Verified says how many of the n bytes from off on are there and may be sent
// from the file, at least one; 0 if the slice at off is missing. A damaged slice
// drops the entry, and the error wraps [ErrCorrupt].
func (p *Partial) Verified(off, n int64) (int64, error) {
	for i := off >> p.head.shift; ; i++ {
		start, end := i<<p.head.shift, (i+1)<<p.head.shift
		if start >= off+n {
			return n, nil
		}
		p.mu.Lock()
		has := p.hasLocked(i)
		sums := p.sums
		p.mu.Unlock()
		if !has || start > off && p.h.checked[i/64].Load()>>(i%64)&1 == 0 {
			return max(0, start-off), nil
		}
		if err := p.h.verify(p.head, sums, i); err != nil {
			p.drop(err)
			return 0, err
		}
		if end >= off+n {
			return n, nil
		}
	}
}

// drop removes the entry, because its file is not what it was.
func (p *Partial) drop(err error) {
	if e := p.store.Peek(p.head.id); e != nil && e.num == p.head.num {
		p.store.damaged(e, err)
	}
}

// Release gives the Partial up, with what came since the last Save.
func (p *Partial) Release() {
	s := p.store
	_ = p.Save() // told by the store's health
	s.partials.mu.Lock()
	p.refs--
	last := p.refs == 0
	if last && s.partials.m[p.head.num] == p {
		delete(s.partials.m, p.head.num)
	}
	s.partials.mu.Unlock()
	if !last {
		return
	}
	p.mu.Lock()
	left, fresh := p.taken, p.fresh
	p.taken = 0
	p.mu.Unlock()
	if fresh {
		s.files.drop(p.head.pool(), p.head.num, p.h.name, left)
	} else if left != 0 {
		s.space.free(p.head.pool(), left)
	}
	p.h.release()
}
