package xz

import (
	"encoding/binary"
	"fmt"
)

// The numbers of LZMA, as in its specification (lzma-specification.txt of the
// LZMA SDK).
const (
	probBits  = 11
	probInit  = 1 << (probBits - 1)
	probShift = 5
	rangeTop  = 1 << 24

	literalCoder = 0x300 // probabilities of a literal in one context
	maxLiterals  = 4     // LZMA2: lc + lp
	states       = 12
	firstNonLit  = 7 // states below follow a literal
	posStates    = 16

	minMatch      = 2
	lowLengths    = 8
	midLengths    = 8
	highBits      = 8
	lengthStates  = 4 // lengths tell the coder of distances apart up to here
	slotBits      = 6
	firstModel    = 4  // distance slots from here have more bits
	endModel      = 14 // and from here on direct bits
	alignBits     = 4
	specDistances = 1 << (endModel / 2)
)

type prob = uint16

// lengthProbs decodes the length of a match.
type lengthProbs struct {
	choice [2]prob
	low    [posStates][lowLengths]prob
	mid    [posStates][midLengths]prob
	high   [1 << highBits]prob
}

// probs is what LZMA learns.
type probs struct {
	literal    [literalCoder << maxLiterals]prob
	isMatch    [states][posStates]prob
	isRep      [states]prob
	isRep0     [states]prob
	isRep1     [states]prob
	isRep2     [states]prob
	isRep0Long [states][posStates]prob
	slot       [lengthStates][1 << slotBits]prob
	special    [specDistances]prob
	align      [1 << alignBits]prob
	match, rep lengthProbs
}

// decoder decodes chunks of LZMA.
type decoder struct {
	window window
	probs  probs
	state  int
	reps   [4]uint32
	lc, lp uint
	lpMask uint32
	pbMask uint32

	// The range decoder, on one chunk.
	in    []byte
	next  int // in in; beyond its end when it was too short
	code  uint32
	width uint32
}

func (d *decoder) setProps(b byte) bool {
	if b >= 9*5*5 {
		return false
	}
	d.lc = uint(b % 9)
	d.lp = uint(b / 9 % 5)
	d.lpMask = 1<<d.lp - 1
	d.pbMask = 1<<(b/9/5) - 1
	return d.lc+d.lp <= maxLiterals
}

func (d *decoder) resetState() {
	d.state = 0
	d.reps = [4]uint32{}
	p := &d.probs
	fill(p.literal[:])
	fill(p.isRep[:])
	fill(p.isRep0[:])
	fill(p.isRep1[:])
	fill(p.isRep2[:])
	for i := range states {
		fill(p.isMatch[i][:])
		fill(p.isRep0Long[i][:])
	}
	for i := range lengthStates {
		fill(p.slot[i][:])
	}
	fill(p.special[:])
	fill(p.align[:])
	for _, l := range []*lengthProbs{&p.match, &p.rep} {
		fill(l.choice[:])
		fill(l.high[:])
		for i := range posStates {
			fill(l.low[i][:])
			fill(l.mid[i][:])
		}
	}
}

func fill(p []prob) {
	for i := range p {
		p[i] = probInit
	}
}

// decode decodes a chunk of so many bytes into the window.
func (d *decoder) decode(packed []byte, size int) error {
	if len(packed) < 5 || packed[0] != 0 {
		return fmt.Errorf("%w: chunk of %d bytes", ErrMalformed, len(packed))
	}
	d.in, d.next = packed, 5
	d.code, d.width = binary.BigEndian.Uint32(packed[1:]), 1<<32-1
	d.window.grow(size)
	w := &d.window
	dict := w.buf[w.base:]
	end := len(dict)
	pos := end - size
	for pos < end {
		posState := (w.gone + uint32(pos)) & d.pbMask
		if d.bit(&d.probs.isMatch[d.state][posState]) == 0 {
			dict[pos] = d.literal(dict, pos)
			pos++
			continue
		}
		length := d.match(posState)
		distance := int(d.reps[0]) + 1
		if d.next > len(d.in) || distance > pos || distance > max(w.size, 1) || distance <= 0 || length > end-pos {
			return fmt.Errorf("%w: match of %d bytes %d back at %d", ErrMalformed, length, distance, pos)
		}
		if distance >= length {
			copy(dict[pos:pos+length], dict[pos-distance:])
		} else {
			for i := pos; i < pos+length; i++ {
				dict[i] = dict[i-distance]
			}
		}
		pos += length
	}
	d.normalize()
	if d.next != len(d.in) || d.code != 0 {
		return fmt.Errorf("%w: chunk does not end where it should", ErrMalformed)
	}
	return nil
}

func (d *decoder) literal(dict []byte, pos int) byte {
	var before uint32
	if pos > 0 {
		before = uint32(dict[pos-1])
	}
	context := ((d.window.gone+uint32(pos))&d.lpMask)<<d.lc + before>>(8-d.lc)
	p := (*[literalCoder]prob)(d.probs.literal[literalCoder*context:])
	symbol := uint32(1)
	if d.state >= firstNonLit {
		// After a match, the byte that would have continued it is a hint.
		var matched uint32
		if back := int(d.reps[0]) + 1; back <= pos {
			matched = uint32(dict[pos-back])
		}
		for symbol < 0x100 {
			hint := matched >> 7 & 1
			matched <<= 1
			bit := d.bit(&p[(1+hint)<<8+symbol])
			symbol = symbol<<1 | bit
			if hint != bit {
				break
			}
		}
	}
	for symbol < 0x100 {
		symbol = symbol<<1 | d.bit(&p[symbol])
	}
	switch {
	case d.state < 4:
		d.state = 0
	case d.state < 10:
		d.state -= 3
	default:
		d.state -= 6
	}
	return byte(symbol)
}

// match decodes a match up to its length; the distance is in reps[0].
func (d *decoder) match(posState uint32) int {
	p := &d.probs
	afterLiteral := d.state < firstNonLit
	if d.bit(&p.isRep[d.state]) == 0 {
		d.reps[3], d.reps[2], d.reps[1] = d.reps[2], d.reps[1], d.reps[0]
		d.state = pick(afterLiteral, 7, 10)
		length := d.length(&p.match, posState)
		d.reps[0] = d.distance(min(length, lengthStates-1))
		return length + minMatch
	}
	if d.bit(&p.isRep0[d.state]) == 0 {
		if d.bit(&p.isRep0Long[d.state][posState]) == 0 {
			d.state = pick(afterLiteral, 9, 11)
			return 1
		}
	} else {
		var distance uint32
		if d.bit(&p.isRep1[d.state]) == 0 {
			distance = d.reps[1]
		} else {
			if d.bit(&p.isRep2[d.state]) == 0 {
				distance = d.reps[2]
			} else {
				distance = d.reps[3]
				d.reps[3] = d.reps[2]
			}
			d.reps[2] = d.reps[1]
		}
		d.reps[1] = d.reps[0]
		d.reps[0] = distance
	}
	d.state = pick(afterLiteral, 8, 11)
	return d.length(&p.rep, posState) + minMatch
}

func pick(first bool, a, b int) int {
	if first {
		return a
	}
	return b
}

func (d *decoder) length(p *lengthProbs, posState uint32) int {
	if d.bit(&p.choice[0]) == 0 {
		return int(d.tree(p.low[posState][:]))
	}
	if d.bit(&p.choice[1]) == 0 {
		return lowLengths + int(d.tree(p.mid[posState][:]))
	}
	return lowLengths + midLengths + int(d.tree(p.high[:]))
}

// distance decodes how far back a match lies, less one.
func (d *decoder) distance(lengthState int) uint32 {
	slot := d.tree(d.probs.slot[lengthState][:])
	if slot < firstModel {
		return slot
	}
	bits := slot>>1 - 1
	distance := (2 | slot&1) << bits
	if slot < endModel {
		return distance + d.reverse(d.probs.special[distance-slot:], bits)
	}
	distance += d.direct(bits-alignBits) << alignBits
	return distance + d.reverse(d.probs.align[:], alignBits)
}

// tree decodes a symbol of log2(len(p)) bits, highest first.
func (d *decoder) tree(p []prob) uint32 {
	symbol := uint32(1)
	for int(symbol) < len(p) {
		symbol = symbol<<1 | d.bit(&p[symbol])
	}
	return symbol - uint32(len(p))
}

// reverse decodes a symbol of so many bits, lowest first.
func (d *decoder) reverse(p []prob, bits uint32) uint32 {
	at, symbol := uint32(1), uint32(0)
	for i := range bits {
		bit := d.bit(&p[at])
		at = at<<1 | bit
		symbol |= bit << i
	}
	return symbol
}

// direct decodes bits that are all equally likely.
func (d *decoder) direct(bits uint32) uint32 {
	var symbol uint32
	for range bits {
		d.normalize()
		d.width >>= 1
		bit := uint32(0)
		if d.code >= d.width {
			d.code -= d.width
			bit = 1
		}
		symbol = symbol<<1 | bit
	}
	return symbol
}

// bit decodes a bit and lets its probability learn.
func (d *decoder) bit(p *prob) uint32 {
	d.normalize()
	bound := d.width >> probBits * uint32(*p)
	if d.code < bound {
		d.width = bound
		*p += (1<<probBits - *p) >> probShift
		return 0
	}
	d.width -= bound
	d.code -= bound
	*p -= *p >> probShift
	return 1
}

// normalize takes a byte when precision runs out. Beyond the end it takes
// zeros; decode notices.
func (d *decoder) normalize() {
	if d.width < rangeTop {
		d.width <<= 8
		d.code <<= 8
		if d.next < len(d.in) {
			d.code |= uint32(d.in[d.next])
		}
		d.next++
	}
}
