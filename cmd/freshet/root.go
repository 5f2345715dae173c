package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func newRoot(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "freshet",
		Short: "Carries free software from a finished build to the user's disk",
		Long: `Freshet carries free software from a finished build to the user's disk.

It is one binary with a role for each step of the road. A role can be used
alone, in front of or behind what you run today:

  hub       takes uploads, verifies, signs and publishes OSTree/Flatpak
            repositories and plain trees (rpm, deb, arch or any files)
  edge      caches a hub, or any web server, for its users
  mirror    holds whole copies of projects, and serves them
  director  tells clients which mirrors to download from

To see all of it work on this machine:

  freshet run --demo`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.AddGroup(
		&cobra.Group{ID: "roles", Title: "Roles:"},
		&cobra.Group{ID: "use", Title: "Using a hub:"},
		&cobra.Group{ID: "setup", Title: "Setting up:"},
	)
	root.AddCommand(
		newHubCommand(), newEdgeCommand(), newMirrorCommand(), newDirectorCommand(), newMirrorlistServerCommand(), newRunCommand(),
		newPushCommand(), newTokenCommand(),
		newConfigCommand(), newHandoverCommand(), newCompletionCommand(root), newManCommand(root), newVersionCommand(),
	)
	root.CompletionOptions.DisableDefaultCmd = true // ours has one page for all shells
	root.SetHelpCommandGroupID("setup")
	ownWords(root)
	registerCompletions(root)
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		GroupID: "setup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "freshet version", version())
			return err
		},
	}
}

// version is the module version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
