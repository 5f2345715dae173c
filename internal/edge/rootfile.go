package edge

import (
	"context"
	"net/http"
	"slices"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/roots"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
)

// streamAfter is how long who asks for a root file that is not stored waits for
// the whole set; then he reads along with its fetch, and compares himself.
const streamAfter = 5 * time.Second

// fromSet answers a request for a file of a set, so that whoever reads several
// of them sees one publish. It reports false if the file is to be had like any
// other.
func (rp *reply) fromSet() bool {
	e, c, r := rp.e, rp.c, rp.r
	if !c.site.ruled || c.policy.Set == (layout.Set{}) {
		return false
	}
	s := e.setOf(c.site, c.policy.Set)
	if !roots.IsRoot(c.policy.Set, c.path) {
		return rp.fromMember(s)
	}
	for range maxTurns {
		g, middle := e.readers.look(r.RemoteAddr, s, c.path, rp.now())
		entry := g.entry(e, c.path)
		switch {
		case entry != nil && middle:
			fresh, _ := e.freshnessOf(c, entry, rp.now())
			rp.outcome, rp.hit = outcomeHit, true
			if _, failing := s.failing(rp.now()); fresh.Decide(c.req) != httpcache.Fresh {
				rp.outcome = outcomeStale
				if !failing && g == s.current.Load() {
					e.refresh(s, c.path)
				}
			}
			if rp.shown(s, g, entry, g.bound(fresh, rp.now(), c.policy.Fresh)) {
				return true
			}
		case entry != nil:
			if rp.fromShown(s, g, entry) {
				return true
			}
		default:
			if m, ok := e.absent(c.id, rp.now()); ok {
				rp.outcome, rp.hit = outcomeHit, true
				rp.fromMemory(m)
				return true
			}
		}
		if s.isPlain(rp.now()) || len(r.Header["Authorization"]) > 0 {
			return false // the fetch is this client's own
		}
		rp.fwd = "uri-miss"
		if entry != nil {
			rp.fwd = "stale"
		}
		switch rp.awaitSet(s, entry) {
		case answered:
			return true
		case likeAnyOther:
			return false
		case lookAgain:
		}
		rp.begun2 = time.Now()
	}
	return false
}

// entry returns a root file, nil if it is not stored.
func (g *generation) entry(e *Edge, path string) *diskcache.Entry {
	if g == nil {
		return nil
	}
	id, ok := g.files[path]
	if !ok {
		return nil
	}
	return e.store.Get(id)
}

// shown answers with a file of a generation. It reports false, with nothing
// sent, if it is gone.
func (rp *reply) shown(s *set, g *generation, entry *diskcache.Entry, fresh httpcache.Freshness) bool {
	rp.e.readers.note(rp.r.RemoteAddr, s, g, rp.c.path, rp.now())
	return rp.fromEntry(entry, fresh)
}

// fromShown answers with a file of the present generation if it may be used as
// it is.
func (rp *reply) fromShown(s *set, g *generation, entry *diskcache.Entry) bool {
	e, c := rp.e, rp.c
	fresh, st := e.freshnessOf(c, entry, rp.now())
	fresh = g.bound(fresh, rp.now(), c.policy.Fresh)
	err, failing := s.failing(rp.now())
	switch fresh.Decide(c.req) {
	case httpcache.Fresh:
		rp.outcome, rp.hit = outcomeHit, true
	case httpcache.Stale:
		rp.outcome, rp.hit = outcomeStale, true
		if !failing {
			e.refresh(s, c.path)
		}
	case httpcache.Validate:
		if !failing || !rp.usableOn(err, fresh, st) {
			return false
		}
		rp.staleBecause(err)
	}
	return rp.shown(s, g, entry, fresh)
}

// turn is what became of a wait.
type turn uint8

const (
	answered turn = iota
	lookAgain
	likeAnyOther
)

// awaitSet waits for a candidate and answers with what it brought. old is what is
// stored and may not be used as it is.
func (rp *reply) awaitSet(s *set, old *diskcache.Entry) turn {
	e, c, r := rp.e, rp.c, rp.r
	t := e.refresh(s, c.path)
	leader := t.lead()
	patience := time.NewTimer(streamAfter)
	defer patience.Stop()
	select {
	case <-t.done:
	case <-patience.C:
		if old == nil {
			if f := t.flightOf(c.path); f != nil && rp.settle(f, false) {
				return answered
			}
		}
		select {
		case <-t.done:
		case <-r.Context().Done():
		}
	case <-r.Context().Done():
	}
	select {
	case <-t.done:
	default:
		rp.failed(&upstream.Error{Reason: upstream.ClientGone, Err: context.Cause(r.Context())}, nil)
		return answered
	}
	rp.outcome, rp.collapsed, rp.fwdStatus = outcomeMiss, !leader, t.status[c.path]
	if leader {
		rp.asked = t.times[c.path]
	} else {
		rp.outcome = outcomeJoin
	}
	if t.err != nil {
		return rp.refused(s, t)
	}
	if t.plain {
		return likeAnyOther
	}
	if m := t.missing[c.path]; m != nil {
		rp.fromMemory(m)
		return answered
	}
	entry := t.entries[c.path]
	if entry == nil {
		if t.wanted(c.path) {
			return likeAnyOther // the origin says something else about it
		}
		return lookAgain
	}
	rp.stored = rp.fwdStatus != http.StatusNotModified
	fresh, _ := e.freshnessOf(c, entry, time.Now())
	e.readers.note(r.RemoteAddr, s, t.gen, c.path, time.Now())
	if rp.fromEntry(entry, t.gen.bound(fresh, time.Now(), c.policy.Fresh)) {
		return answered
	}
	return lookAgain
}

// refused answers although there is nothing new: with what is shown now, which
// may be newer than what was when the wait began.
func (rp *reply) refused(s *set, t *candidate) turn {
	g := s.current.Load()
	if old := g.entry(rp.e, rp.c.path); old != nil {
		fresh, st := rp.e.freshnessOf(rp.c, old, time.Now())
		fresh = g.bound(fresh, time.Now(), rp.c.policy.Fresh)
		if rp.usableOn(t.err, fresh, st) {
			rp.staleBecause(t.err)
			rp.hit = false // it went forward, in vain
			if rp.shown(s, g, old, fresh) {
				return answered
			}
		}
	}
	rp.failed(t.err, t.memory)
	return answered
}

// lead reports, to the first who asks, that the candidate is fetched for him.
func (t *candidate) lead() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := !t.led
	t.led = true
	return first
}

// flightOf returns the fetch of one of the files that is under way.
func (t *candidate) flightOf(path string) *flight {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range slices.Backward(t.flights) {
		if f.call.path != path {
			continue
		}
		select {
		case <-f.ready:
			if f.verdict == verdictFill {
				return f
			}
		default:
		}
		return nil
	}
	return nil
}

// wanted reports whether the candidate asked for the file.
func (t *candidate) wanted(path string) bool {
	_, ok := t.status[path]
	return ok
}
