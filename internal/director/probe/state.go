package probe

import (
	"iter"
	"maps"
	"slices"
	"time"
)

// Health is what is known of a way.
type Health struct {
	// Works says whether clients may be sent this way. If so, Why is [Fine].
	Works bool
	Why   Reason
	// Detail says more of the last bad look, as text for operators. It may still be
	// told when the way works again.
	Detail string
	// Since is when Works became what it is; zero for a way that never worked.
	Since time.Time
	// Looked is the end of the last look, zero before the first, and Took how long
	// the last good look was on its way from the first lookup to the last byte of
	// what it checked.
	Looked time.Time
	Took   time.Duration
	// Good counts the good looks since the last bad one; a way that does not work
	// comes back when they are Needed.
	Good, Needed int
	// Expires is the end of the server's certificate, or of one that vouches for it
	// if that is earlier. Zero for http, and when none was seen.
	Expires time.Time
}

// State is the health of all ways at one moment. It does not change, and may be read by
// any goroutine. The zero State knows of no way.
type State struct {
	made   time.Time
	ways   map[Way]Health
	loads  map[string]float64
	blind  [2]bool // by family
	newer  chan struct{}
	cached []Way // all, sorted
}

// Usable tells whether clients may be sent this way, why not, and since when. A way that
// is not in the catalogue, or was not looked at yet, is not usable.
//
// While the director itself cannot reach anybody over one of the families, the answer
// for it is that for the other, for mirrors that have an address of it.
func (s *State) Usable(mirror, project string, scheme Scheme, family Family) (ok bool, why Reason, since time.Time) {
	w := Way{Mirror: mirror, Project: project, Scheme: scheme, Family: family}
	h, known := s.ways[w]
	if !known {
		return false, Unprobed, time.Time{}
	}
	if s.blind[family] && h.Why != NoAddress {
		w.Family = IPv4 + IPv6 - family
		if other, known := s.ways[w]; known {
			h = other
		}
	}
	return h.Works, h.Why, h.Since
}

// Health is what is known of a way.
func (s *State) Health(w Way) (h Health, known bool) {
	h, known = s.ways[w]
	return h, known
}

// All yields the ways, sorted, with their health.
func (s *State) All() iter.Seq2[Way, Health] {
	return func(yield func(Way, Health) bool) {
		for _, w := range s.cached {
			if !yield(w, s.ways[w]) {
				return
			}
		}
	}
}

// Load is how busy a mirror is, from 0 to 1: what it told of itself within the last five
// minutes or, if that is more, what reports of slowness come to, which is never more
// than 0.85.
func (s *State) Load(mirror string) float64 { return s.loads[mirror] }

// Blind reports whether the director itself seems to have no network of the family:
// nobody can be reached over it.
func (s *State) Blind(f Family) bool { return s.blind[f] }

// Made is when the state was made.
func (s *State) Made() time.Time { return s.made }

// Changed is closed when there is a state that differs in what is usable or in loads, or
// in which a way was looked at for the first time. A newer state that differs in details
// only does not close it, and has the same channel.
func (s *State) Changed() <-chan struct{} { return s.newer }

// newState makes a state of copies.
func newState(now time.Time, ways map[Way]Health, loads map[string]float64) *State {
	s := &State{made: now, ways: maps.Clone(ways), loads: loads}
	s.cached = slices.SortedFunc(maps.Keys(ways), Way.compare)
	s.blind = blindIn(ways)
	return s
}
