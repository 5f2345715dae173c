package choice

import (
	"cmp"
	"math"
	"slices"
)

// state is a choice that is being made.
type state struct {
	picks []Pick
	tiers [NumTiers]tier
	whole float64 // the parts of all tiers together
}

// tier is what the mirrors of a tier can take together.
type tier struct {
	usual float64 // their weights, of failed ones too, as if none were loaded
	open  float64 // their weights, of those that can be given
	room  float64 // the largest part of its share that one of them takes
	part  float64 // of all requests, that goes to the tier
}

// settle applies the rules for which all mirrors must be known: exclusive ones leave the
// others out, and the longest netblock is nearer than others.
func (s *state) settle(c *Chooser) {
	longest, exclusive := -1, false
	for i := range s.picks {
		if p := &s.picks[i]; p.Out == None && p.bits >= 0 {
			longest = max(longest, p.bits)
			exclusive = exclusive || c.mirrors[p.Mirror].Rules.Exclusive
		}
	}
	if longest < 0 {
		return
	}
	for i := range s.picks {
		p := &s.picks[i]
		if exclusive && p.Out == None && !(p.bits >= 0 && c.mirrors[p.Mirror].Rules.Exclusive) {
			p.Out = Exclusive
		}
		if p.bits >= 0 && p.bits < longest {
			p.Tier = TierNetwork
		}
	}
}

// surge is how many times its usual share a mirror is given at most because others of its
// tier fail or are loaded.
const surge = 1.5

// weigh finds out which part of requests goes to each tier, and to each mirror.
func (s *state) weigh(c *Chooser, anywhere bool) {
	for i := range s.picks {
		p := &s.picks[i]
		t := &s.tiers[p.Tier]
		switch p.Out {
		case None:
			t.usual += p.usual
			t.open += p.Weight
			t.room = max(t.room, c.known[p.Mirror].room)
		case Down:
			t.usual += p.usual
		default:
		}
	}
	takes := [NumTiers]float64{}
	for i, t := range s.tiers {
		if t.open > 0 {
			takes[i] = min(1, t.room, surge*t.open/t.usual)
		}
	}
	takes[TierCountry] *= s.limit(c, anywhere)
	left := 1.0
	for i := range s.tiers {
		s.tiers[i].part = left * takes[i]
		left -= s.tiers[i].part
	}
	s.whole = 1 - left
	for i := range s.picks {
		if p := &s.picks[i]; p.Out == None && p.Weight > 0 {
			t := &s.tiers[p.Tier]
			p.Chance = p.Weight / t.open * t.part / s.whole
		}
	}
}

// order brings the picks into their order: the mirrors of one tier, which is left to
// chance, then those of the others from the nearest on, then those that are left out.
func (s *state) order(seed uint64, c *Chooser) {
	first, at := 0, uniform(seed, 0)*s.whole
	for first < NumTiers-1 && at >= s.tiers[first].part {
		at -= s.tiers[first].part
		first++
	}
	for i := range s.picks {
		p := &s.picks[i]
		p.key = key(p, p.Tier == Tier(first), uniform(seed, c.known[p.Mirror].id))
	}
	slices.SortFunc(s.picks, func(a, b Pick) int { return cmp.Compare(a.key, b.key) })
}

// key is what picks are sorted by: whether they are left out, the tier, and a time that
// is distributed exponentially, with the inverse of the weight as its mean. The
// chance to have the shortest of several such times is the part of the weight in the sum
// of theirs. Positive numbers of floating point are ordered as their bits are.
func key(p *Pick, first bool, chance float64) uint64 {
	if p.Out != None {
		return 1<<63 | uint64(p.Mirror)
	}
	rank := uint64(p.Tier) + 1
	if first {
		rank = 0
	}
	return rank<<60 | math.Float64bits(-math.Log(chance)/p.Weight)>>4
}
