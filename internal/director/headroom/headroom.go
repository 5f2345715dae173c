// Package headroom makes of the loads that a mirror reports how much less than its share it
// is given. It reads no clock and knows nothing of mirrors.
//
// A mirror that is loaded is given less, the faster the more loaded it is, in
// proportion to what it is given; one that has room again is given more in even steps, so
// that several which share the load come to even parts of their capacities (additive
// increase, multiplicative decrease). Between both lies a band of loads in which nothing
// changes. All of this is slow against the time after which a change shows in the
// load, which is that of a download and of a report: or the load would swing.
package headroom

import (
	"math"
	"time"
)

const (
	// High is the load above which a mirror is given less.
	High = 0.7
	// Low is the load below which it is given more.
	Low = 0.6
	// halving is the time in which what it is given is halved when its load is 1.
	halving = 3 * time.Minute
	// filling is the time in which it grows from nothing to all.
	filling = 20 * time.Minute
	// settling is the time in which two thirds of a change of the load are believed.
	settling = 20 * time.Second
	// valid is how long a report is.
	valid = 5 * time.Minute
	// longest is the time that passes between two reports at most, as it is computed with.
	longest = time.Minute
	// least is the part of its share that every mirror is given, so that it is seen
	// when there is room.
	least = 0.02
	// start is the part of its share that one is given that comes back.
	start = 0.25
	// step is how much must change until it is told.
	step = 0.02
)

// Governor follows the load of one mirror. The zero value has heard of none. It is for
// one goroutine at a time.
type Governor struct {
	shed float64 // the part of its share that it is not given
	told float64 // what Shed told
	load float64 // smoothed
	last time.Time
}

// Report takes a load from 0 (idle) to 1 (as much as there can be) as it was at a time.
// Values beyond are taken for these; what is no number, and reports out of order, are ignored.
func (g *Governor) Report(load float64, at time.Time) {
	if math.IsNaN(load) || !g.last.IsZero() && !at.After(g.last) {
		return
	}
	load = min(1, max(0, load))
	if g.last.IsZero() || at.Sub(g.last) >= valid {
		g.rest(at)
		g.load, g.last = load, at
		return
	}
	passed := min(at.Sub(g.last), longest)
	g.load += (load - g.load) * (1 - math.Exp(-passed.Seconds()/settling.Seconds()))
	g.last = at
	switch {
	case g.load > High:
		over := (g.load - High) / (1 - High)
		g.set((1 - g.shed) * math.Exp2(-over*passed.Seconds()/halving.Seconds()))
	case g.load < Low:
		g.set(1 - g.shed + passed.Seconds()/filling.Seconds())
	}
}

// Back tells that the mirror comes back after it was given to nobody. It begins with a quarter of
// its share, whatever it had before: nobody knows what it can do now, and those who were
// to wait for it come all at once.
func (g *Governor) Back(at time.Time) {
	g.rest(at)
	g.set(min(1-g.shed, start))
	g.load, g.last = Low, at
}

// Load is the load that is believed at a time; false if there was no report for five minutes.
func (g *Governor) Load(at time.Time) (float64, bool) {
	return g.load, !g.last.IsZero() && at.Sub(g.last) < valid
}

// Shed is the part of its share, from 0 to 1, that a mirror is not given. It changes by
// 0.02 and more at once, or to 0. A mirror that reports nothing any more is slowly
// given all again, after five minutes.
func (g *Governor) Shed(at time.Time) float64 {
	g.rest(at)
	if g.shed == 0 || math.Abs(g.shed-g.told) >= step {
		g.told = g.shed
	}
	return g.told
}

// rest gives back what a mirror is not given, for the time in which no report was valid.
func (g *Governor) rest(at time.Time) {
	if silent := at.Sub(g.last) - valid; !g.last.IsZero() && silent > 0 {
		g.set(1 - g.shed + silent.Seconds()/filling.Seconds())
		g.last = at.Add(-valid)
	}
}

// set sets the part of its share that the mirror is given.
func (g *Governor) set(kept float64) { g.shed = 1 - min(1, max(least, kept)) }
