package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Tests runs Go tests: it is the folder of their package, below that in which the command
// runs. They are run with FRESHET_FIGURES=1, so that they compare times with what is
// promised, and with -short if it is to be quick. What they tell by testing.T.Attr is
// printed as measured.
type Tests string

// Has are the proofs by tests of the package; a name may be that of a subtest.
func (s Tests) Has(names ...string) []Proof {
	var list []Proof
	for _, name := range names {
		list = append(list, Proof{s, name})
	}
	return list
}

// event is a line of go test -json.
type event struct {
	Action, Test, Output, Key, Value string
	Elapsed                          float64
}

// seen is what is known of a test with those inside it.
type seen struct {
	action   string
	took     time.Duration
	skips    []string
	measured []string
	said     []string
}

// Run implements [Step].
func (s Tests) Run(ctx context.Context, o Options, names []string, tell func(string, Outcome)) error {
	var tops []string
	for _, name := range names {
		if top, _, _ := strings.Cut(name, "/"); !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	args := []string{"test", "-trimpath", "-count=1", "-json", "-timeout=90m", "-run=^(" + strings.Join(tops, "|") + ")$"}
	if o.Quick {
		args = append(args, "-short")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+string(s))...)
	cmd.Env = append(os.Environ(), "FRESHET_FIGURES=1")
	if !o.Quick {
		cmd.Env = append(slices.Clone(o.Env), cmd.Env...)
	}
	var stderr bytes.Buffer // written to until Wait returns
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var built strings.Builder
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
				built.WriteString(e.Output)
			}
			continue
		}
		for _, name := range names { // the test itself and what is inside of it
			inside, ok := strings.CutPrefix(e.Test, name)
			if !ok || inside != "" && inside[0] != '/' {
				continue
			}
			if tests[name] == nil {
				tests[name] = new(seen)
			}
			if tests[name].see(e, strings.TrimPrefix(inside, "/")); tests[name].action != "" {
				tell(name, tests[name].outcome(name, ""))
			}
		}
	}
	_ = cmd.Wait() // the tests tell themselves
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, name := range names {
		if tests[name] == nil || tests[name].action == "" {
			tell(name, tests[name].outcome(name, built.String()+stderr.String()))
		}
	}
	return nil
}

func (s *seen) see(e event, inside string) {
	switch e.Action {
	case "attr":
		s.measured = append(s.measured, strings.TrimPrefix(inside+" ", " ")+e.Key+": "+e.Value)
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
func (s *seen) outcome(name, stderr string) Outcome {
	if s == nil || s.action == "" {
		said := fmt.Sprintf("%s: %v\n%s", name, errNothingRan, LastLines(stderr))
		return Outcome{Failed: true, Said: said}
	}
	o := Outcome{Took: s.took, Failed: s.action == "fail", Measured: s.measured, Said: LastLines(strings.Join(s.said, "\n"))}
	if len(s.skips) > 0 {
		o.Skipped = name + ": " + strings.Join(s.skips, ", ")
	}
	return o
}

// LastLines is what a program said last, where its failures are.
func LastLines(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
