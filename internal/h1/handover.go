package h1

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// handover is the listener by which connections reach the standard server.
type handover struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// give hands a connection over. If the server has ended, it is closed.
func (l *handover) give(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close() // nobody is there to serve it
	}
}

func (l *handover) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *handover) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *handover) Addr() net.Addr { return l.addr }

// given is a connection of the standard server of which some bytes were read
// here before. What it reads is right, as far as a [referee] can tell.
type given struct {
	net.Conn
	c       *conn
	referee referee
	body    atomic.Pointer[Malformed] // a body that is refused
	answers atomic.Bool               // a handler's answer is under way
	ended   sync.Once
	times   times
	sending sending
}

// keep takes a connection, which keeps its place within the limits, out of those
// served here: the standard server is about to get it.
func (s *Server) keep(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.given.Add(1)
}

// free frees the place of a connection that the standard server had.
func (s *Server) free(c *conn) {
	s.mu.Lock()
	s.given.Add(-1)
	s.leftLocked(c.client)
	s.mu.Unlock()
	s.Metrics.closed(c.protocol)
}

// giveOther leaves a connection of TLS to the standard server as it is, because
// of what is spoken on it.
func (s *Server) giveOther(c *conn, tc *tls.Conn) {
	s.keep(c)
	s.others.Store(tc, c)
	s.slow.give(tc)
}

func (s *Server) freeOther(tc *tls.Conn) {
	if v, ok := s.others.LoadAndDelete(tc); ok {
		if c, ok := v.(*conn); ok {
			s.free(c)
		}
	}
}

// give leaves the connection to the standard server; b was read from it.
func (s *Server) give(c *conn, b []byte) {
	most := s.HTTP.MaxHeaderBytes
	if most <= 0 {
		most = http.DefaultMaxHeaderBytes
	}
	most += 4 << 10 // as net/http has it
	s.keep(c)
	g := &given{Conn: c.rwc, c: c}
	g.referee = referee{from: timed{g}, most: most, buf: b}
	s.slow.give(fit(g))
}

// Read implements [net.Conn]. It is called by one goroutine at a time.
func (g *given) Read(p []byte) (int, error) {
	n, err := g.referee.Read(p)
	if bad := g.referee.bad; bad != nil && g.referee.part != partHead && g.body.Load() == nil {
		g.body.Store(bad)
		g.c.s.Metrics.Rejected(bad.Why) // its handler says so to the client
	}
	return n, err
}

// Close implements [net.Conn].
func (g *given) Close() error {
	g.ended.Do(func() { g.c.s.free(g.c) })
	return g.Conn.Close()
}

// BodyFault returns what is wrong with the body of a request, once reading it
// has failed; nil if that had other reasons, or is not known here.
func BodyFault(r *http.Request) *Malformed {
	if g, ok := r.Context().Value(givenKey{}).(*given); ok {
		return g.body.Load()
	}
	return nil
}

type givenKey struct{}

// context is the ConnContext of the standard server.
func (g *given) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, givenKey{}, g)
}

// marked is h for the standard server: what it writes from the begin of a
// handler on is the handler's.
func marked(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g, ok := r.Context().Value(givenKey{}).(*given); ok {
			g.answers.Store(true)
		}
		h.ServeHTTP(w, r)
	})
}

// turned is the ConnState of the standard server.
func (s *Server) turned(nc net.Conn, to http.ConnState) {
	switch c := nc.(type) {
	case interface{ turned(to http.ConnState) }:
		c.turned(to)
	case *tls.Conn:
		if to == http.StateClosed {
			s.freeOther(c)
		}
	}
}

func (g *given) turned(to http.ConnState) {
	if to == http.StateIdle {
		g.answers.Store(false)
		g.sending.next()
	}
}

// Write implements [net.Conn]. The standard server refuses what is no request
// without a word to anybody but the client: here it is counted, told why, and
// told of.
func (g *given) Write(p []byte) (int, error) {
	if g.answers.Load() {
		return g.send(p)
	}
	status, text := refusal(p)
	if status == 0 {
		return g.send(p)
	}
	if _, err := g.send(g.refuse(status, text)); err != nil {
		return 0, err
	}
	g.linger()
	return len(p), nil
}

// lingerTime is how long a client that is refused may still send, and lingerSize
// how much: were the connection closed at once, it might never see the answer.
const (
	lingerTime = 500 * time.Millisecond
	lingerSize = 64 << 10
)

func (g *given) linger() {
	_ = g.CloseWrite()
	_ = g.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, g.Conn, lingerSize) // whatever it is
}

// CloseWrite lets the server end an answer before the connection.
func (g *given) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// NetConn is the connection itself. Who closes it closes the given one as well.
func (g *given) NetConn() net.Conn { return g.Conn }

// givenTLS shows the server that the connection is one of TLS.
type givenTLS struct {
	*given
	tls *tls.Conn
}

func (g givenTLS) ConnectionState() tls.ConnectionState { return g.tls.ConnectionState() }

// fit gives g the methods that its connection has.
func fit(g *given) net.Conn {
	switch c := g.Conn.(type) {
	case *net.TCPConn:
		return givenTCP{g}
	case *tls.Conn:
		return givenTLS{g, c}
	}
	return g
}
