// Command hub measures what publishing one changed app costs, in repositories
// of growing size, beside flatpak build-update-repo on the same content. Both
// are run in turn, and medians are compared, because machines are noisy. Then it
// measures what generating static deltas costs, and how large they are, beside
// ostree and flatpak.
//
// It prints one line a figure:
//
//	name ours peer ratio goal ok|short
//
// CPU is user and system time: of the hub's process during commit and publish
// for ours, of the command for flatpak's. Ours does more: its time includes
// checking and committing the build, which flatpak does in build-commit-from.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var cfg config
	flag.BoolVar(&cfg.quick, "quick", false, "fewer sizes and rounds, under a minute")
	flag.StringVar(&cfg.binary, "freshet", "bin/freshet", "the binary to measure")
	only := flag.String("only", "", "measure just this: publish or deltas")
	flag.Parse()
	if flag.Arg(0) == generateCommand {
		cfg.generate = flag.Args()[1:]
	}
	cfg.publish, cfg.deltas = *only != "deltas", *only != "publish"
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench hub:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

type config struct {
	quick           bool
	binary          string
	publish, deltas bool     // what to measure
	generate        []string // arguments of generateDelta, when this is its process
}

// cost is what one publish took.
type cost struct {
	cpu, wall time.Duration
}

// figure compares ours with the peer's at one size.
type figure struct {
	refs       int
	ours, peer cost
}

func run(ctx context.Context, cfg config, out io.Writer) error {
	if cfg.generate != nil {
		return generateDelta(ctx, cfg.generate, out)
	}
	if cfg.publish {
		if err := measurePublish(ctx, cfg, out); err != nil {
			return err
		}
	}
	if cfg.deltas {
		return measureDeltas(ctx, cfg, out)
	}
	return nil
}

// measurePublish compares publishing one changed app.
func measurePublish(ctx context.Context, cfg config, out io.Writer) error {
	if _, err := exec.LookPath("flatpak"); err != nil {
		return errors.New("flatpak is needed as the peer: apt-get install flatpak")
	}
	sizes, rounds := []int{500, 1000, 2000, 4000}, 7
	if cfg.quick {
		sizes, rounds = []int{500, 1000}, 3
	}
	var figures []figure
	for _, n := range sizes {
		f, err := measure(ctx, cfg, n, rounds)
		if err != nil {
			return fmt.Errorf("%d refs: %w", n, err)
		}
		figures = append(figures, f)
		printLine(out, fmt.Sprintf("publish-cpu-%d", n), seconds(f.ours.cpu), seconds(f.peer.cpu), ratio(f.ours.cpu, f.peer.cpu), 0.25)
		printLine(out, fmt.Sprintf("publish-wall-%d", n), seconds(f.ours.wall), seconds(f.peer.wall), ratio(f.ours.wall, f.peer.wall), 0.5)
	}
	first, last := figures[0], figures[len(figures)-1]
	growth := fmt.Sprintf("publish-cpu-growth-%d-to-%d", first.refs, last.refs)
	ours, peer := ratio(last.ours.cpu, first.ours.cpu), ratio(last.peer.cpu, first.peer.cpu)
	printLine(out, growth, fmt.Sprintf("%.2fx", ours), fmt.Sprintf("%.2fx", peer), ours, 2)
	return nil
}

func printLine(out io.Writer, name, ours, peer string, ratio, goal float64) {
	verdict := "ok"
	if ratio > goal {
		verdict = "short"
	}
	_, _ = fmt.Fprintf(out, "%s %s %s %.2f %.2f %s\n", name, ours, peer, ratio, goal, verdict)
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) + "s" }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

// measure sets up both repositories with n app refs and publishes a changed
// app in each, in turn.
func measure(ctx context.Context, cfg config, n, rounds int) (f figure, err error) {
	dir, err := os.MkdirTemp("", "freshet-bench-")
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	source := filepath.Join(dir, "source")
	if err := writeRepo(source, n); err != nil {
		return figure{}, err
	}
	ours, err := startOurs(ctx, cfg.binary, filepath.Join(dir, "hub"), source)
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	peer, err := newPeer(ctx, filepath.Join(dir, "peer"), source, ours.signingKey())
	if err != nil {
		return figure{}, err
	}
	var oursCosts, peerCosts []cost
	for round := range rounds + 1 { // the first one warms both
		changed := filepath.Join(dir, "changed")
		if err := writeChanged(changed, (round*37)%n, round+1); err != nil {
			return figure{}, err
		}
		a, err := ours.publish(ctx, changed)
		if err != nil {
			return figure{}, err
		}
		b, err := peer.publish(ctx, changed)
		if err != nil {
			return figure{}, err
		}
		if round > 0 {
			oursCosts, peerCosts = append(oursCosts, a), append(peerCosts, b)
		}
	}
	return figure{refs: n, ours: median(oursCosts), peer: median(peerCosts)}, nil
}

func median(costs []cost) cost {
	by := func(get func(cost) time.Duration) time.Duration {
		values := make([]time.Duration, len(costs))
		for i, c := range costs {
			values[i] = get(c)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return cost{
		cpu:  by(func(c cost) time.Duration { return c.cpu }),
		wall: by(func(c cost) time.Duration { return c.wall }),
	}
}

// processCPU is the time all threads of a process have run so far, in
// nanoseconds: /proc/PID/stat counts in hundredths of a second, too coarse here.
// A thread that ends takes its time with it; Go's rarely do.
func processCPU(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("no CPU times of process %d", pid)
	}
	var total time.Duration
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		ran, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %q: %w", b, err)
		}
		total += time.Duration(n)
	}
	return total, nil
}
