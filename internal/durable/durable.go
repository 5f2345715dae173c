// Package durable changes files so that they survive a crash of the program
// and a loss of power.
//
// A file is replaced by this sequence of system calls:
//
//	openat(".durable-<random>", O_CREAT|O_EXCL)   a name nobody else has
//	write …, fsync                                content is on the disk
//	renameat(".durable-<random>", name)           readers see old or new, whole
//	openat(folder), fsync                         the name is on the disk
//
// Why each of them:
//
//   - rename(2) replaces atomically for every process that looks, but says
//     nothing about the disk.
//   - fsync(2): "does not necessarily ensure that the entry in the directory
//     containing the file has also reached disk. For that an explicit fsync()
//     on a file descriptor for the directory is also needed." The same holds
//     for folders that were just created, whose own name lies in their parent.
//   - Without the first fsync a file system may put the new name on the disk
//     before the content ("zero-length file after a crash"); ext4 avoids that
//     for a replacing rename only, and only with auto_da_alloc (ext4(5)).
//   - A failed fsync is final: the kernel may have dropped the dirty pages and
//     report the next fsync as a success (Rebello et al., "Can Applications
//     Recover from fsync Failures?", USENIX ATC 2020). The temporary file is
//     thrown away and the error returned; nothing is tried again.
//
// For many files at once, [Dir.Syncfs] takes the place of one fsync per file:
// since Linux 5.8 syncfs(2) reports write errors as fsync does.
//
// A crash may leave temporary files behind. They carry [TempPrefix] in their
// name, and [Dir.Sweep] removes them at the next start.
//
// Every name is resolved inside an [os.Root]: a name that leaves the folder,
// by ".." or through a symbolic link, is an error.
package durable

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// TempPrefix begins the names of the temporary files of this package.
const TempPrefix = ".durable-"

// Dir changes what lies below a folder. It is a small value, to be copied, and
// safe for concurrent use as far as the changes do not touch the same names.
type Dir struct {
	// Root is the folder. It stays the caller's: who opened it closes it.
	Root *os.Root
	// Fault, if set, is called before each step that changes something, with
	// the step's name ("create", "fsync", "rename", …) and the file's. When it
	// returns an error, the step is not done and fails with this error. Tests
	// use it to end or fail an operation at every step in turn.
	Fault func(step, name string) error
}

// Open opens the folder at path, creating it durably when it is not there
// (its parent must exist). The caller closes Root.
func Open(path string) (Dir, error) {
	err := os.Mkdir(path, 0o755)
	switch {
	case err == nil:
		if err := syncParent(path); err != nil {
			return Dir{}, err
		}
	case !errors.Is(err, fs.ErrExist):
		return Dir{}, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return Dir{}, err
	}
	return Dir{Root: root}, nil
}

// IsNoSpace reports whether err comes from a full disk or an exhausted quota.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// WriteFile puts a file with this content at name, replacing the one that is
// there, and returns when it is on the disk. The folder of name must exist.
// After an error the old file is untouched, except for an error of the last
// step, after which the new one is there but may not survive a power loss.
func (d Dir) WriteFile(name string, data []byte, perm fs.FileMode) error {
	return d.Write(name, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write is [Dir.WriteFile] for content that write produces. An error of write
// is returned as it is and leaves no trace.
func (d Dir) Write(name string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	if err := d.step("create", name); err != nil {
		return err
	}
	folder := path.Dir(name)
	temp := path.Join(folder, TempName())
	f, err := d.Root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // a second Close is harmless
			_ = d.Root.Remove(temp)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := d.step("fsync", name); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := d.Rename(temp, name); err != nil {
		return err
	}
	// From here on temp is gone, and the deferred Remove finds nothing.
	return d.SyncDir(folder)
}

// Mkdir makes a folder in one that is there. It is not on the disk yet.
func (d Dir) Mkdir(name string, perm fs.FileMode) error {
	if err := d.step("mkdir", name); err != nil {
		return err
	}
	return d.Root.Mkdir(name, perm)
}

// Create creates a file that is not there yet, open for reading and writing. The
// disk is not waited for.
func (d Dir) Create(name string, perm fs.FileMode) (*os.File, error) {
	if err := d.step("create", name); err != nil {
		return nil, err
	}
	return d.Root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

// TempName returns a new name with [TempPrefix].
func TempName() string {
	var b [12]byte
	for i := range b {
		b[i] = byte(rand.Uint32()) // need not be hard to guess: O_EXCL guards it
	}
	return TempPrefix + hex.EncodeToString(b[:])
}

// MkdirAll creates the folder name with all its parents, and returns when each
// new one is on the disk. A folder that is there already costs one stat.
func (d Dir) MkdirAll(name string, perm fs.FileMode) error {
	return d.mkdirAll(name, perm, d.SyncDir)
}

// Mkdirs is [Dir.MkdirAll] for batches: instead of waiting for the disk it
// calls changed with each folder that got a new entry, which the caller passes
// to [Dir.SyncDir] later.
func (d Dir) Mkdirs(name string, perm fs.FileMode, changed func(folder string)) error {
	return d.mkdirAll(name, perm, func(folder string) error {
		changed(folder)
		return nil
	})
}

func (d Dir) mkdirAll(name string, perm fs.FileMode, changed func(folder string) error) error {
	if name == "." {
		return nil
	}
	if !filepath.IsLocal(name) {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrInvalid}
	}
	if info, err := d.Root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	parent := path.Dir(name)
	if err := d.mkdirAll(parent, perm, changed); err != nil {
		return err
	}
	if err := d.step("mkdir", name); err != nil {
		return err
	}
	if err := d.Root.Mkdir(name, perm); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if info, statErr := d.Root.Stat(name); statErr != nil || !info.IsDir() {
			return err
		}
	}
	return changed(parent)
}

// SyncDir returns when the entries of the folder name are on the disk.
func (d Dir) SyncDir(name string) error {
	if err := d.step("fsync-dir", name); err != nil {
		return err
	}
	f, err := d.Root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncFile returns when the content of the file name is on the disk.
func (d Dir) SyncFile(name string) error {
	if err := d.step("fsync", name); err != nil {
		return err
	}
	f, err := d.Root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Syncfs returns when everything written so far to the file system that holds
// the folder is on the disk, by whomever it was written.
func (d Dir) Syncfs() error {
	if err := d.step("syncfs", "."); err != nil {
		return err
	}
	f, err := d.Root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: f.Name(), Err: err}
	}
	return nil
}

// Rename renames, replacing what is at newname. The disk is not waited for.
func (d Dir) Rename(oldname, newname string) error {
	if err := d.step("rename", newname); err != nil {
		return err
	}
	return d.Root.Rename(oldname, newname)
}

// Link gives the file oldname a second name. The disk is not waited for.
func (d Dir) Link(oldname, newname string) error {
	if err := d.step("link", newname); err != nil {
		return err
	}
	return d.Root.Link(oldname, newname)
}

// Symlink puts a symbolic link to target at name, replacing what is there.
// The disk is not waited for.
func (d Dir) Symlink(target, name string) error {
	if err := d.step("symlink", name); err != nil {
		return err
	}
	temp := path.Join(path.Dir(name), TempName())
	if err := d.Root.Symlink(target, temp); err != nil {
		return err
	}
	if err := d.Rename(temp, name); err != nil {
		return errors.Join(err, d.Root.Remove(temp))
	}
	return nil
}

// NewSymlink puts a symbolic link to target at name, where nothing may be. The
// disk is not waited for.
func (d Dir) NewSymlink(target, name string) error {
	if err := d.step("symlink", name); err != nil {
		return err
	}
	return d.Root.Symlink(target, name)
}

// Remove removes a file or an empty folder; one that is not there is no
// error. The disk is not waited for.
func (d Dir) Remove(name string) error {
	if err := d.step("remove", name); err != nil {
		return err
	}
	if err := d.Root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveAll removes what is at name with all below it. The disk is not waited
// for.
func (d Dir) RemoveAll(name string) error {
	if err := d.step("remove-all", name); err != nil {
		return err
	}
	return d.Root.RemoveAll(name)
}

// Sweep removes the temporary files that a crash left in the folder name, not
// in those below it, and returns how many they were. Nobody may be writing
// there: see [Dir.Lock].
func (d Dir) Sweep(name string) (int, error) {
	f, err := d.Root.Open(name)
	if err != nil {
		return 0, err
	}
	entries, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), TempPrefix) {
			continue
		}
		if err := d.RemoveAll(path.Join(name, e.Name())); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (d Dir) step(step, name string) error {
	if d.Fault == nil {
		return nil
	}
	if err := d.Fault(step, name); err != nil {
		return &fs.PathError{Op: step, Path: name, Err: err}
	}
	return nil
}

func syncParent(name string) error {
	f, err := os.Open(path.Dir(path.Clean(name)))
	if err != nil {
		return fmt.Errorf("sync the parent of %s: %w", name, err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// CheckFolder protects a folder that somebody named by mistake from being
// filled, or swept: it returns an error when dir exists and holds something but
// none of the named entries, by which the caller would know its own.
func CheckFolder(dir string, own ...string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if slices.Contains(own, entry.Name()) {
			return nil
		}
	}
	for _, entry := range entries {
		if entry.Name() != "lost+found" { // a file system of its own is welcome
			return fmt.Errorf("%s is not empty and holds something else (%s): name an empty folder", dir, entry.Name())
		}
	}
	return nil
}
