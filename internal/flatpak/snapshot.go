package flatpak

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"freshet/internal/ostree"
)

// Snapshot is what an Index knew at one moment: refs and static deltas. It never
// changes and may be read by anybody; what it returns must not be changed.
type Snapshot struct {
	sorted []*record
	deltas map[ostree.Checksum][]Delta
	serial uint64
}

// Snapshot returns what the Index knows now. It costs a pointer for each ref and
// each commit with static deltas.
func (x *Index) Snapshot() *Snapshot {
	return &Snapshot{sorted: slices.Clone(x.sorted), deltas: maps.Clone(x.deltas), serial: x.serial}
}

// Len returns the number of refs.
func (s *Snapshot) Len() int { return len(s.sorted) }

// All walks over the refs by name.
func (s *Snapshot) All(yield func(CommitInfo) bool) {
	for _, r := range s.sorted {
		if !yield(r.info) {
			return
		}
	}
}

// From walks over the refs by name, from the first on that is not before a name.
func (s *Snapshot) From(name string) iter.Seq[CommitInfo] {
	return func(yield func(CommitInfo) bool) {
		i, _ := s.find(name)
		for _, r := range s.sorted[i:] {
			if !yield(r.info) {
				return
			}
		}
	}
}

// find returns where a ref is or would be, and whether it is there.
func (s *Snapshot) find(ref string) (int, bool) {
	return slices.BinarySearchFunc(s.sorted, ref, func(r *record, ref string) int { return strings.Compare(r.info.Ref, ref) })
}

// Get returns what is known of a ref.
func (s *Snapshot) Get(ref string) (CommitInfo, bool) {
	i, ok := s.find(ref)
	if !ok {
		return CommitInfo{}, false
	}
	return s.sorted[i].info, true
}

// Deltas returns the static deltas that lead to a commit, in the order of their
// names.
func (s *Snapshot) Deltas(to ostree.Checksum) []Delta { return s.deltas[to] }

// Serial is that of [Index.Serial].
func (s *Snapshot) Serial() uint64 { return s.serial }
