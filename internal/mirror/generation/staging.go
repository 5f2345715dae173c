package generation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"freshet/internal/durable"
	"freshet/internal/extsort"
)

// The names in the folder of a staging, beside one for each session.
const (
	incomingName = "incoming"
	placedName   = "placed"
)

// ErrEnded says that a staging was committed, abandoned or closed before.
var ErrEnded = errors.New("the staging has ended")

// Staging is the next generation of a project while it is made. There is one at a
// time. It is safe for concurrent use, by one transfer for each path.
//
// What was fetched survives the end of the process, however it comes, and is used by
// the next staging through LinkObject and Resume; links are made anew. After a loss
// of power each file is hashed again before it is used.
type Staging struct {
	p     *Project
	base  *Generation
	begun time.Time
	dir   string // of this session

	mu      sync.Mutex
	ended   bool
	next    *tree
	arrived *tree            // the folder Incoming
	sources map[string]*tree // that files are linked from
	records extsort.Sorter   // by path; the last one of a path counts
	used    bool             // there are records
	journal *journal
	aside   aside
	fetched int64 // files, and their bytes
	bytes   int64

	reading sync.RWMutex // by object, while it is open
	closed  bool
}

// Stage begins the next generation, or goes on with what an interrupted sync has
// fetched. It must end with Commit, Abandon or Close; until then the error is
// [ErrBusy].
func (p *Project) Stage(ctx context.Context) (*Staging, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.staged.Load() != nil {
		return nil, fmt.Errorf("project %s: %w", p.name, ErrBusy)
	}
	st := &Staging{p: p, base: p.Current(), begun: time.Now().UTC().Truncate(time.Millisecond), sources: make(map[string]*tree)}
	if err := st.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("staging of %s: %w", p.name, err), st.close())
	}
	p.staged.Store(st)
	return st, nil
}

func (st *Staging) open(ctx context.Context) error {
	d := st.p.dir
	if err := d.RemoveAll(staged(asideName)); err != nil { // of a commit that failed
		return err
	}
	if err := st.openJournal(); err != nil {
		return err
	}
	trees, err := st.trees()
	if err != nil {
		return err
	}
	last := st.journal.last()
	if last.number > 0 && !slices.Contains(trees, last.number) {
		// Its tree is a generation now, but nobody has tidied up behind it.
		if err := errors.Join(st.p.settleFormer(ctx, st.journal), st.journal.close()); err != nil {
			return err
		}
		if err := st.discard(); err != nil {
			return err
		}
		if err := st.openJournal(); err != nil {
			return err
		}
		last, trees = session{}, nil
	}
	boot := st.p.store.boot
	if last.boot != boot {
		// Nobody knows which parts of what transfers have left are on the disk.
		if err := d.RemoveAll(staged(incomingName)); err != nil {
			return err
		}
	}
	alive := st.journal.alive()
	for _, n := range trees {
		last.number = max(last.number, n)
		if !alive[n] {
			if err := errors.Join(ctx.Err(), d.RemoveAll(staged(strconv.Itoa(n)))); err != nil {
				return err
			}
		}
	}
	return st.begin(session{number: last.number + 1, boot: boot})
}

func (st *Staging) openJournal() error {
	d := st.p.dir
	if err := d.Mkdirs(stagingName, 0o700, func(string) {}); err != nil {
		return err
	}
	f, err := d.Root.OpenFile(staged(placedName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if st.journal, err = openJournal(f); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// trees returns the numbers of the sessions of which there are trees.
func (st *Staging) trees() ([]int, error) {
	names, err := list(st.p.dir, stagingName)
	var numbers []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	return numbers, err
}

func (st *Staging) begin(s session) (err error) {
	d := st.p.dir
	st.dir = staged(strconv.Itoa(s.number))
	st.records.Dir = filepath.Join(d.Root.Name(), stagingName)
	for _, name := range []string{st.dir + "/" + treeName, staged(incomingName)} {
		if err := d.Mkdirs(name, 0o755, func(string) {}); err != nil {
			return err
		}
	}
	if err := st.journal.begin(s); err != nil {
		return err
	}
	if st.next, err = openTree(d, st.dir+"/"+treeName); err != nil {
		return err
	}
	st.arrived, err = openTree(d, staged(incomingName))
	return err
}

func staged(name string) string { return stagingName + "/" + name }

// Base is the generation that was current when the staging was begun; nil if there
// was none.
func (st *Staging) Base() *Generation { return st.base }

// Incoming is the path of the folder that transfers write to, on the file system of
// the store. Names in it are up to the transfers, and kept for the next staging,
// except after a loss of power; the ones that Place takes leave it.
func (st *Staging) Incoming() string {
	return filepath.Join(st.p.dir.Root.Name(), stagingName, incomingName)
}

// do runs a change, one at a time.
func (st *Staging) do(f File, change func() error) error {
	if err := f.check(); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return ErrEnded
	}
	if err := change(); err != nil {
		return fmt.Errorf("stage %.200q: %w", f.Path, err)
	}
	return nil
}

// put makes a name in the tree, by a function that fails if there is one already: then
// it is replaced.
func (st *Staging) put(path string, make func(to *durable.Folder, name string) error) error {
	to, name, err := st.next.at(path, true)
	if err != nil {
		return err
	}
	err = make(to, name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := st.take(to, name, path); err != nil {
		return err
	}
	return make(to, name)
}

// take removes what is at a path.
func (st *Staging) take(to *durable.Folder, name, path string) error {
	if err := st.journal.cancel(path); err != nil {
		return err
	}
	return to.Remove(name)
}

// record notes that a file is part of the generation.
func (st *Staging) record(f File, fetched bool) error {
	st.used = true
	return st.records.Add(f.Path, encodeRecord(record{f, fetched}))
}

// Symlink puts a symbolic link into the tree, replacing what is at its path.
func (st *Staging) Symlink(path, target string) error {
	f := File{Path: path, Link: target}
	if target == "" {
		return fmt.Errorf("%.80q: a symbolic link without a target", path)
	}
	return st.do(f, func() error {
		err := st.put(path, func(to *durable.Folder, name string) error { return to.Symlink(target, name) })
		if err != nil {
			return err
		}
		return st.record(f, false)
	})
}

// Has says whether the tree has a regular file of this size at the path.
func (st *Staging) Has(path string, size int64) (bool, error) {
	has := false
	err := st.do(File{Path: path}, func() (err error) {
		has, err = st.has(File{Path: path, Size: size})
		return err
	})
	return has, err
}

// has looks for a file of this size, unless it is below zero, and this time, unless it
// is zero.
func (st *Staging) has(f File) (bool, error) {
	info, ok, err := st.next.lstat(f.Path)
	return ok && info.Mode.IsRegular() && (f.Size < 0 || info.Size == f.Size) &&
		(f.ModTime.IsZero() || info.ModTime.Unix() == f.ModTime.Unix()), err
}

// Open opens what the staged tree has at a path, as [Generation.Open] does.
func (st *Staging) Open(path string) (*os.File, error) {
	return openBeneath(st.next.root.Handle(), path)
}

// object opens what this staging has fetched with this content. While the staging is
// committed, too: what comes of that is an object before the staging has ended.
func (st *Staging) object(sum [32]byte) (*os.File, error) {
	st.reading.RLock()
	defer st.reading.RUnlock()
	if st.closed {
		return nil, fs.ErrNotExist
	}
	f, s, ok, err := st.journal.byContent(sum)
	if err != nil {
		return nil, err
	}
	if !ok || s.number != st.journal.last().number {
		return nil, fs.ErrNotExist
	}
	return st.Open(f.Path)
}

// Files yields what is in the tree, sorted by the bytes of the paths. Nothing may be
// staged meanwhile.
func (st *Staging) Files() iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.ended {
			yield(File{}, ErrEnded)
			return
		}
		for r, err := range lastOfEach(st.records.All()) {
			if !yield(r.File, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the staging and keeps what was fetched for the next one.
func (st *Staging) Close() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.end(nil)
}

// end ends the staging, once, after a last change.
func (st *Staging) end(last func() error) error {
	if st.ended {
		return nil
	}
	st.ended = true
	var err error
	if last != nil {
		err = last()
	}
	err = errors.Join(err, st.close())
	st.p.mu.Lock()
	st.p.staged.Store(nil)
	st.p.mu.Unlock()
	return err
}

func (st *Staging) close() error {
	st.reading.Lock()
	defer st.reading.Unlock()
	st.closed = true
	err := st.records.Close()
	for _, t := range append(slices.Collect(maps.Values(st.sources)), st.next, st.arrived) {
		if t != nil {
			err = errors.Join(err, t.close())
		}
	}
	if st.journal != nil {
		err = errors.Join(err, st.journal.close())
	}
	return errors.Join(err, st.aside.close())
}

// Abandon ends the staging and removes all that it has, also what was fetched.
func (st *Staging) Abandon(ctx context.Context) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.end(func() error { return errors.Join(ctx.Err(), st.discard()) })
}

// discard removes what belongs to stagings.
func (st *Staging) discard() error { return st.p.dir.RemoveAll(stagingName) }
