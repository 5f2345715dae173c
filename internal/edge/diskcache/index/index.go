// Package index finds stored objects: a hash table without pointers, outside of
// the garbage collector's heap, of 24 bytes for each place in it.
//
//	shard     1024 of them, by the first 10 bits of the key; each has a lock
//	table     open addressing, linear probing, no tombstones; full to 68–85 %
//	slot      tag 64 bit │ length 16, segment 20, offset 28 │ blocks 32, revision 16, flags 8, uses 8
//	ghosts    8 bytes for each place of the table: keys that were dropped lately
//
// A key is a digest, of which 72 bits are kept: the one who reads an object
// compares the rest. Two keys that agree in them put each other out.
//
// # Promises
//
//   - 10 million objects take less than 40 bytes each, with ghosts less than 50.
//   - A look-up takes a shard's lock shared, allocates nothing and, when it
//     counts a use, changes one word.
//   - Nothing ever fails because the index is full: what finds no memory is not
//     taken in.
package index

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Key names an object. It must be a digest, or look like one.
type Key [16]byte

// Shards is the number of shards.
const Shards = 1 << shardBits

const shardBits = 10

// Shard is the number of the key's shard. It depends on the first two bytes.
func (k Key) Shard() int { return k.shard() }

func (k Key) shard() int { return int(k[0])<<2 | int(k[1])>>6 }

// tag is what is kept of the key beside the shard; 0 stands for an empty slot.
func (k Key) tag() uint64 { return max(binary.BigEndian.Uint64(k[1:]), 1) }

// Item is what is known of an object.
type Item struct {
	// Seg is the place of its segment, below MaxSegments.
	Seg uint32
	// Off and Len are where its record lies in the segment, in units of the
	// owner's; Off is below MaxOff.
	Off uint32
	Len uint16
	// Blocks is the size of the object's own file, in units of the owner's; 0
	// without one.
	Blocks uint32
	// Rev is the owner's count of changes.
	Rev uint16
	// Flags are the owner's.
	Flags uint8
	// Uses counts look-ups, up to MaxUses.
	Uses uint8
}

// Bounds of an Item's fields.
const (
	MaxSegments = 1 << 20
	MaxOff      = 1 << 28
	MaxUses     = 3
)

func (it Item) words() (loc, rest uint64) {
	return uint64(it.Len)<<48 | uint64(it.Seg)<<28 | uint64(it.Off),
		uint64(it.Blocks)<<32 | uint64(it.Rev)<<16 | uint64(it.Flags)<<8 | uint64(it.Uses)
}

func itemOf(loc, rest uint64) Item {
	return Item{
		Seg: uint32(loc >> 28 & (MaxSegments - 1)), Off: uint32(loc & (MaxOff - 1)), Len: uint16(loc >> 48),
		Blocks: uint32(rest >> 32), Rev: uint16(rest >> 16), Flags: uint8(rest >> 8), Uses: uint8(rest),
	}
}

// Index maps keys to items. The zero value is empty. Safe for concurrent use.
type Index struct {
	n      atomic.Int64
	shards [Shards]shard
	// changes counts those of the items of each shard, uses apart. They are not
	// with the locks, to be few cache lines: they are read for each hit.
	changes [Shards]atomic.Uint64
}

type shard struct {
	mu     sync.RWMutex
	n      int // objects
	table  table
	ghosts ghosts
	_      [24]byte // keeps the locks of neighbours on cache lines of their own
}

// Len is the number of objects.
func (x *Index) Len() int { return int(x.n.Load()) }

// Changes counts the changes of items in a shard, uses apart: while it stays the
// same, so does what View shows of its keys, and uses only grow.
func (x *Index) Changes(shard int) uint64 { return x.changes[shard].Load() }

// View calls f with the item of the key, if there is one, and reports whether
// there is. The item cannot be changed or dropped while f runs; f must not call
// the index. With use, the look-up counts.
func (x *Index) View(k Key, use bool, f func(Item)) bool {
	s := &x.shards[k.shard()]
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.table.find(k.tag())
	if !ok {
		return false
	}
	slot := s.table.slot(i)
	rest := atomic.LoadUint64(&slot[2])
	f(itemOf(slot[1], rest))
	for use && uint8(rest) < MaxUses && !atomic.CompareAndSwapUint64(&slot[2], rest, rest+1) {
		rest = atomic.LoadUint64(&slot[2])
	}
	return true
}

// Action is what an Update does.
type Action uint8

const (
	// Leave leaves everything as it was.
	Leave Action = iota
	// Put puts the returned item in the place of the old one, if any.
	Put
	// Drop forgets the object.
	Drop
	// DropToGhost forgets the object, and remembers that it was there.
	DropToGhost
)

// Update calls f with the item of the key, if there is one, and does what f
// says. Nobody else sees or changes the shard meanwhile; f must not call the
// index. It reports false if there is no memory for a new item: then the object
// is not in the index.
func (x *Index) Update(k Key, f func(old Item, found bool) (Item, Action)) bool {
	s, tag := &x.shards[k.shard()], k.tag()
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.table.find(tag)
	var old Item
	if found {
		slot := s.table.slot(i)
		old = itemOf(slot[1], slot[2])
	}
	item, action := f(old, found)
	if action != Leave {
		x.changes[k.shard()].Add(1)
	}
	switch {
	case action == Put && found:
		slot := s.table.slot(i)
		slot[1], slot[2] = item.words()
	case action == Put:
		return x.insert(s, tag, item)
	case action != Leave && found:
		s.table.remove(i)
		s.n--
		x.n.Add(-1)
		if action == DropToGhost {
			s.ghosts.add(tag, s.table.len())
		}
	}
	return true
}

func (x *Index) insert(s *shard, tag uint64, item Item) bool {
	if (s.n+1)*100 > s.table.len()*maxLoad && !s.grow() {
		return false
	}
	i, _ := s.table.find(tag)
	slot := s.table.slot(i)
	slot[0] = tag
	slot[1], slot[2] = item.words()
	s.n++
	x.n.Add(1)
	s.ghosts.remove(tag)
	return true
}

// maxLoad is how full a table may be, in percent; then it grows by a quarter.
const maxLoad = 85

func (s *shard) grow() bool {
	want := max(s.n+1, s.table.len()*5/4)
	bigger, ok := newTable(want)
	if !ok {
		return s.n+1 < s.table.len() // slower, while there is a free slot at all
	}
	for i := range s.table.len() {
		if from := s.table.slot(i); from[0] != 0 {
			j, _ := bigger.find(from[0])
			copy(bigger.slot(j), from)
		}
	}
	s.table.free()
	s.table = bigger
	s.ghosts.resize(bigger.len())
	return true
}

// Ghost reports whether the key is among those dropped lately with
// DropToGhost: about as many as there are objects.
func (x *Index) Ghost(k Key) bool {
	s := &x.shards[k.shard()]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ghosts.has(k.tag(), s.n)
}

// Range calls f with every item of one shard. f must not call the index.
func (x *Index) Range(shard int, f func(Item)) {
	s := &x.shards[shard]
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.table.len() {
		if slot := s.table.slot(i); slot[0] != 0 {
			f(itemOf(slot[1], atomic.LoadUint64(&slot[2])))
		}
	}
}

// Filter drops the items of one shard that keep refuses.
func (x *Index) Filter(shard int, keep func(Item) bool) {
	s := &x.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < s.table.len(); {
		slot := s.table.slot(i)
		if slot[0] == 0 || keep(itemOf(slot[1], slot[2])) {
			i++
			continue
		}
		// Another item may take its place, which is looked at next. One that
		// wraps around from the front was looked at before, and stays.
		x.changes[shard].Add(1)
		s.table.remove(i)
		s.n--
		x.n.Add(-1)
	}
}

// Bytes is the memory the index takes for its objects and ghosts.
func (x *Index) Bytes() int64 {
	n := int64(len(x.shards)) * 128
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		n += int64(len(s.table.mem)) + int64(len(s.ghosts.mem))
		s.mu.RUnlock()
	}
	return n
}

// Clear forgets everything and gives the memory back.
func (x *Index) Clear() {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		x.changes[i].Add(1)
		x.n.Add(-int64(s.n))
		s.n = 0
		s.table.free()
		s.ghosts.free()
		s.mu.Unlock()
	}
}

// home is the slot a tag belongs in: tables are ordered by tag, roughly, so
// that any length will do.
func home(tag uint64, length int) int {
	// The tag's last bits are mixed in, in case the first are not random.
	hi, _ := bits.Mul64(tag*0x9e3779b97f4a7c15, uint64(length))
	return int(hi)
}
