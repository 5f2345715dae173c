package upstream

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// loadBound is how much more than its share of the requests in flight an origin
// gets before its keys go to the next.
const loadBound = 1.25

// choice is an origin with what speaks for it.
type choice struct {
	o     *Origin
	rank  int     // the least is asked first
	score float64 // among equal ranks, too
}

// Ranks add up.
const (
	rankBusy = 1 << iota
	rankLastResort
	rankEjected
	rankAvoided
)

// order returns the origins in the order in which they are asked for a
// request: by rendezvous hashing, so that every edge asks the same one for the
// same key, and the keys of one that is gone spread over all others.
func (g *Group) order(r *Request, now time.Time) []choice {
	list := make([]choice, 0, len(g.Origins))
	key := keyOf(r)
	total, weight := int64(1), 0
	direct := r.Direct && slices.ContainsFunc(g.Origins, func(o *Origin) bool { return o.Role != Shield })
	for _, o := range g.Origins {
		if direct && o.Role == Shield {
			continue
		}
		w := max(o.Weight, 1)
		c := choice{o: o, score: -math.Log(unit(key^seed(o.Name()))) / float64(w)}
		if o.Role == LastResort {
			c.rank |= rankLastResort
		}
		ok, level := o.health.usable(now)
		if !ok {
			c.rank |= rankEjected
			c.score += float64(level) * 1e6 // the least bad first
		}
		if len(r.Avoid) > 0 && slices.Contains(r.Avoid, o.Name()) {
			c.rank |= rankAvoided
		}
		if c.rank == 0 {
			total += o.inFlight.Load()
			weight += w
		}
		list = append(list, c)
	}
	for i := range list {
		if c := &list[i]; c.rank == 0 && !r.Steady {
			share := loadBound * float64(total) * float64(max(c.o.Weight, 1)) / float64(weight)
			if float64(c.o.inFlight.Load()+1) > math.Ceil(share) {
				c.rank |= rankBusy
			}
		}
	}
	slices.SortFunc(list, func(a, b choice) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.score, b.score))
	})
	return list
}

func keyOf(r *Request) uint64 {
	if r.Key != [16]byte{} {
		return binary.LittleEndian.Uint64(r.Key[:8])
	}
	return seed(r.URI)
}

// seed is FNV-1a: the same in every process.
func seed(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// unit mixes x and returns a number above 0 and at most 1.
func unit(x uint64) float64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return (float64(x>>11) + 1) / (1 << 53)
}
