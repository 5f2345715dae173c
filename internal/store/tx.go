package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"freshet/internal/durable"
	"freshet/internal/layout"
)

const stagePrefix = "tx-"

// Tx is a transaction: a set of files to publish together. Files of one class
// are published in the order in which they were put; the order of the classes
// is fixed. For a path named twice, the last call counts.
//
// All methods may be called concurrently, except Commit, Done and Abort, which
// end the transaction.
type Tx struct {
	store *Store

	mu      sync.Mutex
	place   *workplace      // in which it was begun to be staged
	name    string          // of the staging folder below tmp; empty until it is needed
	stage   durable.Dir     // the staging folder
	folder  *durable.Folder // the same, open
	others  []*os.Root      // folders from which payload is linked
	files   int             // names given out in stage
	brought int             // files that there will be
	ops     []operation
	byPath  map[string]int // index in ops
	id      int64          // of the intent, once decided
	ended   bool

	unmirrored bool         // it brings here what is in the copy
	state      *mirrorState // what the directory is then, if that is not what follows
}

// operation is a change of one path. With an empty path it is void: a later
// one took its place.
type operation struct {
	path   string
	class  layout.Class
	staged string   // the name in the staging folder; empty: remove the file
	from   *os.Root // if set, the file has the same path in this folder, and is not staged
}

// brings tells whether there is a file at the path afterwards.
func (op *operation) brings() bool { return op.staged != "" || op.from != nil }

// Begin begins a transaction. Several may be open; commits go one by one.
func (s *Store) Begin() *Tx {
	return &Tx{store: s, byPath: make(map[string]int)}
}

// Put stages a file with the content of r and returns its size. An error of r
// is returned as it is, and the transaction goes on without the file: this is
// how a caller that checks the content while it passes refuses one file of
// many.
func (tx *Tx) Put(class layout.Class, name string, r io.Reader) (int64, error) {
	var n int64
	err := tx.put(class, name, func(f *os.File) (err error) {
		n, err = tx.store.copy(f, r)
		return err
	})
	return n, err
}

// PutBytes stages a file with this content.
func (tx *Tx) PutBytes(class layout.Class, name string, data []byte) error {
	return tx.put(class, name, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// Write stages a file with the content that write produces, as [Tx.Put] does, and
// returns its size. Small writes are gathered.
func (tx *Tx) Write(class layout.Class, name string, write func(io.Writer) error) (int64, error) {
	var n int64
	err := tx.put(class, name, func(f *os.File) (err error) {
		n, err = tx.store.gather(f, write)
		return err
	})
	return n, err
}

func (tx *Tx) put(class layout.Class, name string, write func(*os.File) error) error {
	stage, staged, err := tx.reserve(name)
	if err != nil {
		return err
	}
	f, err := stage.Create(staged, 0o644)
	if err != nil {
		return fmt.Errorf("stage %s: %w", name, tx.why(err))
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("stage %s: %w", name, errors.Join(err, stage.Root.Remove(staged)))
	}
	return tx.record(operation{path: name, class: class, staged: staged})
}

// Remove has the file at name removed: a pointer when the pointers change, in
// its place among them, any other file after that, when nothing points to it
// any more. That the file is not there is no error.
func (tx *Tx) Remove(class layout.Class, name string) error {
	if err := checkWrite(name); err != nil {
		return err
	}
	return tx.record(operation{path: name, class: class})
}

// Abort gives the transaction up and removes what was staged. After Commit it
// does nothing, so that it may be deferred.
func (tx *Tx) Abort() error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return nil
	}
	tx.ended = true
	return tx.discard()
}

// discard removes the staging folder. The caller holds mu.
func (tx *Tx) discard() error {
	if tx.name == "" {
		return nil
	}
	return errors.Join(
		tx.close(),
		tx.store.dir.Root.RemoveAll(path.Join(tmpDir, tx.name)))
}

// reserve returns the staging folder and a new name in it.
func (tx *Tx) reserve(name string) (stage durable.Dir, staged string, err error) {
	if err := checkWrite(name); err != nil {
		return durable.Dir{}, "", err
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return durable.Dir{}, "", fmt.Errorf("stage %s: %w", name, errEnded)
	}
	if err := tx.open(); err != nil {
		return durable.Dir{}, "", fmt.Errorf("stage %s: %w", name, err)
	}
	tx.files++
	return tx.stage, strconv.Itoa(tx.files), nil
}

// open creates the staging folder unless it is there. The caller holds mu.
func (tx *Tx) open() error {
	if tx.name != "" {
		return nil
	}
	place := tx.store.place.Load()
	if place == nil {
		return ErrNotLeading
	}
	folder := path.Join(place.stages, stagePrefix+strings.TrimPrefix(durable.TempName(), durable.TempPrefix))
	if err := tx.store.makeStage(place, folder); err != nil {
		return tx.store.why(place, err)
	}
	root, err := tx.store.dir.Root.OpenRoot(folder)
	if err != nil {
		return tx.store.why(place, err)
	}
	stage := durable.Dir{Root: root, Fault: tx.store.dir.Fault}
	opened, err := stage.Folder(".")
	if err != nil {
		return tx.store.why(place, errors.Join(err, root.Close()))
	}
	tx.place, tx.name = place, strings.TrimPrefix(folder, tmpDir+"/")
	tx.stage, tx.folder = stage, opened
	return nil
}

// close closes the staging folder, and those from which payload is linked.
func (tx *Tx) close() error {
	err := errors.Join(tx.folder.Close(), tx.stage.Root.Close())
	for _, other := range tx.others {
		err = errors.Join(err, other.Close())
	}
	return err
}

// why adds to an error that the leadership is lost, if it is.
func (tx *Tx) why(err error) error { return tx.store.why(tx.place, err) }

// makeStage makes a staging folder. That of a leadership is not made again once
// it is gone.
func (s *Store) makeStage(place *workplace, folder string) error {
	if place.fence == 0 {
		return s.dir.Mkdirs(folder, 0o755, func(string) {})
	}
	return s.dir.Mkdir(folder, 0o755)
}

func (tx *Tx) record(op operation) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return fmt.Errorf("stage %s: %w", op.path, errEnded)
	}
	if i, ok := tx.byPath[op.path]; ok {
		before := tx.ops[i]
		if before.brings() {
			tx.brought--
		}
		if before.staged != "" {
			if err := tx.stage.Root.Remove(before.staged); err != nil {
				return err
			}
		}
		tx.ops[i] = operation{}
	}
	tx.byPath[op.path] = len(tx.ops)
	tx.ops = append(tx.ops, op)
	if op.brings() {
		tx.brought++
	}
	return nil
}

var errEnded = errors.New("the transaction has ended")

// CheckName tells whether a file can be staged under name: a clean relative
// path in UTF-8 that is not one of the store's own.
func CheckName(name string) error { return checkWrite(name) }

func checkWrite(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) || reserved(name) {
		return &fs.PathError{Op: "stage", Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

// copy copies without allocating, and inside the kernel when r is a file.
func (s *Store) copy(f io.Writer, r io.Reader) (int64, error) {
	switch r.(type) {
	case *os.File, *bytes.Reader, *strings.Reader:
		return io.Copy(f, r)
	}
	buffer, _ := s.buffers.Get().(*[64 << 10]byte)
	defer s.buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, buffer[:])
}

// gather calls write with a writer that collects what goes to the file, and
// returns how much that was.
func (s *Store) gather(f *os.File, write func(io.Writer) error) (int64, error) {
	buffer, _ := s.buffers.Get().(*[64 << 10]byte)
	defer s.buffers.Put(buffer)
	g := gatherer{f: f, pending: buffer[:0]}
	err := write(&g)
	if err == nil {
		err = g.flush()
	}
	return g.n, err
}

type gatherer struct {
	f       *os.File
	pending []byte // its capacity is the limit
	n       int64
}

func (g *gatherer) Write(p []byte) (int, error) {
	large := len(p) >= gatherLimit
	if large || len(g.pending)+len(p) > cap(g.pending) {
		if err := g.flush(); err != nil {
			return 0, err
		}
	}
	if large {
		n, err := g.f.Write(p)
		g.n += int64(n)
		return n, err
	}
	g.pending = append(g.pending, p...)
	g.n += int64(len(p))
	return len(p), nil
}

// gatherLimit is the size from which copying costs more than a system call.
const gatherLimit = 8 << 10

func (g *gatherer) flush() error {
	if len(g.pending) == 0 {
		return nil
	}
	_, err := g.f.Write(g.pending)
	g.pending = g.pending[:0]
	return err
}
