package diskcache

import (
	"errors"
	"sync"
	"sync/atomic"
)

// ErrReleased is what [Store.Err] says of a store that is another process's now.
var ErrReleased = errors.New("the store is another process's now")

// given says whether the store was given to another process. The zero value is that of one
// that was not.
type given struct {
	over   atomic.Bool
	writes sync.RWMutex // held shared by who writes to a file that is not its own
}

// begin is called before such a write, and end after it. It reports false if it must not be.
func (g *given) begin() bool {
	g.writes.RLock()
	if g.over.Load() {
		g.writes.RUnlock()
		return false
	}
	return true
}

func (g *given) end() { g.writes.RUnlock() }

// Release gives the store to whoever opens it next, also another process, with all that was
// written so far. Afterwards nothing is found here and nothing can be stored; entries and
// bodies that were found before stay readable, as do writers to those who read along. Close
// is still to be called. It is called once; nobody calls Sync, Ban or Close meanwhile.
func (s *Store) Release() error {
	s.away.hidden.Store(true)
	s.end.Do(func() { close(s.ended) })
	s.workers.Wait()
	s.savePartials()
	s.health.mu.Lock()
	failing := s.health.err != nil // which the log has told
	s.health.err, s.health.healing = ErrReleased, true
	s.health.mu.Unlock()
	s.evictMu.Lock()
	s.given.writes.Lock()
	s.given.over.Store(true)
	s.given.writes.Unlock()
	s.evictMu.Unlock()
	s.index.Clear() // states are written where it has an entry
	err := s.sync()
	if failing {
		err = nil
	}
	if h := s.home.Load(); h != nil {
		err = errors.Join(err, h.unlock())
	}
	return err
}
