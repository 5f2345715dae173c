// Command director measures what a director costs on a network of mirrors of the
// size of Fedora's, with the routes of the whole Internet and a country for each
// address, beside Debian's nginx, which sends files of the same sizes.
//
// It prints one line for each figure:
//
//	name ours peer ratio goal ok|short
//
// Of the cases of requests ("metalink:nginx"), ours and the peer's are µs of the
// server's CPU for a request, as the kernel counts it, and the goal is the highest
// ratio that is good enough. Figures without a peer say what they are in their
// names: "-us" is the same CPU time, "-rps" the requests/s that server and load
// reach together on this machine, then memory after loading and after ten
// reloads, and the times of loading, of a reload, and of the slowest request
// during one. The case "mix" is what mirrors of a distribution are asked.
//
// The case "files" is a redirector that knows a million files on 60 mirrors: µs and
// requests/s of redirects, time to load, memory with as much garbage as there may be, and
// what it costs to read the listing of a mirror again that has not changed. It stands
// beside what mirrorbits was measured to need with a fiftieth of the files, elsewhere.
//
// With -peer the same is asked of another server that has the command line of
// MirrorManager's mirrorlist-server, such as that itself.
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
	flag.StringVar(&cfg.peer, "peer", "", "another mirrorlist-server to compare with")
	flag.StringVar(&cfg.world, "world", "", "keep the files of \""+filesCase+"\" in this folder, for the next time")
	flag.IntVar(&cfg.rounds, "rounds", 7, "rounds")
	flag.DurationVar(&cfg.sample, "sample", time.Second, "length of a sample")
	flag.IntVar(&cfg.reloads, "reloads", 10, "reloads")
	flag.Float64Var(&cfg.foreign, "foreign", 0.15, "share of the machine that others may use during a sample")
	flag.StringVar(&cfg.only, "only", "", "beginnings of the cases to run, by comma; empty: all")
	flag.StringVar(&cfg.profile, "profile", "", "write CPU profiles of freshet here, taken during one more sample of each case")
	flag.BoolVar(&cfg.verbose, "v", false, "also print what was measured of each server")
	flag.Parse()
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench director:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

type config struct {
	binary, peer, only, profile string
	world                       string
	rounds, reloads             int
	sample                      time.Duration
	foreign                     float64
	verbose                     bool
}

func (cfg config) wants(name string) bool { return measure.Wanted(cfg.only, name) }

func run(ctx context.Context, cfg config, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bench-director-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if cfg.wants(filesCase) {
		if err := runFiles(ctx, cfg, dir, out); err != nil {
			return fmt.Errorf("%s: %w", filesCase, err)
		}
	}
	if cfg.only == filesCase {
		return nil
	}
	return runLists(ctx, cfg, dir, out)
}

// runLists measures what takes the place of mirrorlist-server.
func runLists(ctx context.Context, cfg config, dir string, out io.Writer) error {
	world, err := writeWorld(dir)
	if err != nil {
		return err
	}
	servers, err := startServers(ctx, cfg, dir)
	defer func() {
		for _, s := range servers {
			measure.Stop(s.cmd)
		}
	}()
	if err != nil {
		return err
	}
	if err := measureLoaded(out, servers); err != nil {
		return err
	}
	for _, c := range cases(world) {
		if !cfg.wants(c.name) {
			continue
		}
		if err := c.run(ctx, cfg, dir, servers, out); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if !cfg.wants("reload") {
		return nil
	}
	return measureReloads(ctx, cfg, world, servers, out)
}

// measureLoaded prints how long each server took to load its data, and what it has
// in memory then.
func measureLoaded(out io.Writer, servers []*server) error {
	for _, s := range servers {
		if s.name == nginx {
			continue
		}
		bytes, err := measure.Memory(s.cmd.Process.Pid)
		if err != nil {
			return err
		}
		s.print(out, "load-s", s.loaded.Seconds(), 0)
		s.print(out, "memory-MB", float64(bytes)/1e6, 200)
	}
	return nil
}

// run loads the servers in turn, in random order, and prints what came of it.
func (c *benchCase) run(ctx context.Context, cfg config, dir string, servers []*server, out io.Writer) error {
	if err := c.writeStatic(ctx, dir, servers); err != nil {
		return err
	}
	order := append([]*server(nil), servers...)
	figures := make(map[*server]*figure)
	for range cfg.rounds {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, s := range order {
			l := c.load(s)
			got, err := measure.Undisturbed(cfg.foreign, func() (measure.Sample, error) {
				return measure.Take(ctx, l, cfg.sample, s.cmd.Process.Pid)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if figures[s] == nil {
				figures[s] = new(figure)
			}
			if got.Requests > 0 && got.Foreign <= cfg.foreign {
				figures[s].add(got)
			}
		}
	}
	c.report(out, servers, figures, cfg.verbose)
	if cfg.profile == "" {
		return nil
	}
	return c.profile(ctx, cfg.profile+"-"+c.name, servers[0])
}

// profile writes a CPU profile of ours.
func (c *benchCase) profile(ctx context.Context, file string, s *server) error {
	got := make(chan error, 1)
	go func() { got <- measure.Profile(ctx, s.admin, file) }()
	_, err := measure.Take(ctx, c.load(s), 5*time.Second, s.cmd.Process.Pid)
	return errors.Join(err, <-got)
}

// figure is what samples have in common.
type figure struct{ cpu, rps, p99, kb []float64 } // µs, 1/s, ms, kB for a request

func (f *figure) add(s measure.Sample) {
	n := float64(s.Requests)
	f.cpu = append(f.cpu, s.CPU.Seconds()*1e6/n)
	f.rps = append(f.rps, n/s.Took.Seconds())
	f.p99 = append(f.p99, s.Quantile(0.99).Seconds()*1e3)
	f.kb = append(f.kb, float64(s.Bytes)/1e3/n)
}

// report prints the lines of a case: ours is the first server.
func (c *benchCase) report(out io.Writer, servers []*server, figures map[*server]*figure, verbose bool) {
	mine := figures[servers[0]]
	for _, s := range servers[1:] {
		goal := c.ratio
		if s.name != nginx {
			goal = 1
		}
		measure.Line(out, c.name+":"+s.name, measure.Median(mine.cpu), measure.Median(figures[s].cpu), goal)
	}
	if c.stated > 0 {
		measure.Line(out, c.name+":mirrorbits-stated", measure.Median(mine.cpu), c.stated, 1)
	}
	if c.cpu > 0 && len(mine.cpu) > 0 {
		measure.Most(out, c.name+"-us", measure.Median(mine.cpu), c.cpu)
		measure.Least(out, c.name+"-rps", measure.Median(mine.rps), c.rps)
	}
	if !verbose {
		return
	}
	for _, s := range servers {
		f := figures[s]
		_, _ = fmt.Fprintf(out, "# %s %s: %.1f µs, %.5g requests/s, p99 %.2f ms, %.1f kB, %d samples\n", c.name, s.name,
			measure.Median(f.cpu), measure.Median(f.rps), measure.Median(f.p99), measure.Median(f.kb), len(f.cpu))
	}
}
