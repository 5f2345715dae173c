// Package landlock takes from a thread, and from whatever it starts, the files and ports
// that it has no need of: landlock(7), system calls of Linux.
//
// What is taken does not come back. So a goroutine locks its thread first, is confined,
// starts the program that is to be, and ends without unlocking it: the runtime lets the
// thread end with it.
package landlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights are what may be done with files.
type Rights uint64

// The rights.
const (
	// List is to read folders.
	List Rights = unix.LANDLOCK_ACCESS_FS_READ_DIR
	// Read is to read and run files, and to read folders.
	Read = readFile | List
	// Write is to change files that are there.
	Write Rights = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// Devices is to order something of them.
	Devices Rights = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// All is everything.
	All = Read | Write | Devices | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER

	readFile Rights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	// ofFiles are those that a file can have.
	ofFiles = readFile | Write | Devices
)

// The versions of landlock from which on something is confined. Programs that write rename
// files from one folder to another, which the first version forbids altogether.
const (
	filesSince    = 2
	truncateSince = 3
	portsSince    = 4
	devicesSince  = 5
	scopesSince   = 6

	createVersion = 1 // the flag that asks for the version
)

// Confines reports whether this kernel confines threads to files.
func Confines() bool { return version() >= filesSince }

// ConfinesPorts reports whether this kernel confines threads to ports.
func ConfinesPorts() bool { return version() >= portsSince }

func version() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, createVersion)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// Scope says what is taken beside files.
type Scope struct {
	// Ports takes connections to TCP ports, but those that are allowed, where
	// [ConfinesPorts] is true.
	Ports bool
	// Sockets takes connections to abstract unix sockets of others, where the kernel can.
	Sockets bool
}

// Rules are what a thread is left. They must be closed.
type Rules struct {
	fd      int
	handled Rights // what is taken unless a rule allows it
	ports   bool
	failed  error
}

// New returns rules that allow nothing yet. [Confines] must be true.
func New(s Scope) (*Rules, error) {
	v := version()
	handled := All
	if v < truncateSince {
		handled &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if v < devicesSince {
		handled &^= Devices
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: uint64(handled)}
	if v >= portsSince && s.Ports {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if v >= scopesSince {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		if s.Sockets {
			attr.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		}
	}
	// What an older kernel does not know is zero, and it does not mind the size.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0) //nolint:gosec // a system call
	if errno != 0 {
		return nil, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	return &Rules{fd: int(fd), handled: handled, ports: attr.Handled_access_net != 0}, nil
}

// Allow leaves rights to a file, or to a folder and all below it. Paths that do not exist
// need no rule. Its error is that of Enforce.
func (r *Rules) Allow(path string, rights Rights) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return
	}
	if err != nil {
		r.failed = errors.Join(r.failed, &fs.PathError{Op: "open", Path: path, Err: err})
		return
	}
	defer func() { _ = unix.Close(fd) }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= ofFiles
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: uint64(rights & r.handled), Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0) //nolint:gosec // a system call
	if errno != 0 {
		r.failed = errors.Join(r.failed, &fs.PathError{Op: "landlock_add_rule", Path: path, Err: errno})
	}
}

// AllowPort leaves connections to a TCP port, if ports are taken.
func (r *Rules) AllowPort(port int) {
	if !r.ports {
		return
	}
	attr := netPortAttr{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), ruleNetPort,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0) //nolint:gosec // a system call
	if errno != 0 {
		r.failed = errors.Join(r.failed, fmt.Errorf("landlock_add_rule port %d: %w", port, errno))
	}
}

// netPortAttr is struct landlock_net_port_attr, and ruleNetPort its type
// (linux/landlock.h).
type netPortAttr struct{ access, port uint64 }

const ruleNetPort = 2

// Enforce makes the rules those of this thread, for good, which must be locked, and gains
// no new privileges from then on.
func (r *Rules) Enforce() error {
	if r.failed != nil {
		return r.failed
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}

// Close frees what the rules take.
func (r *Rules) Close() { _ = unix.Close(r.fd) }
