package edge

import (
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/role"
)

// reply is one answer in the making. It belongs to the request's goroutine.
type reply struct {
	e      *Edge
	w      http.ResponseWriter
	r      *http.Request
	c      *call
	begun  time.Time
	begun2 time.Time // when it began anew

	outcome   outcome
	reason    upstream.Reason // with outcomeError
	detail    upstream.Reason // why something stale was used
	hit       bool
	stored    bool
	collapsed bool
	fwd       string
	fwdStatus int
	asked     *asking // nil if no origin was
}

// product names this cache in Cache-Status, Proxy-Status and Via.
const product = "freshet"

func (rp *reply) now() time.Time {
	if rp.begun2.IsZero() {
		return rp.begun
	}
	return rp.begun2
}

// done completes the access record, from which the metrics are made as well.
func (rp *reply) done() {
	rec := role.RecordOf(rp.r)
	if rec == nil {
		return
	}
	rec.Outcome, rec.Because = rp.outcome.String(), string(rp.detail)
	if rp.c != nil {
		rec.Site, rec.Key = rp.c.site.name, rp.c.id.Short()
	}
	rec.Upstream = rp.asked.record()
}

// source is a body that can be sent from any place.
type source interface {
	// send writes n bytes from off on, fewer only with an error. n is -1 for
	// everything up to an end that is not known yet.
	send(rp *reply, off, n int64) (int64, error)
}

// fromEntry answers with a stored response. It reports false, with nothing
// sent, if the entry is gone or damaged.
func (rp *reply) fromEntry(entry *diskcache.Entry, fresh httpcache.Freshness) bool {
	if entry.Partial() {
		return rp.fromPartial(entry, fresh)
	}
	body, err := entry.Open()
	if err != nil {
		return false
	}
	defer body.Close()
	rp.storedAnswer(entry, fresh, stored{body})
	return true
}

// storedAnswer answers with a stored response whose body is src.
func (rp *reply) storedAnswer(entry *diskcache.Entry, fresh httpcache.Freshness, src source) {
	meta := entry.Meta()
	age := entry.State().Age(time.Now())
	h := rp.w.Header()
	maps.Copy(h, meta.Header)
	h["Age"] = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	rp.explain(h, fresh, true)
	rp.send(meta.Status, meta.Header, entry.Size(), src)
}

// fromFill answers from a body on its way into the store.
func (rp *reply) fromFill(f *flight, leader bool) {
	h := rp.w.Header()
	if leader && f.own != nil {
		maps.Copy(h, f.own)
	} else {
		maps.Copy(h, f.meta.Header)
	}
	age := f.state.Age(time.Now())
	if age >= time.Second {
		h["Age"] = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	}
	rp.explain(h, rp.c.freshness(f.state, httpcache.Freshness{Age: age}), true)
	rp.send(f.meta.Status, f.meta.Header, f.fill.size, f.fill)
}

// fromMemory answers with a small answer: a file that is not there.
func (rp *reply) fromMemory(m *memory) {
	h := rp.w.Header()
	maps.Copy(h, m.header)
	if age := m.age + time.Since(m.arrived); age >= time.Second {
		h["Age"] = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	}
	rp.explain(h, httpcache.Freshness{}, false)
	h["Content-Length"] = []string{strconv.Itoa(len(m.body))}
	rp.start(m.status)
	if !rp.c.head {
		_, _ = rp.w.Write(m.body) // a client that is gone is told of by its connection
	}
}

// explain sets the fields by which the cache tells what it did.
func (rp *reply) explain(h http.Header, fresh httpcache.Freshness, ttl bool) {
	if value := rp.c.policy.ClientCacheControl(); value != "" && ttl {
		h["Cache-Control"] = []string{value}
		delete(h, "Expires")
		delete(h, "Pragma")
	}
	status := httpcache.CacheStatus{
		Cache: product, Hit: rp.hit, Fwd: rp.fwd, FwdStatus: rp.fwdStatus,
		Stored: rp.stored, Collapsed: rp.collapsed, Detail: string(rp.detail),
	}
	if ttl {
		status.HasTTL, status.TTL = true, int64((fresh.Lifetime-fresh.Age)/time.Second)
	}
	var stack [160]byte
	b := stack[:0]
	if before := h["Cache-Status"]; len(before) > 0 { // the caches nearer to the origin come first
		b = append(b, strings.Join(before, ", ")...)
		b = append(b, ", "...)
	}
	h["Cache-Status"] = []string{string(status.Append(b))}
	switch {
	case rp.detail != "":
		rp.proxyStatus(h, rp.detail)
	case rp.outcome == outcomeError:
		rp.proxyStatus(h, rp.reason)
		if rp.c.policy.Ruled() || len(h["Cache-Control"]) == 0 {
			h["Cache-Control"] = []string{"no-store"}
		}
	}
}

func (rp *reply) proxyStatus(h http.Header, reason upstream.Reason) {
	status := httpcache.ProxyStatus{Proxy: product, Error: reason.ProxyError(), Details: string(reason)}
	if reason == upstream.Status5xx {
		status.ReceivedStatus = rp.fwdStatus
	}
	h["Proxy-Status"] = append(slices.Clip(h["Proxy-Status"]), string(status.Append(nil)))
}

// start sends the header.
func (rp *reply) start(status int) {
	rp.w.WriteHeader(status)
}

// flush sends what was written, where that can be said.
func (rp *reply) flush() error {
	if err := http.NewResponseController(rp.w).Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// send answers with a representation of the given size (-1: unknown), applying
// the request's conditions and ranges.
func (rp *reply) send(status int, repr http.Header, size int64, src source) {
	h := rp.w.Header()
	if status == http.StatusOK {
		if httpcache.Evaluate(rp.r.Header, repr) == httpcache.NotModified {
			rp.notModified(h)
			return
		}
		if size >= 0 {
			h["Accept-Ranges"] = bytesUnit()
			if rp.partial(h, repr, size, src) {
				return
			}
		}
	}
	if size >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	} else {
		delete(h, "Content-Length")
	}
	rp.start(status)
	if !rp.c.head {
		rp.body(src, 0, size)
	}
}

func bytesUnit() []string { return []string{"bytes"} }

// notModified sends a 304 with the fields RFC 9110 §15.4.5 wants.
func (rp *reply) notModified(h http.Header) {
	for _, name := range [...]string{"Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Content-Range", "Accept-Ranges"} {
		delete(h, name)
	}
	rp.start(http.StatusNotModified)
}

// partial answers a request for ranges. It reports false if the whole is to be
// sent.
func (rp *reply) partial(h, repr http.Header, size int64, src source) bool {
	ranges, ok := rp.ranges(repr, size)
	switch {
	case !ok:
		delete(h, "Content-Type")
		delete(h, "Content-Encoding")
		h["Content-Range"] = []string{httpcache.Unsatisfied(size)}
		h["Content-Length"] = []string{"0"}
		rp.start(http.StatusRequestedRangeNotSatisfiable)
	case len(ranges) == 0:
		return false
	case len(ranges) == 1:
		h["Content-Range"] = []string{ranges[0].ContentRange(size)}
		h["Content-Length"] = []string{strconv.FormatInt(ranges[0].Length, 10)}
		rp.start(http.StatusPartialContent)
		rp.body(src, ranges[0].Start, ranges[0].Length)
	default:
		m := httpcache.Multipart{Boundary: rand.Text(), Size: size, Ranges: ranges}
		if v := repr["Content-Type"]; len(v) > 0 {
			m.ContentType = v[0]
		}
		h["Content-Type"] = []string{m.Type()}
		h["Content-Length"] = []string{strconv.FormatInt(m.Length(), 10)}
		rp.start(http.StatusPartialContent)
		for i, part := range ranges {
			rp.text(m.Head(i))
			rp.body(src, part.Start, part.Length)
		}
		rp.text(m.Tail())
	}
	return true
}

// ranges are the parts that the request asks for, as [httpcache.ParseRange] has
// them. Range is defined for GET only (RFC 9110 §14.2).
func (rp *reply) ranges(repr http.Header, size int64) ([]httpcache.Range, bool) {
	lines := rp.r.Header["Range"]
	if len(lines) != 1 || rp.c.head || !httpcache.IfRange(rp.r.Header, repr) {
		return nil, true
	}
	return httpcache.ParseRange(lines[0], size)
}

// text sends a piece of multipart framing.
func (rp *reply) text(s string) {
	if _, err := io.WriteString(rp.w, s); err != nil {
		rp.cut(&upstream.Error{Reason: upstream.ClientGone, Err: err})
	}
}

// body sends a part of the body, or cuts the connection: what was announced
// and cannot be sent must not look complete.
func (rp *reply) body(src source, off, n int64) {
	if _, err := src.send(rp, off, n); err != nil {
		rp.cut(err)
	}
}

// cut ends the connection in the middle of an answer.
func (rp *reply) cut(err error) {
	rp.reason = upstream.ReasonOf(err)
	if rp.reason != upstream.ClientGone {
		rp.outcome = outcomeError
	}
	role.SetReason(rp.w, rp.r, string(rp.reason), err.Error())
	if !rp.r.ProtoAtLeast(1, 1) {
		reset(rp.w) // the end of the connection may be that of the body
	}
	panic(http.ErrAbortHandler) // net/http's way to cut a connection
}

// reset ends a client's connection so that it is an error to him.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // the server closes it
	}
	bare := conn
	for {
		outer, ok := bare.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		bare = outer.NetConn()
	}
	if c, ok := bare.(interface{ SetLinger(seconds int) error }); ok {
		_ = c.SetLinger(0) // as good as closed
	}
	_ = bare.Close() // TLS would tell of a clean end
	_ = conn.Close() // closed by now
}

// failed answers that the origin has no answer. m is its own error, if it sent
// one.
func (rp *reply) failed(err error, m *memory) {
	reason := upstream.ReasonOf(err)
	rp.outcome, rp.reason = outcomeError, reason
	h := rp.w.Header()
	role.SetReason(rp.w, rp.r, string(reason), err.Error())
	rp.hit = false
	if rec := role.RecordOf(rp.r); rec != nil && reason == upstream.ClientGone && rp.r.Context().Err() != nil {
		rec.Status = role.StatusClientGone
		panic(http.ErrAbortHandler) // there is nobody to answer
	}
	if m != nil {
		rp.fromMemory(m)
		return
	}
	rp.explain(h, httpcache.Freshness{}, false)
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	status := reason.Status()
	if reason == upstream.FetchLimit {
		h["Retry-After"] = []string{whenFewer}
	}
	text := http.StatusText(status) + ": " + string(reason) + ": the origin gave no usable answer, and nothing is stored\n"
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	rp.start(status)
	if !rp.c.head {
		rp.text(text)
	}
}

// whenFewer is in how many seconds who found too many fetches under way may ask
// again.
const whenFewer = "5"

// refuse answers a request that is not served.
func (rp *reply) refuse(status int, word, text string) {
	h := rp.w.Header()
	role.SetReason(rp.w, rp.r, word, text)
	h["Cache-Control"] = []string{"no-store"}
	rp.outcome, rp.reason = outcomeError, upstream.Reason(word)
	http.Error(rp.w, text, status)
}

// stored sends from an entry's file.
type stored struct{ *diskcache.Body }

// sendfileFrom is the length from which sendfile costs less than a copy.
const sendfileFrom = 64 << 10

func (s stored) send(rp *reply, off, n int64) (int64, error) {
	if b := s.Bytes(); b != nil {
		sent, err := rp.w.Write(b[off : off+n])
		return int64(sent), toClient(err)
	}
	if n > sendfileFrom {
		if f, err := s.File(off); err == nil {
			defer func() { _ = f.Close() }() // only read
			return s.sendFile(rp, f, off, n)
		}
	}
	lender := rp.lender(n)
	buf := lender.get()
	defer lender.put(buf)
	var sent int64
	for sent < n {
		chunk := (*buf)[:min(n-sent, int64(len(*buf)))]
		if _, err := s.ReadAt(chunk, off+sent); err != nil && !errors.Is(err, io.EOF) {
			return sent, &upstream.Error{Reason: upstream.StoreFull, Err: err}
		}
		w, err := rp.w.Write(chunk)
		sent += int64(w)
		if err != nil {
			return sent, toClient(err)
		}
	}
	return sent, nil
}

// sendFile sends n bytes from a file that is at off, each slice after it proved
// right.
func (s stored) sendFile(rp *reply, f *os.File, off, n int64) (int64, error) {
	var sent int64
	for sent < n {
		good, err := s.Verified(off+sent, n-sent)
		if err != nil {
			return sent, &upstream.Error{Reason: upstream.StoreFull, Err: err}
		}
		part, err := rp.sendStored(f, good)
		if sent += part; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// sendStored sends the next n bytes of what is stored.
func (rp *reply) sendStored(from io.Reader, n int64) (int64, error) {
	sent, err := io.Copy(rp.w, &io.LimitedReader{R: from, N: n})
	switch {
	case err != nil:
		return sent, toClient(err)
	case sent < n:
		return sent, &upstream.Error{Reason: upstream.StoreFull, Err: io.ErrUnexpectedEOF}
	}
	return sent, nil
}

func toClient(err error) error {
	if err == nil {
		return nil
	}
	return &upstream.Error{Reason: upstream.ClientGone, Err: err}
}

// send implements source: it follows the fill.
func (f *fill) send(rp *reply, off, n int64) (int64, error) {
	if b := f.whole(); b != nil && n >= 0 {
		sent, err := rp.w.Write(b[off : off+n])
		return int64(sent), toClient(err)
	}
	lender := rp.lender(n)
	buf := lender.get()
	defer lender.put(buf)
	done := rp.r.Context().Done()
	c := f.place(off)
	defer f.unplace(c)
	var sent int64
	for n < 0 || sent < n {
		if f.waits(off + sent) {
			if err := rp.flush(); err != nil {
				return sent, toClient(err)
			}
		}
		avail, err := f.read(done, c, off+sent)
		switch {
		case errors.Is(err, io.EOF) && n < 0:
			return sent, nil
		case err != nil:
			return sent, err
		}
		if n >= 0 {
			avail = min(avail, n-sent)
		}
		k, err := f.readAt((*buf)[:min(avail, int64(len(*buf)))], off+sent)
		if err != nil {
			return sent, err
		}
		w, err := rp.w.Write((*buf)[:k])
		sent += int64(w)
		if err != nil {
			return sent, toClient(err)
		}
	}
	return sent, nil
}
