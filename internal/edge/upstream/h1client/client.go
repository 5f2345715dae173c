package h1client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Defaults of Client.
const (
	DefaultConnectTimeout = 3 * time.Second
	DefaultTLSTimeout     = 5 * time.Second
	// DefaultIdle is below what common servers allow: 60 s and 75 s.
	DefaultIdle        = 50 * time.Second
	DefaultMaxIdle     = 256
	DefaultMaxAge      = time.Hour
	DefaultMaxRequests = 10000
)

// maxInterim bounds the 1xx responses before the one that counts.
const maxInterim = 32

// Client makes requests to one origin. Addr must be set; the fields are not
// changed after the first use. It is safe for concurrent use.
type Client struct {
	// Addr is where to connect to, "host:port".
	Addr string
	// Dial connects. Zero: TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS, if not nil, makes connections secure. Its ServerName must be set.
	// Sessions are resumed.
	TLS *tls.Config

	// ConnectTimeout bounds the finding of the address and the connecting,
	// TLSTimeout the handshake.
	ConnectTimeout, TLSTimeout time.Duration
	// Idle is how long a connection may be unused. If the origin says that it
	// keeps connections for a shorter time (Keep-Alive: timeout), that counts.
	Idle time.Duration
	// MaxIdle bounds the unused connections; the oldest is closed.
	MaxIdle int
	// MaxAge and MaxRequests are after what a connection is not used again.
	MaxAge      time.Duration
	MaxRequests int

	once    sync.Once
	secure  *tls.Config
	buffers buffers
	heads   sync.Pool // of *[]byte

	mu    sync.Mutex
	idle  []*conn // the one used last at the end
	sweep *time.Timer
}

// Request is a request to the origin of a client.
type Request struct {
	Method string
	// Target is path and query as they are sent, Host the Host field.
	Target, Host string
	// Header holds the other fields. Those about the connection and the body's
	// framing are left out.
	Header http.Header
	// Body may be nil. ContentLength is its length, -1 if unknown. It is closed
	// when no more is read of it, which may be after the response is there.
	Body          io.ReadCloser
	ContentLength int64
	// Interim, if not nil, is told of 1xx responses.
	Interim func(status int, h http.Header)
	// Deadline is when the head of the response must be there; it does not
	// count while a body is sent, which has FirstByte from its end on.
	Deadline  time.Time
	FirstByte time.Duration
	// Idle bounds each pause within the response's body. Zero: no limit.
	Idle time.Duration
	// Trailing allows bytes behind the announced end of the response's body: they
	// are dropped with the connection. Otherwise the body ends with [Long].
	Trailing bool
	// Timing is filled in by [Client.Do].
	Timing Timing
}

// Timing is how long the making of the connection took.
type Timing struct {
	Reused       bool
	Connect, TLS time.Duration // zero if reused
}

func (c *Client) init() {
	c.once.Do(func() {
		if c.TLS == nil {
			return
		}
		c.secure = c.TLS.Clone()
		c.secure.NextProtos = []string{"http/1.1"}
		if c.secure.MinVersion == 0 {
			c.secure.MinVersion = tls.VersionTLS12
		}
		if c.secure.ClientSessionCache == nil {
			c.secure.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		}
	})
}

// Do sends the request and returns the response as soon as its head is there.
// The body must be read to its end or closed. Errors are an [*Error]; ctx ends
// the body too.
func (c *Client) Do(ctx context.Context, r *Request) (*http.Response, error) {
	c.init()
	r.Timing = Timing{}
	cn := c.take()
	if cn != nil {
		r.Timing.Reused = true
		resp, untouched, err := c.exchange(ctx, cn, r)
		if err == nil || !untouched || !ended(err) || r.Body != nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
			return resp, err
		}
		r.Timing.Reused = false
	}
	cn, err := c.connect(ctx, r)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // only read
		}
		return nil, err
	}
	resp, _, err := c.exchange(ctx, cn, r)
	return resp, err
}

// connect makes a new connection.
func (c *Client) connect(ctx context.Context, r *Request) (*conn, error) {
	begun := time.Now()
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := within(ctx, cmp.Or(c.ConnectTimeout, DefaultConnectTimeout), r, func(ours context.Context) (net.Conn, error) {
		nc, err := dial(ours, "tcp", c.Addr)
		if err != nil {
			err = dialError(ctx, ours, err)
		}
		return nc, err
	})
	now := time.Now()
	r.Timing.Connect = now.Sub(begun)
	if err != nil {
		return nil, err
	}
	if c.secure == nil {
		return newConn(nc, nc, now), nil
	}
	tc, err := within(ctx, cmp.Or(c.TLSTimeout, DefaultTLSTimeout), r, func(ours context.Context) (*tls.Conn, error) {
		tc := tls.Client(nc, c.secure)
		if err := tc.HandshakeContext(ours); err != nil {
			return nil, tlsError(ctx, ours, err)
		}
		return tc, nil
	})
	done := time.Now()
	r.Timing.TLS = done.Sub(now)
	if err != nil {
		_ = nc.Close() // it is of no use
		return nil, err
	}
	return newConn(tc, nc, done), nil
}

// within calls f with a context of that limit, and of the request's deadline.
func within[T any](ctx context.Context, limit time.Duration, r *Request, f func(context.Context) (T, error)) (T, error) {
	by := time.Now().Add(limit)
	if !r.Deadline.IsZero() && r.Deadline.Before(by) {
		by = r.Deadline
	}
	ours, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	return f(ours)
}

// exchange sends the request by cn and reads the head of the response.
// untouched says that no byte of one came. The connection is gone with an
// error.
func (c *Client) exchange(ctx context.Context, cn *conn, r *Request) (resp *http.Response, untouched bool, err error) {
	cn.used++
	cn.buf = c.buffers.get()
	cn.hook.Set(ctx, cn.cut)
	up, err := c.write(cn, r)
	var h head
	if err == nil {
		h, untouched, err = c.readHead(cn, r, up)
		if err == nil && h.empty && cn.r < cn.w && !r.Trailing {
			err = errLong
		}
	} else {
		untouched = true
	}
	if err != nil {
		cn.hook.Drop()
		cn.close()
		c.buffers.put(cn.buf)
		cn.buf = nil
		return nil, untouched, asError(ctx, err, FirstByteTimeout, Broken)
	}
	up.answered()
	if h.idle > 0 { // the time it takes to tell us that it closed
		cn.keep = max(h.idle-h.idle/4, h.idle-2*time.Second)
	}
	cn.maxMore = h.max
	cn.readBy = time.Time{}
	if r.Idle <= 0 && !r.Deadline.IsZero() {
		_ = cn.nc.SetDeadline(time.Time{}) // fails only when the connection is closed
	}
	x := &exchange{
		resp: http.Response{
			Status: h.line, StatusCode: h.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: h.minor,
			Header: h.header, ContentLength: h.length, Close: h.closing,
		},
		body: body{
			client: c, conn: cn, ctx: ctx, upload: up, idle: r.Idle, keep: !h.closing, mode: h.framing, left: h.length,
			trailing: r.Trailing,
		},
	}
	if h.minor == 0 {
		x.resp.Proto = "HTTP/1.0"
	}
	x.resp.Body = &x.body
	switch h.framing {
	case framedNone:
		x.body.end(io.EOF)
	case framedChunked:
		x.resp.TransferEncoding = []string{"chunked"}
		x.body.left = 0
	case framedLength, framedClose:
	}
	return &x.resp, false, nil
}

// write sends the head of the request and begins to send the body.
func (c *Client) write(cn *conn, r *Request) (*upload, error) {
	buf, ok := c.heads.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer c.heads.Put(buf)
	b, err := appendHead((*buf)[:0], r)
	*buf = b
	if err != nil {
		return nil, err
	}
	if r.Body == nil {
		err = cn.nc.SetDeadline(r.Deadline)
	} else {
		err = errors.Join(cn.nc.SetReadDeadline(time.Time{}), cn.nc.SetWriteDeadline(r.Deadline))
	}
	if err != nil {
		return nil, err
	}
	if _, err := cn.nc.Write(b); err != nil {
		return nil, err
	}
	if r.Body == nil {
		return nil, nil //nolint:nilnil // a nil upload is one that is over
	}
	return begin(cn, r), nil
}

// readHead reads the head of the response, and the interim ones before it.
func (c *Client) readHead(cn *conn, r *Request, up *upload) (h head, untouched bool, err error) {
	for turn := range maxInterim + 1 {
		var n int
		for seen := 0; ; {
			data := (*cn.buf)[cn.r:cn.w]
			if n, err = headEnd(data, seen); err != nil {
				return h, false, err
			}
			if n > 0 {
				break
			}
			seen = len(data)
			err := cn.fill()
			if errors.Is(err, errFull) && len(*cn.buf) < maxHead {
				cn.buf = c.buffers.grow(cn.buf)
				err = cn.fill()
			}
			switch {
			case errors.Is(err, errFull):
				return h, false, malformed("head longer than %d bytes", maxHead)
			case errors.Is(err, io.EOF) && seen > 0:
				return h, false, fmt.Errorf("within the head: %w", io.ErrUnexpectedEOF)
			case err != nil:
				return h, seen == 0 && turn == 0, err
			}
		}
		h, err = parseHead((*cn.buf)[cn.r:cn.r+n], r.Method == http.MethodHead)
		cn.r += n
		if err != nil || h.status >= http.StatusOK {
			return h, false, err
		}
		switch h.status {
		case http.StatusSwitchingProtocols:
			return h, false, malformed("protocol switched without being asked")
		case http.StatusContinue:
			up.allow()
		}
		if r.Interim != nil {
			r.Interim(h.status, h.header)
		}
	}
	return h, false, malformed("more than %d interim responses", maxInterim)
}

// take returns an idle connection that is fit for use, or nil.
func (c *Client) take() *conn {
	now := time.Now()
	for {
		c.mu.Lock()
		n := len(c.idle)
		if n == 0 {
			c.mu.Unlock()
			return nil
		}
		cn := c.idle[n-1]
		c.idle[n-1] = nil
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		if now.Sub(cn.since) < cn.keep && now.Sub(cn.made) < cmp.Or(c.MaxAge, DefaultMaxAge) && cn.alive() {
			return cn
		}
		cn.close()
	}
}

// park keeps a connection for another request.
func (c *Client) park(cn *conn) {
	now := time.Now()
	idle := cmp.Or(c.Idle, DefaultIdle)
	if cn.keep == 0 || cn.keep > idle {
		cn.keep = idle
	}
	if cn.used >= cmp.Or(c.MaxRequests, DefaultMaxRequests) || cn.maxMore == 0 || now.Sub(cn.made) >= cmp.Or(c.MaxAge, DefaultMaxAge) {
		cn.close()
		return
	}
	cn.since = now
	var extra *conn
	c.mu.Lock()
	c.idle = append(c.idle, cn)
	if len(c.idle) > cmp.Or(c.MaxIdle, DefaultMaxIdle) {
		extra = c.idle[0]
		c.idle = append(c.idle[:0], c.idle[1:]...)
	}
	if c.sweep == nil {
		c.sweep = time.AfterFunc(idle, c.sweepIdle)
	}
	c.mu.Unlock()
	if extra != nil {
		extra.close()
	}
}

// sweepIdle closes what was idle for too long, and comes again while anything
// is left.
func (c *Client) sweepIdle() {
	now := time.Now()
	var old []*conn
	c.mu.Lock()
	kept := c.idle[:0]
	for _, cn := range c.idle {
		if now.Sub(cn.since) >= cn.keep {
			old = append(old, cn)
		} else {
			kept = append(kept, cn)
		}
	}
	clear(c.idle[len(kept):])
	c.idle = kept
	if len(kept) > 0 {
		c.sweep.Reset(cmp.Or(c.Idle, DefaultIdle) / 4)
	} else {
		c.sweep = nil
	}
	c.mu.Unlock()
	for _, cn := range old {
		cn.close()
	}
}

// Idling returns how many connections are open and unused.
func (c *Client) Idling() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}

// CloseIdle closes the connections that are not in use.
func (c *Client) CloseIdle() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	if c.sweep != nil {
		c.sweep.Stop()
		c.sweep = nil
	}
	c.mu.Unlock()
	for _, cn := range idle {
		cn.close()
	}
}
