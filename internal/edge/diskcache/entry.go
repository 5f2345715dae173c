package diskcache

import (
	"container/list"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
)

// Entry is a stored response. Its methods are safe for concurrent use.
type Entry struct {
	store   *Store
	id      ID
	seq     uint64
	size    int64 // of the body
	base    int64 // where the body begins
	cost    int64 // bytes it counts on disk
	bodyCRC uint32
	meta    atomic.Pointer[Meta]
	checked atomic.Bool // body compared with bodyCRC, or written by this process

	mu        sync.Mutex // guards what follows
	state     State
	committed bool // in obj/, else in tmp/
	dead      bool // file removed
	older     *Entry

	// owned by the queue, under Store.mu, except freq
	freq  atomic.Int32
	elem  *list.Element
	inNew bool

	// owned by descriptors
	file *handle
	lru  *list.Element
}

func newEntry(s *Store, id ID, seq uint64, meta *Meta, h head) *Entry {
	e := &Entry{store: s, id: id, seq: seq, size: h.bodyLen, base: headSize + int64(h.metaLen), bodyCRC: h.bodyCRC, state: h.state}
	e.cost = diskCost(e.base + e.size)
	e.meta.Store(meta)
	return e
}

// diskCost is what a file of n bytes counts: whole blocks, and a share of the
// file system's own bookkeeping.
func diskCost(n int64) int64 { return (n+4095)/4096*4096 + 512 }

// ID returns the entry's name.
func (e *Entry) ID() ID { return e.id }

// Meta returns the response's fields. They must not be changed.
func (e *Entry) Meta() *Meta { return e.meta.Load() }

// Size is the length of the body.
func (e *Entry) Size() int64 { return e.size }

// State returns the present state.
func (e *Entry) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// Mark changes the state in memory. It is lost with the process unless
// [Entry.Save] follows.
//
// While the entry is not yet safe on the disk, the one it replaces still is
// there and would come back after a crash; its state is changed in the same
// way.
func (e *Entry) Mark(change func(*State)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.state)
	if e.older != nil {
		e.older.Mark(change)
	}
}

// Save writes the state to the entry's file, and that of the entry it replaces
// while a crash could bring that back. If the disk refuses, the state holds for
// the life of the process.
func (e *Entry) Save() error {
	e.mu.Lock()
	older := e.older
	e.mu.Unlock()
	var err error
	if older != nil {
		err = older.Save()
	}
	return errors.Join(e.save(), err)
}

func (e *Entry) save() error {
	h, err := e.store.files.acquire(e)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // evicted meanwhile
	}
	if err != nil {
		return fmt.Errorf("save state of %s: %w", e.Meta().Key, err)
	}
	defer h.release()
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := h.f.WriteAt(e.state.encode(), stateOff); err != nil {
		return fmt.Errorf("save state of %s: %w", e.Meta().Key, err)
	}
	return nil
}

// Freshen replaces the response's fields after a 304, in memory only: after
// the next start those of the first response hold again.
func (e *Entry) Freshen(m *Meta) { e.meta.Store(m) }

// touch notes a use, up to three (S3-FIFO).
func (e *Entry) touch() {
	if n := e.freq.Load(); n < 3 {
		e.freq.CompareAndSwap(n, n+1)
	}
}

func (e *Entry) finalName() string { return finalName(e.id, e.seq) }

func (e *Entry) nameLocked() string {
	if e.committed {
		return e.finalName()
	}
	return "tmp/" + fileName(e.id, e.seq)
}

// checkedAtOpen is the length up to which a body is checked when it is first
// opened after a start.
const checkedAtOpen = 1 << 20

// Open opens the body. An entry whose body turns out to be damaged is removed
// and the error wraps [ErrCorrupt]; one that was evicted gives an error that
// wraps [fs.ErrNotExist].
func (e *Entry) Open() (*Body, error) {
	if !e.checked.Load() {
		if e.size <= checkedAtOpen {
			if err := e.store.Verify(e); err != nil {
				e.store.log.Warn("remove a damaged cache entry", slog.Any("error", err))
				e.store.Delete(e)
				return nil, err
			}
		}
		e.checked.Store(true)
	}
	return e.open()
}

func (e *Entry) open() (*Body, error) {
	h, err := e.store.files.acquire(e)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", e.Meta().Key, err)
	}
	return &Body{h: h, base: e.base, size: e.size, entry: e}, nil
}

// Body is an open body. ReadAt is safe for concurrent use.
type Body struct {
	h          *handle
	base, size int64
	entry      *Entry
}

// ReadAt implements [io.ReaderAt].
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if off >= b.size {
		return 0, io.EOF
	}
	cut := int64(len(p)) > b.size-off
	if cut {
		p = p[:b.size-off]
	}
	n, err := b.h.f.ReadAt(p, b.base+off)
	if err == nil && cut {
		err = io.EOF
	}
	return n, err
}

// File returns a descriptor of its own, placed at the given offset of the
// body, for sendfile. The caller closes it.
func (b *Body) File(off int64) (*os.File, error) {
	f, err := b.entry.openFile(os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(b.base+off, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// At returns the file that holds the body, and where in it the given offset of
// the body is. Until Close it may be read from, at explicit offsets; it must not
// be written, closed or sought in.
func (b *Body) At(off int64) (*os.File, int64) { return b.h.f, b.base + off }

// Close gives the body up.
func (b *Body) Close() { b.h.release() }

// openFile opens the entry's file, wherever the committer has just put it.
func (e *Entry) openFile(flag int) (*os.File, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dead {
		return nil, fs.ErrNotExist
	}
	return e.store.root.OpenFile(e.nameLocked(), flag, 0)
}

// Writer writes one entry. Write, Commit and Abort are for one goroutine;
// ReadAt and Retain may be used by others meanwhile.
type Writer struct {
	store    *Store
	id       ID
	meta     *Meta
	head     head
	entry    *Entry
	h        *handle
	name     string
	reserved int64
	base     int64
	n        int64
	crc      hash.Hash32
	ended    bool
}

// reserveStep is how much room a writer of unknown length takes at a time.
const reserveStep = 1 << 20

// Create begins an entry. expect is the length of the body, -1 if unknown.
func (s *Store) Create(id ID, meta *Meta, expect int64) (*Writer, error) {
	raw, err := json.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", meta.Key, err)
	}
	if len(raw) > maxMeta {
		return nil, fmt.Errorf("create %s: header fields of %d bytes", meta.Key, len(raw))
	}
	w := &Writer{store: s, id: id, meta: meta, base: headSize + int64(len(raw)), crc: crc32New()}
	w.head = head{metaLen: uint32(len(raw)), metaCRC: crc32.Checksum(raw, castagnoli())}
	want := diskCost(w.base + max(expect, 0))
	if err := s.reserve(want); err != nil {
		return nil, fmt.Errorf("create %s: %w", meta.Key, err)
	}
	w.reserved = want
	s.mu.Lock()
	seq := s.seq
	s.seq++
	s.mu.Unlock()
	w.name = "tmp/" + fileName(id, seq)
	f, err := s.root.OpenFile(w.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		s.unreserve(w.reserved)
		return nil, fmt.Errorf("create %s: %w", meta.Key, err)
	}
	w.h = newHandle(f)
	w.entry = newEntry(s, id, seq, meta, head{metaLen: w.head.metaLen})
	if _, err := f.WriteAt(raw, headSize); err != nil {
		w.Abort()
		return nil, fmt.Errorf("create %s: %w", meta.Key, err)
	}
	return w, nil
}

// Write appends to the body.
func (w *Writer) Write(p []byte) (int, error) {
	if need := diskCost(w.base + w.n + int64(len(p))); need > w.reserved {
		step := max(need-w.reserved, min(reserveStep, w.store.size/16))
		if err := w.store.reserve(step); err != nil {
			return 0, fmt.Errorf("write %s: %w", w.meta.Key, err)
		}
		w.reserved += step
	}
	n, err := w.h.f.WriteAt(p, w.base+w.n)
	if err != nil {
		// What was written is not part of the body: no one was told.
		return 0, fmt.Errorf("write %s: %w", w.meta.Key, err)
	}
	_, _ = w.crc.Write(p)
	w.n += int64(n)
	return n, nil
}

// ID is the name the entry will have.
func (w *Writer) ID() ID { return w.id }

// Len is the length written so far.
func (w *Writer) Len() int64 { return w.n }

// ReadAt reads what was written. The caller knows how much that is.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.h.f.ReadAt(p, w.base+off) }

// Retain keeps ReadAt working after Commit or Abort until release is called.
// It must be called before either.
func (w *Writer) Retain() (release func()) {
	w.h.retain()
	return w.h.release
}

// Commit completes the entry and puts it in place of an older one. From now on
// it is found and readable; it is durable a moment later.
func (w *Writer) Commit(state State) (*Entry, error) {
	w.head.bodyLen, w.head.bodyCRC, w.head.state = w.n, w.crc.Sum32(), state
	if _, err := w.h.f.WriteAt(w.head.encode(), 0); err != nil {
		w.Abort()
		return nil, fmt.Errorf("commit %s: %w", w.meta.Key, err)
	}
	w.ended = true
	e := newEntry(w.store, w.id, w.entry.seq, w.meta, w.head)
	e.checked.Store(true)
	w.store.files.adopt(e, w.h)
	w.store.publish(e, w.reserved)
	return e, nil
}

// Abort drops the entry. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.store.removeFile(w.name)
	w.store.unreserve(w.reserved)
	w.h.release()
}

func crc32New() hash.Hash32 { return crc32.New(castagnoli()) }
