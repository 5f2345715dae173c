package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
)

// assembly is a stored file of which slices are missing, while somebody reads it
// or fetches of it. Every slice is fetched by one run, whoever wants it.
type assembly struct {
	e       *Edge
	p       *diskcache.Partial
	entry   *diskcache.Entry
	header  http.Header // stored
	ifRange string      // of a request for more
	refs    int         // under assembliesMu

	mu      sync.Mutex
	runs    map[int64]*run // by slice, of those that are coming
	readers int
}

// run is one request to the origin for slices that follow each other. It lives
// in a goroutine of its own, so that no client's leaving ends it; but when nobody
// reads of the file any more, it ends soon.
type run struct {
	of *assembly
	// first is its first slice, end the one behind its last.
	first, end int64

	// Under of.mu.
	wake chan struct{} // closed at the next slice; nil if nobody waits
	done bool
	err  error
}

// start is the run's first byte.
func (r *run) start() int64 { return r.first * r.of.p.SliceSize() }

// length is how many bytes the run has.
func (r *run) length() int64 {
	return min(r.end*r.of.p.SliceSize(), r.of.p.Size()) - r.start()
}

// assemble returns what there is of a partial entry. The caller releases it.
func (e *Edge) assemble(c *call, entry *diskcache.Entry) (*assembly, error) {
	p, err := e.store.Partial(entry)
	if err != nil {
		return nil, err
	}
	e.assembliesMu.Lock()
	a := e.assemblies[p]
	if a == nil {
		defer e.assembliesMu.Unlock()
		a = e.newAssembly(c, p, entry)
		e.assemblies[p] = a
		return a, nil
	}
	a.refs++
	e.assembliesMu.Unlock()
	p.Release() // the assembly has it
	return a, nil
}

// newAssembly takes p over.
func (e *Edge) newAssembly(c *call, p *diskcache.Partial, entry *diskcache.Entry) *assembly {
	meta := entry.Meta()
	return &assembly{e: e, p: p, entry: entry, header: meta.Header, ifRange: ifRange(c, meta.Header), refs: 1, runs: make(map[int64]*run)}
}

func (a *assembly) hold() {
	a.e.assembliesMu.Lock()
	a.refs++
	a.e.assembliesMu.Unlock()
}

func (a *assembly) release() {
	a.e.assembliesMu.Lock()
	a.refs--
	last := a.refs == 0
	if last {
		delete(a.e.assemblies, a.p)
	}
	a.e.assembliesMu.Unlock()
	if last {
		a.p.Release()
	}
}

// read adds a reader, who calls unread in the end.
func (a *assembly) read() {
	a.mu.Lock()
	a.readers++
	a.mu.Unlock()
}

func (a *assembly) unread() {
	a.mu.Lock()
	a.readers--
	a.mu.Unlock()
}

func (a *assembly) isRead() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.readers > 0
}

// first makes a run of the whole slices of a part. It has the caller's place in
// the assembly.
func (a *assembly) first(part httpcache.Range) *run {
	size := a.p.SliceSize()
	r := &run{of: a, first: (part.Start + size - 1) / size, end: (part.Start + part.Length) / size}
	if part.Start+part.Length == a.p.Size() {
		r.end = a.p.Slices()
	}
	r.end = max(r.first, r.end)
	a.mu.Lock()
	for i := r.first; i < r.end; i++ {
		a.runs[i] = r
	}
	a.mu.Unlock()
	return r
}

// claim makes sure that the slices that come next of the n bytes at off are
// there or coming, and returns the run that brings the one at off: nil if it is
// there.
func (a *assembly) claim(c *call, client http.Header, off, n int64) *run {
	size := a.p.SliceSize()
	i, last := off/size, (off+n-1)/size
	most := max(1, runLength/size)
	if n > runLength {
		most = max(1, wholeRun/size)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := i; s <= min(last, i+max(1, readAhead/size)); s++ {
		if a.runs[s] != nil || a.p.Has(s) {
			continue
		}
		r := &run{of: a, first: s, end: s}
		for ; r.end <= last && r.end-s < most && a.runs[r.end] == nil && !a.p.Has(r.end); r.end++ {
			a.runs[r.end] = r
		}
		a.hold()
		a.e.wg.Go(func() { a.e.runSlices(r, c, client) })
		s = r.end
	}
	return a.runs[i]
}

// await waits until the slice with the first of n bytes at off is there.
func (a *assembly) await(done <-chan struct{}, c *call, client http.Header, off, n int64) error {
	r := a.claim(c, client, off, n)
	for r != nil {
		a.mu.Lock()
		if a.p.Has(off / a.p.SliceSize()) {
			a.mu.Unlock()
			return nil
		}
		if r.done {
			err := r.err
			a.mu.Unlock()
			if err != nil {
				return err
			}
			r = a.claim(c, client, off, n) // it ended before, for want of readers
			continue
		}
		if r.wake == nil {
			r.wake = make(chan struct{})
		}
		wake := r.wake
		a.mu.Unlock()
		select {
		case <-wake:
		case <-done:
			return &upstream.Error{Reason: upstream.ClientGone, Err: io.ErrClosedPipe}
		}
	}
	return nil
}

func (r *run) wakeLocked() {
	if r.wake != nil {
		close(r.wake)
		r.wake = nil
	}
}

// runSlices fetches what a run is for.
func (e *Edge) runSlices(r *run, c *call, client http.Header) {
	a := r.of
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	err := a.p.Reserve(r.first) // before anything is asked for
	if err == nil {
		a.p.Give(r.first)
		var resp *http.Response
		if resp, err = a.fetch(ctx, c, client, r.start(), r.length()); err == nil {
			err = a.take(r, resp.Body, 0)
			_ = resp.Body.Close() // read to its end, or broken
		}
	} else {
		err = &upstream.Error{Reason: upstream.StoreFull, Err: err}
	}
	e.endRun(r, err)
}

// fetch asks for n bytes from off on of the very file that the assembly is of.
func (a *assembly) fetch(ctx context.Context, c *call, client http.Header, off, n int64) (*http.Response, error) {
	e := a.e
	h := e.fetchHeader(c, anonymous(client))
	want := httpcache.Range{Start: off, Length: n}
	h["Range"] = []string{"bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10)}
	h["If-Range"] = []string{a.ifRange}
	resp, err := e.ask(ctx, &c.site.line, c, upstream.Request{
		Method: http.MethodGet, URI: c.uri, Header: h, Key: c.id, Avoid: e.avoided(c.site, c.id), Direct: c.hops > 0,
	}, new(asking))
	if err != nil {
		return nil, err
	}
	good := false
	defer func() {
		if !good {
			_ = resp.Body.Close() // of no use
		}
	}()
	if err = a.judge(resp, want); err != nil {
		return nil, err
	}
	good = true
	e.metrics.fetches.WithLabelValues("ok").Inc()
	return resp, nil
}

// judge says whether a response has just the part that was asked for, of the
// same file.
func (a *assembly) judge(resp *http.Response, want httpcache.Range) error {
	if upstream.Withholds(resp) {
		return &upstream.Error{Reason: upstream.Quarantined, Err: fmt.Errorf("origin answered %d", resp.StatusCode)}
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK, http.StatusNotFound, http.StatusGone, http.StatusRequestedRangeNotSatisfiable:
		return errChanged
	default:
		if resp.StatusCode >= 500 {
			return &upstream.Error{Reason: upstream.Status5xx, Err: fmt.Errorf("origin answered %d", resp.StatusCode)}
		}
		return errNoPart
	}
	part, size, ok := httpcache.ParseContentRange(resp.Header.Get("Content-Range"))
	same := resp.Header.Clone()
	same["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	switch {
	case !ok || size != a.p.Size() || !httpcache.SameRepresentation(same, a.header):
		return errChanged
	case part != want || resp.ContentLength != want.Length:
		return errNoPart
	}
	return nil
}

// unreadSlices is how many slices a run goes on with when nobody reads.
const unreadSlices = 1

// take writes a run's slices, which come behind skip other bytes. If nobody
// reads any more, what it has not begun is left to who wants it.
func (a *assembly) take(r *run, body io.Reader, skip int64) error {
	buf := a.e.buffers.get()
	defer a.e.buffers.put(buf)
	if r.first == r.end {
		return nil
	}
	for skip > 0 {
		n, err := io.ReadFull(body, (*buf)[:min(skip, bufferSize)])
		if skip -= int64(n); err != nil {
			return cutShort(err)
		}
	}
	unread := 0
	for i := r.first; i < r.end; i++ {
		if unread++; a.isRead() {
			unread = 0
		}
		if unread > unreadSlices {
			return nil
		}
		if err := a.takeSlice(i, body, *buf); err != nil {
			return err
		}
		a.mu.Lock()
		delete(a.runs, i)
		r.wakeLocked()
		a.mu.Unlock()
	}
	return nil
}

func (a *assembly) takeSlice(i int64, body io.Reader, buf []byte) error {
	if err := a.p.Reserve(i); err != nil {
		return &upstream.Error{Reason: upstream.StoreFull, Err: err}
	}
	off, end := i*a.p.SliceSize(), min((i+1)*a.p.SliceSize(), a.p.Size())
	var sum uint32
	for off < end {
		chunk := buf[:min(end-off, int64(len(buf)))]
		_, err := io.ReadFull(body, chunk)
		if err != nil {
			a.p.Give(i)
			return cutShort(err)
		}
		if _, err = a.p.WriteAt(chunk, off); err != nil {
			a.p.Give(i)
			return &upstream.Error{Reason: upstream.StoreFull, Err: err}
		}
		sum = diskcache.Sum(sum, chunk)
		off += int64(len(chunk))
	}
	a.p.Keep(i, sum)
	return nil
}

// cutShort is why a body that ended too early did.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if _, known := errors.AsType[*upstream.Error](err); !known {
			return &upstream.Error{Reason: upstream.ShortBody, Err: io.ErrUnexpectedEOF}
		}
	}
	return err
}

// endRun tells those who wait, and gives the run's place in the assembly up.
func (e *Edge) endRun(r *run, err error) {
	a := r.of
	defer a.release()
	reason := upstream.ReasonOf(err)
	if err != nil {
		e.metrics.fetches.WithLabelValues(string(reason)).Inc()
		e.log.InfoContext(e.ctx, "part not stored", slog.String("uri", a.entry.Meta().URI), slog.Any("error", err))
	}
	if errors.Is(err, errChanged) || errors.Is(err, errNoPart) {
		e.changed(a)
	}
	if err == nil && a.p.Whole() {
		err = a.p.Save()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r.done, r.err = true, err
	for i := r.first; i < r.end; i++ {
		if a.runs[i] == r {
			delete(a.runs, i)
		}
	}
	r.wakeLocked()
}

// changed removes what the origin has no more, or does not send in parts as it
// should. If that happens often, the file is fetched as a whole for a while.
func (e *Edge) changed(a *assembly) {
	e.store.Delete(a.entry)
	meta, now := a.entry.Meta(), time.Now()
	id := keyID(meta.Site, meta.URI, "")
	if _, before := e.altered.get(id, now); before {
		e.unsliced.put(id, struct{}{}, now, unslicedFor)
	}
	e.altered.put(id, struct{}{}, now, unslicedFor)
}

// fromPartial answers with a stored response of which slices are missing. It
// reports false, with nothing sent, if the entry is gone, or of a file that the
// origin has no more.
func (rp *reply) fromPartial(entry *diskcache.Entry, fresh httpcache.Freshness) bool {
	a, err := rp.e.assemble(rp.c, entry)
	if err != nil {
		return false
	}
	defer a.release()
	a.read()
	defer a.unread()
	parts := rp.parts(entry)
	if !a.has(parts) {
		if rp.c.req.OnlyIfCached { // RFC 9111 §5.2.1.7
			rp.refuse(http.StatusGatewayTimeout, "only_if_cached", "not all of it is in the cache")
			return true
		}
		if rp.hit {
			rp.outcome, rp.hit, rp.fwd, rp.stored = outcomeMiss, false, "partial", true
		}
		err = a.await(rp.r.Context().Done(), rp.c, rp.r.Header, parts[0].Start, parts[0].Length)
	}
	switch {
	case err == nil:
	case errors.Is(err, errChanged) || errors.Is(err, errNoPart):
		return false
	case upstream.ReasonOf(err) == upstream.StoreFull:
		rp.pass()
		return true
	default:
		rp.failed(err, nil)
		return true
	}
	rp.storedAnswer(entry, fresh, assembled{a})
	return true
}

// parts are what of the body goes with the answer.
func (rp *reply) parts(entry *diskcache.Entry) []httpcache.Range {
	repr := entry.Meta().Header
	if rp.c.head || httpcache.Evaluate(rp.r.Header, repr) == httpcache.NotModified {
		return nil
	}
	ranges, ok := rp.ranges(repr, entry.Size())
	if ok && len(ranges) == 0 {
		return []httpcache.Range{{Length: entry.Size()}}
	}
	return ranges
}

// has reports whether all of the parts are there.
func (a *assembly) has(parts []httpcache.Range) bool {
	size := a.p.SliceSize()
	for _, part := range parts {
		for i := part.Start / size; i*size < part.Start+part.Length; i++ {
			if !a.p.Has(i) {
				return false
			}
		}
	}
	return true
}

// assembled sends what is there of a body, and what comes.
type assembled struct{ *assembly }

// sendStep bounds what is sent before a look at what is to be fetched next.
const sendStep = 4 << 20

func (a assembled) send(rp *reply, off, n int64) (int64, error) {
	var (
		sent int64
		f    *os.File
	)
	for sent < n {
		if a.claim(rp.c, rp.r.Header, off+sent, n-sent) != nil { // it will have to wait
			if err := rp.flush(); err != nil {
				return sent, toClient(err)
			}
			err := a.await(rp.r.Context().Done(), rp.c, rp.r.Header, off+sent, n-sent)
			if upstream.ReasonOf(err) == upstream.StoreFull {
				more, err := a.sendPast(rp, off+sent, n-sent)
				return sent + more, err
			}
			if err != nil {
				return sent, err
			}
		}
		good, err := a.p.Verified(off+sent, min(n-sent, sendStep))
		if err != nil {
			return sent, &upstream.Error{Reason: upstream.StoreFull, Err: err}
		}
		if f == nil && n-sent > sendfileFrom {
			if file, err := a.p.File(off + sent); err == nil {
				f = file
				defer func() { _ = f.Close() }() // only read
			}
		}
		var from io.Reader = f
		if f == nil {
			from = io.NewSectionReader(a.p, off+sent, good)
		}
		part, err := rp.sendStored(from, good)
		if sent += part; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// sendPast sends what the store does not take, as it comes from the origin.
func (a assembled) sendPast(rp *reply, off, n int64) (int64, error) {
	resp, err := a.fetch(rp.r.Context(), rp.c, rp.r.Header, off, n)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or cut
	lender := rp.lender(n)
	buf := lender.get()
	defer lender.put(buf)
	var sent int64
	for sent < n {
		k, err := resp.Body.Read((*buf)[:min(n-sent, int64(len(*buf)))])
		w, werr := rp.w.Write((*buf)[:k])
		sent += int64(w)
		switch {
		case werr != nil:
			return sent, toClient(werr)
		case err != nil && sent < n:
			return sent, cutShort(err)
		}
	}
	return sent, nil
}
