package store

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

// A View reads the repository with the pointers of one generation: after a
// commit it still opens the pointers as they were when the view was made. It
// keeps the replaced files open and is meant for the length of a request. Its
// methods may be called concurrently. The caller closes it.
type View struct {
	store      *Store
	generation uint64
	once       sync.Once
}

// supersession is a pointer that was replaced while there were views.
type supersession struct {
	last uint64   // the last generation to which it belongs
	file *os.File // nil: there was no file
	err  error    // it could not be kept
}

// View returns a view of the present generation.
func (s *Store) View() *View {
	s.switching.RLock()
	defer s.switching.RUnlock()
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	s.views[s.generation]++
	return &View{store: s, generation: s.generation}
}

// Open opens a file as [Store.Open] does.
func (v *View) Open(name string) (*os.File, error) {
	s := v.store
	s.switching.RLock()
	defer s.switching.RUnlock()
	for _, old := range s.superseded[name] {
		if old.last < v.generation {
			continue
		}
		switch {
		case old.err != nil:
			return nil, old.err
		case old.file == nil:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		// proc(5), /proc/pid/fd: opening the entry opens the same file anew,
		// with an offset of its own, although its name is gone.
		return os.Open("/proc/self/fd/" + strconv.Itoa(int(old.file.Fd())))
	}
	return s.open(name)
}

// Close ends the view. Files opened through it stay open.
func (v *View) Close() {
	v.once.Do(func() {
		s := v.store
		s.viewsMu.Lock()
		s.views[v.generation]--
		last := s.views[v.generation] == 0
		if last {
			delete(s.views, v.generation)
		}
		s.viewsMu.Unlock()
		if !last {
			return
		}
		// With switching held there is no new view, and no new generation that
		// a view made since the unlock above could miss.
		s.switching.Lock()
		defer s.switching.Unlock()
		s.viewsMu.Lock()
		oldest := s.generation
		for g := range s.views {
			oldest = min(oldest, g)
		}
		s.viewsMu.Unlock()
		s.dropSuperseded(oldest)
	})
}

// keepForViews keeps the pointer at name readable for the open views. The
// caller holds switching and is about to replace it.
func (s *Store) keepForViews(name string) {
	s.viewsMu.Lock()
	watched := len(s.views) > 0
	s.viewsMu.Unlock()
	if !watched {
		return
	}
	f, err := s.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = nil, nil
	}
	s.superseded[name] = append(s.superseded[name], supersession{last: s.generation, file: f, err: err})
}

// dropSuperseded lets go of all that no view of the generation oldest or a
// newer one can ask for. The caller holds switching.
func (s *Store) dropSuperseded(oldest uint64) {
	for name, all := range s.superseded {
		kept := all[:0]
		for _, old := range all {
			if old.last >= oldest {
				kept = append(kept, old)
			} else if old.file != nil {
				_ = old.file.Close() // opened for reading
			}
		}
		if len(kept) == 0 {
			delete(s.superseded, name)
		} else {
			s.superseded[name] = kept
		}
	}
}
