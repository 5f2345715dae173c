package versions

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// sent remembers where clients were sent, by version.
type sent struct {
	t    *testing.T
	last map[int]time.Time // when, by version
	// ranks are the order in which versions were seen at an origin that shows them in
	// any order; nil: that of their numbers.
	ranks map[int]int
}

// to sends a client somewhere with a version.
func (s *sent) to(version int, where string) {
	now := time.Now()
	for newer, at := range s.last {
		if s.rank(newer) > s.rank(version) && now.Sub(at) < time.Hour {
			s.t.Errorf("%v: sent to %s with version %d, %v after version %d", now, where, version, now.Sub(at), newer)
		}
	}
	s.last[version] = now
}

func (s *sent) rank(version int) int {
	if s.ranks == nil {
		return version
	}
	if _, ok := s.ranks[version]; !ok {
		s.ranks[version] = len(s.ranks)
	}
	return s.ranks[version]
}

// TestNeverBackwards lets an origin and mirrors do what they do, in any order, and sends
// a client to each mirror that is offered all the time: it never gets an older version
// than within the hour before.
func TestNeverBackwards(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("faithful origin ", seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { wander(t, seed, false) }) })
		t.Run(fmt.Sprint("any origin ", seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { wander(t, seed, true) }) })
	}
}

func wander(t *testing.T, seed uint64, anyOrigin bool) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(seed, 5))
	versions := []contents{rpms(1, "p1.rpm")}
	origin, shows := 0, map[string]int{"a": 0, "b": 0, "c": 0, "d": 0}
	clients := sent{t: t, last: make(map[int]time.Time)}
	if anyOrigin {
		clients.ranks = make(map[int]int)
	}
	number := func(s sum) int {
		return slices.IndexFunc(versions, func(c contents) bool { return digest(c[pointer]) == s })
	}
	w.origin.publish(versions[0])
	offered, nobody := 0, 0
	for range 250 {
		mirror := string("abcd"[r.IntN(4)])
		switch op := r.IntN(20); {
		case op < 3: // another version
			n := len(versions) + 1
			versions = append(versions, rpms(n, fmt.Sprintf("p%d.rpm", n), fmt.Sprintf("p%d.rpm", n-1)))
			origin = len(versions) - 1
			w.origin.publish(versions[origin])
		case op < 5 && anyOrigin: // an older one, or the newest again
			origin = max(0, len(versions)-1-r.IntN(3))
			w.origin.publish(versions[origin])
		case op < 6 && anyOrigin:
			w.origin.leave(r.IntN(2) == 0)
		case op < 7:
			w.restart()
		case op < 12: // it follows
			shows[mirror] = origin
			w.list(mirror, versions[origin])
		case op < 13: // it shows what another machine behind it has
			shows[mirror] = r.IntN(len(versions))
			w.list(mirror, versions[shows[mirror]])
		case op < 14: // it has the pointer, and not the packages
			shows[mirror] = origin
		case op < 15:
			w.Hasten(project, "")
		}
		if r.IntN(3) > 0 {
			for m, n := range shows {
				w.saw(m, versions[n])
			}
		}
		for range r.IntN(4) {
			time.Sleep(time.Duration(r.Int64N(int64(15 * time.Minute >> r.IntN(10)))))
			synctest.Wait()
			if current, known := w.Current(project, pointer); known {
				clients.rank(number(current))
			}
			set, _ := w.Allowed(project, pointer)
			if set.Len() == 0 {
				nobody++
				if !anyOrigin {
					clients.to(origin, "the origin")
				}
			}
			for h := range set.All() {
				offered++
				name := w.inv.Name(h)
				clients.to(number(w.get(project, pointer).seen[name].sum), name)
			}
		}
	}
	if offered == 0 || nobody == 0 {
		t.Errorf("mirrors were offered %d times, nobody %d times: nothing was tried", offered, nobody)
	}
}
