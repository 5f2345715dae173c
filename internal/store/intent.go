package store

import (
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
}

const (
	intentVersion = 1
	intentPrefix  = "intent-"
	undoPrefix    = "undo-"
)

// intent is the record of a decided transaction: docs/formats/store-intent.md.
type intent struct {
	Version int      `json:"version"`
	ID      int64    `json:"id"`
	Stage   string   `json:"stage"`
	Index   []change `json:"index,omitempty"`
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

func intentName(id int64) string { return path.Join(tmpDir, intentPrefix+strconv.FormatInt(id, 10)) }
func undoName(id int64) string   { return path.Join(tmpDir, undoPrefix+strconv.FormatInt(id, 10)) }

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
	if err := s.removeIntent(id, false); err != nil {
		return fmt.Errorf("done: %w", err)
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

func (s *Store) addPending(p Intent) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	s.pending = append(s.pending, p)
}

// writeIntent gives the record its id and makes it durable.
func (s *Store) writeIntent(record *intent) error {
	s.pendingMu.Lock()
	s.nextID++
	record.ID = s.nextID
	s.pendingMu.Unlock()
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return s.dir.WriteFile(intentName(record.ID), append(data, '\n'), 0o644)
}

func (s *Store) removeIntent(id int64, wait bool) error {
	if err := s.dir.Remove(intentName(id)); err != nil || !wait {
		return err
	}
	return s.dir.SyncDir(tmpDir)
}

func (s *Store) readIntent(name string) (*intent, error) {
	data, err := s.dir.Root.ReadFile(path.Join(tmpDir, name))
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
	case digits != strconv.FormatInt(record.ID, 10),
		!strings.HasPrefix(record.Stage, stagePrefix), strings.ContainsAny(record.Stage, "/\x00"):
		return nil, fmt.Errorf("%s: not a record of this store", name)
	}
	return record, nil
}

// recover completes what a crash left.
func (s *Store) recover() error {
	swept, err := s.dir.Sweep(tmpDir)
	if err != nil {
		return err
	}
	f, err := s.dir.Root.Open(tmpDir)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	stages := make(map[string]struct{})
	var decided []*intent
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, stagePrefix):
			stages[name] = struct{}{}
		case strings.HasPrefix(name, undoPrefix):
			record, err := s.readIntent(name)
			if err != nil {
				return err
			}
			if err := s.undo(record); err != nil {
				return err
			}
			delete(stages, record.Stage)
		case strings.HasPrefix(name, intentPrefix):
			record, err := s.readIntent(name)
			if err != nil {
				return err
			}
			decided = append(decided, record)
		}
	}
	slices.SortFunc(decided, func(a, b *intent) int { return int(a.ID - b.ID) })
	for _, record := range decided {
		if _, ok := stages[record.Stage]; ok {
			if err := s.redo(record); err != nil {
				return fmt.Errorf("transaction %d: %w", record.ID, err)
			}
			delete(stages, record.Stage)
		}
		s.pending = append(s.pending, Intent{ID: record.ID, Note: record.Note})
		s.nextID = record.ID
	}
	for name := range stages {
		if err := s.dir.RemoveAll(path.Join(tmpDir, name)); err != nil {
			return err
		}
	}
	// A transaction that ended on its way may have left payload whose names
	// are not on the disk. From here on they count as published.
	if swept+len(stages) > 0 {
		return s.dir.Syncfs()
	}
	return nil
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
