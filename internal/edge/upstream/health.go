package upstream

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"freshet/internal/pause"
)

const (
	// ejectFor is for how long an origin is left alone the first time. It doubles
	// with each failed attempt to come back, and with each ejection less than
	// steadyFor after it came back, up to ejectMax, and varies by a quarter.
	ejectFor  = 2 * time.Second
	ejectMax  = time.Minute
	steadyFor = time.Minute

	// A failure is worth points; pointsToEject in a row take the origin out: three
	// that tell of the origin, or five that may be about what was asked for.
	pointsStrong  = 5
	pointsWeak    = 3
	pointsToEject = 15

	// So do failures of shareLeast paths, if they are as many as the good answers
	// of the same shareWithin.
	shareLeast  = 10
	shareWithin = 20 * time.Second
	// maxPaths bounds the paths that are told apart in that time.
	maxPaths = 1024
)

// failure is what a request that failed says of the origin.
type failure struct {
	points int
	// path stands for what was asked for. Failures of one path count once: it
	// may be the path that is broken. 0: it is the origin, whatever the path.
	path uint64
}

// failureOf weighs the end of a request: reason is not "", status is that of
// the answer if that is the reason.
func failureOf(r *Request, reason Reason, status int) failure {
	if r.probe {
		return failure{points: pointsStrong} // this file must be there
	}
	path := max(seed(withoutQuery(r.URI)), 1)
	switch reason {
	case DNS, Refused, ConnectTimeout, TLS, TLSTimeout:
		return failure{points: pointsStrong} // nothing was asked for yet
	case Status5xx:
		switch status {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return failure{points: pointsStrong, path: path}
		}
		return failure{points: pointsWeak, path: path}
	case FirstByteTimeout, IdleTimeout, Reset, ShortBody, LongBody, BadMessage,
		VerifyMismatch, GenerationConflict, Changed, StoreFull, ClientGone, Stopping, FetchLimit, Loop, Quarantined:
	}
	return failure{points: pointsStrong, path: path}
}

// health is whether an origin is asked. Evidence that it is sick, not one URL
// of it, ejects it for a while; then one request at a time tries whether it is
// back. The zero value is healthy.
type health struct {
	mu     sync.Mutex
	row    row
	recent share

	since  time.Time // of the ejection
	until  time.Time // when it may be tried again; zero: healthy
	back   time.Time // when the last ejection ended
	level  int       // ejections, and failed attempts to come back, in a row
	trying bool      // somebody does
}

// row are the failures since the last good answer.
type row struct {
	points int
	paths  []uint64 // each is worth points: there are few when it is enough
}

// add counts a failure, once for each path.
func (r *row) add(f failure) {
	if f.path != 0 {
		if slices.Contains(r.paths, f.path) {
			return
		}
		r.paths = append(r.paths, f.path)
	}
	r.points += f.points
}

// share are the answers of the last while.
type share struct {
	begun time.Time
	good  int
	paths map[uint64]struct{} // for which there was a failure
}

// turn forgets what is over.
func (s *share) turn(now time.Time) {
	if now.Sub(s.begun) >= shareWithin {
		s.begun, s.good = now, 0
		clear(s.paths)
	}
}

func (s *share) add(path uint64) {
	if s.paths == nil {
		s.paths = make(map[uint64]struct{})
	}
	if len(s.paths) < maxPaths {
		s.paths[path] = struct{}{}
	}
}

func (s *share) has(path uint64) bool {
	_, ok := s.paths[path]
	return ok
}

func (h *health) ejected() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.until.IsZero()
}

// usable reports whether a request may go there; level, for those that are not,
// is how bad it is.
func (h *health) usable(now time.Time) (ok bool, level int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until.IsZero() || !now.Before(h.until) && !h.trying, h.level
}

// claim is called when a request goes there.
func (h *health) claim(now time.Time) {
	h.mu.Lock()
	if !h.until.IsZero() && !now.Before(h.until) {
		h.trying = true
	}
	h.mu.Unlock()
}

// succeeded notes a good answer to a request begun at that time.
func (h *health) succeeded(now, begun time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until.IsZero() {
		h.row.points, h.row.paths = 0, h.row.paths[:0]
		h.recent.turn(now)
		h.recent.good++
		return
	}
	if begun.Before(h.since) {
		return // it was better then
	}
	h.row, h.recent = row{}, share{}
	h.until, h.back, h.trying = time.Time{}, now, false
}

// released is called for a request that shows nothing.
func (h *health) released() {
	h.mu.Lock()
	h.trying = false
	h.mu.Unlock()
}

// failed notes the failure of a request begun at that time.
func (h *health) failed(now, begun time.Time, f failure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until.IsZero() {
		h.blame(now, f)
		return
	}
	if begun.Before(h.since) || now.Before(h.until) {
		return // under way when it was ejected, or asked for want of a better one
	}
	h.trying = false
	if f.path != 0 && (slices.Contains(h.row.paths, f.path) || h.recent.has(f.path)) {
		h.leave(now, 1) // broken before: the next trial may be with another
		return
	}
	h.level++
	h.leave(now, h.level)
}

// blame counts a failure of a healthy origin, and ejects it if that is enough.
func (h *health) blame(now time.Time, f failure) {
	h.row.add(f)
	h.recent.turn(now)
	h.recent.add(f.path)
	failed := len(h.recent.paths)
	if h.row.points < pointsToEject && (failed < shareLeast || failed < h.recent.good) {
		return
	}
	if now.Sub(h.back) > steadyFor {
		h.level = 0
	}
	h.since = now
	h.level++
	h.leave(now, h.level)
}

// leave leaves the origin alone for the time of a level.
func (h *health) leave(now time.Time, level int) {
	d := min(ejectFor<<min(level-1, 10), ejectMax)
	h.until = now.Add(d - d/4 + rand.N(d/2))
}

// Probe asks each origin for a path again and again until ctx ends: who does
// not answer 200 in time is ejected, who does is back at once. The first time
// is within one interval.
func (g *Group) Probe(ctx context.Context, path string, interval time.Duration) {
	var wg sync.WaitGroup
	for _, o := range g.Origins {
		wg.Go(func() {
			for wait := rand.N(interval); pause.For(ctx, wait); wait = interval - interval/8 + rand.N(interval/4+1) {
				o.probe(ctx, path)
			}
		})
	}
	wg.Wait()
}

// maxProbe is how much of a probe's body is read.
const maxProbe = 1 << 20

func (o *Origin) probe(ctx context.Context, path string) {
	r := Request{Method: http.MethodGet, URI: path, Header: http.Header{"User-Agent": {"freshet-probe"}}, probe: true}
	resp, err := o.Do(ctx, r)
	if err != nil {
		return // noted by the origin
	}
	if resp.StatusCode == http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, maxProbe) // an error of the body is noted by the origin
	}
	_ = resp.Body.Close() // read, or not wanted
}
