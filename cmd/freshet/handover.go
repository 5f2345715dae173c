package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"freshet/internal/handover"
)

func newHandoverCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "handover PID",
		Short:   "Have a running process hand over to a new one: upgrade it, or change its settings, without a pause",
		GroupID: "setup",
		Long: `Handover tells a process that runs roles to start its program anew, in
the version that lies at its path now, and to hand its listening sockets over to
it. The new process reads the configuration anew. No connection is refused, and
what is being downloaded from a mirror goes on in the old process until it has
ended.

If the new process does not start, because its configuration is wrong for
instance, the old one goes on, and the command says why.

The command is for root and for the user that the process runs as. With the
units that "make install" brings, "systemctl reload" runs it.`,
		Example: `  # a newer program is installed, or the configuration has changed
  systemctl reload freshet-mirror

  # the same without systemd
  freshet handover "$(pidof freshet)"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			pid, err := strconv.Atoi(args[0])
			if err != nil || pid <= 0 {
				return usageError(cmd, "want the number of a process, got %q", args[0])
			}
			said, err := handover.Order(cmd.Context(), pid, func(text string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), text) })
			if err != nil {
				return fmt.Errorf("not handed over: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
			return err
		},
	}
}
