package handover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"freshet/internal/role"
	"freshet/internal/systemd"
)

// Options are what [Serve] needs.
type Options struct {
	// Program is started to take over when that is ordered.
	Program Program
	// Sockets are those that Run listens on.
	Sockets *Sockets
	// Before is the process that this one takes over from, if there is one.
	Before *Predecessor
	// Manager is told how the service does, if there is one.
	Manager *systemd.Manager
	// Start is how long a new process may take to read its configuration, and then to
	// serve. Zero: two minutes.
	Start time.Duration
	// Drain is how long transfers may go on in this process when another one has taken
	// over. Zero: an hour.
	Drain time.Duration
	// Run runs all roles until ctx ends, then drains; see [Life]. It is called again when
	// whoever was to take over has failed, maybe before the call before has returned.
	Run func(ctx context.Context, life Life) error
	// Log takes what happens. Nil: nothing.
	Log *slog.Logger
}

// Life is what a run of all roles tells of itself.
type Life struct {
	// Ready is called once, when all roles serve.
	Ready func()
	// Released is called once, after the context has ended, when another process may do
	// what this one did. The return of Run says the same.
	Released func()
}

// Defaults of Options.
const (
	DefaultStart = 2 * time.Minute
	DefaultDrain = time.Hour
)

// Serve runs all roles until ctx ends and they have drained, or until another process
// has taken over and the transfers of this one have ended. A clean end returns nil.
func Serve(ctx context.Context, opt Options) error {
	opt.Start, opt.Drain = cmp.Or(opt.Start, DefaultStart), cmp.Or(opt.Drain, DefaultDrain)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{Options: opt, orders: make(chan *order)}
	return s.serve(ctx)
}

// server is a process that serves, and hands over when that is ordered.
type server struct {
	Options
	orders chan *order
	lives  sync.WaitGroup // one for each run; several while transfers of earlier ones go on
}

// life is a run of all roles.
type life struct {
	cancel   context.CancelCauseFunc
	ready    chan struct{}
	released chan struct{}
	done     chan struct{}
	err      error // of the run; read after done
}

// live begins a run.
func (s *server) live(ctx context.Context) *life {
	ctx, cancel := context.WithCancelCause(ctx)
	l := &life{cancel: cancel, ready: make(chan struct{}), released: make(chan struct{}), done: make(chan struct{})}
	s.lives.Go(func() {
		defer cancel(nil)
		defer close(l.done)
		l.err = s.Run(ctx, Life{Ready: func() { close(l.ready) }, Released: func() { close(l.released) }})
	})
	return l
}

func (s *server) serve(ctx context.Context) error {
	if err := s.Before.prepared(ctx); err != nil {
		return err
	}
	// Whoever comes while this process stops is to hear at once that nobody serves.
	defer context.AfterFunc(ctx, func() {
		s.tell(ctx, "STOPPING=1")
		s.Sockets.Close()
	})()
	l := s.live(ctx)
	select {
	case <-l.ready:
	case <-l.done:
		return l.err
	}
	if err := s.Before.ready(ctx); err != nil && ctx.Err() == nil {
		l.cancel(err)
		<-l.done
		return errors.Join(err, l.err)
	}
	for _, name := range s.Sockets.CloseIdle() {
		s.Log.WarnContext(ctx, "a socket is closed that was handed to this process, and is not in the configuration", slog.String("socket", name))
	}
	s.tell(ctx, "READY=1")
	main, other := context.WithCancel(ctx)
	defer other()
	go s.Manager.Watch(main)
	if err := s.listen(main); err != nil {
		s.Log.WarnContext(ctx, "no orders to hand over can be taken", slog.Any("error", err))
	}
	for {
		select {
		case <-l.done:
			if ctx.Err() != nil {
				s.end(ctx)
			}
			return l.err
		case o := <-s.orders:
			next, err := s.handOver(ctx, l, o)
			if err != nil {
				o.failed(err)
				s.Log.ErrorContext(ctx, "not handed over: this process goes on", slog.Any("error", err))
			}
			if next == nil {
				other()
				s.end(ctx)
				return nil
			}
			l = next
		}
	}
}

// tell tells the service manager.
func (s *server) tell(ctx context.Context, lines ...string) {
	if err := s.Manager.Notify(lines...); err != nil {
		s.Log.WarnContext(ctx, "the service manager is not told", slog.Any("error", err))
	}
}

// handOver has another process take over, and returns nil when it has, or the life that
// goes on and why.
func (s *server) handOver(ctx context.Context, l *life, o *order) (*life, error) {
	if os.Getpid() == 1 {
		return l, errors.New("this is the first process of its container, which ends with it: replace the container")
	}
	h, err := start(s.Program, s.Sockets)
	if err != nil {
		return l, err
	}
	// When this process is to stop, so is that one.
	defer context.AfterFunc(ctx, func() { _ = h.conn.Close() })()
	o.progress(fmt.Sprintf("process %d reads its configuration", h.pid))
	if err := h.expect(wordPrepared, s.Start); err != nil {
		h.kill()
		return l, fmt.Errorf("the new process did not start: %w", err)
	}
	begun := time.Now()
	s.Log.InfoContext(ctx, "handing over", slog.Int("to", h.pid), slog.String("program", s.Program.Path))
	l.cancel(role.Handover{Within: s.Drain})
	select {
	case <-l.released:
	case <-l.done:
	}
	o.progress(fmt.Sprintf("process %d begins to serve", h.pid))
	_ = h.say(wordGo, "") // expect tells
	if err := h.expect(wordReady, s.Start); err != nil {
		h.kill()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return s.again(ctx), fmt.Errorf("the new process did not serve: %w", err)
	}
	s.tell(ctx, fmt.Sprintf("MAINPID=%d", h.pid))
	if err := s.Manager.Barrier(); err != nil {
		s.Log.WarnContext(ctx, "the service manager may not know of the new process", slog.Any("error", err))
	}
	_ = h.say(wordYours, "") // it goes on in any case
	h.leave()
	s.Sockets.Close()
	took := time.Since(begun)
	s.Log.InfoContext(ctx, "handed over: this process ends with its transfers", slog.Int("to", h.pid), slog.Duration("took", took), slog.Duration("at_most", s.Drain))
	o.done(fmt.Sprintf("process %d serves, after %v; process %d ends with its transfers", h.pid, took.Round(time.Millisecond), os.Getpid()))
	return nil, nil
}

// again begins a run after one that was to be the last.
func (s *server) again(ctx context.Context) *life {
	s.Sockets.await(ctx)
	l := s.live(ctx)
	select {
	case <-l.ready:
	case <-l.done:
	}
	return l
}

// end waits for the transfers of all runs, which bound themselves, and no longer than these
// have when a process stops if ctx has ended.
func (s *server) end(ctx context.Context) {
	ended := make(chan struct{})
	go func() { s.lives.Wait(); close(ended) }()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(role.DrainTimeout):
		s.Log.WarnContext(ctx, "transfers are cut: this process was told to stop")
	}
}
