package diskcache

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"freshet/internal/durable"
)

// home is the folder of a store, open and locked.
type home struct {
	root *os.Root
	lock *os.File
	self *os.File // the folder, for syncfs and to see whether it is still there
	salt [16]byte
	// salted is the CRC-32C of the salt, with which all checksums of heads
	// begin: a body that looks like a record is none.
	salted uint32
}

// ErrInUse says that another process, an edge most likely, has the store open.
var ErrInUse = errors.New("another process uses it: each edge needs a folder of its own")

// storeFile holds the magic and the salt.
const (
	storeFile  = "store"
	storeMagic = "FRSHST03"
)

// folders are the ones a store has. Those of older formats are removed.
func folders() []string    { return []string{"index", "seg", "big", "tmp"} }
func oldFolders() []string { return []string{"obj"} }

// openHome opens or makes the folder of a store.
func openHome(dir string) (*home, error) {
	h, err := lockHome(dir, nil)
	if err != nil {
		return nil, err
	}
	if err := h.prepare(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// again makes a new store in the place of one that was removed, as a whole or
// in part.
func (h *home) again(dir string) (*home, error) {
	anew, err := lockHome(dir, h)
	if err != nil {
		return nil, err
	}
	// What is open of the old one is closed when nobody needs it any more.
	return anew, anew.renew()
}

// lockHome opens and locks the folder. What it has locked before it need not
// lock again.
func lockHome(dir string, old *home) (_ *home, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	h := new(home)
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if h.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	if h.lock, err = h.root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if old != nil && sameFile(h.lock, old.lock) {
		_ = h.lock.Close() // nothing was written
		h.lock = old.lock
	} else if err := unix.Flock(int(h.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock it: %w", err)
	}
	h.self, err = h.root.Open(".")
	return h, err
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// prepare reads the salt and makes the folders.
func (h *home) prepare() error {
	if err := h.readSalt(); err != nil {
		return err
	}
	for _, name := range oldFolders() {
		if err := h.root.RemoveAll(name); err != nil {
			return err
		}
	}
	for _, name := range folders() {
		if err := h.root.MkdirAll(name, 0o750); err != nil {
			return err
		}
	}
	return nil
}

// readSalt reads the store's file, or begins a new store.
func (h *home) readSalt() error {
	data, err := h.root.ReadFile(storeFile)
	if err == nil && len(data) == len(storeMagic)+len(h.salt) && string(data[:len(storeMagic)]) == storeMagic {
		h.setSalt([16]byte(data[len(storeMagic):]))
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return h.renew()
}

func (h *home) setSalt(salt [16]byte) {
	h.salt = salt
	h.salted = checksum(salt[:])
}

// renew begins a new store: whatever is there is not valid any more.
func (h *home) renew() error {
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return err
	}
	for _, name := range folders() {
		if err := h.root.RemoveAll(name); err != nil {
			return err
		}
		if err := h.root.MkdirAll(name, 0o750); err != nil {
			return err
		}
	}
	h.setSalt(salt)
	return durable.Dir{Root: h.root}.WriteFile(storeFile, append([]byte(storeMagic), salt[:]...), 0o640)
}

// seed is what the checksums in a segment begin with, and, with 0, those of
// logs and checkpoints.
func (h *home) seed(num uint32) uint32 {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], num)
	return crc32.Update(h.salted, castagnoli(), b[:])
}

// gone reports whether somebody removed the folder or one of its own.
func (h *home) gone() bool {
	for _, name := range append(folders(), storeFile) {
		if _, err := h.root.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	var st unix.Stat_t
	return h.control(func(fd int) error { return unix.Fstat(fd, &st) }) == nil && st.Nlink == 0
}

// control calls f with the folder's descriptor, which close does not take away
// meanwhile.
func (h *home) control(f func(fd int) error) error {
	raw, err := h.self.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// sync brings everything that was written to the disk.
func (h *home) sync() error {
	if err := h.control(unix.Syncfs); err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	return nil
}

// unlock lets others use the folder.
func (h *home) unlock() error {
	if h.lock == nil {
		return nil
	}
	err := h.lock.Close()
	h.lock = nil
	return err
}

func (h *home) close() error {
	var errs []error
	for _, f := range []*os.File{h.self, h.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if h.root != nil {
		errs = append(errs, h.root.Close())
	}
	return errors.Join(errs...)
}
