package main

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"time"

	"freshet/e2e/acceptance"
)

// suite runs the public cache test suite from a folder; empty: it is fetched.
type suite string

// Run implements [acceptance.Step]. It has one proof, however it is called.
func (s suite) Run(ctx context.Context, o acceptance.Options, names []string, tell func(string, acceptance.Outcome)) error {
	args := []string{"scripts/cache-tests"}
	if s != "" {
		args = append(args, string(s))
	}
	cmd := exec.CommandContext(ctx, "sh", args...)
	cmd.Env = os.Environ()
	if o.Quick {
		cmd.Env = append(cmd.Env, "RUNS="+cmp.Or(os.Getenv("RUNS"), "1"))
	}
	begun := time.Now()
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	out := acceptance.Outcome{Took: time.Since(begun), Failed: err != nil, Said: acceptance.LastLines(string(text))}
	if _, lookErr := exec.LookPath("node"); lookErr != nil {
		out.Failed, out.Skipped = false, "node is missing"
	}
	for _, name := range names {
		tell(name, out)
	}
	return nil
}
