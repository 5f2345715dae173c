package durable

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A Folder is an open folder in which many names are made: the path to it is
// resolved once, safely, and each name costs a single system call.
type Folder struct {
	f     *os.File
	name  string
	fault func(step, name string) error
}

// Folder opens the folder name. The caller closes it.
func (d Dir) Folder(name string) (*Folder, error) {
	f, err := d.Root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Folder{f: f, name: name, fault: d.Fault}, nil
}

// Close closes the folder.
func (to *Folder) Close() error { return to.f.Close() }

// MoveNew renames the file oldname of the folder from to newname, unless there
// is something at newname: then it fails with an error that is fs.ErrExist and
// changes nothing. Both names are of one element. The disk is not waited for.
func (to *Folder) MoveNew(newname string, from *Folder, oldname string) error {
	if err := to.step("move", newname, oldname); err != nil {
		return err
	}
	oldfd, newfd := int(from.f.Fd()), int(to.f.Fd())
	err := unix.Renameat2(oldfd, oldname, newfd, newname, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// renameat2(2): EINVAL when the file system does not know the flag.
		if err = unix.Linkat(oldfd, oldname, newfd, newname, 0); err == nil {
			err = unix.Unlinkat(oldfd, oldname, 0)
		}
	}
	return linkError("rename", from.name, oldname, to.name, newname, err)
}

// Link gives the file oldname of the folder from the second name newname. Both
// names are of one element. The disk is not waited for.
func (to *Folder) Link(newname string, from *Folder, oldname string) error {
	if err := to.step("link", newname, oldname); err != nil {
		return err
	}
	err := unix.Linkat(int(from.f.Fd()), oldname, int(to.f.Fd()), newname, 0)
	return linkError("link", from.name, oldname, to.name, newname, err)
}

// IsRegular tells whether the name of one element is that of a regular file.
func (to *Folder) IsRegular(name string) (bool, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(int(to.f.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, &fs.PathError{Op: "lstat", Path: to.name + "/" + name, Err: err}
	}
	return stat.Mode&unix.S_IFMT == unix.S_IFREG, nil
}

// Open opens a file of the folder, whose name is of one element, for reading. A
// symbolic link is an error.
func (to *Folder) Open(name string) (*os.File, error) {
	if err := to.step("open", name, name); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(to.f.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: to.name + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (to *Folder) step(step, newname, oldname string) error {
	for _, name := range [...]string{newname, oldname} {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return &fs.PathError{Op: step, Path: name, Err: fs.ErrInvalid}
		}
	}
	return Dir{Fault: to.fault}.step(step, to.name+"/"+newname)
}

func linkError(op, from, oldname, to, newname string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: from + "/" + oldname, New: to + "/" + newname, Err: err}
}
