package h1

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never block, because the sockets do not, and they are short:
// the runtime need not be told of them, as package unix does. It is a tenth of
// what a small answer costs.

// read is read(2).
func read(fd uintptr, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))) //nolint:gosec // kept alive by the call
	return result(n, errno)
}

// writev is writev(2) of two pieces, of which the first is not empty.
func writev(fd uintptr, p *[2][]byte) (int, error) {
	var v [2]unix.Iovec
	for i := range p {
		v[i].Base = unsafe.SliceData(p[i]) //nolint:gosec // as long as the slice
		v[i].SetLen(len(p[i]))
	}
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v)), uintptr(len(v))) //nolint:gosec // kept alive by the call
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
