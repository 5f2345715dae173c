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

// socket does the reading of a connection that is nothing but a socket, and a
// sender the writing. The runtime's poller waits; the calls are made here, so
// that an idle connection needs no buffer, and a deadline is set only for what
// has to wait.
//
// As long as requests are hits, all is done between two waits of one
// [syscall.RawConn.Read]: nothing else of a connection costs as little.
type socket struct {
	c      *conn
	raw    syscall.RawConn
	onRead func(fd uintptr) bool // read; made once
	next   turn
	// held is the descriptor while read runs, which keeps it from being closed;
	// -1 at other times.
	held int
}

func newSocket(c *conn, raw syscall.RawConn) *socket {
	s := &socket{c: c, raw: raw, held: -1}
	s.onRead = s.read
	return s
}

// turns answers hits until something else is to be done than to wait.
func (s *socket) turns() turn {
	c := s.c
	err := s.raw.Read(s.onRead)
	if err == nil {
		return s.next
	}
	if c.busy && errors.Is(err, os.ErrDeadlineExceeded) && c.state.CompareAndSwap(connIdle, connActive) {
		c.busy = false
		return c.pause() // and then look
	}
	if c.frozen(err) {
		return turnWait
	}
	c.woken(err)
	return turnEnd
}

// read answers all that is there, and reports false when it has to wait for
// more.
func (s *socket) read(fd uintptr) bool {
	s.held = int(fd)
	s.next = s.turn(fd)
	s.held = -1
	return s.next != turnWait
}

func (s *socket) turn(fd uintptr) turn {
	c := s.c
	for {
		if c.w == nil {
			c.w = c.s.buffers.getWork(c)
		}
		if c.busy {
			reach(c.w.n)
		}
		room := c.w.in[c.w.n:]
		n, err := receive(fd, room)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return s.wait()
		}
		c.woken(err)
		if err != nil || n == 0 {
			return turnEnd
		}
		c.w.n += n
		if t := c.hits(); t != turnWait {
			return t
		}
		if c.busy && c.w.n == 0 && n < len(room) {
			// If there were more, the poller would say so, and asking costs. It would
			// not say that the client has left, if that came with the request: it is
			// seen after lookAfter.
			return c.pause()
		}
	}
}

// wait waits here for what follows soon, and elsewhere for what may take long.
func (s *socket) wait() turn {
	t := s.c.pause()
	if t == turnWait && s.c.w == nil && !s.c.busy && !s.c.first && !s.c.rested {
		return turnRest
	}
	return t
}

// sender does the writing. Its callbacks are made once, and their arguments stand
// beside them, because this is done for every request.
type sender struct {
	c       *conn
	onWrite func(fd uintptr) bool // write
	onFile  func(fd uintptr) bool // sendfile

	n    int
	err  error
	wait bool      // wait until the socket takes something
	more bool      // more follows at once
	out  [2][]byte // what is still to be written
	file int
	off  int64
	left int64

	watcher Watcher   // of the answer that is being sent; nil: nobody wants to know
	told    time.Time // when it was told
}

// write writes what it can of out.
func (s *sender) write(fd uintptr) bool {
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
func (s *sender) sendfile(fd uintptr) bool {
	var err error
	s.n, err = unix.Sendfile(int(fd), s.file, &s.off, int(min(s.left, sendfileMax)))
	if err == nil && s.n == 0 {
		err = &FileError{io.ErrUnexpectedEOF} // the file is shorter than it was
	}
	return s.did(err)
}

// did notes the result of a call, and reports whether the poller's work is
// done.
func (s *sender) did(err error) bool {
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
func (s *sender) writeAll(a, b []byte, more bool) (int, error) {
	s.out[0], s.out[1], s.more = a, b, more
	sent := 0
	for first := true; ; first = false {
		err := s.step(s.onWrite, first)
		if err == nil {
			n := min(s.n, len(s.out[0]))
			s.out[0], s.out[1] = s.out[0][n:], s.out[1][s.n-n:]
			s.c.w.pace.moved += int64(s.n)
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
func (s *sender) sendFile(f *os.File, off, n int64) (int64, error) {
	s.file, s.off, s.left = int(f.Fd()), off, n
	for first := true; ; first = false {
		if err := s.step(s.onFile, first); err != nil {
			return n - s.left, err
		}
		s.c.w.pace.moved += int64(s.n)
		if s.left -= int64(s.n); s.left == 0 {
			return n, s.relax(first)
		}
		if s.watcher != nil && !first {
			if now := time.Now(); now.Sub(s.told) >= WatchEvery {
				s.told = now
				s.watcher.Sending(&s.c.w.req, &s.c.w.res, n-s.left)
			}
		}
	}
}

// step makes one call. The first one does not wait; for the others there is a
// deadline.
func (s *sender) step(f func(fd uintptr) bool, first bool) error {
	s.wait = !first
	if s.wait {
		now := time.Now()
		if s.c.w.pace.tooSlow(now, s.c.s) {
			return errSlow
		}
		if err := s.c.rwc.SetWriteDeadline(now.Add(s.c.s.Stall)); err != nil {
			return err
		}
	}
	if sock := s.c.sock; first && sock.held >= 0 {
		f(uintptr(sock.held))
	} else if err := sock.raw.Write(f); err != nil {
		return err
	}
	return s.err
}

// relax takes the deadline away, if there is one.
func (s *sender) relax(none bool) error {
	if none {
		return nil
	}
	return s.c.rwc.SetWriteDeadline(time.Time{})
}

// reach fetches the part of the stack that an answer needs, all of it at once.
// Each connection has its own: when there are many, it is not in the processor's
// cache any more, and an answer would wait for one line of it after the other.
//
//go:noinline
func reach(i int) byte {
	var deep [1280]byte // with what stands above, some more than hits take
	return deep[i%len(deep)]
}
