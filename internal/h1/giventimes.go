package h1

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// times bound how long a client of the standard server may take to send
// something, where that sets no bound: for a header after the first one, because
// it gets each as a whole and does not know when it began, and for bodies.
type times struct {
	mu     sync.Mutex
	theirs time.Time // the read deadline of the standard server, or a handler
	ours   time.Time // the one that was set since then, if any
	late   bool      // a body came too late for it: no more is waited for
}

// SetReadDeadline implements [net.Conn].
func (g *given) SetReadDeadline(by time.Time) error {
	t := &g.times
	t.mu.Lock()
	defer t.mu.Unlock()
	t.theirs, t.ours, t.late = by, time.Time{}, false
	return g.Conn.SetReadDeadline(by)
}

// SetDeadline implements [net.Conn].
func (g *given) SetDeadline(by time.Time) error {
	return errors.Join(g.SetReadDeadline(by), g.SetWriteDeadline(by))
}

// timed is what the referee of a connection reads from.
type timed struct{ *given }

// Read implements [io.Reader].
func (g timed) Read(p []byte) (int, error) {
	header, body := g.referee.within()
	t := &g.times
	switch {
	case body:
		t.body(g.Conn, g.c.s.Stall)
	case header && !g.answers.Load():
		t.header(g.Conn, g.c.s.headerTimeout())
	default: // who waits for an answer has nothing to send
		t.none(g.Conn)
	}
	n, err := g.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.passed(body)
		if header && !g.answers.Load() {
			g.c.s.Metrics.Rejected(RejectHeaderTime)
		}
	}
	return n, err
}

// header gives what is left of a header so much time, from its begin.
func (t *times) header(c net.Conn, most time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if most <= 0 || !t.ours.IsZero() {
		return
	}
	if by := time.Now().Add(most); t.theirs.IsZero() || by.Before(t.theirs) {
		t.setLocked(c, by)
	}
}

// body gives the next part of a body so much time, or a little more, unless
// others do.
func (t *times) body(c net.Conn, most time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if by := time.Now().Add(most); t.theirs.IsZero() && !t.late && t.ours.Before(by) {
		t.setLocked(c, by.Add(slack))
	}
}

// none takes our deadline away.
func (t *times) none(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ours.IsZero() {
		t.ours = time.Time{}
		_ = c.SetReadDeadline(t.theirs) // as below
	}
}

func (t *times) setLocked(c net.Conn, by time.Time) {
	t.ours = by
	_ = c.SetReadDeadline(by) // fails only when the connection is closed
}

// passed notes that a read deadline has passed.
func (t *times) passed(body bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late = t.late || body
}
