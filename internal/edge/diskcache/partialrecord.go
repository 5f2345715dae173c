package diskcache

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"

	"freshet/internal/edge/diskcache/index"
)

// Save writes which slices are there, if some have come. The last one makes the
// entry whole.
func (p *Partial) Save() error {
	_, err := p.save()
	if err != nil && !errors.Is(err, errElsewhere) {
		return fmt.Errorf("save %s: %w", p.head.id, err)
	}
	return nil
}

func (p *Partial) save() (*Entry, error) { return p.write(nil, nil) }

// write appends a record with what is there now, and with other fields and state
// if they are not nil. It takes the place of the one before.
func (p *Partial) write(meta *Meta, st *State) (*Entry, error) {
	p.saving.Lock()
	defer p.saving.Unlock()
	s := p.store
	p.mu.Lock()
	if p.lost {
		p.mu.Unlock()
		return nil, errElsewhere
	}
	if !p.dirty && !p.fresh && meta == nil {
		p.mu.Unlock()
		return nil, nil //nolint:nilnil // nothing to do
	}
	first := p.fresh
	if meta != nil {
		p.meta = meta
	}
	m := p.meta
	r, raw, kept := p.recordLocked()
	p.dirty = false
	p.mu.Unlock()
	e, it, err := p.publish(r, raw, st, first)
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, errElsewhere) {
		p.lost = true
		return nil, err
	}
	if err != nil {
		p.dirty = true
		s.fault("note slices", err)
		return nil, err
	}
	p.taken -= fileCost(it)
	if !first {
		p.taken += diskCost(roundUp(p.saved))
	}
	p.saved, p.fresh = kept, false
	e.meta.Store(m)
	return e, nil
}

func roundUp(n int64) int64 { return (n + blockSize - 1) / blockSize * blockSize }

// recordLocked makes the record of what is there.
func (p *Partial) recordLocked() (record, []byte, int64) {
	r := p.head
	raw := p.meta.append(make([]byte, metaOff, metaOff+1024+len(p.sums)+len(p.have)*8))
	r.metaLen = uint32(len(raw) - metaOff)
	raw = append(raw, p.sums...)
	r.blocks = uint32(roundUp(p.kept) / blockSize)
	if p.left == 0 {
		r.flags &^= flagPartial
	} else {
		n := sliceCount(r.bodyLen, r.shift)
		bitmap := make([]byte, (n+7)/8)
		for i := range bitmap {
			bitmap[i] = byte(p.have[i/8] >> (i % 8 * 8))
		}
		raw = append(raw, bitmap...)
	}
	r.length, r.sum = uint32(len(raw)), checksum(raw[metaOff:])
	return r, append(raw, make([]byte, padded(int64(len(raw)))-int64(len(raw)))...), p.kept
}

// publish puts a record into the index: for the first time, in place of any
// other; later, only in the place of the one before.
func (p *Partial) publish(r record, raw []byte, st *State, first bool) (*Entry, index.Item, error) {
	s, pool := p.store, p.head.pool()
	var at index.Item
	if int64(r.length)-int64(r.metaLen) > maxRecord/2 || int64(r.metaLen) > s.maxRecord*3/4 {
		return nil, at, ErrFull
	}
	reserved := diskCost(int64(len(raw)) + segmentHead)
	own := int64(0)
	if first {
		own = fileCost(index.Item{}) // what the file takes without any slice
	}
	if err := s.reserve(pool, reserved+own); err != nil {
		return nil, at, err
	}
	p.mu.Lock()
	p.taken += own
	state := p.state
	p.mu.Unlock()
	if st != nil {
		state = *st
	}
	epoch := s.bans.now()
	e := &Entry{record: r, store: s}
	var older record
	err := errElsewhere
	s.index.Update(index.Key(r.id), func(it index.Item, found bool) (index.Item, index.Action) {
		which := uint8(queueNew)
		switch {
		case found && !first:
			old, was, wasEpoch, herr := s.stateAt(it)
			if herr != nil || old.id != r.id || old.num != r.num {
				s.space.free(pool, reserved)
				return it, index.Leave
			}
			if st == nil {
				state, epoch = was, wasEpoch
			}
			which = s.segs.at(it.Seg).queue
		case !first:
			s.space.free(pool, reserved)
			return it, index.Leave
		case found && it.Flags&flagFile != 0:
			older, _ = s.headAt(it) // what cannot be read leaves its file to the scrubber
			older.blocks = it.Blocks
		}
		e.state = state.encode(raw[stateOff:], epoch)
		var seg *segment
		if seg, at, err = s.append(pool, which, r, raw, reserved); err != nil {
			return it, index.Leave
		}
		defer seg.appending.RUnlock()
		at.Uses = it.Uses
		if found {
			at.Rev = it.Rev + 1
		}
		e.at, e.seg, e.epoch = at, seg.num, epoch
		s.log.record(logPut(r.id, seg.num, at))
		if found {
			s.count(s.segs.at(it.Seg), it, -1)
		}
		return at, index.Put
	})
	if older.inFile() {
		s.doomed.add(nil, &older)
	}
	e.sums = raw[metaOff+int(r.metaLen) : r.length]
	return e, at, err
}

// load reads which slices are there. The index's shard is locked.
func (p *Partial) load(it index.Item) error {
	seg := p.store.segs.at(it.Seg)
	if seg == nil {
		return fs.ErrNotExist
	}
	e, err := p.store.read(seg, it)
	if err != nil {
		return err
	}
	if e.id != p.head.id || e.num != p.head.num {
		return fs.ErrNotExist
	}
	n := sliceCount(e.bodyLen, e.shift)
	p.have, p.sums, p.left = make([]uint64, (n+63)/64), make([]byte, 4*n), n
	copy(p.sums, e.sums[:4*n])
	if e.flags&flagPartial == 0 {
		e.sums = append(e.sums[:4*n:4*n], ones(n)...)
	}
	for i := range n {
		if e.sums[4*n+i/8]>>(i%8)&1 != 0 {
			p.have[i/64] |= 1 << (i % 64)
			p.left--
			p.kept += p.length(i)
		}
	}
	p.saved, p.meta = p.kept, e.Meta()
	return nil
}

// ones is a bitmap of n slices that are there.
func ones(n int64) []byte {
	b := make([]byte, (n+7)/8)
	for i := range b {
		b[i] = 0xff
	}
	return b
}

// countSlices counts the bytes of the slices that the record of a partial entry
// says are there.
func countSlices(r record, raw []byte) int64 {
	n := sliceCount(r.bodyLen, r.shift)
	ones := 0
	for _, b := range raw[int64(r.length)-(n+7)/8 : r.length] {
		ones += bits.OnesCount8(b)
	}
	kept := int64(ones) << r.shift
	if last := n - 1; raw[int64(r.length)-(n+7)/8+last/8]>>(last%8)&1 != 0 {
		kept += r.bodyLen - last<<r.shift - 1<<r.shift
	}
	return kept
}

// freshenPartial is Freshen of an entry of which slices may be coming.
func (e *Entry) freshenPartial(meta *Meta, st State) {
	p, err := e.store.Partial(e)
	if err == nil {
		_, err = p.write(meta, &st)
		p.Release()
	}
	if err != nil {
		e.Mark(func(s *State) { *s = st })
	}
}

// savePartials notes what came since the last time.
func (s *Store) savePartials() {
	s.partials.mu.Lock()
	list := make([]*Partial, 0, len(s.partials.m))
	for _, p := range s.partials.m {
		p.refs++
		list = append(list, p)
	}
	s.partials.mu.Unlock()
	for _, p := range list {
		p.Release() // which saves
	}
}
