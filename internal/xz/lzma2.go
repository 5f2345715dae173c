package xz

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// The control bytes of LZMA2 chunks. From 0x80 on, a chunk is compressed, bits 5
// and 6 say what is reset, and bits 0 to 4 belong to the size.
const (
	chunkEnd         = 0
	chunkStoredReset = 1 // stored, after which nothing before is referred to
	chunkStored      = 2
	chunkPacked      = 0x80
)

// What the bits 5 and 6 of a compressed chunk ask for.
const (
	resetNothing = iota
	resetState
	resetProps
	resetAll // also the dictionary
)

// lzma2Reader reads LZMA2 chunks up to the end marker, and no byte further.
type lzma2Reader struct {
	src     *bufio.Reader
	dec     decoder
	packed  []byte // a compressed chunk
	ended   bool
	started bool // the dictionary was reset
	ready   bool // the state was reset, with properties
}

func newLZMA2Reader(src *bufio.Reader, dict uint32) *lzma2Reader {
	return &lzma2Reader{src: src, dec: decoder{window: window{size: int(dict)}}}
}

func (r *lzma2Reader) Read(p []byte) (int, error) {
	for {
		if n := r.dec.window.take(p); n > 0 || len(p) == 0 {
			return n, nil
		}
		if r.ended {
			return 0, io.EOF
		}
		if err := r.chunk(); err != nil {
			return 0, err
		}
	}
}

// chunk decodes the next chunk into the window.
func (r *lzma2Reader) chunk() error {
	control, err := r.src.ReadByte()
	if err != nil {
		return truncated(err)
	}
	switch {
	case control == chunkEnd:
		r.ended = true
		return nil
	case control == chunkStored || control == chunkStoredReset:
		return r.stored(control == chunkStoredReset)
	case control < chunkPacked:
		return fmt.Errorf("%w: chunk of kind %d", ErrMalformed, control)
	}
	return r.compressed(control)
}

func (r *lzma2Reader) stored(reset bool) error {
	var head [2]byte
	if _, err := io.ReadFull(r.src, head[:]); err != nil {
		return truncated(err)
	}
	if reset {
		r.dec.window.reset()
		r.started = true
	}
	if !r.started {
		return fmt.Errorf("%w: first chunk does not reset the dictionary", ErrMalformed)
	}
	room := r.dec.window.grow(int(binary.BigEndian.Uint16(head[:])) + 1)
	if _, err := io.ReadFull(r.src, room); err != nil {
		return truncated(err)
	}
	return nil
}

func (r *lzma2Reader) compressed(control byte) error {
	var head [4]byte
	if _, err := io.ReadFull(r.src, head[:]); err != nil {
		return truncated(err)
	}
	size := int(control&0x1F)<<16 + int(binary.BigEndian.Uint16(head[:])) + 1
	packed := int(binary.BigEndian.Uint16(head[2:])) + 1
	reset := int(control >> 5 & 3)
	if reset == resetAll {
		r.dec.window.reset()
		r.started = true
	}
	if reset >= resetProps {
		props, err := r.src.ReadByte()
		if err != nil {
			return truncated(err)
		}
		if !r.dec.setProps(props) {
			return fmt.Errorf("%w: properties %d", ErrMalformed, props)
		}
		r.ready = true
	}
	if !r.started || !r.ready {
		return fmt.Errorf("%w: chunk without the reset it needs", ErrMalformed)
	}
	if reset >= resetState {
		r.dec.resetState()
	}
	if r.packed == nil {
		r.packed = make([]byte, 1<<16)
	}
	if _, err := io.ReadFull(r.src, r.packed[:packed]); err != nil {
		return truncated(err)
	}
	return r.dec.decode(r.packed[:packed], size)
}

// window is the dictionary with what was decoded into it. It grows to the size
// of the dictionary and the largest chunk, and not before content demands it.
type window struct {
	size int    // of the dictionary
	buf  []byte // the dictionary and what is not taken yet
	next int    // what is taken: buf[:next]
	base int    // start of the dictionary in buf
	gone uint32 // bytes of the dictionary before base that were forgotten
}

func (w *window) reset() { w.base, w.gone = len(w.buf), 0 }

// take moves decoded bytes to p.
func (w *window) take(p []byte) int {
	n := copy(p, w.buf[w.next:])
	w.next += n
	return n
}

// grow appends n bytes and returns them, to be set by the caller. All that was
// decoded before must have been taken.
func (w *window) grow(n int) []byte {
	if len(w.buf)+n > cap(w.buf) {
		w.slide(n)
	}
	w.buf = w.buf[:len(w.buf)+n]
	return w.buf[len(w.buf)-n:]
}

// slide makes room for n bytes: it forgets what is farther back than the
// dictionary reaches, and allocates when that does not suffice.
func (w *window) slide(n int) {
	keep := max(w.base, len(w.buf)-w.size)
	live := w.buf[keep:]
	w.gone += uint32(keep - w.base)
	if need := len(live) + n; need > cap(w.buf) || cap(w.buf)-need < cap(w.buf)/4 {
		room := max(need, min(2*need, max(w.size, 1<<16)*5/4+maxChunk))
		if room > cap(w.buf) {
			grown := make([]byte, len(live), room)
			copy(grown, live)
			w.buf = grown
			w.base, w.next = 0, len(live)
			return
		}
	}
	w.buf = w.buf[:copy(w.buf[:cap(w.buf)], live)]
	w.base, w.next = 0, len(live)
}

const maxChunk = 2 << 20 // bytes of content in a chunk

func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // those of io.ReadFull and bufio
		return fmt.Errorf("%w: truncated", ErrMalformed)
	}
	return err
}
