package edge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/cancel"
	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
)

// flight is one request to the origin on behalf of all who want the same. No
// client's leaving ends it, nor is any client held by it: it has a context and a
// goroutine of its own (see [crew]).
//
// As soon as the header is there, ready is closed and verdict says what it
// means for those who wait.
type flight struct {
	call    call        // the leader's
	client  http.Header // of the leader's request; nobody changes it
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
	ctx    *cancel.Context

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

	// queued: it waits for its turn to ask, as one of its leader's address.
	queued atomic.Bool

	// Of the goroutine that flies.
	body io.Closer // of the last response, if it was not lent; closed at the end, at the latest
	rest func()    // what is to be done after the header was judged: a body to be moved. May be nil.

	mu         sync.Mutex
	leaderGone bool
	lent       bool    // the response went to the leader, who retires the flight
	seated     bool    // the leader has a place among the readers of the fill
	purged     bool    // a purge came after begun
	budget     *budget // paces the body, may be nil
	sealed     bool    // something came that may be about it: nobody may join any more
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
	if f := e.flights[id]; f != nil && f.joinable() && (background || !f.queued.Load() || !c.site.line.Free(c.source())) {
		return f, false // one that waits only for its leader's turn holds up nobody who would have one
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
		f.call.from = ""
	}
	f.client, f.request = header, e.fetchHeader(c, header)
	f.shared = len(header["Authorization"]) == 0 && !c.personal(header)
	f.budget = budgetOf(r.Context())
	e.flights[id] = f
	e.enliveLocked(f)
	e.launch(f) //nolint:contextcheck // the flight has its own
	return f, !background
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

// fly asks the origin and does what its answer demands. A panic is the end of
// this flight, not of the edge.
func (e *Edge) fly(f *flight) {
	defer e.landed(f)
	defer func() {
		if p := recover(); p != nil {
			e.log.ErrorContext(e.ctx, "a fetch panics", slog.String("uri", f.call.uri), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	for {
		e.ascend(f)
		rest := f.rest
		if rest == nil {
			return
		}
		f.rest = nil
		if rest(); !f.anew {
			return
		}
		f.anew = false
		e.enlive(f)
	}
}

var errBrokeOff = &upstream.Error{Reason: upstream.Stopping, Err: errors.New("the fetch broke off")}

// landed is the end of a flight, however it came: nobody waits for it any more,
// and nothing of the origin is held.
func (e *Edge) landed(f *flight) {
	f.closeBody()
	if f.fill != nil {
		f.fill.finish(errBrokeOff)
	}
	select {
	case <-f.ready:
	default:
		e.failed(f, errBrokeOff)
	}
	e.land(f)
	if f.background || !f.lent {
		f.ctx.Cancel(nil)
	}
	if !f.lent {
		e.retire(f)
	}
	close(f.landed)
}

// enlive gives a flight its context, which ends with the edge or when the answer
// is read, and lets purges know of it.
func (e *Edge) enlive(f *flight) {
	e.flightsMu.Lock()
	defer e.flightsMu.Unlock()
	e.enliveLocked(f)
}

func (e *Edge) enliveLocked(f *flight) {
	f.ctx = cancel.New(e.values)
	if e.ctx.Err() != nil {
		f.ctx.Cancel(context.Cause(e.ctx))
	}
	e.live[f] = struct{}{}
}

// endFlights ends those under way; the context of the edge has ended.
func (e *Edge) endFlights() {
	e.flightsMu.Lock()
	defer e.flightsMu.Unlock()
	for f := range e.live {
		f.ctx.Cancel(context.Cause(e.ctx))
	}
}

// ascend asks an origin, and settles what its answer means. If there is more to
// do, that is in f.rest; if it is done, f.anew says that another origin is to be
// asked.
func (e *Edge) ascend(f *flight) {
	client := f.client
	if f.old != nil {
		httpcache.SetValidators(f.request, f.old.Meta().Header)
	}
	f.askPart(e, client)
	asked := time.Now()
	resp, err := e.askFor(f) //nolint:bodyclose // the flight has it: landed closes it at the latest
	if err == nil && resp.StatusCode == http.StatusNotModified && f.old != nil && (!confirms(resp.Header, f.old.Meta().Header) || f.call.candidate && goesBack(resp.Header, f.old.Meta().Header)) {
		delete(f.request, "If-None-Match")
		delete(f.request, "If-Modified-Since")
		asked = time.Now()
		if resp, err = e.askFor(f); err == nil && resp.StatusCode == http.StatusNotModified { //nolint:bodyclose // as above
			err = &upstream.Error{Reason: upstream.BadMessage, Err: errors.New("304 to a request without conditions")}
		}
	}
	if err == nil && len(f.request["Range"]) > 0 {
		switch e.takePart(f, client, resp, asked) {
		case partTaken:
			return
		case partUnfit:
			e.unsliced.put(f.call.id, struct{}{}, time.Now(), unslicedFor)
			delete(f.request, "Range") // the whole is asked for instead
			asked = time.Now()
			resp, err = e.askFor(f) //nolint:bodyclose // as above
		case partWhole:
		}
	}
	if err != nil {
		e.failed(f, err)
		return
	}
	f.adopt(resp)
	f.status = resp.StatusCode
	f.asked, f.got = asked, time.Now()
	e.judge(f, client, resp, f.asked, f.got)
}

// adopt makes the flight end with the body, which comes within its budget.
func (f *flight) adopt(resp *http.Response) {
	resp.Body = &flightBody{resp.Body, f.ctx}
	if f.budget != nil {
		resp.Body = &pacedBody{resp.Body, f, f.budget}
	}
}

// askFor sends the request of the flight, which has the response until it lends
// it to the leader: what was answered before is closed, and so is this one in
// the end.
func (e *Edge) askFor(f *flight) (*http.Response, error) {
	f.closeBody()
	c := &f.call
	if err := f.turn(); err != nil {
		f.times = asking{}
		return nil, noTurn(err)
	}
	resp, err := e.askNow(f.ctx, &c.site.line, c, upstream.Request{
		Method: http.MethodGet, URI: c.uri, Header: f.request, Interim: f.interim,
		Key: c.among(), Avoid: e.avoided(c.site, c.among()), Hedge: f.shared, Steady: c.candidate, Direct: c.hops > 0,
	}, &f.times)
	if err == nil {
		f.body = resp.Body
	}
	return resp, err
}

// turn waits for a turn on behalf of the leader.
func (f *flight) turn() error {
	line, source := &f.call.site.line, f.call.source()
	if line.TryTake(source) {
		return nil
	}
	f.queued.Store(true)
	defer f.queued.Store(false)
	return line.Take(f.ctx, source) //nolint:wrapcheck // the caller does
}

// closeBody gives up what the origin sent.
func (f *flight) closeBody() {
	if f.body != nil {
		_ = f.body.Close() // read to its end, or not wanted
		f.body = nil
	}
}

// interim takes an interim answer of the origin. h becomes the flight's.
func (f *flight) interim(status int, h http.Header) {
	f.interims.add(status, h) // from now on others read it
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
	ctx *cancel.Context
}

// AtHand is for [upstream.AtHand].
func (b *flightBody) AtHand(n int64) bool { return upstream.AtHand(b.ReadCloser, n) }

// Close implements [io.Closer].
func (b *flightBody) Close() error {
	err := b.ReadCloser.Close()
	b.ctx.Cancel(nil)
	return err
}

// alone gives the response to the leader, if he is still there.
func (e *Edge) alone(f *flight, resp *http.Response) {
	if !f.again {
		e.notShared(f)
	}
	f.mu.Lock()
	gone := f.leaderGone
	if !gone {
		f.resp, f.lent, f.body = resp, true, nil
	}
	f.mu.Unlock()
	f.verdict = verdictAlone
	e.settled(f)
}

// leave is called by a leader in the end, whatever he has done: what he did not
// take of the flight is given up.
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
