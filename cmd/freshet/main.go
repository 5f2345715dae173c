// Command freshet carries free software from a finished build to the user's
// disk. Each role is a subcommand; "freshet run" runs several in one process.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"freshet/internal/handover"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	inherited, err := handover.Inherit(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "freshet:", err)
		os.Exit(1)
	}
	root := newRoot(streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	root.SetArgs(underName(os.Args))
	err = root.ExecuteContext(inherited.In(ctx))
	stop()
	if err != nil {
		inherited.Before.Failed(err)
		fmt.Fprintln(os.Stderr, "freshet:", err)
		os.Exit(exitCode(err))
	}
}

// exitCode is the status with which an error ends the process: its own, if it
// has one, else 1.
func exitCode(err error) int {
	var own interface{ ExitCode() int }
	if errors.As(err, &own) && own.ExitCode() > 0 {
		return own.ExitCode()
	}
	return 1
}
