package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of Landlock (landlock(7)). Commands that write rename files from one
// folder to another, which the first version of Landlock forbids altogether.
const (
	minLandlock      = 2
	minLandlockPorts = 4

	readFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	readAll  = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// writeAll is everything that is known to the second version.
	writeAll = readAll | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER

	landlockCreateVersion = 1 // the flag that asks for the version
)

// Confines reports whether this kernel confines commands.
func Confines() bool { return landlockVersion() >= minLandlock }

// ConfinesPorts reports whether this kernel confines commands to ports.
func ConfinesPorts() bool { return landlockVersion() >= minLandlockPorts }

func landlockVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, landlockCreateVersion)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// confine takes from this thread, and from whatever it starts, what the command
// has no need of.
func (c *Command) confine(home string) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	dropCapabilities()
	if !c.Sockets {
		if err := denySockets(); err != nil {
			return err
		}
	}
	version := landlockVersion()
	if version < minLandlock {
		return nil
	}
	hidden, err := realPaths(c.Hidden)
	if err != nil {
		return err
	}
	rules, err := newRuleset(version, c)
	if err != nil {
		return err
	}
	defer rules.close()
	// Names are no secret: a rule for a folder is one for all below, and so those
	// on the way to what is hidden could not be listed otherwise.
	rules.allow("/", unix.LANDLOCK_ACCESS_FS_READ_DIR)
	for _, path := range visible("/", hidden) {
		rules.allow(path, readAll)
	}
	for _, path := range c.Shown {
		rules.allow(path, readAll)
	}
	for _, path := range append([]string{home}, c.Writable...) {
		rules.allow(path, rules.handled)
	}
	rules.allow("/dev", readAll|unix.LANDLOCK_ACCESS_FS_WRITE_FILE|rules.handled&unix.LANDLOCK_ACCESS_FS_IOCTL_DEV)
	if version >= minLandlockPorts {
		for _, port := range c.Ports {
			rules.allowPort(port)
		}
	}
	return rules.enforce()
}

// dropCapabilities sees to it that a program started as root gets none of its
// capabilities. Others have none to drop, and may not: that is no error.
func dropCapabilities() {
	for capability := range uintptr(64) {
		if unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0) != nil {
			return // beyond the last one, or not root
		}
	}
}

// visible returns paths that together hold everything below dir but what is
// hidden.
func visible(dir string, hidden []string) []string {
	if !slices.ContainsFunc(hidden, func(path string) bool { return below(path, dir) }) {
		return []string{dir}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // what cannot be listed is not shown either
	}
	var all []string
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		// Of a link its target counts, which is found in its own place.
		if entry.Type()&fs.ModeSymlink == 0 && !slices.Contains(hidden, path) {
			all = append(all, visible(path, hidden)...)
		}
	}
	return all
}

// below reports whether a path lies in a folder, and is not the folder itself.
func below(path, dir string) bool {
	return path != dir && strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// realPaths resolves links, and leaves out what does not exist.
func realPaths(paths []string) ([]string, error) {
	var all []string
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		path, err = filepath.EvalSymlinks(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			all = append(all, path)
		}
	}
	return all, nil
}

// ruleset is a set of Landlock rules that is being made.
type ruleset struct {
	fd      int
	handled uint64 // what is forbidden unless a rule allows it
	failed  error
}

func newRuleset(version int, c *Command) (*ruleset, error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: writeAll}
	if version >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= minLandlockPorts && c.Ports != nil {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		if !c.Sockets {
			attr.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		}
	}
	// What an older kernel does not know is zero, and it does not mind the size.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0) //nolint:gosec // a system call
	if errno != 0 {
		return nil, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	return &ruleset{fd: int(fd), handled: attr.Handled_access_fs}, nil
}

// allow adds a rule; paths that do not exist need none. Its error is that of
// enforce.
func (r *ruleset) allow(path string, rights uint64) {
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
		rights &= readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights & r.handled, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0) //nolint:gosec // a system call
	if errno != 0 {
		r.failed = errors.Join(r.failed, &fs.PathError{Op: "landlock_add_rule", Path: path, Err: errno})
	}
}

// allowPort lets connections to a TCP port be made.
func (r *ruleset) allowPort(port int) {
	attr := landlockNetPortAttr{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), landlockRuleNetPort,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0) //nolint:gosec // a system call
	if errno != 0 {
		r.failed = errors.Join(r.failed, fmt.Errorf("landlock_add_rule port %d: %w", port, errno))
	}
}

// landlockNetPortAttr is struct landlock_net_port_attr, and landlockRuleNetPort its
// type (linux/landlock.h).
type landlockNetPortAttr struct{ access, port uint64 }

const landlockRuleNetPort = 2

// enforce makes the rules those of this thread, for good.
func (r *ruleset) enforce() error {
	if r.failed != nil {
		return r.failed
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}

func (r *ruleset) close() { _ = unix.Close(r.fd) }
