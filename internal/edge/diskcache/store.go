package diskcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/edge/diskcache/index"
)

// Options are the wishes of a store's owner.
type Options struct {
	// Size bounds the bytes on disk; it must be positive.
	Size int64
	// Changeable is the share of Size that entries that are not fixed have for
	// themselves; what they do not use, the others may. A quarter if 0.
	Changeable int64
	// Memory bounds the bytes of entries kept in memory besides. 64 MiB, or a
	// quarter of Size if that is less, if 0; none if negative.
	Memory int64
	// OpenFiles bounds the descriptors of long bodies kept open between
	// requests; 1024 if 0.
	OpenFiles int
	// Keys returns the keys by which a [Ban] may mean the entry of a Meta. It
	// must say the same each time. Nil: none.
	Keys func(*Meta) []Key
	// Held returns the oldest epoch that is still going to be given to
	// [Store.Since], or more than any if there is none. It may be called before
	// Open returns. Nil: there is none.
	Held func() uint64
	// Check looks at the folder each time before it is opened. What it finds is
	// an error of Open, unless it is one of the disk. Nil: it is good.
	Check func(dir string) error
	// Returned is called when a folder that Open could not use is loaded,
	// before anything of it is shown. Nil: nothing.
	Returned func()
	// Log receives what was repaired and what could not be written. Nil: nothing.
	Log *slog.Logger

	inspect bool // see [Inspect]
}

// Store is a folder of entries. Its methods are safe for concurrent use.
type Store struct {
	dir    string
	opts   Options
	home   atomic.Pointer[home]
	run    uint32        // counts openings
	serial atomic.Uint32 // of bodies in this run

	target      int64 // length of a segment
	maxRecord   int64 // of a record, but for the checksums of slices
	maxSegments int

	index    index.Index
	segs     segments
	queues   [pools][queues]queue
	space    space
	files    bodies
	hot      hot
	bans     bans
	log      indexLog
	sights   sights
	partials partials
	doomed   doomed
	buffer   atomic.Int64 // bytes of bodies being collected in memory
	counts   counts

	evictMu sync.Mutex // one evicts at a time
	walkBuf []byte     // under evictMu
	// indexMu is held by who replaces logs and checkpoints.
	indexMu sync.Mutex
	scarce  chan struct{}
	sweeps  chan struct{}
	wake    chan struct{} // there is something for the log
	written chan struct{} // there is something to sync
	ended   chan struct{}
	end     sync.Once
	workers sync.WaitGroup
	health  health
	away    away
	given   given
}

// counts are the store's own.
type counts struct{ evicted, damaged, refused atomic.Int64 }

// Open opens or creates the store in dir and loads the index. What a crash left
// half-done is removed. Only one process can have a store open.
//
// A folder that the disk does not let it use is no error: the store is empty and
// cannot be written, [Store.Err] says why, and it is loaded as soon as that
// works. Once Err is nil, everything is found.
func Open(ctx context.Context, dir string, opts Options) (*Store, error) {
	if opts.Size <= 0 {
		return nil, fmt.Errorf("store %s: size must be positive", dir)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.OpenFiles == 0 {
		opts.OpenFiles = 1024
	}
	if opts.Changeable <= 0 || opts.Changeable > opts.Size {
		opts.Changeable = opts.Size / 4
	}
	if opts.Memory == 0 {
		opts.Memory = min(64<<20, opts.Size/4)
	}
	s := &Store{dir: dir, opts: opts, scarce: make(chan struct{}, 1), sweeps: make(chan struct{}, 1), wake: make(chan struct{}, 1), written: make(chan struct{}, 1), ended: make(chan struct{})}
	s.measure()
	s.files.store, s.files.max, s.files.open = s, opts.OpenFiles, make(map[uint64]*bodyFile)
	s.hot.init(opts.Memory)
	s.bans.keysOf = opts.Keys
	s.log.wake, s.log.grown = s.rouse, s.space.overhead
	s.health.healing = true // from work on
	switch err := s.mount(ctx); {
	case err == nil:
		s.work()
	case mayReturn(err) && ctx.Err() == nil && !opts.inspect:
		s.leave(err)
	default:
		return nil, errors.Join(fmt.Errorf("store %s: %w", dir, err), s.closeFiles())
	}
	return s, nil
}

// measure derives the lengths of things from the size of the whole.
func (s *Store) measure() {
	size := s.opts.Size
	s.maxRecord = min(max(size/64, 4<<10), 64<<10)
	// A thousandth of the store, so that evicting one is a small thing; more
	// only where there would be too many.
	s.target = min(max(size/1024, min(max(size/64, blockSize), 256<<10)), 64<<20)
	s.target = min(max(s.target, size/16384), index.MaxOff*unit/2)
	s.maxSegments = index.MaxSegments
	s.space.size, s.space.limit = size, size
	s.space.margin = 2 * diskCost(max(s.target, s.maxRecord)+segmentHead)
	s.space.share = [pools]int64{poolFixed: size - s.opts.Changeable, poolChangeable: s.opts.Changeable}
	for p := range s.queues {
		for q := range s.queues[p] {
			s.queues[p][q].pool, s.queues[p][q].which = uint8(p), uint8(q)
		}
	}
}

// Close writes what is not written yet and gives the store up. Bodies still
// open stay readable.
func (s *Store) Close() error {
	s.end.Do(func() { close(s.ended) })
	s.workers.Wait()
	if s.given.over.Load() {
		return s.closeFiles()
	}
	s.savePartials()
	failing := s.Err() != nil // which the log has told
	err := s.Sync()
	if failing {
		err = nil
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closing() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *Store) closeFiles() error {
	s.index.Clear()
	s.hot.clear()
	s.files.closeAll()
	for _, seg := range s.segs.all() {
		s.segs.set(seg.place, nil)
		seg.release()
	}
	var errs []error
	s.log.flushMu.Lock()
	if s.log.f != nil {
		errs = append(errs, s.log.f.Close())
		s.log.f = nil
	}
	s.log.flushMu.Unlock()
	if h := s.home.Load(); h != nil {
		errs = append(errs, h.close())
	}
	return errors.Join(errs...)
}

// Get returns the entry, or nil. The entry counts as used.
func (s *Store) Get(id ID) *Entry { return s.get(id, true) }

// Peek is Get without counting a use.
func (s *Store) Peek(id ID) *Entry { return s.get(id, false) }

func (s *Store) get(id ID, use bool) *Entry {
	if s.away.hidden.Load() {
		return nil
	}
	e := s.hot.get(id)
	for range 3 {
		var it index.Item
		var seg *segment
		found := s.index.View(index.Key(id), use, func(now index.Item) {
			if it = now; e != nil && e.isAt(now) {
				return
			}
			e = nil
			if seg = s.segs.at(now.Seg); seg != nil {
				seg.refs.Add(1)
			}
		})
		switch {
		case !found:
			return nil
		case e != nil:
			if e.banned() {
				s.Delete(e)
				return nil
			}
			return e
		case seg == nil:
			return nil
		}
		e, err := s.read(seg, it)
		seg.release()
		switch {
		case err == nil && e.id == id && e.banned():
			s.Delete(e)
			return nil
		case err == nil && e.id == id:
			if use && it.Uses > 0 {
				s.hot.put(e)
			}
			return e
		case err == nil:
			return nil // agrees in 72 bits only
		case !s.dropDamaged(id, it, err):
			continue // it was moved meanwhile
		}
		return nil
	}
	return nil
}

// dropDamaged forgets an entry that cannot be read, if it is still there.
func (s *Store) dropDamaged(id ID, it index.Item, err error) (dropped bool) {
	s.index.Update(index.Key(id), func(now index.Item, found bool) (index.Item, index.Action) {
		if !found || now.Seg != it.Seg || now.Off != it.Off {
			return now, index.Leave
		}
		dropped = true
		s.log.record(logDrop(id))
		s.count(s.segs.at(now.Seg), now, -1)
		return now, index.Drop
	})
	if dropped {
		s.counts.damaged.Add(1)
		s.opts.Log.Warn("remove a damaged cache entry", slog.String("id", id.String()), slog.Any("error", err))
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, errRecord) && !errors.Is(err, io.EOF) {
			s.fault("read an entry", err)
		}
	}
	return dropped
}

// Sync returns when everything written so far, states and bans included, is on
// the disk.
func (s *Store) Sync() error {
	if s.given.over.Load() {
		return ErrUnavailable
	}
	return s.sync()
}

func (s *Store) sync() error {
	if s.away.loading.Load() {
		return ErrUnavailable
	}
	if err := s.flush(); err != nil {
		s.fault("write the log", err)
		return err
	}
	if s.log.incomplete() {
		return ErrUnavailable
	}
	if err := s.home.Load().sync(); err != nil {
		s.fault("sync", err)
		return err
	}
	return nil
}

// All yields every entry, in no order. Entries that come or go meanwhile may
// or may not be among them. Each is read from the disk.
func (s *Store) All() iter.Seq[*Entry] { return s.entries(func(index.Item) bool { return true }) }

// Listed yields every entry whose Meta says so, as All does.
func (s *Store) Listed() iter.Seq[*Entry] {
	return s.entries(func(it index.Item) bool { return it.Flags&flagListed != 0 })
}

func (s *Store) entries(want func(index.Item) bool) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for e, err := range s.readItems(want) {
			if err == nil && !e.banned() && !yield(e) {
				return
			}
		}
	}
}

// readAll yields every entry, also those that are banned. What is damaged, and
// so will never be used, is left out.
func (s *Store) readAll() iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		for e, err := range s.readItems(func(index.Item) bool { return true }) {
			if !errors.Is(err, errRecord) && !yield(e, err) {
				return
			}
		}
	}
}

func (s *Store) readItems(want func(index.Item) bool) iter.Seq2[*Entry, error] {
	type place struct {
		it  index.Item
		seg *segment
	}
	return func(yield func(*Entry, error) bool) {
		if s.away.loading.Load() {
			return
		}
		var places []place
		for shard := range index.Shards {
			places = places[:0]
			s.index.Range(shard, func(it index.Item) {
				if seg := s.segs.at(it.Seg); seg != nil && want(it) {
					seg.refs.Add(1)
					places = append(places, place{it, seg})
				}
			})
			more := true
			for _, p := range places {
				if more {
					more = yield(s.read(p.seg, p.it))
				}
				p.seg.release()
			}
			if !more {
				return
			}
		}
	}
}

// Stat is the fill of the store.
type Stat struct {
	Entries int
	// Used are the bytes on disk, with what writers have reserved. Limit is
	// what they may be; it is less than Size while the disk has less.
	Used, Limit, Size int64
	// Pools are the parts of Used that hold answers: files that never change,
	// and all others.
	Pools [pools]Pool
	// Memory is what the index takes of it.
	Memory int64
	// Segments is the number of segment files.
	Segments int
	// Evicted and Damaged count entries since the start; Refused those long
	// bodies that were not kept at first sight.
	Evicted, Damaged, Refused int64
}

// Pool is a part of a store. Share is what it may take however much the other
// wants; while that has less than its own, it takes more.
type Pool struct {
	Name        string
	Used, Share int64
}

// Stat returns the present fill.
func (s *Store) Stat() Stat {
	if s.away.loading.Load() {
		return Stat{Limit: s.opts.Size, Size: s.opts.Size, Pools: s.space.statPools()}
	}
	used, limit := s.space.stat()
	return Stat{
		Entries: s.index.Len(), Used: used, Limit: limit, Size: s.opts.Size, Pools: s.space.statPools(), Memory: s.index.Bytes(), Segments: len(s.segs.all()),
		Evicted: s.counts.evicted.Load(), Damaged: s.counts.damaged.Load(), Refused: s.counts.refused.Load(),
	}
}

// Size is the bound the store was opened with.
func (s *Store) Size() int64 { return s.opts.Size }

// Path is the absolute name of a file or folder that the owner of the store
// keeps beside the entries. It must not be one of the store's own.
func (s *Store) Path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

const (
	// flushDelay is how long changes of the index wait for others to be written
	// with: so much is lost with the process.
	flushDelay = 100 * time.Millisecond
	// syncDelay is how long what was written waits until the disk is told to
	// keep it: so much is lost with the power.
	syncDelay = time.Second
)

// rouse wakes the flusher.
func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// flusher writes the log a moment after there is something to write, until the
// store is closed. It waits for nothing that waits for the disk.
func (s *Store) flusher() {
	timer := time.NewTimer(flushDelay)
	defer timer.Stop()
	for {
		select {
		case <-s.wake:
		case <-s.ended:
			return
		}
		timer.Reset(flushDelay)
		select {
		case <-timer.C:
		case <-s.ended:
			return
		}
		if err := s.flush(); err != nil {
			s.fault("write the log", err) // the healer sees to it
			continue
		}
		select {
		case s.written <- struct{}{}:
		default:
		}
	}
}

// syncer tells the disk to keep what was written, and writes checkpoints.
func (s *Store) syncer() {
	timer := time.NewTimer(syncDelay)
	defer timer.Stop()
	for {
		select {
		case <-s.written:
		case <-s.ended:
			return
		}
		timer.Reset(syncDelay)
		select {
		case <-timer.C:
		case <-s.ended:
			return
		}
		s.savePartials()
		if err := s.home.Load().sync(); err != nil {
			s.fault("sync", err)
		}
		s.watch()
		if s.checkpointDue() {
			if err := s.checkpoint(); err != nil {
				s.fault("write a checkpoint", err)
			}
		}
	}
}

// Verify reads the whole body of an entry and compares its checksums.
func (s *Store) Verify(e *Entry) error {
	if !e.inFile() {
		return nil // Get compared it
	}
	h, err := s.files.acquire(e.record)
	if err != nil {
		return fmt.Errorf("entry %s: %w", e.Meta().Key, err)
	}
	defer h.release()
	for i := range sliceCount(e.bodyLen, e.shift) {
		if !e.hasSlice(i) {
			continue
		}
		h.checked[i/64].And(^(uint64(1) << (i % 64)))
		if err := h.verify(e.record, e.sums, i); err != nil {
			return fmt.Errorf("entry %s: %w", e.Meta().Key, err)
		}
	}
	return nil
}

// Delete removes the entry if it is still the current one of its ID.
func (s *Store) Delete(e *Entry) {
	removed, r := false, e.record
	s.index.Update(index.Key(e.id), func(it index.Item, found bool) (index.Item, index.Action) {
		if !found || !s.holds(it, e) {
			return it, index.Leave
		}
		removed, r.blocks = true, it.Blocks
		r.flags = r.flags&^flagPartial | it.Flags&flagPartial
		s.log.record(logDrop(e.id))
		s.count(s.segs.at(it.Seg), it, -1)
		return it, index.Drop
	})
	if removed && e.inFile() {
		s.files.remove(r)
	}
}

// holds reports whether the item's record is of the entry's body. The index's
// shard is locked.
func (s *Store) holds(it index.Item, e *Entry) bool {
	if e.isAt(it) {
		return true
	}
	r, err := s.headAt(it)
	return err == nil && r.id == e.id && r.num == e.num
}

// headAt reads the head of an item's record. The index's shard is locked.
func (s *Store) headAt(it index.Item) (record, error) {
	seg := s.segs.at(it.Seg)
	if seg == nil {
		return record{}, fs.ErrNotExist
	}
	var b [headSize]byte
	off := int64(it.Off) * unit
	if _, err := seg.f.ReadAt(b[:], off); err != nil {
		return record{}, err
	}
	return parseRecord(b[:], seg.seedAt(off))
}
