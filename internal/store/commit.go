package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"freshet/internal/durable"
	"freshet/internal/layout"
	"freshet/internal/store/bucket"
)

// batch is how many files or folders are synced one by one; for more, the
// whole file system is.
const batch = 16

// Commit publishes what was staged. When it returns nil, the new state is what
// readers see and what is on the disk; the caller then does its own part and
// calls [Tx.Done]. The note is kept until then, for [Store.Pending] of a later
// start.
//
// After an error readers see the old state, and the transaction has ended; an
// error that is [ErrBroken] is the exception: which state it is, the next Open
// decides. ctx can end the commit until it is decided.
func (tx *Tx) Commit(ctx context.Context, note []byte) error {
	s := tx.store
	s.committing.Lock()
	defer s.committing.Unlock()
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return fmt.Errorf("commit: %w", errEnded)
	}
	tx.ended = true
	record, err := tx.prepare(ctx, note)
	if err != nil {
		return fmt.Errorf("commit: %w", tx.why(errors.Join(err, tx.discard())))
	}
	if tx.isMirrored() {
		err = tx.decideInCopy(ctx, &record)
	} else {
		err = tx.decide(&record)
	}
	if err != nil {
		return fmt.Errorf("commit: %w", tx.why(err))
	}
	tx.id = record.ID
	return nil
}

// prepare makes the staged files durable, publishes payload, and returns the
// record of what is left to do. The caller holds committing and mu.
func (tx *Tx) prepare(ctx context.Context, note []byte) (intent, error) {
	s := tx.store
	if s.broken != nil {
		return intent{}, s.broken
	}
	if err := tx.open(); err != nil {
		return intent{}, err
	}
	unclean := s.unclean
	s.unclean = true
	record := intent{Version: intentVersion, Stage: tx.name, Note: note}
	if err := tx.mayChange(); err != nil {
		return intent{}, err
	}
	var payload []operation
	folders := newFolders(s.dir)
	made := make(map[string]struct{})
	for _, op := range tx.ops {
		if op.path == "" {
			continue
		}
		folder := path.Dir(op.path)
		if _, ok := made[folder]; !ok && op.brings() {
			if err := s.dir.Mkdirs(folder, 0o755, folders.add); err != nil {
				return intent{}, err
			}
			made[folder] = struct{}{}
		}
		c := change{Path: op.path, From: op.staged}
		switch {
		case op.class == layout.Pointer:
			record.Pointers = append(record.Pointers, c)
		case !op.brings():
			record.Remove = append(record.Remove, op.path)
		case op.class == layout.Index:
			record.Index = append(record.Index, c)
		default:
			payload = append(payload, op)
		}
	}
	mirrored := tx.isMirrored()
	if err := tx.stageState(&record); err != nil {
		return intent{}, err
	}
	for _, changes := range [][]change{record.Index, record.Pointers} {
		if err := tx.keepOld(changes); err != nil {
			return intent{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return intent{}, err
	}
	if err := tx.syncStage(payload, record, unclean); err != nil {
		return intent{}, err
	}
	if err := ctx.Err(); err != nil {
		return intent{}, err
	}
	if mirrored {
		// Payload that is here is in the copy: a later transaction need not look.
		if err := s.mirror.Copy.Upload(ctx, tx.uploads(payload)); err != nil {
			return intent{}, err
		}
	}
	if err := tx.publishPayload(payload, folders); err != nil {
		return intent{}, err
	}
	if err := folders.sync(); err != nil {
		return intent{}, err
	}
	s.unclean = false
	return record, ctx.Err()
}

// keepOld gives the files that changes will replace a second name in the
// staging folder, so that the changes can be taken back.
func (tx *Tx) keepOld(changes []change) error {
	for i := range changes {
		c := &changes[i]
		tx.files++
		old := fmt.Sprintf("old-%d", tx.files)
		err := tx.store.dir.Link(c.Path, path.Join(tmpDir, tx.name, old))
		switch {
		case err == nil:
			c.Old = old
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// syncStage makes the files durable that are staged or linked into place, and with
// unclean also what an earlier transaction left undone.
func (tx *Tx) syncStage(payload []operation, record intent, unclean bool) error {
	if unclean || tx.brought > batch {
		return tx.store.dir.Syncfs()
	}
	names := make([]string, 0, batch)
	for _, op := range payload {
		if op.from == nil {
			names = append(names, op.staged)
		} else if err := (durable.Dir{Root: op.from, Fault: tx.store.dir.Fault}).SyncFile(op.path); err != nil {
			return err
		}
	}
	for _, changes := range [][]change{record.Index, record.Pointers} {
		for _, c := range changes {
			if c.From != "" {
				names = append(names, c.From)
			}
		}
	}
	for _, name := range names {
		if err := tx.stage.SyncFile(name); err != nil {
			return err
		}
	}
	if err := tx.stage.SyncDir("."); err != nil {
		return err
	}
	return tx.store.dir.SyncDir(tmpDir)
}

// decideInCopy decides in the copy, then here, and has it seen there. The caller
// holds committing and mu.
func (tx *Tx) decideInCopy(ctx context.Context, record *intent) (err error) {
	s := tx.store
	p, err := tx.propose(ctx, record)
	switch {
	case errors.Is(err, bucket.ErrUnknown):
		return s.breaks(err)
	case err != nil:
		return errors.Join(err, tx.discard())
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := tx.decide(record); err != nil {
		if errors.Is(err, ErrBroken) {
			return err
		}
		if withdrawErr := s.mirror.Copy.Withdraw(ctx); withdrawErr != nil {
			return s.breaks(errors.Join(err, s.mirrorError(withdrawErr)))
		}
		return err
	}
	if err := s.mirror.Copy.Show(ctx, p.change); err != nil {
		return s.breaks(s.mirrorError(err))
	}
	return nil
}

// decide writes the record and does what it says. The caller holds committing
// and mu.
func (tx *Tx) decide(record *intent) error {
	s := tx.store
	if err := s.writeIntent(tx.place, record); err != nil {
		// The record may be there or not; it must be gone before the staging
		// folder goes, because a record without one says that all is done.
		if removeErr := s.removeIntent(tx.place, record.ID, true); removeErr != nil {
			return s.breaks(errors.Join(err, removeErr))
		}
		return errors.Join(err, tx.discard())
	}
	if err := s.apply(record); err != nil {
		if undoErr := s.takeBack(tx.place, record); undoErr != nil {
			return s.breaks(errors.Join(err, undoErr))
		}
		return errors.Join(err, tx.close())
	}
	// Readers see the new state. Whatever fails now is left to the next Open.
	if err := s.finish(record); err != nil {
		return s.breaks(errors.Join(err, tx.close()))
	}
	s.addPending(Intent{ID: record.ID, Note: record.Note})
	return tx.close()
}

func (s *Store) breaks(err error) error {
	s.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	return s.broken
}

// apply renames the index files and the pointers of a decided transaction into
// place, as far as that is not done yet, and makes it durable.
func (s *Store) apply(record *intent) error {
	folders := newFolders(s.dir)
	for _, c := range record.Index {
		if err := s.change(record, c, folders); err != nil {
			return err
		}
	}
	if err := s.switchPointers(record, folders); err != nil {
		return err
	}
	return folders.sync()
}

func (s *Store) switchPointers(record *intent, folders *folders) error {
	if len(record.Pointers) == 0 {
		return nil
	}
	s.switching.Lock()
	defer s.switching.Unlock()
	for _, c := range record.Pointers {
		s.keepForViews(c.Path)
	}
	s.generation++
	for _, c := range record.Pointers {
		if err := s.change(record, c, folders); err != nil {
			return err
		}
	}
	return nil
}

// change does one change of a record, unless it is done already.
func (s *Store) change(record *intent, c change, folders *folders) error {
	folders.add(path.Dir(c.Path))
	if c.From == "" {
		return s.take(c.Path, record.Stage)
	}
	err := s.dir.Rename(path.Join(tmpDir, record.Stage, c.From), c.Path)
	if errors.Is(err, fs.ErrNotExist) && !s.staged(record, c.From) {
		return nil
	}
	return err
}

// staged tells whether a file is in the staging folder; with "." whether that is
// there.
func (s *Store) staged(record *intent, name string) bool {
	_, err := s.dir.Root.Lstat(path.Join(tmpDir, record.Stage, name))
	return err == nil
}

// finish removes the files that nothing points to any more, and the staging
// folder. That the folder is gone says that the record needs no doing again,
// which matters once later transactions have changed the same paths.
func (s *Store) finish(record *intent) error {
	folders := newFolders(s.dir)
	for _, name := range record.Remove {
		folders.add(path.Dir(name))
		if err := s.take(name, record.Stage); err != nil {
			return err
		}
	}
	if err := folders.sync(); err != nil {
		return err
	}
	return s.dir.RemoveAll(path.Join(tmpDir, record.Stage))
}

// takeBack undoes what apply did and removes the record.
func (s *Store) takeBack(place *workplace, record *intent) error {
	// From now on a crash undoes the rest instead of doing it.
	if err := s.dir.Rename(place.intent(record.ID), place.undo(record.ID)); err != nil {
		return err
	}
	if err := s.dir.SyncDir(place.records); err != nil {
		return err
	}
	return s.undo(place, record)
}

func (s *Store) undo(place *workplace, record *intent) error {
	folders := newFolders(s.dir)
	if err := s.undoChanges(record, folders); err != nil {
		return err
	}
	if err := folders.sync(); err != nil {
		return err
	}
	// The record goes last: without it the staging folder is only swept.
	if err := s.dir.RemoveAll(path.Join(tmpDir, record.Stage)); err != nil {
		return err
	}
	return s.dir.Remove(place.undo(record.ID))
}

func (s *Store) undoChanges(record *intent, folders *folders) error {
	s.switching.Lock()
	defer s.switching.Unlock()
	s.generation++
	for _, c := range slices.Backward(slices.Concat(record.Index, record.Pointers)) {
		folders.add(path.Dir(c.Path))
		if c.Old == "" {
			if err := s.take(c.Path, record.Stage); err != nil {
				return err
			}
			continue
		}
		err := s.dir.Rename(path.Join(tmpDir, record.Stage, c.Old), c.Path)
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || s.staged(record, c.Old)) {
			return err
		}
	}
	return nil
}

// folders collects the folders whose entries changed.
type folders struct {
	dir   durable.Dir
	names map[string]struct{}
}

func newFolders(dir durable.Dir) *folders {
	return &folders{dir: dir, names: make(map[string]struct{})}
}

func (f *folders) add(name string) { f.names[name] = struct{}{} }

func (f *folders) sync() error {
	if len(f.names) > batch {
		return f.dir.Syncfs()
	}
	for name := range f.names {
		if err := f.dir.SyncDir(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
