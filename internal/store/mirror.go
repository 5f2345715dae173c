package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"freshet/internal/layout"
	"freshet/internal/store/bucket"
)

// Mirror is a copy of the repository in an object store, which decides what is
// published: see [Store.Mirror].
type Mirror struct {
	// Copy is the copy. It is this store's alone.
	Copy *bucket.Copy
	// Class is the class in which a path is published.
	Class func(path string) layout.Class
	// Skip tells the files that are not in the copy; nil for none. They come to be
	// otherwise than by a transaction.
	Skip func(path string) bool
	// Apart tells the payload that is not in the directory because it was damaged and put
	// elsewhere; nil for none. It does not come back from the copy unseen: whoever has put
	// it there fetches and verifies it.
	Apart func(path string) bool
	// Filling is told how far it is while one of the two is filled; nil for nobody.
	Filling func(Filling)
}

// Filling says how far the directory, or the copy, is filled from the other.
type Filling struct {
	Copy  bool  // the copy is filled, else the directory
	Files int64 // that were transferred
	Bytes int64 // that they have
	Ended bool  // all of it is there
}

// CopiedFile says which change of the copy the directory has: docs/formats/bucket.md.
const CopiedFile = ".store.bucket"

// Errors of [Store.Mirror] and [Store.Lead]. They are for people to settle.
var (
	// ErrNotMirrored says that a directory and a bucket do not belong together.
	ErrNotMirrored = errors.New("the directory and the bucket are not copies of one another")
	// ErrBehind says that a directory is older than the bucket by more than one change.
	ErrBehind = errors.New("the directory is older than the bucket: move it away, and it is made anew from the bucket")
)

// mirrorState is the content of CopiedFile.
type mirrorState struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Serial  int64  `json:"serial"`
	// Sweep names the last removal from the copy that was made here before.
	Sweep string `json:"sweep,omitempty"`
	// Filling is "bucket" or "directory" while that one is filled for the first time.
	Filling string `json:"filling,omitempty"`
}

const (
	mirrorVersion    = 1
	fillingBucket    = "bucket"
	fillingDirectory = "directory"
)

// Mirror has every transaction of the store published in a copy as well, and makes
// the two the same first: a bucket that is empty gets all files, a directory that is
// empty all of the bucket; of a change that was decided in the bucket the rest is
// done. It is called once, before anything is changed. In a store that is shared it
// does nothing by itself; [Store.Lead] does.
//
// From then on a transaction is decided in the bucket ([bucket.Copy.Propose]), after
// its payload was uploaded and before the files here change; and Commit returns when
// readers of the bucket see it too. While the object store is away, a commit that is
// not decided fails, and one that is decided waits until ctx ends.
//
// Everything here is in the bucket: what is added otherwise than by a transaction is
// passed on with [Store.Overwrite], what is removed with [Store.Forget].
func (s *Store) Mirror(ctx context.Context, m Mirror) error {
	if m.Skip == nil {
		m.Skip = func(string) bool { return false }
	}
	if m.Apart == nil {
		m.Apart = func(string) bool { return false }
	}
	if m.Filling == nil {
		m.Filling = func(Filling) {}
	}
	s.mirror = &m
	if s.shared {
		return nil
	}
	if err := s.takeMirror(ctx, 0); err != nil {
		return fmt.Errorf("mirror store %s: %w", s.dir.Root.Name(), err)
	}
	return nil
}

// IsCopied tells whether the directory has a copy in a bucket. Without [Store.Mirror]
// it can then only be read.
func (s *Store) IsCopied() bool { return s.copied || s.mirror != nil }

// MirrorFence returns the highest fencing number that ever led the copy, 0 where there
// is none.
func (s *Store) MirrorFence(ctx context.Context) (int64, error) {
	if s.mirror == nil {
		return 0, nil
	}
	return s.mirror.Copy.Fence(ctx)
}

// Overwrite brings a file to the copy that is about to take the place of a damaged
// one here.
func (s *Store) Overwrite(ctx context.Context, name string, f *os.File) error {
	if s.mirror == nil {
		return nil
	}
	return s.mirror.Copy.Overwrite(ctx, name, f)
}

// Forget removes payload from the copy that was removed here, of which that is on the
// disk. No transaction of which that payload is a part may be on its way.
func (s *Store) Forget(ctx context.Context, names []string) error {
	if s.mirror == nil || len(names) == 0 {
		return nil
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	if s.broken != nil {
		return s.broken
	}
	// What is removed here and not there yet harms nobody. The other way round a later
	// transaction would count on what is not there: a directory that comes from a backup
	// knows an earlier removal, and is compared.
	sweep, err := s.mirror.Copy.Sweep(ctx)
	if err != nil {
		return s.mirrorError(err)
	}
	state, err := readMirrorState(s.dir.Root)
	if err != nil {
		return err
	}
	if state == nil {
		return ErrUnmirrored
	}
	state.Sweep = sweep
	if err := s.writeMirrorState(*state); err != nil {
		return err
	}
	return s.mirrorError(s.mirror.Copy.Remove(ctx, names))
}

// mirrorError says in the words of a store that is shared that somebody else leads.
func (s *Store) mirrorError(err error) error {
	if s.shared && errors.Is(err, bucket.ErrOvertaken) && !errors.Is(err, ErrNotLeading) {
		return fmt.Errorf("%w: %w", ErrNotLeading, err)
	}
	return err
}

// takeMirror makes this process the one that changes the copy, and the two the same.
func (s *Store) takeMirror(ctx context.Context, fence int64) error {
	s.mirrored.Store(false)
	copied, err := s.mirror.Copy.Take(ctx, fence)
	if err != nil {
		return s.mirrorError(err)
	}
	here, err := readMirrorState(s.dir.Root)
	if err == nil {
		err = s.reconcile(ctx, fence, here, copied)
	}
	if err != nil {
		return s.mirrorError(err)
	}
	s.mirrored.Store(true)
	return nil
}

func (s *Store) reconcile(ctx context.Context, fence int64, here *mirrorState, copied *bucket.Manifest) error {
	switch {
	case copied == nil && (here == nil || here.Filling == fillingBucket):
		return s.fillBucket(ctx, here, fence)
	case copied == nil:
		return fmt.Errorf("%w: the bucket is empty; to fill it from the directory, remove %s", ErrNotMirrored, CopiedFile)
	case here == nil:
		if empty, err := s.isEmpty(); err != nil || !empty {
			return errors.Join(err, fmt.Errorf("%w: both have files", ErrNotMirrored))
		}
	case here.ID != copied.ID:
		return fmt.Errorf("%w: it is %s, there is %s", ErrNotMirrored, here.ID, copied.ID)
	case here.Filling == fillingBucket && copied.Serial == 0: // all but this file was done
		return s.writeMirrorState(mirrorState{ID: here.ID, Sweep: copied.Sweep})
	case here.Serial > copied.Serial:
		return fmt.Errorf("%w: the directory has change %d, the bucket %d", ErrNotMirrored, here.Serial, copied.Serial)
	case here.Filling == "" && here.Serial < copied.Serial-1, here.Filling != "" && here.Serial != copied.Serial:
		return fmt.Errorf("%w: it has change %d of %d", ErrBehind, here.Serial, copied.Serial)
	}
	if err := s.catchUp(ctx, here, copied); err != nil {
		return err
	}
	if here != nil && here.Filling == "" && here.Sweep != copied.Sweep {
		if err := s.bringBack(ctx, mirrorState{ID: copied.ID, Serial: copied.Serial, Sweep: copied.Sweep}); err != nil {
			return err
		}
	}
	return s.takePending(ctx, here == nil || here.Filling != "")
}

// catchUp does the rest of the last change: in the bucket, and here.
func (s *Store) catchUp(ctx context.Context, here *mirrorState, copied *bucket.Manifest) error {
	var last *bucket.Change
	if refs := s.mirror.Copy.Changes(); len(refs) > 0 && refs[len(refs)-1].Serial == copied.Serial {
		change, done, err := s.fetchChange(ctx, refs[len(refs)-1])
		if err != nil {
			return err
		}
		defer done()
		if err := s.mirror.Copy.Show(ctx, change); err != nil {
			return err
		}
		last = change
	}
	switch {
	case here == nil || here.Filling != "":
		return s.fillDirectory(ctx, mirrorState{ID: copied.ID, Serial: copied.Serial, Sweep: copied.Sweep})
	case here.Serial == copied.Serial:
		return nil
	case last == nil:
		return fmt.Errorf("%w: the record of change %d is gone", ErrBehind, copied.Serial)
	}
	f := s.filler(false)
	if _, err := f.downloadPayload(ctx); err != nil { // a backup does not have it
		return err
	}
	f.end()
	return s.repeat(ctx, last, mirrorState{ID: copied.ID, Serial: copied.Serial, Sweep: here.Sweep})
}

// repeat does here what a change did in the bucket.
func (s *Store) repeat(ctx context.Context, change *bucket.Change, state mirrorState) error {
	tx := s.unmirrored()
	tx.state = &state
	var errs []error
	put := func(class layout.Class, files []bucket.File) {
		for i := range files {
			if f := &files[i]; f.Gone {
				errs = append(errs, tx.Remove(class, f.Path))
			} else {
				_, err := tx.Put(class, f.Path, change.Content(f))
				errs = append(errs, err)
			}
		}
	}
	put(layout.Index, change.Index)
	put(layout.Pointer, change.Pointers)
	for _, name := range change.Remove {
		errs = append(errs, tx.Remove(layout.Index, name))
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, tx.Abort())
	}
	return tx.Commit(ctx, change.Note) // the caller finds it pending
}

// takePending compares who waits for Done: a change that only the manifest has was
// confirmed here, unless everything here came from the bucket.
func (s *Store) takePending(ctx context.Context, filled bool) error {
	s.pendingMu.Lock()
	known := make(map[int64]bool, len(s.pending))
	for _, p := range s.pending {
		known[p.serial] = true
	}
	s.pendingMu.Unlock()
	for _, ref := range s.mirror.Copy.Changes() {
		switch {
		case known[ref.Serial]:
		case !filled:
			s.mirror.Copy.Confirm(ref.Serial)
		default:
			change, done, err := s.fetchChange(ctx, ref)
			if err != nil {
				return err
			}
			done()
			s.pendingMu.Lock()
			s.nextID++
			s.pending = append(s.pending, Intent{ID: s.nextID, Note: change.Note, serial: ref.Serial})
			s.pendingMu.Unlock()
		}
	}
	return nil
}

// fetchChange fetches a record into a file without a name. The change can be used
// until done.
func (s *Store) fetchChange(ctx context.Context, ref bucket.ChangeRef) (change *bucket.Change, done func(), err error) {
	f, err := s.nameless(path.Join(tmpDir, stagePrefix+bucket.NewID()))
	if err != nil {
		return nil, nil, err
	}
	done = func() { _ = f.Close() } // nothing of it is needed
	if change, err = s.mirror.Copy.Fetch(ctx, ref, f); err != nil {
		done()
		return nil, nil, err
	}
	return change, done, nil
}

// nameless is a file that is gone when it is closed.
func (s *Store) nameless(name string) (*os.File, error) {
	f, err := s.dir.Root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := s.dir.Root.Remove(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Copied tells which copy in a bucket a directory belongs to, and which change of it
// the directory has; id is "" where there is no copy, or where one of the two is still
// being filled. The directory may be in use.
func Copied(root *os.Root) (id string, serial int64, err error) {
	state, err := readMirrorState(root)
	if err != nil || state == nil || state.Filling != "" {
		return "", 0, err
	}
	return state.ID, state.Serial, nil
}

func readMirrorState(root *os.Root) (*mirrorState, error) {
	data, err := root.ReadFile(CopiedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	state := new(mirrorState)
	if err := json.Unmarshal(data, state); err != nil {
		return nil, fmt.Errorf("%s: %w", CopiedFile, err)
	}
	if state.Version != mirrorVersion {
		return nil, fmt.Errorf("%s: version %d is not known to this program", CopiedFile, state.Version)
	}
	return state, nil
}

func (state mirrorState) encode() ([]byte, error) {
	state.Version = mirrorVersion
	data, err := json.Marshal(state)
	return append(data, '\n'), err
}

func (s *Store) writeMirrorState(state mirrorState) error {
	data, err := state.encode()
	if err != nil {
		return err
	}
	return s.dir.WriteFile(CopiedFile, data, 0o644)
}

// mayChange refuses to change a directory without its copy.
func (tx *Tx) mayChange() error {
	s := tx.store
	switch {
	case s.mirror == nil && s.copied:
		return ErrUnmirrored
	case s.mirror != nil && tx.isMirrored() && !s.mirrored.Load():
		return ErrNotLeading
	}
	return nil
}

// ErrUnmirrored is what a transaction answers in a directory that has a copy in a
// bucket, when the store was opened without it.
var ErrUnmirrored = errors.New("the directory has a copy in a bucket, which has to change with it")

// uploads are the payload files of a transaction.
func (tx *Tx) uploads(payload []operation) []bucket.Upload {
	all := make([]bucket.Upload, len(payload))
	for i, op := range payload {
		_, err := tx.store.dir.Root.Lstat(op.path)
		all[i] = bucket.Upload{
			Path: op.path,
			Open: func() (*os.File, error) {
				if op.from != nil {
					return op.from.Open(op.path)
				}
				return tx.stage.Root.Open(op.staged)
			},
			New: errors.Is(err, fs.ErrNotExist), // as publishPayload will find
		}
	}
	return all
}

// stageState stages what the directory says of the copy.
func (tx *Tx) stageState(record *intent) error {
	if tx.state == nil && tx.isMirrored() {
		id, next := tx.store.mirror.Copy.Serial()
		tx.state = &mirrorState{ID: id, Serial: next, Sweep: tx.store.mirror.Copy.Swept()}
	}
	if tx.state == nil {
		return nil
	}
	record.Serial = tx.state.Serial
	data, err := tx.state.encode()
	if err != nil {
		return err
	}
	tx.files++
	staged := fmt.Sprintf("mirror-%d", tx.files)
	f, err := tx.stage.Create(staged, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	tx.brought++
	record.Index = append(record.Index, change{Path: CopiedFile, From: staged})
	return nil
}

// isMirrored tells whether the transaction is decided in the bucket.
func (tx *Tx) isMirrored() bool { return tx.store.mirror != nil && !tx.unmirrored }

// proposal is a change that is decided in the bucket.
type proposal struct {
	change *bucket.Change
	record *os.File
}

func (p *proposal) close() error {
	if p == nil {
		return nil
	}
	return p.record.Close()
}

// propose decides the transaction in the bucket.
func (tx *Tx) propose(ctx context.Context, record *intent) (*proposal, error) {
	s := tx.store
	proposed := &bucket.Change{Serial: record.Serial, Remove: record.Remove, Note: record.Note}
	file := func(c change) bucket.File {
		return bucket.File{Path: c.Path, Gone: c.From == "", Open: func() (*os.File, error) { return tx.stage.Root.Open(c.From) }}
	}
	for _, c := range record.Index {
		if c.Path != CopiedFile {
			proposed.Index = append(proposed.Index, file(c))
		}
	}
	for _, c := range record.Pointers {
		proposed.Pointers = append(proposed.Pointers, file(c))
	}
	f, err := s.nameless(path.Join(tmpDir, tx.name, "record"))
	if err != nil {
		return nil, err
	}
	p := &proposal{proposed, f}
	if err := proposed.Write(f); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := s.mirror.Copy.Propose(ctx, proposed, f); err != nil {
		return nil, errors.Join(s.mirrorError(err), p.close())
	}
	return p, nil
}
