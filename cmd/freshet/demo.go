package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"freshet/internal/node"
	"freshet/internal/node/demo"
)

// demoFlags are the flags of "freshet run --demo".
type demoFlags struct {
	demo, next bool
	dir        string
}

func (d *demoFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&d.demo, "demo", false, "run a hub and an edge with sample content, and print what to try")
	f.BoolVar(&d.next, "publish-next", false, "with --demo: publish the next version into the demonstration that runs in --dir")
	f.StringVar(&d.dir, "dir", "", "with --demo: folder to run in; it can be started again (default: a new temporary folder)")
}

func (d *demoFlags) run(cmd *cobra.Command, flags serveFlags) (err error) {
	if d.next {
		if d.dir == "" {
			return errors.New("run --demo --publish-next: needs --dir, the folder in which the demonstration runs")
		}
		return demo.PublishNext(cmd.Context(), d.dir, cmd.OutOrStdout())
	}
	if d.dir == "" {
		dir, err := os.MkdirTemp("", "freshet-demo-")
		if err != nil {
			return fmt.Errorf("make a folder for the demonstration: %w", err)
		}
		d.dir = dir
	}
	var cfg node.Config
	if err := flags.load(cmd, &cfg); err != nil {
		return err
	}
	if err := flags.file.Form(); err != nil {
		return err
	}
	if !cmd.Flags().Changed("log-level") {
		cfg.Log.Level = slog.LevelWarn // what to try would scroll away
	}
	logs, err := openLogs(cmd, cfg.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.Access.Close()) }()
	return demo.Run(cmd.Context(), d.dir, cfg, cmd.OutOrStdout(), logs)
}
