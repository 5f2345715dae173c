package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime/debug"
	"time"
)

// exchange answers the request in front by the general handler, in the goroutine
// of the connection. ok says that the next one may come, mine that the connection
// is still ours.
func (c *conn) exchange() (ok, mine bool) {
	w := c.w
	n := w.header
	wr := &writer{c: c, head: w.req.Head, closing: w.req.Close, length: -1}
	wr.ctx.Begin(c.values())
	req := c.httpRequest(&wr.ctx, n)
	if req == nil {
		c.gift(oddTarget)
		return false, false
	}
	c.s.Metrics.Other()
	wr.room = c.s.buffers.getRoom()
	defer wr.ctx.Cancel(nil)
	if base := c.s.base; base.Done() != nil {
		defer context.AfterFunc(base, func() { wr.ctx.Cancel(context.Cause(base)) })()
	}
	wr.buf, wr.out = wr.room.body[:0], wr.room.out[:0]
	w.answered(n)
	watch := c.s.buffers.getWatch()
	watch.begin(c, &wr.ctx)
	whole := wr.run(c.s.handler, req)
	if read, used := watch.end(); used {
		w.n += copy(w.in[w.n:], read) // there is room: n bytes became free
		c.setRead(time.Time{})
	}
	c.s.buffers.putWatch(watch)
	w.pace = pace{}
	wr.over = true
	c.s.buffers.putRoom(wr.room)
	if isSlow(wr.err) {
		c.s.Metrics.Rejected(RejectSlow)
	}
	c.final = whole && wr.closing && c.s.draining.Load()
	return whole && !wr.closing, true
}

// values is what the contexts of the connection's requests hold.
func (c *conn) values() context.Context {
	if c.base == nil {
		base := c.s.base
		if base.Done() != nil {
			base = context.WithoutCancel(base)
		}
		c.base = context.WithValue(base, http.LocalAddrContextKey, c.rwc.LocalAddr())
	}
	return c.base
}

// run runs the handler and sends the rest of its answer. It reports whether the
// answer is whole.
func (w *writer) run(h http.Handler, r *http.Request) (whole bool) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			w.c.s.Log.ErrorContext(r.Context(), "a handler panics", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
		if w.begun {
			_ = w.emit(nil) // as net/http does with what it collected; the answer is cut anyway
		}
		whole = false
	}()
	h.ServeHTTP(w, r)
	return w.end()
}

// httpRequest makes a request, with ctx, of the header in the first n bytes, as
// net/http would. It returns nil if that cannot be.
func (c *conn) httpRequest(ctx context.Context, n int) *http.Request {
	r := &c.w.req
	if most := c.s.HTTP.MaxHeaderBytes; most > 0 && n > most {
		return nil
	}
	text := string(c.w.in[:n]) // all that the request says is of this
	of := func(b []byte) string {
		at := len(c.w.in) - cap(b) // b ends where it may, but its capacity is what is behind its begin
		return text[at : at+len(b)]
	}
	target := of(r.Target)
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil
	}
	header := make(http.Header, len(r.Fields)+1)
	values := make([]string, len(r.Fields)+1)
	add := func(name, value []byte) {
		key := textproto.CanonicalMIMEHeaderKey(of(name))
		if before := header[key]; before != nil {
			header[key] = append(before, of(value))
			return
		}
		values[0] = of(value)
		header[key] = values[:1:1]
		values = values[1:]
	}
	for _, f := range r.Fields {
		add(f.Name, f.Value)
	}
	if r.connection.Name != nil {
		add(r.connection.Name, r.connection.Value)
	}
	if v := header["Pragma"]; len(v) > 0 && v[0] == "no-cache" {
		if _, known := header["Cache-Control"]; !known {
			header["Cache-Control"] = []string{"no-cache"} // RFC 7234 §5.4
		}
	}
	method := http.MethodGet
	if r.Head {
		method = http.MethodHead
	}
	var none http.Request
	req := none.WithContext(ctx) // before it is filled in: this copies it
	req.Method, req.URL, req.RequestURI, req.Host = method, u, target, of(r.Host)
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/1.1", 1, 1
	req.Header, req.Body, req.Close = header, http.NoBody, r.Close
	req.RemoteAddr, req.TLS = c.remote, c.tlsState()
	return req
}

// tlsState is what was agreed on, nil without TLS.
func (c *conn) tlsState() *tls.ConnectionState {
	if tc, ok := c.rwc.(*tls.Conn); ok && c.tls == nil {
		state := tc.ConnectionState()
		c.tls = &state
	}
	return c.tls
}
