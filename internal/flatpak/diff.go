package flatpak

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrDelta is wrapped by the errors of [ApplySummaryDelta].
var ErrDelta = errors.New("malformed summary delta")

// A summary delta, before gzip, is "xadf", the number of operations, the
// operations and the data they take, all numbers 32-bit little-endian. An
// operation has its kind in the top four bits and a length below.
const (
	deltaMagic  = "xadf"
	deltaHeader = 8

	opCopy = 0 // the next bytes of the old summary
	opSkip = 1 // leave out the next bytes of the old summary
	opData = 2 // the next bytes of the data

	opLength = 0x0fffffff
)

type deltaOp struct {
	kind   uint32
	length int
}

// differ collects operations; neighbours of one kind become one.
type differ struct {
	ops  []deltaOp
	data []byte
}

func (d *differ) emit(kind uint32, length int) {
	switch n := len(d.ops); {
	case length == 0:
	case n > 0 && d.ops[n-1].kind == kind:
		d.ops[n-1].length += length
	default:
		d.ops = append(d.ops, deltaOp{kind, length})
	}
}

// block turns a run of the old summary into one of the new: what they have in
// common at both ends is copied.
func (d *differ) block(before, after []byte) {
	prefix := commonPrefix(before, after)
	before, after = before[prefix:], after[prefix:]
	suffix := 0
	for limit := min(len(before), len(after)); suffix < limit && before[len(before)-1-suffix] == after[len(after)-1-suffix]; {
		suffix++
	}
	d.emit(opCopy, prefix)
	d.emit(opSkip, len(before)-suffix)
	d.emit(opData, len(after)-suffix)
	d.data = append(d.data, after[:len(after)-suffix]...)
	d.emit(opCopy, suffix)
}

// commonPrefix returns how many bytes at the beginning are the same.
func commonPrefix(a, b []byte) int {
	const stride = 64
	limit := min(len(a), len(b))
	n := 0
	for n+stride <= limit && bytes.Equal(a[n:n+stride], b[n:n+stride]) {
		n += stride
	}
	for n < limit && a[n] == b[n] {
		n++
	}
	return n
}

// diffViews returns the delta, not compressed, that makes the second view of the
// first. It walks the lists of entries and looks into those that differ only; the
// operations are those of flatpak_summary_generate_diff.
func diffViews(before, after *view) []byte {
	var d differ
	i, j := 0, 0
	for i < len(before.entries) && j < len(after.entries) {
		a, b := before.entries[i], after.entries[j]
		switch {
		case a == b && i+1 < len(before.entries) && j+1 < len(after.entries):
			d.emit(opCopy, len(a.padded))
			i++
			j++
		case a == b:
			d.emit(opCopy, a.size)
			d.block(gap(before, i), gap(after, j))
			i++
			j++
		case a.key == b.key:
			d.block(a.padded[:a.size], b.padded[:b.size])
			d.block(gap(before, i), gap(after, j))
			i++
			j++
		case a.key > b.key:
			d.block(nil, after.data(j))
			j++
		default:
			d.block(before.data(i), nil)
			i++
		}
	}
	d.block(before.rest(i), after.rest(j))
	return d.encode()
}

// gap returns the padding after an entry.
func gap(v *view, i int) []byte { return v.data(i)[v.entries[i].size:] }

func (d *differ) encode() []byte {
	b := make([]byte, deltaHeader, deltaHeader+4*len(d.ops)+len(d.data))
	copy(b, deltaMagic)
	count := uint32(0)
	for _, op := range d.ops {
		for length := op.length; length > 0; length -= min(length, opLength) {
			b = binary.LittleEndian.AppendUint32(b, op.kind<<28|uint32(min(length, opLength)))
			count++
		}
	}
	binary.LittleEndian.PutUint32(b[len(deltaMagic):], count)
	return append(b, d.data...)
}

// ApplySummaryDelta makes the new summary of an old one and a delta without its
// gzip. The result has maxSize bytes at most.
func ApplySummaryDelta(old, delta []byte, maxSize int) ([]byte, error) {
	if len(delta) < deltaHeader || string(delta[:len(deltaMagic)]) != deltaMagic {
		return nil, fmt.Errorf("%w: no header", ErrDelta)
	}
	count := int64(binary.LittleEndian.Uint32(delta[len(deltaMagic):]))
	delta = delta[deltaHeader:]
	if count > int64(len(delta)/4) {
		return nil, fmt.Errorf("%w: %d operations in %d bytes", ErrDelta, count, len(delta))
	}
	ops, data := delta[:4*count], delta[4*count:]
	var result []byte
	for ; len(ops) > 0; ops = ops[4:] {
		op := binary.LittleEndian.Uint32(ops)
		length := int(op & opLength)
		source := &old
		if op>>28 == opData {
			source = &data
		}
		if op>>28 > opData || length > len(*source) {
			return nil, fmt.Errorf("%w: operation %08x", ErrDelta, op)
		}
		if op>>28 != opSkip {
			if length > maxSize-len(result) {
				return nil, fmt.Errorf("%w: makes more than %d bytes", ErrDelta, maxSize)
			}
			result = append(result, (*source)[:length]...)
		}
		*source = (*source)[length:]
	}
	return result, nil
}
