package hub

import (
	"time"

	"freshet/internal/hub/catalog"
)

const (
	// beatPause is the time between two signs of life of a hub among others.
	beatPause = 3 * time.Second
	// deadAfter is how long another hub may give none before it is taken for dead.
	deadAfter = 15 * time.Second
	// maxBeatGap is the most that may lie between two looks at the others. Whoever
	// looked away for longer, because it was stopped or the database was away, knows
	// nothing of them.
	maxBeatGap = 3 * beatPause
)

// vigil watches the signs of life of the other hubs, by this one's clock alone. The
// zero value has seen nobody.
type vigil struct {
	last time.Time
	seen map[string]sighting // by boot
}

type sighting struct {
	beat  int64
	since time.Time
}

// gone returns those of the members that have given no sign of life for long.
func (v *vigil) gone(now time.Time, members []catalog.Member) (gone []catalog.Member) {
	before := v.seen
	if now.Sub(v.last) > maxBeatGap {
		before = nil
	}
	v.last, v.seen = now, make(map[string]sighting, len(members))
	for _, m := range members {
		s, known := before[m.Boot]
		if !known || s.beat != m.Beat {
			s = sighting{m.Beat, now}
		}
		v.seen[m.Boot] = s
		if now.Sub(s.since) >= deadAfter {
			gone = append(gone, m)
		}
	}
	return gone
}
