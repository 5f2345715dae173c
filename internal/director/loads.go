package director

import (
	"iter"
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
	meter    headroom.Meter
	failed   bool // it did work, and does not
}

// health is what loads ask of a [probe.State].
type health interface {
	All() iter.Seq2[probe.Way, probe.Health]
	Load(mirror string) float64
}

// follow takes over what is known of the mirrors of a catalogue, and forgets all others. The
// load of one that tells none is estimated from the bytes that it was given until now, if the
// catalogue says its capacity. One that works for the first time, as all do that a new
// director looks at, is not one that comes back.
func (l *loads) follow(c *directorapi.Catalogue, health health, given func(mirror string) int64, now time.Time) {
	works, worked := make(map[string]bool), make(map[string]bool)
	for way, h := range health.All() {
		works[way.Mirror] = works[way.Mirror] || h.Works
		worked[way.Mirror] = worked[way.Mirror] || !h.Since.IsZero()
	}
	next := make(map[string]*load, len(c.Mirrors))
	for i := range c.Mirrors {
		name := c.Mirrors[i].Name
		m, known := l.of[name]
		if !known {
			m = new(load)
		}
		next[name] = m
		if works[name] && m.failed {
			m.governor.Back(now)
		}
		m.failed = !works[name] && worked[name]
		busy := health.Load(name)
		if estimate := m.meter.Measure(given(name), now, c.Mirrors[i].Capacity); busy == 0 {
			busy = estimate
		}
		if busy > 0 {
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
