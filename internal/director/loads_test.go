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

// A mirror that comes back begins small; one that works for the first time does not, or
// all would when a director is new.
func TestLoadsBack(t *testing.T) {
	c := &directorapi.Catalogue{Mirrors: []directorapi.Mirror{{Name: "m"}}}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	var l loads
	state := func(works bool, since time.Time, load float64) {
		now = now.Add(30 * time.Second)
		l.follow(c, seen{map[probe.Way]probe.Health{{Mirror: "m"}: {Works: works, Since: since}}, map[string]float64{"m": load}}, now)
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
	l.follow(&directorapi.Catalogue{}, seen{}, now)
	if got := l.shed("m"); got != 0 {
		t.Errorf("taken out of the catalogue, it sheds %v", got)
	}
}
