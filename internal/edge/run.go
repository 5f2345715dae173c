package edge

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"

	"freshet/internal/config"
	"freshet/internal/h1"
	"freshet/internal/h2"
	"freshet/internal/role"
)

// Run serves until ctx ends, then drains. A clean stop returns nil.
func Run(ctx context.Context, cfg Config, env role.Env) (err error) {
	env = env.WithDefaults()
	e, err := New(ctx, cfg, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	e.registerAdmin()
	cfg = e.cfg
	ln, err := env.Listen(ctx, cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	access := e.newAccess()
	metrics := h1.NewMetrics("edge", env.Metrics)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.Follow(ctx) })
	group.Go(func() error {
		env.Ready()
		return e.serve(ctx, ln, access, metrics)
	})
	return group.Wait()
}

// newAccess returns what records the requests of the edge and makes its metrics
// from the records. It is called once.
func (e *Edge) newAccess() *role.Access {
	access := role.NewAccess("edge", e.env.Log, e.env.Metrics).To(e.env.Access)
	access.Each = e.metrics.note
	return access
}

// serve answers fresh hits by the loops of internal/h1 and internal/h2, and
// everything else by net/http and by the latter. If ln yields connections of
// crypto/tls, HTTP/2 is spoken where it was agreed on.
func (e *Edge) serve(ctx context.Context, ln net.Listener, access *role.Access, metrics *h1.Metrics) error {
	front := &front{e: e, access: access, hots: newHots()}
	all := access.Wrap(e)
	srv := h1.Server{
		Handler: front,
		HTTP:    role.NewServer(ctx, all, e.log),
		H2:      &h2.Server{Handler: front, HTTP: all, Log: e.log, Metrics: metrics},
		Drain:   role.DrainTimeout, Log: e.log, Metrics: metrics,
	}
	return srv.Serve(ctx, ln)
}

// check validates a configuration that did not come through a file.
func check(cfg Config) error {
	if err := config.Check(cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}
