package edge

import (
	"context"
	"net/http"
	"slices"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
	"freshet/internal/roots"
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
		at := e.readers.look(r.RemoteAddr, s, c.path, rp.now())
		entry := at.g.entry(e, c.path)
		t := rp.fromHeld(s, at, entry)
		if t == notAtHand {
			if s.isPlain(rp.now()) || len(r.Header["Authorization"]) > 0 {
				return false // the fetch is this client's own
			}
			rp.fwd = "uri-miss"
			if entry != nil {
				rp.fwd = "stale"
			}
			t = rp.awaitSet(s, at, entry)
		}
		switch t {
		case answered:
			return true
		case likeAnyOther:
			return false
		case lookAgain, notAtHand:
		}
		rp.begun2 = time.Now()
	}
	return false
}

// fromHeld answers with what is held of a root file, if that may be used as it
// is; entry is nil if it is not there.
func (rp *reply) fromHeld(s *set, at place, entry *diskcache.Entry) turn {
	e, c := rp.e, rp.c
	switch {
	case entry == nil && at.middle && at.g.lacks(c.path) != nil:
		rp.outcome, rp.hit = outcomeHit, true
		return rp.shownMissing(s, at.g, at, at.g.lacks(c.path))
	case entry == nil:
		if m, ok := e.absent(c.id, rp.now()); ok {
			rp.outcome, rp.hit = outcomeHit, true
			return rp.shownMissing(s, at.g, at, m)
		}
		return notAtHand
	case at.middle:
		fresh, _ := e.freshnessOf(c, entry, rp.now())
		rp.outcome, rp.hit = outcomeHit, true
		if _, failing := s.failing(rp.now()); fresh.Decide(c.req) != httpcache.Fresh {
			rp.outcome = outcomeStale
			if !failing && at.g == s.current.Load() {
				e.refresh(s, c.path)
			}
		}
		return rp.shown(s, at.g, at, entry, at.g.bound(fresh, rp.now(), c.policy.Fresh))
	}
	return rp.fromShown(s, at, entry)
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

// lacks returns the answer that there is no such root file in this generation;
// nil if that is not known.
func (g *generation) lacks(path string) *memory {
	if g == nil {
		return nil
	}
	return g.missing[path]
}

// shown answers with a file of a generation, decided from where the client stood.
func (rp *reply) shown(s *set, g *generation, from place, entry *diskcache.Entry, fresh httpcache.Freshness) turn {
	if !rp.e.readers.note(rp.r.RemoteAddr, s, g, rp.c.path, from, rp.now()) {
		return lookAgain
	}
	defer rp.touch(s)
	if !rp.fromEntry(entry, fresh) {
		return notAtHand
	}
	return answered
}

// shownMissing answers that a file is not there, which is a part of the
// generation as its files are.
func (rp *reply) shownMissing(s *set, g *generation, from place, m *memory) turn {
	if g != nil && !rp.e.readers.note(rp.r.RemoteAddr, s, g, rp.c.path, from, rp.now()) {
		return lookAgain
	}
	rp.fromMemory(m)
	return answered
}

// slowFile is how long the sending of a file takes, at least, for its end to
// count for its reader as well as its begin.
const slowFile = time.Second

// touch notes the end of a file that took long.
func (rp *reply) touch(s *set) {
	if now := time.Now(); now.Sub(rp.begun) >= slowFile {
		rp.e.readers.touch(rp.r.RemoteAddr, s, now)
	}
}

// fromShown answers with a file of the present generation if it may be used as
// it is.
func (rp *reply) fromShown(s *set, at place, entry *diskcache.Entry) turn {
	e, c := rp.e, rp.c
	fresh, st := e.freshnessOf(c, entry, rp.now())
	fresh = at.g.bound(fresh, rp.now(), c.policy.Fresh)
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
			return notAtHand
		}
		rp.staleBecause(err)
	}
	return rp.shown(s, at.g, at, entry, fresh)
}

// turn is what became of a try to answer.
type turn uint8

const (
	answered turn = iota
	lookAgain
	likeAnyOther
	// notAtHand: what is held cannot be used; nothing was sent.
	notAtHand
)

// awaitSet waits for a candidate and answers with what it brought. old is what is
// stored and may not be used as it is.
func (rp *reply) awaitSet(s *set, at place, old *diskcache.Entry) turn {
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
	rp.begun2 = time.Now()
	if t.err != nil {
		return rp.refused(s, at, t)
	}
	if t.plain {
		return likeAnyOther
	}
	if m := t.missing[c.path]; m != nil {
		return rp.shownMissing(s, t.gen, at, m)
	}
	entry := t.entries[c.path]
	if entry == nil {
		if t.wanted(c.path) {
			return likeAnyOther // the origin says something else about it
		}
		return lookAgain
	}
	rp.stored = rp.fwdStatus != http.StatusNotModified
	fresh, _ := e.freshnessOf(c, entry, rp.now())
	if rp.shown(s, t.gen, at, entry, t.gen.bound(fresh, rp.now(), c.policy.Fresh)) == answered {
		return answered
	}
	return lookAgain
}

// refused answers although there is nothing new: with what is shown now, which
// may be newer than what was when the wait began.
func (rp *reply) refused(s *set, at place, t *candidate) turn {
	g := s.current.Load()
	if old := g.entry(rp.e, rp.c.path); old != nil {
		fresh, st := rp.e.freshnessOf(rp.c, old, rp.now())
		fresh = g.bound(fresh, rp.now(), rp.c.policy.Fresh)
		if rp.usableOn(t.err, fresh, st) {
			rp.staleBecause(t.err)
			rp.hit = false // it went forward, in vain
			if how := rp.shown(s, g, at, old, fresh); how != notAtHand {
				return how
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
