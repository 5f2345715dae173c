package hook

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// auditArch names the architecture of this program to seccomp (linux/audit.h); 0
// where nobody has tried it.
func auditArch() uint32 {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64
	}
	return 0
}

// x32 is the bit of system calls of amd64 programs with pointers of 32 bits.
const x32 = 0x40000000

// Offsets in struct seccomp_data (linux/seccomp.h), of little-endian machines.
const (
	seccompNumber = 0
	seccompArch   = 4
	seccompArg0   = 16
)

// denySockets takes from this thread, and from whatever it starts, the making of
// sockets that reach services of this machine by a name in its file system (unix(7)).
// Pairs of connected ones can still be made. Programs for another architecture do not
// run: their system calls have other numbers. io_uring, which makes sockets too, is
// not there for them.
func denySockets() error {
	arch := auditArch()
	if arch == 0 {
		return nil
	}
	denied := func(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// Of the next instructions, so many are passed over if it is so, and if not.
	jump := func(test uint16, value uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: value}
	}
	end := func(value uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value} }
	program := []unix.SockFilter{
		load(seccompArch),
		jump(unix.BPF_JEQ, arch, 0, 5),
		load(seccompNumber),
		jump(unix.BPF_JGE, x32, 3, 0),
		jump(unix.BPF_JEQ, unix.SYS_IO_URING_SETUP, 2, 0),
		jump(unix.BPF_JEQ, unix.SYS_SOCKET, 2, 0),
		end(unix.SECCOMP_RET_ALLOW),
		end(denied(unix.ENOSYS)),
		load(seccompArg0),
		jump(unix.BPF_JEQ, unix.AF_UNIX, 0, 1),
		end(denied(unix.EACCES)),
		end(unix.SECCOMP_RET_ALLOW),
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog))) //nolint:gosec // a system call
	runtime.KeepAlive(program)
	if errno == unix.ENOSYS || errno == unix.EINVAL {
		return nil // a kernel without seccomp
	}
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}
