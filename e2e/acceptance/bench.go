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
)

// runBench runs the cases of bench/edge that the proofs name, and compares what
// they measure with the goals.
func runBench(ctx context.Context, cfg config, proofs []proof) (map[proof]outcome, error) {
	var cases []string
	for _, p := range proofs {
		if p.most > 0 { // all clients are one case
			p.name = "clients"
		}
		if !slices.Contains(cases, p.name) {
			cases = append(cases, p.name)
		}
	}
	args := []string{"run", "-trimpath", "./bench/edge", "-v", "-rounds=3", "-sample=500ms", "-foreign=0.5", "-servers=nginx-cache", "-only=" + strings.Join(cases, ",")}
	if cfg.quick {
		args = append(args, "-cold=2000", "-sample=200ms")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begun := time.Now()
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	took := time.Since(begun) / time.Duration(len(proofs))
	rates, ratios := readRates(string(out))
	outcomes := make(map[proof]outcome)
	for _, p := range proofs {
		o := outcome{took: took}
		freshetRate, nginxRate := rates[p.name+" freshet"], rates[p.name+" nginx-cache"]
		ratio := ratios[p.name]
		switch {
		case err != nil:
			o.failed, o.said = true, fmt.Sprintf("%s: %v\n%s", p.name, err, stderr.String())
		case p.most > 0 && ratio == 0, p.most == 0 && freshetRate == 0:
			o.skipped = p.name + ": the machine had too much else to do"
		case p.most > 0:
			o.said = fmt.Sprintf("%s: %.2f times what it takes directly, at most %.2f", p.name, ratio, p.most)
			o.failed = ratio > p.most
		case p.least > 0:
			o.said = fmt.Sprintf("%s: %.0f requests/s, at least %.0f", p.name, freshetRate, p.least)
			o.failed = freshetRate < p.least
		case nginxRate == 0:
			o.skipped = p.name + ": no nginx to compare with"
		default:
			o.said = fmt.Sprintf("%s: %.2f times nginx, at least %.2f", p.name, freshetRate/nginxRate, p.share)
			o.failed = freshetRate/nginxRate < p.share
		}
		outcomes[p] = o
	}
	return outcomes, nil
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
