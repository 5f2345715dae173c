package h1

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sending is what the answers of the standard server go out by: as those of the
// loop, so that a client may take them as slowly, and no slower.
type sending struct {
	mu     sync.Mutex
	pace   pace
	theirs atomic.Bool // a handler, or the standard server, has set a write deadline, which holds instead
	anew   atomic.Bool // the write deadline was changed by others
	cut    bool        // the client was found too slow
}

// SetWriteDeadline implements [net.Conn].
func (g *given) SetWriteDeadline(by time.Time) error {
	g.sending.theirs.Store(!by.IsZero())
	g.sending.anew.Store(true)
	return g.Conn.SetWriteDeadline(by)
}

// next is called between answers.
func (s *sending) next() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace = pace{}
}

// send sends p.
func (g *given) send(p []byte) (int, error) {
	if g.sending.theirs.Load() {
		return g.Conn.Write(p)
	}
	n, err := g.paced(func(c *conn) (int64, error) { return c.sendMemory(nil, p) })
	return int(n), err
}

// paced sends by f.
func (g *given) paced(f func(c *conn) (int64, error)) (int64, error) {
	s, c := &g.sending, g.c
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.anew.Swap(false) {
		c.writeBy = time.Time{}
	}
	c.w = c.s.buffers.getWork(c)
	defer c.release()
	s.pace.resume()
	c.w.pace = s.pace
	n, err := f(c)
	s.pace, c.w.pace = c.w.pace, pace{}
	s.pace.pause()
	if err != nil && isSlow(err) && !s.cut {
		s.cut = true
		c.s.Metrics.Rejected(RejectSlow)
	}
	return n, err
}

// givenTCP keeps the way to sendfile open.
type givenTCP struct{ *given }

// ReadFrom implements [io.ReaderFrom].
func (g givenTCP) ReadFrom(r io.Reader) (int64, error) {
	if part, ok := filePartOf(r); ok && !g.sending.theirs.Load() {
		return g.paced(func(c *conn) (int64, error) { return part.send(&c.w.out) })
	}
	b := g.c.s.buffers.getOut()
	defer g.c.s.buffers.out.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{g.given}, struct{ io.Reader }{r}, b[:sendfileFrom])
}

var _ net.Conn = givenTCP{}
