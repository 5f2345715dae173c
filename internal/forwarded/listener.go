// Package forwarded finds out who a client is when proxies stand between: by
// the PROXY protocol, which says it once for a connection, or by the fields
// X-Forwarded-For and Forwarded (RFC 7239), which say it with each request.
// Only listed networks are believed. It also says what origins are told of it.
package forwarded

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"freshet/internal/networks"
)

// maxPending bounds the connections whose header has not come yet.
const maxPending = 4096

// Reason is why a connection was closed before it was used.
type Reason string

// The reasons.
const (
	// NoHeader: the header of the PROXY protocol did not come, or not in time,
	// or it is malformed.
	NoHeader Reason = "proxy_header"
	// NotListed: only listed proxies may connect.
	NotListed Reason = "proxy_source"
)

// Listen returns a listener of the connections of ln, whose RemoteAddr is that
// of the client. Connections are given out when their header was read; one that
// is slow keeps no other waiting. rejected is called for each connection that
// is closed instead. Closing the listener closes ln. What it has accepted by then is still
// returned by Accept, which must be called until its error is [net.ErrClosed].
func (c Config) Listen(ln net.Listener, rejected func(Reason)) (net.Listener, error) {
	c = c.WithDefaults()
	if len(c.From) == 0 {
		return ln, nil
	}
	from, err := networks.ParseAll(c.From)
	if err != nil {
		return nil, err
	}
	l := &listener{
		Listener: ln, config: c, from: from, rejected: rejected,
		ready: make(chan accepted), closed: make(chan struct{}), ended: make(chan struct{}), pending: make(chan struct{}, maxPending),
	}
	go l.accept()
	return l, nil
}

type listener struct {
	net.Listener
	config   Config
	from     networks.Set
	rejected func(Reason)
	ready    chan accepted
	pending  chan struct{}
	reading  sync.WaitGroup // headers
	once     sync.Once
	closed   chan struct{} // no more are accepted
	ended    chan struct{} // and what was accepted is given out
}

type accepted struct {
	conn net.Conn
	err  error
}

// accept takes connections and reads their headers, many at a time.
func (l *listener) accept() {
	defer func() {
		l.reading.Wait()
		close(l.ended)
	}()
	for {
		conn, err := l.Listener.Accept()
		switch {
		case err != nil && (errors.Is(err, net.ErrClosed) || l.isClosed()):
			return
		case err != nil:
			l.give(accepted{err: err})
		case l.from.Has(addressOf(conn.RemoteAddr())):
			select {
			case l.pending <- struct{}{}:
				l.reading.Go(func() { l.read(conn) })
			default:
				l.refuse(conn, NoHeader)
			}
		case l.config.Others == othersRefuse:
			l.refuse(conn, NotListed)
		default:
			l.give(accepted{conn: conn})
		}
	}
}

// read reads the header of a connection.
func (l *listener) read(conn net.Conn) {
	defer func() { <-l.pending }()
	policy := proxyproto.REQUIRE
	pc := proxyproto.NewConn(conn, proxyproto.WithPolicy(policy), proxyproto.SetReadHeaderTimeout(l.config.Timeout))
	if pc.ProxyHeader() == nil {
		l.refuse(conn, NoHeader)
		return
	}
	l.give(accepted{conn: pc})
}

func (l *listener) refuse(conn net.Conn, why Reason) {
	l.rejected(why)
	_ = conn.Close() // it was not used
}

// give gives a connection out. When the listener is closed its server takes what is left,
// unless it has failed.
func (l *listener) give(a accepted) {
	select {
	case l.ready <- a:
		return
	case <-l.closed:
	}
	select {
	case l.ready <- a:
	case <-time.After(lastTime):
		if a.conn != nil {
			_ = a.conn.Close() // nobody is there to serve it
		}
	}
}

// lastTime is how long what was accepted waits for a server when the listener is closed.
const lastTime = 10 * time.Second

func (l *listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	return err
}

func addressOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
