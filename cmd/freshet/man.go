package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func writeManPages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder for manual pages: %w", err)
	}
	root.DisableAutoGenTag = true
	if err := doc.GenManTree(root, &doc.GenManHeader{Title: "FRESHET", Section: "1", Source: "freshet"}, dir); err != nil {
		return fmt.Errorf("write manual pages to %s: %w", dir, err)
	}
	return nil
}
