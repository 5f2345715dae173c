package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newManCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages of all commands into a folder",
		GroupID: "setup",
		Example: "  freshet man /usr/local/share/man/man1",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make folder for manual pages: %w", err)
			}
			return writeManPages(root, args[0])
		},
	}
}

// writeManPages writes the pages of cmd and of the commands below it into dir.
// They depend on the commands alone, and carry no date.
func writeManPages(cmd *cobra.Command, dir string) error {
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := writeManPages(sub, dir); err != nil {
			return err
		}
	}
	cmd.DisableAutoGenTag = true
	cmd.Long = strings.ReplaceAll(cmd.Long, "\n  ", "\n    ") // indented lines stay as they are in Markdown
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	header := doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Date: new(time.Time), Source: "freshet", Manual: "Freshet"}
	var page bytes.Buffer
	if err := doc.GenMan(cmd, &header, &page); err != nil {
		return fmt.Errorf("make manual page of %s: %w", name, err)
	}
	undated := bytes.Replace(page.Bytes(), []byte(time.Time{}.Format(`"Jan 2006"`)), []byte(`""`), 1)
	if err := os.WriteFile(filepath.Join(dir, name+".1"), undated, 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	return nil
}
