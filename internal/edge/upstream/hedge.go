package upstream

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// race is two requests for the same, of which one answer is taken.
type race struct {
	mu    sync.Mutex
	over  bool           // there is an answer
	resp  *http.Response // of the second, if it was first
	trace Trace
}

// race asks o and, if it is silent for a while, second as well. The first
// answer that is no failure is taken, the other request is given up.
func (g *Group) race(ctx context.Context, r *Request, o, second *Origin, after time.Duration, by time.Time) (*http.Response, error) {
	var (
		x             race
		ended         chan struct{} // of the second request, nil if there was none
		firstCtx, cut = context.WithCancelCause(ctx)
		hedgeCtx, off = context.WithCancelCause(ctx)
		hedge         = *r
	)
	hedge.Interim = nil // told by the first, or not at all
	timer := time.AfterFunc(after, func() {
		x.mu.Lock()
		if x.over || !g.pay() {
			x.mu.Unlock()
			return
		}
		ended = make(chan struct{})
		done := ended
		x.mu.Unlock()
		defer close(done)
		g.count("slow")
		second.health.claim(time.Now())
		hedge.Trace = new(Trace)
		resp, err := second.do(hedgeCtx, &hedge, by, off)
		if err != nil {
			return
		}
		x.mu.Lock()
		won := !x.over && !useless(resp)
		if won {
			x.over, x.resp, x.trace = true, resp, *hedge.Trace
		}
		x.mu.Unlock()
		if !won {
			_ = resp.Body.Close() // not wanted
			return
		}
		g.count("slow_won")
		cut(errBeaten)
	})
	begun := time.Now()
	resp, err := o.do(firstCtx, r, by, cut)
	timer.Stop()
	good := err == nil && !useless(resp)
	x.mu.Lock()
	done := ended
	if good && !x.over || done == nil {
		x.over = true // no hedge is begun, or taken, from now on
	}
	x.mu.Unlock()
	if done != nil && !good {
		<-done // it may still bring an answer
	}
	x.mu.Lock()
	x.over = true
	won := x.resp
	x.mu.Unlock()
	if done != nil {
		r.Trace.Tries++
	}
	if won == nil {
		off(errBeaten)
		if done != nil {
			r.Trace.asked = append(r.Trace.asked, second.Name())
		}
		return resp, err
	}
	if err == nil {
		_ = resp.Body.Close() // the other one was faster
	} else {
		o.times.add(time.Since(begun)) // at least so long
	}
	x.trace.Tries = r.Trace.Tries
	*r.Trace = x.trace
	return won, nil
}
