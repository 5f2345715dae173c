package durable

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ErrInUse is the error of [Dir.Lock] when another process, or another part
// of this one, holds the lock.
var ErrInUse = errors.New("in use by another process")

// Lock takes the exclusive lock of the file name, which is created when it is
// not there and never removed, and returns at once: with [ErrInUse] when
// somebody else holds it. Closing the result gives the lock back, and so does
// the end of the process, however it ends.
//
// It is an open file description lock (fcntl(2), F_OFD_SETLK): unlike POSIX
// record locks it also holds between parts of one process and is not lost when
// another descriptor of the file is closed, and unlike flock(2) it works over
// NFS.
func (d Dir) Lock(name string) (io.Closer, error) { return d.lockAs(name, unix.F_WRLCK) }

// LockShared is [Dir.Lock] for those who hold the lock beside one another, but
// never beside one who holds it alone.
func (d Dir) LockShared(name string) (io.Closer, error) { return d.lockAs(name, unix.F_RDLCK) }

func (d Dir) lockAs(name string, kind int16) (io.Closer, error) {
	for {
		f, err := d.Root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		held, err := d.lock(f, name, kind)
		if held {
			return lock{f}, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

// lock reports false without an error when somebody removed the file between
// its opening and its locking, so that the lock protects nothing.
func (d Dir) lock(f *os.File, name string, kind int16) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, fmt.Errorf("%s: %w", f.Name(), ErrInUse)
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	locked, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := d.Root.Stat(name)
	return err == nil && os.SameFile(locked, named), nil
}

type lock struct{ f *os.File }

// Close unlocks before it closes: a process that is being started has copies of
// all descriptors for a moment, and the lock ends with the last of them.
func (l lock) Close() error {
	err := unix.FcntlFlock(l.f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
	return errors.Join(err, l.f.Close())
}
