package choice

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"
)

// state is a choice that is being made.
type state struct {
	picks []Pick
	rings [NumRings]ring
}

// ring is what the mirrors of a ring can take together.
type ring struct {
	usual float64 // their weights, of failed ones too, as if they were not loaded
	open  float64 // their weights, of those that work
	room  float64 // the largest part of its share that one of them takes
	near  float64 // the part of requests that mirrors near everybody are limited to, if there are no others in the ring; else 1
	part  float64 // of requests that go to the ring
}

func (s *state) take(p Pick) { s.picks = append(s.picks, p) }

// settle applies the rules that need all mirrors: exclusive ones, and the longest netblock.
func (s *state) settle(r *Request) {
	_ = r
}

// weigh finds out which part of requests goes to each ring and mirror.
func (s *state) weigh(c *Chooser, r *Request) {
	_, _ = c, r
}

// order brings the picks into their order.
func (s *state) order(c *Chooser, r *Request) {
	for i := range s.picks {
		p := &s.picks[i]
		p.key = -math.Log(uniform(r.Seed, c.known[p.Mirror].id)) / p.Weight
	}
	if !r.Explain {
		s.picks = slices.DeleteFunc(s.picks, func(p Pick) bool { return p.Out != None })
	}
	slices.SortFunc(s.picks, func(a, b Pick) int {
		return cmp.Or(cmp.Compare(min(a.Out, 1), min(b.Out, 1)), cmp.Compare(a.Ring, b.Ring), cmp.Compare(a.key, b.key))
	})
}

// window is how long a client stays with its mirrors.
const window = 10 * time.Minute

// Seed is the chance of a client: the same for ten minutes, so that it comes back to
// the same mirror; the ten minutes of each client begin at another time. An IPv6 client is
// its /64. salt makes different what need not be the same, such as projects.
func Seed(client netip.Addr, salt uint64, now time.Time) uint64 {
	b := client.Unmap().As16()
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if client.Unmap().Is6() {
		low = 0
	}
	id := mix(mix(high^salt) ^ low)
	turn := (now.Unix() + int64(id%uint64(window/time.Second))) / int64(window/time.Second)
	return mix(id ^ uint64(turn))
}

// uniform is a number between 0 and 1, both excluded, from a seed and what it is for.
func uniform(seed, what uint64) float64 {
	return (float64(mix(seed^mix(what))>>12) + 0.5) / (1 << 52)
}

// mix makes all bits of the result depend on all of x (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
