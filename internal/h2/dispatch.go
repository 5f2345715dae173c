package h2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2/hpack"

	"freshet/internal/h1"
)

// handle does what a frame asks for. An error ends the connection.
func (c *conn) handle(f *frame) error {
	if c.greet == 0 && !c.settled {
		if f.kind != frameSettings || f.has(flagAck) {
			return protocolError("SETTINGS do not come first")
		}
		c.settled = true
	}
	if c.block.id != 0 && (f.kind != frameContinuation || f.stream != c.block.id) {
		return protocolError("a header is interrupted")
	}
	switch f.kind {
	case frameData:
		return c.onData(f)
	case frameHeaders:
		return c.onHeaders(f)
	case framePriority:
		return c.onPriority(f)
	case frameReset:
		return c.onReset(f)
	case frameSettings:
		return c.onSettings(f)
	case framePing:
		return c.onPing(f)
	case frameGoAway:
		if f.stream != 0 {
			return protocolError("GOAWAY on a stream")
		}
		return c.budget.frame(1) // it will end the connection when it has its answers
	case frameWindowUpdate:
		return c.onWindowUpdate(f)
	case frameContinuation:
		return c.onContinuation(f)
	case framePushPromise:
		return protocolError("clients do not push")
	}
	return c.budget.frame(1) // of an extension
}

func (c *conn) onHeaders(f *frame) error {
	if f.stream%2 == 0 {
		return protocolError("a stream that is not the client's")
	}
	if err := f.unpad(); err != nil {
		return err
	}
	b := &c.block
	b.id, b.end, b.selfDep, b.frames, b.buf = f.stream, f.has(flagEndStream), false, 0, b.buf[:0]
	if f.has(flagPriority) {
		if len(f.payload) < 5 {
			return sizeError("a priority is too short")
		}
		b.selfDep = binary.BigEndian.Uint32(f.payload)&maxWindow == f.stream
		f.payload = f.payload[5:]
	}
	if f.has(flagEndHeaders) {
		return c.onBlock(f.payload)
	}
	b.buf = append(b.buf, f.payload...)
	return nil
}

func (c *conn) onContinuation(f *frame) error {
	b := &c.block
	if b.id == 0 {
		return protocolError("nothing is to be continued")
	}
	b.frames++
	if b.frames > maxContinuations || len(b.buf)+len(f.payload) > maxBlock {
		return &connError{codeCalm, RejectContinuation, "a header is too long"}
	}
	b.buf = append(b.buf, f.payload...)
	if !f.has(flagEndHeaders) {
		return nil
	}
	err := c.onBlock(b.buf)
	b.buf = nil
	return err
}

// field takes a field from the decoder.
func (c *conn) field(f hpack.HeaderField) {
	if c.listed += int(f.Size()); c.listed > maxHeaderList {
		c.hpack.SetEmitEnabled(false) // what follows only changes the table
		return
	}
	c.list = append(c.list, f)
}

// onBlock handles a whole header.
func (c *conn) onBlock(b []byte) error {
	id, end, selfDep := c.block.id, c.block.end, c.block.selfDep
	c.block.id = 0
	c.listed, c.list = 0, c.list[:0]
	c.hpack.SetEmitEnabled(true)
	_, err := c.hpack.Write(b)
	if err == nil {
		err = c.hpack.Close()
	}
	defer clear(c.list) // it holds strings
	switch {
	case errors.Is(err, hpack.ErrStringLength):
		return &connError{codeCalm, RejectHeaderSize, "a field is too long"}
	case err != nil:
		return &connError{codeCompression, RejectCompression, err.Error()}
	}
	if id <= c.last {
		return c.onTrailers(id, end)
	}
	c.mu.Lock()
	c.last = id
	open, handled := len(c.streams), c.handled
	ignore := c.leaving == leaveNow && id > c.lastGood
	c.mu.Unlock()
	switch {
	case ignore:
		return nil
	case selfDep:
		return c.refuse(id, codeProtocol, RejectMalformed)
	case open >= maxStreams || handled >= maxStreams:
		return c.refuse(id, codeRefused, RejectStreams)
	case c.listed > maxHeaderList:
		return c.tooLarge(id, end)
	}
	var h header
	err = h.read(c.list)
	if err == nil && end && h.length > 0 {
		err = errLength
	}
	if err != nil {
		return c.malformed(id, &h, err)
	}
	c.budget.earn(requestCredit)
	if end && c.hit(id, &h) {
		return nil
	}
	c.s.Metrics.Other()
	c.exchange(id, &h, end)
	return nil
}

// onTrailers handles a header on a stream that was begun before.
func (c *conn) onTrailers(id uint32, end bool) error {
	c.mu.Lock()
	st := c.streams[id]
	dropped := st == nil && c.droppedLocked(id)
	c.mu.Unlock()
	switch {
	case dropped:
		return c.budget.frame(1)
	case st == nil:
		return &connError{codeStreamClosed, RejectProtocol, "a header on a closed stream"}
	case st.ex == nil || st.ex.ended:
		return c.refuse(id, codeStreamClosed, RejectMalformed)
	case !end || c.listed > maxHeaderList || readTrailers(c.list) != nil || !st.ex.whole():
		return c.refuse(id, codeProtocol, RejectMalformed)
	}
	st.ex.trailers(c.list)
	return nil
}

func (c *conn) onData(f *frame) error {
	if f.stream == 0 {
		return protocolError("DATA on no stream")
	}
	if f.stream > c.last {
		return protocolError("DATA on an idle stream")
	}
	n := int64(len(f.payload)) // padding counts
	if err := f.unpad(); err != nil {
		return err
	}
	if len(f.payload) == 0 {
		if err := c.budget.frame(1); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken -= n; c.taken < 0 {
		return flowError("more DATA than the connection's window")
	}
	st := c.streams[f.stream]
	if st == nil || st.ex == nil || st.ex.ended {
		c.creditLocked(n)
		if st == nil && c.droppedLocked(f.stream) {
			return nil
		}
		return c.refuseLocked(f.stream, codeStreamClosed, RejectMalformed)
	}
	if len(f.payload) > 0 {
		c.budget.earn(dataCredit)
	}
	return st.ex.dataLocked(f.payload, n, f.has(flagEndStream))
}

func (c *conn) onPriority(f *frame) error {
	switch {
	case f.stream == 0:
		return protocolError("PRIORITY of no stream")
	case len(f.payload) != 5 && f.stream > c.last:
		return sizeError("PRIORITY of a wrong length")
	case len(f.payload) != 5:
		return c.refuse(f.stream, codeFrameSize, RejectMalformed)
	case binary.BigEndian.Uint32(f.payload)&maxWindow == f.stream:
		return protocolError("a stream depends on itself")
	}
	return c.budget.frame(1)
}

func (c *conn) onReset(f *frame) error {
	switch {
	case len(f.payload) != 4:
		return sizeError("RST_STREAM of a wrong length")
	case f.stream == 0 || f.stream > c.last:
		return protocolError("RST_STREAM of an idle stream")
	}
	if err := c.budget.reset(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[f.stream]; st != nil {
		c.closeLocked(st, errReset)
	}
	return nil
}

func (c *conn) onSettings(f *frame) error {
	switch {
	case f.stream != 0:
		return protocolError("SETTINGS of a stream")
	case f.has(flagAck) && len(f.payload) != 0, len(f.payload)%6 != 0:
		return sizeError("SETTINGS of a wrong length")
	case f.has(flagAck):
		return c.budget.frame(1)
	}
	if err := c.budget.frame(settingsCost + len(f.payload)/6); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := f.payload; len(p) > 0; p = p[6:] {
		value := int64(binary.BigEndian.Uint32(p[2:]))
		switch binary.BigEndian.Uint16(p) {
		case settingEnablePush:
			if value > 1 {
				return protocolError("ENABLE_PUSH is neither 0 nor 1")
			}
		case settingFrameSize:
			if value < maxFrame || value > 1<<24-1 {
				return protocolError("MAX_FRAME_SIZE is out of its range")
			}
		case settingWindow:
			if value > maxWindow {
				return flowError("INITIAL_WINDOW_SIZE is too large")
			}
			for _, st := range c.streams {
				if st.window += value - c.initial; st.window > maxWindow {
					return flowError("a window is too large")
				}
			}
			c.initial = value
		}
	}
	c.queueFrameLocked(frameSettings, flagAck, 0, 0)
	c.room.Broadcast()
	return nil
}

func (c *conn) onPing(f *frame) error {
	switch {
	case f.stream != 0:
		return protocolError("PING of a stream")
	case len(f.payload) != 8:
		return sizeError("PING of a wrong length")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.has(flagAck) {
		if string(f.payload) == leavePing {
			c.leaveNowLocked()
		}
		return c.budget.frame(1)
	}
	if err := c.budget.frame(1); err != nil {
		return err
	}
	c.queueFrameLocked(framePing, flagAck, 0, 8)
	c.out = append(c.out, f.payload...)
	return nil
}

func (c *conn) onWindowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return sizeError("WINDOW_UPDATE of a wrong length")
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & maxWindow)
	if err := c.budget.frame(1); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 {
		if n == 0 {
			return protocolError("WINDOW_UPDATE by nothing")
		}
		if c.window += n; c.window > maxWindow {
			return flowError("the connection's window is too large")
		}
		c.room.Broadcast()
		return nil
	}
	if f.stream > c.last {
		return protocolError("WINDOW_UPDATE of an idle stream")
	}
	st := c.streams[f.stream]
	switch {
	case st == nil:
		return nil // it may have ended meanwhile
	case n == 0:
		return c.refuseLocked(f.stream, codeProtocol, RejectMalformed)
	}
	if st.window += n; st.window > maxWindow {
		return c.refuseLocked(f.stream, codeFlowControl, RejectProtocol)
	}
	if st.ex != nil {
		c.room.Broadcast()
	}
	return nil
}

// refuse resets a stream for a fault of the client's.
func (c *conn) refuse(id uint32, reason code, why h1.Rejection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refuseLocked(id, reason, why)
}

func (c *conn) refuseLocked(id uint32, reason code, why h1.Rejection) error {
	c.s.Metrics.Rejected(why)
	if err := c.budget.reset(); err != nil {
		return err
	}
	c.resetLocked(id, reason)
	return nil
}

// resetLocked ends a stream by RST_STREAM.
func (c *conn) resetLocked(id uint32, reason code) {
	if st := c.streams[id]; st != nil {
		c.closeLocked(st, errRefused)
	}
	c.dropped[c.drops%len(c.dropped)] = id
	c.drops++
	c.queueFrameLocked(frameReset, 0, id, 4)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(reason))
}

// droppedLocked reports whether we have reset the stream lately: what the
// client sent before it knew that is no fault.
func (c *conn) droppedLocked(id uint32) bool {
	for _, d := range c.dropped {
		if d == id {
			return true
		}
	}
	return false
}
