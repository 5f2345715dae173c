package engine

import (
	"bytes"
	"cmp"
	"crypto"
	"iter"
	"math"
	"slices"
	"time"

	"freshet/internal/closure"
	"freshet/internal/layout"
)

// sumOf is a SHA-256 as a checksum.
func sumOf(sum [32]byte) closure.Sum {
	return closure.Sum{Hash: crypto.SHA256, Value: string(sum[:])}
}

// want is a file of the next generation.
type want struct {
	Path string
	Size int64 // -1: not told
	Sum  closure.Sum
	// ModTime is the upstream's, in whole seconds; zero if it is not told, and kept from 1970
	// to 2106.
	ModTime  time.Time
	Class    layout.Class
	Optional bool
	// Link is the target of a symbolic link, which has nothing else.
	Link string
	// Part is the number of the repository that it belongs to.
	Part uint16
}

// wants is a list of files in little memory: 32 bytes for each, and those of its path and
// its checksum, in few pieces. The zero value is empty. It is not for use by several
// goroutines at once.
type wants struct {
	entries []wantEntry
	chunks  [][]byte
	kept    int64 // bytes in chunks of what is on the list
	dropped int64 // and of what is not any more
	sorted  bool
}

// wantEntry is a want without its strings, which stand one after the other in a chunk:
// path, checksum, link.
type wantEntry struct {
	size    int64
	when    uint32 // seconds since 1970, from 1 on; 0: not told
	chunk   uint32
	at      uint32
	pathLen uint16
	linkLen uint16
	sumLen  uint8
	hash    uint8
	flags   uint8
	part    uint16
}

const (
	chunkSize    = 1 << 20
	flagOptional = 1 << 2
	flagControl  = 1 << 3
	classMask    = 1<<2 - 1
	stateShift   = 4
)

// maxName bounds the paths and links of a list, which are shorter in every file system.
const maxName = 4096

// Len is how many entries there are, those that came twice counted twice.
func (l *wants) Len() int { return len(l.entries) }

// Grow makes room for so many files.
func (l *wants) Grow(n int) { l.entries = slices.Grow(l.entries, n) }

// Add adds a file. It reports whether it could: a path of 4,096 bytes and more can be in
// no file system.
func (l *wants) Add(w want) bool {
	if len(w.Path) >= maxName || len(w.Link) >= maxName {
		return false
	}
	e := wantEntry{
		size:    w.Size,
		pathLen: uint16(len(w.Path)), linkLen: uint16(len(w.Link)),
		sumLen: uint8(len(w.Sum.Value)), hash: uint8(w.Sum.Hash),
		flags: uint8(w.Class), part: w.Part,
	}
	if s := w.ModTime.Unix(); s > 0 && s <= math.MaxUint32 {
		e.when = uint32(s)
	}
	if w.Optional {
		e.flags |= flagOptional
	}
	if w.Sum.Control {
		e.flags |= flagControl
	}
	last := l.room(&e)
	*last = append(append(append(*last, w.Path...), w.Sum.Value...), w.Link...)
	l.entries = append(l.entries, e)
	l.sorted = false
	return true
}

// length is how many bytes an entry has in a chunk.
func (e *wantEntry) length() int { return int(e.pathLen) + int(e.sumLen) + int(e.linkLen) }

// room returns the chunk that has room for an entry, which is where the entry will be.
func (l *wants) room(e *wantEntry) *[]byte {
	if n := len(l.chunks); n == 0 || len(l.chunks[n-1])+e.length() > chunkSize {
		l.chunks = append(l.chunks, make([]byte, 0, chunkSize))
	}
	last := len(l.chunks) - 1
	e.chunk, e.at = uint32(last), uint32(len(l.chunks[last]))
	l.kept += int64(e.length())
	return &l.chunks[last]
}

// Bounds of a list, which is in memory.
const (
	maxWants     = 20_000_000
	maxWantBytes = 2 << 30 // as much as a manifest may have, in which more stands of each
)

// IsFull reports whether there is more on the list than a mirror can serve.
func (l *wants) IsFull() bool { return len(l.entries) > maxWants || l.kept > maxWantBytes }

func (l *wants) path(e *wantEntry) []byte {
	return l.chunks[e.chunk][e.at : e.at+uint32(e.pathLen)]
}

func (l *wants) want(e *wantEntry) want {
	at := e.at + uint32(e.pathLen)
	chunk := l.chunks[e.chunk]
	w := want{
		Path: string(l.path(e)), Size: e.size,
		Class: layout.Class(e.flags & classMask), Optional: e.flags&flagOptional != 0,
		Part: e.part,
	}
	if e.when > 0 {
		w.ModTime = time.Unix(int64(e.when), 0).UTC()
	}
	if e.sumLen > 0 {
		w.Sum = closure.Sum{
			Hash: crypto.Hash(e.hash), Control: e.flags&flagControl != 0,
			Value: string(chunk[at : at+uint32(e.sumLen)]),
		}
	}
	at += uint32(e.sumLen)
	w.Link = string(chunk[at : at+uint32(e.linkLen)])
	return w
}

// Sort brings the list into the order of paths, as bytes.
func (l *wants) Sort() {
	if l.sorted {
		return
	}
	slices.SortStableFunc(l.entries, func(a, b wantEntry) int {
		return cmp.Or(bytes.Compare(l.path(&a), l.path(&b)), cmp.Compare(a.part, b.part))
	})
	l.sorted = true
}

// state is what has become of a file, as bits.
type state uint8

const (
	staged state = 1 << iota // it is in the staging tree
	absent                   // the upstream has no such file
	wrong                    // it has another one than it says
	denied                   // it does not give the file
)

// group is one path of the list: what all who want it say of it.
type group struct {
	want
	// Parts are the numbers of the repositories that it belongs to, sorted.
	Parts []uint16
	// Conflict says that what they say cannot be true of one file.
	Conflict bool

	entries []wantEntry
}

// State is what has become of the file.
func (g *group) State() state { return state(g.entries[0].flags >> stateShift) }

// Mark notes what has become of the file, for all who want it.
func (g *group) Mark(s state) {
	for i := range g.entries {
		g.entries[i].flags = g.entries[i].flags&(1<<stateShift-1) | uint8(s)<<stateShift
	}
}

// All yields the files in the order of their paths, each path once. The group is used
// again for the next one.
func (l *wants) All() iter.Seq[*group] {
	return func(yield func(*group) bool) {
		l.Sort()
		g := new(group)
		for i := 0; i < len(l.entries); {
			n := l.count(i)
			if !yield(l.group(g, i, n)) {
				return
			}
			i += n
		}
	}
}

// count is how many entries from i on have the path of the first of them.
func (l *wants) count(i int) int {
	n := 1
	for first := l.path(&l.entries[i]); i+n < len(l.entries) && bytes.Equal(l.path(&l.entries[i+n]), first); n++ {
	}
	return n
}

func (l *wants) group(g *group, i, n int) *group {
	*g = group{want: l.want(&l.entries[i]), Parts: g.Parts[:0], entries: l.entries[i : i+n]}
	for j := range g.entries {
		if part := g.entries[j].part; len(g.Parts) == 0 || g.Parts[len(g.Parts)-1] != part {
			g.Parts = append(g.Parts, part)
		}
		if j > 0 {
			g.and(l.want(&g.entries[j]))
		}
	}
	return g
}

// Find returns the group of a path, nil if there is none.
func (l *wants) Find(path string) *group {
	l.Sort()
	i, found := slices.BinarySearchFunc(l.entries, path, func(e wantEntry, path string) int {
		return cmp.Compare(string(l.path(&e)), path)
	})
	if !found {
		return nil
	}
	return l.group(new(group), i, l.count(i))
}

// Drop forgets the files of repositories.
func (l *wants) Drop(gone func(part uint16) bool) {
	l.entries = slices.DeleteFunc(l.entries, func(e wantEntry) bool {
		if !gone(e.part) {
			return false
		}
		l.kept -= int64(e.length())
		l.dropped += int64(e.length())
		return true
	})
	if l.dropped > l.kept {
		l.compact()
	}
}

// compact gives back the memory of what was dropped.
func (l *wants) compact() {
	old := l.chunks
	l.chunks, l.kept, l.dropped = nil, 0, 0
	for i := range l.entries {
		e := &l.entries[i]
		text := old[e.chunk][e.at:][:e.length()]
		last := l.room(e)
		*last = append(*last, text...)
	}
}

// and adds what another one says of the file.
func (g *group) and(o want) {
	switch {
	case g.Size >= 0 && o.Size >= 0 && g.Size != o.Size,
		g.Sum.Hash == o.Sum.Hash && g.Sum.Value != "" && o.Sum.Value != "" && g.Sum != o.Sum,
		g.Link != o.Link:
		g.Conflict = true
	}
	if g.Size < 0 {
		g.Size = o.Size
	}
	if o.Sum.Value != "" && (g.Sum.Value == "" || g.Sum.Hash != crypto.SHA256 && o.Sum.Hash == crypto.SHA256) {
		g.Sum = o.Sum
	}
	if g.ModTime.IsZero() {
		g.ModTime = o.ModTime
	}
	g.Class = max(g.Class, o.Class)
	g.Optional = g.Optional && o.Optional
}
