package choice

// limitOf is the largest part of requests that a mirror is given while others could answer.
func (c *Chooser) limitOf(p *Pick) float64 {
	if r := &c.mirrors[p.Mirror].Rules; r.Global && p.Tier == TierCountry && r.RegionShare > 0 {
		return r.RegionShare
	}
	return 1
}

// limit makes the weights of mirrors that are near everybody so small that none has a
// larger part of the tier's requests than it may, if there are others on the continent
// (anywhere, if that is not known). It returns the part that the tier can be given then,
// which is 1 if any mirror of it is not limited.
func (s *state) limit(c *Chooser, anywhere bool) float64 {
	limited, others := 0, false
	for i := range s.picks {
		switch p := &s.picks[i]; {
		case p.Out != None:
		case c.limitOf(p) < 1:
			limited++
		default:
			others = others || anywhere || p.Tier != TierWorld
		}
	}
	t := &s.tiers[TierCountry]
	if limited == 0 || !others || t.open == 0 {
		return 1
	}
	// Whoever is above its limit gets that. What it leaves goes to the others, whereby
	// another one can come above its own; nobody comes below it again.
	free, left := t.open, 1.0 // of those that are not at their limit: weight, part of requests
	for range limited {
		for i := range s.picks {
			p := &s.picks[i]
			if limit := c.limitOf(p); p.Out == None && !p.limited && limit < 1 && p.Weight*left > limit*free {
				p.limited = true
				free -= p.Weight
				left -= limit
			}
		}
	}
	return s.scale(c, free, left)
}

// scale gives the mirrors at their limit the weights by which they have it, and returns the
// part of requests that the tier can be given.
func (s *state) scale(c *Chooser, free, left float64) float64 {
	t := &s.tiers[TierCountry]
	all := t.open // the weight of all requests, by that of those which are not limited
	reach := 1 - left
	if free > roundOff*t.open {
		all, reach = free/left, 1
	} else {
		free = 0
	}
	t.open = free
	for i := range s.picks {
		if p := &s.picks[i]; p.limited {
			p.Weight = c.limitOf(p) * all
			t.open += p.Weight
		}
	}
	return reach
}

// roundOff is what is left of a difference that should be 0, at most.
const roundOff = 1e-9
