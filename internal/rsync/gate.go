package rsync

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Dial connects rsync to a server, in the form of [net.Dialer.DialContext]. What it
// returns may count, slow down and mark what passes. A connection that can be closed in
// part (CloseWrite) is; one that is an [io.WriterTo] copies itself.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// gate is a listener on loopback through which one rsync, and nobody else, reaches one
// server, and nothing else: rsync asks it for a tunnel as it would ask an HTTP proxy
// (RSYNC_PROXY, establish_proxy_connection in socket.c), with a password of its own:
//
//	CONNECT host:port HTTP/1.0
//	Proxy-Authorization: Basic …
//
// An IPv6 address has no brackets there.
type gate struct {
	listener net.Listener
	dial     Dial
	addr     string // where it leads
	want     string // how rsync names that
	secret   string
	running  sync.WaitGroup
}

const (
	defaultPort  = "873"
	maxRequest   = 4 << 10
	requestLimit = 30 * time.Second // on loopback, and the machine may be busy
)

// openGate opens a gate to the server of a URL. The caller closes it.
func openGate(ctx context.Context, server string, dial Dial) (*gate, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a gate for rsync: %w", err)
	}
	g := &gate{
		listener: l, dial: dial, secret: rand.Text(),
		addr: net.JoinHostPort(u.Hostname(), port), want: u.Hostname() + ":" + port,
	}
	ctx, cancel := context.WithCancel(ctx)
	g.running.Go(func() {
		defer cancel() // of all that passes
		g.serve(ctx)
	})
	return g, nil
}

// close closes the gate and what passes through it.
func (g *gate) close() {
	_ = g.listener.Close()
	g.running.Wait()
}

// environment is what rsync has to know of the gate.
func (g *gate) environment() string {
	return "RSYNC_PROXY=rsync:" + g.secret + "@" + g.listener.Addr().String()
}

// port is the one at which it listens.
func (g *gate) port() int {
	addr, ok := g.listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return addr.Port
}

func (g *gate) serve(ctx context.Context) {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return // it was closed
		}
		g.running.Go(func() { g.tunnel(ctx, conn) })
	}
}

// tunnel serves one connection.
func (g *gate) tunnel(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	_ = client.SetDeadline(time.Now().Add(requestLimit))
	if err := g.admit(client); err != nil {
		_, _ = fmt.Fprintf(client, "HTTP/1.0 403 %v\r\n\r\n", err)
		return
	}
	server, err := g.dial(ctx, "tcp", g.addr)
	_ = client.SetDeadline(time.Now().Add(requestLimit))
	if err != nil {
		_, _ = fmt.Fprintf(client, "HTTP/1.0 502 %s\r\n\r\n", oneLine(err.Error()))
		return
	}
	defer func() { _ = server.Close() }()
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if _, err := io.WriteString(client, "HTTP/1.0 200 OK\r\n\r\n"); err != nil {
		return
	}
	_ = client.SetDeadline(time.Time{}) // rsync looks after silence itself
	var sending sync.WaitGroup
	sending.Go(func() { forward(server, client) })
	forward(client, server)
	sending.Wait()
}

// forward copies until one side ends, and hands on the end.
func forward(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		return
	}
	_, _ = to.Close(), from.Close()
}

var (
	errRequest  = errors.New("this is not the request of an rsync")
	errStranger = errors.New("this gate is for another process")
	errPlace    = errors.New("this gate leads elsewhere")
)

// admit reads the request for a tunnel.
func (g *gate) admit(client net.Conn) error {
	r := bufio.NewReaderSize(io.LimitReader(client, maxRequest), maxRequest)
	line, err := r.ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) != 3 || words[0] != "CONNECT" {
		return errRequest
	}
	pass := base64.StdEncoding.EncodeToString([]byte("rsync:" + g.secret))
	known := false
	for {
		header, err := r.ReadString('\n')
		if err != nil {
			return errRequest
		}
		header = strings.TrimRight(header, "\r\n")
		if header == "" {
			break
		}
		name, value, _ := strings.Cut(header, ":")
		scheme, given, _ := strings.Cut(strings.TrimSpace(value), " ")
		if strings.EqualFold(name, "Proxy-Authorization") && strings.EqualFold(scheme, "Basic") {
			known = subtle.ConstantTimeCompare([]byte(given), []byte(pass)) == 1
		}
	}
	switch {
	case !known:
		return errStranger
	case !strings.EqualFold(words[1], g.want):
		return errPlace
	case r.Buffered() > 0:
		return errRequest // it waits for the answer
	}
	return nil
}

// oneLine makes one of a text.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}
