package choice

import "math"

// limitOf is the largest part of requests that a mirror is given while others could answer.
func (c *Chooser) limitOf(p *Pick) float64 {
	if r := &c.mirrors[p.Mirror].Rules; r.Global && p.Tier == TierCountry && r.RegionShare > 0 {
		return r.RegionShare
	}
	return 1
}

// isLimited reports whether any mirror is not given more than its limit, or was not before it
// failed: because there is one with a limit, and others on the continent can answer (anywhere, if it is not
// known which continent that is).
func (s *state) isLimited(c *Chooser, anywhere bool) bool {
	limited, others := false, false
	for i := range s.picks {
		switch p := &s.picks[i]; {
		case (p.Out == None || p.Out == Down) && c.limitOf(p) < 1:
			limited = true
		case p.Out == None:
			others = others || anywhere || p.Tier != TierWorld
		}
	}
	return limited && others
}

// limit scales the weights of the tier in which mirrors are near everybody, so that none of
// these has more of the requests that come to it than its limit: usually, and when others
// fail. It returns the part of them that the tier takes.
func (s *state) limit(c *Chooser) (takes float64) {
	t := &s.tiers[TierCountry]
	usual := level{all: t.usual, field: func(p *Pick) *float64 { return &p.usual }, total: t.usual, most: math.Inf(1)}
	sum, factor := usual.apply(s, c)
	// Those without a limit keep the weight that they had: then weights are still Mbit/s.
	t.usual = sum / factor
	for i := range s.picks {
		if p := &s.picks[i]; usual.has(p) {
			p.usual /= factor
			p.Weight = p.usual * c.known[p.Mirror].room
		}
	}
	now := level{
		all: usual.all / factor, field: func(p *Pick) *float64 { return &p.Weight },
		total: t.usual * min(1, t.room), most: surge, given: true,
	}
	t.open, _ = now.apply(s, c)
	return t.open / now.all
}

// level is how weights of a tier are scaled.
type level struct {
	field func(*Pick) *float64 // the weight
	all   float64              // of all requests, of which the limits are parts
	total float64              // what the weights add up to afterwards, unless limits or most prevent it
	most  float64              // by how much a weight is multiplied at most
	given bool                 // only those of mirrors that can be given
}

func (l *level) has(p *Pick) bool {
	return p.Tier == TierCountry && (p.Out == None || p.Out == Down && !l.given)
}

// apply scales the weights, and returns what they add up to, and by how much those were
// multiplied that are below their limit. Whoever would be above has just its limit. What
// it leaves goes to the others, whereby another one can come above its own; nobody comes
// below it again.
func (l *level) apply(s *state, c *Chooser) (sum, factor float64) {
	for i := range s.picks {
		s.picks[i].fixed = false
	}
	for more := true; more; {
		free, fixed := 0.0, 0.0
		for i := range s.picks {
			if p := &s.picks[i]; p.fixed {
				fixed += *l.field(p)
			} else if l.has(p) {
				free += *l.field(p)
			}
		}
		factor = 1
		if free > 0 {
			factor = min(l.most, max(leastRoom, (l.total-fixed)/free))
		}
		sum = fixed + free*factor
		more = l.fix(s, c, factor)
	}
	for i := range s.picks {
		if p := &s.picks[i]; l.has(p) && !p.fixed {
			*l.field(p) *= factor
		}
	}
	return sum, factor
}

// fix gives their limit to those that would be above it, and reports whether there are any.
func (l *level) fix(s *state, c *Chooser, factor float64) (any bool) {
	for i := range s.picks {
		p := &s.picks[i]
		if limit := c.limitOf(p); l.has(p) && !p.fixed && limit < 1 && *l.field(p)*factor > limit*l.all {
			*l.field(p) = limit * l.all
			p.fixed, p.limited, any = true, true, true
		}
	}
	return any
}
