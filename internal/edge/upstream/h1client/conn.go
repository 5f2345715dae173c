package h1client

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"freshet/internal/cancel"
)

const (
	// bufferSize is that of the buffer of a connection in use. Long heads take
	// one of maxHead.
	bufferSize = 16 << 10
	// slackPart is the part of a limit between bytes by which it may be passed:
	// setting a deadline costs, so it is set now and then.
	slackPart = 8
)

// conn is a connection to the origin. It belongs to whoever took it from the
// client, or to the client's pool.
type conn struct {
	nc net.Conn
	// under is nc, or what TLS runs over.
	under net.Conn
	raw   syscall.RawConn // of under, nil if it is no socket
	peek  func(fd uintptr) bool
	quiet bool // result of peek

	cut  func()      // close
	hook cancel.Hook // cuts it with the context of the request

	buf  *[]byte // nil while idle
	r, w int     // buf[r:w] is read and not yet used

	made    time.Time
	used    int // requests sent
	since   time.Time
	keep    time.Duration // how long it may be idle
	readBy  time.Time     // the read deadline, if this package's reader set it
	maxMore int           // further requests the origin allows, -1 if unknown
}

func newConn(nc, under net.Conn, now time.Time) *conn {
	c := &conn{nc: nc, under: under, made: now, maxMore: -1}
	c.cut = c.close
	if sc, ok := under.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
			c.peek = func(fd uintptr) bool {
				var b [1]byte
				_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
				c.quiet = errors.Is(err, syscall.EAGAIN)
				return true
			}
		}
	}
	return c
}

// alive reports whether an idle connection is open and silent. What came
// unasked is no answer to the next request.
func (c *conn) alive() bool {
	if c.raw != nil {
		c.quiet = false
		return c.raw.Read(c.peek) == nil && c.quiet
	}
	// A pipe: reading with a deadline that is over tells of its end.
	if c.under.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	var b [1]byte
	n, err := c.under.Read(b[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// close gives up the connection without ceremony: what TLS would say at the end
// might block.
func (c *conn) close() { _ = c.under.Close() }

// fill reads more into the buffer.
func (c *conn) fill() error {
	b := *c.buf
	if c.r > 0 {
		c.w = copy(b, b[c.r:c.w])
		c.r = 0
	}
	if c.w == len(b) {
		return errFull
	}
	n, err := c.nc.Read(b[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

var errFull = errors.New("buffer is full")

// wait sets the deadline of the next read of a body.
func (c *conn) wait(limit time.Duration) {
	if limit <= 0 {
		if !c.readBy.IsZero() {
			c.readBy = time.Time{}
			_ = c.nc.SetReadDeadline(time.Time{}) // fails only when the connection is closed
		}
		return
	}
	by := time.Now().Add(limit)
	if c.readBy.Before(by) || c.readBy.After(by.Add(limit/slackPart)) {
		if !c.readBy.IsZero() { // not the first
			by = by.Add(limit / slackPart)
		}
		c.readBy = by
		_ = c.nc.SetReadDeadline(by) // fails only when the connection is closed
	}
}

// buffers lends buffers to connections in use. The zero value is ready.
type buffers struct{ small, large sync.Pool }

func (b *buffers) get() *[]byte {
	if buf, ok := b.small.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, bufferSize)
	return &buf
}

// grow puts the content of a small buffer into a large one.
func (b *buffers) grow(old *[]byte) *[]byte {
	buf, ok := b.large.Get().(*[]byte)
	if !ok {
		made := make([]byte, maxHead)
		buf = &made
	}
	copy(*buf, *old)
	b.put(old)
	return buf
}

func (b *buffers) put(buf *[]byte) {
	switch {
	case buf == nil:
	case len(*buf) == bufferSize:
		b.small.Put(buf)
	default:
		b.large.Put(buf)
	}
}
