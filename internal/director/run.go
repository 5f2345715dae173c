package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"freshet/internal/accesslog"
	"freshet/internal/config"
	"freshet/internal/doors"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// Run serves until ctx ends, then drains. A clean stop returns nil.
func Run(ctx context.Context, cfg Config, env role.Env) error {
	return RunReloading(ctx, cfg, env, Beside{})
}

// Beside is what a process gives a director that is no setting. The zero value works.
type Beside struct {
	// Reloads yields the configuration anew; nil: it never does.
	Reloads <-chan Config
	// CheckDesired says what is wrong with settings that are desired of a mirror; nil: nothing is.
	CheckDesired func(settings string) error
}

// RunReloading is [Run] that also takes over settings while it serves: those of the files
// that are read, the proxies that are trusted, and the clients in control; the request log
// is opened anew. Each Config that beside yields is the whole configuration; with each of
// them all files are read anew, certificates among them.
func RunReloading(ctx context.Context, cfg Config, env role.Env, beside Beside) (err error) {
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
	from := new(senders)
	if err := from.trust(cfg.TrustedProxies); err != nil {
		return err
	}
	forLists := &front{data: &in.data, senders: from, access: access, lines: lines, metrics: metrics}
	var f answerer = forLists
	var files *redirector
	if cfg.State != "" {
		if files, err = openRedirector(ctx, cfg, env, in, beside.CheckDesired); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, files.close()) }()
		files.register(ctx, env.Admin)
		f = files.answer(forLists, from, access)
	}
	open, err := cfg.Open(ctx, doors.Options{Role: "director", Env: env, Limits: cfg.Limits})
	if err != nil {
		return err
	}
	if open.Certificates() != nil {
		f = &challenges{answerer: f, certificates: open.Certificates()}
	}
	group, ctx := errgroup.WithContext(ctx)
	if files != nil {
		group.Go(func() error { return files.run(ctx) })
	}
	group.Go(func() error {
		in.watch(ctx, beside.Reloads, func(cfg Config) {
			lines.Reopen()
			if err := from.trust(cfg.TrustedProxies); err != nil {
				env.Log.ErrorContext(ctx, "who is believed about clients stays as it was", slog.Any("error", err))
			}
			if open.Certificates() != nil {
				open.Certificates().Reload(ctx)
			}
		})
		return nil
	})
	group.Go(func() error {
		env.Ready()
		return open.Serve(ctx, doors.Inside{
			Ready: f, All: access.Wrap(f), Refused: func(r *h1.Refused) { access.Note(context.WithoutCancel(ctx), r.Record()) },
		})
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
