package repository

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"freshet/internal/hub/stamps"
)

// fileMode is that of all files of a build: a web server may serve them.
const fileMode = 0o644

// A temp is a file of a build that has no name yet that anybody knows.
type temp struct {
	path  string
	fd    int          // os.File would try, in five calls, whether the poller can watch it
	sync  bool         // it has to be on the disk before it gets its name
	stamp stamps.Stamp // once it was written
}

// createTemp makes one. [sweep] removes it when the process is killed.
func (b *Build) createTemp() (*temp, error) {
	prefix := b.dir + "/" + tempDir + "/" + b.repo.opt.uploadPrefix()
	for {
		path := prefix + strconv.FormatUint(b.repo.temps.Add(1), 36)
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, fileMode)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.EINTR) {
			continue // of a process that was killed, or not tried to its end
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return &temp{path: path, fd: fd, sync: b.repo.opt.Instance != ""}, nil
	}
}

// write writes what check reads, and closes the file.
func (t *temp) write(r io.Reader, check func(io.Reader) error) (int64, error) {
	w, ok := writers.Get().(*bufio.Writer)
	if !ok {
		w = bufio.NewWriterSize(nil, copyBuffer)
	}
	w.Reset(t)
	defer func() {
		w.Reset(nil)
		writers.Put(w)
	}()
	counted := &counter{w: w}
	err := check(io.TeeReader(r, counted))
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = t.finish()
	}
	return counted.n, errors.Join(err, t.failed("close", unix.Close(t.fd)))
}

// Write implements io.Writer.
func (t *temp) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = unix.Write(t.fd, p[n:])
		n += max(0, more)
		switch {
		case errors.Is(err, unix.EINTR):
			err = nil
		case err == nil && more == 0:
			err = io.ErrShortWrite
		}
	}
	return n, t.failed("write", err)
}

// failed says which file an error of a system call is about.
func (t *temp) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: t.path, Err: err}
}

// finish looks at a file that was written, sees to its mode, and makes it durable if
// that is asked for.
func (t *temp) finish() error {
	var stat syscall.Stat_t
	if err := syscall.Fstat(t.fd, &stat); err != nil {
		return t.failed("stat", err)
	}
	t.stamp = stamps.Of(&stat)
	if fs.FileMode(stat.Mode).Perm() != fileMode { // whatever the umask is
		if err := unix.Fchmod(t.fd, fileMode); err != nil {
			return t.failed("chmod", err)
		}
	}
	if t.sync {
		return t.failed("sync", unix.Fsync(t.fd))
	}
	return nil
}

// settle gives a file that is complete its name.
func (b *Build) settle(t *temp, path string) error {
	target := b.dir + "/" + path
	// os.Rename would look at the target first.
	err := unix.Rename(t.path, target)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
			err = unix.Rename(t.path, target)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: t.path, New: target, Err: err}
	}
	return nil
}

// discard removes a file that did not get its name; Remove may have been faster.
func (t *temp) discard() error {
	if err := os.Remove(t.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyBuffer is the size of writes of uploads.
const copyBuffer = 64 << 10

// writers are kept for the next object: most are much smaller than the buffer, which
// costs more to make than to use.
var writers sync.Pool // of *bufio.Writer

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
