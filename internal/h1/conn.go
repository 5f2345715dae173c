package h1

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// inSize is the longest header that is looked at here.
	inSize = 8 << 10
	// headSize is the room for most heads of answers, and for short bodies: to
	// copy those costs less than to send two pieces.
	headSize = 4 << 10
	// slack is how much later than it should a read deadline may come: setting
	// one costs, so it is set only now and then.
	slack = 5 * time.Second
)

// work is what a connection needs while it has a request.
type work struct {
	in     [inSize]byte
	n      int // in[:n] was read
	seen   int // in[:seen] was looked at and holds no whole request
	header int // with turnHandler: in[:header] is the header of the request
	req    Request
	res    Response
	fields [maxFields]Field
	head   [headSize]byte

	pace pace // of the answer
	out  sender
}

func newWork() *work {
	w := new(work)
	w.out.onWrite, w.out.onFile = w.out.write, w.out.sendfile
	return w
}

// buffers lends what only active connections hold.
type buffers struct {
	work  sync.Pool // of *work
	out   sync.Pool // of *[outSize]byte
	room  sync.Pool // of *room
	watch sync.Pool // of *watch
}

func (b *buffers) getWork(c *conn) *work {
	w, ok := b.work.Get().(*work)
	if !ok {
		w = newWork()
	}
	w.out.c = c
	return w
}

func (b *buffers) putWork(w *work) {
	w.n, w.seen, w.out.c = 0, 0, nil
	b.work.Put(w)
}

func (b *buffers) getOut() *[outSize]byte {
	if out, ok := b.out.Get().(*[outSize]byte); ok {
		return out
	}
	return new([outSize]byte)
}

func (b *buffers) getRoom() *room {
	if r, ok := b.room.Get().(*room); ok {
		return r
	}
	return new(room)
}

func (b *buffers) putRoom(r *room) { b.room.Put(r) }

func (b *buffers) getWatch() *watch {
	if x, ok := b.watch.Get().(*watch); ok {
		return x
	}
	return new(watch)
}

func (b *buffers) putWatch(x *watch) { b.watch.Put(x) }

// conn is one connection. It belongs to its goroutine but for state and rwc.
type conn struct {
	s        *Server
	rwc      net.Conn
	client   netip.Addr
	remote   string // address of the client, as in Request
	protocol protocol
	tls      *tls.ConnectionState // once a handler wanted it
	base     context.Context      //nolint:containedctx // of all requests, once a handler had one
	state    atomic.Uint32        // connState…

	w      *work         // nil while idle
	readBy time.Time     // the read deadline that is set
	strict bool          // it is that of a header
	late   bool          // it is for what came too late; see frozen
	first  bool          // no request came yet
	odd    oddity        // with turnGift
	busy   bool          // requests follow one another
	final  bool          // we said that there is no other request after this one
	rested bool          // its goroutine has answered nothing yet
	last   time.Duration // when the last one came, from the begin of the server on

	sock *socket // nil: not a bare socket
	one  [1]byte // what the others wait with
	// writeBy is the write deadline that is set, without sock.
	writeBy time.Time
}

// What a connection does, for those who want to end it.
const (
	connActive uint32 = iota
	connIdle
	connWoken   // idle when serving ended: its read was ended
	connFresh   // idle, and no request came yet
	connHurried // fresh, or kept for a last request, when serving ended: its read has less time
)

// lastCall is how long a connection without a request has for one when serving has ended,
// at least. It was accepted: its client may know of no other server, and have sent it.
const lastCall = 2 * time.Second

func newConn(s *Server, rwc net.Conn) *conn {
	c := &conn{s: s, rwc: rwc, first: true}
	switch rwc.(type) {
	case *net.TCPConn, *net.UnixConn:
		if raw, err := rwc.(syscall.Conn).SyscallConn(); err == nil {
			c.sock = newSocket(c, raw)
		}
	}
	return c
}

// serve answers requests until the connection ends or is given away. When it is
// to rest, another goroutine goes on with it.
func (c *conn) serve() {
	if c.answers() {
		go c.rest()
		return
	}
	c.s.forget(c)
}

// answers answers requests until nothing is left to do here but, maybe, to rest.
func (c *conn) answers() (rests bool) {
	for {
		switch t := c.turns(); t {
		case turnHandler:
			if whole, mine := c.exchange(); !mine {
				return false
			} else if whole {
				continue
			}
		case turnGift:
			c.gift(c.odd)
			return false
		case turnRest:
			return true
		case turnWait, turnEnd:
		}
		c.release()
		if c.final {
			Part(c.rwc, Parting{Within: max(c.s.drains.Idle, partTime), Stall: c.s.Stall, MinRate: c.s.Limits.MinRate})
		}
		_ = c.rwc.Close() // every byte that mattered was acknowledged by the kernel, or sending failed
		return false
	}
}

// rest waits for the next request of a connection that may be idle for long. It
// begins a goroutine, because the stack of one that has answered is large, and
// stays so; most of what an idle connection takes would be that.
func (c *conn) rest() {
	c.rested = true
	_ = c.sock.raw.Read(stirs) // if it fails, what comes now fails as well
	c.serve()
}

// open lets the connection in, if its source has not too many, and begins with
// it. Where an address comes with the first bytes, this waits for them.
func (c *conn) open(ctx context.Context) {
	addr := c.rwc.RemoteAddr()
	c.client, c.remote = AddressOf(addr), addr.String()
	if !c.s.admit(c.client) {
		c.s.Metrics.Rejected(RejectConnsPerIP)
		c.client = netip.Addr{} // it was not counted
		_ = c.rwc.Close()       // nor used
		c.s.forget(c)
		return
	}
	if tc, ok := c.rwc.(*tls.Conn); ok {
		c.begin(ctx, tc)
		return
	}
	c.serve() //nolint:contextcheck // requests have the context of net/http
}

// begin makes the handshake of TLS, and goes on in a goroutine of its own,
// because a handshake needs a large stack, and what follows does not.
func (c *conn) begin(ctx context.Context, tc *tls.Conn) {
	if why := c.handshake(ctx, tc); why != "" {
		c.s.Metrics.Rejected(why)
		defer c.s.forget(c)
		c.s.slow.give(tc) // it tells the client what went wrong
		return
	}
	proto := tc.ConnectionState().NegotiatedProtocol
	if proto == "h2" {
		c.speaks(protoH2)
	}
	switch {
	case proto == "" || proto == "http/1.1":
		go c.serve() //nolint:contextcheck // as above
	case proto == "h2" && c.s.H2 != nil:
		go c.serveH2(ctx, tc)
	default:
		defer c.s.forget(c)
		c.s.Metrics.gave(plain)
		c.s.giveOther(c, tc)
	}
}

func (c *conn) serveH2(ctx context.Context, tc *tls.Conn) {
	defer c.s.forget(c)
	c.s.H2.ServeConn(ctx, tc)
}

// speaks notes which protocol was agreed on.
func (c *conn) speaks(p protocol) {
	c.s.Metrics.closed(c.protocol)
	c.protocol = p
	c.s.Metrics.changed(p)
}

// handshake makes the handshake in its time, when it is its turn, or says why
// not.
func (c *conn) handshake(ctx context.Context, tc *tls.Conn) Rejection {
	if d := c.s.Limits.HandshakeTime; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if c.s.handshakes != nil {
		select {
		case c.s.handshakes <- struct{}{}:
			defer func() { <-c.s.handshakes }()
		case <-ctx.Done():
			return RejectHandshakeT
		}
	}
	if err := tc.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return RejectHandshakeT
		}
		return RejectHandshake
	}
	return ""
}

func (c *conn) setRead(by time.Time) {
	c.readBy, c.late = by, false
	_ = c.rwc.SetReadDeadline(by) // fails only when the connection is closed
}

// resetDeadlines leaves the connection as net/http expects a new one.
func (c *conn) resetDeadlines() {
	_ = c.rwc.SetDeadline(time.Time{}) // fails only when the connection is closed
	c.readBy, c.writeBy, c.strict = time.Time{}, time.Time{}, false
}

// wakeIdle ends the wait of an idle connection for its next request, at once or soon, and
// soon that for a first one.
func (c *conn) wakeIdle() {
	idle := c.s.drains.Idle
	switch { // setting a deadline fails only when the connection is closed
	case idle > 0 && c.state.CompareAndSwap(connIdle, connHurried):
		_ = c.rwc.SetReadDeadline(time.Now().Add(idle))
	case c.state.CompareAndSwap(connIdle, connWoken):
		_ = c.rwc.SetReadDeadline(time.Unix(1, 0))
	case c.state.CompareAndSwap(connFresh, connHurried):
		first := c.s.drains.First()
		if d := c.s.headerTimeout(); d > 0 {
			first = min(first, d)
		}
		_ = c.rwc.SetReadDeadline(time.Now().Add(first))
	}
}

// cut ends the connection at once.
func (c *conn) cut() { _ = c.rwc.Close() }

// release gives the buffers back.
func (c *conn) release() {
	if c.w != nil {
		c.s.buffers.putWork(c.w)
		c.w = nil
	}
}

// gift leaves the connection to net/http, with all that was read.
func (c *conn) gift(why oddity) {
	c.s.Metrics.gave(why)
	c.resetDeadlines()
	read := slices.Clone(c.w.in[:c.w.n])
	c.release()
	c.s.give(c, read) // from here on it sends by c
}

// AddressOf is the IP address in addr, if there is one.
func AddressOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	if addr == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{} // in memory, or a Unix socket
	}
	return ap.Addr().Unmap()
}
