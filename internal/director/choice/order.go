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
	takes float64 // how many of the requests that come to the tier remain there
	part  float64 // of all requests, that remain there

	// Of one request: the earliest time of what can be given, and of what cannot.
	given, missing float64
	lost           float64 // the weights of what cannot be given
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
		if exclusive && p.Out == None && (p.bits < 0 || !c.mirrors[p.Mirror].Rules.Exclusive) {
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
	for i := range s.tiers {
		if t := &s.tiers[i]; t.open > 0 {
			t.takes = min(1, t.room, surge*t.open/t.usual)
			if Tier(i) == TierCountry && s.isLimited(c, anywhere) {
				t.takes = s.limit(c)
			}
		}
	}
	left := 1.0
	for i := range s.tiers {
		t := &s.tiers[i]
		t.part = left * t.takes
		left -= t.part
	}
	s.whole = 1 - left
	for i := range s.picks {
		if p := &s.picks[i]; p.Out == None && p.Weight > 0 {
			t := &s.tiers[p.Tier]
			p.Chance = p.Weight / t.open * t.part / s.whole
		}
	}
}

// order brings the picks into their order: the mirrors of the tier that the request remains
// in, then those of the others from the nearest on, then those that are left out.
func (s *state) order(c *Chooser, r *Request) {
	chosen := s.race(c, r.Seed)
	first := s.first(r.Seed)
	for i := range s.picks {
		p := &s.picks[i]
		p.key = key(p, p.Tier == first)
	}
	switch {
	case r.Explain:
		chosen = len(s.picks)
	case r.Most > 0:
		chosen = min(chosen, r.Most)
	}
	sortFirst(s.picks, chosen)
	s.picks = s.picks[:chosen]
}

// race lets the mirrors of each tier race, and returns how many can be given. Each runs for a
// time that is distributed exponentially, the mean of which is the inverse of its
// weight: then the chance to be the first of any set is the part of its weight in theirs.
// What a mirror fails to take, or sheds, runs as well.
func (s *state) race(c *Chooser, seed uint64) (chosen int) {
	for i := range s.tiers {
		s.tiers[i].given, s.tiers[i].missing = math.Inf(1), math.Inf(1)
	}
	for i := range s.picks {
		p := &s.picks[i]
		t, id := &s.tiers[p.Tier], c.known[p.Mirror].id
		switch p.Out {
		case None:
			chosen++
			p.time = -math.Log(uniform(seed, id)) / p.Weight
			t.given = min(t.given, p.time)
			if shed := p.usual * (1 - c.known[p.Mirror].room); shed > 0 {
				t.missing = min(t.missing, -math.Log(uniform(seed, ^id))/shed)
				t.lost += shed
			}
		case Down:
			t.missing = min(t.missing, -math.Log(uniform(seed, id))/p.usual)
			t.lost += p.usual
		default:
		}
	}
	return chosen
}

// first is the tier that a request remains in. One that a mirror wins which can be given
// stays with it, so that nobody moves because others fail. Of those that are won by what is
// missing just so many remain that the tier has its part.
func (s *state) first(seed uint64) Tier {
	for i := range s.tiers {
		t := &s.tiers[i]
		if t.takes == 0 {
			continue
		}
		kept := t.open / (t.open + t.lost)
		chance := t.takes / kept
		if t.missing < t.given {
			chance = (t.takes - kept) / (1 - kept)
		}
		if uniform(seed, uint64(i)) < chance {
			return Tier(i)
		}
	}
	// Nobody has taken it: it goes where others are, by how many these are.
	at := uniform(seed, NumTiers) * s.whole
	for i := range s.tiers {
		if at < s.tiers[i].part {
			return Tier(i)
		}
		at -= s.tiers[i].part
	}
	return TierWorld
}

// few is how many picks are found faster one by one than by sorting all.
const few = 12

// sortFirst sorts the picks so far that the first n are those with the lowest keys, in
// the order of these.
func sortFirst(picks []Pick, n int) {
	if n > few {
		slices.SortFunc(picks, func(a, b Pick) int { return cmp.Compare(a.key, b.key) })
		return
	}
	for i := range n {
		least := i
		for j := i + 1; j < len(picks); j++ {
			if picks[j].key < picks[least].key {
				least = j
			}
		}
		picks[i], picks[least] = picks[least], picks[i]
	}
}

// key is what picks are sorted by: whether they are left out, the tier, the time. Positive
// numbers of floating point are ordered as their bits are.
func key(p *Pick, first bool) uint64 {
	if p.Out != None {
		return 1<<63 | uint64(p.Mirror)
	}
	rank := uint64(p.Tier) + 1
	if first {
		rank = 0
	}
	return rank<<60 | math.Float64bits(p.time)>>4
}
