package lists

import (
	"math"
	"math/rand/v2"
	"slices"

	"freshet/internal/mirrorlist"
)

// shuffler brings hosts into an order by chance. The zero value, seeded, is ready; its
// memory is used again.
type shuffler struct {
	pcg  rand.PCG
	rng  *rand.Rand
	keys []uint64
	room []mirrorlist.Host
}

// seed begins the chance anew.
func (s *shuffler) seed(seed uint64) {
	if s.rng == nil {
		s.rng = rand.New(&s.pcg)
	}
	s.pcg.Seed(seed, ^seed)
}

// evenly makes each order equally likely.
func (s *shuffler) evenly(hosts []mirrorlist.Host) {
	s.rng.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
}

// indexBits are the lowest bits of a key, which say whose it is.
const indexBits = 20

// byWeight orders hosts as if one after the other were drawn from those that are left,
// each with a chance in proportion to its weight. A weight below 1 counts as 1.
//
// Each waits for an exponentially distributed time, the mean of which is the inverse of
// its weight: the chance to be the first of any set of them is the share of its weight,
// because times without memory race. The order is that of the times. Positive numbers
// of floating point are ordered as their bits are, so that to sort integers does, and
// what is lost with their lowest bits is far below the rounding of the weights.
func (s *shuffler) byWeight(hosts []mirrorlist.Host, weight func(mirrorlist.Host) int64) {
	hosts = hosts[:min(len(hosts), 1<<indexBits)]
	s.keys = s.keys[:0]
	for i, h := range hosts {
		t := s.rng.ExpFloat64() / float64(max(1, weight(h)))
		s.keys = append(s.keys, math.Float64bits(t)>>indexBits<<indexBits|uint64(i))
	}
	slices.Sort(s.keys)
	s.room = append(s.room[:0], hosts...)
	for i, k := range s.keys {
		hosts[i] = s.room[k&(1<<indexBits-1)]
	}
}
