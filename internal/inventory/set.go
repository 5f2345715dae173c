package inventory

import (
	"iter"
	"math/bits"
	"unique"
)

// Holder is a mirror as an inventory knows it: a small number, given once for a name
// and never again for another one. It is told and kept as a name elsewhere, since the
// numbers of another process differ.
type Holder uint16

// Origin is the holder whose files are the current ones. It is in no Set.
const Origin Holder = 0

// Set is a set of holders. It does not change, is as small as a pointer, and equal sets
// are equal by ==. The zero Set is empty.
type Set struct {
	// bits holds that of holder h as bit h%8 of byte h/8, without zero bytes at
	// its end. The empty set is the zero handle.
	bits unique.Handle[string]
}

// SetOf returns the set of these holders.
func SetOf(holders ...Holder) Set {
	var m members
	for _, h := range holders {
		m.add(h)
	}
	return m.set()
}

func (s Set) string() string {
	if s == (Set{}) {
		return ""
	}
	return s.bits.Value()
}

// Has tells whether h is in the set.
func (s Set) Has(h Holder) bool {
	if s == (Set{}) {
		return false
	}
	b := s.bits.Value()
	i := int(h >> 3)
	return i < len(b) && b[i]>>(h&7)&1 != 0
}

// Len is the number of holders in the set.
func (s Set) Len() int {
	n := 0
	for _, b := range []byte(s.string()) {
		n += bits.OnesCount8(b)
	}
	return n
}

// All yields the holders in the set, in ascending order.
func (s Set) All() iter.Seq[Holder] {
	return func(yield func(Holder) bool) {
		for i, b := range []byte(s.string()) {
			for ; b != 0; b &= b - 1 {
				if !yield(Holder(i<<3 + bits.TrailingZeros8(b))) {
					return
				}
			}
		}
	}
}

// And returns the holders that are in both sets.
func (s Set) And(o Set) Set {
	if s == o {
		return s
	}
	m := s.members()
	m.and(o)
	return m.set()
}

// Within tells whether all holders of s are in o.
func (s Set) Within(o Set) bool {
	if s == o {
		return true
	}
	a, b := s.string(), o.string()
	if len(a) > len(b) {
		return false
	}
	for i := range len(a) {
		if a[i]&^b[i] != 0 {
			return false
		}
	}
	return true
}

// With returns the set and h.
func (s Set) With(h Holder) Set {
	if s.Has(h) {
		return s
	}
	m := s.members()
	m.add(h)
	return m.set()
}

// Without returns the set without h.
func (s Set) Without(h Holder) Set {
	if !s.Has(h) {
		return s
	}
	m := s.members()
	m[h>>3] &^= 1 << (h & 7)
	return m.set()
}

// members is a set while it is made.
type members []byte

func (s Set) members() members { return members(s.string()) }

func (m *members) add(h Holder) {
	for len(*m) <= int(h>>3) {
		*m = append(*m, 0)
	}
	(*m)[h>>3] |= 1 << (h & 7)
}

func (m *members) and(o Set) {
	b := o.string()
	if len(*m) > len(b) {
		*m = (*m)[:len(b)]
	}
	for i := range *m {
		(*m)[i] &= b[i]
	}
}

func (m members) set() Set {
	for len(m) > 0 && m[len(m)-1] == 0 {
		m = m[:len(m)-1]
	}
	if len(m) == 0 {
		return Set{}
	}
	return Set{unique.Make(string(m))}
}
