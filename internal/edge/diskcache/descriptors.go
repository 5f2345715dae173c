package diskcache

import (
	"container/list"
	"os"
	"sync"
	"sync/atomic"
)

// handle is an open file that is closed when the last user releases it.
type handle struct {
	f    *os.File
	refs atomic.Int32
}

func newHandle(f *os.File) *handle {
	h := &handle{f: f}
	h.refs.Store(1)
	return h
}

func (h *handle) retain() { h.refs.Add(1) }

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		_ = h.f.Close() // nothing is buffered: every write was checked
	}
}

// descriptors keeps the files of recently used entries open: opening a small
// file costs more than sending it.
type descriptors struct {
	max int

	mu     sync.Mutex
	recent list.List // of *Entry, most recent first
}

// acquire returns the entry's open file; the caller releases it.
func (d *descriptors) acquire(e *Entry) (*handle, error) {
	d.mu.Lock()
	if h := e.file; h != nil {
		h.retain()
		d.recent.MoveToFront(e.lru)
		d.mu.Unlock()
		return h, nil
	}
	d.mu.Unlock()
	f, err := e.openFile(os.O_RDWR)
	if err != nil {
		if f, err = e.openFile(os.O_RDONLY); err != nil {
			return nil, err
		}
	}
	h := newHandle(f)
	h.retain() // one for the caller, one for us
	d.adopt(e, h)
	return h, nil
}

// adopt takes over one reference to the entry's file.
func (d *descriptors) adopt(e *Entry, h *handle) {
	var out *handle
	d.mu.Lock()
	switch {
	case e.file != nil: // someone was faster
		out = h
	default:
		e.file, e.lru = h, d.recent.PushFront(e)
		if d.recent.Len() > d.max {
			out = d.dropLocked(d.recent.Back().Value.(*Entry))
		}
	}
	d.mu.Unlock()
	if out != nil {
		out.release()
	}
}

func (d *descriptors) dropLocked(e *Entry) *handle {
	h := e.file
	if h != nil {
		d.recent.Remove(e.lru)
		e.file, e.lru = nil, nil
	}
	return h
}

// forget closes the file of an entry that is gone, once nobody reads it.
func (d *descriptors) forget(e *Entry) {
	d.mu.Lock()
	h := d.dropLocked(e)
	d.mu.Unlock()
	if h != nil {
		h.release()
	}
}

func (d *descriptors) closeAll() {
	d.mu.Lock()
	var hs []*handle
	for d.recent.Len() > 0 {
		hs = append(hs, d.dropLocked(d.recent.Front().Value.(*Entry)))
	}
	d.mu.Unlock()
	for _, h := range hs {
		h.release()
	}
}
