package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"freshet/api/mirrorapi"
)

func newMirrorHoldCommand() *cobra.Command {
	var (
		flags mirrorFlags
		req   mirrorapi.HoldRequest
	)
	cmd := &cobra.Command{
		Use:   "hold PROJECT",
		Short: "Have a project stay as it is",
		Long: `Hold has a mirror serve a project as it is now, and sync it no more, until
"freshet mirror release" ends that; a restart does not. A sync that runs is ended. Its times
pass, and what is ordered or triggered meanwhile waits for the release. "freshet mirror
rollback" holds a project, too.`,
		Example: `  freshet mirror hold epel --reason 'upstream moves to other servers'
  freshet mirror release epel`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.SyncAnswer, error) {
				return c.Hold(cmd.Context(), args[0], req)
			}, func(out io.Writer, _ mirrorapi.SyncAnswer) error {
				_, err := fmt.Fprintf(out, "%s is held; freshet mirror release %s ends that\n", args[0], args[0])
				return err
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for those who wonder")
	return cmd
}

func newMirrorReleaseCommand() *cobra.Command {
	var flags mirrorFlags
	cmd := &cobra.Command{
		Use:   "release PROJECT",
		Short: "End the hold of a project, so that it is synced again",
		Long: `Release ends the hold of a project. What was ordered or triggered meanwhile, or was
to begin by the schedule, begins at once.`,
		Example: "  freshet mirror release epel",
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.SyncAnswer, error) {
				return c.Release(cmd.Context(), args[0])
			}, func(out io.Writer, answer mirrorapi.SyncAnswer) error {
				text := "is released; it is synced at its time, or by: freshet mirror sync " + args[0]
				if answer.State != mirrorapi.Idle {
					text = "is released, and is synced now"
				}
				_, err := fmt.Fprintf(out, "%s %s\n", args[0], text)
				return err
			})
		},
	}
	flags.register(cmd)
	return cmd
}

// holdText says since when a project is held, by whom and why.
func holdText(h mirrorapi.Hold) string {
	text := "since " + when(h.Since)
	if h.By != "" {
		text += " by " + printable(h.By)
	}
	if h.Generation != "" {
		text += ", rolled back to " + h.Generation
	}
	if h.Reason != "" {
		text += ": " + printable(h.Reason)
	}
	return text
}
