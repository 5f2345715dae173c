package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
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
	// background: there is no leader, the answer is wanted for the store.
	background bool
	ctx        context.Context //nolint:containedctx // the flight outlives every request
	cancel     context.CancelCauseFunc

	ready chan struct{}
	// What follows is written before ready is closed.
	verdict    verdict
	fill       *fill
	meta       *diskcache.Meta
	state      diskcache.State
	entry      *diskcache.Entry
	memory     *memory
	resp       *http.Response
	err        error
	status     int // of the origin, 0 if none
	vary       []string
	varyKey    string
	asked, got time.Time

	mu         sync.Mutex
	leaderGone bool
	purged     bool // a purge came after begun
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
}

const (
	// maxMemory is the longest body of a memory.
	maxMemory = 64 << 10
	// verifyFirst is the length up to which a body whose name tells its digest
	// is checked before anyone sees its header.
	verifyFirst = 1 << 20
	// aloneFor is how long a key is remembered as not to be shared.
	aloneFor = time.Minute
	// failingFor is how long, at most, a stale answer is used without asking a
	// failing origin again.
	failingFor = 5 * time.Second
)

// join returns the flight for the call, and whether the caller is its leader.
//
// Without a leader (background) the answer is for the store alone.
func (e *Edge) join(c *call, r *http.Request, id diskcache.ID, old *diskcache.Entry, background bool) (f *flight, leader bool) {
	e.flightsMu.Lock()
	defer e.flightsMu.Unlock()
	if f := e.flights[id]; f != nil && !f.isPurged() {
		return f, false
	}
	f = &flight{
		call: *c, request: e.fetchHeader(c, r), id: id, old: old, begun: time.Now(),
		background: background, leaderGone: background, ready: make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancelCause(e.ctx)
	e.flights[id] = f
	header := r.Header // the handler does not change it
	e.wg.Go(func() { e.fly(f, header) })
	return f, true
}

func (f *flight) isPurged() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.purged
}

// land takes the flight out of the table: who comes now begins a new one.
func (e *Edge) land(f *flight) {
	e.flightsMu.Lock()
	if e.flights[f.id] == f {
		delete(e.flights, f.id)
	}
	e.flightsMu.Unlock()
}

// fly asks the origin and does what its answer demands.
func (e *Edge) fly(f *flight, client http.Header) {
	settled := false
	defer func() {
		e.land(f)
		if !settled {
			f.cancel(nil)
		}
	}()
	if f.old != nil {
		httpcache.SetValidators(f.request, f.old.Meta().Header)
	}
	asked := time.Now()
	resp, err := f.call.site.origin.Do(f.ctx, upstream.Request{Method: http.MethodGet, URI: f.call.uri, Header: f.request})
	if err != nil {
		e.failed(f, err)
		return
	}
	resp.Body = &flightBody{ReadCloser: resp.Body, cancel: f.cancel}
	f.status = resp.StatusCode
	f.asked, f.got = asked, time.Now()
	settled = e.judge(f, client, resp, f.asked, f.got)
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
	if f.old != nil {
		// The good copy stays, and the origin is left alone for a while.
		pause := failingFor - time.Duration(rand.Int64N(int64(time.Second)))
		e.failing.put(f.id, err, time.Now(), pause)
	}
	close(f.ready)
}

// judge settles what the response means. It reports whether the response was
// given to someone else, who closes it.
func (e *Edge) judge(f *flight, client http.Header, resp *http.Response, asked, got time.Time) (given bool) {
	c := &f.call
	cc := httpcache.ParseCacheControl(resp.Header)
	status := resp.StatusCode
	switch {
	case status == http.StatusNotModified && f.old != nil:
		e.metrics.fetches.WithLabelValues("not-modified").Inc()
		e.confirm(f, resp.Header, cc, asked, got)
		_ = resp.Body.Close() // a 304 has none
		return false
	case status >= 500:
		e.serverError(f, resp, got)
		return false
	case (status == http.StatusNotFound || status == http.StatusGone) && e.missing(f, resp, cc, asked, got):
		return false
	}
	e.metrics.fetches.WithLabelValues("ok").Inc()
	e.failing.drop(f.id)
	e.negatives.drop(c.id)
	storable, shared := c.storable(client, resp, cc, asked, got)
	if storable && e.begin(f, client, resp, cc, asked, got, shared) {
		e.pump(f, resp)
		return true // pump closed or gave away the body
	}
	return e.alone(f, resp)
}

// storable says whether the response may be stored, and whether the requests
// that wait may have it as well.
func (c *call) storable(req http.Header, resp *http.Response, cc httpcache.Directives, asked, got time.Time) (storable, shared bool) {
	if !upstream.Delimited(resp) && c.policy.Digest.Kind == layout.NoDigest {
		return false, false // a cut connection would look like the end
	}
	if c.policy.Ruled() {
		ok := resp.StatusCode == http.StatusOK && !cc.NoStore && !cc.Private && !c.policy.Pass &&
			(len(req["Authorization"]) == 0 || httpcache.AuthorizationStorable(cc))
		return ok, ok
	}
	if !httpcache.Storable(req, c.req, resp.StatusCode, resp.Header, cc) || resp.StatusCode >= 500 {
		return false, false
	}
	if c.personal(req) && !cc.Public {
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
	if cc.StaleAllowed() {
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
	meta.Header = httpcache.Freshen(meta.Header, h, cc)
	if len(h["Cache-Control"]) == 0 {
		cc = httpcache.ParseCacheControl(meta.Header)
	}
	dated := meta.Header
	if len(h["Age"]) > 0 { // StoredHeader drops it, and it counts now
		dated = meta.Header.Clone()
		dated["Age"] = h["Age"]
	}
	st := f.call.state(meta.Status, dated, cc, asked, got)
	f.old.Freshen(&meta)
	e.purgeMu.RLock() // a purge sees the flight or the new state
	if f.isPurged() {
		st.Flags |= flagPurged
	}
	f.old.Mark(func(s *diskcache.State) { *s = st })
	e.purgeMu.RUnlock()
	if err := f.old.Save(); err != nil {
		e.log.WarnContext(f.ctx, "note a validation", slog.Any("error", err))
	}
	e.failing.drop(f.id)
	f.verdict, f.entry = verdictEntry, f.old
	f.vary, f.varyKey = meta.Vary, meta.VaryKey
	if f.call.policy.Ruled() || st.Lifetime > st.InitialAge && st.Flags&flagNoCache == 0 {
		e.solo.drop(f.id)
	} else {
		// Valid now, for the one who asked; others ask for themselves.
		f.verdict = verdictAlone
		e.solo.put(f.id, struct{}{}, got, aloneFor)
	}
	close(f.ready)
}

// serverError ends a flight that the origin answered with 5xx.
func (e *Edge) serverError(f *flight, resp *http.Response, got time.Time) {
	m, err := remember(resp, got)
	cause := fmt.Errorf("origin answered %d", resp.StatusCode)
	if err != nil {
		cause = errors.Join(cause, err)
	}
	f.memory = m
	e.failed(f, &upstream.Error{Reason: upstream.Status5xx, Err: cause})
}

// remember reads a small answer into memory and closes it. A longer body is
// left out.
func remember(resp *http.Response, got time.Time) (*memory, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMemory+1))
	_ = resp.Body.Close() // read to the end, or given up
	header := httpcache.StoredHeader(resp.Header, httpcache.Directives{})
	if err != nil || len(body) > maxMemory {
		body = nil
		delete(header, "Content-Type")
		delete(header, "Content-Encoding")
	}
	delete(header, "Content-Length")
	return &memory{status: resp.StatusCode, header: header, body: body, arrived: got, age: httpcache.InitialAge(resp.Header, got, got)}, err
}

// missing settles a 404 or 410. It reports false if the answer is to be
// treated like any other.
func (e *Edge) missing(f *flight, resp *http.Response, cc httpcache.Directives, asked, got time.Time) bool {
	c := &f.call
	if !c.site.ruled || len(resp.Header["Vary"]) > 0 && !c.policy.Ruled() || cc.NoStore || cc.Private || len(f.request["Authorization"]) > 0 {
		return false
	}
	if resp.ContentLength > maxMemory {
		return false
	}
	m, err := remember(resp, got)
	if err != nil {
		e.failed(f, err)
		return true
	}
	e.metrics.fetches.WithLabelValues("missing").Inc()
	keep := c.policy.Negative
	if lifetime, explicit := httpcache.Lifetime(resp.StatusCode, resp.Header, cc, got); explicit {
		keep = min(keep, max(0, lifetime-httpcache.InitialAge(resp.Header, asked, got)))
	}
	if f.old != nil {
		e.store.Delete(f.old)
	}
	if !f.isPurged() && keep > 0 && !cc.NoCache {
		e.negatives.put(c.id, m, got, keep)
	}
	e.failing.drop(f.id)
	f.verdict, f.memory = verdictMemory, m
	close(f.ready)
	return true
}

// begin prepares to store the response. It reports false if the store cannot
// take it.
func (e *Edge) begin(f *flight, client http.Header, resp *http.Response, cc httpcache.Directives, asked, got time.Time, shared bool) bool {
	if resp.ContentLength > e.store.Size()/2 || !shared {
		return false
	}
	w, meta, state := e.newEntry(&f.call, client, resp, cc, asked, got)
	if w == nil {
		return false
	}
	f.meta, f.state = meta, state
	f.vary, f.varyKey = meta.Vary, meta.VaryKey
	if len(f.vary) > 0 {
		e.regroup(f, w.ID())
	}
	fl := &fill{w: w, size: resp.ContentLength, keep: f.background}
	fl.idle = func() {
		if fl.abandoned() {
			f.cancel(&upstream.Error{Reason: upstream.ClientGone, Err: errors.New("nobody reads along")})
		}
	}
	f.mu.Lock()
	if !f.leaderGone && !f.background {
		fl.readers = 1 // the leader's place
	}
	f.fill = fl
	f.mu.Unlock()
	e.solo.drop(f.id)
	return true
}

// regroup files a flight under the variant that its answer turned out to be:
// those who wait for another one begin a flight of their own.
func (e *Edge) regroup(f *flight, id diskcache.ID) {
	e.names.vary(&f.call, f.vary, id)
	e.flightsMu.Lock()
	defer e.flightsMu.Unlock()
	if e.flights[f.id] != f {
		return
	}
	delete(e.flights, f.id)
	if f.id = id; e.flights[id] == nil {
		e.flights[id] = f
	}
}

// newEntry begins an entry for a response. The writer is nil if the store does
// not take it.
func (e *Edge) newEntry(c *call, client http.Header, resp *http.Response, cc httpcache.Directives, asked, got time.Time) (*diskcache.Writer, *diskcache.Meta, diskcache.State) {
	meta := &diskcache.Meta{
		Key: c.site.label() + " " + c.uri, Site: c.site.name, URI: c.uri, Path: c.path,
		Status: resp.StatusCode, Header: httpcache.StoredHeader(resp.Header, cc),
	}
	id := c.id
	if c.policy.Ruled() {
		delete(meta.Header, "Set-Cookie")
		delete(meta.Header, "Vary")
	} else if meta.Vary, _ = httpcache.VaryFields(resp.Header); len(meta.Vary) > 0 {
		meta.VaryKey = httpcache.VaryKey(meta.Vary, client)
		id = keyID(c.site.name, c.uri, meta.VaryKey)
	}
	if len(meta.Header["Date"]) == 0 { // RFC 9110 §6.6.1
		meta.Header["Date"] = []string{got.UTC().Format(http.TimeFormat)}
	}
	w, err := e.store.Create(id, meta, resp.ContentLength)
	if err != nil {
		e.metrics.fetches.WithLabelValues(string(upstream.StoreFull)).Inc()
		e.log.WarnContext(e.ctx, "answer not stored", slog.Any("error", err))
		return nil, nil, diskcache.State{}
	}
	return w, meta, c.state(resp.StatusCode, resp.Header, cc, asked, got)
}

// alone gives the response to the leader, if he is still there.
func (e *Edge) alone(f *flight, resp *http.Response) (given bool) {
	e.solo.put(f.id, struct{}{}, time.Now(), aloneFor)
	f.mu.Lock()
	gone := f.leaderGone
	if !gone {
		f.resp = resp
	}
	f.mu.Unlock()
	f.verdict = verdictAlone
	e.land(f)
	close(f.ready)
	if gone {
		_ = resp.Body.Close()
	}
	return true
}

// leave is called by a leader who does not wait for the verdict, or does not
// read the fill.
func (f *flight) leave() {
	f.mu.Lock()
	f.leaderGone = true
	resp, fl := f.resp, f.fill
	f.resp = nil
	f.mu.Unlock()
	if resp != nil {
		_ = resp.Body.Close()
	}
	if fl != nil {
		fl.leave()
	}
}

// take is called by the leader to get the response of verdictAlone.
func (f *flight) take() *http.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := f.resp
	f.resp = nil
	return resp
}

// pump moves the body into the store and wakes the readers.
func (e *Edge) pump(f *flight, resp *http.Response) {
	check := newVerifier(f.call.policy.Digest)
	early := check != nil && resp.ContentLength >= 0 && resp.ContentLength <= verifyFirst
	release := f.fill.w.Retain()
	defer release()
	f.verdict = verdictFill
	if !early {
		close(f.ready)
	}
	entry, err := e.copyBody(f, resp, check, early)
	if errors.Is(err, errUnstored) {
		e.alone(f, resp)
		return
	}
	if err != nil {
		e.metrics.fetches.WithLabelValues(string(upstream.ReasonOf(err))).Inc()
		e.log.InfoContext(e.ctx, "body not stored", slog.String("uri", f.call.uri), slog.Any("error", err))
	}
	e.land(f)
	if early {
		f.verdict, f.entry, f.err = verdictEntry, entry, err
		if err != nil {
			f.verdict = verdictError
		}
		defer close(f.ready)
	}
	f.fill.finish(err)
}

// copyBody writes, verifies and commits. entry is nil without an error if the
// body was not to be kept after all.
func (e *Edge) copyBody(f *flight, resp *http.Response, check *verifier, early bool) (*diskcache.Entry, error) {
	w := f.fill.w
	defer w.Abort()
	given := false
	defer func() {
		if !given {
			_ = resp.Body.Close() // every byte was read, or the rest is not wanted
		}
	}()
	buf := e.buffers.get()
	defer e.buffers.put(buf)
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			chunk := (*buf)[:n]
			if _, werr := w.Write(chunk); werr != nil {
				e.log.WarnContext(e.ctx, "answer not stored", slog.Any("error", werr))
				given = true
				return nil, e.giveRest(f, resp, bytes.Clone(chunk), err, early)
			}
			check.write(chunk)
			f.fill.progress(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if f.fill.abandoned() {
			return nil, &upstream.Error{Reason: upstream.ClientGone, Err: errors.New("nobody reads along")}
		}
	}
	if resp.ContentLength >= 0 && w.Len() != resp.ContentLength {
		return nil, &upstream.Error{Reason: upstream.ShortBody, Err: fmt.Errorf("%d of %d bytes", w.Len(), resp.ContentLength)}
	}
	if err := check.end(w); err != nil {
		return nil, &upstream.Error{Reason: upstream.VerifyMismatch, Err: err}
	}
	return e.commit(&f.call, w, f.meta, f.state, f.old, f)
}

// errUnstored says that the response, complete again, is the leader's.
var errUnstored = errors.New("answer not stored")

// giveRest finds a reader for a body that the store refuses to take further.
// chunk was read after what is stored, readErr came with it.
func (e *Edge) giveRest(f *flight, resp *http.Response, chunk []byte, readErr error, early bool) error {
	body := resp.Body
	if readErr != nil {
		body = &endedBody{err: readErr, ReadCloser: resp.Body}
	}
	if early { // nobody has seen the header yet
		stored := make([]byte, f.fill.w.Len())
		if _, err := f.fill.w.ReadAt(stored, 0); err != nil && !errors.Is(err, io.EOF) {
			_ = resp.Body.Close() // the store failed twice
			return &upstream.Error{Reason: upstream.StoreFull, Err: err}
		}
		resp.Body = &prefixedBody{io.MultiReader(bytes.NewReader(stored), bytes.NewReader(chunk), body), body}
		return errUnstored
	}
	e.solo.put(f.id, struct{}{}, time.Now(), aloneFor)
	e.land(f)
	if !f.fill.handOver(chunk, body) {
		_ = resp.Body.Close() // nobody wants the rest
	}
	return errHandedOver
}

// prefixedBody is a body of which a part was read already.
type prefixedBody struct {
	io.Reader
	io.Closer
}

// endedBody is a body whose last read also brought its end.
type endedBody struct {
	io.ReadCloser
	err error
}

func (b *endedBody) Read([]byte) (int, error) { return 0, b.err }

// commit puts a finished entry into the store, unless a purge has overtaken
// it and something newer is there.
func (e *Edge) commit(c *call, w *diskcache.Writer, meta *diskcache.Meta, state diskcache.State, old *diskcache.Entry, f *flight) (*diskcache.Entry, error) {
	entry, err := e.commitOne(c, w, meta, state, f)
	if err != nil || entry == nil {
		return nil, err
	}
	if old != nil && c.policy.Set != (layout.Set{}) && c.site.newsState() != newsFollowing &&
		!httpcache.SameRepresentation(old.Meta().Header, meta.Header) {
		// What belongs to the old content must not be used with the new.
		e.purgeSet(c, entry.ID())
	}
	return entry, nil
}

func (e *Edge) commitOne(c *call, w *diskcache.Writer, meta *diskcache.Meta, state diskcache.State, f *flight) (*diskcache.Entry, error) {
	e.purgeMu.RLock() // a purge sees the flight or the entry
	defer e.purgeMu.RUnlock()
	if f != nil && f.isPurged() {
		// Those who asked before the purge may have it. It is kept for when
		// the origin is away, but it is not fresh.
		if newer := e.store.Peek(w.ID()); newer != nil && newer.State().Validated.After(f.begun) {
			return nil, nil //nolint:nilnil // neither stored nor wrong
		}
		state.Flags |= flagPurged
	}
	entry, err := w.Commit(state)
	if err != nil {
		return nil, &upstream.Error{Reason: upstream.StoreFull, Err: err}
	}
	e.names.add(c, entry.ID(), meta.Vary)
	return entry, nil
}
