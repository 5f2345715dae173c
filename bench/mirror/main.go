// Command mirror measures what a mirror costs: copies of trees from an rsync server,
// beside plain "rsync -aH --delete-delay --delay-updates" from the same; syncs that find
// nothing new; files served over HTTP and TLS, beside Debian's nginx; and a fleet of
// mirrors that learns of one change.
//
// It prints one line for each figure:
//
//	name ours peer ratio goal ok|short
//
// Of copies, ours and the peer's are seconds of wall clock; of requests, µs of the
// server's CPU for each, as the kernel counts it. Figures without a peer say what they are
// in their names. Trees and copies lie in memory, if there is enough: what is compared is
// the work, and not the disk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
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
	flag.StringVar(&cfg.dir, "dir", "/dev/shm", "where trees and copies lie")
	flag.IntVar(&cfg.rounds, "rounds", 5, "rounds")
	flag.IntVar(&cfg.files, "files", 20_000, "files of the tree of packages, 26 kB each on the average")
	flag.IntVar(&cfg.small, "small", 300_000, "files of the tree of small files")
	flag.IntVar(&cfg.fleet, "mirrors", 20, "mirrors of the fleet")
	flag.DurationVar(&cfg.pause, "pause", 0, "what is waited before each copy: 8s on ext4, which takes no inode for five seconds behind the removal of the copy before")
	flag.DurationVar(&cfg.sample, "sample", time.Second, "length of a sample of requests")
	flag.Float64Var(&cfg.foreign, "foreign", 0.15, "share of the machine that others may use during a sample")
	flag.StringVar(&cfg.only, "only", "", "beginnings of the cases to run, by comma; empty: all")
	flag.BoolVar(&cfg.verbose, "v", false, "tell the steps of each sync")
	flag.Parse()
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench mirror:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

type config struct {
	binary, dir, only    string
	rounds, files, small int
	fleet                int
	sample, pause        time.Duration
	foreign              float64
	verbose              bool
}

func (cfg config) wants(name string) bool { return measure.Wanted(cfg.only, name) }

func run(ctx context.Context, cfg config, out io.Writer) (err error) {
	dir, err := os.MkdirTemp(cfg.dir, "bench-mirror-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // rsync and nginx may be somebody else
		return err
	}
	for _, c := range []struct {
		name string
		run  func(context.Context, config, string, io.Writer) error
	}{
		{"copy", measureCopies},
		{"small", measureSmall},
		{"serve", measureServing},
		{"fleet", measureFleet},
		{"chain", measureChain},
	} {
		if !cfg.wants(c.name) {
			continue
		}
		if err := c.run(ctx, cfg, dir, out); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}
