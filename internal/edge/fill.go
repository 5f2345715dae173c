package edge

import (
	"errors"
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
	rest    *rest
	// release gives up the file, once done is set and nobody reads. It is nil
	// after that.
	release func()
}

// rest is what the origin has still to send after the store refused a write:
// the first reader that gets there goes on with it.
type rest struct {
	off  int64
	head []byte
	body io.ReadCloser
	// settled is closed when a reader took it, or, with refused, when the last
	// one left.
	settled chan struct{}
	refused bool
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
	if f.n += int64(n); f.size < 0 || f.n < f.size {
		f.shown = f.n
		f.wakeLocked()
	}
	f.mu.Unlock()
}

// finish ends the fill.
func (f *fill) finish(err error) {
	f.mu.Lock()
	if f.done, f.err = true, err; err == nil {
		f.shown = f.n
	}
	f.releaseLocked()
	f.wakeLocked()
	f.mu.Unlock()
}

// failure is the error that the fill ended with.
func (f *fill) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// handOver offers the rest of the body to a reader and waits until one takes
// it or all have left. It reports whether it was taken.
func (f *fill) handOver(head []byte, body io.ReadCloser) bool {
	f.mu.Lock()
	if f.readers == 0 {
		f.mu.Unlock()
		return false
	}
	r := &rest{off: f.n, head: head, body: body, settled: make(chan struct{})}
	f.rest = r
	f.wakeLocked()
	f.mu.Unlock()
	<-r.settled
	return !r.refused
}

// join adds a reader, who calls leave in the end. It reports false if it is
// too late: the fill is given up, or over and its file released.
func (f *fill) join() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.release == nil || f.closing {
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
	last := f.readers == 0
	idle := last && f.abandonedLocked()
	if last && f.rest != nil {
		f.rest.refused = true
		close(f.rest.settled)
		f.rest = nil
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

// errHandedOver ends a fill whose rest went to one reader only.
var errHandedOver = &upstream.Error{Reason: upstream.StoreFull, Err: errors.New("the store could not take the body")}

// read returns how many bytes after off are there, waiting for at least one;
// 0 and io.EOF at the end. rest is not nil if the reader is to go on with it:
// the reader owns it then.
func (f *fill) read(done <-chan struct{}, off int64) (n int64, r *rest, err error) {
	for {
		f.mu.Lock()
		switch {
		case off < f.shown:
			n = f.shown - off
			f.mu.Unlock()
			return n, nil, nil
		case f.rest != nil && off == f.rest.off:
			r, f.rest = f.rest, nil
			close(r.settled)
			f.mu.Unlock()
			return 0, r, nil
		case f.done && f.err == nil:
			f.mu.Unlock()
			return 0, nil, io.EOF
		case f.done:
			err := f.err
			f.mu.Unlock()
			return 0, nil, err
		}
		if f.wake == nil {
			f.wake = make(chan struct{})
		}
		wake := f.wake
		f.mu.Unlock()
		select {
		case <-wake:
		case <-done:
			return 0, nil, &upstream.Error{Reason: upstream.ClientGone, Err: io.ErrClosedPipe}
		}
	}
}

// waits reports whether a read at off would have to wait.
func (f *fill) waits(off int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.done && off >= f.shown
}
