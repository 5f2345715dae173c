package diskcache

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"freshet/internal/edge/diskcache/index"
)

// queue is one of S3-FIFO's, of one pool: a list of segments, in which the
// order of the records is the order of the queue.
type queue struct {
	pool, which uint8

	mu     sync.Mutex
	active *segment   // takes records; nil before the first
	sealed []*segment // oldest first
}

// alloc finds room for a record of n bytes, padded. The caller gives up
// seg.appending when the index has the record. delta is by how much more the
// segments take on the disk.
func (q *queue) alloc(s *Store, n int64) (seg *segment, off, delta int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if seg = q.active; seg != nil && seg.size > segmentHead && (seg.size+n > s.target || seg.files.Load() > 8*s.target) {
		q.sealLocked()
		seg = nil
	}
	if seg == nil {
		if seg, err = s.createSegment(q.pool, q.which); err != nil {
			return nil, 0, 0, err
		}
		q.active = seg
		delta = diskCost(seg.size)
	}
	off = seg.size
	delta += diskCost(off+n) - diskCost(off)
	seg.size += n
	seg.appending.RLock()
	return seg, off, delta, nil
}

func (q *queue) sealLocked() {
	if q.active != nil {
		q.sealed = append(q.sealed, q.active)
		q.active = nil
	}
}

// empty reports whether there is nothing to evict.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.sealed) == 0 && (q.active == nil || q.active.size <= segmentHead)
}

// pop takes out the oldest segment, nil if there is none. Nothing is written to
// it any more.
func (q *queue) pop() *segment {
	q.mu.Lock()
	if len(q.sealed) == 0 {
		q.sealLocked()
	}
	var seg *segment
	if len(q.sealed) > 0 {
		seg = q.sealed[0]
		q.sealed = slices.Delete(q.sealed, 0, 1)
	}
	q.mu.Unlock()
	if seg != nil {
		seg.drain()
	}
	return seg
}

// take takes out a segment if it is sealed, in the queue, and nobody writes to
// it.
func (q *queue) take(seg *segment) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.sealed, seg)
	if i < 0 || !seg.appending.TryLock() {
		return false
	}
	seg.appending.Unlock() // a sealed one gets no new writers
	if seg.live.Load() > 0 {
		return false
	}
	q.sealed = slices.Delete(q.sealed, i, i+1)
	return true
}

// reserve makes room for n more bytes of a pool.
func (s *Store) reserve(pool uint8, n int64) error {
	if s.space.take(pool, n) {
		s.nudge()
		return nil
	}
	if s.space.hopeless(n) {
		return ErrFull // nothing is evicted for it
	}
	s.evictMu.Lock()
	defer s.evictMu.Unlock()
	if s.given.over.Load() {
		return ErrUnavailable
	}
	if err := s.flush(); err != nil { // what is replaced is removed with it
		s.fault("write the log", err)
	}
	// Each pass takes a use away from what it keeps; the bound is for those that
	// are used faster than that.
	for range (index.MaxUses+1)*len(s.segs.all()) + 16 {
		if s.space.take(pool, n) {
			return nil
		}
		if !s.evictOne(pool, n) {
			break
		}
	}
	if !s.space.take(pool, n) {
		return ErrFull
	}
	return nil
}

// ahead is how much is kept free before anybody asks for it: what a writer
// needs is there, and evicting is done by nobody who is waited for.
func (s *Store) ahead() int64 { return min(4*s.target, s.space.size/64) }

// nudge wakes the evictor if room is getting scarce.
func (s *Store) nudge() {
	if s.space.lacks(s.ahead()) > 0 {
		select {
		case s.scarce <- struct{}{}:
		default:
		}
	}
}

// evictAhead keeps some room free, until the store is closed.
func (s *Store) evictAhead() {
	for {
		select {
		case <-s.scarce:
		case <-s.ended:
			return
		}
		for s.space.lacks(s.ahead()) > 0 {
			pool := s.space.larger()
			s.evictMu.Lock()
			ok := s.evictOne(pool, s.space.share[pool])
			s.evictMu.Unlock()
			if !ok || s.closing() {
				break
			}
		}
	}
}

// evictOne goes through the oldest segment of a queue and removes it: records
// that were used go on to the main queue, the others go. evictMu is held. It
// reports false if there is nothing to evict.
func (s *Store) evictOne(pool uint8, n int64) bool {
	var empty [pools][queues]bool
	for p := range s.queues {
		for q := range s.queues[p] {
			empty[p][q] = s.queues[p][q].empty()
		}
	}
	p, q, ok := s.space.victim(pool, n, empty)
	if !ok {
		return false
	}
	seg := s.queues[p][q].pop()
	if seg == nil {
		return false
	}
	s.clean(seg)
	s.log.record(logCut(seg.num, seg.size))
	s.space.move(p, q, -diskCost(seg.size))
	if err := s.flush(); err != nil { // what was copied is found after a kill
		s.fault("write the log", err)
	}
	s.retire(seg)
	return true
}

// clean takes every item out of a segment.
func (s *Store) clean(seg *segment) {
	if seg.live.Load() == 0 {
		return
	}
	if s.walkBuf == nil {
		s.walkBuf = make([]byte, walkBuffer)
	}
	err := seg.walk(s.walkBuf, func(end int64) {
		// Before anything is dropped from memory, the log says so: what a purge
		// does not meet must not come back after a crash. What is copied has a
		// later entry in the log.
		s.log.record(logCut(seg.num, end))
	}, func(f found) bool {
		s.evictRecord(seg, f)
		return seg.live.Load() > 0
	})
	if err != nil {
		s.fault("clean a segment", err)
	}
	if seg.live.Load() > 0 { // records that cannot be read any more
		s.opts.Log.Warn("drop damaged entries", slog.String("segment", seg.name()), slog.Int64("entries", seg.live.Load()))
		s.counts.damaged.Add(seg.live.Load())
		// Their files are left to the scrubber of the next start.
		s.space.move(seg.pool, seg.queue, -seg.files.Load())
		for shard := range index.Shards {
			s.index.Filter(shard, func(it index.Item) bool { return it.Seg != seg.place })
		}
	}
}

// evictRecord moves or drops one record.
func (s *Store) evictRecord(seg *segment, f found) {
	gone := false
	s.index.Update(index.Key(f.id), func(it index.Item, ok bool) (index.Item, index.Action) {
		if !ok || it.Seg != seg.place || int64(it.Off)*unit != f.off {
			return it, index.Leave // replaced or deleted
		}
		defer s.count(seg, it, -1)
		if it.Uses > 0 {
			if to, err := s.copyRecord(seg, f, it); err == nil {
				return to, index.Put
			}
		}
		gone, f.blocks = true, it.Blocks
		if seg.queue == queueNew {
			return it, index.DropToGhost
		}
		return it, index.Drop
	})
	if gone {
		s.counts.evicted.Add(1)
		if f.inFile() {
			s.files.remove(f.record)
		}
	}
}

// copyRecord appends a record to the main queue. The index's shard is locked:
// its state cannot change meanwhile.
func (s *Store) copyRecord(from *segment, f found, it index.Item) (index.Item, error) {
	// The state may have changed since the piece was read.
	if _, err := from.f.ReadAt(f.raw[stateOff:metaOff], f.off+stateOff); err != nil {
		return it, err
	}
	f.blocks = it.Blocks
	seg, to, err := s.append(from.pool, queueMain, f.record, f.raw, 0)
	if err != nil {
		s.fault("copy an entry", err)
		return it, err
	}
	defer seg.appending.RUnlock()
	to.Rev = it.Rev
	if from.queue == queueMain {
		to.Uses = it.Uses - 1
	}
	s.log.record(logPut(f.id, seg.num, to))
	return to, nil
}

// fileCost is what the file of an item's body counts.
func fileCost(it index.Item) int64 { return diskCost(int64(it.Blocks) * blockSize) }

// append writes a record to a queue, for which the caller reserved room. buf is
// the record, padded, but for its head. The caller puts the item into the index
// and then gives up seg.appending; if it does not put it there, it calls drop.
func (s *Store) append(pool, which uint8, r record, buf []byte, reserved int64) (*segment, index.Item, error) {
	if !s.given.begin() {
		s.space.free(pool, reserved)
		return nil, index.Item{}, ErrUnavailable
	}
	defer s.given.end()
	seg, off, delta, err := s.queues[pool][which].alloc(s, int64(len(buf)))
	if err != nil {
		s.space.free(pool, reserved)
		return nil, index.Item{}, err
	}
	s.space.add(pool, delta-reserved)
	s.space.move(pool, which, delta)
	r.encode(buf, seg.seedAt(off))
	if _, err := seg.f.WriteAt(buf, off); err != nil {
		seg.appending.RUnlock()
		return nil, index.Item{}, fmt.Errorf("write %s: %w", seg.name(), err)
	}
	it := index.Item{Seg: seg.place, Off: uint32(off / unit), Len: uint16(len(buf) / unit), Flags: r.flags}
	if r.inFile() {
		it.Blocks = r.fileBlocks()
	}
	s.count(seg, it, 1)
	return seg, it, nil
}

// count counts an item that comes to a segment (1) or leaves it (-1).
func (s *Store) count(seg *segment, it index.Item, n int64) {
	if it.Flags&flagFile != 0 {
		bytes := n * fileCost(it)
		seg.files.Add(bytes)
		s.space.move(seg.pool, seg.queue, bytes)
	}
	if seg.live.Add(n) == 0 {
		s.retireEmpty(seg)
	}
}

// retireEmpty removes a sealed segment without live records, unless it is just
// being evicted or written to.
func (s *Store) retireEmpty(seg *segment) {
	q := &s.queues[seg.pool][seg.queue]
	if !q.take(seg) {
		return
	}
	s.log.record(logCut(seg.num, seg.size))
	s.space.move(seg.pool, seg.queue, -diskCost(seg.size))
	s.doomed.add(seg, nil)
}

// doomed is what is removed once the log says what took its place: until then,
// a kill would bring it back.
type doomed struct {
	mu    sync.Mutex
	segs  []*segment
	files []record
}

func (d *doomed) add(seg *segment, file *record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if seg != nil {
		d.segs = append(d.segs, seg)
	}
	if file != nil {
		d.files = append(d.files, *file)
	}
}

func (d *doomed) take() (segs []*segment, files []record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	segs, files = d.segs, d.files
	d.segs, d.files = nil, nil
	return segs, files
}

// flush writes the log, and then removes what is doomed.
func (s *Store) flush() error {
	segs, files := s.doomed.take()
	err := s.log.flush()
	for _, seg := range segs {
		if err != nil {
			s.doomed.add(seg, nil)
			continue
		}
		s.retire(seg)
	}
	for _, r := range files {
		if err != nil {
			s.doomed.add(nil, &r)
			continue
		}
		s.files.remove(r)
	}
	return err
}
