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
	// conflictFor is the same for root files that did not belong together, or
	// were older than those held: it will have mended them soon.
	conflictFor = time.Minute
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

// mistrust notes that what an origin sent is wrong: not what its name says, or
// not of one publish. Until it is forgotten, others are asked for the same;
// without others, nothing changes.
func (e *Edge) mistrust(s *site, id diskcache.ID, origin string, reason upstream.Reason) {
	s.origin.Blame(origin, reason)
	d := mistrustFor
	if reason == upstream.GenerationConflict {
		d = conflictFor
	}
	if names := e.avoided(s, id); len(s.origin.Origins) > 1 && !slices.Contains(names, origin) {
		e.wrong.put(id, append(slices.Clip(names), origin), time.Now(), d)
	}
}

// another reports whether there is an origin that is trusted under this key.
func (e *Edge) another(s *site, id diskcache.ID) bool {
	return len(e.avoided(s, id)) < len(s.origin.Origins)
}

// disbelieved handles wrong content of a flight. It reports whether the flight
// is to ask another origin: nobody has seen anything of it, and there is one.
func (e *Edge) disbelieved(f *flight, err error) (anew bool) {
	mismatch, ok := errors.AsType[*upstream.Error](err)
	if !ok || mismatch.Reason != upstream.VerifyMismatch {
		return false
	}
	s := f.call.site
	e.mistrust(s, f.call.id, f.times.trace.Origin, upstream.VerifyMismatch)
	f.tries++
	return f.early && f.tries < min(maxTries, len(s.origin.Origins)) && e.another(s, f.call.id)
}
