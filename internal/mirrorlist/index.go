package mirrorlist

import (
	"hash/maphash"
	"math/bits"
)

// index finds entries of a slice by their names, in four bytes per slot: a hash table
// with open addressing that keeps no names. The zero value is empty.
type index struct {
	seed  maphash.Seed
	slots []uint32 // 1 + position in the slice; 0 is free
}

// newIndex makes an index of n names, name(0) to name(n-1). Of equal names the first
// one is found.
func newIndex(n int, name func(int) string) index {
	x := index{seed: maphash.MakeSeed(), slots: make([]uint32, 1<<bits.Len(uint(n+n/2)))}
	for i := range n {
		at := x.slot(name(i), name)
		if x.slots[at] == 0 {
			x.slots[at] = uint32(i) + 1
		}
	}
	return x
}

// find returns the position of a name.
func (x *index) find(wanted string, name func(int) string) (at int, ok bool) {
	if len(x.slots) == 0 {
		return 0, false
	}
	found := x.slots[x.slot(wanted, name)]
	return int(found) - 1, found != 0
}

// slot is the slot that holds the name, or the free one where it belongs. One is
// always free.
func (x *index) slot(wanted string, name func(int) string) int {
	mask := len(x.slots) - 1
	at := int(maphash.String(x.seed, wanted)) & mask
	for x.slots[at] != 0 && name(int(x.slots[at])-1) != wanted {
		at = (at + 1) & mask
	}
	return at
}
