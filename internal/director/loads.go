package director

import (
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director/headroom"
	"freshet/internal/director/probe"
)

// loads follows how busy mirrors are. The zero value knows of none. It is for one
// goroutine at a time.
type loads struct {
	of map[string]*load // by mirror
	at time.Time
}

// load is that of one mirror.
type load struct {
	governor headroom.Governor
	works    bool // by one way at least
}

// follow takes over what is known of the mirrors of a catalogue, and forgets all others.
func (l *loads) follow(c *directorapi.Catalogue, health *probe.State, now time.Time) {
	works := make(map[string]bool)
	for way, h := range health.All() {
		works[way.Mirror] = works[way.Mirror] || h.Works
	}
	next := make(map[string]*load, len(c.Mirrors))
	for i := range c.Mirrors {
		name := c.Mirrors[i].Name
		m, known := l.of[name]
		if !known {
			m = &load{works: true} // as it was before the director began
		}
		next[name] = m
		if works[name] && !m.works {
			m.governor.Back(now)
		}
		m.works = works[name] || !known
		if busy := health.Load(name); busy > 0 {
			m.governor.Report(busy, now)
		}
	}
	l.of, l.at = next, now
}

// shed is the part of its share that a mirror is not given.
func (l *loads) shed(mirror string) float64 {
	if m := l.of[mirror]; m != nil {
		return m.governor.Shed(l.at)
	}
	return 0
}
