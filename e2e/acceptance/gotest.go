package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// full are the sizes of the tests that can be run with any; what the
// environment says goes before.
func full() []string {
	return []string{
		"FRESHET_PURGE_OBJECTS=1000000",
		"FRESHET_SCALE_OBJECTS=10000000",
		"FRESHET_SCALE_BODY=1000000000",
	}
}

// event is a line of go test -json.
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

// seen is what is known of a test with those inside it.
type seen struct {
	action string
	took   time.Duration
	skips  []string
	said   []string
}

// runTests runs the tests of a package that the proofs name.
func runTests(ctx context.Context, cfg config, where string, proofs []proof) (map[proof]outcome, error) {
	proofs = slices.Compact(slices.SortedFunc(slices.Values(proofs), func(a, b proof) int { return cmp.Compare(a.name, b.name) }))
	var names []string
	for _, p := range proofs {
		if name, _, _ := strings.Cut(p.name, "/"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	args := []string{"test", "-trimpath", "-count=1", "-json", "-timeout=90m", "-run=^(" + strings.Join(names, "|") + ")$"}
	if cfg.quick {
		args = append(args, "-short")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+where)...)
	cmd.Env = append(os.Environ(), "FRESHET_FIGURES=1") // times are compared with what is promised
	if !cfg.quick {
		cmd.Env = append(full(), cmd.Env...)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	tests := make(map[string]*seen)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // what a test printed past the tool
		}
		if e.Test == "" { // of the package: why it was not built
			if e.Action == "output" || e.Action == "build-output" {
				stderr.WriteString(e.Output)
			}
			continue
		}
		for _, p := range proofs { // the test itself and what is inside of it
			inside, ok := strings.CutPrefix(e.Test, p.name)
			if !ok || inside != "" && inside[0] != '/' {
				continue
			}
			if tests[p.name] == nil {
				tests[p.name] = new(seen)
			}
			tests[p.name].see(e, strings.TrimPrefix(inside, "/"))
		}
	}
	_ = cmd.Wait() // the tests tell themselves
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	outcomes := make(map[proof]outcome)
	for _, p := range proofs {
		outcomes[p] = tests[p.name].outcome(p.name, stderr.String())
	}
	return outcomes, nil
}

func (s *seen) see(e event, inside string) {
	switch e.Action {
	case "output":
		text := strings.TrimRight(e.Output, "\n")
		if trimmed := strings.TrimSpace(text); !strings.HasPrefix(trimmed, "=== ") && !strings.HasPrefix(trimmed, "--- PASS") {
			s.said = append(s.said, text)
		}
	case "skip":
		why := "no reason"
		for _, line := range slices.Backward(s.said) { // "    x_test.go:1: reason", then "--- SKIP"
			if _, reason, ok := strings.Cut(line, "_test.go:"); ok {
				_, why, _ = strings.Cut(reason, ": ")
				break
			}
		}
		s.skips = append(s.skips, strings.TrimPrefix(inside+": ", ": ")+why)
	}
	if inside == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
		s.action, s.took = e.Action, time.Duration(e.Elapsed*float64(time.Second))
	}
}

// outcome of a test; s is nil if it did not run.
func (s *seen) outcome(name, stderr string) outcome {
	if s == nil || s.action == "" {
		said := fmt.Sprintf("%s: %v\n%s", name, errNothingRan, lastLines(strings.Split(stderr, "\n")))
		return outcome{failed: true, said: said}
	}
	o := outcome{took: s.took, failed: s.action == "fail", said: lastLines(s.said)}
	if len(s.skips) > 0 {
		o.skipped = name + ": " + strings.Join(s.skips, ", ")
	}
	return o
}

func lastLines(lines []string) string {
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// runSuite runs the public test suite.
func runSuite(ctx context.Context, cfg config) (map[proof]outcome, error) {
	args := []string{"scripts/cache-tests"}
	if cfg.suite != "" {
		args = append(args, cfg.suite)
	}
	cmd := exec.CommandContext(ctx, "sh", args...)
	cmd.Env = os.Environ()
	if cfg.quick {
		cmd.Env = append(cmd.Env, "RUNS="+cmp.Or(os.Getenv("RUNS"), "1"))
	}
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	o := outcome{took: time.Since(begun), failed: err != nil, said: lastLines(strings.Split(string(out), "\n"))}
	if _, lookErr := exec.LookPath("node"); lookErr != nil {
		o.failed, o.skipped = false, "node is missing"
	}
	return map[proof]outcome{{kind: suite}: o}, nil
}
