package generation

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"freshet/internal/durable"

	"golang.org/x/sys/unix"
)

// objects are files by their SHA-256: each is one more link to a file of a tree. They
// are in 256 folders by the first byte. It is safe for concurrent use.
type objects struct {
	root   *durable.Folder
	shards [256]shard
}

type shard struct {
	mu     sync.Mutex // between looking at a name and changing it
	folder *durable.Folder
	absent error // there is no such folder, as was seen: nobody else makes it
}

func openObjects(d durable.Dir, name string) (*objects, error) {
	root, err := d.Folder(name)
	if err != nil {
		return nil, err
	}
	return &objects{root: root}, nil
}

func (o *objects) close() error {
	var err error
	for i := range o.shards {
		if f := o.shards[i].folder; f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return errors.Join(err, o.root.Close())
}

// lock locks the shard of a hash and returns its folder, which is made if create is
// set; without, the error can be [fs.ErrNotExist]. If there is no error the caller
// unlocks.
func (o *objects) lock(first byte, create bool) (*shard, error) {
	s := &o.shards[first]
	s.mu.Lock()
	if s.folder != nil {
		return s, nil
	}
	if err := s.absent; err != nil && !create {
		s.mu.Unlock()
		return nil, err
	}
	name := hex.EncodeToString([]byte{first})
	f, err := o.root.Sub(name)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err = o.root.Mkdir(name, 0o755); err == nil {
			f, err = o.root.Sub(name)
		}
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			s.absent = err
		}
		s.mu.Unlock()
		return nil, err
	}
	s.folder = f
	return s, nil
}

// open opens an object for reading.
func (o *objects) open(sum [32]byte) (*os.File, error) {
	s, err := o.lock(sum[0], false)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.folder.Open(hex.EncodeToString(sum[:]))
}

// found says what a hash led to.
type found uint8

const (
	absent found = iota // there is no object of this content and size
	linked              // it has the name
	dated               // there is one, with another time
)

// link gives the object of a file's content the name in the folder to, and returns its
// time. The error is [fs.ErrExist] if there is something. An object with another time
// is not linked, unless that of the file is zero.
func (o *objects) link(to *durable.Folder, name string, f File) (time.Time, found, error) {
	s, err := o.lock(f.SHA256[0], false)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, absent, nil
	}
	if err != nil {
		return time.Time{}, absent, err
	}
	defer s.mu.Unlock()
	object := hex.EncodeToString(f.SHA256[:])
	info, err := s.folder.Lstat(object)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && (info.Size != f.Size || !info.Mode.IsRegular()):
		return time.Time{}, absent, nil
	case err != nil:
		return time.Time{}, absent, err
	case !f.ModTime.IsZero() && f.ModTime.Unix() != info.ModTime.Unix():
		return time.Time{}, dated, nil
	}
	err = to.Link(name, s.folder, object)
	if errors.Is(err, unix.EMLINK) {
		err = s.renew(to, name, object, info.ModTime)
	}
	return whole(info.ModTime), linked, err
}

// copy is link for an object with another time: the name is given to a copy.
func (o *objects) copy(to *durable.Folder, name string, f File) error {
	in, err := o.open(f.SHA256)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // opened for reading
	return copyFile(to, name, in, f.ModTime)
}

// renew is link for a file that has all names which the file system allows: a copy
// becomes the object, on the disk before it has the name.
func (s *shard) renew(to *durable.Folder, name, object string, when time.Time) error {
	if err := copyOf(to, name, s.folder, object, when); err != nil {
		return err
	}
	f, err := to.Open(name)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := s.folder.Remove(object); err != nil {
		return err
	}
	return s.folder.Link(object, to, name)
}

// copyOf is copyFile of the file old in the folder from.
func copyOf(to *durable.Folder, name string, from *durable.Folder, old string, when time.Time) error {
	in, err := from.Open(old)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // opened for reading
	return copyFile(to, name, in, when)
}

// copyFile makes a copy with a time of its own. The error is [fs.ErrExist] if there is
// something. On file systems that can, the copy shares the blocks.
func copyFile(to *durable.Folder, name string, in *os.File, when time.Time) error {
	out, err := to.Create(name, 0o644)
	if err != nil {
		return err
	}
	if err = unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err != nil {
		_, err = io.Copy(out, in) // copy_file_range(2)
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = to.Chtimes(name, when)
	}
	if err != nil {
		return errors.Join(err, to.Remove(name))
	}
	return nil
}

// adopt makes a file of a tree the object of its content, if there is none. It is on
// the disk.
func (o *objects) adopt(sum [32]byte, from *durable.Folder, name string) error {
	s, err := o.lock(sum[0], true)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	err = s.folder.Link(hex.EncodeToString(sum[:]), from, name)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.EMLINK) {
		return nil // another project was faster, or the file has all names it can have
	}
	return err
}

// removeUnused removes the name of an object if it is the last one of its file, and
// returns the bytes that this frees.
func (o *objects) removeUnused(sum [32]byte) (int64, error) {
	s, err := o.lock(sum[0], false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	name := hex.EncodeToString(sum[:])
	info, err := s.folder.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil || info.Links > 1 {
		return 0, err
	}
	return info.Size, s.folder.Remove(name)
}

// isFile says whether the object of this content is the file with this inode.
func (o *objects) isFile(sum [32]byte, inode uint64) (bool, error) {
	s, err := o.lock(sum[0], false)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	info, err := s.folder.Lstat(hex.EncodeToString(sum[:]))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Inode == inode, err
}

// forget removes the name of an object whose content is not what the name says.
func (o *objects) forget(sum [32]byte) error {
	s, err := o.lock(sum[0], false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	return s.folder.Remove(hex.EncodeToString(sum[:]))
}
