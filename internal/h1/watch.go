package h1

import (
	"sync"
	"time"

	"freshet/internal/cancel"
)

// watchAfter is how long a handler may take before someone looks whether the
// client is still there.
const watchAfter = 50 * time.Millisecond

// watch sees a client leave while a handler works for it. Most handlers are
// done before it begins to look, and cost a timer.
type watch struct {
	timer *time.Timer
	c     *conn
	ctx   *cancel.Context
	ended chan struct{} // told when a look that was begun is over

	mu      sync.Mutex
	over    bool // nobody wants to know any more
	reading bool
	one     [1]byte // of the next request
	n       int
}

// begin cancels ctx when the client of c leaves, until end is called.
func (x *watch) begin(c *conn, ctx *cancel.Context) {
	x.c, x.ctx = c, ctx
	x.over, x.reading, x.n = false, false, 0
	if x.timer == nil {
		x.ended = make(chan struct{}, 1)
		x.timer = time.AfterFunc(watchAfter, x.look)
		return
	}
	x.timer.Reset(watchAfter)
}

// look waits for anything from the client: bytes are of the next request, and
// end the look as an error does.
func (x *watch) look() {
	defer func() { x.ended <- struct{}{} }()
	x.mu.Lock()
	if x.over {
		x.mu.Unlock()
		return
	}
	x.reading = true
	_ = x.c.rwc.SetReadDeadline(time.Time{}) // fails only when the connection is closed
	x.mu.Unlock()
	n, err := x.c.rwc.Read(x.one[:])
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n = n
	if err != nil && !x.over {
		x.ctx.Cancel(nil)
	}
}

// end ends the watch. read is what came meanwhile; used says that the read
// deadline was changed.
func (x *watch) end() (read []byte, used bool) {
	if !x.timer.Stop() {
		x.mu.Lock()
		x.over = true
		if used = x.reading; used {
			_ = x.c.rwc.SetReadDeadline(time.Unix(1, 0)) // fails only when the connection is closed
		}
		x.mu.Unlock()
		<-x.ended
	}
	x.c, x.ctx = nil, nil
	return x.one[:x.n], used
}
