package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	slotWords = 3
	slotSize  = 8 * slotWords
	pageSize  = 4096
)

// table is a hash table of one shard. The zero value has no slots; find must
// not be called before there are some that are free.
type table struct {
	mem   []byte   // as the kernel gave it
	words []uint64 // the same memory
	slots int
}

// newTable makes a table of at least n slots, filling whole pages.
func newTable(n int) (table, bool) {
	mem, words, ok := allocate(n * slotSize)
	if !ok {
		return table{}, false
	}
	return table{mem, words, len(mem) / slotSize}, true
}

// allocate returns zeroed memory that the garbage collector does not know of:
// it would let as much garbage pile up as the index is large. All of it will be
// used at once, so the kernel had better provide it at once.
func allocate(size int) ([]byte, []uint64, bool) {
	size = (size + pageSize - 1) / pageSize * pageSize
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, nil, false
	}
	return mem, unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), size/8), true //nolint:gosec // pages are aligned, and mem is as long
}

func release(mem []byte) {
	if mem != nil {
		_ = unix.Munmap(mem) // it was mapped, so it can be unmapped
	}
}

func (t *table) free() {
	release(t.mem)
	*t = table{}
}

func (t *table) len() int { return t.slots }

func (t *table) slot(i int) []uint64 {
	return t.words[i*slotWords : i*slotWords+slotWords : i*slotWords+slotWords]
}

// find returns the tag's slot, or the free one where it would be put.
func (t *table) find(tag uint64) (i int, found bool) {
	if t.slots == 0 {
		return 0, false
	}
	for i = home(tag, t.slots); ; {
		switch t.words[i*slotWords] {
		case tag:
			return i, true
		case 0:
			return i, false
		}
		if i++; i == t.slots {
			i = 0
		}
	}
}

// remove empties a slot and moves up those behind that passed over it.
func (t *table) remove(i int) {
	for j := i; ; {
		if j++; j == t.slots {
			j = 0
		}
		tag := t.words[j*slotWords]
		if tag == 0 {
			break
		}
		if h := home(tag, t.slots); t.dist(h, j) >= t.dist(i, j) {
			copy(t.slot(i), t.slot(j))
			i = j
		}
	}
	clear(t.slot(i))
}

// maxSlots bounds what a dump may ask for.
const maxSlots = 1 << 26

// loadTable makes the table of a dump.
func loadTable(slots, n int, dump []byte) (t table, err error) {
	if slots == 0 {
		return table{}, nil
	}
	t, ok := newTable(slots)
	if !ok {
		return table{}, unix.ENOMEM
	}
	if t.slots = slots; len(dump) == slots*slotSize {
		copy(t.mem, dump)
	} else {
		for ; len(dump) > 0; dump = dump[slotSize:] {
			if i, found := t.find(binary.NativeEndian.Uint64(dump)); !found {
				copy(t.mem[i*slotSize:], dump[:slotSize])
			}
		}
	}
	if t.used() != n {
		t.free()
		return table{}, fmt.Errorf("%w: wrong number of objects", errDump)
	}
	return t, nil
}

// used counts the slots that are taken.
func (t *table) used() int {
	n := 0
	for i := range t.slots {
		if t.words[i*slotWords] != 0 {
			n++
		}
	}
	return n
}

// dist is how many steps it is from one slot to another.
func (t *table) dist(from, to int) int {
	if to < from {
		to += t.slots
	}
	return to - from
}

// A dump is a head of 16 bytes and slots. Head: slots of the table and objects,
// 32 bits each, CRC-32C of these and of the slots, zero. A table that is more
// than half full is dumped as it is in memory, with its empty slots; of others,
// the full slots only. Words are in the byte order of the machine.
const dumpHead = 16

// dumped is how many slots a dump has.
func dumped(slots, n int) int {
	if 2*n > slots {
		return slots
	}
	return n
}

// Dump appends a copy of one shard's table to buf.
func (x *Index) Dump(shard int, buf []byte) []byte {
	s := &x.shards[shard]
	s.mu.Lock() // uses are counted under the shared lock
	defer s.mu.Unlock()
	t := &s.table
	at := len(buf)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(t.slots))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(s.n))
	buf = append(buf, 0, 0, 0, 0, 0, 0, 0, 0)
	if dumped(t.slots, s.n) == t.slots {
		buf = append(buf, t.mem[:t.slots*slotSize]...)
	} else {
		for i := range t.slots {
			if t.words[i*slotWords] != 0 {
				buf = append(buf, t.mem[i*slotSize:i*slotSize+slotSize]...)
			}
		}
	}
	binary.LittleEndian.PutUint32(buf[at+8:], dumpSum(buf[at:]))
	return buf
}

func dumpSum(dump []byte) uint32 {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(dump[:8], castagnoli), castagnoli, dump[dumpHead:])
}

// DumpSize is the length of the dumps of all shards.
func (x *Index) DumpSize() int64 {
	n := int64(0)
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		n += dumpHead + int64(dumped(s.table.slots, s.n))*slotSize
		s.mu.RUnlock()
	}
	return n
}

var errDump = errors.New("damaged dump of the index")

// Load replaces one shard by the first dump in data, and returns how long that
// was.
func (x *Index) Load(shard int, data []byte) (int, error) {
	if len(data) < dumpHead {
		return 0, errDump
	}
	slots, n := int(binary.LittleEndian.Uint32(data)), int(binary.LittleEndian.Uint32(data[4:]))
	if n > slots || slots > 0 && n == slots || slots > maxSlots || dumped(slots, n) > (len(data)-dumpHead)/slotSize {
		return 0, errDump
	}
	size := dumpHead + dumped(slots, n)*slotSize
	if dumpSum(data[:size]) != binary.LittleEndian.Uint32(data[8:]) {
		return 0, fmt.Errorf("%w: wrong checksum", errDump)
	}
	t, err := loadTable(slots, n, data[dumpHead:size])
	if err != nil {
		return 0, err
	}
	s := &x.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	x.changes[shard].Add(1)
	s.table.free()
	s.table = t
	x.n.Add(int64(n - s.n))
	s.n = n
	return size, nil
}
