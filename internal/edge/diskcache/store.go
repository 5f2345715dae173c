package diskcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Options are the wishes of a store's owner.
type Options struct {
	// Size bounds the bytes on disk; it must be positive.
	Size int64
	// OpenFiles bounds the descriptors kept open between requests; 1024 if 0.
	OpenFiles int
	// Log receives what was repaired and what could not be written. Nil: nothing.
	Log *slog.Logger
}

// ErrFull says that there is no room even after evicting everything that may
// be evicted.
var ErrFull = errors.New("store is full")

// Store is a folder of entries. Its methods are safe for concurrent use.
type Store struct {
	root *os.Root
	dir  string
	lock *os.File
	dirF *os.File // for syncfs
	log  *slog.Logger
	size int64

	mu       sync.RWMutex
	index    map[ID]*Entry
	queue    s3fifo
	used     int64 // bytes of entries and of reservations
	reserved int64 // part of used that belongs to writers
	seq      uint64

	files  descriptors
	commit committer
}

// Open opens or creates the store in dir, removes what a crash left, and loads
// the index. Only one process can have a store open.
func Open(ctx context.Context, dir string, opts Options) (*Store, error) {
	if opts.Size <= 0 {
		return nil, fmt.Errorf("store %s: size must be positive", dir)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.OpenFiles == 0 {
		opts.OpenFiles = 1024
	}
	s := &Store{dir: dir, log: opts.Log, size: opts.Size, index: make(map[ID]*Entry), seq: 1}
	s.queue.init()
	s.files.max = opts.OpenFiles
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", dir, err), s.closeFiles())
	}
	s.commit.start(s)
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return err
	}
	var err error
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return err
	}
	if s.lock, err = s.root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another process uses it: %w", err)
	}
	if err := s.root.MkdirAll("obj", 0o750); err != nil {
		return err
	}
	if err := s.sweep(); err != nil {
		return err
	}
	if s.dirF, err = s.root.Open("tmp"); err != nil {
		return err
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	gone := s.evictLocked(s.size)
	s.mu.Unlock()
	s.removeAll(gone)
	return nil
}

// sweep empties tmp/: what is there was not finished.
func (s *Store) sweep() error {
	if err := s.root.MkdirAll("tmp", 0o750); err != nil {
		return err
	}
	names, err := readNames(s.root, "tmp")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.root.RemoveAll(path.Join("tmp", name)); err != nil {
			return err
		}
	}
	return nil
}

func readNames(root *os.Root, dir string) ([]string, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// load reads the head of every entry.
func (s *Store) load(ctx context.Context) error {
	folders, err := readNames(s.root, "obj")
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8) // on a cold disk the reads are what takes the time
	for _, folder := range folders {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			names, err := readNames(s.root, path.Join("obj", folder))
			if err != nil {
				return err
			}
			for _, name := range names {
				s.loadFile(ctx, path.Join("obj", folder, name))
			}
			return nil
		})
	}
	return g.Wait()
}

// loadFile takes one file into the index, or removes it if it is no good.
func (s *Store) loadFile(ctx context.Context, name string) {
	e, err := s.readFile(name)
	if err != nil {
		s.log.WarnContext(ctx, "remove a damaged cache entry", slog.String("file", name), slog.Any("error", err))
		s.removeFile(name)
		return
	}
	s.mu.Lock()
	s.seq = max(s.seq, e.seq+1)
	older := s.index[e.id]
	if older != nil && older.seq > e.seq {
		s.mu.Unlock()
		s.removeFile(name)
		return
	}
	if older != nil {
		s.dropLocked(older)
	}
	s.insertLocked(e)
	s.mu.Unlock()
	if older != nil {
		s.remove(older)
	}
}

func (s *Store) readFile(name string) (_ *Entry, err error) {
	id, seq, ok := parseName(path.Base(name))
	if !ok || path.Base(path.Dir(name)) != id.String()[:2] {
		return nil, errors.New("unknown name")
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, meta, err := readEntry(f)
	if err != nil {
		return nil, err
	}
	e := newEntry(s, id, seq, meta, h)
	e.committed = true
	// A clock that was ahead when it was written, and set right since, would
	// make it young for ever.
	if h.stateBad || h.state.Validated.After(time.Now().Add(clockSlack)) {
		e.state.Validated = time.Time{}
		e.state.Flags = ^uint32(0) // nothing known: every flag raised
	}
	return e, nil
}

// Close waits until everything committed is on disk and gives the store up.
// Bodies still open stay readable.
func (s *Store) Close() error {
	s.commit.stop()
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	s.files.closeAll()
	var errs []error
	for _, c := range []*os.File{s.dirF, s.lock} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if s.root != nil {
		errs = append(errs, s.root.Close())
	}
	return errors.Join(errs...)
}

// Get returns the entry, or nil. The entry counts as used.
func (s *Store) Get(id ID) *Entry {
	s.mu.RLock()
	e := s.index[id]
	s.mu.RUnlock()
	if e != nil {
		e.touch()
	}
	return e
}

// Peek is Get without counting a use.
func (s *Store) Peek(id ID) *Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.index[id]
}

// Sync returns when everything written so far, states included, is on the
// disk.
func (s *Store) Sync() error {
	if err := unix.Syncfs(int(s.dirF.Fd())); err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	return nil
}

// All yields every entry, in no order. Entries that come or go meanwhile may
// or may not be among them.
func (s *Store) All() iter.Seq[*Entry] {
	s.mu.RLock()
	entries := make([]*Entry, 0, len(s.index))
	for _, e := range s.index {
		entries = append(entries, e)
	}
	s.mu.RUnlock()
	return func(yield func(*Entry) bool) {
		for _, e := range entries {
			if !yield(e) {
				return
			}
		}
	}
}

// Stat is the fill of the store.
type Stat struct {
	Entries int
	// Used are the bytes on disk, with what writers have reserved.
	Used, Size int64
}

// Stat returns the present fill.
func (s *Store) Stat() Stat {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stat{Entries: len(s.index), Used: s.used, Size: s.size}
}

// Size is the bound the store was opened with.
func (s *Store) Size() int64 { return s.size }

// Delete removes the entry if it is still the current one of its ID.
func (s *Store) Delete(e *Entry) {
	s.mu.Lock()
	if s.index[e.id] == e {
		s.dropLocked(e)
	}
	s.mu.Unlock()
	s.remove(e)
}

// clockSlack is how far ahead a time on disk may be.
const clockSlack = time.Minute

// reserve makes room for n more bytes of a writer. Nothing is evicted for what
// does not fit beside the other writers.
func (s *Store) reserve(n int64) error {
	s.mu.Lock()
	if s.reserved+n > s.size {
		s.mu.Unlock()
		return ErrFull
	}
	gone := s.evictLocked(s.size - n)
	if s.used+n > s.size {
		s.mu.Unlock()
		s.removeAll(gone)
		return ErrFull
	}
	s.used += n
	s.reserved += n
	s.mu.Unlock()
	s.removeAll(gone)
	return nil
}

func (s *Store) unreserve(n int64) {
	s.mu.Lock()
	s.used -= n
	s.reserved -= n
	s.mu.Unlock()
}

// publish puts a finished entry in place of an older one.
func (s *Store) publish(e *Entry, reserved int64) {
	s.mu.Lock()
	s.used -= reserved
	s.reserved -= reserved
	if older := s.index[e.id]; older != nil {
		s.dropLocked(older)
		e.older = older // its file goes once the new one is safe
	}
	s.insertLocked(e)
	gone := s.evictLocked(s.size)
	s.mu.Unlock()
	s.removeAll(gone)
	s.commit.add(e)
}

func (s *Store) insertLocked(e *Entry) {
	s.index[e.id] = e
	s.used += e.cost
	s.queue.insert(e)
}

func (s *Store) dropLocked(e *Entry) {
	delete(s.index, e.id)
	s.used -= e.cost
	s.queue.remove(e)
}

// evictLocked takes entries out of the index until at most limit bytes are
// used. The caller removes the files after unlocking.
func (s *Store) evictLocked(limit int64) []*Entry {
	var gone []*Entry
	for s.used > limit {
		e := s.queue.evict()
		if e == nil {
			break
		}
		delete(s.index, e.id)
		s.used -= e.cost
		gone = append(gone, e)
	}
	return gone
}

func (s *Store) removeAll(entries []*Entry) {
	for _, e := range entries {
		s.remove(e)
	}
}

// remove deletes the file of an entry that is not in the index any more.
func (s *Store) remove(e *Entry) {
	e.mu.Lock()
	dead := e.dead
	e.dead = true
	name, older := e.nameLocked(), e.older
	e.older = nil
	e.mu.Unlock()
	if dead {
		return
	}
	s.removeFile(name)
	s.files.forget(e)
	if older != nil {
		s.remove(older)
	}
}

func (s *Store) removeFile(name string) {
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("remove a cache entry", slog.String("file", name), slog.Any("error", err))
	}
}

// Path is the absolute name of a file or folder that the owner of the store
// keeps beside the entries. It must not be one of the store's own.
func (s *Store) Path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// committer makes finished entries durable, many at a time.
type committer struct {
	mu     sync.Mutex
	queue  []*Entry
	closed bool
	wake   chan struct{}
	done   chan struct{}
}

// commitDelay is how long entries wait for others to share a sync with.
const commitDelay = 100 * time.Millisecond

func (c *committer) start(s *Store) {
	c.wake = make(chan struct{}, 1)
	c.done = make(chan struct{})
	go c.run(s)
}

func (c *committer) add(e *Entry) {
	c.mu.Lock()
	c.queue = append(c.queue, e)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *committer) stop() {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if !closed {
		close(c.wake)
	}
	<-c.done
}

func (c *committer) run(s *Store) {
	defer close(c.done)
	for open := true; open; {
		if _, open = <-c.wake; open {
			<-time.After(commitDelay) // others come meanwhile; Close waits for this
		}
		c.mu.Lock()
		batch := c.queue
		c.queue = nil
		c.mu.Unlock()
		s.sync(batch)
	}
}

// sync makes a batch durable and renames it into place. If the disk refuses,
// the entries stay readable from tmp/ for the life of the process.
func (s *Store) sync(batch []*Entry) {
	if len(batch) == 0 {
		return
	}
	if err := unix.Syncfs(int(s.dirF.Fd())); err != nil {
		s.log.Error("sync the store", slog.Any("error", err))
		return
	}
	for _, e := range batch {
		e.mu.Lock()
		var older *Entry
		if !e.dead {
			from := e.nameLocked()
			to := e.finalName()
			err := s.root.Rename(from, to)
			if errors.Is(err, fs.ErrNotExist) {
				if err = s.root.MkdirAll(path.Dir(to), 0o750); err == nil {
					err = s.root.Rename(from, to)
				}
			}
			if err != nil {
				s.log.Error("commit a cache entry", slog.String("file", to), slog.Any("error", err))
			} else {
				e.committed = true
			}
			older, e.older = e.older, nil
		}
		e.mu.Unlock()
		if older != nil {
			s.remove(older)
		}
	}
}

// Verify reads the whole body of an entry and compares its checksum.
func (s *Store) Verify(e *Entry) error {
	b, err := e.open()
	if err != nil {
		return err
	}
	defer b.Close()
	h := crc32New()
	if _, err := io.Copy(h, io.NewSectionReader(b, 0, e.size)); err != nil {
		return fmt.Errorf("entry %s: %w", e.meta.Load().Key, err)
	}
	if h.Sum32() != e.bodyCRC {
		return fmt.Errorf("entry %s: %w", e.meta.Load().Key, ErrCorrupt)
	}
	return nil
}

// ErrCorrupt says that a body's checksum does not match.
var ErrCorrupt = errors.New("damaged body")

func finalName(id ID, seq uint64) string {
	name := fileName(id, seq)
	return strings.Join([]string{"obj", name[:2], name}, "/")
}
