package fetch

import (
	"context"
	"crypto"
	_ "crypto/md5" //nolint:gosec // old indexes tell no better checksum
	_ "crypto/sha1"
	"crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"time"

	"freshet/internal/apkindex"
	"freshet/internal/closure"

	"golang.org/x/sys/unix"
)

// errWrong is that of a file that is not the one that was wanted.
var errWrong = errors.New("this is another file than the one that is wanted")

// inspector reads files that have arrived in a folder, one after the other, and finds out
// whether they are those that are wanted. It is for one goroutine.
type inspector struct {
	folder int // its descriptor
	o      *Options
	buffer []byte
}

const readSize = 128 << 10

// inspect returns the result for a file that lies below the folder.
func (i *inspector) inspect(ctx context.Context, w Want, from string) Result {
	r := Result{Want: w, From: from, Outcome: Fetched}
	if err := i.examine(ctx, &r); err != nil {
		r.Outcome = Failed
		if errors.Is(err, errWrong) {
			r.Outcome = Wrong
		}
		r.Err = fmt.Errorf("%s: %w", w.Path, err)
	}
	return r
}

// examine fills in what a file is. One that is not the wanted one is removed, so that it
// does not stand in the way of the next.
func (i *inspector) examine(ctx context.Context, r *Result) error {
	err := i.look(ctx, r)
	if errors.Is(err, errWrong) {
		return errors.Join(err, unix.Unlinkat(i.folder, r.Want.Path, 0))
	}
	return err
}

// look fills in what the file is.
func (i *inspector) look(ctx context.Context, r *Result) (err error) {
	fd, err := openBeneath(i.folder, r.Want.Path)
	if err != nil {
		return err
	}
	f := file(fd)
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	r.Size = st.Size
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1:
		return fmt.Errorf("%w: it is no file of its own", errWrong)
	case r.Want.Size >= 0 && st.Size != r.Want.Size:
		return fmt.Errorf("%w: it has %d bytes, not %d", errWrong, st.Size, r.Want.Size)
	}
	if err := i.hash(ctx, f, r); err != nil {
		return err
	}
	r.ModTime = time.Unix(st.Mtim.Sec, 0).UTC()
	return settle(fd, &st)
}

// settle gives a file the time and the mode that one of a tree has: whole seconds, as HTTP
// tells it, and readable for everybody.
func settle(fd int, st *unix.Stat_t) error {
	mode := uint32(0o644)
	if st.Mode&0o111 != 0 {
		mode = 0o755
	}
	if st.Mode&0o7777 != mode {
		if err := unix.Fchmod(fd, mode); err != nil {
			return err
		}
	}
	if st.Mtim.Nsec == 0 {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: st.Mtim.Sec}}
	return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
}

// hash reads a file and compares it with what is told of it.
func (i *inspector) hash(ctx context.Context, f file, r *Result) error {
	if err := i.o.Disk.Take(ctx, r.Size); err != nil {
		return err
	}
	if i.buffer == nil {
		i.buffer = make([]byte, readSize)
	}
	sum := newSums(r.Want.Sum)
	if err := i.read(f, r.Size, sum); err != nil {
		return err
	}
	var err error
	if r.SHA256, err = sum.check(); err != nil || !r.Want.Sum.Control {
		return err
	}
	if _, err := unix.Seek(int(f), 0, io.SeekStart); err != nil {
		return err
	}
	return checkControl(f, r.Want.Sum)
}

// read reads a file of so many bytes.
func (i *inspector) read(f file, size int64, to *sums) error {
	for left := size; ; {
		n, err := f.Read(i.buffer)
		if err != nil && err != io.EOF { //nolint:errorlint // file returns it as it is
			return err
		}
		_, _ = to.Write(i.buffer[:n])
		left -= int64(n)
		switch {
		case left < 0, left > 0 && n == 0:
			return fmt.Errorf("%w: it changes while it is read", errWrong)
		case left == 0 && n < len(i.buffer): // there would have been room for more
			return nil
		}
	}
}

// sums computes the SHA-256 of what is written to it, and the checksum that is told if it
// is another one.
type sums struct {
	want closure.Sum
	sha  hash.Hash
	told hash.Hash
}

func newSums(want closure.Sum) *sums {
	s := &sums{want: want, sha: sha256.New()}
	if _, same := want.SHA256(); !same && !want.Control && want.Value != "" && want.Hash.Available() {
		s.told = want.Hash.New()
	}
	return s
}

func (s *sums) Write(p []byte) (int, error) {
	_, _ = s.sha.Write(p) // a hash takes everything
	if s.told != nil {
		_, _ = s.told.Write(p)
	}
	return len(p), nil
}

// check returns the SHA-256, and errWrong if the checksum is not the one that is told. One
// of a control stream, or of a kind that is not known, is not looked at.
func (s *sums) check() (sha [32]byte, err error) {
	s.sha.Sum(sha[:0])
	got := string(sha[:])
	if s.told != nil {
		got = string(s.told.Sum(nil))
	} else if _, told := s.want.SHA256(); !told {
		return sha, nil
	}
	if got != s.want.Value {
		return sha, fmt.Errorf("%w: its %v is %x, not %x", errWrong, s.want.Hash, got, s.want.Value)
	}
	return sha, nil
}

// checkControl compares the control stream of a package of Alpine with its checksum.
func checkControl(r io.Reader, want closure.Sum) error {
	old, got, err := apkindex.Control(r)
	switch {
	case errors.Is(err, apkindex.ErrUnsupported):
		return nil // of apk-tools 3, which the checksum says nothing of
	case err != nil:
		return fmt.Errorf("%w: %w", errWrong, err)
	case want.Hash == crypto.SHA1:
		got = old
	}
	if want.Value != string(got) {
		return fmt.Errorf("%w: the checksum of its control stream is %x, not %x", errWrong, got, want.Value)
	}
	return nil
}

// file reads from a descriptor that is somebody else's to close.
type file int

func (f file) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(f), p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// openBeneath opens a file below a folder for reading, and follows no link.
func openBeneath(folder int, path string) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err = unix.Openat2(folder, path, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}
