package h1

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sendfileFrom is the length from which sendfile costs less than a copy.
	sendfileFrom = 64 << 10
	// outSize is that of the buffers in which head and body are put together.
	outSize = sendfileFrom + 4<<10
	// sendfileMax is how much one call of sendfile may send: large enough to
	// cost nothing, small enough to see whether the client still reads.
	sendfileMax = 2 << 20
)

// socket does the reading and writing of a connection that is nothing but a
// socket. The runtime's poller waits; the calls are made here, so that an idle
// connection needs no buffer, and a deadline is set only for what has to wait.
//
// The callbacks are made once, and their arguments stand beside them, because
// this is done for every request.
type socket struct {
	c   *conn
	raw syscall.RawConn

	onRead  func(fd uintptr) bool
	onWrite func(fd uintptr) bool
	onFile  func(fd uintptr) bool

	n    int
	err  error
	wait bool      // wait until the socket takes something
	more bool      // more follows at once
	out  [2][]byte // what is still to be written
	file int
	off  int64
	left int64
}

func newSocket(c *conn, raw syscall.RawConn) *socket {
	s := &socket{c: c, raw: raw}
	s.onRead, s.onWrite, s.onFile = s.read, s.write, s.sendfile
	return s
}

// read reads into the buffer of the connection, which gets one for that if it
// has none.
func (s *socket) read(fd uintptr) bool {
	c := s.c
	idle := c.w == nil
	if idle {
		c.w = c.s.buffers.getWork()
	}
	s.n, s.err = receive(fd, c.w.in[c.w.n:])
	for errors.Is(s.err, unix.EINTR) {
		s.n, s.err = receive(fd, c.w.in[c.w.n:])
	}
	if s.err == nil {
		return true
	}
	s.n = 0
	if idle {
		c.release()
	}
	return !errors.Is(s.err, unix.EAGAIN)
}

func (s *socket) readSome() (int, error) {
	s.n, s.err = 0, nil
	if err := s.raw.Read(s.onRead); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// write writes what it can of out.
func (s *socket) write(fd uintptr) bool {
	var err error
	switch {
	case len(s.out[1]) > 0 && len(s.out[0]) > 0:
		s.n, err = sendBoth(fd, &s.out)
	case s.more:
		s.n, err = send(fd, s.out[0], unix.MSG_MORE)
	case len(s.out[0]) > 0:
		s.n, err = send(fd, s.out[0], 0)
	default:
		s.n, err = send(fd, s.out[1], 0)
	}
	return s.did(err)
}

// sendfile sends what it can of the file.
func (s *socket) sendfile(fd uintptr) bool {
	var err error
	s.n, err = unix.Sendfile(int(fd), s.file, &s.off, int(min(s.left, sendfileMax)))
	if err == nil && s.n == 0 {
		err = &FileError{io.ErrUnexpectedEOF} // the file is shorter than it was
	}
	return s.did(err)
}

// did notes the result of a call, and reports whether the poller's work is
// done.
func (s *socket) did(err error) bool {
	s.err = nil
	if err == nil {
		return true
	}
	s.n = 0
	switch {
	case errors.Is(err, unix.EAGAIN):
		return !s.wait
	case !errors.Is(err, unix.EINTR):
		s.err = err
	}
	return true
}

// writeAll writes two pieces as one, and returns how much of both went out.
func (s *socket) writeAll(a, b []byte, more bool) (int, error) {
	s.out[0], s.out[1], s.more = a, b, more
	sent := 0
	for first := true; ; first = false {
		err := s.step(s.onWrite, first)
		if err == nil {
			n := min(s.n, len(s.out[0]))
			s.out[0], s.out[1] = s.out[0][n:], s.out[1][s.n-n:]
			s.c.w.moved += int64(s.n)
			if sent += s.n; sent < len(a)+len(b) {
				continue
			}
			err = s.relax(first)
		}
		s.out[0], s.out[1] = nil, nil
		return sent, err
	}
}

// sendFile sends n bytes of f from off on, and returns how many it sent.
func (s *socket) sendFile(f *os.File, off, n int64) (int64, error) {
	s.file, s.off, s.left = int(f.Fd()), off, n
	for first := true; ; first = false {
		if err := s.step(s.onFile, first); err != nil {
			return n - s.left, err
		}
		s.c.w.moved += int64(s.n)
		if s.left -= int64(s.n); s.left == 0 {
			return n, s.relax(first)
		}
	}
}

// step makes one call. The first one does not wait; for the others there is a
// deadline.
func (s *socket) step(f func(fd uintptr) bool, first bool) error {
	s.wait = !first
	if s.wait {
		now := time.Now()
		if s.c.w.tooSlow(now, s.c.s) {
			return errSlow
		}
		if err := s.c.rwc.SetWriteDeadline(now.Add(s.c.s.Stall)); err != nil {
			return err
		}
	}
	if err := s.raw.Write(f); err != nil {
		return err
	}
	return s.err
}

// relax takes the deadline away, if there is one.
func (s *socket) relax(none bool) error {
	if none {
		return nil
	}
	return s.c.rwc.SetWriteDeadline(time.Time{})
}
