package h1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"os"
	"time"
)

// turn is what a connection does next.
type turn uint8

const (
	turnWait    turn = iota // it waits for more of the client
	turnHandler             // the general handler answers the request in front
	turnRest                // it waits in a goroutine with a small stack
	turnGift                // it is net/http's from here on
	turnEnd                 // it is closed
)

// turns answers hits until something else is to be done.
func (c *conn) turns() turn {
	t := turnWait
	if c.w != nil {
		t = c.hits() // of what came before
	}
	for t == turnWait {
		if c.sock != nil {
			t = c.sock.turns()
		} else {
			t = c.readTurn()
		}
	}
	return t
}

// readTurn reads something, and answers it.
func (c *conn) readTurn() turn {
	if !c.ready() {
		return turnEnd
	}
	idle := c.w == nil
	to := c.one[:]
	if !idle {
		to = c.w.in[c.w.n:]
	}
	n, err := c.rwc.Read(to)
	if c.frozen(err) {
		n, err = c.rwc.Read(to)
	}
	c.woken(err)
	if err != nil || n == 0 {
		return turnEnd
	}
	if idle {
		c.w = c.s.buffers.getWork(c)
		c.w.in[0] = c.one[0]
	}
	c.w.n += n
	return c.hits()
}

// ready is called before each wait for the client. It reports false if the
// connection is to be closed.
func (c *conn) ready() bool {
	if c.w != nil && c.w.n > 0 { // in the middle of a header
		if !c.strict && c.s.headerTimeout() > 0 {
			c.setRead(time.Now().Add(c.s.headerTimeout()))
			c.strict = true
		}
		return true
	}
	c.release()
	if c.first {
		c.idleDeadline()
		if c.state.Store(connFresh); c.s.draining.Load() {
			c.wakeIdle()
		}
		return true
	}
	if c.s.draining.Load() && c.s.drains.Idle <= 0 {
		return false
	}
	c.idleDeadline()
	if c.state.Store(connIdle); c.s.draining.Load() {
		c.wakeIdle()
	}
	return true
}

// pause waits, unless the connection is to be closed.
func (c *conn) pause() turn {
	if c.ready() {
		return turnWait
	}
	return turnEnd
}

// woken is called after each wait, with its error.
func (c *conn) woken(err error) {
	switch was := c.state.Swap(connActive); {
	case was == connWoken || was == connHurried:
		c.readBy = time.Unix(1, 0) // it was changed
	case c.strict && errors.Is(err, os.ErrDeadlineExceeded):
		c.s.Metrics.Rejected(RejectHeaderTime)
	}
}

// idleDeadline bounds the time until the next request. The first one has no
// more time than its header.
func (c *conn) idleDeadline() {
	d := c.s.idleTimeout()
	if c.first {
		d = c.s.headerTimeout()
	}
	if d == 0 {
		if !c.readBy.IsZero() {
			c.setRead(time.Time{})
		}
		return
	}
	if c.busy {
		// The last request came a moment ago. If its answer took long, the deadline
		// comes early, which does no harm: it only makes us look.
		if left := c.readBy.Sub(c.s.begun.Add(c.last)); left < lookAfter || left > 2*lookAfter {
			c.setRead(time.Now().Add(2 * lookAfter))
		}
		return
	}
	by := time.Now().Add(d)
	if c.first {
		c.setRead(by)
		c.strict = true
		return
	}
	if c.readBy.Before(by) {
		c.setRead(by.Add(slack))
	}
}

// came notes that a request came.
func (c *conn) came(now time.Time) {
	at := now.Sub(c.s.begun)
	c.rested = false
	c.busy = c.last > 0 && at-c.last < busyWithin && c.sock != nil && c.s.idleTimeout() > 2*lookAfter
	c.last = at
}

const (
	// busyWithin is how soon a request has to follow another for a connection
	// to be busy.
	busyWithin = 100 * time.Millisecond
	// lookAfter is when it is looked whether the client of a busy connection has
	// left without a word of the poller. It may take twice as long.
	lookAfter = time.Second
)

// hits answers what was read, as far as these are whole requests, and hits.
func (c *conn) hits() turn {
	for {
		n, odd := c.w.request()
		switch {
		case odd != plain:
			c.odd = odd
			return turnGift
		case n == 0:
			return turnWait
		}
		if t := c.answer(n); t != turnWait {
			return t
		}
	}
}

// request reads the header in front. n is its length, 0 if it is not whole.
func (w *work) request() (n int, odd oddity) {
	if bytes.IndexByte(w.in[w.seen:w.n], '\n') >= 0 {
		w.req = Request{Fields: w.fields[:0]}
		if n, odd = w.req.parse(w.in[:w.n]); n > 0 || odd != plain {
			return n, odd
		}
	}
	if w.seen = w.n; w.n == inSize {
		return 0, oddSize
	}
	return 0, plain
}

// answer answers the request whose header is the first n bytes, if the answer is
// at hand.
func (c *conn) answer(n int) turn {
	w := c.w
	c.first, c.strict = false, false
	w.req.Begun, w.req.Client, w.req.Remote = time.Now(), c.client, c.remote
	c.came(w.req.Begun)
	_, secure := c.rwc.(*tls.Conn)
	w.req.Clear = !secure
	w.res = Response{Head: w.head[:0], Closing: w.req.Close || c.s.draining.Load()}
	if c.s.Handler == nil || !c.s.Handler.Answer(&w.req, &w.res) {
		w.header = n
		return turnHandler
	}
	if w.res.Closing {
		w.res.Head = append(w.res.Head, "Connection: close\r\n"...)
	}
	w.res.Head = append(w.res.Head, "\r\n"...)
	sent, err := c.send(&w.res)
	w.pace.waits = time.Time{}
	if err != nil && isSlow(err) {
		c.s.Metrics.Rejected(RejectSlow)
	}
	c.s.Handler.Sent(&w.req, &w.res, sent, err)
	w.res.Body, w.res.Whole, w.res.File, w.res.Tag = nil, nil, nil, nil
	if w.res.Closing || err != nil {
		c.final = err == nil && !w.req.Close
		return turnEnd
	}
	w.answered(n)
	return turnWait
}

// answered takes the first n bytes away.
func (w *work) answered(n int) {
	w.n = copy(w.in[:], w.in[n:w.n])
	w.seen = 0
}
