package h1

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
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
//
// As a loan it is given for one request, of which head is the whole header. When
// the server would wait for the next request, it gets an end of file, and what
// it takes for closing brings the connection back. Between the header and that
// moment the server reads one byte at most, to see whether the client is still
// there; it is kept for the next request. A read of more means that the server
// sees more in the request than we did: then the connection stays with it.
type given struct {
	net.Conn
	metrics *Metrics

	mu    sync.Mutex
	state loanState
	head  []byte // to be read next
	after []byte // read from the connection, and not part of head
	taken int    // how much of after the server has read
	back  chan bool
}

type loanState uint8

const (
	// gift: the connection does not come back.
	gift loanState = iota
	// lent: the server answers the one request.
	lent
	// idle: it has, and would like to keep the connection.
	idle
	// returning: it was told that the connection has ended.
	returning
	// over: it has given it up.
	over
)

// give hands c over for good; b was read from it.
func give(l *handover, c net.Conn, b []byte) {
	l.give(fit(&given{Conn: c, metrics: l.metrics, after: b}))
}

// lend hands c over for the request with this head; after was read from c
// behind it. It returns when that is answered. ok says that the connection is
// ours again: rest is what was read from it and not used.
func lend(l *handover, c net.Conn, head, after []byte) (rest []byte, ok bool) {
	g := &given{Conn: c, metrics: l.metrics, state: lent, head: head, after: after, back: make(chan bool, 1)}
	l.give(fit(g))
	if !<-g.back {
		return nil, false
	}
	return g.after, true
}

// Read implements [net.Conn].
func (g *given) Read(p []byte) (int, error) {
	g.mu.Lock()
	switch {
	case len(p) == 0:
		g.mu.Unlock()
		return 0, nil
	case len(g.head) > 0:
		n := copy(p, g.head)
		g.head = g.head[n:]
		g.mu.Unlock()
		return n, nil
	case g.state == idle:
		g.state = returning
		g.mu.Unlock()
		return 0, io.EOF
	case g.state == returning:
		g.mu.Unlock()
		return 0, io.EOF
	case g.state == lent && len(p) > 1:
		g.keepLocked()
	}
	if g.taken < len(g.after) {
		n := copy(p, g.after[g.taken:])
		g.taken += n
		g.mu.Unlock()
		return n, nil
	}
	loan := g.state == lent
	g.mu.Unlock()
	n, err := g.Conn.Read(p)
	if loan && n > 0 {
		g.mu.Lock()
		g.after = append(g.after, p[:n]...)
		g.taken += n
		g.mu.Unlock()
	}
	return n, err
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

// keepLocked makes a gift of a loan.
func (g *given) keepLocked() {
	g.state = gift
	g.back <- false
}

// waits is called when the server waits for the next request.
func (g *given) waits() {
	g.mu.Lock()
	if g.state == lent {
		g.state = idle
	}
	g.mu.Unlock()
}

// Close implements [net.Conn]. It does not close a connection that goes back.
func (g *given) Close() error {
	g.mu.Lock()
	was := g.state
	if was != gift {
		g.state = over
	}
	g.mu.Unlock()
	switch was {
	case returning:
		g.back <- true
		return nil
	case over:
		return nil
	case lent, idle:
		err := g.Conn.Close()
		g.back <- false
		return err
	case gift:
	}
	return g.Conn.Close()
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

func (g *given) loan() *given { return g }

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

// connState learns when the standard server has answered a request.
func connState(c net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if g, ok := c.(interface{ loan() *given }); ok {
		g.loan().waits()
	}
}
