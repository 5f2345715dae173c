package upkeep

import (
	"hash/maphash"
	"sync"

	"freshet/internal/ostree"
)

// names is a set of object names that takes 8 to 16 bytes for each: it keeps
// fingerprints under a secret seed. Of 10 million names, it takes one that is not
// in it for one that is with a probability of 1 to 10^12, and nobody can make
// such a name. It may be used by several goroutines.
type names struct {
	mu    sync.Mutex
	seed  maphash.Seed
	table []uint64 // open addressing; 0 is empty
	used  int
}

// add puts a name into the set, and tells whether it is new.
func (s *names) add(name ostree.ObjectName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		s.seed = maphash.MakeSeed()
		s.table = make([]uint64, 1<<10)
	}
	if 4*s.used >= 3*len(s.table) {
		s.grow()
	}
	if !s.put(s.fingerprint(name)) {
		return false
	}
	s.used++
	return true
}

// has tells whether a name is in the set.
func (s *names) has(name ostree.ObjectName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		return false
	}
	mark := s.fingerprint(name)
	for i := mark; ; i++ {
		switch s.table[i&uint64(len(s.table)-1)] {
		case mark:
			return true
		case 0:
			return false
		}
	}
}

func (s *names) fingerprint(name ostree.ObjectName) uint64 {
	return max(1, maphash.Comparable(s.seed, name))
}

func (s *names) put(mark uint64) bool {
	for i := mark; ; i++ {
		switch slot := &s.table[i&uint64(len(s.table)-1)]; *slot {
		case mark:
			return false
		case 0:
			*slot = mark
			return true
		}
	}
}

func (s *names) grow() {
	old := s.table
	s.table = make([]uint64, 2*len(old))
	for _, mark := range old {
		if mark != 0 {
			s.put(mark)
		}
	}
}
