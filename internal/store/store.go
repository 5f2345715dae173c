// Package store keeps the files of a repository and changes them so that every
// reader, and every start after a crash, finds a complete old or a complete
// new state.
//
// # On disk
//
//	<dir>/…                   the repository, as it is served
//	<dir>/.store.lock         held by the one process that may write
//	<dir>/tmp/tx-<random>/    files of a transaction, named by number
//	<dir>/tmp/intent-<n>      a decided transaction (docs/formats/store-intent.md)
//	<dir>/tmp/undo-<n>        one that was decided and then taken back
//	<dir>/tmp/lead-<fence>/   the same for one leadership, where several processes
//	                          share the repository: [OpenShared], [Store.Lead]
//
// Other names in tmp are left alone: libostree has its own there. Nothing below
// tmp is served.
//
// # A transaction
//
// Files are staged with [Tx.Put] and [Tx.Link], each with a class from
// internal/layout, which decides when it is published:
//
//  1. Everything staged is made durable, in one batch, and so is payload that
//     [Tx.LinkPayload] left where it is.
//  2. Payload is renamed or linked into place, never over a file that is there,
//     and made durable. Nothing points to it yet.
//  3. The intent record is written: from here on the transaction is decided.
//  4. Index files are renamed into place, then the pointers, back to back;
//     then files that are not pointers are removed.
//  5. The caller does what must agree with the files (its database), and calls
//     Done, which removes the record.
//
// A crash before 3 leaves the old state, and payload nobody points to. A crash
// after 3 leaves a record: [Open] completes the transaction and names it in
// [Store.Pending], so that the caller can complete its own part. The caller's
// part must therefore be one that can be repeated; the note is there to
// recognise it.
//
// When a step fails without a crash (a full disk), the transaction is taken
// back and the error returned, even after 3. Only payload stays, which is
// harmless: a later transaction finds it in place.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"freshet/internal/durable"
)

const (
	tmpDir   = "tmp"
	lockName = ".store.lock"
)

// ErrBroken is what a store answers to writers after an error that it could
// not take back, such as a failing disk. Readers are served on; opening the
// store again repairs it.
var ErrBroken = errors.New("store is inconsistent until it is opened again")

// Store is the files of one repository, opened by the one process that may
// change them, or by one of several of which one leads. All methods may be called
// concurrently.
type Store struct {
	dir    durable.Dir
	lock   io.Closer
	shared bool
	place  atomic.Pointer[workplace] // nil: nothing can be changed
	mirror *Mirror                   // nil: there is no copy, or it is not known
	copied bool                      // there was one when the store was opened
	// mirrored is set while directory and copy are known to be the same.
	mirrored atomic.Bool
	buffers  sync.Pool // *[]byte, for copying

	// committing is held by the transaction that is changing the repository,
	// from the first rename to the end.
	committing sync.Mutex
	unclean    bool  // an earlier change may not be on the disk; by committing
	broken     error // by committing

	// pendingMu guards the decided transactions that wait for Done.
	pendingMu sync.Mutex
	pending   []Intent
	nextID    int64

	// switching is held for writing while pointers change, and for reading
	// while a file is opened.
	switching  sync.RWMutex
	generation uint64                    // grows with each switch
	superseded map[string][]supersession // for the open views; see View

	viewsMu sync.Mutex
	views   map[uint64]int // open views by generation
}

// Open opens the repository at dir, which is created when it is not there (its
// parent must exist), and repairs what a crash left: half-staged transactions
// are removed and decided ones completed. When another process has it open,
// the error is [durable.ErrInUse].
func Open(dir string) (*Store, error) { return open(dir, nil) }

func open(dir string, fault func(step, name string) error) (*Store, error) {
	s, err := open1(dir, fault)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return s, nil
}

func open1(dir string, fault func(step, name string) error) (*Store, error) {
	s, err := prepare(dir, fault, durable.Dir.Lock)
	if err != nil {
		return nil, err
	}
	if err := s.recover(alone()); err != nil {
		return nil, errors.Join(fmt.Errorf("repair: %w", err), s.Close())
	}
	s.place.Store(alone())
	return s, nil
}

// prepare makes a store that can be read.
func prepare(dir string, fault func(step, name string) error, lock func(durable.Dir, string) (io.Closer, error)) (_ *Store, err error) {
	d, err := durable.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir:        d,
		superseded: make(map[string][]supersession),
		views:      make(map[uint64]int),
		buffers:    sync.Pool{New: func() any { return new([64 << 10]byte) }},
	}
	s.dir.Fault = fault
	defer func() {
		if err != nil {
			_ = s.Close() // the first error is the one to tell
		}
	}()
	if s.lock, err = lock(d, lockName); err != nil {
		return nil, err
	}
	_, err = d.Root.Lstat(CopiedFile)
	s.copied = err == nil
	return s, s.dir.MkdirAll(tmpDir, 0o755)
}

// Close gives the repository back. Transactions that were not committed are
// removed at the next Open. Files that readers have open stay readable.
func (s *Store) Close() error {
	s.committing.Lock()
	defer s.committing.Unlock()
	s.broken = fs.ErrClosed
	s.switching.Lock()
	s.dropSuperseded(^uint64(0))
	s.switching.Unlock()
	var errs []error
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(append(errs, s.dir.Root.Close())...)
}

// Open opens a file for reading. Folders, and the store's own files, are not
// there. While pointers change, it waits: of two calls, the second never sees
// an older state than the first.
func (s *Store) Open(name string) (*os.File, error) {
	s.switching.RLock()
	defer s.switching.RUnlock()
	return s.open(name)
}

func (s *Store) open(name string) (*os.File, error) {
	if err := check("open", name); err != nil {
		return nil, err
	}
	// Without O_NONBLOCK, opening a FIFO that somebody put here would hang.
	f, err := s.dir.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, absent(name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Stat describes a file or folder.
func (s *Store) Stat(name string) (fs.FileInfo, error) {
	if err := check("stat", name); err != nil {
		return nil, err
	}
	s.switching.RLock()
	defer s.switching.RUnlock()
	info, err := s.dir.Root.Stat(name)
	return info, absent(name, err)
}

// absent turns the errors of paths that cannot exist into fs.ErrNotExist.
func absent(name string, err error) error {
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) {
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return err
}

// Has reports whether there is a regular file at name.
func (s *Store) Has(name string) bool {
	info, err := s.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// Walk calls fn for what is below the folder root ("." for all), as
// [fs.WalkDir] does.
func (s *Store) Walk(root string, fn fs.WalkDirFunc) error {
	return fs.WalkDir(s.FS(), root, fn)
}

// FS is the repository as a file system to read, without the store's own
// files.
func (s *Store) FS() fs.FS { return files{s} }

// files implements [fs.ReadDirFS] and [fs.StatFS].
type files struct{ s *Store }

func (f files) Open(name string) (fs.File, error) {
	if err := check("open", name); err != nil {
		return nil, err
	}
	f.s.switching.RLock()
	defer f.s.switching.RUnlock()
	return f.s.dir.Root.Open(name)
}

func (f files) Stat(name string) (fs.FileInfo, error) { return f.s.Stat(name) }

func (f files) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := check("readdir", name); err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(f.s.dir.Root.FS(), name)
	if name != "." {
		return entries, err
	}
	visible := entries[:0]
	for _, e := range entries {
		if !reserved(e.Name()) {
			visible = append(visible, e)
		}
	}
	return visible, err
}

// check refuses names that are not clean relative paths, and hides the store's
// own files.
func check(op, name string) error {
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if reserved(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

func reserved(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return top == tmpDir || top == lockName || top == CopiedFile || strings.HasPrefix(path.Base(name), durable.TempPrefix)
}
