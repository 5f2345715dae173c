package diskcache

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/durable"
	"freshet/internal/edge/diskcache/index"
)

// loader brings the index back: the newest checkpoint, and what the logs from
// it on say. Without one that is whole, the segments are read.
type loader struct {
	s    *Store
	h    *home
	segs map[uint32]*segment
	last uint32 // greatest number of a log or checkpoint that was seen
	run  uint32
}

func (s *Store) load(ctx context.Context, h *home) error {
	l := &loader{s: s, h: h, segs: make(map[uint32]*segment)}
	s.log.seed = h.seed(0)
	if err := l.sweep(); err != nil {
		return err
	}
	if err := l.openSegments(ctx); err != nil {
		return err
	}
	whole, err := l.restore(ctx)
	if err != nil {
		return err
	}
	if !whole {
		l.rebuild(ctx)
	}
	if err := l.settle(); err != nil {
		return err
	}
	return l.start(whole)
}

// sweep removes what was being written.
func (l *loader) sweep() error {
	names, err := readNames(l.h.root, "tmp")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := l.h.root.RemoveAll(path.Join("tmp", name)); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) openSegments(ctx context.Context) error {
	names, err := readNames(l.h.root, "seg")
	if err != nil {
		return err
	}
	for _, name := range names {
		seg, err := l.s.openSegment(l.h, name)
		if err != nil {
			l.s.opts.Log.WarnContext(ctx, "remove a damaged segment", slog.String("segment", name), slog.Any("error", err))
			if err := l.h.root.RemoveAll(path.Join("seg", name)); err != nil {
				return err
			}
			continue
		}
		l.segs[seg.num] = seg
		l.s.segs.used(seg.num)
	}
	return nil
}

// restore reads checkpoint and logs. It reports false if they do not tell the
// whole story.
func (l *loader) restore(ctx context.Context) (whole bool, err error) {
	points, err := numbered(l.h.root, "index", ".ckpt")
	if err != nil {
		return false, err
	}
	logs, err := numbered(l.h.root, "index", ".log")
	if err != nil {
		return false, err
	}
	slices.Sort(points)
	slices.Sort(logs)
	for _, num := range append(slices.Clone(points), logs...) {
		l.last = max(l.last, num)
	}
	if l.last == 0 {
		l.place(nil)
		return len(l.segs) == 0, nil // new
	}
	base := uint32(1)
	if len(points) > 0 {
		base = points[len(points)-1]
		if err := l.readCheckpoint(base); err != nil {
			l.s.opts.Log.ErrorContext(ctx, "index is rebuilt", slog.Any("error", err))
			l.s.index.Clear()
			l.place(nil)
			return false, nil
		}
	} else {
		l.place(nil)
	}
	logs = slices.DeleteFunc(logs, func(n uint32) bool { return n < base })
	if !slices.Contains(logs, base) {
		l.s.opts.Log.ErrorContext(ctx, "index is rebuilt: a log is missing", slog.Uint64("number", uint64(base)))
		return false, nil
	}
	for _, num := range logs {
		if err := l.readLog(num); err != nil {
			l.s.opts.Log.ErrorContext(ctx, "index is rebuilt", slog.Any("error", err))
			return false, nil
		}
	}
	return true, nil
}

// place gives every segment its place in the table: that of the checkpoint, or
// one that no item of the checkpoint names.
func (l *loader) place(known map[uint32]uint32) {
	next := uint32(0)
	for _, place := range known {
		next = max(next, place+1)
	}
	for _, num := range slices.Sorted(maps.Keys(l.segs)) {
		seg := l.segs[num]
		place, ok := known[num]
		if !ok {
			place = next
			next++
		}
		seg.place = place
		l.s.segs.set(place, seg)
	}
}

// workers is how many goroutines load shards.
func workers() int { return min(max(runtime.GOMAXPROCS(0), 1), 8) }

// readLog applies a log.
func (l *loader) readLog(num uint32) (err error) {
	f, err := l.h.root.Open(logName(num))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Many entries are sorted by shard before they are applied: one shard fits
	// into the processor's cache, all of them do not.
	const many = 1 << 19
	var shards [index.Shards][]byte
	pending := 0
	apply := func() {
		var wg sync.WaitGroup
		for w := range workers() {
			wg.Go(func() {
				for shard := w; shard < len(shards); shard += workers() {
					for b := shards[shard]; len(b) > 0; b = b[logEntry:] {
						l.apply(b[:logEntry])
					}
					shards[shard] = shards[shard][:0]
				}
			})
		}
		wg.Wait()
		pending = 0
	}
	_, err = readLog(f, num, l.h.seed(0), func(b, text []byte) {
		switch b[0] {
		case kindPut, kindDrop:
			shard := index.Key{b[16], b[17]}.Shard()
			shards[shard] = append(shards[shard], b...)
			if pending++; pending == many {
				apply()
			}
		case kindCut:
			if seg := l.segs[binary.LittleEndian.Uint32(b[4:])]; seg != nil {
				seg.cut = max(seg.cut, int64(binary.LittleEndian.Uint64(b[8:])))
			}
		case kindRun:
			l.run = max(l.run, binary.LittleEndian.Uint32(b[8:]))
		case kindBan:
			var ban Ban
			if json.Unmarshal(text, &ban) == nil {
				l.s.bans.addLocked(ban)
			}
		}
	})
	apply()
	if err != nil {
		return fmt.Errorf("%s: %w", logName(num), err)
	}
	return nil
}

// apply does what an entry of the log says. The segments are not changed
// meanwhile.
func (l *loader) apply(b []byte) {
	le := binary.LittleEndian
	var key index.Key
	copy(key[:], b[16:16+keyBytes])
	l.s.index.Update(key, func(old index.Item, _ bool) (index.Item, index.Action) {
		if b[0] == kindDrop {
			return old, index.Drop
		}
		seg := l.segs[le.Uint32(b[4:])]
		if seg == nil {
			return old, index.Drop // evicted later
		}
		return index.Item{
			Seg: seg.place, Off: le.Uint32(b[8:]), Len: le.Uint16(b[2:]), Blocks: le.Uint32(b[12:]), Flags: b[1],
		}, index.Put
	})
}

// rebuild reads every record of every segment. Of two with one ID the one with
// the greater number counts. What was deleted or banned since comes back, so
// nothing may be used before it is validated.
func (l *loader) rebuild(ctx context.Context) {
	s := l.s
	s.index.Clear()
	numbers := make(map[ID]uint64)
	buf := make([]byte, walkBuffer)
	for _, num := range slices.Sorted(maps.Keys(l.segs)) {
		seg := l.segs[num]
		seg.cut = 0
		err := seg.walk(buf, nil, func(f found) bool {
			if numbers[f.id] > f.num || checksum(f.raw[metaOff:f.length]) != f.sum {
				return true
			}
			numbers[f.id] = f.num
			l.run = max(l.run, uint32(f.num>>32))
			it := index.Item{Seg: seg.place, Off: uint32(f.off / unit), Len: uint16(len(f.raw) / unit), Flags: f.flags}
			if f.inFile() {
				if f.flags&flagPartial != 0 {
					f.blocks = uint32(roundUp(countSlices(f.record, f.raw)) / blockSize)
				}
				it.Blocks = f.fileBlocks()
			}
			s.index.Update(index.Key(f.id), func(index.Item, bool) (index.Item, index.Action) { return it, index.Put })
			return ctx.Err() == nil
		})
		if err != nil {
			s.opts.Log.WarnContext(ctx, "read a segment", slog.String("segment", seg.name()), slog.Any("error", err))
		}
	}
	s.opts.Log.InfoContext(ctx, "index is rebuilt", slog.Int("entries", s.index.Len()))
}

// settle drops what points nowhere and counts what is there.
func (l *loader) settle() error {
	s := l.s
	table := make([]*segment, 0)
	for _, seg := range l.segs {
		for int(seg.place) >= len(table) {
			table = append(table, nil)
		}
		table[seg.place] = seg
	}
	group := new(errgroup.Group)
	for w := range workers() {
		group.Go(func() error {
			live := make([]int64, len(table))
			files := make([]int64, len(table))
			for shard := w; shard < index.Shards; shard += workers() {
				s.index.Filter(shard, func(it index.Item) bool {
					if int(it.Seg) >= len(table) || table[it.Seg] == nil {
						return false
					}
					seg, off := table[it.Seg], int64(it.Off)*unit
					return off >= seg.cut && off+int64(it.Len)*unit <= seg.size+unit
				})
				s.index.Range(shard, func(it index.Item) {
					live[it.Seg]++
					if it.Flags&flagFile != 0 {
						files[it.Seg] += fileCost(it)
					}
				})
			}
			for i, seg := range table {
				if seg != nil {
					seg.live.Add(live[i])
					seg.files.Add(files[i])
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, num := range slices.Sorted(maps.Keys(l.segs)) {
		seg := l.segs[num]
		s.space.add(seg.pool, diskCost(seg.size)+seg.files.Load())
		if seg.live.Load() == 0 {
			s.retire(seg)
			continue
		}
		s.space.move(seg.pool, seg.queue, diskCost(seg.size)+seg.files.Load())
		q := &s.queues[seg.pool][seg.queue]
		q.sealed = append(q.sealed, seg)
	}
	return nil
}

// start begins the run: a log that goes on where the old ones ended, or, after
// a rebuild, a checkpoint. The last segment of each queue takes records again.
func (l *loader) start(whole bool) error {
	s := l.s
	for p := range s.queues {
		for i := range s.queues[p] {
			q := &s.queues[p][i]
			if n := len(q.sealed); n > 0 && q.sealed[n-1].size < s.target && q.sealed[n-1].cut == 0 {
				q.active = q.sealed[n-1]
				q.sealed = q.sealed[:n-1]
			}
		}
	}
	// Should the disk have lost the last runs, the clock tells them apart.
	s.run = max(l.run+1, uint32(time.Now().Unix()))
	s.bans.mu.Lock()
	s.bans.latest.Store(uint64(s.run) << 32)
	s.bans.mu.Unlock()
	if err := l.countOwn(); err != nil {
		return err
	}
	switch err := s.log.begin(l.h, l.last+1, l.h.seed(0), false); {
	case durable.IsNoSpace(err): // the healer makes some
		s.log.postpone(l.h, l.last+1, l.h.seed(0))
	case err != nil:
		return err
	}
	s.log.record(logRun(s.run))
	err := s.log.flush()
	if !whole {
		// Nothing is known of what happened to what came back. Until there is a
		// checkpoint, every start reads the segments.
		s.banAll([]Ban{{All: true, Fixed: true, Flags: ^uint32(0)}})
		if err = s.checkpoint(); err != nil {
			s.log.mu.Lock()
			s.log.lost = true // only a checkpoint tells the truth
			s.log.mu.Unlock()
		}
	}
	if durable.IsNoSpace(err) || errors.Is(err, ErrFull) {
		s.fault("begin a log", err)
		return nil
	}
	return err
}

// countOwn counts the files of the index, and notes how long the tail is.
func (l *loader) countOwn() error {
	names, err := readNames(l.h.root, "index")
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := l.h.root.Stat(path.Join("index", name))
		if err != nil {
			return err
		}
		l.s.space.overhead(info.Size())
		if path.Ext(name) == ".log" {
			l.s.log.before += info.Size()
		}
	}
	return nil
}

// scrub removes files of bodies that no entry has: those that a crash or a loss
// of power left. What this run made is not looked at.
func (s *Store) scrub() {
	root := s.home.Load().root
	folders, err := readNames(root, "big")
	if err != nil {
		s.fault("list bodies", err)
		return
	}
	for _, folder := range folders {
		names, err := readNames(root, path.Join("big", folder))
		if err != nil || s.closing() {
			return
		}
		for _, name := range names {
			id, num, ok := parseBodyName(name)
			if ok && uint32(num>>32) >= s.run {
				continue
			}
			full := path.Join("big", folder, name)
			info, err := root.Stat(full)
			if err != nil {
				continue
			}
			wanted := false
			s.index.View(index.Key(id), false, func(it index.Item) {
				if it.Flags&flagPartial != 0 { // its file is as long as the whole
					r, err := s.headAt(it)
					wanted = ok && (err != nil || r.num == num)
					return
				}
				wanted = ok && it.Flags&flagFile != 0 && int64(it.Blocks) == (info.Size()+blockSize-1)/blockSize
			})
			if !wanted {
				s.removeFile(full)
			}
		}
	}
}
