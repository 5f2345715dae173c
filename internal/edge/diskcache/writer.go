package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"freshet/internal/edge/diskcache/index"
)

// Writer writes one entry. Write, Commit and Abort are for one goroutine;
// ReadAt and Retain may be used by others meanwhile.
//
// A short body is collected in memory and written with its record in one piece;
// a long one goes to a file of its own.
type Writer struct {
	store    *Store
	id       ID
	num      uint64
	meta     *Meta
	pool     uint8
	base     int64 // where the body begins in buf
	n        int64
	reserved int64
	ended    bool

	// of a file
	shift uint8
	sums  []byte // of the slices that are full
	sum   uint32 // of the one that is not

	mu       sync.RWMutex
	buf      []byte // the record; its length is its capacity
	h        *bodyFile
	retained int // to be retained from the file, once there is one
}

// reserveStep is how much room a writer of unknown length takes at a time.
const reserveStep = 1 << 20

// maxBuffered is how much all writers together collect in memory; more goes to
// files.
const maxBuffered = 128 << 20

// ErrFirstSight says that a long body is not kept because it would drive out
// others and nobody asked for it in the last day. If somebody does, it will be.
var ErrFirstSight = errors.New("long body not kept at first sight")

// ErrUnavailable says that the disk does not work; see [Store.Err].
var ErrUnavailable = errors.New("store cannot be written")

// Create begins an entry. expect is the length of the body, -1 if unknown.
func (s *Store) Create(id ID, meta *Meta, expect int64) (*Writer, error) {
	w := &Writer{store: s, id: id, meta: meta, pool: poolOf(meta), shift: minShift}
	if err := w.begin(expect); err != nil {
		return nil, fmt.Errorf("create %s: %w", meta.Key, err)
	}
	return w, nil
}

func (w *Writer) begin(expect int64) error {
	s := w.store
	if s.Err() != nil {
		return ErrUnavailable
	}
	head := w.meta.append(make([]byte, metaOff, 1024))
	w.base = int64(len(head))
	if w.base > metaOff+maxMeta || w.base > s.maxRecord*3/4 {
		return fmt.Errorf("header fields of %d bytes", w.base)
	}
	if expect > s.opts.Size {
		return ErrFull
	}
	if !s.admit(w.id, expect) {
		s.counts.refused.Add(1)
		return ErrFirstSight
	}
	w.num = uint64(s.run)<<32 | uint64(s.serial.Add(1))
	w.shift = shiftFor(expect)
	long := w.base+expect > s.maxRecord || s.buffer.Load() > maxBuffered
	size := w.base + max(expect, 0)
	if expect < 0 {
		size = min(w.base+4096, s.maxRecord)
	}
	if long {
		size = w.base
	}
	if err := w.need(w.cost(max(expect, 0), long)); err != nil {
		return err
	}
	w.buf = make([]byte, padded(size))
	copy(w.buf, head)
	s.buffer.Add(int64(len(w.buf)))
	if long {
		if err := w.spill(); err != nil {
			w.Abort()
			return err
		}
		w.h.expect(expect)
	}
	return nil
}

// cost is what an entry with a body of n bytes takes.
func (w *Writer) cost(n int64, file bool) int64 {
	if !file {
		return diskCost(padded(w.base+n) + segmentHead)
	}
	return diskCost(n) + diskCost(padded(w.base+4*sliceCount(n, w.shift))+segmentHead)
}

// need reserves room up to n bytes in all.
func (w *Writer) need(n int64) error {
	if n <= w.reserved {
		return nil
	}
	if err := w.store.reserve(w.pool, n-w.reserved); err != nil {
		return err
	}
	w.store.space.promise(n - w.reserved)
	w.reserved = n
	return nil
}

// spill goes on in a file.
func (w *Writer) spill() error {
	h, err := w.store.files.create(w.id, w.num)
	if err != nil {
		w.store.fault("begin a body", err)
		return err
	}
	if w.n > 0 {
		if err := h.write(w.buf[w.base:w.base+w.n], 0); err != nil {
			w.store.fault("write a body", err)
			w.store.files.drop(w.pool, w.num, h.name, 0)
			h.release()
			return err
		}
		w.add(w.buf[w.base : w.base+w.n])
	}
	w.mu.Lock()
	w.h = h
	for range w.retained {
		h.retain()
	}
	w.store.buffer.Add(w.base - int64(len(w.buf)))
	w.buf = w.buf[:w.base:w.base]
	w.mu.Unlock()
	return nil
}

// add adds to the checksums of the slices. w.n is what they have already when
// a file is written to.
func (w *Writer) add(p []byte) {
	at := int64(len(w.sums)/4) << w.shift
	done := w.n - at
	if w.h == nil {
		done = 0 // the first piece, in spill
	}
	for len(p) > 0 {
		k := min(int64(len(p)), 1<<w.shift-done)
		w.sum = crc32.Update(w.sum, castagnoli(), p[:k])
		if done += k; done == 1<<w.shift {
			w.sums = binary.LittleEndian.AppendUint32(w.sums, w.sum)
			w.sum, done = 0, 0
		}
		p = p[k:]
	}
}

// Write appends to the body.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.write(p)
	if err != nil {
		// What was written is not part of the body: no one was told.
		return 0, fmt.Errorf("write %s: %w", w.meta.Key, err)
	}
	w.n += int64(n)
	return n, nil
}

func (w *Writer) write(p []byte) (int, error) {
	s, end := w.store, w.n+int64(len(p))
	if w.h == nil {
		if w.base+end <= s.maxRecord {
			if err := w.need(w.cost(end, false)); err != nil {
				return 0, err
			}
			w.grow(w.base + end)
			return copy(w.buf[w.base+w.n:], p), nil
		}
		if err := w.need(w.cost(end, true)); err != nil {
			return 0, err
		}
		if err := w.spill(); err != nil {
			return 0, err
		}
	}
	if need := w.cost(end, true); need > w.reserved {
		if need > s.opts.Size/2 { // of unknown length, and larger than is worth the rest
			return 0, ErrFull
		}
		step := max(need-w.reserved, min(reserveStep, s.space.size/16))
		if err := w.need(w.reserved + step); err != nil {
			if err := w.need(need); err != nil {
				return 0, err
			}
		}
	}
	if 4*sliceCount(end, w.shift) > maxRecord-s.maxRecord {
		return 0, fmt.Errorf("%w: body of unknown length is too long", ErrFull)
	}
	if err := w.h.write(p, w.n); err != nil {
		s.fault("write a body", err)
		return 0, err
	}
	w.add(p)
	return len(p), nil
}

// grow makes room in the buffer.
func (w *Writer) grow(n int64) {
	if n <= int64(len(w.buf)) {
		return
	}
	n = padded(min(max(n, 2*int64(len(w.buf))), max(n, w.store.maxRecord)))
	bigger := make([]byte, n)
	copy(bigger, w.buf)
	w.store.buffer.Add(n - int64(len(w.buf)))
	w.mu.Lock()
	w.buf = bigger
	w.mu.Unlock()
}

// ID is the name the entry will have.
func (w *Writer) ID() ID { return w.id }

// Len is the length written so far.
func (w *Writer) Len() int64 { return w.n }

// ReadAt reads what was written. The caller knows how much that is.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) {
	w.mu.RLock()
	h, buf := w.h, w.buf
	w.mu.RUnlock()
	if h != nil {
		return h.f.ReadAt(p, off)
	}
	if off > int64(len(buf))-w.base {
		return 0, io.EOF
	}
	n := copy(p, buf[w.base+off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Bytes returns what was written, after Commit, while it is in memory; else nil.
// It is only read.
func (w *Writer) Bytes() []byte {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.h != nil || !w.ended {
		return nil
	}
	return w.buf[w.base : w.base+w.n]
}

// Retain keeps ReadAt working after Commit or Abort until release is called.
// It must be called before either.
func (w *Writer) Retain() (release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.h != nil {
		w.h.retain()
	} else {
		w.retained++
	}
	return func() {
		w.mu.Lock()
		h := w.h
		if h == nil {
			w.retained--
		}
		w.mu.Unlock()
		if h != nil {
			h.release()
		}
	}
}

// Commit completes the entry and puts it in place of an older one. From now on
// it is found and readable; it is durable a moment later.
//
// If the disk refuses to take it, the entry that is returned can be read by its
// holders, and is not found by others; [Store.Err] tells of the disk.
func (w *Writer) Commit(state State) (*Entry, error) {
	if w.ended {
		return nil, fmt.Errorf("commit %s: ended before", w.meta.Key)
	}
	w.ended = true
	s := w.store
	s.space.promise(-w.reserved)
	r := record{id: w.id, num: w.num, bodyLen: w.n, metaLen: uint32(w.base - metaOff), flags: w.meta.flags()}
	var raw []byte
	if w.h != nil {
		r.flags, r.shift = r.flags|flagFile, w.shift
		if w.n>>w.shift<<w.shift < w.n {
			w.sums = binary.LittleEndian.AppendUint32(w.sums, w.sum)
		}
		raw = append(w.buf[:w.base:w.base], w.sums...)
	} else {
		raw = w.buf[:w.base+w.n]
	}
	r.length, r.sum = uint32(len(raw)), checksum(raw[metaOff:])
	size := int(padded(int64(len(raw))))
	if w.h != nil || size > cap(raw) {
		raw = append(raw, make([]byte, size-len(raw))...)
	}
	raw = raw[:size]
	clear(raw[r.length:])
	epoch := s.bans.now()
	state = state.encode(raw[stateOff:], epoch)

	e := &Entry{record: r, store: s, state: state, epoch: epoch}
	e.meta.Store(w.meta)
	if behind := w.base; r.inFile() {
		e.sums = raw[behind:r.length]
	} else {
		e.body = raw[behind:r.length:r.length]
	}
	s.buffer.Add(-int64(len(w.buf)))
	if err := w.publish(e, raw); err != nil {
		s.fault("commit an entry", err)
	}
	return e, nil
}

// publish writes the record and puts the entry into the index. If it does not
// succeed, nothing is counted any more, but the file, if there is one, stays
// for those who read it.
func (w *Writer) publish(e *Entry, raw []byte) error {
	s, r := w.store, e.record
	fileBytes := int64(0)
	if w.h != nil {
		fileBytes = diskCost(r.bodyLen)
		if err := s.files.keep(w.h, r); err != nil {
			s.files.lose(w.pool, w.h, w.reserved)
			return err
		}
	}
	which := uint8(queueNew)
	if s.index.Ghost(index.Key(w.id)) {
		which = queueMain
	}
	undo := func() {
		if w.h != nil {
			s.files.lose(w.pool, w.h, fileBytes)
		}
	}
	seg, it, err := s.append(w.pool, which, r, raw, w.reserved-fileBytes)
	if err != nil {
		undo()
		return err
	}
	defer seg.appending.RUnlock()
	var older record
	taken := s.index.Update(index.Key(w.id), func(old index.Item, found bool) (index.Item, index.Action) {
		s.log.record(logPut(w.id, seg.num, it))
		if found {
			if old.Flags&flagFile != 0 {
				older, _ = s.headAt(old) // what cannot be read leaves its file to the scrubber
				older.blocks = old.Blocks
			}
			it.Rev = old.Rev + 1
			s.count(s.segs.at(old.Seg), old, -1)
		}
		return it, index.Put
	})
	if !taken {
		s.log.record(logDrop(w.id))
		s.count(seg, it, -1)
		undo()
		return fmt.Errorf("%w: no memory for the index", ErrFull)
	}
	if older.inFile() {
		s.doomed.add(nil, &older)
	}
	e.mu.Lock()
	e.at, e.seg = it, seg.num
	e.mu.Unlock()
	if w.h != nil {
		w.h.release()
	}
	return nil
}

// Abort drops the entry. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.store.space.promise(-w.reserved)
	w.store.buffer.Add(-int64(len(w.buf)))
	if w.h == nil {
		w.store.space.free(w.pool, w.reserved)
		return
	}
	w.store.files.drop(w.pool, w.num, w.h.name, w.reserved)
	w.h.release()
}

// sights remembers the long bodies that were asked for once.
type sights struct {
	mu   sync.Mutex
	seen map[ID]time.Time
}

const (
	sightLasts = 24 * time.Hour
	maxSights  = 1 << 16
)

// admit says whether a body of this length may take room from others.
func (s *Store) admit(id ID, length int64) bool {
	if length < min(max(s.opts.Size/1024, 1<<20), 64<<20) || s.space.lacks(length) <= 0 {
		return true
	}
	if s.index.View(index.Key(id), false, func(index.Item) {}) || s.index.Ghost(index.Key(id)) {
		return true
	}
	now := time.Now()
	s.sights.mu.Lock()
	defer s.sights.mu.Unlock()
	if seen, ok := s.sights.seen[id]; ok && now.Sub(seen) < sightLasts {
		delete(s.sights.seen, id)
		return true
	}
	if s.sights.seen == nil {
		s.sights.seen = make(map[ID]time.Time)
	}
	for other := range s.sights.seen {
		if len(s.sights.seen) < maxSights {
			break
		}
		delete(s.sights.seen, other) // any; maps are walked in random order
	}
	s.sights.seen[id] = now
	return false
}
