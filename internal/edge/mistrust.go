package edge

import (
	"errors"
	"slices"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
)

const (
	// mistrustFor is how long an origin is avoided for a file of which it sent
	// wrong content.
	mistrustFor = 10 * time.Minute
	// maxTries bounds how many origins are asked for a file until one sends the
	// right content.
	maxTries = 3
)

// avoided are the origins that sent something wrong under this key.
func (e *Edge) avoided(s *site, id diskcache.ID) []string {
	if len(s.origin.Origins) < 2 {
		return nil
	}
	names, _ := e.wrong.get(id, time.Now())
	return names
}

// mistrust notes that what an origin sent is not what its name says. Until it
// is forgotten, others are asked for the same; without others, nothing changes.
func (e *Edge) mistrust(s *site, id diskcache.ID, origin string) {
	s.origin.Blame(origin, upstream.VerifyMismatch)
	if names := e.avoided(s, id); len(s.origin.Origins) > 1 && !slices.Contains(names, origin) {
		e.wrong.put(id, append(slices.Clip(names), origin), time.Now(), mistrustFor)
	}
}

// disbelieved handles wrong content of a flight. It reports whether the flight
// is to ask another origin: nobody has seen anything of it, and there is one.
func (e *Edge) disbelieved(f *flight, err error) (anew bool) {
	mismatch, ok := errors.AsType[*upstream.Error](err)
	if !ok || mismatch.Reason != upstream.VerifyMismatch {
		return false
	}
	s := f.call.site
	e.mistrust(s, f.call.id, f.times.trace.Origin)
	f.tries++
	return f.early && f.tries < min(maxTries, len(s.origin.Origins)) && len(e.avoided(s, f.call.id)) < len(s.origin.Origins)
}
