package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Intent is a transaction whose files are published and whose caller has not
// said Done.
type Intent struct {
	// ID tells it from others that are pending. It is given out anew once Done.
	ID int64
	// Note is what the caller gave to Commit.
	Note []byte

	serial int64 // that of the change in the copy, if there is one
}

const (
	intentVersion = 1
	intentPrefix  = "intent-"
	undoPrefix    = "undo-"
)

// intent is the record of a decided transaction: docs/formats/store-intent.md.
type intent struct {
	Version int    `json:"version"`
	ID      int64  `json:"id"`
	Stage   string `json:"stage"`
	// Fence is the number of the leadership that decided it, 0 where the
	// repository is not shared.
	Fence int64 `json:"fence,omitempty"`
	// Serial is the number of the change in the copy, 0 where there is none.
	Serial int64    `json:"serial,omitempty"`
	Index  []change `json:"index,omitempty"`
	// Pointers are changed after the index.
	Pointers []change `json:"pointers,omitempty"`
	// Remove are the files to be removed at the end.
	Remove []string `json:"remove,omitempty"`
	Note   []byte   `json:"note"`
}

// change is what happens to one path. From and Old are names in the staging
// folder.
type change struct {
	Path string `json:"path"`
	// From is the new file; empty: the file is removed.
	From string `json:"from,omitempty"`
	// Old is a second name of the file that was there; empty: there was none.
	Old string `json:"old,omitempty"`
}

// Pending returns the transactions that wait for [Store.Done], oldest first:
// after Open, those that a crash left.
func (s *Store) Pending() []Intent {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	return slices.Clone(s.pending)
}

// Done says that the caller has completed its part of the transaction, which
// is forgotten. After a loss of power it may be pending once more.
func (s *Store) Done(id int64) error {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	i := slices.IndexFunc(s.pending, func(p Intent) bool { return p.ID == id })
	if i < 0 {
		return fmt.Errorf("done: no transaction %d is pending", id)
	}
	place := s.place.Load()
	if place == nil {
		return fmt.Errorf("done: %w", ErrNotLeading)
	}
	if err := s.removeIntent(place, id, false); err != nil {
		return fmt.Errorf("done: %w", err)
	}
	if serial := s.pending[i].serial; serial > 0 && s.mirror != nil {
		s.mirror.Copy.Confirm(serial)
	}
	s.pending = slices.Delete(s.pending, i, i+1)
	return nil
}

// Done is [Store.Done] for this transaction, after Commit.
func (tx *Tx) Done() error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.id == 0 {
		return errors.New("done: the transaction is not committed")
	}
	return tx.store.Done(tx.id)
}

func (s *Store) setPending(all []Intent) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	s.pending = all
}

func (s *Store) addPending(p Intent) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	s.pending = append(s.pending, p)
}

// writeIntent gives the record its id and makes it durable.
func (s *Store) writeIntent(place *workplace, record *intent) error {
	s.pendingMu.Lock()
	s.nextID++
	record.ID, record.Fence = s.nextID, place.fence
	s.pendingMu.Unlock()
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return s.dir.WriteFile(place.intent(record.ID), append(data, '\n'), 0o644)
}

func (s *Store) removeIntent(place *workplace, id int64, wait bool) error {
	if err := s.dir.Remove(place.intent(id)); err != nil || !wait {
		return err
	}
	return s.dir.SyncDir(place.records)
}

func (s *Store) readIntent(place *workplace, name string) (*intent, error) {
	data, err := s.dir.Root.ReadFile(path.Join(place.records, name))
	if err != nil {
		return nil, err
	}
	record := new(intent)
	if err := json.Unmarshal(data, record); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	switch _, digits, _ := strings.Cut(name, "-"); {
	case record.Version != intentVersion:
		return nil, fmt.Errorf("%s: version %d is not known to this program", name, record.Version)
	case digits != strconv.FormatInt(record.ID, 10), !isStage(record):
		return nil, fmt.Errorf("%s: not a record of this store", name)
	}
	return record, nil
}

// isStage tells whether a record names a staging folder of its leadership.
func isStage(record *intent) bool {
	stage := record.Stage
	if record.Fence != 0 {
		var found bool
		if stage, found = strings.CutPrefix(stage, leadPrefix+strconv.FormatInt(record.Fence, 10)+"/"); !found {
			return false
		}
	}
	return strings.HasPrefix(stage, stagePrefix) && !strings.ContainsAny(stage, "/\x00")
}

// recover completes what a crash left, and who led before. The store works at
// place from then on.
func (s *Store) recover(place *workplace) error {
	if err := s.adopt(place); err != nil {
		return err
	}
	swept, err := s.dir.Sweep(place.records)
	if err != nil {
		return err
	}
	names, err := s.list(place.records)
	if err != nil {
		return err
	}
	var decided []*intent
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, undoPrefix):
			record, err := s.readIntent(place, name)
			if err != nil {
				return err
			}
			if err := s.undo(place, record); err != nil {
				return err
			}
		case strings.HasPrefix(name, intentPrefix):
			record, err := s.readIntent(place, name)
			if err != nil {
				return err
			}
			decided = append(decided, record)
		}
	}
	slices.SortFunc(decided, func(a, b *intent) int { return cmp.Compare(a.ID, b.ID) })
	for _, record := range decided {
		if s.staged(record, ".") {
			if err := s.redo(record); err != nil {
				return fmt.Errorf("transaction %d: %w", record.ID, err)
			}
		}
		s.pending = append(s.pending, Intent{ID: record.ID, Note: record.Note, serial: record.Serial})
		s.nextID = record.ID
	}
	n, err := s.sweepStages(place)
	if err != nil {
		return err
	}
	// A transaction that ended on its way may have left payload whose names
	// are not on the disk. From here on they count as published.
	if swept+n > 0 {
		return s.dir.Syncfs()
	}
	return nil
}

// sweepStages removes the staging folders that no record names, and what is left
// of other leaderships. It returns how many there were.
func (s *Store) sweepStages(place *workplace) (n int, err error) {
	for _, folder := range slices.Compact([]string{tmpDir, place.stages}) {
		names, err := s.list(folder)
		if err != nil {
			return n, err
		}
		for _, name := range names {
			name = path.Join(folder, name)
			if !strings.HasPrefix(path.Base(name), stagePrefix) && (!strings.HasPrefix(path.Base(name), leadPrefix) || name == place.stages) {
				continue
			}
			if err := s.dir.RemoveAll(name); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

func (s *Store) redo(record *intent) error {
	for _, c := range slices.Concat(record.Index, record.Pointers) {
		if c.From != "" {
			if err := s.dir.MkdirAll(path.Dir(c.Path), 0o755); err != nil {
				return err
			}
		}
	}
	if err := s.apply(record); err != nil {
		return err
	}
	return s.finish(record)
}
