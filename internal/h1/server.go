package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server serves connections. Its fields are not changed once Serve began.
type Server struct {
	// Handler answers what is at hand. Nil: nothing is.
	Handler Handler
	// HTTP does everything else: its Handler answers, called here for plain
	// requests and by it for all others. Its ReadHeaderTimeout, IdleTimeout and
	// BaseContext hold here as well; it has neither ConnContext nor ConnState.
	// Nothing else serves with it.
	HTTP *http.Server
	// Drain says what connections may do when Serve is told to stop, by the end of
	// its context, which is given. Nil: nothing.
	Drain func(stopped context.Context) Drain
	// Stall is how long a client may take no byte of an answer, or send none of
	// the body of a request, before it is cut. Zero: two minutes.
	Stall time.Duration
	// H2 speaks HTTP/2 on the connections that agreed on it. Nil: HTTP does.
	H2 Protocol
	// Limits bound what clients may take.
	Limits Limits
	// Log receives what is wrong with the listener, and cut connections. Nil:
	// nothing.
	Log *slog.Logger
	// Metrics counts. Nil: nothing is counted.
	Metrics *Metrics
	// Refused, if not nil, is told of what was no request: these never come to a
	// handler. It must not wait.
	Refused func(r *Refused)

	begun    time.Time
	slow     *handover
	handler  http.Handler    // of HTTP
	base     context.Context //nolint:containedctx // of all requests, as net/http has it
	buffers  buffers
	draining atomic.Bool
	drains   Drain        // set before draining
	given    atomic.Int64 // connections that HTTP has
	others   sync.Map     // of these, *tls.Conn to *conn: those it has as they are

	handshakes chan struct{} // a place for each that is under way; nil: no limit

	mu      sync.Mutex
	conns   map[*conn]struct{}   // served here
	sources map[netip.Prefix]int // connections of each, with those that HTTP has
	cutting bool                 // the time of Drain is over
	wg      sync.WaitGroup       // one for each of conns, and for accepting them
}

// Drain is what connections may do when serving ends.
type Drain struct {
	// AtMost is how long requests in flight may take to end. Connections still open
	// then are cut.
	AtMost time.Duration
	// Idle is how long idle connections are kept for another request, which is their
	// last: it may be on its way. Zero: they are closed at once. Those without any
	// request yet have two seconds in any case, within the time for a header.
	Idle time.Duration
}

// First is how long connections may take for their first request.
func (d Drain) First() time.Duration { return max(d.Idle, lastCall) }

// Protocol speaks another protocol on connections of TLS that agreed on it.
type Protocol interface {
	// ServeConn answers on c, whose handshake is done, until it ends, and closes
	// it. It returns when nothing works for c any more. c may be closed by others
	// at any time. ctx does not end with the server.
	ServeConn(ctx context.Context, c *tls.Conn)
	// Drain tells all clients to begin nothing anew, and makes each ServeConn
	// return when its answers are out. It is called once and does not wait.
	Drain(d Drain)
}

// defaultStall is what an answer may stand still.
const defaultStall = 2 * time.Minute

// Serve answers HTTP/1.1 on ln, and whatever [Server.HTTP] speaks, until ctx
// ends; then it drains. It closes ln. A clean stop returns nil, also when
// connections had to be cut (that is logged). It is called once.
//
// Connections of crypto/tls are served as well, when ln yields [*tls.Conn] (as
// that of [tls.NewListener] does): the handshake is made here, in a goroutine of
// the connection and within the limits. Those that agreed on "h2" go to
// [Server.H2]; other protocols than http/1.1 go to [Server.HTTP] as they are.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Stall == 0 {
		s.Stall = defaultStall
	}
	s.Limits = s.Limits.WithDefaults()
	if s.Limits.Handshakes > 0 {
		s.handshakes = make(chan struct{}, s.Limits.Handshakes)
	}
	s.begun = time.Now()
	s.conns = make(map[*conn]struct{})
	s.sources = make(map[netip.Prefix]int)
	s.slow = newHandover(ln.Addr())
	if s.handler = s.HTTP.Handler; s.handler == nil {
		s.handler = http.DefaultServeMux
	}
	s.HTTP.Handler = marked(s.handler)
	s.base = context.Background()
	if s.HTTP.BaseContext != nil {
		s.base = s.HTTP.BaseContext(ln)
	}
	s.base = context.WithValue(s.base, http.ServerContextKey, s.HTTP)
	s.HTTP.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if g, ok := c.(interface {
			context(ctx context.Context) context.Context
		}); ok {
			return g.context(ctx)
		}
		return ctx
	}
	s.HTTP.ConnState = s.turned
	served := make(chan error, 1)
	go func() { served <- s.HTTP.Serve(s.slow) }()
	accepted := make(chan error, 1)
	s.wg.Go(func() { accepted <- s.accept(ctx, ln) })
	var failed error
	select {
	case failed = <-accepted:
		failed = fmt.Errorf("serve %s: %w", ln.Addr(), failed)
		accepted <- nil
	case failed = <-served:
		failed = fmt.Errorf("serve %s: %w", ln.Addr(), failed)
		served <- nil
	case <-ctx.Done():
	}
	if err := ln.Close(); err != nil && failed == nil && !errors.Is(err, net.ErrClosed) {
		failed = fmt.Errorf("stop serving %s: %w", ln.Addr(), err)
	}
	err := s.drain(ctx, served) // while the listener gives out what it has accepted
	return errors.Join(failed, <-accepted, err)
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	var pause time.Duration
	for {
		rwc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(ctx, rwc)
			continue
		case passing(err) && ctx.Err() != nil:
			continue // until the listener says that it is closed
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the listener was closed to stop
		case !passing(err):
			return err
		}
		// Out of descriptors, or the like: connections will end.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.Log.WarnContext(ctx, "accept a connection", slog.Any("error", err), slog.Duration("retry", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// passing tells errors of accept(2) that concern one connection, or pass.
func passing(err error) bool {
	for _, e := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) start(ctx context.Context, rwc net.Conn) {
	c := newConn(s, rwc)
	s.mu.Lock()
	if s.Limits.Conns > 0 && len(s.conns)+int(s.given.Load()) >= s.Limits.Conns {
		s.mu.Unlock()
		s.Metrics.Rejected(RejectConns)
		_ = rwc.Close() // it was not used
		return
	}
	if s.cutting {
		s.mu.Unlock()
		s.Metrics.Rejected(RejectDrain)
		_ = rwc.Close() // it came too late
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	s.Metrics.opened()
	go c.open(context.WithoutCancel(ctx))
}

// forget is called by a connection when it ends here. Its place is free then,
// unless it was left to HTTP.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	_, ended := s.conns[c]
	if ended {
		delete(s.conns, c)
		s.leftLocked(c.client)
	}
	s.mu.Unlock()
	if ended {
		s.Metrics.closed(c.protocol)
	}
	s.wg.Done()
}

// drain ends the connections: idle ones now, the others after their answers.
func (s *Server) drain(stopped context.Context, served <-chan error) error {
	if s.Drain != nil {
		s.drains = s.Drain(stopped)
	}
	atMost := s.drains.AtMost
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stopped), atMost)
	defer cancel()
	s.draining.Store(true)
	s.HTTP.SetKeepAlivesEnabled(false)
	if s.H2 != nil {
		s.H2.Drain(s.drains)
	}
	s.mu.Lock()
	for c := range s.conns {
		c.wakeIdle()
	}
	open := len(s.conns) + int(s.given.Load())
	s.mu.Unlock()
	begun := time.Now()
	s.Log.InfoContext(ctx, "stop serving: requests in flight are answered, idle connections closed",
		slog.Any("why", context.Cause(stopped)), slog.Int("connections", open), slog.Duration("at_most", atMost))
	ended := make(chan struct{})
	go func() { s.wg.Wait(); close(ended) }()
	cut := false
	select {
	case <-ended:
	case <-ctx.Done():
		cut = true
		s.mu.Lock()
		s.cutting = true
		for c := range s.conns {
			c.cut()
			s.Metrics.Rejected(RejectDrain)
		}
		s.mu.Unlock()
	}
	err := s.HTTP.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		cut = true
		err = s.HTTP.Close()
	}
	<-ended
	s.Log.InfoContext(ctx, "stopped serving", slog.Duration("took", time.Since(begun)), slog.Bool("cut", cut))
	if cut {
		s.Log.WarnContext(ctx, "connections cut after the drain time", slog.Duration("drain", atMost))
	}
	if e := <-served; err == nil && e != nil && !errors.Is(e, http.ErrServerClosed) {
		err = e
	}
	if err != nil {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

func (s *Server) headerTimeout() time.Duration { return s.HTTP.ReadHeaderTimeout }

func (s *Server) idleTimeout() time.Duration { return s.HTTP.IdleTimeout }
