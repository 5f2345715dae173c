package h1

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// handover is the listener by which connections reach the standard server.
type handover struct {
	addr    net.Addr
	metrics *Metrics
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func newHandover(addr net.Addr, m *Metrics) *handover {
	return &handover{addr: addr, metrics: m, conns: make(chan net.Conn), closed: make(chan struct{})}
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
// here before: it reads them first.
type given struct {
	net.Conn
	metrics *Metrics
	before  []byte
}

// give hands c over; b was read from it.
func give(l *handover, c net.Conn, b []byte) {
	l.give(fit(&given{Conn: c, metrics: l.metrics, before: b}))
}

// Read implements [net.Conn]. It is called by one goroutine at a time.
func (g *given) Read(p []byte) (int, error) {
	if len(g.before) == 0 {
		return g.Conn.Read(p)
	}
	n := copy(p, g.before)
	if g.before = g.before[n:]; len(g.before) == 0 {
		g.before = nil
	}
	return n, nil
}

// Write implements [net.Conn]. The standard server refuses what is no request
// without a word to anybody but the client: here it is counted.
func (g *given) Write(p []byte) (int, error) {
	if why := refusal(p); why != "" {
		g.metrics.Rejected(why)
	}
	return g.Conn.Write(p)
}

// refusal tells what the standard server writes by itself, at once and without
// a Date, from the answers of handlers, which have one.
func refusal(p []byte) Rejection {
	line, rest, ok := bytes.Cut(p, []byte("\r\n"))
	if !ok || !bytes.HasPrefix(rest, []byte("Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")) {
		return ""
	}
	switch {
	case bytes.HasPrefix(line, []byte("HTTP/1.1 431 ")):
		return RejectHeaderSize
	case bytes.HasPrefix(line, []byte("HTTP/1.1 4")), bytes.HasPrefix(line, []byte("HTTP/1.1 5")):
		return RejectMessage
	}
	return ""
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

// givenTCP keeps the way to sendfile and splice open.
type givenTCP struct {
	*given
	tcp *net.TCPConn
}

func (g givenTCP) ReadFrom(r io.Reader) (int64, error) { return g.tcp.ReadFrom(r) }

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
		return givenTCP{g, c}
	case *tls.Conn:
		return givenTLS{g, c}
	}
	return g
}
