package director

import (
	"iter"
	"maps"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director/probe"
)

// seen is what is known of mirrors that have one way each.
type seen struct {
	ways  map[probe.Way]probe.Health
	loads map[string]float64
}

func (s seen) All() iter.Seq2[probe.Way, probe.Health] { return maps.All(s.ways) }
func (s seen) Load(mirror string) float64              { return s.loads[mirror] }

func nothing(string) int64 { return 0 }

// A mirror that tells no load has the one that it is given, if its capacity is known.
func TestLoadsEstimated(t *testing.T) {
	c := &directorapi.Catalogue{Mirrors: []directorapi.Mirror{{Name: "small", Capacity: 100}, {Name: "large", Capacity: 10000}, {Name: "unknown"}, {Name: "telling", Capacity: 100}}}
	now, given := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), int64(0)
	var l loads
	for range 60 {
		now = now.Add(10 * time.Second)
		given += 250e6 // 200 Mbit/s for each
		l.follow(c, seen{loads: map[string]float64{"telling": 0.2}}, func(string) int64 { return given }, now)
	}
	if got := l.shed("small"); got < 0.5 {
		t.Errorf("one with half of the capacity that it needs sheds %v", got)
	}
	for _, name := range []string{"large", "unknown", "telling"} {
		if got := l.shed(name); got != 0 {
			t.Errorf("%s sheds %v", name, got)
		}
	}
}

// A mirror that comes back begins small; one that works for the first time does not, or
// all would when a director is new.
func TestLoadsBack(t *testing.T) {
	c := &directorapi.Catalogue{Mirrors: []directorapi.Mirror{{Name: "m"}}}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	var l loads
	state := func(works bool, since time.Time, load float64) {
		now = now.Add(30 * time.Second)
		l.follow(c, seen{map[probe.Way]probe.Health{{Mirror: "m"}: {Works: works, Since: since}}, map[string]float64{"m": load}}, nothing, now)
	}
	state(false, time.Time{}, 0) // nobody has looked
	state(false, time.Time{}, 0)
	state(true, now, 0)
	if got := l.shed("m"); got != 0 {
		t.Errorf("working for the first time, it sheds %v", got)
	}
	state(false, now, 0)
	state(true, now, 0)
	if got := l.shed("m"); got != 0.75 {
		t.Errorf("back, it sheds %v", got)
	}
	for range 60 {
		state(true, now, 0.3)
	}
	if got := l.shed("m"); got != 0 {
		t.Errorf("half an hour later it sheds %v", got)
	}
	for range 20 {
		state(true, now, 1)
	}
	if got := l.shed("m"); got < 0.5 || got > 0.95 {
		t.Errorf("full for ten minutes, it sheds %v", got)
	}
	l.follow(&directorapi.Catalogue{}, seen{}, nothing, now)
	if got := l.shed("m"); got != 0 {
		t.Errorf("taken out of the catalogue, it sheds %v", got)
	}
}
