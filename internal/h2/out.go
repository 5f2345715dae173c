package h2

import (
	"encoding/binary"
	"errors"
	"time"
)

// Why answers end before their time.
var (
	errReset   = errors.New("the client gave the request up")
	errRefused = errors.New("the client broke the rules of HTTP/2")
)

// leavePing is the payload of the ping that tells that GOAWAY has arrived.
const leavePing = "goodbye!"

func (c *conn) queueFrameLocked(kind, flags byte, stream uint32, n int) {
	if c.out == nil {
		c.out = c.s.buffers.getOut()
	}
	c.out = appendHead(c.out, kind, flags, stream, n)
}

// queueSettings queues our preface.
func (c *conn) queueSettings() {
	c.queueFrameLocked(frameSettings, 0, 0, 3*6)
	c.out = appendSetting(c.out, settingStreams, maxStreams)
	c.out = appendSetting(c.out, settingHeaderList, maxHeaderList)
	c.out = appendSetting(c.out, settingNoPriorities, 1)
	c.queueFrameLocked(frameWindowUpdate, 0, 0, 4)
	c.out = binary.BigEndian.AppendUint32(c.out, connWindow-defWindow)
}

func (c *conn) queueGoAway(last uint32, reason code) {
	c.queueFrameLocked(frameGoAway, 0, 0, 8)
	c.out = binary.BigEndian.AppendUint32(c.out, last)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(reason))
}

func (c *conn) queuePing() {
	c.queueFrameLocked(framePing, 0, 0, len(leavePing))
	c.out = append(c.out, leavePing...)
}

// queueHeaderLocked queues a header, in as many frames as it takes.
func (c *conn) queueHeaderLocked(id uint32, b []byte, end bool) {
	kind, flags := frameHeaders, byte(0)
	if end {
		flags = flagEndStream
	}
	extra := 0
	if !c.sized {
		extra = 1
	}
	for first := true; first || len(b) > 0; first = false {
		n := min(len(b), maxFrame-extra)
		if n == len(b) {
			flags |= flagEndHeaders
		}
		c.queueFrameLocked(kind, flags, id, n+extra)
		if extra > 0 {
			// We have no dynamic table, whatever size the client allows (RFC
			// 7541 §4.2).
			c.out = append(c.out, 0x20)
			c.sized, extra = true, 0
		}
		c.out = append(c.out, b[:n]...)
		b = b[n:]
		kind, flags = frameContinuation, 0
	}
}

// creditLocked lets the client send n more bytes of request bodies.
func (c *conn) creditLocked(n int64) {
	if c.debt += n; c.debt >= connWindow/4 {
		c.queueFrameLocked(frameWindowUpdate, 0, 0, 4)
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(c.debt))
		c.taken += c.debt
		c.debt = 0
	}
}

// flushLocked writes what is queued and what streams have to send, by at most
// so many writes, and leaves the rest to a pump. It does nothing while somebody
// else writes: who writes goes on until nothing is left.
func (c *conn) flushLocked(turns int) {
	if c.writing {
		return
	}
	for c.failed == nil {
		c.gatherLocked()
		if len(c.out) == 0 {
			return
		}
		c.writing = true
		if turns == 0 {
			c.running.Add(1)
			go c.pump()
			return
		}
		turns--
		c.writeLocked()
		c.writing = false
		c.room.Broadcast()
	}
}

// pump writes until nothing is left.
func (c *conn) pump() {
	defer c.running.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.failed == nil {
		c.gatherLocked()
		if len(c.out) == 0 {
			break
		}
		c.writeLocked()
		c.room.Broadcast()
	}
	c.writing = false
	c.room.Broadcast()
	if c.leaving != leaveNot && len(c.streams) == 0 {
		c.wakeLocked()
	}
}

// writeLocked writes what is queued; it is not locked meanwhile. The caller has
// made sure that nobody else does.
func (c *conn) writeLocked() {
	out, done := c.out, c.done
	c.out, c.done = nil, c.spare
	c.spare = nil
	c.turns++
	turn := c.turns
	now := time.Now()
	if c.sent > c.lastSent {
		c.lastSent, c.wrote = c.sent, now
	}
	if by := now.Add(c.s.stall()); !c.ending && c.writeBy.Before(by) {
		c.writeBy = by.Add(slack)
		_ = c.rwc.SetWriteDeadline(c.writeBy) // fails only when the connection is closed
	}
	c.mu.Unlock()
	_, err := c.rwc.Write(out)
	c.s.buffers.putOut(out)
	for i, a := range done {
		c.finish(a, err)
		done[i] = nil
	}
	c.mu.Lock()
	c.spare = done[:0]
	if err != nil {
		c.failLocked(err)
		_ = c.rwc.Close() // the reader finds it so
		return
	}
	for _, a := range c.sending {
		if a.res.Started.IsZero() && a.turn <= turn {
			a.res.Started = time.Now()
		}
	}
}

// failLocked ends all streams: nothing can be sent any more.
func (c *conn) failLocked(err error) {
	if c.failed != nil {
		return
	}
	c.failed = err
	if c.out != nil {
		c.s.buffers.putOut(c.out)
		c.out = nil
	}
	for _, st := range c.streams {
		c.closeLocked(st, err)
	}
	for _, a := range c.done { // their end was not written
		c.finish(a, err)
	}
	c.done = nil
	c.room.Broadcast()
}

// closeLocked ends a stream before its time.
func (c *conn) closeLocked(st *stream, err error) {
	delete(c.streams, st.id)
	if st.ex != nil {
		st.ex.abortLocked(err)
		return
	}
	for i, a := range c.sending {
		if a == st.hit {
			c.sending = append(c.sending[:i], c.sending[i+1:]...)
			break
		}
	}
	c.finish(st.hit, err)
}
