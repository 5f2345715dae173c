package diskcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"freshet/internal/edge/diskcache/index"
)

// Damage is an entry that is not what was written.
type Damage struct {
	// Key is that of its Meta, as far as it can still be read; it may be empty,
	// or have any bytes in it.
	Key string
	// File is where the damage is, relative to the store's folder, Offset where
	// the entry's record begins in it; 0 in a body's own file.
	File   string
	Offset int64
	// Err says what is wrong.
	Err error
}

// Checked is what a check met.
type Checked struct {
	// Entries were compared, Large of them with a file; both count damaged ones.
	Entries, Large int
	// Bytes were read.
	Bytes int64
	// Damaged entries were removed. Doubtful is how many others have a state
	// that cannot be read: they are validated before their next use.
	Damaged, Doubtful int
}

// checker is a check under way.
type checker struct {
	*Inspection
	ctx     context.Context //nolint:containedctx // of the one call of Check
	step    func(n int64)
	report  func(Damage)
	done    Checked
	met     map[uint32]struct{} // places of the segment's records that were found
	unnamed bool                // something was removed whose ID is not known
}

// Extent is how many bytes [Inspection.Check] is going to read, about.
func (i *Inspection) Extent() (n int64) {
	for shard := range index.Shards {
		i.index.Range(shard, func(it index.Item) { n += int64(it.Len)*unit + int64(it.Blocks)*blockSize })
	}
	return n
}

// Check compares every checksum of every entry, in the order of the disk, and
// removes what is damaged, durably. It calls step with the number of bytes it
// read since it did so before, and report with each entry it removes. When ctx
// ends, it returns its error, and what was done until then.
func (i *Inspection) Check(ctx context.Context, step func(n int64), report func(Damage)) (Checked, error) {
	c := &checker{Inspection: i, ctx: ctx, step: step, report: report, met: make(map[uint32]struct{})}
	buf := make([]byte, walkBuffer)
	for _, seg := range i.segs.all() {
		seg.refs.Add(1)
		c.segment(seg, buf)
		seg.release()
	}
	var err error
	if c.unnamed {
		err = i.checkpoint() // the log has no words for it
	}
	return c.done, errors.Join(ctx.Err(), err, i.Sync())
}

func (c *checker) segment(seg *segment, buf []byte) {
	live := seg.live.Load()
	clear(c.met)
	// What cannot be read is met below.
	_ = seg.walk(buf, nil, func(f found) bool {
		if c.ctx.Err() != nil {
			return false
		}
		it, ok := c.itemAt(seg, f.id, f.off)
		if !ok {
			return true
		}
		c.met[it.Off] = struct{}{}
		e, err := c.entryOf(seg, f, it)
		c.entry(seg, it, f.raw, e, err)
		return true
	})
	if int64(len(c.met)) == live || c.ctx.Err() != nil {
		return
	}
	rest := make(map[uint32]index.Item)
	for shard := range index.Shards {
		c.index.Range(shard, func(it index.Item) {
			if _, met := c.met[it.Off]; it.Seg == seg.place && !met {
				rest[it.Off] = it
			}
		})
	}
	for _, off := range slices.Sorted(maps.Keys(rest)) {
		if c.ctx.Err() != nil {
			return
		}
		it := rest[off]
		e, err := c.read(seg, it)
		raw := make([]byte, int(it.Len)*unit)
		n, _ := seg.f.ReadAt(raw, int64(off)*unit) // as much of it as there is
		c.entry(seg, it, raw[:n], e, err)
	}
}

// entry counts an entry that was read, or could not be, and looks at its file.
func (c *checker) entry(seg *segment, it index.Item, raw []byte, e *Entry, err error) {
	c.done.Entries++
	c.note(int64(it.Len) * unit)
	if it.Flags&flagFile != 0 {
		c.done.Large++
	}
	if err != nil {
		c.damagedRecord(seg, it, raw, err)
		return
	}
	if e.inFile() {
		if err := c.file(e); err != nil && c.ctx.Err() == nil {
			c.done.Damaged++
			c.counts.damaged.Add(1)
			c.Delete(e)
			c.report(Damage{Key: e.Meta().Key, File: bigName(e.id, e.num), Err: err})
			return
		}
	}
	if _, _, ok := parseState(raw[stateOff:]); !ok {
		c.done.Doubtful++
	}
}

func (c *checker) note(n int64) {
	c.done.Bytes += n
	c.step(n)
}

// file compares a body's file, slice by slice.
func (c *checker) file(e *Entry) error {
	h, err := c.files.acquire(e.record)
	if err != nil {
		return err
	}
	defer h.release()
	for n := range sliceCount(e.bodyLen, e.shift) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if !e.hasSlice(n) {
			continue
		}
		err := h.verify(e.record, e.sums, n)
		c.note(min(e.bodyLen-n<<e.shift, 1<<e.shift))
		if err != nil {
			return err
		}
	}
	return nil
}

// damagedRecord removes an entry whose record is damaged.
func (c *checker) damagedRecord(seg *segment, it index.Item, raw []byte, err error) {
	off := int64(it.Off) * unit
	d := Damage{File: seg.name(), Offset: off, Err: err}
	if errors.Is(err, io.EOF) {
		d.Err = fmt.Errorf("%w: its end is missing", errRecord)
	}
	c.done.Damaged++
	c.counts.damaged.Add(1)
	defer func() { c.report(d) }()
	if r, err := parseRecord(raw, seg.seedAt(off)); err == nil {
		// The head is right: what is wrong may be in the body alone.
		if behind := metaOff + int(r.metaLen); behind <= len(raw) {
			if m, err := parseMeta(raw[metaOff:behind]); err == nil {
				d.Key = m.Key
			}
		}
		if r.inFile() {
			c.files.remove(r)
		}
		c.forgetID(seg, r.id, it)
		return
	}
	if len(raw) >= headSize {
		// Perhaps the ID is what it was: the index tells.
		id := ID(raw[8:24])
		if now, ok := c.itemAt(seg, id, off); ok && now.Len == it.Len {
			c.forgetID(seg, id, it)
			return
		}
	}
	c.unnamed = true
	for shard := range index.Shards {
		removed := false
		c.index.Filter(shard, func(now index.Item) bool {
			hit := now.Seg == it.Seg && now.Off == it.Off
			removed = removed || hit
			return !hit
		})
		if removed {
			c.count(seg, it, -1)
			return
		}
	}
}

// forgetID removes what the index has in a place.
func (c *checker) forgetID(seg *segment, id ID, it index.Item) {
	c.index.Update(index.Key(id), func(now index.Item, found bool) (index.Item, index.Action) {
		if !found || now.Seg != it.Seg || now.Off != it.Off {
			return now, index.Leave
		}
		c.log.record(logDrop(id))
		c.count(seg, now, -1)
		return now, index.Drop
	})
}
