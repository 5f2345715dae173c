// Package stamps remembers which files were found to be what their names say, so
// that a look at the folder tells whether they still are.
package stamps

import (
	"hash/maphash"
	"sync"
	"syscall"

	"freshet/internal/ostree"
)

// Stamp tells one state of a file from another: whoever writes into it changes its
// time, whoever puts another one in its place the inode. A second name changes
// neither.
type Stamp struct {
	Inode                uint64
	Size                 int64 // bytes
	Seconds, Nanoseconds int64 // when it was last written
}

// Of returns the stamp of a file.
func Of(stat *syscall.Stat_t) Stamp {
	seconds, nanoseconds := stat.Mtim.Unix()
	return Stamp{Inode: stat.Ino, Size: stat.Size, Seconds: seconds, Nanoseconds: nanoseconds}
}

// State is what a [Book] knows of a file.
type State uint8

// What can be known of a file.
const (
	Unknown State = iota // nothing
	Same                 // it is as it was when all of it was read
	Probed               // it is as it was when its header and size were looked at
	Changed              // it was noted otherwise
)

// Book has the stamps of the files of objects, and of each whether it is a symlink. It
// takes 16 to 40 bytes for each, since it keeps fingerprints under a secret seed:
// that a file passes for another is a chance of 1 to 2^61 for each look, and nobody
// can make such a one. The zero value is empty. It may be used by several goroutines.
type Book struct {
	mu    sync.Mutex
	seed  maphash.Seed
	marks map[uint64]uint64 // by name; the lowest bits are those below
}

// What a mark has besides the fingerprint of a stamp.
const (
	symlinkBit = 1 << iota
	probedBit
	awaitedBit // there was no file, and there is no fingerprint
	bits       = symlinkBit | probedBit | awaitedBit
)

// Note remembers that the file of an object was seen to be whole, and what it was
// then; seen is [Same] if all of it was read, else [Probed]. It returns by how many the
// files in the book became more.
func (b *Book) Note(name ostree.ObjectName, stamp Stamp, seen State, symlink bool) (more int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open()
	before := len(b.marks)
	mark := b.mark(stamp)
	if symlink {
		mark |= symlinkBit
	}
	if seen != Same {
		mark |= probedBit
	}
	b.marks[maphash.Comparable(b.seed, name)] = mark
	return len(b.marks) - before
}

// Await remembers that there is no file of an object, unless it was noted, and until it
// is. It returns by how many the files in the book became more.
func (b *Book) Await(name ostree.ObjectName) (more int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open()
	key := maphash.Comparable(b.seed, name)
	if _, ok := b.marks[key]; ok {
		return 0
	}
	b.marks[key] = awaitedBit
	return 1
}

// Awaited tells whether there was no file of an object when it was looked for.
func (b *Book) Awaited(name ostree.ObjectName) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.marks != nil && b.marks[maphash.Comparable(b.seed, name)] == awaitedBit
}

// open makes the book if it is empty. The caller holds mu.
func (b *Book) open() {
	if b.marks == nil {
		b.seed = maphash.MakeSeed()
		b.marks = make(map[uint64]uint64)
	}
}

// Find tells whether the file of an object is as it was noted, and if so, as what, and
// whether it is a symlink.
func (b *Book) Find(name ostree.ObjectName, stamp Stamp) (symlink bool, state State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.marks == nil {
		return false, Unknown
	}
	mark, ok := b.marks[maphash.Comparable(b.seed, name)]
	switch {
	case !ok || mark == awaitedBit:
		return false, Unknown
	case mark&^bits != b.mark(stamp):
		return false, Changed
	case mark&probedBit != 0:
		state = Probed
	default:
		state = Same
	}
	return mark&symlinkBit != 0, state
}

// mark is the fingerprint of a stamp; its lowest bits are free.
func (b *Book) mark(stamp Stamp) uint64 { return maphash.Comparable(b.seed, stamp) &^ bits }

// Forget empties the book and returns how many files were in it.
func (b *Book) Forget() (fewer int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fewer = len(b.marks)
	b.marks = nil
	return fewer
}
