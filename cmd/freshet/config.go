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
	cmd.AddCommand(newConfigDefaultCommand(), newConfigCheckCommand())
	return cmd
}

func newConfigDefaultCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "default",
		Short: "Print a configuration file with every key, its default and its meaning",
		Long: `Default prints a configuration file with every key, its default and its
meaning. Everything in it is a comment: take away the # before the tables and
keys you want.`,
		Example: `  freshet config default >freshet.toml
  $EDITOR freshet.toml
  freshet config check freshet.toml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := node.Settings()
			if err != nil {
				return err
			}
			return config.WriteDefault(cmd.OutOrStdout(), list)
		},
	}
}

func newConfigCheckCommand() *cobra.Command {
	var noFiles bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Report every problem of a configuration file, with line and key",
		Long: `Check reports everything because of which "freshet run" would refuse a
configuration file, a line for each: FILE:LINE: KEY: what is wrong. It looks
whether the key files that are named are there and readable by you; it opens no
port and changes nothing.`,
		Example: `  freshet config check /etc/freshet.toml

  # on another machine than the one it is for
  freshet config check --no-files freshet.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var cfg node.Config
			if err := checkFile(args[0], &cfg, noFiles); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, roles: %s\n", args[0], cfg.RoleNames())
			return err
		},
	}
	cmd.Flags().BoolVar(&noFiles, "no-files", false, "do not look for the key files that are named")
	return cmd
}

func checkFile(path string, cfg *node.Config, noFiles bool) error {
	if noFiles {
		return config.Load(path, cfg)
	}
	file, err := config.Read(path, cfg)
	if err != nil {
		return err
	}
	return file.Check(*cfg)
}
