package edge

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"freshet/internal/config"
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
	cfg = e.cfg
	ln, err := env.Listen(ctx, cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	handler := role.NewAccess("edge", env.Log, env.Metrics).Wrap(e)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.Follow(ctx) })
	group.Go(func() error {
		env.Ready()
		return role.Serve(ctx, ln, handler, env.Log)
	})
	return group.Wait()
}

// check validates a configuration that did not come through a file.
func check(cfg Config) error {
	if problems := cfg.Validate(); len(problems) > 0 {
		return fmt.Errorf("configuration: %w", config.Problems(problems))
	}
	return nil
}
