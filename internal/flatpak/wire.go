package flatpak

import (
	"slices"

	"freshet/internal/gvariant"
)

// Package gvariant encodes everything small. The containers of the compat
// summary are put together here from ropes, since they hold thousands of
// encoded entries, of which a publish changes a few, three levels deep.

// rope is a run of bytes in pieces that are shared, not copied, until the end.
// Pieces must not change.
type rope struct {
	pieces [][]byte
	size   int
}

func ropeOf(b []byte) rope { return rope{pieces: [][]byte{b}, size: len(b)} }

func (r *rope) add(b []byte) {
	r.pieces = append(r.pieces, b)
	r.size += len(b)
}

func (r *rope) join(other rope) {
	r.pieces = append(r.pieces, other.pieces...)
	r.size += other.size
}

// pad fills the rope with zeros up to the alignment of 8.
func (r *rope) pad() {
	if n := padding(r.size); n > 0 {
		r.add([]byte(zeros)[:n])
	}
}

// bytes copies the pieces into one run.
func (r *rope) bytes() []byte {
	b := make([]byte, 0, r.size)
	for _, piece := range r.pieces {
		b = append(b, piece...)
	}
	return b
}

// joinPair makes a tuple or dict entry of two members of variable size, the
// second of which is aligned to 8.
func joinPair(first, second rope) rope {
	var r rope
	r.join(first)
	r.pad()
	r.join(second)
	r.add(encodeOffsets(r.size, []int{first.size}))
	return r
}

// joinArray makes an array of elements of variable size that are aligned to 8.
func joinArray(elements []rope) rope {
	var r rope
	ends := make([]int, 0, len(elements))
	for _, element := range elements {
		r.pad()
		r.join(element)
		ends = append(ends, r.size)
	}
	r.add(encodeOffsets(r.size, ends))
	return r
}

// joinEntries makes an array of cached entries.
func joinEntries(entries []*entry) rope {
	r := rope{pieces: make([][]byte, 0, len(entries)+1)}
	ends := make([]int, len(entries))
	for i, e := range entries {
		ends[i] = r.size + e.size
		if i == len(entries)-1 {
			r.add(e.padded[:e.size])
		} else {
			r.add(e.padded)
		}
	}
	r.add(encodeOffsets(r.size, ends))
	return r
}

// joinVariant wraps a value of the type into a variant.
func joinVariant(value rope, typ string) rope {
	value.add(append([]byte{0}, typ...))
	return value
}

// joinDictEntry makes an {sv}.
func joinDictEntry(key string, value rope, typ string) rope {
	return joinPair(ropeOf(append([]byte(key), 0)), joinVariant(value, typ))
}

const zeros = "\x00\x00\x00\x00\x00\x00\x00"

// padding is what lacks to a multiple of 8.
func padding(size int) int { return -size & 7 }

// encodeOffsets returns the framing offsets of a container whose members have
// size bytes.
func encodeOffsets(size int, ends []int) []byte {
	width := offsetWidth(size, len(ends))
	b := make([]byte, 0, len(ends)*width)
	for _, end := range ends {
		for i := range width {
			b = append(b, byte(end>>(8*i)&0xff))
		}
	}
	return b
}

// offsetWidth is the smallest width in which n offsets can address the whole of
// a container with size bytes of members.
func offsetWidth(size, n int) int {
	switch {
	case n == 0:
		return 0
	case size+n <= 0xff:
		return 1
	case size+2*n <= 0xffff:
		return 2
	case int64(size)+4*int64(n) <= 0xffffffff:
		return 4
	}
	return 8
}

// hashed puts the entries of a dictionary into the order in which a GHashTable
// of a few strings holds them. It is the order in which flatpak writes what it
// collects in a GVariantDict; readers do not care, but it makes our bytes those
// of flatpak.
func hashed(d gvariant.Dict) gvariant.Dict {
	const size, prime = 8, 7 // of the smallest table, which holds seven
	if d.Len() >= size {
		return d
	}
	var slots [size]*gvariant.Entry
	for key, value := range d.All() {
		hash := uint32(5381) // g_str_hash
		for i := range len(key) {
			hash = hash*33 + uint32(key[i])
		}
		slot := int(hash * 11 % prime)
		for step := 1; slots[slot] != nil; step++ {
			slot = (slot + step) % size
		}
		slots[slot] = &gvariant.Entry{Key: key, Value: value}
	}
	var ordered []gvariant.Entry
	for _, e := range slots {
		if e != nil {
			ordered = append(ordered, *e)
		}
	}
	return gvariant.NewDict(slices.Clip(ordered)...)
}
