package edge

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"freshet/internal/edge/upstream"
)

// window is what a fill goes on with when the store refuses a write: the last
// bytes of the body, in memory, as far as a reader still needs them. Its fill's
// mutex guards it.
//
// What it holds is bounded, so the origin is read as fast as the slowest reader
// takes what is there. One that takes nothing for a while is left behind.
type window struct {
	base   int64 // what is before was stored, and is read from there
	first  int64 // where the pieces begin; what is between base and here is gone
	pieces []piece
	room   chan struct{} // closed when a piece is dropped; nil if nobody waits
	spare  *allowance
	// unpinned says that who has joined and does not read yet is not waited for
	// any more.
	unpinned bool
}

// piece is bufferSize bytes of a window, the last one less.
type piece struct {
	b        []byte
	borrowed bool // from the allowance
}

const (
	// maxPieces bounds one window, 2 MiB.
	maxPieces = 16
	// maxSpare bounds all windows together, the first piece of each apart.
	maxSpare = 64 << 20
	// windowStall is how long a reader may take nothing while others wait.
	windowStall = 30 * time.Second
)

// allowance is the memory that all windows share. Its zero value is all of it.
// Safe for concurrent use.
type allowance struct{ used atomic.Int64 }

// take takes a piece, if there is one left.
func (a *allowance) take() bool {
	if a.used.Add(bufferSize) <= maxSpare {
		return true
	}
	a.give()
	return false
}

func (a *allowance) give() { a.used.Add(-bufferSize) }

// cursor is where a reader of a fill is.
type cursor struct {
	off   int64
	moved time.Time // with a window
	left  bool      // it stalled, and the window goes on without it
}

// errRefused says that the store did not take a body to its end.
var errRefused = &upstream.Error{Reason: upstream.StoreFull, Err: errors.New("the store could not take the body")}

var errLeftBehind = &upstream.Error{Reason: upstream.ClientGone, Err: errors.New("the client takes nothing while others wait for it")}

// refuse begins a window after what is stored.
func (f *fill) refuse(spare *allowance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.window = &window{base: f.n, first: f.n, spare: spare}
	for c := range f.cursors {
		c.moved = time.Now()
	}
}

// isRefused reports whether the store refused a part of the body.
func (f *fill) isRefused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.window != nil
}

// push adds what the origin sent to the window, waiting until there is room.
// It returns an error if nobody reads any more, or ctx has ended.
func (f *fill) push(ctx context.Context, data []byte) error {
	var stall *time.Timer
	for len(data) > 0 {
		f.mu.Lock()
		if f.readers == 0 {
			f.closing = true
			f.mu.Unlock()
			return errRefused
		}
		f.trimLocked()
		if n := f.window.put(data); n > 0 {
			f.progressLocked(n)
			data = data[n:]
			f.mu.Unlock()
			continue
		}
		room := make(chan struct{})
		f.window.room = room
		f.mu.Unlock()
		if stall == nil {
			stall = time.NewTimer(windowStall)
			defer stall.Stop()
		}
		select {
		case <-room:
		case <-stall.C:
			stall.Reset(f.leaveBehind(time.Now()))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// put adds a part of data and returns how much that was.
func (w *window) put(data []byte) int {
	if k := len(w.pieces); k == 0 || len(w.pieces[k-1].b) == bufferSize {
		borrowed := k > 0
		if k == maxPieces || borrowed && !w.spare.take() {
			return 0
		}
		w.pieces = append(w.pieces, piece{make([]byte, 0, bufferSize), borrowed})
	}
	last := &w.pieces[len(w.pieces)-1]
	n := min(len(data), bufferSize-len(last.b))
	last.b = append(last.b, data[:n]...)
	return n
}

// drop drops the oldest piece.
func (w *window) drop() {
	w.first += int64(len(w.pieces[0].b))
	if w.pieces[0].borrowed {
		w.spare.give()
	}
	w.pieces[0] = piece{}
	w.pieces = w.pieces[1:]
	w.wake()
}

// wake wakes the one who waits for room.
func (w *window) wake() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// lowLocked is the place from which on the readers need the body.
func (f *fill) lowLocked() int64 {
	low := f.n
	for c := range f.cursors {
		if !c.left {
			low = min(low, c.off)
		}
	}
	if f.readers > len(f.cursors) && !f.window.unpinned {
		low = min(low, f.window.first) // of those one does not know yet
	}
	return low
}

// trimLocked drops what nobody needs.
func (f *fill) trimLocked() {
	w := f.window
	low := f.lowLocked()
	for len(w.pieces) > 0 && low >= w.first+int64(len(w.pieces[0].b)) {
		w.drop()
	}
}

// leaveBehind goes on without those who hold the others up for too long, and
// returns when to look again.
func (f *fill) leaveBehind(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	low, next, found, held := f.lowLocked(), windowStall, false, false
	for c := range f.cursors {
		held = held || !c.left && c.off > low
	}
	for c := range f.cursors {
		if c.left || c.off > low {
			continue
		}
		found = true
		if !held {
			continue
		}
		if left := windowStall - now.Sub(c.moved); left > 0 {
			next = min(next, left)
			continue
		}
		c.left = true
	}
	if !found {
		f.window.unpinned = true
	}
	f.window.wake()
	return next
}

// place notes where a reader begins.
func (f *fill) place(off int64) *cursor {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cursors == nil {
		f.cursors = make(map[*cursor]struct{})
	}
	c := &cursor{off: off}
	if f.window != nil {
		c.moved = time.Now()
	}
	f.cursors[c] = struct{}{}
	return c
}

// unplace is called by a reader that has what it wanted from there.
func (f *fill) unplace(c *cursor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cursors, c)
}

// moveLocked notes where a reader is now.
func (f *fill) moveLocked(c *cursor, off int64) error {
	c.off = off
	if f.window == nil {
		return nil
	}
	c.moved = time.Now()
	f.trimLocked()
	switch {
	case c.left:
		return errLeftBehind
	case off >= f.window.base && off < f.window.first:
		return errRefused // of several ranges, one that is before the others
	}
	return nil
}

// readAt reads what is there of the body, from the store or the window. It may
// be less than fits into p.
func (f *fill) readAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	w := f.window
	if w == nil || off < w.base {
		f.mu.Unlock()
		if w != nil {
			p = p[:min(int64(len(p)), w.base-off)]
		}
		n, err := f.w.ReadAt(p, off)
		if n < len(p) && err != nil {
			return n, &upstream.Error{Reason: upstream.StoreFull, Err: err}
		}
		return n, nil
	}
	defer f.mu.Unlock()
	if off < w.first {
		return 0, errLeftBehind
	}
	at := off - w.first
	i := int(at / bufferSize)
	if i >= len(w.pieces) || at%bufferSize >= int64(len(w.pieces[i].b)) {
		return 0, errRefused
	}
	return copy(p, w.pieces[i].b[at%bufferSize:]), nil
}
