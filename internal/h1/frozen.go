package h1

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// thawTime is how long the rest of what came in time may take when the time was
// over before anybody looked.
const thawTime = time.Second

// frozen reports whether the read that failed with err is to be done again: its
// time is over, but something waits in the socket. It came while nobody could
// look, because this process or the whole machine had stood still. That is
// forgiven once for each deadline, so that nobody lives on it.
func (c *conn) frozen(err error) bool {
	if c.late || !errors.Is(err, os.ErrDeadlineExceeded) || !waits(c.rwc) {
		return false
	}
	c.state.Store(connActive) // also where serving has ended: this came before
	c.setRead(time.Now().Add(thawTime))
	c.late = true
	return true
}

// waits reports whether something of the client waits in the socket of a
// connection, were it its end. False if there is no socket to ask.
func waits(conn net.Conn) bool {
	found := false
	return onSocket(conn, func(fd uintptr) { found = stirs(fd) }) && found
}

// Unsent is how many bytes of what was written to a connection the other side's
// system has not confirmed. It is false if there is no socket to ask.
func Unsent(conn net.Conn) (n int, ok bool) {
	var err error
	ok = onSocket(conn, func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n, ok && err == nil
}

// onSocket calls f with the socket below a connection, if there is one.
func onSocket(conn net.Conn, f func(fd uintptr)) bool {
	for {
		switch c := conn.(type) {
		case interface{ NetConn() net.Conn }: // of TLS
			conn = c.NetConn()
			continue
		case interface{ Raw() net.Conn }: // of the PROXY protocol
			conn = c.Raw()
			continue
		case syscall.Conn:
			raw, err := c.SyscallConn()
			return err == nil && raw.Control(f) == nil
		}
		return false
	}
}
