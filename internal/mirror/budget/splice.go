package budget

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipe is what bytes pass through from one connection to another without leaving the
// kernel (splice(2)).
type pipe struct {
	in, out  int // its ends: what is written to in is read from out
	from, to syscall.RawConn
}

// openPipe makes a pipe between two connections. The caller closes it.
func openPipe(to, from *net.TCPConn) (*pipe, error) {
	source, err := from.SyscallConn()
	if err != nil {
		return nil, err
	}
	target, err := to.SyscallConn()
	if err != nil {
		return nil, err
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	_, _ = unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, whole) // less will do
	return &pipe{in: ends[1], out: ends[0], from: source, to: target}, nil
}

func (p *pipe) close() { _, _ = unix.Close(p.in), unix.Close(p.out) }

// errNoSplice says that this system cannot splice such a connection. Nothing was taken of it.
var errNoSplice = errors.New("it cannot be spliced")

const spliceFlags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK

// fill takes what has come in, at most a whole, and waits if there is nothing. The error is [io.EOF]
// at the end, or errNoSplice.
//
// Before it waits, what was taken is acknowledged. Who sends in small pieces and turns, as
// rsync's two ends do, has each held back by Nagle's algorithm (RFC 9293 §3.7.4) until the
// one before is acknowledged, which a kernel does not hurry to do: 40 ms each time.
func (p *pipe) fill() (n int64, err error) {
	failed := p.from.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Splice(int(fd), nil, p.in, nil, whole, spliceFlags)
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // it is a wish
				return false
			default:
				return true
			}
		}
	})
	switch {
	case failed != nil:
		return 0, failed
	case err == nil && n == 0:
		return 0, io.EOF
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		return 0, errNoSplice
	}
	return n, err
}

// drain hands on what the pipe has.
func (p *pipe) drain(left int64) error {
	var n int64
	var err error
	for left > 0 && err == nil {
		failed := p.to.Write(func(fd uintptr) bool {
			n, err = unix.Splice(p.out, nil, int(fd), nil, int(left), spliceFlags)
			return !errors.Is(err, unix.EAGAIN)
		})
		switch {
		case failed != nil:
			return failed
		case errors.Is(err, unix.EINTR):
			err = nil
		case err == nil && n == 0:
			return io.ErrShortWrite // it would go on for ever
		}
		left -= max(n, 0)
	}
	return err
}
