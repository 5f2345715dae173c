package diskcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"freshet/internal/edge/diskcache/index"
)

// Entry is a stored response as it was found. It stays as it is when the store
// evicts or replaces it. Its methods are safe for concurrent use.
type Entry struct {
	record

	store *Store
	meta  atomic.Pointer[Meta]
	body  []byte // if it is in the record
	sums  []byte // checksums of the slices of the body's file

	mu    sync.Mutex
	state State
	epoch uint64
	at    index.Item // where the record was when the state was read; Len 0: nowhere
	seg   uint32     // the number of the segment there: its place may be another's by now
	err   error      // of the last Mark
	clear uint64     // epoch of a ban up to which none changes the state
}

// read reads the record of an item. The caller holds the segment.
func (s *Store) read(seg *segment, it index.Item) (*Entry, error) {
	raw := make([]byte, int(it.Len)*unit)
	off := int64(it.Off) * unit
	if _, err := seg.f.ReadAt(raw, off); err != nil {
		return nil, fmt.Errorf("read %s: %w", seg.name(), err)
	}
	e, err := s.parse(raw, seg.seedAt(off), it)
	if err == nil {
		e.seg = seg.num
	}
	return e, err
}

// parse makes an entry of a record's bytes, which it keeps.
func (s *Store) parse(raw []byte, seed uint32, it index.Item) (*Entry, error) {
	r, err := parseRecord(raw, seed)
	if err != nil {
		return nil, err
	}
	if int(r.length) > len(raw) || checksum(raw[metaOff:r.length]) != r.sum {
		return nil, errRecord
	}
	behind := metaOff + int(r.metaLen)
	meta, err := parseMeta(raw[metaOff:behind])
	if err != nil {
		return nil, err
	}
	meta.Fixed, meta.Listed, meta.Index = r.flags&flagFixed != 0, r.flags&flagListed != 0, r.flags&flagIndex != 0
	e := &Entry{record: r, store: s, at: it}
	e.meta.Store(meta)
	if r.inFile() {
		e.sums = raw[behind:r.length]
	} else {
		e.body = raw[behind:r.length:r.length]
	}
	var ok bool
	if e.state, e.epoch, ok = readState(raw[stateOff:]); !ok {
		e.at.Rev-- // damaged, or just being written: then it is not the item's any more
	}
	return e, nil
}

// isAt reports whether the item is what the entry was read from, unchanged.
func (e *Entry) isAt(it index.Item) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at.Len == 0 || e.at.Seg != it.Seg || e.at.Off != it.Off || e.at.Rev != it.Rev {
		return false
	}
	seg := e.store.segs.at(it.Seg)
	return seg != nil && seg.num == e.seg
}

// Is reports whether both are the same stored response, or both nil. Its state
// and fields may have changed between one and the other.
func (e *Entry) Is(other *Entry) bool {
	if e == nil || other == nil {
		return e == other
	}
	return e.id == other.id && e.num == other.num
}

// Sight is what an entry was found to be. Who asks for the same entry again and
// again keeps it, and lets [Store.Unchanged] compare it with what has changed
// since: that takes nothing of the entry, which is seldom in a processor's cache.
type Sight struct {
	// State is the entry's.
	State State

	changes, bans uint64
	shard         int32
	often         bool
}

// Look returns what the entry is now, if it is what [Store.Get] returns now, and
// counts a use then; else nil. It may be wrong in returning nil, and is much
// cheaper than Get.
func (e *Entry) Look() *Sight {
	key := index.Key(e.id)
	seen := &Sight{shard: int32(key.Shard()), changes: e.store.index.Changes(key.Shard()), bans: e.store.bans.newest.Load()}
	current := false
	e.store.index.View(key, true, func(it index.Item) { current, seen.often = e.isAt(it), it.Uses == index.MaxUses })
	if !current || e.banned() {
		return nil
	}
	seen.State = e.State()
	return seen
}

// Unchanged reports whether another look at the entry would show the same, and
// need not be counted as a use: that is done up to a number. It only reads what
// all processors share. Nil has always changed.
func (s *Store) Unchanged(seen *Sight) bool {
	return seen != nil && seen.often && !s.away.hidden.Load() && seen.bans == s.bans.newest.Load() && seen.changes == s.index.Changes(int(seen.shard))
}

// ID returns the entry's name.
func (e *Entry) ID() ID { return e.id }

// Meta returns the response's fields. They must not be changed.
func (e *Entry) Meta() *Meta { return e.meta.Load() }

// Size is the length of the body.
func (e *Entry) Size() int64 { return e.bodyLen }

// Partial reports whether some of the body was missing when the entry was found:
// it is read by [Store.Partial].
func (e *Entry) Partial() bool { return e.flags&flagPartial != 0 }

// hasSlice reports whether a slice of the body's file was there.
func (e *Entry) hasSlice(i int64) bool {
	return !e.Partial() || e.sums[4*sliceCount(e.bodyLen, e.shift)+i/8]>>(i%8)&1 != 0
}

// State returns the present state. When the entry was evicted or replaced, it
// is the last that was known.
func (e *Entry) State() State {
	e.store.index.View(index.Key(e.id), false, func(it index.Item) {
		if !e.isAt(it) {
			e.refresh(it)
		}
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.clear == 0 || e.clear < e.store.bans.newest.Load() {
		before := e.state
		now := e.store.bans.newest.Load()
		st, _ := e.store.bans.apply(e.state, e.epoch, e.Meta())
		if st != before {
			return st
		}
		e.clear = now
	}
	return e.state
}

// Dropped reports whether a ban drops the entry: its holder must not use it any
// more.
func (e *Entry) Dropped() bool { return e.banned() }

// banned reports whether a ban drops the entry.
func (e *Entry) banned() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.clear != 0 && e.clear >= e.store.bans.newest.Load() {
		return false
	}
	_, drop := e.store.bans.apply(e.state, e.epoch, e.Meta())
	return drop
}

// refresh reads the state again. The index's shard is locked.
func (e *Entry) refresh(it index.Item) {
	r, st, epoch, err := e.store.stateAt(it)
	if err != nil || r.id != e.id || r.num != e.num {
		return
	}
	e.mu.Lock()
	e.at, e.seg, e.state, e.epoch, e.clear = it, e.store.segs.at(it.Seg).num, st, epoch, 0
	e.mu.Unlock()
}

// stateAt reads head and state of an item's record. The index's shard is
// locked.
func (s *Store) stateAt(it index.Item) (r record, st State, epoch uint64, err error) {
	seg := s.segs.at(it.Seg)
	if seg == nil {
		return r, st, 0, fs.ErrNotExist
	}
	var b [metaOff]byte
	off := int64(it.Off) * unit
	if _, err := seg.f.ReadAt(b[:], off); err != nil {
		return r, st, 0, err
	}
	if r, err = parseRecord(b[:], seg.seedAt(off)); err != nil {
		return r, st, 0, err
	}
	st, epoch, _ = readState(b[stateOff:])
	return r, st, epoch, nil
}

// Mark changes the state, at once for everybody. A crash may lose it until
// [Entry.Save] and then [Store.Sync] have returned without an error; if it
// cannot be written, the entry is dropped.
//
// An entry that was evicted or replaced changes for its holder only.
func (e *Entry) Mark(change func(*State)) {
	s := e.store
	st, epoch, at := e.State(), s.bans.now(), index.Item{}
	var num uint32
	var failed error
	dropped, gone := false, e.record
	s.index.Update(index.Key(e.id), func(it index.Item, found bool) (index.Item, index.Action) {
		if !found {
			change(&st)
			return it, index.Leave
		}
		r, now, was, err := s.stateAt(it)
		if err != nil || r.num != e.num || r.id != e.id {
			change(&st)
			return it, index.Leave
		}
		var drop bool
		if st, drop = s.bans.apply(now, was, e.Meta()); drop {
			change(&st)
			dropped = true
			s.log.record(logDrop(e.id))
			s.count(s.segs.at(it.Seg), it, -1)
			return it, index.Drop
		}
		change(&st)
		var b [stateSize]byte
		st = st.encode(b[:], epoch)
		seg := s.segs.at(it.Seg)
		if _, err := seg.f.WriteAt(b[:], int64(it.Off)*unit+stateOff); err != nil {
			failed, dropped, gone.blocks = err, true, it.Blocks
			gone.flags = gone.flags&^flagPartial | it.Flags&flagPartial
			s.log.record(logDrop(e.id))
			s.count(seg, it, -1)
			return it, index.Drop
		}
		it.Rev++
		at, num = it, seg.num
		return it, index.Put
	})
	e.mu.Lock()
	e.state, e.epoch, e.at, e.seg, e.err, e.clear = st, epoch, at, num, failed, 0
	e.mu.Unlock()
	if dropped {
		if failed != nil {
			s.fault("note a state", failed)
		}
		if e.inFile() {
			s.files.remove(gone)
		}
	}
	s.rouse()
}

// Save reports whether the last Mark could be written.
func (e *Entry) Save() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return fmt.Errorf("save state of %s: %w", e.Meta().Key, e.err)
	}
	return nil
}

// Freshen replaces the response's fields and the state after a 304. The body
// stays what it is. If there is no room for the fields, only the state changes.
func (e *Entry) Freshen(meta *Meta, st State) {
	old := e.Meta()
	fresh := *meta
	fresh.Fixed, fresh.Listed, fresh.Index = old.Fixed, old.Listed, old.Index
	e.meta.Store(&fresh)
	if e.Partial() {
		e.freshenPartial(&fresh, st)
		return
	}
	if err := e.rewrite(&fresh, st); err != nil {
		if !errors.Is(err, errElsewhere) && !errors.Is(err, ErrFull) {
			e.store.fault("note a validation", err)
		}
		e.Mark(func(s *State) { *s = st })
	}
}

var errElsewhere = errors.New("not the current entry")

// rewrite appends the entry's record with other fields, in the queue it is in.
func (e *Entry) rewrite(meta *Meta, st State) error {
	s := e.store
	rest := e.body
	if e.inFile() {
		rest = e.sums
	}
	raw := make([]byte, metaOff, metaOff+maxMeta/8+len(rest))
	raw = meta.append(raw)
	r := e.record
	r.metaLen = uint32(len(raw) - metaOff)
	raw = append(raw, rest...)
	if int64(len(raw)) > s.maxRecord+int64(len(e.sums)) {
		return ErrFull
	}
	r.length, r.sum = uint32(len(raw)), checksum(raw[metaOff:])
	raw = append(raw, make([]byte, padded(int64(len(raw)))-int64(len(raw)))...)
	epoch := s.bans.now()
	st = st.encode(raw[stateOff:], epoch)
	pool := poolOf(meta)
	reserved := diskCost(int64(len(raw)) + segmentHead)
	if s.Err() != nil {
		return ErrFull
	}
	if err := s.reserve(pool, reserved); err != nil {
		return err
	}
	err := errElsewhere
	at := index.Item{}
	var num uint32
	s.index.Update(index.Key(e.id), func(it index.Item, found bool) (index.Item, index.Action) {
		if !found || !s.holds(it, e) {
			s.space.free(pool, reserved)
			return it, index.Leave
		}
		if _, _, was, err := s.stateAt(it); err != nil || s.bans.drops(was, e.Meta()) {
			s.space.free(pool, reserved)
			return it, index.Leave // not to come back by its new state
		}
		from := s.segs.at(it.Seg)
		var seg *segment
		if seg, at, err = s.append(pool, from.queue, r, raw, reserved); err != nil {
			return it, index.Leave
		}
		defer seg.appending.RUnlock()
		at.Rev, at.Uses = it.Rev+1, it.Uses
		num = seg.num
		s.log.record(logPut(e.id, seg.num, at))
		s.count(from, it, -1)
		return at, index.Put
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.state, e.epoch, e.at, e.seg, e.err, e.clear = st, epoch, at, num, nil, 0
	e.mu.Unlock()
	return nil
}

// Open opens the body. An entry whose body turns out to be damaged is removed
// and the error wraps [ErrCorrupt]; one that was evicted may give an error that
// wraps [fs.ErrNotExist].
func (e *Entry) Open() (*Body, error) {
	b := &Body{entry: e}
	if e.Partial() {
		return nil, fmt.Errorf("open %s: %w", e.Meta().Key, ErrPartial)
	}
	if !e.inFile() {
		return b, nil
	}
	var err error
	if b.h, err = e.store.files.acquire(e.record); err != nil {
		e.store.Delete(e) // somebody removed the file
		return nil, fmt.Errorf("open %s: %w", e.Meta().Key, err)
	}
	return b, nil
}

// Bytes is the whole body if it is in memory, else nil. It must not be changed.
func (e *Entry) Bytes() []byte { return e.body }

// Body is an open body. Its methods are safe for concurrent use.
type Body struct {
	entry *Entry
	h     *bodyFile // nil: in memory
}

// Bytes is the whole body if it is in memory, else nil. It must not be changed.
func (b *Body) Bytes() []byte {
	if b.h != nil {
		return nil
	}
	return b.entry.body
}

// ReadAt implements [io.ReaderAt]. What it reads was compared with the checksum
// once since the file was opened; a damaged entry is removed and the error
// wraps [ErrCorrupt].
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	size := b.entry.bodyLen
	if off >= size {
		return 0, io.EOF
	}
	cut := int64(len(p)) > size-off
	if cut {
		p = p[:size-off]
	}
	var n int
	var err error
	if b.h == nil {
		n = copy(p, b.entry.body[off:])
	} else {
		for at := off; at < off+int64(len(p)); {
			good, err := b.Verified(at, off+int64(len(p))-at)
			if err != nil {
				return 0, err
			}
			at += good
		}
		n, err = b.h.f.ReadAt(p, off)
	}
	if err == nil && cut {
		err = io.EOF
	}
	return n, err
}

// Verified says how many of the n bytes from off on, at least one, may be sent
// from the file: up to the end of a slice that was not looked at before, or
// more where it was.
func (b *Body) Verified(off, n int64) (int64, error) {
	e := b.entry
	if b.h == nil {
		return n, nil
	}
	first := off >> e.shift
	for i := first; ; i++ {
		start, end := i<<e.shift, (i+1)<<e.shift
		if i > first && b.h.checked[i/64].Load()>>(i%64)&1 == 0 {
			return start - off, nil
		}
		if err := b.h.verify(e.record, e.sums, i); err != nil {
			e.store.damaged(e, err)
			return 0, err
		}
		if end >= off+n {
			return n, nil
		}
	}
}

// damaged removes an entry whose file is not what it was.
func (s *Store) damaged(e *Entry, err error) {
	s.counts.damaged.Add(1)
	s.opts.Log.Warn("remove a damaged cache entry", slog.String("key", e.Meta().Key), slog.Any("error", err))
	s.Delete(e)
}

// File returns a descriptor of its own, placed at the given offset of the
// body, for sendfile of what is [Body.Verified]. The caller closes it. There is
// none for a body in memory.
func (b *Body) File(off int64) (*os.File, error) {
	if b.h == nil {
		return nil, fs.ErrNotExist
	}
	f, err := b.entry.store.home.Load().root.Open(b.h.name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// At returns the body's file if the n bytes from off on may be sent from it as
// they are, else nil: they are in memory, or not all of them were looked at
// since the file was opened. Until Close the file may be read from, at explicit
// offsets; it must not be written, closed or sought in.
func (b *Body) At(off, n int64) *os.File {
	if b.h == nil {
		return nil
	}
	e := b.entry
	for i := off >> e.shift; i<<e.shift < off+n; i++ {
		if b.h.checked[i/64].Load()>>(i%64)&1 == 0 {
			return nil
		}
	}
	return b.h.f
}

// Close gives the body up.
func (b *Body) Close() {
	if b.h != nil {
		b.h.release()
	}
}
