// Command edge measures what an edge costs beside Debian's nginx, Varnish and
// Traffic Server, on the same content and machine. All servers are up at once
// and are loaded in turn, in random order, because machines are noisy; medians
// are compared.
//
// It prints one line for each case and peer:
//
//	case:peer ours peer ratio goal ok|short
//
// ours and the peer's are µs of the server's CPU for a request, as the kernel
// counts it (/proc/PID/task/*/schedstat), or what the case's name says; the
// goal is the highest ratio that is good enough, "-" where there is none. With
// -v also what was measured of each server: requests/s, p99 and samples. The
// load comes from this process, on the same machine: requests/s tell how much
// both can do together. A sample during which others used more than -foreign of
// the machine is taken again, four times at most, and then dropped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"freshet/bench/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var cfg config
	flag.StringVar(&cfg.binary, "freshet", "bin/freshet", "the binary to measure")
	flag.IntVar(&cfg.rounds, "rounds", 7, "rounds")
	flag.DurationVar(&cfg.sample, "sample", time.Second, "length of a sample")
	flag.Float64Var(&cfg.foreign, "foreign", 0.15, "share of the machine that others may use during a sample")
	flag.StringVar(&cfg.only, "only", "", "beginnings of the cases to run, by comma; empty: all")
	flag.StringVar(&cfg.servers, "servers", "", "peers to compare with, by comma; empty: all")
	flag.StringVar(&cfg.builds, "builds", "", "other builds of freshet to measure in the same rounds, name=path by comma")
	flag.IntVar(&cfg.idle, "idle", 10000, "idle connections to measure")
	flag.IntVar(&cfg.cold, "cold", 10000, "objects of the cold fill")
	flag.BoolVar(&cfg.clients, "clients", false, "also measure ostree and flatpak (the case \"clients\")")
	flag.BoolVar(&cfg.verbose, "v", false, "also print what was measured of each server")
	flag.StringVar(&cfg.profile, "profile", "", "write a CPU profile of freshet here, taken during one more sample of each case")
	flag.Parse()
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench edge:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

type config struct {
	binary, only, servers, builds, profile string
	rounds, idle, cold                     int
	sample                                 time.Duration
	foreign                                float64
	verbose, clients                       bool
}

func run(ctx context.Context, cfg config, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bench-edge-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := writeContent(dir); err != nil {
		return err
	}
	if err := writeAcceptance(cfg, dir); err != nil {
		return err
	}
	servers, err := startServers(ctx, cfg, dir)
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	for _, c := range cases(cfg) {
		if !cfg.wants(c.name) {
			continue
		}
		figures, err := compare(ctx, cfg, c, servers)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.report(out, servers, figures, cfg.verbose)
		if err := profile(ctx, cfg, c, servers); err != nil {
			return err
		}
	}
	if cfg.wants("idle") {
		if err := measureIdle(ctx, servers, cfg.idle, out); err != nil {
			return err
		}
	}
	if cfg.only != "" && cfg.wants("clients") || cfg.clients {
		return measureClients(ctx, cfg, dir, servers, out)
	}
	return nil
}

func (cfg config) wants(name string) bool { return measure.Wanted(cfg.only, name) }

// figure is a median of samples.
type figure struct {
	cpu, rps, p99 []float64       // µs, 1/s, ms
	rounds        map[int]float64 // cpu by round
}

// compare loads the servers in turn.
func compare(ctx context.Context, cfg config, c benchCase, servers []*server) (map[string]*figure, error) {
	figures := make(map[string]*figure)
	var order []*server
	for _, s := range servers {
		if s.name == ours || s.build || c.goals.has(s.name) {
			order = append(order, s)
			figures[s.name] = &figure{rounds: make(map[int]float64)}
		}
	}
	for _, s := range order {
		for range 3 { // into the cache, and into its memory
			if err := warm(ctx, s, c.warmed); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for round := range cfg.rounds {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, s := range order {
			r, err := measure.Undisturbed(cfg.foreign, func() (measure.Sample, error) {
				return sample(ctx, s, c.load(), cfg.sample)
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			if r.Foreign > cfg.foreign {
				continue
			}
			f := figures[s.name]
			cpu := r.CPU.Seconds() * 1e6 / float64(r.Requests)
			f.cpu, f.rounds[round] = append(f.cpu, cpu), cpu
			f.rps = append(f.rps, float64(r.Requests)/r.Took.Seconds())
			f.p99 = append(f.p99, r.Quantile(0.99).Seconds()*1e3)
		}
	}
	return figures, nil
}

// measureIdle prints what an idle connection takes in each server.
func measureIdle(ctx context.Context, servers []*server, n int, out io.Writer) error {
	for _, tls := range [...]bool{false, true} {
		if err := measureIdleBy(ctx, servers, n, tls, out); err != nil {
			return err
		}
	}
	return nil
}

func measureIdleBy(ctx context.Context, servers []*server, n int, tls bool, out io.Writer) error {
	name := "idle-KiB"
	if tls {
		name = "idle-tls-KiB"
	}
	for _, s := range servers {
		if s.name != ours && s.name != "nginx-cache" {
			continue
		}
		if err := warm(ctx, s, []string{kilobyte}); err != nil {
			return err
		}
		if s.before == 0 { // what the first connections leave behind serves the next ones
			var err error
			if s.before, err = s.memory(); err != nil {
				return err
			}
		}
		conns, err := openIdle(ctx, s, n, tls)
		if err == nil {
			var after int64
			if after, err = s.memory(); err == nil {
				each := float64(after-s.before) / 1024 / float64(n)
				_, err = fmt.Fprintf(out, "%s:%s %.2f - - %s\n", name, s.name, each, idleGoal(s, each, tls))
			}
		}
		for _, c := range conns {
			_ = c.Close() // it was only held
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func idleGoal(s *server, kib float64, tls bool) string {
	most := 6
	if tls {
		most = 32
	}
	switch {
	case s.name != ours:
		return "- -"
	case kib <= float64(most):
		return fmt.Sprintf("%d ok", most)
	}
	return fmt.Sprintf("%d short", most)
}
