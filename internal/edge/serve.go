package edge

import (
	"context"
	"net/http"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
)

// ServeHTTP answers one request from the store or the origin.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rp := reply{e: e, w: w, r: r, begun: time.Now()}
	defer rp.done()
	// The origin does not see what is for this connection: it is no part of what
	// the answer depends on, nor of what it is stored under.
	httpcache.RemoveNamed(r.Header)
	s := e.site(r.Host)
	if s == nil {
		rp.refuse(http.StatusMisdirectedRequest, "unknown_host", "no site has this host name")
		return
	}
	c, ok := s.target(r)
	if !ok {
		rp.refuse(http.StatusBadRequest, "bad_path", "the path is ambiguous, or the query is none")
		return
	}
	rp.c = &c
	var looped bool
	if c.hops, looped = s.hops(r.Header); looped || c.hops > maxHops {
		rp.refuse(http.StatusLoopDetected, string(upstream.Loop), "the request came through here before")
		return
	}
	switch {
	case r.Method == methodPurge:
		rp.purgeMethod(s) //nolint:contextcheck // as below
	case r.Method == http.MethodConnect:
		rp.refuse(http.StatusMethodNotAllowed, "bad_method", "this is no tunnel")
	case lastHop(r):
		rp.answerHere()
	case r.Method != http.MethodGet && r.Method != http.MethodHead, r.ContentLength != 0,
		c.policy.Pass, len(r.Header["If-Match"]) > 0, len(r.Header["If-Unmodified-Since"]) > 0:
		// If-Match and If-Unmodified-Since are for the origin (RFC 9111 §4.3.2).
		rp.fwd = "method"
		if r.Method == http.MethodGet || c.head {
			rp.fwd = "bypass"
		}
		rp.pass() //nolint:contextcheck // the reply has the request, and it the context
	default:
		if !rp.fromSet() { //nolint:contextcheck // as above
			rp.serve() //nolint:contextcheck // as above
		}
	}
}

// maxTurns bounds how often a request begins anew: because it turned out to
// want another variant than those it waited with, or an entry vanished.
const maxTurns = 4

// serve answers a GET or HEAD request that may be answered from the store.
func (rp *reply) serve() {
	e, c, r := rp.e, rp.c, rp.r
	for range maxTurns {
		id := e.names.variant(c, r.Header)
		entry := e.lookup(c, id, r.Header)
		var seen diskcache.State
		if entry != nil {
			var done bool
			if seen, done = rp.fromStore(id, entry); done {
				return
			}
		}
		if entry == nil {
			if m, ok := e.absent(c.id, rp.begun); ok && !c.req.NoCache {
				rp.outcome, rp.hit = outcomeHit, true
				rp.fromMemory(m)
				return
			}
		}
		if c.req.OnlyIfCached { // RFC 9111 §5.2.1.7
			rp.refuse(http.StatusGatewayTimeout, "only_if_cached", "not in the cache")
			return
		}
		rp.fwd = "uri-miss"
		if entry != nil {
			rp.fwd = "stale"
		}
		if _, alone := e.solo.get(id, rp.begun); alone || c.lonely() || len(r.Header["Authorization"]) > 0 || c.req.NoStore || c.personal(r.Header) {
			rp.alone(id, entry)
			return
		}
		if c.head && entry == nil {
			rp.pass()
			return
		}
		f, leader := e.join(c, r, id, entry, seen, false)
		if f != nil && rp.settle(f, leader) {
			return
		}
		rp.begun2 = time.Now()
	}
	rp.pass()
}

// lonely reports whether a request neither waits for others nor has others wait
// for it: two edges that are each other's shield would each wait for the other.
func (c *call) lonely() bool {
	return c.hops > maxSharedHops || c.hops > 0 && c.site.origin.HasShield()
}

// lookup returns the stored response for the request, nil if there is none.
func (e *Edge) lookup(c *call, id diskcache.ID, h http.Header) *diskcache.Entry {
	entry := e.store.Get(id)
	if entry == nil || c.policy.Ruled() {
		return entry
	}
	if meta := entry.Meta(); len(meta.Vary) > 0 && httpcache.VaryKey(meta.Vary, h) != meta.VaryKey {
		return nil
	}
	return entry
}

// freshnessOf says how a stored response stands now.
func (e *Edge) freshnessOf(c *call, entry *diskcache.Entry, now time.Time) (httpcache.Freshness, diskcache.State) {
	if !isFixed(c.policy) {
		e.purgeMu.RLock()
		defer e.purgeMu.RUnlock()
	}
	st := entry.State()
	return c.freshness(st, httpcache.Freshness{Age: st.Age(now)}), st
}

// fromStore answers with a stored response if it may be used as it is. If not,
// it returns the state by which it judged.
func (rp *reply) fromStore(id diskcache.ID, entry *diskcache.Entry) (diskcache.State, bool) {
	e, c := rp.e, rp.c
	fresh, st := e.freshnessOf(c, entry, rp.now())
	switch fresh.Decide(c.req) {
	case httpcache.Fresh:
		rp.outcome, rp.hit = outcomeHit, true
	case httpcache.Stale:
		rp.outcome, rp.hit = outcomeStale, true
		if _, failing := e.failing.get(id, rp.now()); !failing {
			e.join(c, rp.r, id, entry, st, true)
		}
	case httpcache.Validate:
		err, failing := e.failing.get(id, rp.now())
		if !failing || !rp.usableOn(err, fresh, st) {
			return st, false
		}
		rp.staleBecause(err)
	}
	return st, rp.fromEntry(entry, fresh)
}

// usableOn reports whether a stale response may be used because of err.
func (rp *reply) usableOn(err error, fresh httpcache.Freshness, st diskcache.State) bool {
	return fresh.UsableOnError() && (upstream.ReasonOf(err) != upstream.Status5xx || rp.c.onStatus(st))
}

// staleBecause notes that a stale response is used because of err.
func (rp *reply) staleBecause(err error) {
	rp.outcome, rp.hit = outcomeStale, true
	rp.detail = upstream.ReasonOf(err)
}

// settle waits for a flight, unless the request has led it, and answers with
// what it brought. It reports false if the request must begin anew.
func (rp *reply) settle(f *flight, leader bool) bool {
	r := rp.r
	if leader {
		defer rp.e.leave(f)
	}
	if !rp.await(f) {
		rp.failed(&upstream.Error{Reason: upstream.ClientGone, Err: context.Cause(r.Context())}, nil)
		return true
	}
	rp.outcome, rp.collapsed, rp.fwdStatus = outcomeMiss, !leader, f.status
	if leader {
		rp.asked = &f.times
	}
	if !leader {
		rp.outcome = outcomeJoin
		if len(f.vary) > 0 && httpcache.VaryKey(f.vary, r.Header) != f.varyKey {
			return false // another variant (RFC 9111 §4.1)
		}
	}
	switch f.verdict {
	case verdictFill:
		if !leader && rp.farAhead(f) {
			rp.collapsed = false
			rp.pass()
			return true
		}
		if !leader {
			if !f.fill.join() {
				return false // it is over: look again
			}
			defer f.fill.leave()
		}
		rp.stored = true
		rp.fromFill(f, leader)
		return true
	case verdictEntry:
		if f.entry == nil {
			return false
		}
		rp.stored = f.status == http.StatusOK
		return rp.fromLanded(f.entry)
	case verdictMemory:
		rp.fromMemory(f.memory)
	case verdictAlone:
		rp.outcome = outcomePass
		if !leader && f.again {
			return false // asked for twice now: it may be stored
		}
		if !leader {
			rp.alone(f.id, f.old)
			return true
		}
		return rp.leaderAlone(f)
	case verdictError:
		if !leader && upstream.ReasonOf(f.err) == upstream.FetchLimit && rp.c.site.line.Free(rp.c.source()) {
			return false // it is the leader's address that has its share
		}
		rp.noAnswer(f, leader)
	}
	return true
}

// fromLanded answers with the entry that a flight brought or confirmed. If it
// was replaced meanwhile by the same content, that will do.
func (rp *reply) fromLanded(entry *diskcache.Entry) bool {
	fresh, _ := rp.e.freshnessOf(rp.c, entry, rp.now())
	if rp.fromEntry(entry, fresh) {
		return true
	}
	current := rp.e.store.Peek(entry.ID())
	return current != nil && !current.Is(entry) &&
		httpcache.SameRepresentation(current.Meta().Header, entry.Meta().Header) && rp.fromEntry(current, fresh)
}

// leaderAlone answers with what is for the leader of a flight only.
func (rp *reply) leaderAlone(f *flight) bool {
	if f.entry != nil {
		rp.outcome = outcomeMiss
		return rp.fromLanded(f.entry)
	}
	if f.passOn {
		rp.pass()
		return true
	}
	resp := f.take()
	if resp == nil {
		return false
	}
	defer rp.e.retire(f)
	defer func() { _ = resp.Body.Close() }() // read to its end, or cut
	if len(rp.r.Header["Range"]) > 0 && resp.StatusCode == http.StatusOK {
		_ = resp.Body.Close() // the whole is not what was asked for
		rp.pass()
		return true
	}
	if err := f.times.move(rp.r.Context(), &rp.c.site.passes); err != nil {
		rp.failed(err, nil)
		return true
	}
	rp.fromOrigin(f, resp)
	return true
}

// noAnswer answers in the place of an origin that did not: with what is stored,
// its own error, or ours.
func (rp *reply) noAnswer(f *flight, leader bool) {
	if f.stale() != nil {
		fresh, st := rp.e.freshnessOf(rp.c, f.old, rp.now())
		if rp.usableOn(f.err, fresh, st) {
			rp.staleBecause(f.err)
			rp.hit = false // it went forward, in vain
			if rp.fromEntry(f.old, fresh) {
				return
			}
		}
	}
	if m, ok := rp.e.negatives.get(rp.c.id, rp.now()); ok && f.shared && f.old == nil && mayBeTold(f.err) {
		rp.staleBecause(f.err)
		rp.hit = false
		rp.fromMemory(m)
		return
	}
	m := f.memory
	if f.private && !leader {
		m = nil
	}
	rp.failed(f.err, m)
}

// mayBeTold reports whether what was true a while ago may be told because of
// err: the origin could not be asked, or fails.
func mayBeTold(err error) bool {
	switch upstream.ReasonOf(err) {
	case upstream.ClientGone, upstream.Stopping, upstream.VerifyMismatch, upstream.StoreFull:
		return false
	default:
		return true
	}
}

// alone asks the origin for this request only.
func (rp *reply) alone(id diskcache.ID, old *diskcache.Entry) {
	e, c, r := rp.e, rp.c, rp.r
	if old == nil && (c.head || wantsOwn(r.Header)) {
		rp.pass()
		return
	}
	f := e.flyAlone(c, r, id, old)
	if !rp.settle(f, true) {
		rp.pass()
	}
}

// wantsOwn reports whether a request asks for less than the whole.
func wantsOwn(h http.Header) bool {
	return len(h["Range"]) > 0 || len(h["If-None-Match"]) > 0 || len(h["If-Modified-Since"]) > 0
}
