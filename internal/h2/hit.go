package h2

import (
	"errors"
	"io"
	"time"

	"freshet/internal/h1"
)

// answer is one that was at hand. Until it is queued whole it is a stream.
type answer struct {
	stream
	req  h1.Request
	res  h1.Response
	off  int64 // what of the body was queued
	size int64 // of the body
	turn uint64
	told time.Time // when an [h1.Watcher] was told of it
}

// lookEvery is how much of a body is sent between two looks at the clock.
const lookEvery = 4 << 20

// watch tells an [h1.Watcher] how an answer goes out that takes long.
func (c *conn) watch(a *answer) {
	watcher, ok := c.s.Handler.(h1.Watcher)
	if !ok {
		return
	}
	if now := time.Now(); now.Sub(a.told) >= h1.WatchEvery {
		if !a.told.IsZero() {
			watcher.Sending(&a.req, &a.res, a.off)
		}
		a.told = now
	}
}

// hit answers a request without a body if the answer is at hand.
func (c *conn) hit(id uint32, h *header) bool {
	if c.s.Handler == nil {
		return false
	}
	a := c.s.buffers.getAnswer()
	a.req.H2, a.req.Clear, a.req.Begun, a.req.Client, a.req.Remote = true, c.tls == nil, c.now, c.client, c.remote
	if !h.hit(&a.req) {
		c.s.buffers.putAnswer(a)
		return false
	}
	a.res.Head = c.w.head[:0]
	if !c.s.Handler.Answer(&a.req, &a.res) {
		c.s.buffers.putAnswer(a)
		return false
	}
	a.size = int64(len(a.res.Body))
	if a.res.File != nil {
		a.size = a.res.Length
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		c.finish(a, c.failed)
		return true
	}
	a.turn = c.turns + 1
	c.queueHeaderLocked(id, a.res.Head, a.size == 0)
	a.res.Head = nil // it belongs to the reader
	if a.size == 0 {
		c.done = append(c.done, a)
	} else {
		a.stream = stream{id: id, window: c.initial, hit: a}
		c.openLocked(&a.stream)
		if whole := c.pushLocked(a); !whole && c.streams[id] != nil {
			c.sending = append(c.sending, a)
		}
	}
	if len(c.out) >= outFull && !c.writing {
		c.writing = true
		c.writeLocked()
		c.writing = false
		c.room.Broadcast()
	}
	return true
}

func (c *conn) openLocked(st *stream) {
	if c.streams == nil {
		c.streams = make(map[uint32]*stream)
	}
	c.streams[st.id] = st
}

// pushLocked queues the next frame of the body, as far as the windows and the
// queue have room. It reports whether the answer is queued whole; a body that
// cannot be read ends the stream.
func (c *conn) pushLocked(a *answer) (whole bool) {
	n := min(a.size-a.off, dataFrame, a.window, c.window)
	if n <= 0 || len(c.out) >= outFull {
		return false
	}
	flags := byte(0)
	if a.off+n == a.size {
		flags = flagEndStream
	}
	c.queueFrameLocked(frameData, flags, a.id, int(n))
	if f := a.res.File; f == nil {
		c.out = append(c.out, a.res.Body[a.off:a.off+n]...)
	} else {
		at := len(c.out)
		if cap(c.out) < at+int(n) {
			c.out = append(c.out, make([]byte, n)...)
		}
		c.out = c.out[:at+int(n)]
		if _, err := f.ReadAt(c.out[at:], a.res.Offset+a.off); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the file is shorter than it was
			}
			c.out = c.out[:at-frameHead]
			id := a.id
			c.closeLocked(&a.stream, &h1.FileError{Err: err})
			c.resetLocked(id, codeInternal)
			return false
		}
	}
	a.off += n
	a.window -= n
	c.window -= n
	c.sent += n
	c.framed++
	if a.off < a.size {
		if a.off/lookEvery != (a.off-n)/lookEvery {
			c.watch(a)
		}
		return false
	}
	delete(c.streams, a.id)
	c.done = append(c.done, a)
	return true
}

// gatherLocked queues what streams have to send, a frame of each in turn.
func (c *conn) gatherLocked() {
	for idle := 0; idle < len(c.sending) && c.window > 0 && len(c.out) < outFull; {
		c.turn %= len(c.sending)
		a := c.sending[c.turn]
		before, count := a.off, len(c.sending)
		whole := c.pushLocked(a)
		switch {
		case len(c.sending) < count: // it could not be read
			idle = 0
		case whole:
			c.sending = append(c.sending[:c.turn], c.sending[c.turn+1:]...)
			idle = 0
		case a.off == before:
			idle++
			c.turn++
		default:
			idle = 0
			c.turn++
		}
	}
}

// finish tells the handler of the end of an answer.
func (c *conn) finish(a *answer, err error) {
	sent := a.off
	if err != nil && sent == a.size {
		sent = a.res.Told // how much more of it arrived is not known
	}
	c.s.Handler.Sent(&a.req, &a.res, sent, err)
	c.s.buffers.putAnswer(a)
}
