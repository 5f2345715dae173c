package h1

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never block, because the sockets do not, and they are short:
// the runtime need not be told of them, as package unix does. It is a tenth of
// what a small answer costs. Those for sockets cost less than read and write,
// which are for all files.

// receive is recv(2).
func receive(fd uintptr, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0) //nolint:gosec // kept alive by the call
	return result(n, errno)
}

// stirs reports whether there is something to receive: bytes, the end, or an
// error. It takes nothing, and little of the stack.
func stirs(fd uintptr) bool {
	var b [1]byte
	_, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_PEEK, 0, 0) //nolint:gosec // as above
	return errno != unix.EAGAIN
}

// send is send(2) with flags.
func send(fd uintptr, p []byte, flags int) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags|unix.MSG_NOSIGNAL), 0, 0) //nolint:gosec // kept alive by the call
	return result(n, errno)
}

// sendBoth is sendmsg(2) of two pieces, of which none is empty.
func sendBoth(fd uintptr, p *[2][]byte) (int, error) {
	var v [2]unix.Iovec
	for i := range p {
		v[i].Base = unsafe.SliceData(p[i]) //nolint:gosec // as long as the slice
		v[i].SetLen(len(p[i]))
	}
	m := unix.Msghdr{Iov: &v[0], Iovlen: uint64(len(v))}
	n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m)), unix.MSG_NOSIGNAL) //nolint:gosec // kept alive by the call
	return result(n, errno)
}

// readNow reads what of a file is in memory, as preadv2(2) with RWF_NOWAIT: less than
// wanted, or an error, is no word about the file.
func readNow(f *os.File, p []byte, off int64) (int, error) {
	v := unix.Iovec{Base: unsafe.SliceData(p)} //nolint:gosec // as long as the slice
	v.SetLen(len(p))
	n, _, errno := syscall.RawSyscall6(unix.SYS_PREADV2, f.Fd(), uintptr(unsafe.Pointer(&v)), 1, uintptr(off), uintptr(off>>32), unix.RWF_NOWAIT) //nolint:gosec // kept alive by the call
	runtime.KeepAlive(f)
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
