package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/config"
	"freshet/internal/handover"
	"freshet/internal/node"
	"freshet/internal/role"
	"freshet/internal/systemd"
)

// serveFlags are the flags of every command that runs roles.
type serveFlags struct {
	config, admin       string
	logLevel, logFormat string
	accessLog           string
	accessFormat        string

	ready func() // is called when all roles serve, nil for nothing

	file *config.File // what was read from config
}

func (s *serveFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&s.config, "config", "c", "", "configuration file; flags win over it")
	f.StringVar(&s.admin, "admin", "", "address for operators: health, metrics, profiles (never public)")
	f.StringVar(&s.logLevel, "log-level", "", `debug, info, warn or error (default "info")`)
	f.StringVar(&s.logFormat, "log-format", "", `text or json (default "text")`)
	f.StringVar(&s.accessLog, "access-log", "", `records of requests: "log", "stdout", "off" or a file (default "log")`)
	f.StringVar(&s.accessFormat, "access-format", "", `text, json or combined (default: that of the log)`)
}

// load reads the configuration file, if one was given, and puts the flags that
// were given over it. What is wrong with the settings is told by
// [serveFlags.check], when those of the role are there as well.
func (s *serveFlags) load(cmd *cobra.Command, cfg *node.Config) (err error) {
	if s.config != "" {
		if s.file, err = config.Read(s.config, cfg); err != nil {
			return err
		}
	}
	override(&cfg.Admin.Listen, s.admin)
	override(&cfg.Log.Format, s.logFormat)
	if s.accessLog != "" && !slices.Contains([]string{"log", "stdout", "off"}, s.accessLog) {
		if s.accessLog, err = filepath.Abs(s.accessLog); err != nil {
			return usageError(cmd, "--access-log: %w", err)
		}
	}
	override(&cfg.Log.Access.To, s.accessLog)
	override(&cfg.Log.Access.Format, s.accessFormat)
	if s.logLevel != "" {
		if cfg.Log.Level, err = config.ParseLevel(s.logLevel); err != nil {
			return usageError(cmd, "--log-level: %w", err)
		}
	}
	if problems := (node.LogConfig{Format: s.logFormat}).Validate(); len(problems) > 0 {
		return usageError(cmd, "--log-format: %s", problems[0].Message)
	}
	return nil
}

// check reports everything that is wrong with cfg: what came from the file by
// line and key, what came from a flag by the flag.
func (s *serveFlags) check(cmd *cobra.Command, cfg node.Config) error {
	err := s.file.Check(cfg)
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		return err
	}
	byFlags := 0
	for i, p := range problems {
		f := flagOf(cmd, p.Key)
		switch {
		case f == nil:
			continue
		case f.Changed, s.file == nil && !p.Missing:
			problems[i] = config.Problem{Message: "--" + f.Name + ": " + p.Message}
		case p.Missing && s.file == nil:
			what := strings.TrimPrefix(p.Message, "is required: ")
			problems[i] = config.Problem{Message: fmt.Sprintf("--%s is needed (or %s in a file): %s", f.Name, p.Key, what)}
		default:
			continue
		}
		byFlags++
	}
	if byFlags == 1 && len(problems) == 1 {
		return usageError(cmd, "%w", problems)
	}
	return problems
}

// flagOf is the flag of cmd that sets the key of the configuration, or nil.
func flagOf(cmd *cobra.Command, key string) *pflag.Flag {
	flags := cmd.Flags()
	table, name, _ := strings.Cut(key, ".")
	switch name {
	case "tls.certificates[0].cert":
		return flags.Lookup("tls-cert")
	case "tls.certificates[0].key":
		return flags.Lookup("tls-key")
	case "tls.acme.dir":
		return flags.Lookup("acme-dir")
	case "tls.acme.hosts":
		return flags.Lookup("acme-host")
	}
	name, _, _ = strings.Cut(name, "[") // an element of a list
	switch table {
	case "admin":
		return flags.Lookup("admin")
	case "log":
		switch name {
		case "access.to":
			return flags.Lookup("access-log")
		case "access.format":
			return flags.Lookup("access-format")
		}
		return flags.Lookup("log-" + name)
	case mirrorlistServerTable(cmd):
		return flags.Lookup(mirrorlistServerFlag(name))
	case cmd.Name():
		if repo, ok := strings.CutPrefix(name, "repos."); ok {
			f := flags.Lookup("repo")
			if names, err := flags.GetStringSlice("repo"); err != nil || !slices.Contains(names, repo) {
				return nil // a setting of a repository, or one that the file names
			}
			return f
		}
		return cmp.Or(flags.Lookup(name), flags.Lookup(strings.TrimSuffix(name, "s")))
	}
	return nil
}

// serve checks the configuration as a whole and runs its roles. again makes the
// configuration anew at SIGHUP; nil: it stays as it is.
func (s *serveFlags) serve(cmd *cobra.Command, cfg node.Config, again func(*serveFlags) (node.Config, error)) (err error) {
	if err := s.check(cmd, cfg); err != nil {
		return err
	}
	ctx := cmd.Context()
	logs, err := openLogs(cmd, cfg.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.Access.Close()) }()
	known := readings{list: []*node.Config{&cfg}} // with which a process goes on that could not hand over
	inherited := handover.InheritedIn(ctx)
	opt := node.Options{Log: logs.Log, Access: logs.Access, Listen: func(ctx context.Context, addr string) (net.Listener, error) {
		return inherited.Sockets.Listen(ctx, addr, role.ListenTCP)
	}}
	if s.config != "" {
		opt.Secrets = []string{s.config}
	}
	if again != nil {
		opt.Reloads = s.reloads(cmd, logs.Log, &known, again)
	}
	program, err := handover.Itself()
	if err != nil {
		logs.Log.WarnContext(ctx, "no other process can be started to take over from this one", slog.Any("error", err))
	}
	return handover.Serve(ctx, handover.Options{
		Program: program, Sockets: inherited.Sockets, Before: inherited.Before, Manager: systemd.FromEnvironment(os.Getenv),
		Start: cfg.Handover.Start, Drain: cfg.Handover.Drain, Log: logs.Log,
		Run: func(ctx context.Context, life handover.Life) error {
			released := sync.OnceFunc(life.Released)
			return known.run(ctx, logs.Log, func(cfg node.Config, begun func()) error {
				opt := opt
				opt.Ready = func() {
					begun()
					logs.Log.InfoContext(ctx, "ready", slog.String("roles", cfg.RoleNames()))
					if s.ready != nil {
						s.ready()
					}
					life.Ready()
				}
				opt.Released = func() {
					if ctx.Err() != nil { // or it could not begin
						released()
					}
				}
				return node.Run(ctx, cfg, opt)
			})
		},
	})
}

// readings are the configurations that a process has read, oldest first. The roles have
// worked with the first; what they cannot take over while they serve, they say in the log
// alone. Safe for concurrent use.
type readings struct {
	mu   sync.Mutex
	list []*node.Config // never empty
}

// maxReadings bounds how many are kept.
const maxReadings = 16

// add adds the one that was read last.
func (r *readings) add(cfg *node.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == maxReadings {
		r.list = slices.Delete(r.list, 1, 2)
	}
	r.list = append(r.list, cfg)
}

// latest is the one that was read last.
func (r *readings) latest() *node.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[len(r.list)-1]
}

// works forgets those before one that works.
func (r *readings) works(cfg *node.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.list, cfg); i > 0 {
		r.list = slices.Delete(r.list, 0, i)
	}
}

// drop forgets one that does not work. It is false if there is no other one.
func (r *readings) drop(cfg *node.Config) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 1 {
		return false
	}
	if i := slices.Index(r.list, cfg); i >= 0 {
		r.list = slices.Delete(r.list, i, i+1)
	}
	return true
}

// run runs the roles with the configuration that was read last; if they cannot begin with
// that, with the one before it.
func (r *readings) run(ctx context.Context, log *slog.Logger, roles func(cfg node.Config, begun func()) error) error {
	for {
		cfg, works := r.latest(), false
		err := roles(*cfg, func() { works = true; r.works(cfg) })
		if err == nil || works || ctx.Err() != nil || !r.drop(cfg) {
			return err
		}
		log.ErrorContext(ctx, "the configuration that was read last does not work: the one before it is used", slog.Any("error", err))
	}
}

// reloads yields the configuration anew at each SIGHUP, and keeps it. One that is wrong is
// told of in the log.
func (s *serveFlags) reloads(cmd *cobra.Command, log *slog.Logger, known *readings, again func(*serveFlags) (node.Config, error)) <-chan node.Config {
	ctx := cmd.Context()
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	configs := make(chan node.Config)
	go func() {
		for {
			select {
			case <-hangUp:
			case <-ctx.Done():
				return
			}
			flags := *s
			cfg, err := again(&flags)
			if err == nil {
				err = flags.check(cmd, cfg)
			}
			if err != nil {
				log.ErrorContext(ctx, "configuration was not read anew: it stays as it is", slog.Any("error", err))
				continue
			}
			select {
			case configs <- cfg:
				known.add(&cfg)
			case <-ctx.Done():
				return
			}
		}
	}()
	return configs
}

// openLogs opens the logs of a process that runs roles. A log of requests that
// is a file is opened anew at each SIGHUP.
func openLogs(cmd *cobra.Command, cfg node.LogConfig) (node.Logs, error) {
	logs, err := node.OpenLogs(cmd.ErrOrStderr(), cmd.OutOrStdout(), cfg)
	if err != nil || !filepath.IsAbs(cfg.Access.To) {
		return logs, err
	}
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hangUp:
				logs.Access.Reopen()
			case <-cmd.Context().Done():
				return
			}
		}
	}()
	return logs, nil
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
it, and prints what to try. It listens on 127.0.0.1 alone: port 8090 (hub), 8091
(edge), 8092 (console) and 9600 (admin, or what --admin says), or free ports where
these are taken. demo.json in its folder says which; write others into it while the
demonstration does not run, and they are used.`,
		Example: `  freshet run --config /etc/freshet.toml

  # a hub and an edge with a small Flatpak runtime and app, in ./demo
  freshet run --demo --dir demo
  # in another terminal: publish the app's next version
  freshet run --demo --publish-next --dir demo`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if demo.demo {
				return demo.run(cmd, flags)
			}
			if demo.next || demo.dir != "" {
				return usageError(cmd, "--publish-next and --dir belong to --demo")
			}
			if flags.config == "" {
				return usageError(cmd, "--config FILE is needed (freshet config default prints one to begin with), or --demo")
			}
			build := func(flags *serveFlags) (cfg node.Config, err error) {
				err = flags.load(cmd, &cfg)
				return cfg, err
			}
			cfg, err := build(&flags)
			if err != nil {
				return err
			}
			return flags.serve(cmd, cfg, build)
		},
	}
	flags.register(cmd)
	demo.register(cmd)
	return cmd
}
