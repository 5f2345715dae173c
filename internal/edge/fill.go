package edge

import (
	"io"
	"sync"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
)

// fill is a body on its way from the origin into the store. One goroutine
// writes; any number of readers follow it.
type fill struct {
	w    *diskcache.Writer
	size int64 // -1 if unknown
	// keep goes on without readers.
	keep bool

	mu      sync.Mutex
	n       int64 // bytes written
	shown   int64 // bytes readers may have; see progress
	done    bool
	err     error         // why it ended, with done; nil is success
	wake    chan struct{} // closed at the next progress; nil if nobody waits
	readers int
	closing bool   // given up for want of readers: nobody may join any more
	idle    func() // called when the last reader left and closing was set
	cursors map[*cursor]struct{}
	window  *window // of what the store does not take; nil as long as it does
	// release gives up the file, once done is set and nobody reads. It is nil
	// after that.
	release func()
}

func (f *fill) wakeLocked() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

// progress tells readers of n more bytes. Those that complete a body of known
// length are kept back until the body proved right and is stored: nobody can
// take a wrong one for complete, and who has it all finds it stored.
func (f *fill) progress(n int) {
	f.mu.Lock()
	f.progressLocked(n)
	f.mu.Unlock()
}

func (f *fill) progressLocked(n int) {
	if f.n += int64(n); f.size < 0 || f.n < f.size {
		f.shown = f.n
		f.wakeLocked()
	}
}

// finish ends the fill, if it has not ended.
func (f *fill) finish(err error) {
	f.mu.Lock()
	if f.done {
		f.mu.Unlock()
		return
	}
	if f.done, f.err = true, err; err == nil {
		f.shown = f.n
	}
	f.releaseLocked()
	f.wakeLocked()
	f.mu.Unlock()
}

// failure says why the body is not stored, after the end of the fill. It is nil
// if it may be.
func (f *fill) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && f.window != nil {
		return errRefused
	}
	return f.err
}

// join adds a reader, who calls leave in the end. It reports false if it is
// too late: the fill is given up, over and its file released, or a part of the
// body is gone.
func (f *fill) join() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.release == nil || f.closing || f.window != nil && f.window.first > f.window.base {
		return false
	}
	f.readers++
	return true
}

func (f *fill) isClosing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closing
}

func (f *fill) releaseLocked() {
	if f.done && f.readers == 0 && f.release != nil {
		f.release()
		f.release = nil
	}
}

func (f *fill) leave() {
	f.mu.Lock()
	f.readers--
	idle := f.readers == 0 && f.abandonedLocked()
	if f.window != nil {
		f.trimLocked()
		f.window.wake()
	}
	f.releaseLocked()
	f.mu.Unlock()
	if idle && f.idle != nil {
		f.idle()
	}
}

// abandoned reports whether going on is not worth it: nobody reads, and much
// is missing. If so, nobody can join from then on.
func (f *fill) abandoned() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.abandonedLocked()
}

func (f *fill) abandonedLocked() bool {
	const small = 64 << 20
	switch {
	case f.keep || f.readers > 0 || f.done:
		return false
	case f.size < 0:
		f.closing = f.closing || f.n >= small
	default:
		f.closing = f.closing || f.size >= small && f.n*2 < f.size
	}
	return f.closing
}

// read returns how many bytes after off are there, waiting for at least one;
// 0 and io.EOF at the end. c is the reader's.
func (f *fill) read(done <-chan struct{}, c *cursor, off int64) (n int64, err error) {
	for {
		f.mu.Lock()
		err := f.moveLocked(c, off)
		switch {
		case err != nil:
		case off < f.shown:
			n = f.shown - off
			f.mu.Unlock()
			return n, nil
		case f.done && f.err == nil:
			err = io.EOF
		case f.done:
			err = f.err
		}
		if err != nil {
			f.mu.Unlock()
			return 0, err
		}
		if f.wake == nil {
			f.wake = make(chan struct{})
		}
		wake := f.wake
		f.mu.Unlock()
		select {
		case <-wake:
		case <-done:
			return 0, &upstream.Error{Reason: upstream.ClientGone, Err: io.ErrClosedPipe}
		}
	}
}

// whole returns the body if it is complete, proved right, and in memory.
func (f *fill) whole() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done || f.err != nil || f.window != nil {
		return nil
	}
	return f.w.Bytes()
}

// waits reports whether a read at off would have to wait.
func (f *fill) waits(off int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.done && off >= f.shown
}
