package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/hub/deltas"
	"freshet/internal/hub/deltaworker"
	"freshet/internal/node"
	"freshet/internal/role"
)

// deltaWorkerFlags are the flags of "freshet hub delta-worker" that are not a
// [deltaworker.Config] yet.
type deltaWorkerFlags struct {
	cfg              deltaworker.Config
	hub              hubClient
	engines          []string
	cache, admin     string
	logLevel, format string
}

func newHubDeltaWorkerCommand() *cobra.Command {
	var f deltaWorkerFlags
	cmd := &cobra.Command{
		Use:   "delta-worker",
		Short: "Make static deltas for a hub, on another machine",
		Long: `Delta-worker asks a hub for static deltas to make, makes one after the other and
brings them to the hub, until it is stopped. Any number of workers may work for a
hub, anywhere that reaches it by HTTP; they need no access to its disk.

The hub leads: its rules say which deltas there are ([hub.repos.NAME.deltas]), and
each is given to one worker at a time, the most urgent first. A worker says every
20 seconds that it lives; when it does not, somebody else gets the delta. What is
fetched is verified, and what a worker brings is carried out and hashed by the hub
before it is published, so that a worker can waste time and nothing else. With
delta-workers = -1 in its configuration, a hub leaves all deltas to workers.

Both may be restarted or killed at any moment. A delta that is made and that the
hub has not taken is kept, and not made again. At Ctrl-C or SIGTERM, what is under
way is given back at once.

The token needs the sub "delta" and the scope "generate", and the repositories.
The program xz is needed, and flatpak for hubs with engine = "flatpak".`,
		Example: `  # on the hub: a token for a year
  freshet token create --dir /srv/hub --sub delta --scope generate --name farm --duration 365d --out farm.token

  # on another machine
  freshet hub delta-worker --hub https://hub.example.org --token-file farm.token --dir /var/lib/freshet-deltas

  # make what is waiting, then end: for a machine that comes and goes
  freshet hub delta-worker --hub https://hub.example.org --token-file farm.token --once`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(cmd); err != nil {
				return err
			}
			return f.run(cmd)
		},
	}
	f.hub.registerURL(cmd, tokenNeed{sub: "delta", scopes: []auth.Scope{auth.ScopeGenerate}})
	flags := cmd.Flags()
	flags.StringVar(&f.cfg.Dir, "dir", "", "folder for what is fetched and made (default: freshet/delta-worker in the user's cache folder)")
	flags.StringVar(&f.cfg.Name, "name", "", "how the hub calls this worker, below the name of its token (default: the host's name)")
	flags.IntVar(&f.cfg.Jobs, "jobs", 1, "deltas made at once; each takes up to two processors and 128 MB")
	flags.StringVar(&f.cache, "cache-size", "20GiB", "objects kept for the next deltas, so that only what is new is fetched")
	flags.StringSliceVar(&f.engines, "engine", nil, `engines to offer: "native", "flatpak" (default: those whose programs are here)`)
	flags.BoolVar(&f.cfg.Once, "once", false, "end when there is nothing to make")
	flags.StringVar(&f.admin, "admin", "", "address for operators: health, metrics, profiles (never public)")
	flags.StringVar(&f.logLevel, "log-level", "", `debug, info, warn or error (default "info")`)
	flags.StringVar(&f.format, "log-format", "", `text or json (default "text")`)
	return cmd
}

// complete makes the configuration of the flags.
func (f *deltaWorkerFlags) complete(cmd *cobra.Command) (err error) {
	if f.cfg.Client, err = f.hub.client(cmd); err != nil {
		return err
	}
	f.cfg.Client.RetryFor = 0
	var size config.Size
	if err := size.UnmarshalText([]byte(f.cache)); err != nil || size <= 0 {
		return usageError(cmd, `--cache-size: want a size like "20GiB", got %q`, f.cache)
	}
	f.cfg.CacheSize = int64(size)
	if f.cfg.Jobs < 1 {
		return usageError(cmd, "--jobs: want 1 or more, got %d", f.cfg.Jobs)
	}
	if f.cfg.Name == "" {
		if f.cfg.Name, err = os.Hostname(); err != nil {
			return fmt.Errorf("hub delta-worker: %w", err)
		}
	}
	if f.cfg.Dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return usageError(cmd, "--dir is needed: %w", err)
		}
		f.cfg.Dir = filepath.Join(cache, "freshet", "delta-worker")
	}
	return f.openEngines(cmd)
}

// openEngines finds the engines that were asked for, or those that are there.
func (f *deltaWorkerFlags) openEngines(cmd *cobra.Command) error {
	names := f.engines
	if len(names) == 0 {
		names = []string{deltas.EngineNative, deltas.EngineFlatpak}
	}
	f.cfg.Engines = make(map[string]deltas.Engine)
	var missing error
	for _, name := range names {
		engine, err := deltas.OpenEngine(name)
		switch {
		case err == nil:
			f.cfg.Engines[name] = engine
		case len(f.engines) > 0:
			return usageError(cmd, "--engine: %w", err)
		default:
			missing = errors.Join(missing, err)
		}
	}
	if len(f.cfg.Engines) == 0 {
		return fmt.Errorf("hub delta-worker: %s", strings.ReplaceAll(missing.Error(), "\n", "; or "))
	}
	return nil
}

// run runs the worker, and the admin listener beside it.
func (f *deltaWorkerFlags) run(cmd *cobra.Command) (err error) {
	cfg := node.LogConfig{Format: f.format}
	if problems := cfg.Validate(); len(problems) > 0 {
		return usageError(cmd, "--log-format: %s", problems[0].Message)
	}
	if f.logLevel != "" {
		if cfg.Level, err = config.ParseLevel(f.logLevel); err != nil {
			return usageError(cmd, "--log-level: %w", err)
		}
	}
	logs, err := openLogs(cmd, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.Access.Close()) }()
	var health role.Health
	registry := prometheus.NewRegistry()
	env := role.Env{Log: logs.Log, Metrics: registry, Ready: health.Starting("delta-worker")}
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	if f.admin != "" {
		var listener net.Listener
		if listener, err = role.ListenTCP(ctx, f.admin); err != nil {
			return fmt.Errorf("hub delta-worker: --admin: %w", err)
		}
		group.Go(func() error { return role.Serve(ctx, listener, role.Admin(&health, registry), logs.Log) })
	}
	group.Go(func() error {
		defer stop() // the admin listener ends with the worker
		return deltaworker.Run(ctx, f.cfg, env)
	})
	return group.Wait()
}
