package geoip

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// address is one of a family, in a form that is ordered.
type address[A any] interface {
	comparable
	compare(A) int
	// top are the first 16 bits.
	top() int
	// last is the last address of the netblock of so many bits that this one begins.
	last(bits int) A
	// next is the address behind this one; false behind the last of all.
	next() (A, bool)
}

type ipv4 uint32

func (a ipv4) compare(b ipv4) int { return cmp.Compare(a, b) }
func (a ipv4) top() int           { return int(a >> 16) }
func (a ipv4) last(bits int) ipv4 { return a | ^ipv4(0)>>bits }
func (a ipv4) next() (ipv4, bool) { return a + 1, a+1 != 0 }
func ipv4Of(addr netip.Addr) ipv4 { b := addr.As4(); return ipv4(binary.BigEndian.Uint32(b[:])) }

type ipv6 struct{ high, low uint64 }

func (a ipv6) compare(b ipv6) int {
	if a.high != b.high {
		return cmp.Compare(a.high, b.high)
	}
	return cmp.Compare(a.low, b.low)
}

func (a ipv6) top() int { return int(a.high >> 48) }

func (a ipv6) last(bits int) ipv6 {
	if bits < 64 {
		return ipv6{a.high | ^uint64(0)>>bits, ^uint64(0)}
	}
	return ipv6{a.high, a.low | ^uint64(0)>>(bits-64)}
}

func (a ipv6) next() (ipv6, bool) {
	if a.low++; a.low == 0 {
		a.high++
	}
	return a, a != ipv6{}
}

func ipv6Of(addr netip.Addr) ipv6 {
	b := addr.As16()
	return ipv6{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// block is a netblock on a line.
type block[A address[A]] struct {
	first  A
	system system
	line   uint32
	bits   uint8
}

// compare is the order in which a netblock that is around another one comes before it, and
// of two lines for the same one the later line.
func (b *block[A]) compare(c *block[A]) int {
	if order := b.first.compare(c.first); order != 0 {
		return order
	}
	if b.bits != c.bits {
		return cmp.Compare(b.bits, c.bits)
	}
	return cmp.Compare(c.line, b.line)
}

// pieces is a list that grows without being moved. What is long is moved in one step, in
// which no goroutine of the process can be stopped, and so all wait for it as soon as the
// collector wants to stop them.
type pieces[T any] [][]T

// piece is how many elements are moved at once.
const piece = 1 << 13

func (p *pieces[T]) add(v T) {
	n := len(*p) - 1
	if n < 0 || len((*p)[n]) == piece {
		*p = append(*p, make([]T, 0, piece))
		n++
	}
	(*p)[n] = append((*p)[n], v)
}

// whole is the list in one piece.
func (p pieces[T]) whole() []T {
	n := 0
	for _, part := range p {
		n += len(part)
	}
	all := make([]T, 0, n)
	for _, part := range p {
		all = append(all, part...)
	}
	return all
}

// ranges is what netblocks come to: all addresses, cut into ranges that belong to the system
// of the longest netblock around them. The collector of garbage has nothing to look at
// in it. The zero value has no netblock.
type ranges[A address[A]] struct {
	firsts  []A      // addresses of the ranges, ascending; what is below belongs to nobody
	systems []system // of the same
	tops    []uint32 // by the top of an address: how many ranges begin below all of this top
}

// newRanges brings netblocks, in any order, together, and returns how many different ones
// there are. It sorts blocks.
func newRanges[A address[A]](blocks []block[A]) (r ranges[A], different int) {
	slices.SortFunc(blocks, func(a, b block[A]) int { return a.compare(&b) })
	r.firsts, r.systems = make([]A, 0, 2*len(blocks)), make([]system, 0, 2*len(blocks))
	var around []*block[A] // the place that is reached, each within the one before
	leave := func() {
		end := around[len(around)-1]
		around = around[:len(around)-1]
		next, more := end.first.last(int(end.bits)).next()
		switch {
		case !more:
		case len(around) == 0:
			r.begin(next, unnamed)
		default:
			r.begin(next, around[len(around)-1].system)
		}
	}
	for i := range blocks {
		b := &blocks[i]
		if i > 0 && b.first == blocks[i-1].first && b.bits == blocks[i-1].bits {
			continue
		}
		different++
		for n := len(around) - 1; n >= 0 && around[n].first.last(int(around[n].bits)).compare(b.first) < 0; n-- {
			leave()
		}
		r.begin(b.first, b.system)
		around = append(around, b)
	}
	for len(around) > 0 {
		leave()
	}
	r.finish()
	return r, different
}

// begin says whose the addresses are from here on, until the next one that begins.
func (r *ranges[A]) begin(first A, s system) {
	n := len(r.firsts)
	if n > 0 && r.firsts[n-1] == first {
		n--
		r.firsts, r.systems = r.firsts[:n], r.systems[:n]
	}
	if before := r.at(n - 1); before != s {
		r.firsts, r.systems = append(r.firsts, first), append(r.systems, s)
	}
}

// at is whose a range is.
func (r *ranges[A]) at(i int) system {
	if i < 0 {
		return unnamed
	}
	return r.systems[i]
}

// finish makes the ranges ready to be searched, in no more memory than they need.
func (r *ranges[A]) finish() {
	if len(r.firsts) == 0 {
		return
	}
	r.firsts, r.systems = fitting(r.firsts), fitting(r.systems)
	r.tops = make([]uint32, 1<<16+1)
	for _, first := range r.firsts {
		r.tops[first.top()+1]++
	}
	for i := range r.tops[1:] {
		r.tops[i+1] += r.tops[i]
	}
}

// fitting is a list in no more memory than it needs.
func fitting[T any](list []T) []T {
	return pieces[T](slices.Collect(slices.Chunk(list, piece))).whole()
}

// find is whose an address is, unnamed if that is nobody.
func (r *ranges[A]) find(a A) system {
	if r.tops == nil {
		return unnamed
	}
	top := a.top()
	low, high := int(r.tops[top]), int(r.tops[top+1])
	for low < high { // the ranges before low begin at or below a, those from high on above
		if middle := int(uint(low+high) >> 1); r.firsts[middle].compare(a) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return r.at(low - 1)
}
