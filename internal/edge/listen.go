package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"

	"freshet/internal/edge/certs"
	"freshet/internal/edge/forwarded"
	"freshet/internal/h1"
)

// doors are the listeners of an edge, and what they need.
type doors struct {
	tcp          net.Listener // nil: there is only HTTP/3
	h3           []net.PacketConn
	certificates *certs.Store // nil: there is no TLS
}

// openDoors opens all listeners, or none.
func (e *Edge) openDoors(ctx context.Context, metrics *h1.Metrics) (_ *doors, err error) {
	d := new(doors)
	var all []net.Listener
	defer func() {
		if err == nil {
			return
		}
		for _, ln := range all {
			err = errors.Join(err, ln.Close())
		}
		for _, pc := range d.h3 {
			err = errors.Join(err, pc.Close())
		}
	}()
	open := func(addr string) (net.Listener, error) {
		ln, err := e.env.Listen(ctx, addr)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("listen on %s: %w: ports below 1024 need root or CAP_NET_BIND_SERVICE", addr, err)
		case err != nil:
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		behind, err := e.cfg.ProxyProtocol.Listen(ln, func(why forwarded.Reason) { metrics.Rejected(h1.Rejection(why)) })
		if err != nil {
			return nil, errors.Join(fmt.Errorf("proxy-protocol: %w", err), ln.Close())
		}
		return behind, nil
	}
	for _, addr := range addresses(e.cfg.Listen) {
		ln, err := open(addr)
		if err != nil {
			return nil, err
		}
		all = append(all, ln)
	}
	clear := len(all)
	for _, addr := range addresses(e.cfg.ListenTLS) {
		ln, err := open(addr)
		if err != nil {
			return nil, err
		}
		all = append(all, ln)
	}
	for _, addr := range addresses(e.cfg.ListenH3) {
		pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", addr)
		if err != nil {
			return nil, fmt.Errorf("listen on %s for HTTP/3: %w", addr, err)
		}
		d.h3 = append(d.h3, pc)
	}
	if e.cfg.ListenTLS != "" || e.cfg.ListenH3 != "" {
		opt := certs.Options{Hosts: e.cfg.acmeHosts(), Log: e.log}
		if clear > 0 {
			opt.HTTP = portOf(all[0].Addr())
		}
		if clear < len(all) {
			opt.TLS = portOf(all[clear].Addr())
			e.portTLS.Store(int32(opt.TLS))
		}
		if d.certificates, err = certs.Open(e.cfg.TLS, opt); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		e.env.Metrics.MustRegister(d.certificates)
	} else {
		e.env.Metrics.MustRegister(new(certs.Store))
	}
	for i := clear; i < len(all); i++ {
		all[i] = tls.NewListener(all[i], d.certificates.TLS("h2", "http/1.1"))
	}
	for i, ln := range all {
		protocol := "http"
		if i >= clear {
			protocol = "https"
		}
		e.log.InfoContext(ctx, "listening", slog.String("on", ln.Addr().String()), slog.String("protocol", protocol))
	}
	for _, pc := range d.h3 {
		e.log.InfoContext(ctx, "listening", slog.String("on", pc.LocalAddr().String()), slog.String("protocol", "h3"))
	}
	d.tcp = join(all)
	return d, nil
}

// altSvc tells clients where HTTP/3 is spoken (RFC 9114 §3.1.1), "" if nowhere.
func (d *doors) altSvc() string {
	if len(d.h3) == 0 {
		return ""
	}
	return fmt.Sprintf(`h3=":%d"; ma=86400`, portOf(d.h3[0].LocalAddr()))
}

func portOf(addr net.Addr) int {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	return 0
}

// limits are those of the loops of HTTP/1.1 and HTTP/2.
func (l LimitsConfig) limits() h1.Limits {
	return h1.Limits{
		Conns: l.Connections, ConnsPerIP: l.ConnectionsPerAddress,
		Handshakes: l.Handshakes, HandshakeTime: l.HandshakeTime, MinRate: int(l.MinRate),
	}
}

// joined is several listeners as one.
type joined struct {
	all    []net.Listener
	conns  chan accepted
	once   sync.Once
	closed chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// join makes one listener of all, nil if there are none. Its address is that of
// the first.
func join(all []net.Listener) net.Listener {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	j := &joined{all: all, conns: make(chan accepted), closed: make(chan struct{})}
	for _, ln := range all {
		go j.accept(ln)
	}
	return j
}

func (j *joined) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		select {
		case j.conns <- accepted{conn, err}:
		case <-j.closed:
			if err == nil {
				_ = conn.Close() // it was not used
			}
			return
		}
	}
}

func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.conns:
		return a.conn, a.err
	case <-j.closed:
		return nil, net.ErrClosed
	}
}

func (j *joined) Close() error {
	err := net.ErrClosed
	j.once.Do(func() {
		close(j.closed)
		err = nil
		for _, ln := range j.all {
			err = errors.Join(err, ln.Close())
		}
	})
	return err
}

func (j *joined) Addr() net.Addr { return j.all[0].Addr() }
