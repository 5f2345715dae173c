package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// goalStoreGrowth is how many times more CPU, or memory, a step may take in the
// largest store than in the smallest.
const goalStoreGrowth = 1.5

// storeRounds is how often each step is measured, and in a quick run.
const storeRounds, storeQuickRounds = 5, 1

// storeSettings let a prune find something at once: no former commit stays.
const storeSettings = `
[hub.repos.stable.prune]
grace = "1ns"
[[hub.repos.stable.prune.rules]]
ref = "*"
`

// storeOnce are the steps that look at all of a store, and are taken once in its
// life or seldom.
type storeOnce struct {
	Objects            int // before the first publish
	Fill               time.Duration
	Start, Fsck, Prune cost
	FsckRSS, PruneRSS  int64
	GraphSize          int64
}

// storeFigures are what is measured of a store.
type storeFigures struct {
	storeOnce

	start, publish, fsck, prune cost // of one change
	hubRSS, fsckRSS             int64
}

// measureStores shows what a hub's steps cost in stores of growing size.
func measureStores(ctx context.Context, cfg config, out io.Writer) error {
	sizes := []int{20_000, 200_000, 2_000_000}
	if cfg.quick {
		sizes = []int{4_000, 12_000}
	}
	if len(cfg.sizes) > 0 {
		sizes = cfg.sizes
	}
	var all []storeFigures
	for _, size := range sizes {
		f, err := measureStore(ctx, cfg, size)
		if err != nil {
			return fmt.Errorf("store of %d objects: %w", size, err)
		}
		all = append(all, f)
	}
	if cfg.prepare {
		return nil
	}
	printStores(out, all)
	if cfg.record == "" {
		return nil
	}
	return recordStores(cfg.record, all)
}

// printStores prints a line for each step and store: the peer is the smallest one.
func printStores(out io.Writer, all []storeFigures) {
	least := all[0]
	for _, f := range all {
		name := "store-" + strconv.Itoa(f.Objects) + "-"
		for _, step := range f.steps() {
			small := step.of(least)
			printLine(out, name+step.name+"-cpu", seconds(step.of(f).CPU), seconds(small.CPU), ratio(step.of(f).CPU, small.CPU), goalStoreGrowth)
			printLine(out, name+step.name+"-wall", seconds(step.of(f).Wall), seconds(small.Wall), ratio(step.of(f).Wall, small.Wall), goalStoreGrowth)
		}
		printLine(out, name+"hub-rss", megabytes(f.hubRSS), megabytes(least.hubRSS), float64(f.hubRSS)/float64(least.hubRSS), goalStoreGrowth)
		printLine(out, name+"fsck-rss", megabytes(f.fsckRSS), megabytes(least.fsckRSS), float64(f.fsckRSS)/float64(least.fsckRSS), goalStoreGrowth)
	}
}

// storeStep is one of the steps that may not grow.
type storeStep struct {
	name string
	of   func(storeFigures) cost
}

func (storeFigures) steps() []storeStep {
	return []storeStep{
		{"start", func(f storeFigures) cost { return f.start }},
		{"publish", func(f storeFigures) cost { return f.publish }},
		{"fsck-incremental", func(f storeFigures) cost { return f.fsck }},
		{"prune", func(f storeFigures) cost { return f.prune }},
	}
}

// measureStore measures one store. It is kept when there is a folder for it, and
// found again by the next run.
func measureStore(ctx context.Context, cfg config, size int) (f storeFigures, err error) {
	dir := filepath.Join(cfg.keep, strconv.Itoa(size))
	if cfg.keep == "" {
		if dir, err = os.MkdirTemp(cfg.memory(), "freshet-bench-"); err != nil {
			return f, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	s := store{cfg: cfg, dir: dir, hub: filepath.Join(dir, "hub"), repo: filepath.Join(dir, "hub", "repos", "stable")}
	once := filepath.Join(dir, "once.json")
	known, err := readJSON(once, &f.storeOnce)
	if err != nil {
		return f, err
	}
	if !known {
		if f.storeOnce, err = s.begin(ctx, size); err == nil {
			err = writeJSON(once, f.storeOnce)
		}
	}
	if err == nil && !cfg.prepare {
		err = s.rounds(ctx, &f)
	}
	return f, err
}

// store is a hub with a store of some size.
type store struct {
	cfg            config
	dir, hub, repo string
}

// begin fills the store and takes the steps that look at all of it.
func (s *store) begin(ctx context.Context, size int) (once storeOnce, err error) {
	begun := time.Now()
	if err := fillStore(s.repo, size); err != nil {
		return once, err
	}
	if once.Objects, err = countObjects(s.repo); err != nil {
		return once, err
	}
	once.Fill = time.Since(begun)
	if err := s.withHub(ctx, func(o *ours) error {
		once.Start = o.started
		return nil
	}); err != nil {
		return once, err
	}
	full, err := runUsage(exec.CommandContext(ctx, s.cfg.binary, "hub", "fsck", s.repo))
	if err != nil {
		return once, err
	}
	once.Fsck, once.FsckRSS = full.cost, full.rss
	return once, s.withHub(ctx, func(o *ours) error {
		if once.Prune, err = o.prune(ctx); err != nil {
			return err
		}
		if once.PruneRSS, err = memory(o.cmd.Process.Pid, "VmHWM"); err != nil {
			return err
		}
		graph, err := os.Stat(filepath.Join(s.repo, ".upkeep", "graph.db"))
		if err == nil {
			once.GraphSize = graph.Size()
		}
		return err
	})
}

// withHub runs the hub while do does.
func (s *store) withHub(ctx context.Context, do func(*ours) error) error {
	o, err := runOurs(ctx, s.cfg.binary, s.hub, storeSettings)
	if err != nil {
		return err
	}
	return errors.Join(do(o), o.stop())
}

// rounds starts the hub, and then publishes a changed app, checks what was
// published and removes what it replaced, several times; medians count.
func (s *store) rounds(ctx context.Context, f *storeFigures) error {
	var starts, publishes, checks, prunes []cost
	rounds := storeRounds
	if s.cfg.quick {
		rounds = storeQuickRounds
	}
	for range rounds {
		if err := s.withHub(ctx, func(o *ours) error {
			starts = append(starts, o.started)
			return nil
		}); err != nil {
			return err
		}
	}
	version := int(time.Now().Unix() - 1_700_000_000) // none that a run before has published
	changed := filepath.Join(s.dir, "changed")
	err := s.withHub(ctx, func(o *ours) error {
		for round := range rounds + 1 { // the first one warms up
			if err := errors.Join(os.RemoveAll(changed), writeChanged(changed, storeCatalogue(), (round*37)%storeApps, version+round)); err != nil {
				return err
			}
			publish, err := o.publish(ctx, changed)
			if err != nil {
				return err
			}
			check, err := runUsage(exec.CommandContext(ctx, s.cfg.binary, "hub", "fsck", "--incremental", s.repo))
			if err != nil {
				return err
			}
			prune, err := o.prune(ctx)
			if err != nil {
				return err
			}
			if round > 0 {
				publishes, checks, prunes = append(publishes, publish), append(checks, check.cost), append(prunes, prune)
				f.fsckRSS = max(f.fsckRSS, check.rss)
			}
		}
		var err error
		f.hubRSS, err = memory(o.cmd.Process.Pid, "VmHWM")
		return err
	})
	if err != nil {
		return err
	}
	f.start, f.publish, f.fsck, f.prune = median(starts), median(publishes), median(checks), median(prunes)
	return nil
}
