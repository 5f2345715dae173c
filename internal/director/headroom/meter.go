package headroom

import (
	"math"
	"time"
)

// spread is the time over which what was given is taken to be downloaded.
const spread = 2 * time.Minute

// Meter estimates the load of a mirror that reports none, from the bytes that it was
// given. That is what it has to send at most, as far as this director knows: others may
// give it more. The zero value has measured nothing. It is for one goroutine at a time.
type Meter struct {
	rate float64 // bytes per second
	sum  int64   // as it was last
	at   time.Time
}

// Measure takes the sum of all bytes that the mirror was given until a time, and returns its
// load, from 0 to 1, by its capacity in Mbit/s. One of no capacity has no load. A
// sum that is less than the one before begins anew.
func (m *Meter) Measure(sum int64, at time.Time, capacity int) (load float64) {
	given, passed := sum-m.sum, at.Sub(m.at).Seconds()
	if m.at.IsZero() || given < 0 {
		given, passed = 0, 0
	}
	if passed > 0 {
		m.rate += (float64(given)/passed - m.rate) * (1 - math.Exp(-passed/spread.Seconds()))
	}
	if passed >= 0 {
		m.sum, m.at = sum, at
	}
	if capacity <= 0 {
		return 0
	}
	return min(1, m.rate*8/1e6/float64(capacity))
}
