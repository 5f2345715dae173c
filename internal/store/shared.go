package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"freshet/internal/durable"
)

const (
	leadPrefix = "lead-"
	decidedDir = "decided"
	// idsPerFence is how many transactions one leadership can decide.
	idsPerFence = 1 << 20
)

// ErrNotLeading is what a shared store answers to writers while it does not
// lead, and to those that were overtaken: somebody with a higher fencing number
// leads by now.
var ErrNotLeading = errors.New("this process does not lead the repository")

// workplace is where a process works that may change the repository: in tmp
// itself, or, where several processes share it, in a folder of its leadership.
type workplace struct {
	fence   int64  // 0: the store is not shared
	stages  string // the folder of the staging folders
	records string // the folder of the records
}

func alone() *workplace { return &workplace{stages: tmpDir, records: tmpDir} }

func ledBy(fence int64) *workplace {
	folder := path.Join(tmpDir, leadPrefix+strconv.FormatInt(fence, 10))
	return &workplace{fence: fence, stages: folder, records: path.Join(folder, decidedDir)}
}

func (w *workplace) intent(id int64) string {
	return path.Join(w.records, intentPrefix+strconv.FormatInt(id, 10))
}

func (w *workplace) undo(id int64) string {
	return path.Join(w.records, undoPrefix+strconv.FormatInt(id, 10))
}

// OpenShared opens the repository at dir, which is created when it is not there
// (its parent must exist), beside other processes that have opened it so. It can
// be read; who wants to change it calls [Store.Lead]. While a process has it open
// by [Open], the error is [durable.ErrInUse], and the other way round.
func OpenShared(dir string) (*Store, error) { return openShared(dir, nil) }

func openShared(dir string, fault func(step, name string) error) (*Store, error) {
	s, err := prepare(dir, fault, durable.Dir.LockShared)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s.shared = true
	return s, nil
}

// Lead makes this process the one that may change the repository, in the place
// of whoever led it before with a lower fencing number: what that one decided is
// completed and in [Store.Pending], and what it did not decide is gone. However
// long it was stopped, and at whatever step, it changes nothing any more; its
// transactions end with [ErrNotLeading].
//
// The caller sees to it that a number is given out once and to one process, and
// that later ones are higher. When a higher number leads already, the error is
// [ErrNotLeading]; see [Store.Fence].
//
// # How
//
// Every change of a published file is a rename whose source or target is a
// staging folder of the leadership, and a decision is a rename into its folder of
// records. Who takes over empties and removes these folders, the records first.
// In a removed folder nothing can be made and nothing found (rename(2): ENOENT),
// even by who has it open.
func (s *Store) Lead(ctx context.Context, fence int64) error {
	err := s.lead(fence)
	if err == nil && s.mirror != nil {
		if err = s.takeMirror(ctx, fence); err != nil {
			s.Resign()
		}
	}
	if err != nil {
		return fmt.Errorf("lead store %s: %w", s.dir.Root.Name(), err)
	}
	return nil
}

func (s *Store) lead(fence int64) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	if errors.Is(s.broken, fs.ErrClosed) {
		return s.broken
	}
	if !s.shared || fence <= 0 {
		return errors.New("it is not opened to be shared, or the fencing number is not positive")
	}
	s.place.Store(nil)
	s.setPending(nil)
	place := ledBy(fence)
	if err := s.takeOver(place); err != nil {
		// Whoever overtook this one has removed its folder, or will.
		newest, leadsErr := s.Fence()
		if newest <= fence {
			return errors.Join(err, leadsErr)
		}
		return errors.Join(fmt.Errorf("%w: %d was overtaken by %d: %w", ErrNotLeading, fence, newest, err), s.dir.RemoveAll(place.stages))
	}
	s.pendingMu.Lock()
	s.nextID = max(s.nextID, fence*idsPerFence)
	s.pendingMu.Unlock()
	// What others wrote may not be on the disk.
	s.broken, s.unclean = nil, true
	s.place.Store(place)
	return nil
}

// takeOver makes the folder of a leadership and completes what others left.
func (s *Store) takeOver(place *workplace) error {
	// The own folder is there before others are looked for: of two that take
	// over at once, at least one sees the other.
	if err := s.dir.MkdirAll(place.records, 0o755); err != nil {
		return err
	}
	newest, err := s.Fence()
	if err != nil {
		return err
	}
	if newest > place.fence {
		return errTooLate
	}
	if err := s.recover(place); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return nil
}

var errTooLate = errors.New("it came too late")

// Resign ends what Lead began. A running commit is waited for; transactions that
// were not committed fail.
func (s *Store) Resign() {
	s.committing.Lock()
	defer s.committing.Unlock()
	if s.shared {
		s.place.Store(nil)
		s.setPending(nil)
	}
}

// Fence returns the highest fencing number that ever led the repository, 0 when
// none did.
func (s *Store) Fence() (int64, error) {
	leads, err := s.leads()
	if err != nil || len(leads) == 0 {
		return 0, err
	}
	return slices.Max(leads), nil
}

// Leads tells whether this store may be changed, as far as it knows.
func (s *Store) Leads() bool { return s.place.Load() != nil }

// Overtaken tells whether somebody else leads the repository, where this store
// has led it.
func (s *Store) Overtaken() bool {
	place := s.place.Load()
	return place != nil && s.overtaken(place)
}

// overtaken tells whether somebody took the folder of a leadership away.
func (s *Store) overtaken(place *workplace) bool {
	if place.fence == 0 {
		return false
	}
	_, err := s.dir.Root.Lstat(place.records)
	return errors.Is(err, fs.ErrNotExist)
}

// why adds to an error that the leadership is lost, if it is.
func (s *Store) why(place *workplace, err error) error {
	if err != nil && place != nil && s.overtaken(place) && !errors.Is(err, ErrNotLeading) {
		return fmt.Errorf("%w: %w", ErrNotLeading, err)
	}
	return err
}

// leads returns the fencing numbers of the leaderships that have a folder. That of
// the last one stays.
func (s *Store) leads() ([]int64, error) {
	names, err := s.list(tmpDir)
	if err != nil {
		return nil, err
	}
	var leads []int64
	for _, name := range names {
		digits, found := strings.CutPrefix(name, leadPrefix)
		if fence, err := strconv.ParseInt(digits, 10, 64); found && err == nil && fence > 0 {
			leads = append(leads, fence)
		}
	}
	return leads, nil
}

// adopt moves the records of all who worked here before to a place, and lets them
// decide no more.
func (s *Store) adopt(place *workplace) error {
	leads, err := s.leads()
	if err != nil {
		return err
	}
	slices.Sort(leads)
	for _, fence := range leads {
		if fence != place.fence {
			if err := s.seal(ledBy(fence).records, place.records); err != nil {
				return err
			}
		}
	}
	if place.fence == 0 {
		return nil
	}
	// From a time when the repository was not shared. Nobody works there now.
	return s.moveRecords(tmpDir, place.records)
}

// seal moves the records of a folder and removes it, however often somebody puts
// something there meanwhile.
func (s *Store) seal(from, to string) error {
	for {
		if err := s.moveRecords(from, to); err != nil {
			return err
		}
		err := s.dir.Remove(from)
		if err == nil {
			return s.dir.SyncDir(path.Dir(from))
		}
		if !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
}

// moveRecords moves the records of a folder and removes what may become one.
func (s *Store) moveRecords(from, to string) error {
	if _, err := s.dir.Sweep(from); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names, err := s.list(from)
	if err != nil {
		return err
	}
	moved := false
	for _, name := range names {
		if !strings.HasPrefix(name, intentPrefix) && !strings.HasPrefix(name, undoPrefix) {
			continue
		}
		// Who decided it may just take it back, or be done.
		if err := s.dir.Rename(path.Join(from, name), path.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		moved = true
	}
	if !moved {
		return nil
	}
	return errors.Join(s.dir.SyncDir(to), s.dir.SyncDir(from))
}

// list returns the names in a folder, none when it is not there.
func (s *Store) list(folder string) ([]string, error) {
	f, err := s.dir.Root.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

// take removes a published file for a transaction: where others may take over at
// any moment, by moving it to the staging folder, which they remove.
func (s *Store) take(name, stage string) error {
	if !s.shared {
		return s.dir.Remove(name)
	}
	err := s.dir.Rename(name, path.Join(tmpDir, stage, durable.TempName()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was not there, or whoever took over has removed it
	}
	return err
}
