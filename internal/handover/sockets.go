package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets are the listening sockets of a process: those that it was given, and those it
// has opened. They go on listening when their listeners are closed, until [Sockets.Close],
// so that another process, or another part of this one, can accept what comes meanwhile.
// The zero value has none yet. Safe for concurrent use.
type Sockets struct {
	mu     sync.Mutex
	all    []*socket
	closed bool
}

// socket is a socket that listens. The descriptor is the set's own.
type socket struct {
	name string // the address as it was asked for, or the name that a service manager gave it
	fd   int
	used bool // there is a listener on it
}

// Listen listens on a TCP address ("host:port", ":port"): on the socket that is here for
// it, if one is, else by open, whose listener must have a socket of TCP.
func (s *Sockets) Listen(ctx context.Context, addr string, open func(ctx context.Context, addr string) (net.Listener, error)) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if found := s.find(ctx, addr); found != nil {
		ln, err := listener(found.fd)
		if err != nil {
			return nil, fmt.Errorf("listen on %s with a socket that was handed over: %w", addr, err)
		}
		found.name, found.used = addr, true
		return &lasting{Listener: ln, set: s, socket: found}, nil
	}
	ln, err := open(ctx, addr)
	if err != nil {
		return nil, err
	}
	fd, err := duplicate(ln)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep the socket of %s: %w", addr, err), ln.Close())
	}
	kept := &socket{addr, fd, true}
	s.all = append(s.all, kept)
	return &lasting{Listener: ln, set: s, socket: kept}, nil
}

// find returns a socket for the address that nobody listens to, nil if there is none: one
// that has this name, or else one that is bound to the address.
func (s *Sockets) find(ctx context.Context, addr string) *socket {
	for _, k := range s.all {
		if !k.used && k.name == addr {
			return k
		}
	}
	want, err := resolve(ctx, addr)
	if err != nil || want.Port() == 0 {
		return nil // whoever opens it says what is wrong
	}
	for _, k := range s.all {
		if have := bound(k.fd); !k.used && have.Port() == want.Port() && sameHost(have.Addr(), want.Addr()) {
			return k
		}
	}
	return nil
}

// resolve is what an address leads to; no valid address in it means any.
func resolve(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil || host == "" {
		return netip.AddrPortFrom(netip.Addr{}, uint16(port)), err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(port)), nil
}

// sameHost reports whether a socket that is bound to have is one for want, which is not
// valid for any address.
func sameHost(have, want netip.Addr) bool {
	if !want.IsValid() {
		return have.IsUnspecified()
	}
	return have == want
}

// bound is the address of a socket of TCP, the zero value if it has none.
func bound(fd int) netip.AddrPort {
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// listener makes a listener of a socket, which stays open when that is closed.
func listener(fd int) (net.Listener, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(own), "socket")
	ln, err := net.FileListener(f)
	return ln, errors.Join(err, f.Close())
}

// duplicate returns another descriptor of the socket of a listener.
func duplicate(ln net.Listener) (fd int, err error) {
	of, ok := ln.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("%T has no socket", ln)
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, failed)
}

// lasting is a listener whose socket goes on listening.
type lasting struct {
	net.Listener
	set    *Sockets
	socket *socket
}

// Close implements [net.Listener].
func (l *lasting) Close() error {
	err := l.Listener.Close()
	if err == nil {
		l.set.mu.Lock()
		l.socket.used = false
		l.set.mu.Unlock()
	}
	return err
}

// await waits until nobody listens to any of the sockets, for a few seconds at most.
func (s *Sockets) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, awaitTime)
	defer cancel()
	ticker := time.NewTicker(awaitTime / 500)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		used := slices.ContainsFunc(s.all, func(k *socket) bool { return k.used })
		s.mu.Unlock()
		if !used {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// awaitTime is how long a server that was told to stop may take to close its listener.
const awaitTime = 5 * time.Second

// Close closes the sockets: what arrives from now on is refused, unless another process
// has them or a listener is not closed yet. There are none afterwards, and no new ones.
func (s *Sockets) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.all {
		_ = unix.Close(k.fd)
	}
	s.all, s.closed = nil, true
}

// CloseIdle closes the sockets that nobody listens to, and returns their names, or
// addresses where they have none.
func (s *Sockets) CloseIdle() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(k *socket) bool {
		if !k.used {
			names = append(names, k.name)
			_ = unix.Close(k.fd)
		}
		return !k.used
	})
	return names
}

// take adds a socket that this process was given; if it is one of TCP that listens.
func (s *Sockets) take(fd int, name string) error {
	if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v == 0 || !bound(fd).IsValid() {
		_ = unix.Close(fd)
		return fmt.Errorf("the descriptor %d (%q) that was passed is no listening socket of TCP", fd, name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, &socket{name: name, fd: fd})
	return nil
}

// each returns the sockets that are open and their names. They stay the set's own.
func (s *Sockets) each() (fds []int, names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.all {
		fds, names = append(fds, k.fd), append(names, k.name)
	}
	return fds, names
}
