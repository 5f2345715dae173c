package upstream

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	// failuresToEject in a row take an origin out.
	failuresToEject = 3
	// ejectFor is for how long the first time. It doubles with each failed
	// attempt to come back, up to ejectMax, and varies by a quarter.
	ejectFor = 2 * time.Second
	ejectMax = time.Minute
)

// health is whether an origin is asked. Failures in a row eject it for a while;
// then one request at a time tries whether it is back. The zero value is
// healthy.
type health struct {
	mu       sync.Mutex
	failures int       // in a row
	level    int       // ejections in a row
	until    time.Time // when it may be tried again; zero: healthy
	trying   bool      // somebody does
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

func (h *health) succeeded() {
	h.mu.Lock()
	h.failures, h.level, h.until, h.trying = 0, 0, time.Time{}, false
	h.mu.Unlock()
}

// released is called for a request that shows nothing.
func (h *health) released() {
	h.mu.Lock()
	h.trying = false
	h.mu.Unlock()
}

func (h *health) failed(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	h.failures++
	switch {
	case h.failures < failuresToEject && h.until.IsZero():
		return
	case now.Before(h.until):
		return // one that was under way when it was ejected
	}
	d := min(ejectFor<<min(h.level, 10), ejectMax)
	h.level++
	h.until = now.Add(d - d/4 + rand.N(d/2))
}

// Probe asks each origin for a path again and again until ctx ends: who does
// not answer 200 in time is ejected, who does is back at once. The first time
// is within one interval.
func (g *Group) Probe(ctx context.Context, path string, interval time.Duration) {
	var wg sync.WaitGroup
	for _, o := range g.Origins {
		wg.Go(func() {
			timer := time.NewTimer(rand.N(interval))
			defer timer.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-timer.C:
				}
				o.probe(ctx, path)
				timer.Reset(interval - interval/8 + rand.N(interval/4+1))
			}
		})
	}
	wg.Wait()
}

// maxProbe is how much of a probe's body is read.
const maxProbe = 1 << 20

func (o *Origin) probe(ctx context.Context, path string) {
	r := Request{Method: http.MethodGet, URI: path, Header: http.Header{"User-Agent": {"freshet-probe"}}}
	resp, err := o.Do(ctx, r)
	if err != nil {
		return // noted by the origin
	}
	if resp.StatusCode == http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, maxProbe) // an error of the body is noted by the origin
	} else if b, ok := resp.Body.(*body); ok {
		b.sick = true
	}
	_ = resp.Body.Close() // read, or not wanted
}
