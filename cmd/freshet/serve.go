package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"freshet/internal/config"
	"freshet/internal/node"
)

// serveFlags are the flags of every command that runs roles.
type serveFlags struct {
	config    string
	admin     string
	logLevel  slog.Level
	logFormat string
}

func (s *serveFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&s.config, "config", "c", "", "configuration file; flags win over it")
	f.StringVar(&s.admin, "admin", "", "address for operators: health, metrics, profiles (never public)")
	f.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.StringVar(&s.logFormat, "log-format", "", "text or json")
}

// load reads the configuration file, if one was given, and puts the flags that
// were given over it.
func (s *serveFlags) load(cmd *cobra.Command, cfg *node.Config) error {
	if s.config != "" {
		if err := config.Load(s.config, cfg); err != nil {
			return err
		}
	}
	if s.admin != "" {
		cfg.Admin.Listen = s.admin
	}
	if cmd.Flags().Changed("log-level") {
		cfg.Log.Level = s.logLevel
	}
	if s.logFormat != "" {
		cfg.Log.Format = s.logFormat
	}
	return nil
}

// serve checks the configuration as a whole and runs its roles.
func serve(ctx context.Context, cfg node.Config, ready func()) error {
	if err := config.Check(cfg); err != nil {
		return err
	}
	log := node.NewLogger(os.Stderr, cfg.Log.WithDefaults())
	return node.Run(ctx, cfg, node.Options{Log: log, Ready: func() {
		log.InfoContext(ctx, "ready", slog.String("roles", cfg.RoleNames()))
		if ready != nil {
			ready()
		}
	}})
}

func newRunCommand() *cobra.Command {
	var (
		flags serveFlags
		demo  demoFlags
	)
	cmd := &cobra.Command{
		Use:     "run",
		Short:   "Run every role of a configuration file in one process, or a demonstration",
		GroupID: "roles",
		Long: `Run runs each role whose table ([hub], [edge], …) is in the configuration
file, in one process. Roles of one process can reach each other without
sockets: listen = "mem:hub" is reached as http://hub.mem.

With --demo it runs a whole network on this machine, with sample content in
it, and prints what to try.`,
		Example: `  freshet run --config /etc/freshet.toml

  # a hub and an edge with a small Flatpak runtime and app, in ./demo
  freshet run --demo --dir demo
  # in another terminal: publish the app's next version
  freshet run --demo --publish-next --dir demo`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if demo.demo {
				return demo.run(cmd, flags)
			}
			if demo.next || demo.dir != "" {
				return errors.New("run: --publish-next and --dir belong to --demo")
			}
			if flags.config == "" {
				return errors.New("run: needs --config FILE (freshet config default prints one to begin with), or --demo")
			}
			var cfg node.Config
			if err := flags.load(cmd, &cfg); err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, nil)
		},
	}
	flags.register(cmd)
	demo.register(cmd)
	return cmd
}
