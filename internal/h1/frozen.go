package h1

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
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
	if !c.state.CompareAndSwap(connIdle, connActive) && c.state.Load() != connActive {
		return false // the wait was ended, not its time over
	}
	c.setRead(time.Now().Add(thawTime))
	c.late = true
	return true
}

// waits reports whether something of the client waits in the socket of a
// connection, were it its end. False if there is no socket to ask.
func waits(conn net.Conn) bool {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	sock, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return false
	}
	found := false
	err = raw.Control(func(fd uintptr) { found = stirs(fd) })
	return err == nil && found
}
