package ostree

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"freshet/internal/gvariant"
)

// A subsummary delta, summaries/<old>-<new>.delta, is, compressed with gzip:
// the magic number, the number of operations, the operations, and data. An
// operation has its kind in the top four bits and a length below; all numbers
// are little-endian. The format is Flatpak's.
const (
	subsummaryMagic = "xadf"

	opCopy = 0 // bytes from old to new
	opSkip = 1 // bytes of old that are passed over
	opData = 2 // bytes from the data to new

	opShift     = 28
	opMaxLength = 1<<opShift - 1
)

// EncodeSubsummaryDelta returns the difference between two subsummaries,
// uncompressed. It costs time linear in their size. Entries of refs that did
// not change are copied; any two byte strings give a delta that is right, but
// only for summaries it is small.
func EncodeSubsummaryDelta(from, to []byte) []byte {
	var ops []uint32
	var data []byte
	emit := func(op uint32, n int) {
		for n > 0 {
			length := min(n, opMaxLength)
			ops = append(ops, op<<opShift|uint32(length))
			n -= length
		}
	}
	var read, written int // in from and to
	for _, m := range matchSummaries(from, to) {
		emit(opSkip, m.from-read)
		emit(opData, m.to-written)
		data = append(data, to[written:m.to]...)
		emit(opCopy, m.size)
		read, written = m.from+m.size, m.to+m.size
	}
	emit(opData, len(to)-written)
	data = append(data, to[written:]...)

	delta := make([]byte, 0, len(subsummaryMagic)+4+4*len(ops)+len(data))
	delta = append(delta, subsummaryMagic...)
	delta = binary.LittleEndian.AppendUint32(delta, uint32(len(ops)))
	for _, op := range ops {
		delta = binary.LittleEndian.AppendUint32(delta, op)
	}
	return append(delta, data...)
}

// ApplySubsummaryDelta makes the new subsummary of the old one and an
// uncompressed delta. The result is no larger than both together. Whether it is
// the right one is told by its checksum.
func ApplySubsummaryDelta(from, delta []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(delta, []byte(subsummaryMagic))
	if !ok || len(rest) < 4 {
		return nil, fmt.Errorf("apply subsummary delta: %w: no magic number", ErrMalformed)
	}
	n := binary.LittleEndian.Uint32(rest)
	rest = rest[4:]
	if uint64(n)*4 > uint64(len(rest)) {
		return nil, fmt.Errorf("apply subsummary delta: %w: truncated", ErrMalformed)
	}
	ops, data := rest[:4*n], rest[4*n:]
	size := 0
	for i := 0; i < len(ops); i += 4 {
		if op := binary.LittleEndian.Uint32(ops[i:]); op>>opShift != opSkip {
			size = min(size+int(op&opMaxLength), len(from)+len(data))
		}
	}
	to := make([]byte, 0, size)
	for i := 0; i < len(ops); i += 4 {
		op := binary.LittleEndian.Uint32(ops[i:])
		length := int(op & opMaxLength)
		source := &from
		if op>>opShift == opData {
			source = &data
		}
		if length > len(*source) {
			return nil, fmt.Errorf("apply subsummary delta: %w: operation %d exceeds its source", ErrMalformed, i/4)
		}
		switch op >> opShift {
		case opCopy, opData:
			to = append(to, (*source)[:length]...)
		case opSkip:
		default:
			return nil, fmt.Errorf("apply subsummary delta: %w: operation of kind %d", ErrMalformed, op>>opShift)
		}
		*source = (*source)[length:]
	}
	return to, nil
}

// match is a run of equal bytes in two byte strings.
type match struct{ from, to, size int }

// matchSummaries finds runs of equal bytes in two summaries, in ascending order
// in both.
func matchSummaries(from, to []byte) []match {
	var list []match
	add := func(m match) {
		if n := len(list); n > 0 { // join with the run before, over equal padding
			last := &list[n-1]
			a, b := last.from+last.size, last.to+last.size
			if m.from-a == m.to-b && bytes.Equal(from[a:m.from], to[b:m.to]) {
				last.size = m.from + m.size - last.from
				return
			}
		}
		if m.size >= minMatch {
			list = append(list, m)
		}
	}
	// addEnds adds the equal beginning and end of from[i:iEnd] and to[j:jEnd].
	addEnds := func(i, iEnd, j, jEnd int) {
		prefix := commonPrefix(from[i:iEnd], to[j:jEnd])
		suffix := commonSuffix(from[i+prefix:iEnd], to[j+prefix:jEnd])
		add(match{i, j, prefix})
		add(match{iEnd - suffix, jEnd - suffix, suffix})
	}
	a, b := summaryEntries(from), summaryEntries(to)
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch order := bytes.Compare(a[i].ref, b[j].ref); {
		case order < 0:
			i++
		case order > 0:
			j++
		default:
			addEnds(a[i].start, a[i].end, b[j].start, b[j].end)
			i++
			j++
		}
	}
	// What follows the entries: their offsets and the metadata.
	i, j := 0, 0
	if len(a) > 0 {
		i = a[len(a)-1].end
	}
	if len(b) > 0 {
		j = b[len(b)-1].end
	}
	addEnds(i, len(from), j, len(to))
	return list
}

// minMatch is the size of a run that is worth the operations it takes.
const minMatch = 16

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func commonSuffix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[len(a)-1-i] != b[len(b)-1-i] {
			return i
		}
	}
	return n
}

type summaryEntry struct {
	ref        []byte
	start, end int
}

// summaryEntries returns where the entries of a summary lie; none in what is no
// summary.
func summaryEntries(data []byte) []summaryEntry {
	v, err := gvariant.Parse(summaryType, data)
	if err != nil {
		return nil
	}
	refs := v.Child(0)
	entries := make([]summaryEntry, 0, refs.Len())
	end := 0
	for e := range refs.Children() {
		start := (end + 7) &^ 7 // entries hold numbers of 64 bits
		end = start + len(e.Data())
		entries = append(entries, summaryEntry{ref: e.Child(0).Data(), start: start, end: end})
	}
	return entries
}
