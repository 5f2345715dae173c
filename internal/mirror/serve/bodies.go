package serve

import "sync/atomic"

const (
	// maxBody is the longest file that is kept in memory.
	maxBody = 32 << 10
	// readyAfter is how often a file is read for a client before it is kept in memory.
	readyAfter = 3
	// defaultMemory is how much of files is kept in memory.
	defaultMemory = 32 << 20
)

// bodies are the short files that are asked for often. They are kept in memory, since to
// read one from the page cache is a third of what an answer costs: the call, a copy, and
// that the runtime has to see whether the call waits for the disk.
//
// There is no order in which they go: when there is no room for another one, all are
// forgotten, and what is asked for comes back. So nothing stays that was wanted once, and
// a hit has nothing to write down.
type bodies struct {
	most int64        // bytes
	held atomic.Int64 // bytes
}

// read reads what is in a file that is in use, if it is worth to be kept: nil if not. Full
// says that there is no room for it.
func (m *bodies) read(o *openFile) (b []byte, full bool) {
	if o.size == 0 || o.size > min(maxBody, m.most) || o.asked.Add(1) <= readyAfter {
		return nil, false
	}
	if m.held.Add(o.size) > m.most {
		m.held.Add(-o.size)
		return nil, true
	}
	b = make([]byte, o.size)
	if _, err := o.file.ReadAt(b, 0); err != nil || !o.body.CompareAndSwap(nil, &b) {
		m.held.Add(-o.size)
		return nil, false // what is wrong with the disk is told when it is sent
	}
	return b, false
}

// drop forgets what is in a file.
func (m *bodies) drop(o *openFile) {
	o.asked.Store(0)
	if b := o.body.Swap(nil); b != nil {
		m.held.Add(-o.size)
	}
}
