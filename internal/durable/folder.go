package durable

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Info is what a folder tells of one of its names.
type Info struct {
	Mode    fs.FileMode // type and permission bits
	Size    int64
	ModTime time.Time
	Inode   uint64
	Links   uint64 // how many names the file has in all
}

// Lstat tells of the name of one element; a symbolic link is not followed.
func (to *Folder) Lstat(name string) (Info, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(int(to.f.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Info{}, &fs.PathError{Op: "lstat", Path: to.name + "/" + name, Err: err}
	}
	info := Info{
		Mode:    fs.FileMode(stat.Mode & 0o777),
		Size:    stat.Size,
		ModTime: time.Unix(stat.Mtim.Unix()),
		Inode:   stat.Ino,
		Links:   uint64(stat.Nlink), //nolint:unconvert // 32 bits wide on some machines
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		info.Mode |= fs.ModeDir
	case unix.S_IFLNK:
		info.Mode |= fs.ModeSymlink
	default:
		info.Mode |= fs.ModeIrregular
	}
	return info, nil
}

// Sub opens the folder name, of one element, in this one. A symbolic link is an
// error. The caller closes it.
func (to *Folder) Sub(name string) (*Folder, error) {
	if err := to.step("open", name, name); err != nil {
		return nil, err
	}
	full := to.name + "/" + name
	fd, err := unix.Openat(int(to.f.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: full, Err: err}
	}
	return &Folder{f: os.NewFile(uintptr(fd), full), name: full, fault: to.fault}, nil
}

// Mkdir makes a folder in this one. It is not on the disk yet.
func (to *Folder) Mkdir(name string, perm fs.FileMode) error {
	if err := to.step("mkdir", name, name); err != nil {
		return err
	}
	if err := unix.Mkdirat(int(to.f.Fd()), name, uint32(perm.Perm())); err != nil {
		return &fs.PathError{Op: "mkdir", Path: to.name + "/" + name, Err: err}
	}
	return nil
}

// Symlink makes a symbolic link to target, where nothing may be.
func (to *Folder) Symlink(target, name string) error {
	if err := to.step("symlink", name, name); err != nil {
		return err
	}
	err := unix.Symlinkat(target, int(to.f.Fd()), name)
	return linkError("symlink", "", target, to.name, name, err)
}

// Readlink returns the target of a symbolic link.
func (to *Folder) Readlink(name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(to.f.Fd()), name, b)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: to.name + "/" + name, Err: err}
	}
	return string(b[:n]), nil
}

// Move renames the file oldname of the folder from to newname, replacing what is
// there. The disk is not waited for.
func (to *Folder) Move(newname string, from *Folder, oldname string) error {
	if err := to.step("move", newname, oldname); err != nil {
		return err
	}
	err := unix.Renameat(int(from.f.Fd()), oldname, int(to.f.Fd()), newname)
	return linkError("rename", from.name, oldname, to.name, newname, err)
}

// Create creates a file that is not there yet, open for writing.
func (to *Folder) Create(name string, perm fs.FileMode) (*os.File, error) {
	if err := to.step("create", name, name); err != nil {
		return nil, err
	}
	full := to.name + "/" + name
	fd, err := unix.Openat(int(to.f.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, uint32(perm.Perm()))
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: full, Err: err}
	}
	return os.NewFile(uintptr(fd), full), nil
}

// Remove removes a file, not a folder; one that is not there is no error.
func (to *Folder) Remove(name string) error { return to.unlink("remove", name, 0) }

// Rmdir removes an empty folder; one that is not there is no error.
func (to *Folder) Rmdir(name string) error { return to.unlink("rmdir", name, unix.AT_REMOVEDIR) }

func (to *Folder) unlink(step, name string, flags int) error {
	if err := to.step(step, name, name); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(to.f.Fd()), name, flags); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: step, Path: to.name + "/" + name, Err: err}
	}
	return nil
}

// Names returns the names in the folder, in no order, up to n of them if n is
// positive; at the end there are none. Calls go on where the last one ended.
func (to *Folder) Names(n int) ([]string, error) { return to.f.Readdirnames(n) }

// Handle is the open folder, for reading alone. It ends with Close.
func (to *Folder) Handle() *os.File { return to.f }

// Chmod sets the permission bits of a file.
func (to *Folder) Chmod(name string, perm fs.FileMode) error {
	if err := to.step("chmod", name, name); err != nil {
		return err
	}
	if err := unix.Fchmodat(int(to.f.Fd()), name, uint32(perm.Perm()), 0); err != nil {
		return &fs.PathError{Op: "chmod", Path: to.name + "/" + name, Err: err}
	}
	return nil
}

// Chtimes sets the time of modification of a file, and that of access to the same.
func (to *Folder) Chtimes(name string, modTime time.Time) error {
	if err := to.step("chtimes", name, name); err != nil {
		return err
	}
	t, err := unix.TimeToTimespec(modTime)
	if err == nil {
		err = unix.UtimesNanoAt(int(to.f.Fd()), name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return &fs.PathError{Op: "chtimes", Path: to.name + "/" + name, Err: err}
	}
	return nil
}
