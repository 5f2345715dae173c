package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
)

const (
	// sliceUnit is what the edges of a part asked for are multiples of.
	sliceUnit = 1 << 20
	// slicedFrom is the length from which a file is fetched in parts, if its
	// first reader wants one.
	slicedFrom = 8 << 20
	// runLength is how much is fetched at once for who reads a part, and
	// wholeRun for who reads everything.
	runLength, wholeRun = 16 << 20, 64 << 20
	// farFrom is how far ahead of a fill a part begins for which that is not
	// waited.
	farFrom = 16 << 20
	// readAhead is how far before what is missing more of it is asked for.
	readAhead = 2 << 20
	// unslicedFor is how long a file is fetched as a whole after the origin's
	// answers turned out to be of no use for parts.
	unslicedFor = time.Minute
)

// askPart makes the flight ask for a part of the file, in whole slices, if that
// is what its leader wants.
func (f *flight) askPart(e *Edge, client http.Header) {
	c := &f.call
	p := c.policy
	if !f.shared || c.head || c.candidate || p.Pass || p.Digest.Kind != layout.NoDigest || p.Set != (layout.Set{}) || len(client["Cookie"]) > 0 ||
		f.old != nil && !f.old.Partial() {
		return
	}
	if _, whole := e.unsliced.get(c.id, time.Now()); whole {
		return
	}
	if part := partFor(client["Range"]); part != "" {
		f.request["Range"] = []string{part}
	} else if f.old != nil { // not all of it for its validation
		f.request["Range"] = []string{"bytes=0-" + strconv.Itoa(sliceUnit-1)}
	}
}

// partFor is the Range field for the slices in which a client's range begins;
// empty if it wants the whole, or none of the parts that there can be.
func partFor(lines []string) string {
	const unknown = 1 << 60 // the size
	if len(lines) != 1 {
		return ""
	}
	ranges, ok := httpcache.ParseRange(lines[0], unknown)
	if !ok || len(ranges) == 0 {
		return ""
	}
	first := ranges[0]
	end := first.Start + first.Length
	switch {
	case end == unknown && first.Start == 0:
		return ""
	case end == unknown && first.Length <= unknown/2: // the last bytes
		// The slices begin at multiples of their length, not at its end.
		return "bytes=-" + strconv.FormatInt(min(first.Length, runLength)+sliceUnit, 10)
	}
	start := first.Start / sliceUnit * sliceUnit
	end = min((end+sliceUnit-1)/sliceUnit*sliceUnit, start+runLength)
	return "bytes=" + strconv.FormatInt(start, 10) + "-" + strconv.FormatInt(end-1, 10)
}

// partVerdict is what becomes of an answer to a request for a part.
type partVerdict uint8

const (
	// partWhole: it is like one to a request for the whole.
	partWhole partVerdict = iota
	// partTaken: the flight is settled, and the body is closed or given away.
	partTaken
	// partUnfit: the whole is to be asked for.
	partUnfit
)

// takePart judges the answer to a request for a part. If it begins a file in
// slices, those who wait read it from the store, and what came is written.
func (e *Edge) takePart(f *flight, client http.Header, resp *http.Response, asked time.Time) partVerdict {
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		if f.old != nil || len(client["Range"]) == 0 || wantsCondition(client) {
			return partUnfit
		}
		f.adopt(resp)
		f.status, f.again, f.asked, f.got = resp.StatusCode, true, asked, time.Now()
		e.metrics.fetches.WithLabelValues("other").Inc()
		e.alone(f, resp) // true for this range
		return partTaken
	}
	if resp.StatusCode != http.StatusPartialContent {
		return partWhole
	}
	part, size, ok := httpcache.ParseContentRange(resp.Header.Get("Content-Range"))
	want, _ := httpcache.ParseRange(f.request["Range"][0], size)
	if !ok || len(want) != 1 || want[0] != part || resp.ContentLength != part.Length {
		return partUnfit
	}
	delete(resp.Header, "Content-Range")
	resp.Header["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	resp.StatusCode, resp.Status = http.StatusOK, "200 OK"
	if part.Length == size {
		return partWhole
	}
	if size < slicedFrom {
		return partUnfit
	}
	got := time.Now()
	run, taken := e.firstRun(f, client, resp, part, size, asked, got)
	if run == nil {
		if taken {
			f.closeBody() // not what the client asked for
			f.ctx.Cancel(nil)
			return partTaken
		}
		return partUnfit
	}
	f.adopt(resp)
	f.status, f.asked, f.got = resp.StatusCode, asked, got
	e.metrics.fetches.WithLabelValues("ok").Inc()
	e.answered(f)
	e.negatives.drop(f.call.id)
	e.solo.drop(f.id)
	f.verdict = verdictEntry
	e.settled(f)
	f.rest = func() {
		err := error(errBrokeOff)
		defer func() { e.endRun(run, err) }()
		err = run.of.take(run, resp.Body, run.start()-part.Start)
		f.closeBody() // read to its end, or broken
	}
	return partTaken
}

// wantsCondition reports whether a request says when it is to be answered.
func wantsCondition(h http.Header) bool {
	return len(h["If-Range"]) > 0 || len(h["If-None-Match"]) > 0 || len(h["If-Modified-Since"]) > 0
}

// firstRun begins an entry in slices with a part, of which the response, made to
// look like one with the whole, has the body. Without a run, taken says that the
// flight is settled: the leader passes his request on. If not, the file cannot
// be had in parts.
func (e *Edge) firstRun(f *flight, client http.Header, resp *http.Response, part httpcache.Range, size int64, asked, got time.Time) (first *run, taken bool) {
	c := &f.call
	whole := *resp
	whole.ContentLength = size
	cc := httpcache.ParseResponse(resp.Header)
	storable, shared := c.storable(client, &whole, cc, asked, got)
	state := c.state(http.StatusOK, resp.Header, cc, asked, got)
	if !storable || !shared || !c.sliceable(resp.Header, state) {
		return nil, false
	}
	id, meta := newMeta(c, client, &whole, cc, got)
	if id != f.id {
		return nil, false // one of several variants, until now
	}
	e.purgeMu.RLock() // a purge sees the flight or the entry
	defer e.purgeMu.RUnlock()
	now, drop := e.store.Since(f.epoch, state, meta)
	refused := error(nil)
	if drop || now != state || f.isPurged() {
		refused = errors.New("purged meanwhile")
	}
	if refused == nil {
		if first, refused = e.firstAssembly(f, id, meta, size, state, part); refused == nil {
			e.names.add(c, id, nil)
			return first, true
		}
	}
	e.log.DebugContext(e.ctx, "answer not stored", slog.Any("error", fmt.Errorf("%s: %w", c.uri, refused)))
	f.again, f.passOn, f.verdict = true, true, verdictAlone
	e.settled(f)
	return nil, true
}

// farAhead reports whether the request is for a part of a file of which the
// whole is on its way and has not come near it by far. The part is had from the
// origin then, and not stored: it will be, with the whole.
func (rp *reply) farAhead(f *flight) bool {
	fl := f.fill
	if fl.size < farFrom || f.early {
		return false
	}
	ranges, ok := rp.ranges(f.meta.Header, fl.size)
	if !ok || len(ranges) == 0 {
		return false
	}
	first := ranges[0].Start
	for _, part := range ranges[1:] {
		first = min(first, part.Start)
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return first-fl.shown > farFrom
}

// sliceable reports whether the rest of a long file may be added later to a part
// of it that came with these fields.
func (c *call) sliceable(h http.Header, st diskcache.State) bool {
	p := c.policy
	if p.Pass || p.Digest.Kind != layout.NoDigest || p.Set != (layout.Set{}) || ifRange(c, h) == "" {
		return false
	}
	cc := httpcache.ParseResponse(h)
	return p.Ruled() || st.Flags&flagExplicit != 0 && len(h["Vary"]) == 0 && len(h["Set-Cookie"]) == 0 && len(cc.PrivateFields)+len(cc.NoCacheFields) == 0
}

// keepPart keeps the whole slices of a long file whose last reader has left in
// the middle, unless there is something better. It must come before the Abort of
// the writer, and does nothing for a fill that was not given up.
func (e *Edge) keepPart(f *flight) {
	fl, c := f.fill, &f.call
	if fl.size < slicedFrom || !fl.isClosing() || f.early || c.candidate || !c.sliceable(f.meta.Header, f.state) {
		return
	}
	e.purgeMu.RLock() // a purge sees the flight or the entry
	defer e.purgeMu.RUnlock()
	st, drop := e.store.Since(f.epoch, f.state, f.meta)
	if drop || st != f.state || f.isPurged() || e.store.Peek(fl.w.ID()) != nil {
		return
	}
	if err := fl.w.CommitPart(fl.size, f.state); err != nil {
		e.log.DebugContext(e.ctx, "answer not stored", slog.Any("error", err))
		return
	}
	e.names.add(c, fl.w.ID(), nil)
}

// firstAssembly begins the entry. Nobody finds it before its first slices are
// known to be coming.
func (e *Edge) firstAssembly(f *flight, id diskcache.ID, meta *diskcache.Meta, size int64, state diskcache.State, part httpcache.Range) (*run, error) {
	e.assembliesMu.Lock()
	defer e.assembliesMu.Unlock()
	p, entry, err := e.store.CreatePartial(id, meta, size, part.Length, state)
	if err != nil {
		return nil, err
	}
	f.entry = entry
	a := e.newAssembly(&f.call, p, entry)
	e.assemblies[p] = a
	return a.first(part), nil
}

// ifRange is the validator by which parts prove to be of the same file, empty
// if there is none: a strong entity-tag; or, where the name binds the bytes, the
// date.
func ifRange(c *call, h http.Header) string {
	tag := h.Get("Etag")
	if httpcache.StrongMatch(tag, tag) {
		return tag
	}
	if tag == "" && c.policy.Immutable {
		if _, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
			return h.Get("Last-Modified")
		}
	}
	return ""
}

// Why a part did not come: the origin has another file now, or its answer is
// none to the question.
var (
	errChanged = &upstream.Error{Reason: upstream.Changed, Err: errors.New("the origin has another file now")}
	errNoPart  = &upstream.Error{Reason: upstream.BadMessage, Err: errors.New("not the part that was asked for")}
)
