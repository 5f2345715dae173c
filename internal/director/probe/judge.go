package probe

import (
	"math/bits"
	"time"
)

// How often a way is looked at. All of them are shortened by up to a fifth, by chance.
const (
	everyGood    = 30 * time.Second // while all is well
	everyDoubt   = 5 * time.Second  // after a bad look, until steady again
	everyBehind  = 10 * time.Second // while the origin has a newer version than the mirror
	everyBad     = 30 * time.Second // of one that does not work
	everyReturn  = 10 * time.Second // of one that works again
	everyOrigin  = 15 * time.Second // of origins
	everyNowhere = 5 * time.Minute  // of one that has no address
)

// What it takes to be out, and to be back.
const (
	badInRow   = 2  // bad looks in a row, or
	badOfLast  = 3  // of the last
	lastLooks  = 10 // take a way out
	steadyFrom = 5  // good looks in a row end the doubt
	goodInRow  = 3  // good looks in a row bring it back, twice as many
	mostInRow  = 24 // after each time that it was out within
	remembered = 24 * time.Hour
)

// outcome is what a look came to.
type outcome struct {
	begun, ended time.Time
	why          Reason // Fine, or what is wrong
	detail       string
	expires      time.Time // of the certificate, if one was seen
	// reached is when, before this look began, somebody was last reached: anybody.
	reached time.Time
	// inventory is when the mirror's last scan began, and renews whether a new one
	// can be waited for.
	inventory time.Time
	renews    bool
}

// judge decides from looks whether a way works. The zero judge was never looked at.
type judge struct {
	Health
	seen   bool        // it worked at one time
	recent uint16      // the last looks since it works, the newest lowest; 1: bad
	bad    int         // bad looks in a row
	failed time.Time   // end of the first bad look of recent
	row    time.Time   // end of the first of the bad looks in a row
	worst  time.Time   // end of the last bad look
	falls  []time.Time // within the time remembered
}

// restored is a judge that goes on from what was known before a restart. Falls are the
// times at which it stopped working, oldest first.
func restored(h Health, falls []time.Time) judge {
	return judge{Health: h, seen: true, falls: falls, worst: h.Since}
}

// look takes the outcome of a look, and reports whether Works or Why have changed.
func (j *judge) look(o outcome) (changed bool) {
	works, why := j.Works, j.Why
	j.Looked = o.ended
	if !o.expires.IsZero() {
		j.Expires = o.expires
	}
	if o.why == Fine {
		j.Took = o.ended.Sub(o.begun)
		j.wentWell(o)
	} else {
		j.Detail = o.detail
		j.wentBadly(o)
	}
	if j.Works != works {
		j.Since = o.ended
	}
	return j.Works != works || j.Why != why
}

func (j *judge) wentWell(o outcome) {
	j.Good++
	if j.Works && j.bad >= badInRow {
		j.recent = 0 // nobody could be reached all the while: it was our own network
	}
	j.bad = 0
	switch {
	case j.Works:
		j.recent = j.recent << 1 & (1<<lastLooks - 1)
	case !j.seen:
		j.rise()
	default:
		if j.Good == 1 {
			j.Needed = j.needed(o.ended)
		}
		switch {
		case j.Good < j.Needed:
			j.Why = Returning
		case o.renews && !o.inventory.After(j.worst):
			j.Why = AwaitsInventory
		default:
			j.rise()
		}
	}
}

func (j *judge) wentBadly(o outcome) {
	j.Good, j.worst = 0, o.ended
	if !j.Works {
		j.Why = o.why
		return
	}
	if j.recent == 0 {
		j.failed = o.ended
	}
	if j.bad == 0 {
		j.row = o.ended
	}
	j.bad++
	j.recent = (j.recent<<1 | 1) & (1<<lastLooks - 1)
	// When nobody was reached since, it may be our own network.
	proven := func(since time.Time) bool { return !o.why.couldBeUs() || o.reached.After(since) }
	switch {
	case j.bad >= badInRow && proven(j.row):
		j.fall(o.ended, o.why)
	case j.bad < badInRow && bits.OnesCount16(j.recent) >= badOfLast && proven(j.failed):
		j.fall(o.ended, Unsteady)
	}
}

func (j *judge) rise() {
	j.Works, j.Why, j.seen, j.recent, j.bad = true, Fine, true, 0, 0
}

func (j *judge) fall(now time.Time, why Reason) {
	j.Works, j.Why = false, why
	j.falls = append(j.since(now), now)
	j.Needed = j.needed(now)
}

// since are the falls that are remembered.
func (j *judge) since(now time.Time) []time.Time {
	falls := j.falls
	for len(falls) > 0 && now.Sub(falls[0]) > remembered {
		falls = falls[1:]
	}
	return falls
}

// needed is how many good looks in a row bring the way back.
func (j *judge) needed(now time.Time) int {
	n := goodInRow
	for range len(j.since(now)) - 1 {
		if n *= 2; n >= mostInRow {
			return mostInRow
		}
	}
	return n
}

// every is how long it is until the next look.
func (j *judge) every(origin, behind bool) time.Duration {
	switch {
	case j.Why == NoAddress && !j.seen:
		return everyNowhere
	case j.Works && j.recent != 0 && j.Good < steadyFrom:
		return everyDoubt
	case !j.Works && j.Good > 0:
		return everyReturn
	case origin:
		return everyOrigin
	case !j.Works:
		return everyBad
	case behind:
		return everyBehind
	default:
		return everyGood
	}
}
