package inventory

import (
	"hash/maphash"
	"iter"
	"maps"
	"strings"
	"time"
)

// leafSize is how many versions a leaf has at most, except that all versions of one file
// are in one leaf. With names of up to maxName bytes, all ends fit into 16 bits; and of
// the prints, few are the same by chance.
const leafSize = 128

// root is a state of a tree. Once readers see it, nothing of it changes.
type root struct {
	serial    uint64
	shards    [256]map[string]*folder // by path
	standings map[Holder]Standing
}

var (
	emptyRoot root
	seed      = maphash.MakeSeed()
)

// folder is what lies directly in a folder. It does not change.
type folder struct {
	path   string // ends with a slash, or is empty
	leaves []leaf // sorted by name, none of them empty
}

// leaf is a part of a folder: versions of files, sorted by name, the current version of
// a file before others. It does not change, and may share its parts with others.
type leaf struct {
	first    string // the first of the names, at hand for the search of the leaf
	names    string // one behind the other, each once
	prints   string // a byte for each version, that of its name
	versions []version
	sums     [][32]byte // of the versions; nil if none is known
}

// version is one of a file.
type version struct {
	holders Set
	size    int64
	modTime uint32 // seconds since 1970; 0: unknown
	end     uint16 // of its name in the leaf's
	flags   uint8
}

const (
	flagCurrent = 1 << iota // the origin has it
	flagAgain               // it has the same name as the version before
)

func (v *version) current() bool { return v.flags&flagCurrent != 0 }
func (v *version) again() bool   { return v.flags&flagAgain != 0 }

func shardOf(path string) int { return int(maphash.String(seed, path) & 255) }

func (r *root) folder(path string) *folder { return r.shards[shardOf(path)][path] }

// find returns the first version of a file, or a nil leaf.
func (r *root) find(path string) (*leaf, int) {
	at := strings.LastIndexByte(path, '/') + 1
	f := r.folder(path[:at])
	if f == nil {
		return nil, 0
	}
	l := &f.leaves[f.leafOf(path[at:])]
	if i, ok := l.search(path[at:]); ok {
		return l, i
	}
	return nil, 0
}

// all yields all folders.
func (r *root) all() iter.Seq[*folder] {
	return func(yield func(*folder) bool) {
		for _, shard := range r.shards {
			for _, f := range shard {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// below yields the folders whose paths begin with prefix.
func (r *root) below(prefix string) iter.Seq[*folder] {
	return func(yield func(*folder) bool) {
		for f := range r.all() {
			if strings.HasPrefix(f.path, prefix) && !yield(f) {
				return
			}
		}
	}
}

// withStanding returns a copy in which a holder has another standing.
func (r *root) withStanding(h Holder, s Standing) *root {
	n := *r
	n.standings = maps.Clone(r.standings)
	if n.standings == nil {
		n.standings = make(map[Holder]Standing)
	}
	if s == (Standing{}) {
		delete(n.standings, h)
	} else {
		n.standings[h] = s
	}
	return &n
}

// leafOf returns the place of the leaf that a name belongs to.
func (f *folder) leafOf(name string) int {
	lo, hi := 0, len(f.leaves)-1
	for lo < hi {
		m := (lo + hi + 1) / 2
		if f.leaves[m].first <= name {
			lo = m
		} else {
			hi = m - 1
		}
	}
	return lo
}

// name returns the name of a version.
func (l *leaf) name(i int) string {
	for l.versions[i].again() {
		i--
	}
	if i == 0 {
		return l.first
	}
	return l.names[l.versions[i-1].end:l.versions[i].end]
}

// search returns the first version with a name. Names are compared only where their
// bytes in prints are the same, which lie together.
func (l *leaf) search(name string) (int, bool) {
	mark := printOf(name)
	for i := 0; ; i++ {
		n := strings.IndexByte(l.prints[i:], mark)
		if n < 0 {
			return 0, false
		}
		if i += n; l.name(i) == name {
			return i, true
		}
	}
}

func printOf(name string) byte { return byte(maphash.String(seed, name) >> 56) }

// next returns the first version of the file after that of version i.
func (l *leaf) next(i int) int {
	i++
	for i < len(l.versions) && l.versions[i].again() {
		i++
	}
	return i
}

// match returns the version, of those of the file whose first one is i, that has this
// length and, where both tell it, this hash; -1 if there is none.
func (l *leaf) match(i int, size int64, sum *[32]byte) int {
	for end := l.next(i); i < end; i++ {
		if l.versions[i].size == size && agree(l.sum(i), sum) {
			return i
		}
	}
	return -1
}

// sum returns the hash of a version, nil if it is not known.
func (l *leaf) sum(i int) *[32]byte {
	if l.sums == nil {
		return nil
	}
	return &l.sums[i]
}

// file returns what readers are told of a version.
func (l *leaf) file(i int) File {
	v := &l.versions[i]
	f := File{Size: v.size, ModTime: fromSeconds(v.modTime), Holders: v.holders}
	if l.sums != nil {
		f.SHA256 = l.sums[i]
	}
	return f
}

// agree tells whether two hashes can be those of one file.
func agree(a, b *[32]byte) bool {
	return !known(a) || !known(b) || *a == *b
}

func known(sum *[32]byte) bool { return sum != nil && *sum != [32]byte{} }

func fromSeconds(s uint32) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

func toSeconds(t time.Time) uint32 {
	s := t.Unix()
	if s < 0 || s > 1<<32-1 {
		return 0
	}
	return uint32(s)
}
