// Command edge measures what answering from the cache costs the edge, beside
// nginx as a static server and as a cache, on the same content. All servers
// are up at once and are loaded in turn, in random order, because machines are
// noisy; medians are compared.
//
// It prints one line for each case and server:
//
//	case server µs-of-CPU/request ratio-to-nginx requests/s p99-ms samples
//
// CPU is what the kernel says the server's threads ran
// (/proc/PID/task/*/schedstat). The load comes from this process, on the same
// machine: requests/s tell how much both can do together. A sample during which
// others used more than -foreign of the machine is taken again, four times at
// most, and then dropped.
//
// With -idle it opens connections instead, sends a request on each, and prints
// what an idle one costs in memory (Pss).
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var cfg config
	flag.StringVar(&cfg.binary, "freshet", "bin/freshet", "the binary to measure")
	flag.IntVar(&cfg.rounds, "rounds", 7, "rounds")
	flag.DurationVar(&cfg.sample, "sample", time.Second, "length of a sample")
	flag.Float64Var(&cfg.foreign, "foreign", 0.15, "share of the machine that others may use during a sample")
	flag.StringVar(&cfg.only, "only", "", "cases to run, by comma: small, one, large, close; empty: all")
	flag.StringVar(&cfg.servers, "servers", "", "servers to compare, by comma, as a prefix of their names; empty: all")
	flag.IntVar(&cfg.idle, "idle", 0, "measure the memory of this many idle connections instead")
	flag.StringVar(&cfg.profile, "profile", "", "write a CPU profile of freshet here, taken during one more sample of each case")
	flag.Parse()
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench edge:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

type config struct {
	binary, only, servers, profile string
	rounds, idle                   int
	sample                         time.Duration
	foreign                        float64
}

// load is what is asked of the servers.
type load struct {
	name  string
	paths []string
	conns int
	close bool // a connection for each request
}

func loads() []load {
	list := []load{
		{name: "small", conns: 64},
		{name: "one", paths: []string{kilobyte}, conns: 64},
		{name: "large", paths: []string{large}, conns: 4},
		{name: "close", paths: []string{kilobyte}, conns: 32, close: true},
	}
	for i := range objects {
		list[0].paths = append(list[0].paths, objectPath(i))
	}
	return list
}

// figure is a median of samples.
type figure struct {
	cpu, rps, p99 []float64 // µs, 1/s, ms
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
	servers, err := startServers(ctx, cfg, dir)
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	if cfg.idle > 0 {
		return measureIdle(ctx, servers, cfg.idle, out)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range loads() {
		if cfg.only != "" && !slices.Contains(strings.Split(cfg.only, ","), l.name) {
			continue
		}
		figures, err := compare(ctx, cfg, l, servers)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		base := median(figures[servers[0].name].cpu)
		for _, s := range servers {
			f := figures[s.name]
			cpu := median(f.cpu)
			_, _ = fmt.Fprintf(table, "%s\t%s\t%.2f\t%.2f\t%.0f\t%.2f\t%d\n", l.name, s.name, cpu, cpu/base, median(f.rps), median(f.p99), len(f.cpu))
		}
		_ = table.Flush()
		if err := profile(ctx, cfg, l, servers); err != nil {
			return err
		}
	}
	return nil
}

// compare loads the servers in turn.
func compare(ctx context.Context, cfg config, l load, servers []*server) (map[string]*figure, error) {
	figures := make(map[string]*figure)
	for _, s := range servers {
		figures[s.name] = new(figure)
		for range 3 { // into the cache, and into its memory
			if err := warm(ctx, s, l); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	order := slices.Clone(servers)
	for range cfg.rounds {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, s := range order {
			r, err := sample(ctx, s, l, cfg.sample)
			for range 4 {
				if err != nil || r.foreign <= cfg.foreign {
					break
				}
				r, err = sample(ctx, s, l, cfg.sample)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			if r.foreign > cfg.foreign {
				continue
			}
			f := figures[s.name]
			f.cpu = append(f.cpu, r.cpu.Seconds()*1e6/float64(r.requests))
			f.rps = append(f.rps, float64(r.requests)/r.took.Seconds())
			f.p99 = append(f.p99, r.p99.Seconds()*1e3)
		}
	}
	return figures, nil
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.SortedFunc(slices.Values(list), cmp.Compare[float64])
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

// measureIdle prints what an idle connection takes in each server.
func measureIdle(ctx context.Context, servers []*server, n int, out io.Writer) error {
	for _, s := range servers {
		if err := warm(ctx, s, load{paths: []string{kilobyte}}); err != nil {
			return err
		}
		before, err := s.memory()
		if err != nil {
			return err
		}
		conns, err := openIdle(ctx, s, n)
		if err == nil {
			var after int64
			if after, err = s.memory(); err == nil {
				_, err = fmt.Fprintf(out, "idle %s %.2f KiB/connection of %d\n", s.name, float64(after-before)/1024/float64(n), n)
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
