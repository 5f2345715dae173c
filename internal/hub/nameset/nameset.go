// Package nameset has a set of names of objects for sets of millions.
package nameset

import (
	"hash/maphash"
	"sync"

	"freshet/internal/ostree"
)

// Set is a set of object names that takes 8 to 16 bytes for each: it keeps
// fingerprints under a secret seed. Of 10 million names, it takes one that is not
// in it for one that is with a probability of 1 to 10^12, and nobody can make
// such a name. The zero value is empty. It may be used by several goroutines.
type Set struct {
	mu    sync.Mutex
	seed  maphash.Seed
	table []uint64 // open addressing; 0 is empty
	used  int
}

// Add puts a name into the set, and tells whether it is new.
func (s *Set) Add(name ostree.ObjectName) bool {
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

// Has tells whether a name is in the set.
func (s *Set) Has(name ostree.ObjectName) bool {
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

func (s *Set) fingerprint(name ostree.ObjectName) uint64 {
	return max(1, maphash.Comparable(s.seed, name))
}

func (s *Set) put(mark uint64) bool {
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

func (s *Set) grow() {
	old := s.table
	s.table = make([]uint64, 2*len(old))
	for _, mark := range old {
		if mark != 0 {
			s.put(mark)
		}
	}
}
