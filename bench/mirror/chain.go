package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"freshet/api/mirrorapi"
	"freshet/bench/measure"
	"freshet/internal/pause"
)

// measureChain has a mirror follow another one that gets one new file among many, again
// and again. It tells how long after the other's switch it has switched, what it was told
// for that, without the files themselves, and how long it takes to tell of the generations
// that there are then.
func measureChain(ctx context.Context, cfg config, dir string, out io.Writer) error {
	return withTree(ctx, dir, "chain", cfg.small, meanSmall, func(u *upstream) (err error) {
		first, err := startNode(ctx, cfg, filepath.Join(dir, "first"), plainOf(u.url), "", "")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, first.stop()) }()
		if _, err := first.sync(ctx, false); err != nil {
			return err
		}
		second, err := startNode(ctx, cfg, filepath.Join(dir, "second"),
			fmt.Sprintf("kind = \"plain\"\nspread = \"1ms\"\nupstreams = [%q]", "mirror+http://"+first.public+"/"+project+"/"), "", "")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, second.stop()) }()
		if _, err := second.sync(ctx, false); err != nil {
			return err
		}
		return followed(ctx, cfg, u, first, second, out)
	})
}

func followed(ctx context.Context, cfg config, u *upstream, first, second *node, out io.Writer) error {
	var behind, told []float64
	for round := range cfg.rounds {
		if err := writeNew(u.tree, round); err != nil {
			return err
		}
		if _, err := first.sync(ctx, false); err != nil {
			return err
		}
		made, err := (&mirrorapi.Client{Base: "http://" + first.public}).Head(ctx, project, "", 0)
		if err != nil {
			return err
		}
		now, err := second.after(ctx, made.Switched)
		if err != nil {
			return err
		}
		behind = append(behind, now.Sub(made.Switched).Seconds())
		bytes, err := first.toldOf(ctx, made.Generation)
		if err != nil {
			return err
		}
		told = append(told, float64(bytes))
	}
	begun := time.Now()
	g, err := second.client.Generations(ctx, project)
	if err != nil {
		return err
	}
	measure.Most(out, "chain-behind-s", measure.Median(behind), 10)
	measure.Most(out, "chain-told-bytes", measure.Median(told), 1000)
	measure.Most(out, fmt.Sprintf("chain-%d-generations-s", len(g.Generations)), time.Since(begun).Seconds(), 1)
	return nil
}

// after waits until the mirror has switched after a time, and returns when that was.
func (n *node) after(ctx context.Context, former time.Time) (time.Time, error) {
	client := &mirrorapi.Client{Base: "http://" + n.public}
	known := ""
	for {
		head, err := client.Head(ctx, project, known, time.Minute)
		if err != nil || head.Switched.After(former) {
			return head.Switched, err
		}
		known = head.Generation
	}
}

// toldOf is how many bytes of a generation's manifest or delta the mirror has sent, as soon as its
// access log says so.
func (n *node) toldOf(ctx context.Context, name string) (int64, error) {
	sent := regexp.MustCompile(`/` + regexp.QuoteMeta(name) + `/(?:manifest|delta/\S+) status=200 bytes=(\d+)`)
	for pause.For(ctx, 20*time.Millisecond) {
		log, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
		if err != nil {
			return 0, err
		}
		if m := sent.FindSubmatch(log); m != nil {
			return strconv.ParseInt(string(m[1]), 10, 64)
		}
	}
	return 0, context.Cause(ctx)
}
