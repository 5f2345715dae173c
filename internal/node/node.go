// Package node runs the roles of one process: those whose table is in the
// configuration, each with its own part of the environment, and one admin
// listener for all of them.
//
// Roles of one process talk HTTP like any others. A role that listens on
// "mem:NAME" is reached by the others as "http://NAME.mem" without a socket.
// Only this package knows more than one role.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"freshet/internal/accesslog"
	"freshet/internal/director"
	"freshet/internal/edge"
	"freshet/internal/hub"
	"freshet/internal/memnet"
	"freshet/internal/mirror"
	"freshet/internal/role"
)

// Options is what a process gives to its roles besides the configuration. The
// zero value is production.
type Options struct {
	// Log receives the log of all roles. Zero: discarded.
	Log *slog.Logger
	// Access receives the records of requests. Zero: they go to Log.
	Access *accesslog.Log
	// Network holds the in-memory listeners. Zero: a new one.
	Network *memnet.Network
	// Listen opens listeners of TCP. Zero: [role.ListenTCP].
	Listen func(ctx context.Context, addr string) (net.Listener, error)
	// Ready is called once, when every role serves.
	Ready func()
	// Released is called once, after ctx has ended, when every role has said
	// [role.Env.Released] or has ended. Zero: nothing is called.
	Released func()
	// Secrets are files that programs that a role starts must not read, such as the
	// configuration. Those that the configuration names are added.
	Secrets []string
	// Reloads yields the configuration anew, for the roles to take over what
	// they can of it while they serve. Zero: it never does.
	Reloads <-chan Config
}

// namedRole is a role of this process, bound to its configuration.
type namedRole struct {
	name string
	run  func(ctx context.Context, env role.Env) error
}

// reloads yield the configurations of roles anew, to those that take over what they
// can of it while they serve.
type reloads struct {
	edge     chan edge.Config
	mirror   chan mirror.Config
	director chan director.Config
}

// roles lists the roles that the configuration asks for, in the order of the
// road from a build to the user.
func (c Config) roles(anew reloads) []namedRole {
	var list []namedRole
	if c.Hub != nil {
		list = append(list, namedRole{"hub", func(ctx context.Context, env role.Env) error { return hub.Run(ctx, *c.Hub, env) }})
	}
	if c.Edge != nil {
		list = append(list, namedRole{"edge", func(ctx context.Context, env role.Env) error { return edge.RunReloading(ctx, *c.Edge, env, anew.edge) }})
	}
	if c.Mirror != nil {
		list = append(list, namedRole{"mirror", func(ctx context.Context, env role.Env) error {
			return mirror.RunReloading(ctx, *c.Mirror, env, anew.mirror)
		}})
	}
	if c.Director != nil {
		list = append(list, namedRole{"director", func(ctx context.Context, env role.Env) error {
			return director.RunReloading(ctx, *c.Director, env, director.Beside{Reloads: anew.director, CheckDesired: mirror.CheckDesired})
		}})
	}
	return list
}

// Run runs every configured role until ctx ends and all have drained; then it
// returns nil. The first role that fails stops the others, and its error is
// returned with the role's name.
func Run(ctx context.Context, cfg Config, opt Options) error {
	anew := reloads{edge: make(chan edge.Config), mirror: make(chan mirror.Config), director: make(chan director.Config)}
	list := cfg.roles(anew)
	if len(list) == 0 {
		return errors.New("no role is configured: the file needs a table [hub], [edge], [mirror] or [director]")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Listen == nil {
		opt.Listen = role.ListenTCP
	}
	if opt.Network == nil {
		opt.Network = new(memnet.Network)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if opt.Access != nil {
		metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "freshet_access_log_dropped_lines_total",
			Help: "Records of requests that were not written, because the disk did not take them in time or at all.",
		}, func() float64 { return float64(opt.Access.Dropped()) }))
	}
	var health role.Health
	admin := role.Admin(&health, metrics)

	group, ctx := errgroup.WithContext(ctx)
	dial := opt.Network.Dialer((&net.Dialer{Timeout: role.ConnectTimeout}).DialContext)
	transport := role.NewTransport(dial)
	defer transport.CloseIdleConnections()
	listen := func(ctx context.Context, addr string) (net.Listener, error) {
		if strings.HasPrefix(addr, memnet.Scheme) {
			return opt.Network.Listen(addr)
		}
		return opt.Listen(ctx, addr)
	}
	var waiting, holding sync.WaitGroup
	for _, r := range list {
		waiting.Add(1)
		ready := health.Starting(r.name)
		holding.Add(1)
		released := sync.OnceFunc(holding.Done)
		env := role.Env{
			Log:      opt.Log.With(slog.String("role", r.name)),
			Access:   opt.Access.For(r.name),
			HTTP:     &http.Client{Transport: transport},
			Listen:   listen,
			Metrics:  metrics,
			Secrets:  slices.Concat(opt.Secrets, cfg.secrets()),
			Ready:    sync.OnceFunc(func() { ready(); waiting.Done() }),
			Released: released,
			Admin:    admin.Handle,
		}
		group.Go(func() error {
			defer released()
			begin := time.Now()
			err := r.run(ctx, env)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s: ended without being told to, after %v", r.name, time.Since(begin).Round(time.Second))
			}
			env.Log.InfoContext(ctx, "stopped as told", slog.Duration("after", time.Since(begin).Round(time.Second)))
			return nil
		})
	}
	if opt.Reloads != nil {
		group.Go(func() error { anew.handOn(ctx, opt.Reloads, cfg); return nil })
	}
	if cfg.Admin.Listen != "" {
		group.Go(func() error {
			ln, err := listen(ctx, cfg.Admin.Listen)
			if err != nil {
				return fmt.Errorf("admin listener: %w", err)
			}
			if ln, err = cfg.Admin.tlsListener(ln); err != nil {
				return err
			}
			// A browser shows its certificate whoever has it send an order.
			return role.Serve(ctx, ln, http.NewCrossOriginProtection().Handler(admin), opt.Log)
		})
	}
	if opt.Ready != nil {
		allReady := make(chan struct{})
		go func() { waiting.Wait(); close(allReady) }()
		group.Go(func() error {
			select {
			case <-allReady:
				opt.Ready()
			case <-ctx.Done():
			}
			return nil
		})
	}
	if opt.Released != nil {
		group.Go(func() error {
			<-ctx.Done()
			holding.Wait()
			opt.Released()
			return nil
		})
	}
	return group.Wait()
}

// handOn hands on what the roles of running take over, until ctx ends. To begin or
// to end a role takes a restart.
func (r reloads) handOn(ctx context.Context, configs <-chan Config, running Config) {
	for {
		select {
		case cfg := <-configs:
			give(ctx, r.edge, cfg.Edge, running.Edge)
			give(ctx, r.mirror, cfg.Mirror, running.Mirror)
			give(ctx, r.director, cfg.Director, running.Director)
		case <-ctx.Done():
			return
		}
	}
}

// give gives a role its configuration, if it runs and has one.
func give[C any](ctx context.Context, to chan<- C, cfg, running *C) {
	if cfg == nil || running == nil {
		return
	}
	select {
	case to <- *cfg:
	case <-ctx.Done():
	}
}

// RoleNames lists the configured roles, separated by commas.
func (c Config) RoleNames() string {
	var names []string
	for _, r := range c.roles(reloads{}) {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}
