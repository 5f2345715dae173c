package role

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// DrainTimeout is how long requests in flight may take to end after the role
// was told to stop. Connections still open then are cut.
const DrainTimeout = 20 * time.Second

// Handover is the cause ([context.Cause]) with which the context of a role ends when
// another process takes over from this one.
type Handover struct {
	// Within is how long transfers under way may go on. It is for roles that say
	// [Env.Released] before these have ended; others hold up whoever takes over.
	Within time.Duration
}

// Error implements error.
func (Handover) Error() string { return "another process takes over" }

// Is implements the interface of [errors.Is]: what ends because of it is canceled.
func (Handover) Is(target error) bool { return target == context.Canceled }

// DrainTime is how long requests in flight may take to end when ctx, that of a role which
// says [Env.Released], has ended: [DrainTimeout], or as [Handover] says.
func DrainTime(ctx context.Context) time.Duration {
	if h, ok := errors.AsType[Handover](context.Cause(ctx)); ok {
		return h.Within
	}
	return DrainTimeout
}

// Limits of one connection, the same for every public listener.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 32 << 10
)

// NewServer returns the server of a public listener, with its limits.
//
// The context of a request does not end with ctx: a download goes on while the
// server drains. Handlers that wait (long polls) watch the context of their
// role instead.
func NewServer(ctx context.Context, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
}

// Serve answers HTTP on ln, with [NewServer], until ctx ends, then stops accepting and waits up
// to [DrainTimeout] for the requests in flight. It closes ln. A clean stop
// returns nil, also when connections had to be cut (that is logged).
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	srv := NewServer(ctx, h, log)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), DrainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		log.WarnContext(ctx, "connections cut after the drain time", slog.Duration("drain", DrainTimeout))
		err = srv.Close()
	}
	if served := <-ended; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	if err != nil {
		return fmt.Errorf("stop serving %s: %w", ln.Addr(), err)
	}
	return nil
}
