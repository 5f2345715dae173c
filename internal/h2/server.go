package h2

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"freshet/internal/h1"
)

// Server speaks HTTP/2 on connections that others accept. Its fields are not
// changed once it serves. It must not be copied.
type Server struct {
	// Handler answers what is at hand. Nil: nothing is.
	Handler h1.Handler
	// HTTP answers everything else.
	HTTP http.Handler
	// HeaderTime is how long a client may take to send a header. Default 10 s.
	HeaderTime time.Duration
	// Idle is how long a connection may be without requests. Default 120 s.
	Idle time.Duration
	// Stall is how long a client may take nothing of its answers, or send
	// nothing of a body, before it is cut. Default 120 s.
	Stall time.Duration
	// MinRate is how many bytes of its answers a client must take per second,
	// on the average of Stall, while they wait for it. Default 256.
	MinRate int
	// Log receives panics of HTTP. Nil: nothing.
	Log *slog.Logger
	// Metrics counts. Nil: nothing is counted.
	Metrics *h1.Metrics
	// Refused is as that of [h1.Server].
	Refused func(r *h1.Refused)

	buffers buffers

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	drain    h1.Drain // with draining: what Drain was given
}

var _ h1.Protocol = (*Server)(nil)

// ServeConn implements [h1.Protocol].
func (s *Server) ServeConn(ctx context.Context, c *tls.Conn) {
	state := c.ConnectionState()
	s.serve(ctx, c, &state)
}

// ServeClear answers on a connection without TLS whose client knows that HTTP/2
// is spoken. It is as [Server.ServeConn].
func (s *Server) ServeClear(ctx context.Context, c net.Conn) { s.serve(ctx, c, nil) }

func (s *Server) serve(ctx context.Context, rwc net.Conn, state *tls.ConnectionState) {
	c := newConn(ctx, s, rwc, state)
	s.mu.Lock()
	if s.conns == nil {
		s.conns = make(map[*conn]struct{})
	}
	s.conns[c] = struct{}{}
	draining, drain := s.draining, s.drain
	s.mu.Unlock()
	if draining {
		c.drain(drain)
	}
	c.run() //nolint:contextcheck // the connection has it
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.running.Wait()
}

// Drain implements [h1.Protocol].
func (s *Server) Drain(d h1.Drain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining, s.drain = true, d
	for c := range s.conns {
		c.drain(d)
	}
}

func (s *Server) headerTime() time.Duration { return cmp.Or(s.HeaderTime, 10*time.Second) }

func (s *Server) idle() time.Duration { return cmp.Or(s.Idle, 2*time.Minute) }

func (s *Server) stall() time.Duration { return cmp.Or(s.Stall, 2*time.Minute) }

func (s *Server) minRate() int64 { return int64(cmp.Or(s.MinRate, 256)) }

const (
	// inSize has room for the longest frame, and more, so that what follows a
	// frame is seldom moved.
	inSize = frameHead + maxFrame + 8<<10
	// headSize is the room for most heads of answers.
	headSize = 2 << 10
	// outFull is how much is queued before it is written.
	outFull = 4 * maxFrame
	// outSize has room for one more frame, and a head.
	outSize = outFull + maxFrame + headSize
)

// work is what a connection needs while it reads.
type work struct {
	in    [inSize]byte
	begin int // of what was not looked at
	end   int // of what was read
	head  [headSize]byte
}

// buffers lends what only active connections hold.
type buffers struct {
	work    sync.Pool // of *work
	out     sync.Pool // of *[outSize]byte
	answers sync.Pool // of *answer
}

func (b *buffers) getWork() *work {
	if w, ok := b.work.Get().(*work); ok {
		return w
	}
	return new(work)
}

func (b *buffers) putWork(w *work) {
	w.begin, w.end = 0, 0
	b.work.Put(w)
}

func (b *buffers) getOut() []byte {
	if out, ok := b.out.Get().(*[outSize]byte); ok {
		return out[:0]
	}
	return make([]byte, 0, outSize)
}

func (b *buffers) putOut(out []byte) {
	if cap(out) == outSize { // else it has grown
		b.out.Put((*[outSize]byte)(out[:outSize]))
	}
}

func (b *buffers) getAnswer() *answer {
	if a, ok := b.answers.Get().(*answer); ok {
		return a
	}
	return new(answer)
}

func (b *buffers) putAnswer(a *answer) {
	fields := a.req.Fields[:0]
	clear(fields[:cap(fields)]) // they hold strings
	*a = answer{req: h1.Request{Fields: fields}}
	b.answers.Put(a)
}
