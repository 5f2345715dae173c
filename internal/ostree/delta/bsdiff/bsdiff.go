// Package bsdiff finds what two versions of a file have in common, also where
// single bytes differ throughout, as in programs that were built anew; and it
// writes and applies the patches of bsdiff that static deltas hold.
//
// A patch, as libostree reads it, is a sequence of
//
//	3 × 8 bytes   lengths of difference and extra, and how far to seek after
//	difference    added, byte by byte, to the old version from where it stands
//	extra         bytes that are new
//
// without header and not compressed. The numbers are little-endian, with the
// sign in the highest bit. The size of the new version is told elsewhere.
//
// Where bsdiff sorts all suffixes of the old version, [Matcher] looks seeds of
// eight bytes up in a table: time is linear, memory a fraction of the old
// version, and what is found nearly the same. The choice between alignments is
// that of Colin Percival, "Naive Differences of Executable Code" (2003).
package bsdiff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// MaxSize bounds both versions, in bytes: positions are kept in 32 bits.
const MaxSize = 1 << 31

// ErrMalformed is wrapped when a patch is not what the format demands.
var ErrMalformed = errors.New("malformed patch")

// Match says that new[New:New+Len] resembles old[Old:Old+Len]. Most bytes are
// equal, not all.
type Match struct{ New, Old, Len int }

// Matcher finds matches. It keeps its table for the next pair; the zero value
// is ready. It must not be used by several goroutines at once.
type Matcher struct {
	table []uint32 // position + 1 of a seed in the old version
	shift uint
}

const (
	seed = 8 // bytes that are looked up

	// better is by how many more equal bytes another alignment must have to be
	// worth the numbers that it costs.
	better = 12

	maxTable = 1 << 20 // entries, 4 MiB

	// reach is how far around the place of the first and last change seeds are
	// entered, at least. Where little has changed, little has moved.
	reach = 256 << 10
)

// Matches returns what new has in common with old, in the order of new and
// without overlap. Each of both has at most [MaxSize] bytes.
func (m *Matcher) Matches(old, new []byte) []Match {
	prefix := EqualPrefix(old, new)
	suffix := equalSuffix(old[prefix:], new[prefix:])
	changed := len(new) - prefix - suffix
	m.fill(old, prefix-reach-2*changed, len(old)-suffix+reach+2*changed)
	s := scan{old: old, new: new}
	for i := prefix; i+seed <= len(new); {
		if run := s.run(i); run >= seed {
			i += run
			continue
		}
		at := m.lookup(old, new[i:])
		if at < 0 || at-i == s.shift {
			i++
			continue
		}
		length := EqualPrefix(old[at:], new[i:])
		if length <= better || length <= better+s.equal(i, i+length) {
			i++
			continue
		}
		s.switchTo(i, at-i)
		i += length
	}
	s.switchTo(len(new), s.shift)
	return s.matches
}

// fill enters the seeds of old[from:to], as far as that exists, at every so many
// bytes that the table is not larger than maxTable.
func (m *Matcher) fill(old []byte, from, to int) {
	from, to = max(0, from), min(len(old), to)
	step := max(2, (to-from+maxTable-1)/maxTable)
	size := 1 << bits.Len(uint((to-from)/step))
	if cap(m.table) < size {
		m.table = make([]uint32, size)
	}
	m.table = m.table[:size]
	clear(m.table)
	m.shift = uint(64 - bits.Len(uint(size-1)))
	for i := from; i+seed <= to; i += step {
		m.table[m.slot(binary.LittleEndian.Uint64(old[i:]))] = uint32(i) + 1
	}
}

func (m *Matcher) slot(seed uint64) uint64 { return seed * 0x9E3779B97F4A7C15 >> m.shift }

// lookup returns where the seed at the beginning of b is in the old version, or
// a negative number.
func (m *Matcher) lookup(old, b []byte) int {
	word := binary.LittleEndian.Uint64(b)
	at := int(m.table[m.slot(word)]) - 1
	if at >= 0 && binary.LittleEndian.Uint64(old[at:]) != word {
		return -1
	}
	return at
}

// scan is the state of a comparison: the alignment in use, and from where on.
type scan struct {
	old, new []byte
	start    int // in new, from where the alignment holds
	shift    int // position in old less that in new
	matches  []Match
}

// run returns how many bytes at i are equal under the alignment.
func (s *scan) run(i int) int {
	if at := i + s.shift; at >= 0 && at < len(s.old) {
		return EqualPrefix(s.old[at:], s.new[i:])
	}
	return 0
}

// equal counts the bytes in new[from:to] that are equal under the alignment.
func (s *scan) equal(from, to int) int {
	n := 0
	from, to = max(from, -s.shift), min(to, len(s.old)-s.shift)
	for from < to {
		if run := EqualPrefix(s.old[from+s.shift:to+s.shift], s.new[from:to]); run > 0 {
			n += run
			from += run
		}
		from++
	}
	return n
}

// switchTo ends the alignment: from i on, another one is better. What lies
// between is given to the one before, as far as it has more equal bytes than
// others, to the next one, as far as that has, or to neither.
func (s *scan) switchTo(i, shift int) {
	forward := s.extend(s.start, i)
	backward := 0
	if i < len(s.new) {
		backward = s.extendBack(i, s.start, shift)
	}
	if overlap := s.start + forward - (i - backward); overlap > 0 {
		cut := s.split(i-backward, overlap, shift)
		forward -= overlap - cut
		backward -= cut
	}
	if forward > 0 {
		s.matches = append(s.matches, Match{New: s.start, Old: s.start + s.shift, Len: forward})
	}
	s.start, s.shift = i-backward, shift
}

// extend returns for how many bytes from start on the alignment has the most
// equal bytes, less those that are not.
func (s *scan) extend(start, limit int) int {
	start = max(start, 0)
	limit = min(limit, len(s.old)-s.shift)
	if start+s.shift < 0 {
		return 0
	}
	score, best, length := 0, 0, 0
	for i := start; i < limit; {
		if run := EqualPrefix(s.old[i+s.shift:limit+s.shift], s.new[i:limit]); run > 0 {
			i += run
			if score += run; score > best {
				best, length = score, i-start
			}
			continue
		}
		score--
		i++
	}
	return length
}

// extendBack is extend for the alignment shift, from i down to limit.
func (s *scan) extendBack(i, limit, shift int) int {
	limit = max(limit, -shift)
	score, best, length := 0, 0, 0
	for j := i - 1; j >= limit; j-- {
		if s.old[j+shift] == s.new[j] {
			if score++; score > best {
				best, length = score, i-j
			}
		} else {
			score--
		}
	}
	return length
}

// split returns how many of the overlapping bytes at i the alignment keeps, so
// that together most bytes are equal; the rest goes to the next one.
func (s *scan) split(i, overlap, next int) int {
	score, best, cut := 0, 0, 0
	for j := range overlap {
		if s.new[i+j] == s.old[i+j+s.shift] {
			score++
		}
		if s.new[i+j] == s.old[i+j+next] {
			score--
		}
		if score > best {
			best, cut = score, j+1
		}
	}
	return cut
}

// EqualPrefix returns how many bytes a and b have in common at their beginning.
func EqualPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

const controlSize = 24

// equalSuffix returns how many bytes a and b have in common at their end.
func equalSuffix(a, b []byte) int {
	n := 0
	for n+8 <= min(len(a), len(b)) {
		x := binary.LittleEndian.Uint64(a[len(a)-n-8:]) ^ binary.LittleEndian.Uint64(b[len(b)-n-8:])
		if x != 0 {
			return n + bits.LeadingZeros64(x)/8
		}
		n += 8
	}
	for n < min(len(a), len(b)) && a[len(a)-n-1] == b[len(b)-n-1] {
		n++
	}
	return n
}

// MaxPatchSize bounds the bytes that [WritePatch] writes for a new version, or
// window, of this size.
func MaxPatchSize(size, matches int) int { return size + (matches+1)*controlSize }

// WritePatch writes the patch that makes new of old, with matches as
// [Matcher.Matches] gives them.
//
// Versions that are too large to be held can be given in windows, one call after
// the other: then all positions are relative to the windows, at is where the
// patch so far has come to in old (0 at first), and so is what is returned.
func WritePatch(w io.Writer, old, new []byte, matches []Match, at int) (int, error) {
	if len(new) == 0 {
		return at, nil
	}
	m := Match{Old: at} // nothing, at the beginning
	if len(matches) > 0 && matches[0].New == 0 && matches[0].Old == at {
		m, matches = matches[0], matches[1:]
	}
	for _, next := range matches {
		if err := writeStep(w, old, new, m, next); err != nil {
			return 0, err
		}
		m = next
	}
	end := m.Old + m.Len
	return end, writeStep(w, old, new, m, Match{New: len(new), Old: end})
}

// writeStep writes a match and what is new up to the next one.
func writeStep(w io.Writer, old, new []byte, m, next Match) error {
	end := m.New + m.Len
	var control [controlSize]byte
	putNumber(control[0:], int64(m.Len))
	putNumber(control[8:], int64(next.New-end))
	putNumber(control[16:], int64(next.Old-(m.Old+m.Len)))
	if _, err := w.Write(control[:]); err != nil {
		return err
	}
	var buf [16 << 10]byte
	for done := 0; done < m.Len; {
		part := buf[:min(len(buf), m.Len-done)]
		subtract(part, new[m.New+done:], old[m.Old+done:])
		if _, err := w.Write(part); err != nil {
			return err
		}
		done += len(part)
	}
	_, err := w.Write(new[end:next.New])
	return err
}

// subtract sets each byte of dst to a less b.
func subtract(dst, a, b []byte) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] - b[i]
	}
}

// Patch applies a patch to old and fills dst, whose length is the size of the
// new version. Errors wrap [ErrMalformed].
func Patch(dst, old, patch []byte) error {
	at := int64(0)
	for pos := 0; pos < len(dst); {
		if len(patch) < controlSize {
			return fmt.Errorf("%w: it ends at byte %d of %d", ErrMalformed, pos, len(dst))
		}
		difference, extra, seek := number(patch), number(patch[8:]), number(patch[16:])
		patch = patch[controlSize:]
		left := int64(min(len(dst)-pos, len(patch)))
		if difference < 0 || extra < 0 || difference > left || extra > left-difference || seek > MaxSize || seek < -MaxSize {
			return fmt.Errorf("%w: step of %d and %d bytes at %d of %d", ErrMalformed, difference, extra, pos, len(dst))
		}
		pos += copy(dst[pos:], patch[:difference+extra])
		patch = patch[difference+extra:]
		add(dst[pos-int(difference+extra):pos-int(extra)], old, at)
		if at += difference + seek; at > 2*MaxSize || at < -2*MaxSize {
			return fmt.Errorf("%w: seek to %d", ErrMalformed, at)
		}
	}
	if len(patch) > 0 {
		return fmt.Errorf("%w: %d bytes after the end", ErrMalformed, len(patch))
	}
	return nil
}

// add adds the bytes of old from at on, as far as there are any.
func add(dst, old []byte, at int64) {
	if at < 0 {
		dst = dst[min(-at, int64(len(dst))):]
		at = 0
	}
	old = old[min(at, int64(len(old))):]
	for i := range min(len(dst), len(old)) {
		dst[i] += old[i]
	}
}

func putNumber(b []byte, n int64) {
	u := uint64(n)
	if n < 0 {
		u = uint64(-n) | 1<<63
	}
	binary.LittleEndian.PutUint64(b, u)
}

func number(b []byte) int64 {
	u := binary.LittleEndian.Uint64(b)
	if u>>63 != 0 {
		return -int64(u &^ (1 << 63))
	}
	return int64(u)
}
