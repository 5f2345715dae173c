package main

import "github.com/spf13/cobra"

func newEdgeWarmCommand() *cobra.Command { return &cobra.Command{Use: "warm URL|REF...", RunE: func(*cobra.Command, []string) error { return nil }} }
