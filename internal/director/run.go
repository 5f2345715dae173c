package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"freshet/internal/accesslog"
	"freshet/internal/config"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// Run serves until ctx ends, then drains. A clean stop returns nil.
func Run(ctx context.Context, cfg Config, env role.Env) error {
	return RunReloading(ctx, cfg, env, nil)
}

// RunReloading is [Run] that also takes over settings while it serves: those of the files
// that are read, and the clients in control; the request log is opened anew. Each Config
// that reloads yields is the whole configuration; with each of them all files are read
// anew.
func RunReloading(ctx context.Context, cfg Config, env role.Env, reloads <-chan Config) (err error) {
	env = env.WithDefaults()
	if err := config.Check(cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	cfg = cfg.WithDefaults()
	metrics := newMetrics(env.Metrics)
	in := newInputs(cfg, env.Log, metrics)
	if err := in.readAll(ctx); err != nil {
		return err
	}
	lines, err := openRequestLog(ctx, cfg.RequestLog, env.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	access := role.NewAccess("director", env.Log, env.Metrics).To(env.Access)
	var f answerer = &front{data: &in.data, access: access, lines: lines, metrics: metrics}
	var files *redirector
	if cfg.State != "" {
		if files, err = openRedirector(ctx, cfg, env, in); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, files.close()) }()
		files.register(ctx, env.Admin)
		f = files.answer(f, access)
	}
	return serve(ctx, cfg, env, f, access, func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		if files != nil {
			group.Go(func() error { return files.run(ctx) })
		}
		in.watch(ctx, reloads, lines.Reopen)
		return group.Wait()
	})
}

// serve answers on the public listener, while beside does what else there is to do, until
// ctx ends.
func serve(ctx context.Context, cfg Config, env role.Env, f answerer, access *role.Access, beside func(context.Context) error) error {
	ln, err := env.Listen(ctx, cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	env.Log.InfoContext(ctx, "listening", slog.String("on", ln.Addr().String()), slog.String("protocol", "http"))
	srv := h1.Server{
		Handler: f,
		HTTP:    role.NewServer(ctx, access.Wrap(f), env.Log),
		Drain:   role.DrainTimeout, Log: env.Log, Metrics: h1.NewMetrics("director", env.Metrics),
		Refused: func(r *h1.Refused) { access.Note(context.WithoutCancel(ctx), r.Record()) },
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return beside(ctx) })
	group.Go(func() error {
		env.Ready()
		return srv.Serve(ctx, ln)
	})
	return group.Wait()
}

// openRequestLog opens the log of requests for the statistics, if there is one.
func openRequestLog(ctx context.Context, path string, log *slog.Logger) (*accesslog.Log, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // a nil Log takes lines
	}
	lines, err := accesslog.Open(accesslog.Options{Path: path, Failed: func(err error) {
		if err == nil {
			log.InfoContext(ctx, "the request log is written again")
			return
		}
		log.ErrorContext(ctx, "lines of the request log are lost", slog.Any("error", err))
	}})
	if err != nil {
		return nil, fmt.Errorf("request-log: %w", err)
	}
	return lines, nil
}
