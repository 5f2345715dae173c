package budget

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

const (
	// whole is how much passes at once at most, where nothing is limited.
	whole = 1 << 20
	// pieces of what is limited: a sixteenth of a second's worth, within bounds.
	smallest = 1 << 10
	largest  = 64 << 10
)

// Conn returns a connection whose incoming bytes are of the share: as fast as it lets
// them, counted as they are read, by the counters too. What is sent is neither. Copied to
// another TCP connection ([io.Copy]), unlimited bytes stay in the kernel.
func (s *Share) Conn(c net.Conn, counters ...*atomic.Int64) net.Conn {
	return &conn{Conn: c, share: s, counters: counters, closed: make(chan struct{})}
}

type conn struct {
	net.Conn
	share    *Share
	counters []*atomic.Int64
	once     sync.Once
	closed   chan struct{}
}

// take counts n bytes, and waits until they may pass. It is false if the connection is
// closed before.
func (c *conn) take(n int64) bool {
	for _, counter := range c.counters {
		counter.Add(n)
	}
	return c.share.take(c.closed, n)
}

// Read reads a piece, and waits until it may pass. Deadlines hold for the reading.
func (c *conn) Read(p []byte) (int, error) {
	if limit := c.share.limit(); limit > 0 {
		p = p[:min(int64(len(p)), max(smallest, min(largest, limit/16)))]
	}
	n, err := c.Conn.Read(p)
	if !c.take(int64(n)) {
		return 0, net.ErrClosed
	}
	return n, err
}

// WriteTo copies what comes in to w until its end.
func (c *conn) WriteTo(w io.Writer) (total int64, err error) {
	tcp, isTCP := c.Conn.(*net.TCPConn)
	to, toTCP := w.(*net.TCPConn)
	var through *pipe
	if isTCP && toTCP {
		if pipe, err := openPipe(to, tcp); err == nil { // it can be copied otherwise
			defer pipe.close()
			through = pipe
		}
	}
	var buffer []byte
	for {
		var n int64
		if through != nil && c.share.limit() == 0 {
			n, err = c.splice(through)
		} else {
			if buffer == nil {
				buffer = make([]byte, largest)
			}
			n, err = c.pass(w, buffer)
		}
		total += n
		switch {
		case errors.Is(err, errNoSplice):
			through = nil
		case err == io.EOF: //nolint:errorlint // both return it as it is
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// splice hands on what is there.
func (c *conn) splice(through *pipe) (int64, error) {
	n, err := through.fill()
	if err != nil {
		return 0, err
	}
	if !c.take(n) {
		return 0, net.ErrClosed
	}
	return n, through.drain(n)
}

// pass reads once and writes what was read.
func (c *conn) pass(w io.Writer, buffer []byte) (int64, error) {
	n, err := c.Read(buffer)
	if n == 0 {
		return 0, err
	}
	written, failed := w.Write(buffer[:n])
	if failed != nil {
		return int64(written), failed
	}
	return int64(n), err
}

// CloseWrite ends what is sent, if the connection can be closed in part.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection, and ends a Read that waits for the budget.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
