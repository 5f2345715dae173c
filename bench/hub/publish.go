package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Goals of a publish: of the peer's CPU and calls in a repository of at least large
// refs, and in smaller ones; of its own wall time; and how many more system calls
// the largest repository may cost than the smallest.
const (
	large            = 4000
	goalPublishCPU   = 0.05
	goalSmallCPU     = 0.15
	goalPublishWall  = time.Second
	goalPublishCalls = 1.1
)

// publishCase is a repository: every app is there for each architecture, and some
// are in subsets.
type publishCase struct {
	name    string
	apps    int
	arches  []string
	subsets []string
	rounds  int
}

func (c publishCase) refs() int { return c.apps * len(c.arches) }

// publishCases are what is measured.
func publishCases() []publishCase {
	one := []string{"x86_64"}
	return []publishCase{
		{"1000", 1000, one, nil, 5},
		{"4000", 4000, one, nil, 3},
		{"7280", 7280, one, nil, 3},
		{"8000x2x3", 4000, []string{"aarch64", "x86_64"}, []string{"floss", "verified", "verified_floss"}, 3},
	}
}

func caseNames() string {
	var names []string
	for _, c := range publishCases() {
		names = append(names, c.name)
	}
	return strings.Join(names, ",")
}

// cost is what one publish took.
type cost struct{ CPU, Wall time.Duration }

// figure compares ours with the peer's.
type figure struct {
	ours, peer           cost
	oursCalls, peerCalls int // system calls on files; 0: not counted
}

// measurePublish compares publishing one changed app.
func measurePublish(ctx context.Context, cfg config, out io.Writer) error {
	if _, err := exec.LookPath("flatpak"); err != nil {
		return errors.New("flatpak is needed as the peer: apt-get install flatpak")
	}
	cases := publishCases()
	if cfg.quick {
		cases = []publishCase{{"150", 150, []string{"x86_64"}, nil, 1}, {"300", 300, []string{"x86_64"}, nil, 1}}
	}
	var first, last figure
	var names []string
	for _, c := range cases {
		if len(cfg.cases) > 0 && !slices.Contains(cfg.cases, c.name) {
			continue
		}
		f, err := measure(ctx, cfg, c)
		if err != nil {
			return fmt.Errorf("publish %s: %w", c.name, err)
		}
		name, goal := "publish-"+c.name, goalPublishCPU
		if c.refs() < large {
			goal = goalSmallCPU
		}
		printLine(out, name+"-cpu", seconds(f.ours.CPU), seconds(f.peer.CPU), ratio(f.ours.CPU, f.peer.CPU), goal)
		printLine(out, name+"-wall", seconds(f.ours.Wall), seconds(f.peer.Wall), f.ours.Wall.Seconds(), goalPublishWall.Seconds())
		if f.oursCalls > 0 {
			printLine(out, name+"-calls", fmt.Sprint(f.oursCalls), fmt.Sprint(f.peerCalls), float64(f.oursCalls)/float64(f.peerCalls), goal)
		}
		if len(c.subsets) > 0 {
			continue // more branches are more files, whatever the number of refs
		}
		if names = append(names, c.name); len(names) == 1 {
			first = f
		}
		last = f
	}
	if len(names) > 1 && first.oursCalls > 0 {
		growth := float64(last.oursCalls) / float64(first.oursCalls)
		peer := float64(last.peerCalls) / float64(first.peerCalls)
		printLine(out, "publish-calls-growth-"+names[0]+"-to-"+names[len(names)-1],
			fmt.Sprintf("%.2fx", growth), fmt.Sprintf("%.2fx", peer), growth, goalPublishCalls)
	}
	return nil
}

// measure sets up both repositories and publishes a changed app in each, in turn.
func measure(ctx context.Context, cfg config, c publishCase) (f figure, err error) {
	dir, err := os.MkdirTemp(cfg.memory(), "freshet-bench-")
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	source := filepath.Join(dir, "source")
	if err := writeRepo(source, c); err != nil {
		return figure{}, err
	}
	ours, err := startOurs(ctx, cfg.binary, filepath.Join(dir, "hub"), source, c.subsets)
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	peer, err := newPeer(ctx, filepath.Join(dir, "peer"), source, ours.signingKey())
	if err != nil {
		return figure{}, err
	}
	changed := filepath.Join(dir, "changed")
	change := func(round int) error {
		if err := os.RemoveAll(changed); err != nil {
			return err
		}
		return writeChanged(changed, c, (round*37)%c.apps, round+1)
	}
	var oursCosts, peerCosts []cost
	for round := range c.rounds + 1 { // the first one warms both
		if err := change(round); err != nil {
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
	f = figure{ours: median(oursCosts), peer: median(peerCosts)}
	if _, err := exec.LookPath("strace"); err != nil || !cfg.calls {
		return f, nil
	}
	if err := change(c.rounds + 1); err != nil {
		return f, err
	}
	if f.oursCalls, err = ours.count(ctx, changed); err != nil {
		return f, err
	}
	f.peerCalls, err = peer.count(ctx, changed)
	return f, err
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
		CPU:  by(func(c cost) time.Duration { return c.CPU }),
		Wall: by(func(c cost) time.Duration { return c.Wall }),
	}
}
