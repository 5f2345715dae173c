package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
	"freshet/internal/role"
)

const (
	// aloneFor is how long a key is remembered as not to be shared.
	aloneFor = time.Minute
	// hashedStays is how long metadata named by its content is shown after it
	// was fetched or confirmed although the origin has it no more.
	hashedStays = 7 * 24 * time.Hour
	// failingFor is how long, at most, a stale answer is used without asking a
	// failing origin again.
	failingFor = 5 * time.Second
)

// judge settles what the response means.
func (e *Edge) judge(f *flight, client http.Header, resp *http.Response, asked, got time.Time) {
	c := &f.call
	cc := httpcache.ParseResponse(resp.Header)
	status := resp.StatusCode
	switch {
	case status == http.StatusNotModified && f.old != nil:
		e.metrics.fetches.WithLabelValues("not-modified").Inc()
		f.closeBody() // a 304 has none
		e.confirm(f, resp.Header, cc, asked, got)
		return
	case status >= 500 && !c.keepsError(f, resp.Header, cc), c.site.ruled && upstream.Withholds(resp):
		e.useless(f, resp, cc, got)
		return
	case (status == http.StatusNotFound || status == http.StatusGone) && e.missing(f, resp, cc, asked, got):
		return
	}
	e.metrics.fetches.WithLabelValues("ok").Inc()
	e.answered(f)
	e.negatives.drop(c.id)
	storable, shared := c.storable(client, resp, cc, asked, got)
	if !storable || !e.begin(f, client, resp, cc, asked, got, shared) {
		e.alone(f, resp)
		return
	}
	f.verdict = verdictFill
	switch {
	case f.early:
		f.rest = func() { e.pump(f, resp) }
	case upstream.AtHand(resp.Body, resp.ContentLength): // it is over at once: those who wait are woken once
		f.rest = func() { e.pump(f, resp); close(f.ready) }
	default:
		f.rest = func() { e.pump(f, resp) }
		close(f.ready)
	}
}

// keepsError reports whether a 5xx is stored like any other answer: where HTTP
// alone decides and the origin says how long it is fresh, unless something
// better is stored.
func (c *call) keepsError(f *flight, h http.Header, cc httpcache.Directives) bool {
	if c.site.ruled || f.stale() != nil && f.old.Meta().Status < 500 {
		return false
	}
	_, explicit := httpcache.Lifetime(http.StatusOK, h, cc, time.Time{})
	return explicit
}

// storable says whether the response may be stored, and whether the requests
// that wait may have it as well.
func (c *call) storable(req http.Header, resp *http.Response, cc httpcache.Directives, asked, got time.Time) (storable, shared bool) {
	if !upstream.Delimited(resp) && c.site.ruled && c.policy.Digest.Kind == layout.NoDigest {
		return false, false // a cut connection would look like the end; HTTP alone takes it for one (RFC 9112 §8)
	}
	if c.policy.Ruled() {
		ok := resp.StatusCode == http.StatusOK && !cc.NoStore && !cc.Private && !c.policy.Pass &&
			(len(req["Authorization"]) == 0 || httpcache.AuthorizationStorable(cc))
		return ok, ok
	}
	if !httpcache.Storable(req, c.req, resp.StatusCode, resp.Header, cc) {
		return false, false
	}
	if c.site.ruled && !cc.Public && (c.personal(req) || len(resp.Header["Set-Cookie"]) > 0) {
		return false, false
	}
	st := c.state(resp.StatusCode, resp.Header, cc, asked, got)
	useful := st.Lifetime > st.InitialAge && st.Flags&flagNoCache == 0
	if !useful && !httpcache.SetValidators(make(http.Header), resp.Header) && st.Revalidate == 0 && st.OnError == 0 {
		return false, false
	}
	return true, useful
}

// state is the freshness of a response that just arrived.
func (c *call) state(status int, h http.Header, cc httpcache.Directives, asked, got time.Time) diskcache.State {
	st := diskcache.State{Validated: got, InitialAge: httpcache.InitialAge(h, asked, got)}
	lifetime, explicit := httpcache.Lifetime(status, h, cc, got)
	st.Lifetime = lifetime
	if explicit {
		st.Flags |= flagExplicit
	}
	if cc.NoCache {
		st.Flags |= flagNoCache
	}
	if len(h["Age"]) > 0 || len(h["Cache-Status"]) > 0 {
		st.Flags |= flagViaCache
	}
	if cc.StaleAllowed() && status < 500 {
		st.Revalidate = cc.StaleWhileRevalidate.D
		st.OnError = 24 * time.Hour
		if cc.StaleIfError.Set {
			st.OnError = cc.StaleIfError.D
			st.Flags |= flagErrorSaid
		}
	}
	return st
}

// confirm applies a 304 to the stored response.
func (e *Edge) confirm(f *flight, h http.Header, cc httpcache.Directives, asked, got time.Time) {
	meta := *f.old.Meta()
	unkept := cc.NoStore && !cc.MustUnderstand || cc.Private
	vary, _ := httpcache.VaryFields(h)
	otherVary := len(h["Vary"]) > 0 && !slices.Equal(vary, meta.Vary) && !f.call.policy.Ruled()
	if f.call.site.ruled { // nor is one kept that comes with a body
		delete(h, "Set-Cookie")
	}
	meta.Header = httpcache.Freshen(meta.Header, h, cc)
	cc = httpcache.ParseResponse(meta.Header)
	dated := meta.Header
	if len(h["Age"]) > 0 { // StoredHeader drops it, and it counts now
		dated = meta.Header.Clone()
		dated["Age"] = h["Age"]
	}
	st := f.call.state(meta.Status, dated, cc, asked, got)
	e.purgeMu.RLock() // a purge sees the flight or the new state
	if f.stale() == nil {
		e.purgeMu.RUnlock()
		e.answered(f)
		f.verdict = verdictEntry // of which there is none: everybody begins anew
		e.settled(f)
		return
	}
	st, _ = e.store.Since(f.epoch, st, &meta)
	if f.isPurged() || otherVary { // by what it is found now, it might be for others
		st.Flags |= flagPurged
	}
	if unkept { // valid, for the one who asked, and nothing of it is kept
		meta = *f.old.Meta()
		f.old.Mark(markPurged)
	} else {
		f.old.Freshen(&meta, st)
	}
	e.purgeMu.RUnlock()
	e.answered(f)
	f.verdict, f.entry = verdictEntry, f.old
	f.vary, f.varyKey = meta.Vary, meta.VaryKey
	if !unkept && (f.call.policy.Ruled() || st.Lifetime > st.InitialAge && st.Flags&flagNoCache == 0) {
		e.solo.drop(f.id)
	} else {
		// Valid now, for the one who asked; others ask for themselves.
		f.verdict = verdictAlone
		e.notShared(f)
	}
	e.settled(f)
}

// useless ends a flight that the origin answered with 5xx, or by withholding the
// file.
func (e *Edge) useless(f *flight, resp *http.Response, cc httpcache.Directives, got time.Time) {
	reason, cause := upstream.Status5xx, fmt.Errorf("origin answered %d", resp.StatusCode)
	if upstream.Withholds(resp) {
		reason = upstream.Quarantined
	}
	if resp.StatusCode == http.StatusLoopDetected && resp.Header.Get(role.ReasonHeader) == string(upstream.Loop) {
		f.closeBody() // ours says the same
		e.failed(f, &upstream.Error{Reason: upstream.Loop, Err: cause})
		return
	}
	if f.stale() != nil {
		fresh, st := e.freshnessOf(&f.call, f.old, got)
		if fresh.UsableOnError() && f.call.onStatus(st) { // nobody wants the body
			e.failed(f, &upstream.Error{Reason: reason, Err: cause})
			f.rest = func() { _, _ = remember(f, resp, cc, got) } // to the end, for the next request on the connection
			return
		}
	}
	m, err := remember(f, resp, cc, got)
	if err != nil {
		cause = errors.Join(cause, err)
	}
	f.memory = m
	f.private = !f.call.policy.Ruled() && (cc.Private || cc.NoStore || len(resp.Header["Set-Cookie"]) > 0 || len(f.request["Cookie"]) > 0)
	e.failed(f, &upstream.Error{Reason: reason, Err: cause})
}

// missing settles a 404 or 410. It reports false if the answer is to be
// treated like any other.
func (e *Edge) missing(f *flight, resp *http.Response, cc httpcache.Directives, asked, got time.Time) bool {
	c := &f.call
	if !c.site.ruled || cc.NoStore || cc.Private || len(f.request["Authorization"]) > 0 {
		return false
	}
	if !c.policy.Ruled() && (len(resp.Header["Vary"]) > 0 || len(resp.Header["Set-Cookie"]) > 0 || c.personal(f.request)) {
		return false // others may get something else
	}
	if resp.ContentLength > maxMemory {
		return false
	}
	m, err := remember(f, resp, cc, got)
	if err != nil {
		e.failed(f, err)
		return true
	}
	e.metrics.fetches.WithLabelValues("missing").Inc()
	keep := c.policy.Negative
	if lifetime, explicit := httpcache.Lifetime(resp.StatusCode, resp.Header, cc, got); explicit {
		keep = min(keep, max(0, lifetime-httpcache.InitialAge(resp.Header, asked, got)))
	}
	if c.candidate { // it decides what is shown, and what is remembered
		e.answered(f)
		f.verdict, f.memory = verdictMemory, m
		e.settled(f)
		return true
	}
	if e.outlives(f, got) {
		e.answered(f)
		f.verdict, f.entry = verdictEntry, f.old
		e.settled(f)
		return true
	}
	if f.old != nil {
		e.store.Delete(f.old)
	}
	e.purgeMu.RLock() // a purge sees the flight or what is remembered
	if f.joinable() && keep > 0 && !cc.NoCache {
		e.rememberAbsent(c, m, got, keep)
	}
	e.purgeMu.RUnlock()
	e.answered(f)
	f.verdict, f.memory = verdictMemory, m
	e.settled(f)
	return true
}

// outlives reports whether what is stored is shown although the origin has it
// no more: metadata named by its content, for those who hold the file that
// lists it. It is fresh again then, unless it was purged in that week.
func (e *Edge) outlives(f *flight, now time.Time) bool {
	p := f.call.policy
	old := f.stale()
	if old == nil || !p.Immutable || p.Class != layout.Index || p.Digest.Kind == layout.NoDigest && !p.IsHashed() {
		return false
	}
	return now.Sub(old.State().Validated) < hashedStays || old.State().Flags&flagPurged == 0
}

// failed ends a flight that has no answer.
func (e *Edge) failed(f *flight, err error) {
	f.verdict, f.err = verdictError, err
	e.metrics.fetches.WithLabelValues(string(upstream.ReasonOf(err))).Inc()
	e.log.DebugContext(f.ctx, "fetch failed", slog.String("uri", f.call.uri), slog.Any("error", err))
	if f.old != nil && f.shared && upstream.ReasonOf(err) != upstream.FetchLimit { // the origin was not asked
		// The good copy stays, and the origin is left alone for a while.
		pause := failingFor - time.Duration(rand.Int64N(int64(time.Second)))
		e.failing.put(f.id, err, time.Now(), pause)
	}
	e.settled(f)
}

// answered notes that the origin does not fail.
func (e *Edge) answered(f *flight) {
	if f.shared {
		e.failing.drop(f.id)
	}
}

// notShared notes that nobody is to wait for the answers to this request, if
// it was one that others could have made.
func (e *Edge) notShared(f *flight) {
	if f.shared {
		e.solo.put(f.id, struct{}{}, time.Now(), aloneFor)
	}
}
