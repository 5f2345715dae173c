package xz

import (
	"encoding/binary"
	"io"
)

// x86Reader undoes the x86 filter. The filter makes the operands of CALL and
// JMP absolute, so that calls of one function look alike; here they become
// relative again. Which bytes are operands is guessed, by both sides alike.
type x86Reader struct {
	src  io.Reader
	buf  []byte // [read:done] waits to be read, [done:] to be converted
	read int
	done int
	err  error // of src

	pos    uint32 // of buf[done] in the block
	last   uint32 // position of the last byte that looked like an opcode
	recent uint32 // the opcodes before: bits 0 to 2 by distance, bits 4 to 6 those whose operand ended like an address
}

func newX86Reader(src io.Reader) *x86Reader {
	return &x86Reader{src: src, buf: make([]byte, 0, 32<<10), last: ^uint32(4)}
}

func (x *x86Reader) Read(p []byte) (int, error) {
	for x.read == x.done {
		if x.err != nil {
			return 0, x.err
		}
		x.fill()
	}
	n := copy(p, x.buf[x.read:x.done])
	x.read += n
	return n, nil
}

// fill reads more and converts it, but for the last bytes, about which only
// those that follow can decide. At the end they stay as they are.
func (x *x86Reader) fill() {
	x.buf = x.buf[:copy(x.buf, x.buf[x.done:])]
	var n int
	n, x.err = x.src.Read(x.buf[len(x.buf):cap(x.buf)])
	x.buf = x.buf[:len(x.buf)+n]
	x.read, x.done = 0, x.convert(x.buf)
	x.pos += uint32(x.done)
	if x.err != nil {
		x.done = len(x.buf)
	}
}

const instruction = 5 // bytes of CALL and JMP

// convert undoes the filter in b, which begins at x.pos, as far as it can
// decide; it returns how far.
func (x *x86Reader) convert(b []byte) int {
	i := 0
	for i+instruction <= len(b) {
		if b[i]&0xFE != 0xE8 {
			i++
			continue
		}
		at := x.pos + uint32(i)
		if distance := at - x.last; distance > instruction {
			x.recent = 0
		} else {
			for range distance {
				x.recent = x.recent & 0x77 << 1
			}
		}
		x.last = at
		end := b[i+4]
		if !signByte(end) || x.recent >= 0x20 || !convertible(x.recent) {
			i++
			x.recent |= 1
			if signByte(end) {
				x.recent |= 0x10
			}
			continue
		}
		operand := binary.LittleEndian.Uint32(b[i+1:])
		next := at + instruction
		address := operand - next
		if x.recent != 0 {
			// An opcode before lies inside of this operand's reach: the byte
			// there must not look like the end of an address afterwards.
			shift := 24 - 8*overlap(x.recent)
			for signByte(byte(address >> shift)) {
				operand = address ^ (1<<(shift+8) - 1)
				address = operand - next
			}
		}
		address = address & 0x01FF_FFFF
		if address&0x0100_0000 != 0 {
			address |= 0xFF00_0000
		}
		binary.LittleEndian.PutUint32(b[i+1:], address)
		i += instruction
		x.recent = 0
	}
	return i
}

// signByte tells whether an operand that ends with b is near enough.
func signByte(b byte) bool { return b == 0 || b == 0xFF }

// convertible tells whether at most one opcode came shortly before.
func convertible(recent uint32) bool {
	switch recent >> 1 & 7 {
	case 0, 1, 2, 4:
		return true
	}
	return false
}

// overlap is how many bytes of the operand the opcode before leaves alone.
func overlap(recent uint32) uint32 {
	switch recent >> 1 & 7 {
	case 0:
		return 0
	case 1:
		return 1
	case 2:
		return 2
	}
	return 3
}
