package mirror

import (
	"context"
	"sync"
	"time"

	"freshet/internal/config"
)

const (
	// measureEvery is how often it is measured what goes out, and measures over how many of
	// these times the mean is taken.
	measureEvery = 5 * time.Second
	measures     = 6
)

// meter measures how busy the mirror is.
type meter struct {
	sent func() int64 // bytes since the start

	mu     sync.Mutex
	points []point // the oldest first
}

type point struct {
	at   time.Time
	sent int64
}

// run measures until ctx ends.
func (m *meter) run(ctx context.Context) {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		m.measure(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *meter) measure(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.points) > measures {
		m.points = append(m.points[:0], m.points[1:]...)
	}
	m.points = append(m.points, point{now, m.sent()})
}

// rate is how many bytes per second go out, over half a minute; false: it is not known yet.
func (m *meter) rate() (float64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.points) < 2 {
		return 0, false
	}
	first, last := m.points[0], m.points[len(m.points)-1]
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 {
		return 0, false
	}
	return max(0, float64(last.sent-first.sent)/seconds), true
}

// idle is the load of a mirror that does nothing: directors take 0 for one that tells none.
const idle = 0.001

// load is how busy the mirror is, from 0 to 1, by what goes out of what can; false: it is not
// known, and nothing is told.
func (m *meter) load(capacity config.Rate) (float64, bool) {
	rate, known := m.rate()
	if capacity <= 0 || !known {
		return 0, false
	}
	return min(1, max(idle, rate/float64(capacity))), true
}
