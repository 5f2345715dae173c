package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"freshet/e2e/acceptance"
)

// goal is what a case of bench/edge must reach: so many requests/s, or such a share of
// nginx's; or it takes at most so many times as long as directly.
type goal struct{ least, share, most float64 }

// bench runs cases of bench/edge, by name, and compares what they measure with the goals.
type bench struct{ goals map[string]goal }

func (b *bench) has(name string, g goal) acceptance.Proof {
	if b.goals == nil {
		b.goals = make(map[string]goal)
	}
	b.goals[name] = g
	return acceptance.Proof{Step: b, Name: name}
}

func (b *bench) atLeast(name string, rate float64) acceptance.Proof {
	return b.has(name, goal{least: rate})
}

func (b *bench) ofNginx(name string, share float64) acceptance.Proof {
	return b.has(name, goal{share: share})
}

func (b *bench) directly(name string, most float64) acceptance.Proof {
	return b.has(name, goal{most: most})
}

// Run implements [acceptance.Step].
func (b *bench) Run(ctx context.Context, o acceptance.Options, names []string, tell func(string, acceptance.Outcome)) error {
	var cases []string
	for _, name := range names {
		if b.goals[name].most > 0 { // all clients are one case
			name = "clients"
		}
		if !slices.Contains(cases, name) {
			cases = append(cases, name)
		}
	}
	args := []string{"run", "-trimpath", "./bench/edge", "-v", "-rounds=3", "-sample=500ms", "-foreign=0.5", "-servers=nginx-cache", "-only=" + strings.Join(cases, ",")}
	if o.Quick {
		args = append(args, "-cold=2000", "-sample=200ms")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begun := time.Now()
	text, err := cmd.Output()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	took := time.Since(begun) / time.Duration(len(names))
	rates, ratios := readRates(string(text))
	for _, name := range names {
		out := b.goals[name].judge(name, rates, ratios)
		if err != nil {
			out = acceptance.Outcome{Failed: true, Said: fmt.Sprintf("%s: %v\n%s", name, err, stderr.String())}
		}
		out.Took = took
		tell(name, out)
	}
	return nil
}

// judge compares what was measured of a case with its goal.
func (g goal) judge(name string, rates, ratios map[string]float64) (o acceptance.Outcome) {
	freshetRate, nginxRate := rates[name+" freshet"], rates[name+" nginx-cache"]
	ratio := ratios[name]
	switch {
	case g.most > 0 && ratio == 0, g.most == 0 && freshetRate == 0:
		o.Skipped = name + ": the machine had too much else to do"
		return o
	case g.most > 0:
		o.Said = fmt.Sprintf("%s: %.2f times what it takes directly, at most %.2f", name, ratio, g.most)
		o.Failed = ratio > g.most
	case g.least > 0:
		o.Said = fmt.Sprintf("%s: %.0f requests/s, at least %.0f", name, freshetRate, g.least)
		o.Failed = freshetRate < g.least
	case nginxRate == 0:
		o.Skipped = name + ": no nginx to compare with"
		return o
	default:
		o.Said = fmt.Sprintf("%s: %.2f times nginx, at least %.2f", name, freshetRate/nginxRate, g.share)
		o.Failed = freshetRate/nginxRate < g.share
	}
	return o
}

// readRates reads the requests/s of each "case server", and the ratio of each
// case that is compared without an edge.
func readRates(out string) (rates, ratios map[string]float64) {
	rates, ratios = make(map[string]float64), make(map[string]float64)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 5 && fields[0] == "#": // # case server: 1.23 µs, 456 requests/s, …
			if n, err := strconv.ParseFloat(fields[5], 64); err == nil {
				rates[fields[1]+" "+strings.TrimSuffix(fields[2], ":")] = n
			}
		case len(fields) == 6 && strings.HasSuffix(fields[0], ":direct"):
			if n, err := strconv.ParseFloat(fields[3], 64); err == nil {
				ratios[strings.TrimSuffix(fields[0], ":direct")] = n
			}
		}
	}
	return rates, ratios
}
