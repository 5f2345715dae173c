package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"freshet/internal/h1"
)

const (
	// slack is how much later than it should a read deadline may come: setting
	// one costs, so it is set only now and then.
	slack = 5 * time.Second
	// goodbye is how long the end of a connection may take when all is said.
	goodbye = time.Second
)

// conn is one connection. What stands above mu belongs to the reader.
type conn struct {
	s   *Server
	rwc net.Conn
	tls *tls.ConnectionState // nil: none
	ctx context.Context      //nolint:containedctx // that of the requests

	client netip.Addr
	remote string // address of the client, as in h1.Request

	w       *work // nil while idle
	one     [1]byte
	now     time.Time // when the frames at hand were read
	strict  time.Time // when what was begun must be whole; zero: nothing was
	budget  budget
	greet   uint8 // how much of the client's preface is still to come
	settled bool  // it has sent SETTINGS

	hpack  *hpack.Decoder
	list   []hpack.HeaderField
	listed int   // bytes of list, as maxHeaderList counts
	block  block // the header that is coming in

	mu     sync.Mutex
	room   sync.Cond // when more may be queued, or sent
	readBy time.Time // the read deadline that is set
	woken  bool      // it was set by others, to wake the reader

	out     []byte    // queued
	done    []*answer // of which the end is in out
	spare   []*answer // empty, to be used for done
	turns   uint64    // writes begun
	writing bool      // somebody writes, and will write what is queued
	writeBy time.Time // the write deadline that is set
	ending  bool      // and it stays
	failed  error     // nothing is sent any more
	sized   bool      // the client was told that our dynamic table is empty

	window  int64 // what the client takes, over all streams
	initial int64 // what it takes of a new stream
	streams map[uint32]*stream
	sending []*answer // those of streams that are not sent whole
	turn    int       // whose turn it is
	handled int       // handlers that run
	waiting int       // of them, those that wait for room
	last    uint32    // the latest stream of the client
	dropped [16]uint32
	drops   int // streams that we reset, the last of them in dropped
	taken   int64
	debt    int64 // of the window for request bodies, to be given back

	framed    int       // frames of DATA that were queued
	paid      int       // those that the budget knows of
	sent      int64     // bytes of bodies
	lastSent  int64     // of them, at the latest write that had any
	wrote     time.Time // when that was
	stuckFrom time.Time // when the client was first seen to hold up its answers
	stuckSent int64     // sent at that time

	leaving  leave
	leaveHow h1.Drain  // what [Server.Drain] was given
	leaveBy  time.Time // until when the client is waited for, without requests of it; zero: it has some
	lastGood uint32    // with leaveNow: later streams are not answered

	running sync.WaitGroup // handlers, and the pump
}

// stream is one that is open. It is part of an answer or of an exchange.
type stream struct {
	id     uint32
	window int64 // what the client takes
	hit    *answer
	ex     *exchange
}

// leave says how far the end of a connection has come (RFC 9113 §6.8).
type leave uint8

const (
	leaveNot   leave = iota
	leaveFirst       // the client is told after its first request, which may be on its way
	leaveSoon        // it was told
	leaveNow         // what it sent before it knew is here: there are no new streams
)

// block is a header that comes in several frames.
type block struct {
	id      uint32 // 0: none
	end     bool   // of the stream as well
	selfDep bool
	frames  int
	buf     []byte
}

func newConn(ctx context.Context, s *Server, rwc net.Conn, state *tls.ConnectionState) *conn {
	now := time.Now()
	c := &conn{
		s: s, rwc: rwc, tls: state, ctx: ctx, now: now, budget: newBudget(now), greet: uint8(len(preface)),
		window: defWindow, initial: defWindow, taken: connWindow, strict: now.Add(s.headerTime()),
	}
	addr := rwc.RemoteAddr()
	c.remote = addr.String()
	c.client = h1.AddressOf(addr)
	c.room.L = &c.mu
	c.hpack = hpack.NewDecoder(4096, c.field)
	c.hpack.SetMaxStringLength(maxHeaderList)
	return c
}

// run answers until the connection ends.
func (c *conn) run() {
	c.mu.Lock()
	c.queueSettings()
	c.mu.Unlock()
	err := c.checkTLS()
	for err == nil {
		if err = c.frames(); err != nil {
			break
		}
		if err = c.settle(); err != nil {
			break
		}
		err = c.read()
	}
	c.end(err)
}

// errDone ends a connection in peace.
var errDone = errors.New("the connection has done its work")

// frames handles what was read.
func (c *conn) frames() error {
	w := c.w
	if w == nil {
		return nil
	}
	for c.greet > 0 {
		if w.begin == w.end {
			return nil
		}
		if w.in[w.begin] != preface[len(preface)-int(c.greet)] {
			return protocolError("this is not HTTP/2")
		}
		w.begin++
		if c.greet--; c.greet == 0 {
			c.strict = c.now.Add(c.s.headerTime()) // for SETTINGS
		}
	}
	for w.end-w.begin >= frameHead {
		f, n := parseHead(w.in[w.begin:])
		if n > maxFrame {
			return sizeError("a frame is too long")
		}
		if w.end-w.begin < frameHead+n {
			break
		}
		f.payload = w.in[w.begin+frameHead : w.begin+frameHead+n]
		w.begin += frameHead + n
		if err := c.handle(&f); err != nil {
			return err
		}
		if c.block.id == 0 {
			c.strict = time.Time{}
		}
	}
	if w.begin == w.end {
		w.begin, w.end = 0, 0
	}
	return nil
}

// settle writes what is queued, and sets the time until which the client must
// send something. It returns an error when the connection is to end.
func (c *conn) settle() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveLocked()
	if c.settled { // our SETTINGS go out with the first answers
		c.flushLocked(2)
	}
	c.budget.earn((c.framed - c.paid) * dataCredit)
	c.paid = c.framed
	for len(c.out) > outFull && c.failed == nil { // the client must read first
		c.room.Wait()
	}
	if c.failed != nil {
		return c.failed
	}
	if c.woken { // what changed is looked at here
		c.woken, c.readBy = false, time.Time{}
	}
	wait := c.s.stall()
	if len(c.streams) == 0 && c.handled == 0 {
		wait = c.s.idle()
		if c.leaving == leaveNow {
			return errDone
		}
	}
	if err := c.stuckLocked(); err != nil {
		return err
	}
	by := c.now.Add(wait)
	partial := !c.strict.IsZero() || c.block.id != 0 || c.w != nil && c.w.end > c.w.begin
	switch {
	case partial:
		if c.strict.IsZero() {
			c.strict = c.now.Add(c.partTime())
		}
		by = c.strict
	case c.leaveBy.IsZero() && c.readBy.After(by) && c.readBy.Before(by.Add(2*slack)):
		return nil
	default:
		by = by.Add(slack)
	}
	if !c.leaveBy.IsZero() && c.leaveBy.Before(by) {
		by = c.leaveBy
	}
	if !by.Equal(c.readBy) {
		c.readBy = by
		_ = c.rwc.SetReadDeadline(by) // fails only when the connection is closed
	}
	return nil
}

// partTime is how long the rest of a frame may take.
func (c *conn) partTime() time.Duration {
	if w := c.w; w != nil && w.end-w.begin >= frameHead && w.in[w.begin+3] == frameData {
		return c.s.stall()
	}
	return c.s.headerTime()
}

// stuckLocked returns an error if the client lets its answers wait for too
// long.
func (c *conn) stuckLocked() error {
	if len(c.sending) == 0 && c.waiting == 0 || c.writing {
		c.stuckFrom = time.Time{}
		return nil
	}
	if c.stuckFrom.IsZero() {
		c.stuckFrom, c.stuckSent = c.now, c.sent
		return nil
	}
	d := c.now.Sub(c.stuckFrom)
	if d < c.s.stall() {
		return nil
	}
	if c.sent-c.stuckSent < c.s.minRate()*int64(d/time.Second) {
		return &connError{codeCalm, h1.RejectSlow, "answers are not taken"}
	}
	c.stuckFrom, c.stuckSent = c.now, c.sent
	return nil
}

// read waits for the client, and reads. An idle connection waits without a
// buffer.
func (c *conn) read() error {
	var n int
	var err error
	if c.w == nil || c.w.begin == c.w.end {
		if c.w != nil {
			c.s.buffers.putWork(c.w)
			c.w = nil
		}
		if n, err = c.rwc.Read(c.one[:]); n > 0 {
			c.w = c.s.buffers.getWork()
			c.w.in[0], c.w.end = c.one[0], 1
		}
	}
	if w := c.w; err == nil && w != nil { // a byte is no frame: there is more, most often at hand
		if w.begin > 0 && inSize-w.begin < frameHead+maxFrame {
			w.end = copy(w.in[:], w.in[w.begin:w.end])
			w.begin = 0
		}
		n, err = c.rwc.Read(w.in[w.end:])
		w.end += n
	}
	c.now = time.Now()
	if err == nil {
		c.budget.refill(c.now)
		return nil
	}
	return c.silent(err)
}

// silent says what an error of reading means.
func (c *conn) silent(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	idle := len(c.streams) == 0 && c.handled == 0
	switch {
	case c.failed != nil:
		return c.failed
	case c.woken:
		c.woken = false
		c.readBy = time.Time{}
		return nil
	case !c.strict.IsZero() && !c.now.Before(c.strict):
		return &connError{codeCalm, h1.RejectHeaderTime, "a header or frame does not end"}
	case idle && c.leaving == leaveFirst && c.settled && c.late(c.now):
		return nil // it is told now
	case idle:
		return errDone
	}
	c.readBy = time.Time{}
	return nil // handlers may take their time; who does not take answers is found by settle
}

// wakeLocked makes the reader look at what changed.
func (c *conn) wakeLocked() {
	if !c.woken {
		c.woken = true
		_ = c.rwc.SetReadDeadline(time.Unix(1, 0)) // fails only when the connection is closed
	}
}

// drain begins the end of the connection: the client is told, and asked for a
// sign that it heard it, after its first request if it has made none yet.
func (c *conn) drain(d h1.Drain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving != leaveNot || c.failed != nil {
		return
	}
	c.leaving, c.leaveHow = leaveFirst, d
	c.wakeLocked()
}

// leaveLocked goes on with the end of the connection, if it has begun.
func (c *conn) leaveLocked() {
	now := time.Now()
	if c.leaving == leaveFirst && (c.last > 0 || c.late(now)) {
		c.leaving, c.leaveBy = leaveSoon, time.Time{}
		c.queueGoAway(maxWindow, codeNone)
		c.queuePing()
	}
	switch {
	case c.leaving != leaveFirst && c.leaving != leaveSoon || len(c.streams) > 0 || c.handled > 0:
		c.leaveBy = time.Time{}
	case c.leaveBy.IsZero():
		c.leaveBy = now.Add(c.patience(now))
	}
}

// patience is how long a client without requests may take to hear that the connection ends,
// or to close it. While another process takes over, nobody waits for that: then a client has
// as long as always to read what was sent last, and may do so from the buffers of its system.
func (c *conn) patience(now time.Time) time.Duration {
	first := c.leaveHow.First()
	if c.leaveHow.Idle > 0 {
		return max(first, c.wrote.Add(c.s.stall()).Sub(now))
	}
	return first
}

// late reports whether a client without requests was waited for long enough.
func (c *conn) late(now time.Time) bool { return !c.leaveBy.IsZero() && !now.Before(c.leaveBy) }

// leaveNowLocked ends the taking of new streams.
func (c *conn) leaveNowLocked() {
	if c.leaving == leaveSoon {
		c.leaving, c.lastGood = leaveNow, c.last
		c.queueGoAway(c.last, codeNone)
	}
}

// end ends the connection: err says why.
func (c *conn) end(err error) {
	bad := c.reject(err)
	done := errors.Is(err, errDone)
	c.mu.Lock()
	c.sending = nil // their answers end here
	if bad != nil {
		c.hurryLocked()
	}
	for c.writing && c.failed == nil {
		c.room.Wait()
	}
	if (bad != nil || done) && c.failed == nil {
		reason := codeNone
		if bad != nil {
			reason = bad.code
		}
		c.queueGoAway(c.last, reason)
		c.writing = true
		c.writeLocked()
	}
	done = done && c.failed == nil
	within := goodbye
	if c.leaving != leaveNot {
		within = c.patience(time.Now())
	}
	c.failLocked(err)
	c.mu.Unlock()
	if c.w != nil {
		c.s.buffers.putWork(c.w)
		c.w = nil
	}
	switch {
	case bad != nil:
		c.linger()
	case done:
		h1.Part(c.rwc, h1.Parting{Within: within, Stall: c.s.stall(), MinRate: int(c.s.minRate())})
	}
	_ = c.rwc.Close() // what mattered was said
}

// hurryLocked bounds what is still to be written.
func (c *conn) hurryLocked() {
	c.ending = true
	_ = c.rwc.SetWriteDeadline(time.Now().Add(goodbye)) // fails only when the connection is closed
}

// reject counts why a connection is cut, if it is.
func (c *conn) reject(err error) *connError {
	var bad *connError
	switch {
	case errors.As(err, &bad):
		c.s.Metrics.Rejected(bad.why)
	case errors.Is(err, os.ErrDeadlineExceeded): // of writing
		c.s.Metrics.Rejected(h1.RejectSlow)
	}
	return bad
}

// linger lets the client read why the connection ends: what it has sent and
// nobody read would make its system drop that.
func (c *conn) linger() {
	if tc, ok := c.rwc.(interface{ CloseWrite() error }); ok && tc.CloseWrite() == nil {
		_ = c.rwc.SetReadDeadline(time.Now().Add(goodbye)) // fails only when the connection is closed
		_, _ = io.CopyN(io.Discard, c.rwc, 1<<20)          // whatever it is
	}
}

// checkTLS refuses what RFC 9113 §9.2 forbids.
func (c *conn) checkTLS() error {
	if c.tls == nil || c.tls.Version >= tls.VersionTLS13 {
		return nil
	}
	if c.tls.Version == tls.VersionTLS12 {
		switch c.tls.CipherSuite {
		case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
			return nil
		}
	}
	return &connError{codeSecurity, RejectSecurity, "the cipher suite is not for HTTP/2"}
}
