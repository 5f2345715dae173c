// Package memnet is a network inside the process: named listeners and a
// dialer for them, over synchronous in-memory connections.
//
// Roles that live in one process talk HTTP to each other through it, and tests
// run whole networks in a testing/synctest bubble: [net.Pipe] blocks durably
// there, where a TCP connection would not.
package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Scheme stands before the name in a listen address: "mem:hub".
const Scheme = "mem:"

// Suffix is the top-level domain of in-memory hosts: a listener "mem:hub" is
// reached as "http://hub.mem".
const Suffix = ".mem"

// ErrRefused is wrapped by dial errors when nobody listens under the name.
var ErrRefused = errors.New("connection refused")

// Network is a set of named listeners. The zero value is an empty network
// ready for use; it must not be copied. All methods are safe for concurrent
// use.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener // by name, without Scheme and Suffix
	dialed    int
}

// Listen opens a listener. The address is "mem:NAME" or plain NAME.
func (n *Network) Listen(addr string) (net.Listener, error) {
	name := strings.TrimPrefix(addr, Scheme)
	if name == "" {
		return nil, errors.New("memnet: listen: empty name")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, taken := n.listeners[name]; taken {
		return nil, fmt.Errorf("memnet: listen %s: name already in use", addr)
	}
	l := &listener{network: n, name: name, conns: make(chan net.Conn), closed: make(chan struct{})}
	if n.listeners == nil {
		n.listeners = make(map[string]*listener)
	}
	n.listeners[name] = l
	return l, nil
}

// DialContext connects to the listener that addr names: "NAME.mem:80",
// "NAME.mem" or "NAME". It has the form of [net.Dialer.DialContext].
func (n *Network) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	name := hostName(addr)
	n.mu.Lock()
	l := n.listeners[name]
	n.dialed++
	from := address("client:" + strconv.Itoa(n.dialed))
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("memnet: dial %s: %w", addr, ErrRefused)
	}
	client, server := net.Pipe()
	select {
	case l.conns <- conn{server, address(name), from}:
		return conn{client, from, address(name)}, nil
	case <-l.closed:
		return nil, errors.Join(fmt.Errorf("memnet: dial %s: %w", addr, ErrRefused), client.Close(), server.Close())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("memnet: dial %s: %w", addr, ctx.Err()), client.Close(), server.Close())
	}
}

// Handles reports whether addr ("host" or "host:port") is an in-memory host.
func Handles(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return strings.HasSuffix(host, Suffix)
}

// Dialer returns a dial function that reaches in-memory hosts (names that end
// in [Suffix]) through n and everything else through next.
func (n *Network) Dialer(next func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if Handles(addr) {
			return n.DialContext(ctx, network, addr)
		}
		return next(ctx, network, addr)
	}
}

func hostName(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return strings.TrimSuffix(host, Suffix)
}

type listener struct {
	network *Network
	name    string
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.listeners, l.name)
		l.network.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.name) }

type address string

func (address) Network() string  { return "mem" }
func (a address) String() string { return string(a) + Suffix }

// conn gives a pipe the addresses of its ends, which servers log.
type conn struct {
	net.Conn
	local, remote address
}

func (c conn) LocalAddr() net.Addr  { return c.local }
func (c conn) RemoteAddr() net.Addr { return c.remote }
