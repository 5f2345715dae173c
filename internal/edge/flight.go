package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
	"freshet/internal/role"
)

// flight is one request to the origin on behalf of all who want the same. It
// lives in a goroutine of its own, so that no client's leaving ends it.
//
// As soon as the header is there, ready is closed and verdict says what it
// means for those who wait.
type flight struct {
	call    call // the leader's
	request http.Header
	id      diskcache.ID // the place in the table of flights
	old     *diskcache.Entry
	begun   time.Time
	epoch   uint64 // of the store's bans, when it began
	// background: there is no leader, the answer is wanted for the store.
	background bool
	// shared: it can be joined and carries no credentials. Only what such a
	// flight learns about the origin is true for others.
	shared bool
	ctx    context.Context //nolint:containedctx // the flight outlives every request
	cancel context.CancelCauseFunc

	ready chan struct{}
	// landed is closed when the flight has ended, with its body.
	landed chan struct{}
	// What follows is written before ready is closed.
	verdict verdict
	fill    *fill
	early   bool // nobody sees the fill, only what becomes of it
	meta    *diskcache.Meta
	own     http.Header // the fields for the leader; nil for those of meta
	state   diskcache.State
	entry   *diskcache.Entry
	memory  *memory
	private bool // the memory is for the leader only
	resp    *http.Response
	err     error
	status  int // of the origin, 0 if none
	vary    []string
	varyKey string
	// again: with verdictAlone, a second request may bring it into the store.
	again bool
	// passOn: with verdictAlone, the leader asks the origin himself.
	passOn     bool
	asked, got time.Time
	times      asking // of the last request
	tries      int    // origins that sent wrong content
	anew       bool   // another one is to be asked

	kept *diskcache.Entry // what became of the fill; written before landed is closed

	interims interims // 1xx that came before

	mu         sync.Mutex
	leaderGone bool
	lent       bool    // the response went to the leader, who retires the flight
	seated     bool    // the leader has a place among the readers of the fill
	purged     bool    // a purge came after begun
	budget     *budget // paces the body, may be nil
	sealed     bool    // a purge came that may be for it: nobody may join any more
}

// verdict is what the header of an answer means for those who wait.
type verdict uint8

const (
	// verdictFill: read along with the fill.
	verdictFill verdict = iota
	// verdictEntry: it is in the store.
	verdictEntry
	// verdictMemory: a small answer that is not stored.
	verdictMemory
	// verdictAlone: not to be shared. The leader gets the answer, everybody
	// else asks for himself.
	verdictAlone
	// verdictError: there is none.
	verdictError
)

// memory is a small answer held in memory: a missing file or an error.
type memory struct {
	status  int
	header  http.Header
	body    []byte
	arrived time.Time
	age     time.Duration
	// until is how long it counts as true, for what is remembered as missing.
	until time.Time
}

// absent returns the answer that a file is not there, if it was given a moment
// ago.
func (e *Edge) absent(id diskcache.ID, now time.Time) (*memory, bool) {
	m, ok := e.negatives.get(id, now)
	return m, ok && now.Before(m.until)
}

// rememberAbsent keeps the answer that a file is not there as true for d, and
// longer for when the origin cannot be asked. purgeMu is held.
func (e *Edge) rememberAbsent(c *call, m *memory, now time.Time, d time.Duration) {
	kept := *m
	kept.until = now.Add(d)
	e.negatives.put(c.id, &kept, now, d+c.policy.AbsentOnError)
}

// weight is about what it takes, in bytes.
func (m *memory) weight() int64 {
	n := 512 + len(m.body)
	for name, values := range m.header {
		n += 64 + len(name)
		for _, value := range values {
			n += 16 + len(value)
		}
	}
	return int64(n)
}

const (
	// maxMemory is the longest body of a memory.
	maxMemory = 64 << 10
	// negativeBytes bounds what all that are remembered take.
	negativeBytes = 16 << 20
	// memoryWithin is how long all who wait may wait for the body of a memory.
	memoryWithin = time.Second
	// verifyFirst is the length up to which a body whose name tells its digest
	// is checked before anyone sees its header.
	verifyFirst = 1 << 20
	// aloneFor is how long a key is remembered as not to be shared.
	aloneFor = time.Minute
	// hashedStays is how long metadata named by its content is shown after it
	// was fetched or confirmed although the origin has it no more.
	hashedStays = 7 * 24 * time.Hour
	// failingFor is how long, at most, a stale answer is used without asking a
	// failing origin again.
	failingFor = 5 * time.Second
)

// join returns the flight for the call, and whether the caller is its leader.
//
// Without a leader (background) the answer is for the store alone.
//
// seen is the state of old that the caller found wanting. If a flight has
// landed since then, there is nothing to fetch: f is nil, and the caller looks
// again.
func (e *Edge) join(c *call, r *http.Request, id diskcache.ID, old *diskcache.Entry, seen diskcache.State, background bool) (f *flight, leader bool) {
	e.flightsMu.Lock()
	defer e.flightsMu.Unlock()
	if f := e.flights[id]; f != nil && f.joinable() {
		return f, false
	}
	if now := e.store.Peek(id); !now.Is(old) || old != nil && old.State() != seen {
		return nil, false
	}
	if _, missing := e.absent(c.id, time.Now()); missing && old == nil && !c.req.NoCache {
		return nil, false
	}
	header := r.Header // the handler does not change it
	f = &flight{call: *c, id: id, old: old, begun: time.Now(), epoch: e.store.Epoch(), background: background, leaderGone: background, ready: make(chan struct{}), landed: make(chan struct{})}
	if background {
		header = anonymous(header)
		f.call.req = httpcache.Directives{} // what this client wishes is for this client
	}
	f.request = e.fetchHeader(c, header, r.RemoteAddr)
	f.shared = len(header["Authorization"]) == 0 && !c.personal(header)
	f.ctx, f.cancel = context.WithCancelCause(e.ctx)
	f.budget = budgetOf(r.Context())
	e.flights[id], e.live[f] = f, struct{}{}
	e.wg.Go(func() { e.fly(f, header) })
	return f, true
}

// anonymous returns the fields of a request without what tells who made it: a
// request in the background is made for all.
func anonymous(h http.Header) http.Header {
	if len(h["Authorization"]) == 0 && len(h["Cookie"]) == 0 {
		return h
	}
	h = maps.Clone(h)
	delete(h, "Authorization")
	delete(h, "Cookie")
	return h
}

// stale returns the stored answer that the flight is to confirm or replace, if
// it may be used meanwhile.
func (f *flight) stale() *diskcache.Entry {
	if f.old == nil || f.old.Dropped() {
		return nil
	}
	return f.old
}

// heldEpoch is that of the oldest flight; see [diskcache.Options].
func (e *Edge) heldEpoch() uint64 {
	epoch := uint64(math.MaxUint64)
	e.flightsMu.Lock()
	defer e.flightsMu.Unlock()
	for f := range e.live {
		epoch = min(epoch, f.epoch)
	}
	return epoch
}

func (f *flight) isPurged() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.purged
}

// joinable reports whether the flight brings something to who comes now.
func (f *flight) joinable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.purged && !f.sealed && (f.fill == nil || !f.fill.isClosing())
}

// land takes the flight out of the table: who comes now begins a new one.
func (e *Edge) land(f *flight) {
	e.flightsMu.Lock()
	if e.flights[f.id] == f {
		delete(e.flights, f.id)
	}
	e.flightsMu.Unlock()
}

// retire ends a flight for good: it has stored, confirmed and remembered what
// it will, and a purge need not know of it any more.
func (e *Edge) retire(f *flight) {
	e.flightsMu.Lock()
	delete(e.live, f)
	e.flightsMu.Unlock()
}

// settled lets those go on who wait. The flight brings nothing more, so who
// comes from now on does not join it.
func (e *Edge) settled(f *flight) {
	e.land(f)
	close(f.ready)
}

// fly asks the origin and does what its answer demands.
func (e *Edge) fly(f *flight, client http.Header) {
	settled := false
	defer func() {
		defer close(f.landed)
		e.land(f)
		if !settled {
			f.cancel(nil)
		}
		if !f.lent {
			e.retire(f)
		}
	}()
	for {
		settled = e.flyOnce(f, client)
		if !f.anew {
			return
		}
		f.begin(e.ctx)
	}
}

// begin prepares to ask an origin, until ctx ends or the answer is read.
func (f *flight) begin(ctx context.Context) {
	f.anew = false
	f.ctx, f.cancel = context.WithCancelCause(ctx)
}

// flyOnce asks an origin. It reports whether the response was given to someone
// else, who closes it. Afterwards f.anew says that another one is to be asked.
func (e *Edge) flyOnce(f *flight, client http.Header) (given bool) {
	if f.old != nil {
		httpcache.SetValidators(f.request, f.old.Meta().Header)
	}
	f.askPart(e, client)
	asked := time.Now()
	resp, err := e.askFor(f)
	if err == nil && resp.StatusCode == http.StatusNotModified && f.old != nil && (!confirms(resp.Header, f.old.Meta().Header) || f.call.candidate && goesBack(resp.Header, f.old.Meta().Header)) {
		_ = resp.Body.Close() // a 304 has none
		delete(f.request, "If-None-Match")
		delete(f.request, "If-Modified-Since")
		asked = time.Now()
		if resp, err = e.askFor(f); err == nil && resp.StatusCode == http.StatusNotModified {
			_ = resp.Body.Close()
			err = &upstream.Error{Reason: upstream.BadMessage, Err: errors.New("304 to a request without conditions")}
		}
	}
	if err == nil && len(f.request["Range"]) > 0 {
		switch e.takePart(f, client, resp, asked) {
		case partTaken:
			return true
		case partUnfit:
			e.unsliced.put(f.call.id, struct{}{}, time.Now(), unslicedFor)
			_ = resp.Body.Close() // the whole is asked for instead
			delete(f.request, "Range")
			asked = time.Now()
			resp, err = e.askFor(f) //nolint:bodyclose // judge closes it, or who it is given to
		case partWhole:
		}
	}
	if err != nil {
		e.failed(f, err)
		return false
	}
	f.adopt(resp)
	f.status = resp.StatusCode
	f.asked, f.got = asked, time.Now()
	return e.judge(f, client, resp, f.asked, f.got)
}

// adopt makes the flight end with the body, which comes within its budget.
func (f *flight) adopt(resp *http.Response) {
	resp.Body = &flightBody{ReadCloser: resp.Body, cancel: f.cancel}
	if f.budget != nil {
		resp.Body = &pacedBody{resp.Body, f, f.budget}
	}
}

// askFor sends the request of the flight.
func (e *Edge) askFor(f *flight) (*http.Response, error) {
	c := &f.call
	return e.ask(f.ctx, c.site, upstream.Request{
		Method: http.MethodGet, URI: c.uri, Header: f.request, Interim: f.interims.add,
		Key: c.id, Avoid: e.avoided(c.site, c.id), Hedge: f.shared, Direct: c.hops > 0,
	}, &f.times)
}

// confirms reports whether a 304 can be about the stored response: it names no
// other entity-tag (RFC 9111 §4.3.4).
func confirms(notModified, stored http.Header) bool {
	a, b := notModified.Get("Etag"), stored.Get("Etag")
	return a == "" || b == "" || httpcache.WeakMatch(a, b)
}

// goesBack reports whether a 304 only says that what the origin has is older: it
// had no entity-tag to compare.
func goesBack(notModified, stored http.Header) bool {
	now, err := http.ParseTime(notModified.Get("Last-Modified"))
	if err != nil || notModified.Get("Etag") != "" && stored.Get("Etag") != "" {
		return false
	}
	was, err := http.ParseTime(stored.Get("Last-Modified"))
	return err == nil && now.Before(was)
}

// flightBody ends its flight's context with the body.
type flightBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *flightBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// failed ends a flight that has no answer.
func (e *Edge) failed(f *flight, err error) {
	f.verdict, f.err = verdictError, err
	e.metrics.fetches.WithLabelValues(string(upstream.ReasonOf(err))).Inc()
	e.log.DebugContext(f.ctx, "fetch failed", slog.String("uri", f.call.uri), slog.Any("error", err))
	if f.old != nil && f.shared {
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

// judge settles what the response means. It reports whether the response was
// given to someone else, who closes it.
func (e *Edge) judge(f *flight, client http.Header, resp *http.Response, asked, got time.Time) (given bool) {
	c := &f.call
	cc := httpcache.ParseResponse(resp.Header)
	status := resp.StatusCode
	switch {
	case status == http.StatusNotModified && f.old != nil:
		e.metrics.fetches.WithLabelValues("not-modified").Inc()
		e.confirm(f, resp.Header, cc, asked, got)
		_ = resp.Body.Close() // a 304 has none
		return false
	case status >= 500 && !c.keepsError(f, resp.Header, cc):
		e.serverError(f, resp, cc, got)
		return false
	case (status == http.StatusNotFound || status == http.StatusGone) && e.missing(f, resp, cc, asked, got):
		return false
	}
	e.metrics.fetches.WithLabelValues("ok").Inc()
	e.answered(f)
	e.negatives.drop(c.id)
	storable, shared := c.storable(client, resp, cc, asked, got)
	if storable && e.begin(f, client, resp, cc, asked, got, shared) {
		e.pump(f, resp)
		return true // pump closed or gave away the body
	}
	return e.alone(f, resp)
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

// serverError ends a flight that the origin answered with 5xx.
func (e *Edge) serverError(f *flight, resp *http.Response, cc httpcache.Directives, got time.Time) {
	cause := fmt.Errorf("origin answered %d", resp.StatusCode)
	if resp.StatusCode == http.StatusLoopDetected && resp.Header.Get(role.ReasonHeader) == string(upstream.Loop) {
		e.failed(f, &upstream.Error{Reason: upstream.Loop, Err: cause})
		_ = resp.Body.Close() // ours says the same
		return
	}
	if f.stale() != nil {
		fresh, st := e.freshnessOf(&f.call, f.old, got)
		if fresh.UsableOnError() && f.call.onStatus(st) { // nobody wants the body
			e.failed(f, &upstream.Error{Reason: upstream.Status5xx, Err: cause})
			_, _ = remember(f, resp, cc, got) // to the end, for the next request on the connection
			return
		}
	}
	m, err := remember(f, resp, cc, got)
	if err != nil {
		cause = errors.Join(cause, err)
	}
	f.memory = m
	f.private = !f.call.policy.Ruled() && (cc.Private || cc.NoStore || len(resp.Header["Set-Cookie"]) > 0 || len(f.request["Cookie"]) > 0)
	e.failed(f, &upstream.Error{Reason: upstream.Status5xx, Err: cause})
}

// errSlowBody ends a flight whose answer's body, which is not much wanted, does
// not come in time.
var errSlowBody = &upstream.Error{Reason: upstream.IdleTimeout, Err: errors.New("the body of an error takes too long")}

// remember reads a small answer into memory and closes it. A body that is
// longer, or not there in time, is left out.
func remember(f *flight, resp *http.Response, cc httpcache.Directives, got time.Time) (*memory, error) {
	late := time.AfterFunc(memoryWithin, func() { f.cancel(errSlowBody) })
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMemory+1))
	slow := !late.Stop()
	_ = resp.Body.Close() // read to the end, or given up
	header := httpcache.StoredHeader(resp.Header, cc)
	if err != nil || len(body) > maxMemory {
		body = nil
		delete(header, "Content-Type")
		delete(header, "Content-Encoding")
	}
	delete(header, "Content-Length")
	if f.call.policy.Ruled() {
		delete(header, "Set-Cookie") // as for what is stored
	}
	if slow {
		err = nil
	}
	return &memory{status: resp.StatusCode, header: header, body: body, arrived: got, age: httpcache.InitialAge(resp.Header, got, got)}, err
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

// alone gives the response to the leader, if he is still there.
func (e *Edge) alone(f *flight, resp *http.Response) (given bool) {
	if !f.again {
		e.notShared(f)
	}
	f.mu.Lock()
	gone := f.leaderGone
	if !gone {
		f.resp, f.lent = resp, true
	}
	f.mu.Unlock()
	f.verdict = verdictAlone
	e.settled(f)
	if gone {
		_ = resp.Body.Close()
	}
	return true
}

// leave is called by a leader who does not wait for the verdict, or does not
// read the fill.
func (e *Edge) leave(f *flight) {
	f.mu.Lock()
	f.leaderGone = true
	resp, fl, seated := f.resp, f.fill, f.seated
	f.resp, f.seated = nil, false
	f.mu.Unlock()
	if resp != nil {
		_ = resp.Body.Close()
		e.retire(f)
	}
	if seated {
		fl.leave()
	}
}

// take is called by the leader to get the response of verdictAlone. If there is
// one, he retires the flight when he is done with it.
func (f *flight) take() *http.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := f.resp
	f.resp = nil
	return resp
}
