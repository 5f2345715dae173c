package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// Group are the origins of a site: servers with the same content. Origins must
// not be empty; the fields are not changed after the first use. It is safe for
// concurrent use.
type Group struct {
	Origins []*Origin
	// KeepStatus passes a 5xx on without asking another origin.
	KeepStatus bool
	// HedgeAfter is when a second origin is asked while the first is silent.
	// Zero: when the first is slower than 99 of 100 of its last answers.
	// Negative: never.
	HedgeAfter time.Duration

	second func(why string) // counts, may be nil
	// credit is what hedges are paid with, in hedgePrices.
	credit atomic.Int64
}

const (
	// hedgePrice is how many requests pay for one hedge: they are at most 5 %
	// more.
	hedgePrice = 20
	// maxCredit bounds what is saved up: 10 hedges.
	maxCredit = 10 * hedgePrice
	// hedgeFloor is the least time before a hedge: what is faster than this needs
	// no help.
	hedgeFloor = 10 * time.Millisecond
	// firstShare is the part of the time for the header that the first of several
	// origins has.
	firstShare = 2.0 / 3
)

// Main is the origin that stands for the site: the first that is no shield.
func (g *Group) Main() *Origin {
	for _, o := range g.Origins {
		if o.Role != Shield {
			return o
		}
	}
	return g.Origins[0]
}

// HasShield reports whether requests may go to another cache of ours.
func (g *Group) HasShield() bool {
	return slices.ContainsFunc(g.Origins, func(o *Origin) bool { return o.Role == Shield })
}

// Serves reports whether u is on one of the origins.
func (g *Group) Serves(u *url.URL) bool {
	return slices.ContainsFunc(g.Origins, func(o *Origin) bool { return o.Base.Host == u.Host })
}

// Close closes idle connections.
func (g *Group) Close() {
	for _, o := range g.Origins {
		if o.Client != nil {
			o.Client.CloseIdle()
		}
	}
}

// Do asks an origin, as [Origin.Do] does, chosen by the request's key among
// those that are well; if none is, the least bad one.
//
// A GET or HEAD without a body is sent to one more origin if the first gave no
// answer or, unless KeepStatus, one that is of no use: a 5xx, or that the file is
// in quarantine there. If the second fails too, the first answer is returned.
func (g *Group) Do(ctx context.Context, r Request) (*http.Response, error) {
	if r.Trace == nil {
		r.Trace = new(Trace)
	}
	*r.Trace = Trace{}
	if len(g.Origins) == 1 {
		o := g.Origins[0]
		now := time.Now()
		o.health.claim(now)
		return o.do(ctx, &r, o.headBy(now), nil)
	}
	now := time.Now()
	order := g.order(&r, now)
	safe := r.Body == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) && len(order) > 1
	var last time.Time // when there must be an answer
	if limit := order[0].o.FirstByte; limit > 0 {
		last = now.Add(limit)
	}
	by := last
	if safe && !last.IsZero() {
		by = now.Add(time.Duration(firstShare * float64(last.Sub(now))))
	}
	first, err := g.ask(ctx, &r, order, by, safe)
	if !safe || err == nil && (g.KeepStatus || !useless(first)) || err != nil && !elsewhere(err) || ctx.Err() != nil {
		return first, err
	}
	next := slices.IndexFunc(order, func(c choice) bool {
		return c.o.Name() != r.Trace.Origin && !slices.Contains(r.Trace.asked, c.o.Name())
	})
	if next < 0 {
		return first, err
	}
	g.count("failed")
	order[next].o.health.claim(time.Now())
	before := *r.Trace
	resp, err2 := order[next].o.do(ctx, &r, last, nil)
	switch {
	case err2 == nil && (err != nil || !useless(resp)):
		if first != nil {
			_ = first.Body.Close() // there is a better one
		}
		return resp, nil
	case err2 == nil:
		_ = resp.Body.Close() // no better than the first
	}
	before.Tries = r.Trace.Tries
	*r.Trace = before
	return first, err
}

// elsewhere reports whether another origin might do better.
func elsewhere(err error) bool {
	switch ReasonOf(err) {
	case DNS, Refused, ConnectTimeout, TLS, TLSTimeout, FirstByteTimeout, Reset, BadMessage, Loop:
		return true
	case IdleTimeout, ShortBody, LongBody, Status5xx, VerifyMismatch, GenerationConflict, Changed, StoreFull, ClientGone, Stopping, FetchLimit, Quarantined:
	}
	return false
}

func (g *Group) count(why string) {
	if g.second != nil {
		g.second(why)
	}
}

// ask asks the first of the order, and the second too if that takes long.
func (g *Group) ask(ctx context.Context, r *Request, order []choice, by time.Time, safe bool) (*http.Response, error) {
	o := order[0].o
	o.health.claim(time.Now())
	if !safe || !r.Hedge || r.Method != http.MethodGet || g.HedgeAfter < 0 || order[1].rank&(rankEjected|rankAvoided) != 0 {
		return o.do(ctx, r, by, nil)
	}
	if g.credit.Load() < maxCredit {
		g.credit.Add(1)
	}
	after := g.HedgeAfter
	if after == 0 {
		if after = o.times.high(); after == 0 {
			return o.do(ctx, r, by, nil)
		}
		after = max(after+after/8, hedgeFloor) // well slower, not as slow as
	}
	return g.race(ctx, r, o, order[1].o, after, by)
}

// pay takes the price of a hedge, if there is enough.
func (g *Group) pay() bool {
	if g.credit.Add(-hedgePrice) >= 0 {
		return true
	}
	g.credit.Add(hedgePrice)
	return false
}

var errBeaten = &Error{ClientGone, errors.New("another origin was faster")}

// Blame notes that what the named origin sent was wrong.
func (g *Group) Blame(name string, reason Reason) {
	for _, o := range g.Origins {
		if o.Name() == name {
			o.Metrics.failed(reason)
		}
	}
}
