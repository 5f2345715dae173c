package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"freshet/internal/config"
	"freshet/internal/node"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Print a commented configuration, or check one",
		GroupID: "setup",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "default",
		Short: "Print a configuration file with every key, its default and its meaning",
		Example: `  freshet config default >freshet.toml
  freshet config check freshet.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := node.Settings()
			if err != nil {
				return err
			}
			return config.WriteDefault(cmd.OutOrStdout(), list)
		},
	}, &cobra.Command{
		Use:   "check FILE",
		Short: "Report every problem of a configuration file, with line and key",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var cfg node.Config
			if err := config.Load(args[0], &cfg); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, roles: %s\n", args[0], cfg.RoleNames())
			return err
		},
	})
	return cmd
}

func newManCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages of all commands into a folder",
		GroupID: "setup",
		Example: "  freshet man /usr/local/share/man/man1",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return writeManPages(root, args[0])
		},
	}
}
