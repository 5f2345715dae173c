package checkup

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"freshet/api/mirrorapi"
)

// Mount is the file system of a folder.
type Mount struct {
	Point, Type string
	Options     []string // of the mount and of the file system
}

// LookMount finds the file system that a folder is on; the zero value if it cannot be told.
func LookMount(folder string) Mount {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Mount{}
	}
	at, err := filepath.Abs(folder)
	if err == nil {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return Mount{}
	}
	return mountOf(text, at)
}

// mountOf finds the mount of a path in the text of proc_pid_mountinfo(5).
func mountOf(text []byte, path string) (m Mount) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		dash := slices.Index(fields, "-")
		if dash < 6 || len(fields) < dash+4 {
			continue
		}
		point := unescape.Replace(fields[4])
		if point != "/" && path != point && !strings.HasPrefix(path, point+"/") || len(point) < len(m.Point) {
			continue // the last one of a point lies over the others
		}
		m = Mount{Point: point, Type: fields[dash+1], Options: append(strings.Split(fields[5], ","), strings.Split(fields[dash+3], ",")...)}
	}
	return m
}

// Findings judges a file system.
func (m Mount) Findings() []mirrorapi.Finding {
	var found []mirrorapi.Finding
	add := func(level, do, format string, args ...any) {
		found = append(found, mirrorapi.Finding{Level: level, About: "file system " + m.Point, Message: fmt.Sprintf(format, args...), Do: do})
	}
	has := func(option string) bool { return slices.Contains(m.Options, option) }
	switch {
	case m.Type == "":
		return nil
	case has("ro"):
		add(mirrorapi.LevelError, "see the kernel's log: it does so when it finds errors; repair it with fsck and mount it again", "the kernel lets nobody write to it: projects are served as they are")
	case slices.Contains([]string{"vfat", "exfat", "msdos"}, m.Type):
		add(mirrorapi.LevelError, "use ext4 or XFS", "%s has no hard links", m.Type)
	case slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "9p"}, m.Type) || strings.HasPrefix(m.Type, "fuse"):
		add(mirrorapi.LevelWarning, "use a disk of this machine, with ext4 or XFS", "%s may not keep what it was told to when the power fails", m.Type)
	case m.Type == "tmpfs":
		add(mirrorapi.LevelWarning, "", "it is in memory: all projects are gone after a restart of the machine")
	}
	if has("nobarrier") || has("barrier=0") {
		add(mirrorapi.LevelWarning, "mount it without that, unless the disk has a battery", "it is mounted with nobarrier: a loss of power may damage it")
	}
	if has("strictatime") || !has("relatime") && !has("noatime") && !has("ro") && slices.Contains([]string{"ext4", "xfs", "btrfs", "ext3"}, m.Type) {
		add(mirrorapi.LevelWarning, "mount it with noatime", "each read of a file writes its time to the disk")
	}
	return found
}

// LookOpenat2 tries the system call by which the mirror opens files of projects, openat2(2). The
// error is what it ends with.
func LookOpenat2() error {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Openat2 judges what came of [LookOpenat2]. Filters of system calls that do not know the call refuse it
// with EPERM or ENOSYS; so does systemd, for a service with RestrictSUIDSGID=.
func Openat2(err error) []mirrorapi.Finding {
	f := mirrorapi.Finding{Level: mirrorapi.LevelError, About: "kernel"}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS):
		f.Message = "files cannot be opened: the system call openat2 is refused, by a filter such as that of an old container runtime (" + err.Error() + ")"
		f.Do = "use a newer runtime (runc, libseccomp), or allow openat2 in its seccomp profile; in a unit of systemd, take RestrictSUIDSGID= out"
	default:
		return nil
	}
	return []mirrorapi.Finding{f}
}

// OpenFiles judges how many files the process may have open, of how many it wants for
// clients, files and programs.
func OpenFiles(may, wants uint64) []mirrorapi.Finding {
	if may >= wants {
		return nil
	}
	return []mirrorapi.Finding{{
		Level: mirrorapi.LevelWarning, About: "limits",
		Message: fmt.Sprintf("%d files may be open, and with as many clients as the configuration lets in %d are: some are turned away", may, wants),
		Do:      "LimitNOFILE= in the unit of systemd, or ulimit -n",
	}}
}

// LookOpenFiles is how many files this process may have open.
func LookOpenFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 62
	}
	return limit.Cur
}

// LookMemory is how much memory programs could have, in bytes; -1: it is not known.
func LookMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return -1
	}
	return available(text)
}

func available(meminfo []byte) int64 {
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 52)
		if err != nil {
			return -1
		}
		return kib << 10
	}
	return -1
}

// Memory judges how much memory there is.
func Memory(left int64) []mirrorapi.Finding {
	const least = 200e6
	if left < 0 || left >= least {
		return nil
	}
	return []mirrorapi.Finding{{
		Level: mirrorapi.LevelWarning, About: "memory", Message: fmt.Sprintf("%d MB are left for programs: a sync of a large project may be ended by the kernel", left/1e6),
		Do: "syncs = 1 in [mirror.limits], or end other programs",
	}}
}

// Certificate judges a file with certificates.
func Certificate(path string, now time.Time) []mirrorapi.Finding {
	finding := func(level, do, format string, args ...any) []mirrorapi.Finding {
		return []mirrorapi.Finding{{Level: level, About: "certificate " + path, Message: fmt.Sprintf(format, args...), Do: do}}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return finding(mirrorapi.LevelError, "see whether it is there, and may be read", "%v", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return finding(mirrorapi.LevelError, "put a certificate there, in PEM", "there is no certificate in it")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return finding(mirrorapi.LevelError, "put a certificate there, in PEM", "%v", err)
	}
	const renew = "have it renewed; the mirror takes a new file by itself"
	switch left := c.NotAfter.Sub(now); {
	case left < 0:
		return finding(mirrorapi.LevelError, renew, "it has expired at %s: no client takes it", c.NotAfter.Format(time.RFC3339))
	case c.NotBefore.After(now):
		return finding(mirrorapi.LevelError, "see whether the clock is right", "it is valid from %s on", c.NotBefore.Format(time.RFC3339))
	case left < 14*24*time.Hour:
		return finding(mirrorapi.LevelWarning, renew, "it expires in %d days", int(left.Hours()/24))
	}
	return nil
}
