package inventory

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"slices"

	"freshet/internal/durable"
)

// The file: docs/formats/inventory.md.
const magic = "FRSHINV1"

// Kinds of blocks.
const (
	blockHolders byte = 1 + iota
	blockProject
	blockSets
	blockFiles
	blockEnd
	blockBase
	blockGone
)

const (
	blockHead  = 9       // kind, length, CRC
	blockSize  = 1 << 20 // about, of those with files
	blockLimit = 1 << 24
)

// Flags of a version in the file, besides those of memory.
const flagHashed = 4

// Save writes the inventory to a file, which is replaced when the new one is on the
// disk. It may run beside everything else, and costs about a second of one core for a
// million files.
func (v *Inventory) Save(dir durable.Dir, name string) error {
	return dir.Write(name, 0o644, v.Write)
}

// Write writes what Save does. What Read has read is written as the same bytes.
func (v *Inventory) Write(to io.Writer) error { return v.Edition().Write(to) }

// writer writes the blocks of one file.
type writer struct {
	to       *bufio.Writer
	err      error
	numbers  []int // in the file, of holders
	sets     map[Set]uint64
	fresh    []byte // sets that have not been written yet
	versions uint64
}

// newWriter begins a file.
func newWriter(to io.Writer) *writer {
	w := &writer{to: bufio.NewWriterSize(to, 1<<18)}
	w.raw([]byte(magic))
	return w
}

// end ends it.
func (w *writer) end() error {
	w.block(blockEnd, binary.AppendUvarint(nil, w.versions))
	if w.err != nil {
		return w.err
	}
	return w.to.Flush()
}

func (w *writer) raw(b []byte) {
	if w.err == nil {
		_, w.err = w.to.Write(b)
	}
}

func (w *writer) block(kind byte, content []byte) {
	head := [blockHead]byte{kind}
	binary.LittleEndian.PutUint32(head[1:], uint32(len(content)))
	sum := crc32.Update(crc32.Checksum(head[:5], castagnoli()), castagnoli(), content)
	binary.LittleEndian.PutUint32(head[5:], sum)
	w.raw(head[:])
	w.raw(content)
}

// holders writes the names of those of whom something is known, and numbers them by
// their names.
func (w *writer) holders(names []string, views map[string]View) {
	used := make(map[Holder]bool)
	for _, v := range views {
		for h := range v.Standings() {
			used[h] = h != Origin
		}
	}
	delete(used, Origin)
	order := slices.SortedFunc(maps.Keys(used), func(a, b Holder) int { return cmp.Compare(names[a-1], names[b-1]) })
	w.numbers = make([]int, len(names)+1)
	b := binary.AppendUvarint(nil, uint64(len(order)))
	for i, h := range order {
		w.numbers[h] = i + 1
		b = appendString(b, names[h-1])
	}
	w.block(blockHolders, b)
}

func (w *writer) project(name string, v View) {
	b := appendString(nil, name)
	standings := maps.Collect(v.Standings())
	b = binary.AppendUvarint(b, uint64(len(standings)))
	for _, h := range slices.SortedFunc(maps.Keys(standings), func(a, b Holder) int { return w.numbers[a] - w.numbers[b] }) {
		s := standings[h]
		b = binary.AppendUvarint(b, uint64(w.numbers[h]))
		b = binary.AppendVarint(b, s.Updated.UnixMicro())
		b = appendString(b, s.Generation)
	}
	w.block(blockProject, b)
	w.sets = map[Set]uint64{{}: 0}
}

// files writes folders of the project.
func (w *writer) files(all iter.Seq[*folder]) {
	folders := slices.SortedFunc(all, func(a, b *folder) int { return cmp.Compare(a.path, b.path) })
	var b []byte
	last := ""
	for _, f := range folders {
		for i := range f.leaves {
			b = appendFront(b, last, f.path)
			b = w.appendLeaf(b, &f.leaves[i])
			if last = f.path; len(b) >= blockSize {
				w.flush(b)
				b, last = b[:0], ""
			}
		}
	}
	w.flush(b)
}

// flush writes a block with files, after one with the sets that occur there for the
// first time.
func (w *writer) flush(b []byte) {
	if len(w.fresh) > 0 {
		w.block(blockSets, w.fresh)
		w.fresh = w.fresh[:0]
	}
	if len(b) > 0 {
		w.block(blockFiles, b)
	}
}

func (w *writer) appendLeaf(b []byte, l *leaf) []byte {
	b = binary.AppendUvarint(b, uint64(len(l.versions)))
	last := ""
	for i := range l.versions {
		v := &l.versions[i]
		flags, sum := v.flags, l.sum(i)
		if known(sum) {
			flags |= flagHashed
		}
		b = append(b, flags)
		if !v.again() {
			name := l.name(i)
			b = appendFront(b, last, name)
			last = name
		}
		b = binary.AppendUvarint(b, uint64(v.size))
		b = binary.LittleEndian.AppendUint32(b, v.modTime)
		b = binary.AppendUvarint(b, w.set(v.holders))
		if known(sum) {
			b = append(b, sum[:]...)
		}
	}
	w.versions += uint64(len(l.versions))
	return b
}

// set returns the number of a set in the project.
func (w *writer) set(s Set) uint64 {
	n, ok := w.sets[s]
	if !ok {
		n = uint64(len(w.sets))
		w.sets[s] = n
		content := w.members(s.All())
		w.fresh = appendString(w.fresh, string(content))
	}
	return n
}

func (w *writer) members(holders iter.Seq[Holder]) members {
	var m members
	for h := range holders {
		m.add(Holder(w.numbers[h]))
	}
	return m
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// gone writes which folders of the project are not there any more.
func (w *writer) gone(folders iter.Seq[*folder]) {
	var b []byte
	last := ""
	for _, f := range slices.SortedFunc(folders, func(a, b *folder) int { return cmp.Compare(a.path, b.path) }) {
		b = appendFront(b, last, f.path)
		if last = f.path; len(b) >= blockSize {
			w.block(blockGone, b)
			b, last = b[:0], ""
		}
	}
	if len(b) > 0 {
		w.block(blockGone, b)
	}
}

// appendFront appends s without what it begins with like last.
func appendFront(b []byte, last, s string) []byte {
	n := 0
	for n < min(len(last), len(s)) && last[n] == s[n] {
		n++
	}
	return appendString(binary.AppendUvarint(b, uint64(n)), s[n:])
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
