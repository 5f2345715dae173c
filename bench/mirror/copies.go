package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"freshet/bench/measure"
	"freshet/internal/pause"
)

const (
	meanPackage = 26_250 // bytes: 20,000 of them are 525 MB
	meanSmall   = 60
)

// measureCopies copies a tree of packages.
func measureCopies(ctx context.Context, cfg config, dir string, out io.Writer) error {
	return withTree(ctx, dir, "packages", cfg.files, meanPackage, func(u *upstream) error {
		return fullCopies(ctx, cfg, dir, u, fmt.Sprintf("copy-%d", cfg.files), out)
	})
}

// measureSmall copies a tree of small files, and looks again when nothing is new.
func measureSmall(ctx context.Context, cfg config, dir string, out io.Writer) error {
	return withTree(ctx, dir, "small", cfg.small, meanSmall, func(u *upstream) error {
		if err := fullCopies(ctx, cfg, dir, u, fmt.Sprintf("small-copy-%d", cfg.small), out); err != nil {
			return err
		}
		return lookAgain(ctx, cfg, dir, u, out)
	})
}

func withTree(ctx context.Context, dir, name string, files int, mean float64, measured func(*upstream) error) (err error) {
	tree := filepath.Join(dir, name)
	if _, err := writeTree(tree, files, mean); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	u, err := startUpstream(ctx, dir, tree)
	if err != nil {
		return err
	}
	defer measure.Stop(u.cmd)
	return measured(u)
}

// fullCopies compares first copies, in turns: their time, and what of the CPUs the
// processes of both sides have used for it.
func fullCopies(ctx context.Context, cfg config, dir string, u *upstream, name string, out io.Writer) error {
	var mine, plain costs
	for round := range cfg.rounds {
		turns := []func() error{
			func() error {
				err := plain.add(cfg, "plain", u, os.Getpid(), func() (time.Duration, error) {
					return plainCopy(ctx, filepath.Join(dir, "plain"), u)
				})
				return errors.Join(err, os.RemoveAll(filepath.Join(dir, "plain")))
			},
			func() error {
				n, err := startNode(ctx, cfg, filepath.Join(dir, "node"), plainOf(u.url), "", "")
				if err == nil {
					err = mine.add(cfg, "freshet", u, n.cmd.Process.Pid, func() (time.Duration, error) { return n.sync(ctx, false) })
				}
				return errors.Join(err, n.stop())
			},
		}
		for i := range turns {
			pause.For(ctx, cfg.pause)
			if err := turns[(i+round)%len(turns)](); err != nil {
				return err
			}
		}
	}
	measure.Line(out, name+"-s:rsync", measure.Median(mine.wall), measure.Median(plain.wall), 1.3)
	measure.Line(out, name+"-cpu-s:rsync", measure.Median(mine.cpu), measure.Median(plain.cpu), 0)
	return nil
}

// costs are those of several copies, in seconds.
type costs struct{ wall, cpu []float64 }

// add makes a copy by the client with this process ID.
func (c *costs) add(cfg config, what string, u *upstream, pid int, run func() (time.Duration, error)) error {
	pids := []int{pid, u.cmd.Process.Pid}
	var before [2]measure.Spent
	for i, pid := range pids {
		var err error
		if before[i], err = measure.SpentBy(pid); err != nil {
			return err
		}
	}
	took, err := run()
	if err != nil {
		return err
	}
	var cpu time.Duration
	for i, name := range []string{what, "  its server"} {
		after, err := measure.SpentBy(pids[i])
		if err != nil {
			return err
		}
		spent := after.Since(before[i])
		cpu += spent.Sum()
		if cfg.verbose {
			fmt.Fprintf(os.Stderr, "  %s: %.2f s, %v\n", name, took.Seconds(), spent)
		}
	}
	c.wall, c.cpu = append(c.wall, took.Seconds()), append(c.cpu, cpu.Seconds())
	return nil
}

func plainCopy(ctx context.Context, to string, u *upstream) (time.Duration, error) {
	begun := time.Now()
	said, err := exec.CommandContext(ctx, "rsync", "-aH", "--delete-delay", "--delay-updates", u.url, to).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("rsync: %w\n%s", err, said)
	}
	return time.Since(begun), nil
}

// lookAgain looks again at a tree in which nothing has changed: by what tells of changes,
// and, when it is ordered, by all that there is; and at last at one with a new file.
func lookAgain(ctx context.Context, cfg config, dir string, u *upstream, out io.Writer) (err error) {
	n, err := startNode(ctx, cfg, filepath.Join(dir, "node"), plainOf(u.url), "", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	if _, err := n.sync(ctx, false); err != nil {
		return err
	}
	to := filepath.Join(dir, "plain")
	if _, err := plainCopy(ctx, to, u); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(to)) }()
	var probed, forced, plain []float64
	var most int64
	for range cfg.rounds {
		took, err := n.sync(ctx, false)
		if err != nil {
			return err
		}
		probed = append(probed, took.Seconds())
		watched, stop := context.WithCancel(ctx)
		peak := make(chan int64, 1)
		go func() { peak <- highest(watched, n.cmd.Process.Pid) }()
		took, err = n.sync(ctx, true)
		stop()
		most = max(most, <-peak)
		if err != nil {
			return err
		}
		forced = append(forced, took.Seconds())
		if took, err = plainCopy(ctx, to, u); err != nil {
			return err
		}
		plain = append(plain, took.Seconds())
	}
	measure.Most(out, "small-nothing-new-s", measure.Median(probed), 1)
	measure.Most(out, "small-nothing-new-forced-s", measure.Median(forced), 10)
	measure.Line(out, "small-nothing-new-forced-s:rsync", measure.Median(forced), measure.Median(plain), 0)
	measure.Most(out, "small-nothing-new-forced-MB", float64(most)/1e6, 100)
	return oneNewFile(ctx, cfg, n, u, to, out)
}

// oneNewFile compares what it takes to get one file more.
func oneNewFile(ctx context.Context, cfg config, n *node, u *upstream, copied string, out io.Writer) error {
	var mine, plain []float64
	for round := range cfg.rounds {
		if err := writeNew(u.tree, round); err != nil {
			return err
		}
		took, err := n.sync(ctx, false)
		if err != nil {
			return err
		}
		mine = append(mine, took.Seconds())
		if took, err = plainCopy(ctx, copied, u); err != nil {
			return err
		}
		plain = append(plain, took.Seconds())
	}
	measure.Line(out, "small-one-new-s:rsync", measure.Median(mine), measure.Median(plain), 0)
	return nil
}

// highest is the most memory that a process and its children have, as far as looking ten
// times a second tells.
func highest(ctx context.Context, pid int) (most int64) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return most
		case <-tick.C:
			if now, err := measure.Memory(pid); err == nil {
				most = max(most, now)
			}
		}
	}
}
