package h2

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// exchange is a request that the http.Handler answers. What stands below the
// request is guarded by the connection's lock.
type exchange struct {
	stream
	c      *conn
	req    *http.Request
	cancel context.CancelCauseFunc

	err   error // why it ended before its time: nothing is sent or read any more
	ended bool  // the client has sent everything

	body     []byte    // received and not read
	arrived  sync.Cond // something of the body, or its end
	window2  int64     // what the client may still send
	owed     int64     // of it, to be given back
	declared int64     // length of the body, -1 if unknown
	received int64
	unread   bool // the body is closed: nothing of it is wanted
	expects  bool // 100-continue, before the body is read
	trailer  http.Header
}

var (
	errBodyClosed = errors.New("read after the body was closed")
	errAborted    = errors.New("the handler gave the answer up")
)

// exchange begins one.
func (c *conn) exchange(id uint32, h *header, end bool) {
	x := &exchange{stream: stream{id: id}, c: c, ended: end, window2: defWindow, declared: h.length}
	x.ex = x
	x.arrived.L = &c.mu
	req, err := x.request(h, end)
	x.req = req
	c.mu.Lock()
	if c.failed != nil {
		c.mu.Unlock()
		x.cancel(c.failed)
		return
	}
	x.window = c.initial
	c.openLocked(&x.stream)
	c.handled++
	c.running.Add(1)
	c.mu.Unlock()
	if err != nil {
		go x.run(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "400 Bad Request", http.StatusBadRequest)
		}))
		return
	}
	go x.run(c.s.HTTP)
}

// request makes the request of a header.
func (x *exchange) request(h *header, end bool) (*http.Request, error) {
	c := x.c
	ctx, cancel := context.WithCancelCause(c.ctx)
	x.cancel = cancel
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, c.rwc.LocalAddr())
	var err error
	u := &url.URL{}
	target := h.path
	switch {
	case h.method == http.MethodConnect:
		u.Host, target = h.authority, h.authority
	case h.path == "*":
		u.Path = "*"
	default:
		if u, err = url.ParseRequestURI(h.path); err != nil {
			u = &url.URL{Path: "/"}
		}
	}
	fields := make(http.Header, len(h.fields))
	var trailer http.Header
	for _, f := range h.fields {
		name := http.CanonicalHeaderKey(f.Name)
		switch {
		case name == "Cookie" && len(fields[name]) > 0: // RFC 9113 §8.2.3
			fields[name][0] += "; " + f.Value
			continue
		case name == "Expect" && !end && strings.EqualFold(f.Value, "100-continue"):
			x.expects = true
			continue
		case name == "Trailer":
			for key := range strings.SplitSeq(f.Value, ",") {
				if key = http.CanonicalHeaderKey(strings.TrimSpace(key)); key != "" {
					if trailer == nil {
						trailer = make(http.Header)
					}
					trailer[key] = nil
				}
			}
			continue
		}
		fields[name] = append(fields[name], f.Value)
	}
	r := &http.Request{
		Method: h.method, URL: u, Proto: "HTTP/2.0", ProtoMajor: 2, Header: fields, Body: http.NoBody,
		Host: h.authority, RequestURI: target, RemoteAddr: c.remote, TLS: c.tls, Trailer: trailer,
	}
	if !end {
		r.ContentLength = h.length
		r.Body = &requestBody{x}
	}
	return r.WithContext(ctx), err
}

// run runs the handler.
func (x *exchange) run(h http.Handler) {
	c := x.c
	defer c.running.Done()
	w := &writer{x: x, head: x.req.Method == http.MethodHead, length: -1}
	defer func() {
		p := recover()
		if err, ok := p.(error); p != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) && c.s.Log != nil {
			c.s.Log.Error("a handler panics", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
		ok := p == nil && w.end()
		x.cancel(context.Canceled)
		c.mu.Lock()
		c.handled--
		x.leaveLocked(ok)
		c.flushLocked(1)
		c.mu.Unlock()
	}()
	h.ServeHTTP(w, x.req)
}

// leaveLocked ends the stream after the handler; ok says that its answer is
// whole.
func (x *exchange) leaveLocked(ok bool) {
	c := x.c
	if x.err == nil {
		switch {
		case !ok:
			c.resetLocked(x.id, codeInternal)
		case !x.ended: // what is still to come is not wanted (RFC 9113 §8.1)
			c.resetLocked(x.id, codeNone)
		default:
			delete(c.streams, x.id)
		}
		x.err = errAborted
	}
	c.creditLocked(int64(len(x.body)))
	x.body = nil
	x.unread = true
	if c.leaving != leaveNot && len(c.streams) == 0 {
		c.wakeLocked()
	}
}

// abortLocked ends the exchange before its time.
func (x *exchange) abortLocked(err error) {
	if x.err == nil {
		x.err = err
	}
	x.cancel(err)
	x.arrived.Broadcast()
	x.c.room.Broadcast()
}

// dataLocked takes a part of the body; size is that of its frame.
func (x *exchange) dataLocked(p []byte, size int64, end bool) error {
	c := x.c
	if x.window2 -= size; x.window2 < 0 {
		return c.refuseLocked(x.id, codeFlowControl, RejectProtocol)
	}
	x.received += int64(len(p))
	if x.declared >= 0 && (x.received > x.declared || end && x.received < x.declared) {
		c.creditLocked(size)
		return c.refuseLocked(x.id, codeProtocol, RejectMalformed)
	}
	x.ended = end
	if x.unread {
		c.creditLocked(size)
		x.owed += size
		return nil
	}
	if pad := size - int64(len(p)); pad > 0 {
		c.creditLocked(pad)
		x.owed += pad
	}
	x.body = append(x.body, p...)
	x.arrived.Broadcast()
	return nil
}

// whole reports whether the body has the length that was announced.
func (x *exchange) whole() bool {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	return x.declared < 0 || x.received == x.declared
}

// trailers takes what ends the body.
func (x *exchange) trailers(list []hpack.HeaderField) {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	x.trailer = make(http.Header, len(list))
	for _, f := range list {
		name := http.CanonicalHeaderKey(f.Name)
		x.trailer[name] = append(x.trailer[name], f.Value)
	}
	x.ended = true
	x.arrived.Broadcast()
}

// requestBody is the body of a request.
type requestBody struct{ x *exchange }

// Read implements [io.Reader].
func (b *requestBody) Read(p []byte) (int, error) {
	x, c := b.x, b.x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.expects {
		x.expects = false
		if x.err == nil && !x.ended && len(x.body) == 0 {
			c.queueHeaderLocked(x.id, AppendStatus(nil, http.StatusContinue), false)
			c.flushLocked(1)
		}
	}
	for {
		switch {
		case x.unread && x.err == nil:
			return 0, errBodyClosed
		case x.err != nil:
			return 0, x.err
		case len(p) == 0:
			return 0, nil
		case len(x.body) > 0:
			n := copy(p, x.body)
			if x.body = x.body[n:]; len(x.body) == 0 {
				x.body = nil
			}
			x.giveLocked(int64(n))
			return n, nil
		case x.ended:
			x.setTrailer()
			return 0, io.EOF
		}
		x.arrived.Wait()
	}
}

// giveLocked lets the client send as much more.
func (x *exchange) giveLocked(n int64) {
	c := x.c
	queued := len(c.out)
	c.creditLocked(n)
	if x.owed += n; x.owed >= defWindow/4 && !x.ended {
		c.queueFrameLocked(frameWindowUpdate, 0, x.id, 4)
		c.out = append(c.out, byte(x.owed>>24), byte(x.owed>>16), byte(x.owed>>8), byte(x.owed))
		x.window2 += x.owed
		x.owed = 0
	}
	if len(c.out) > queued {
		c.flushLocked(1)
	}
}

// setTrailer shows the handler the fields after the body: those announced
// before, as net/http does.
func (x *exchange) setTrailer() {
	for name, values := range x.trailer {
		if _, announced := x.req.Trailer[name]; announced {
			x.req.Trailer[name] = values
		}
	}
}

// Close implements [io.Closer].
func (b *requestBody) Close() error {
	x, c := b.x, b.x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	x.unread = true
	x.arrived.Broadcast() // a read under way ends
	n := int64(len(x.body))
	x.body = nil
	if x.err == nil {
		x.giveLocked(n)
	}
	return nil
}
