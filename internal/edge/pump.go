package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
)

// verifyFirst is the length up to which a body whose name tells its digest is
// checked before anyone sees its header.
const verifyFirst = 1 << 20

// begin prepares to store the response. It reports false if the store cannot
// take it.
func (e *Edge) begin(f *flight, client http.Header, resp *http.Response, cc httpcache.Directives, asked, got time.Time, shared bool) bool {
	if resp.ContentLength > e.store.Size()/2 || !shared {
		return false
	}
	w, meta, state, err := e.newEntry(&f.call, client, resp, cc, asked, got)
	if err != nil {
		f.again = errors.Is(err, diskcache.ErrFirstSight)
		return false
	}
	f.meta, f.state = meta, state
	if len(cc.PrivateFields)+len(cc.NoCacheFields) > 0 && !f.call.policy.Ruled() {
		// Fields that are not for others are for the one who asked.
		f.own = httpcache.StoredHeader(resp.Header, httpcache.Directives{})
	}
	f.vary, f.varyKey = meta.Vary, meta.VaryKey
	if len(f.vary) > 0 {
		e.regroup(f, w.ID())
	}
	fl := &fill{w: w, size: resp.ContentLength, keep: f.background, release: w.Retain()}
	fl.idle = func() {
		f.ctx.Cancel(&upstream.Error{Reason: upstream.ClientGone, Err: errors.New("nobody reads along")})
	}
	f.early = f.call.policy.Digest.Kind != layout.NoDigest && fl.size >= 0 && fl.size <= verifyFirst
	f.mu.Lock()
	if !f.early && !f.leaderGone {
		fl.readers, f.seated = 1, true // the leader's place
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

// newEntry begins an entry for a response.
func (e *Edge) newEntry(c *call, client http.Header, resp *http.Response, cc httpcache.Directives, asked, got time.Time) (*diskcache.Writer, *diskcache.Meta, diskcache.State, error) {
	id, meta := newMeta(c, client, resp, cc, got)
	w, err := e.store.Create(id, meta, resp.ContentLength)
	if errors.Is(err, diskcache.ErrFirstSight) {
		return nil, nil, diskcache.State{}, err
	}
	if err != nil {
		e.metrics.fetches.WithLabelValues(string(upstream.StoreFull)).Inc()
		e.log.WarnContext(e.ctx, "answer not stored", slog.Any("error", err))
		return nil, nil, diskcache.State{}, err
	}
	return w, meta, c.state(resp.StatusCode, resp.Header, cc, asked, got), nil
}

// newMeta is what is stored of a response beside its body, and under which ID.
func newMeta(c *call, client http.Header, resp *http.Response, cc httpcache.Directives, got time.Time) (diskcache.ID, *diskcache.Meta) {
	meta := &diskcache.Meta{
		Key: c.site.label() + " " + c.uri, Site: c.site.name, URI: c.uri, Path: c.path,
		Status: resp.StatusCode, Header: httpcache.StoredHeader(resp.Header, cc), Fixed: isFixed(c.policy),
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
	meta.Index = meta.Fixed && c.policy.Class == layout.Index
	meta.Listed = c.policy.Set != (layout.Set{}) && !c.candidate || len(meta.Vary) > 0
	return id, meta
}

// pump moves the body into the store and wakes the readers.
func (e *Edge) pump(f *flight, resp *http.Response) {
	check := newVerifier(f.call.policy)
	early := f.early
	entry, err := e.copyBody(f, resp, check, early)
	if errors.Is(err, errUnstored) {
		f.fill.finish(err)
		e.alone(f, resp)
		return
	}
	unkept := err
	if err == nil && f.fill.isRefused() {
		unkept = errRefused
	}
	if unkept != nil {
		e.metrics.fetches.WithLabelValues(string(upstream.ReasonOf(unkept))).Inc()
		e.log.InfoContext(e.ctx, "body not stored", slog.String("uri", f.call.uri), slog.Any("error", unkept), slog.String("origin", f.times.trace.Origin))
		if e.disbelieved(f, unkept) {
			f.fill.finish(err)
			f.mu.Lock()
			f.fill, f.anew = nil, true
			f.mu.Unlock()
			return
		}
	}
	e.land(f)
	f.kept = entry
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
	defer e.keepPart(f)
	given := false
	defer func() {
		if !given {
			_ = resp.Body.Close() // every byte was read, or the rest is not wanted
		}
	}()
	lender := e.lender(resp.ContentLength)
	buf := lender.get()
	defer lender.put(buf)
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			chunk := (*buf)[:n]
			if _, werr := w.Write(chunk); werr != nil {
				e.log.WarnContext(e.ctx, "answer not stored", slog.Any("error", werr))
				if early {
					given = true
					return nil, e.giveBack(f, resp, bytes.Clone(chunk), err)
				}
				return nil, e.goOn(f, resp, check, *buf, n, err)
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

// giveBack makes the response complete again: nobody has seen its header yet.
// chunk was read after what is stored, readErr came with it.
func (e *Edge) giveBack(f *flight, resp *http.Response, chunk []byte, readErr error) error {
	body := resp.Body
	if readErr != nil {
		body = &endedBody{err: readErr, ReadCloser: resp.Body}
	}
	stored := make([]byte, f.fill.w.Len())
	if _, err := f.fill.w.ReadAt(stored, 0); err != nil && !errors.Is(err, io.EOF) {
		_ = resp.Body.Close() // the store failed twice
		return &upstream.Error{Reason: upstream.StoreFull, Err: err}
	}
	resp.Body = &prefixedBody{io.MultiReader(bytes.NewReader(stored), bytes.NewReader(chunk), body), body}
	return errUnstored
}

// goOn moves the rest of a body that the store refuses to those who read along.
// n bytes in buf were read after what is stored, readErr came with them.
func (e *Edge) goOn(f *flight, resp *http.Response, check *verifier, buf []byte, n int, readErr error) error {
	fl := f.fill
	e.notShared(f)
	e.land(f)
	check.detach(io.NewSectionReader(fl.w, 0, fl.w.Len()))
	defer check.close()
	fl.refuse(&e.spare)
	fl.w.Abort() // who reads keeps the file
	f.times.tryMove(&f.call.site.passes)
	for {
		check.write(buf[:n])
		if err := fl.push(f.ctx, buf[:n]); err != nil {
			return err
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			return readErr
		}
		n, readErr = resp.Body.Read(buf)
	}
	if resp.ContentLength >= 0 && fl.n != resp.ContentLength {
		return &upstream.Error{Reason: upstream.ShortBody, Err: fmt.Errorf("%d of %d bytes", fl.n, resp.ContentLength)}
	}
	if err := check.endStream(); err != nil {
		return &upstream.Error{Reason: upstream.VerifyMismatch, Err: err}
	}
	return nil
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
	if old != nil && c.policy.Set != (layout.Set{}) && !c.candidate && c.site.newsState() != newsFollowing &&
		!httpcache.SameRepresentation(old.Meta().Header, meta.Header) {
		// What belongs to the old content must not be used with the new.
		e.purgeSet(c, entry.ID())
	}
	return entry, nil
}

func (e *Edge) commitOne(c *call, w *diskcache.Writer, meta *diskcache.Meta, state diskcache.State, f *flight) (*diskcache.Entry, error) {
	e.purgeMu.RLock() // a purge sees the flight or the entry
	defer e.purgeMu.RUnlock()
	st, drop := e.store.Since(f.epoch, state, meta)
	if drop {
		return nil, nil //nolint:nilnil // neither stored nor wrong
	}
	if purged := f.isPurged(); purged || st != state {
		// Those who asked before the purge may have it. It is kept for when
		// the origin is away, but it is not fresh.
		if newer := e.store.Peek(w.ID()); newer != nil && newer.State().Validated.After(f.begun) {
			return nil, nil //nolint:nilnil // neither stored nor wrong
		}
		if state = st; purged {
			state.Flags |= flagPurged
		}
	}
	entry, err := w.Commit(state)
	if err != nil {
		return nil, &upstream.Error{Reason: upstream.StoreFull, Err: err}
	}
	if !c.candidate { // its set knows it
		e.names.add(c, entry.ID(), meta.Vary)
	}
	return entry, nil
}
