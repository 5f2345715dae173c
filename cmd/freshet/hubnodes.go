package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

// errBehind ends "hub nodes --past" while a node lacks the event.
var errBehind = errors.New("not every node has applied it")

func newHubNodesCommand() *cobra.Command {
	var (
		c      hubClient
		past   int64
		within time.Duration
	)
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "Show how far the edges have applied a hub's events",
		Long: `Nodes asks a hub which edges report to it, and up to which event each has
applied the log. With --past it fails while one lacks that event; serials are
what "freshet push" prints.

Edges report when they have a token of the hub with the scope "node"
(hub-token-file). Nodes are forgotten 90 days after their last report.`,
		Example: `  freshet token create --dir /srv/hub --name edges --scope node --out edges.token
  freshet hub nodes --hub https://hub.example.org --token-file edges.token --past 1234`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if past < 0 {
				return usageError(cmd, "--past: want a serial, got %d", past)
			}
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.Nodes(cmd.Context(), past)
			if err != nil {
				return fmt.Errorf("hub nodes: %w", err)
			}
			err = c.answer(cmd, list, func(out io.Writer) error { return printNodes(out, list) })
			return errors.Join(err, behind(list, past, within))
		},
	}
	c.register(cmd, tokenNeed{scopes: []auth.Scope{auth.ScopeNode, auth.ScopeJobs}, anyOf: true})
	f := cmd.Flags()
	f.Int64Var(&past, "past", 0, "fail unless every node has applied the event of this serial")
	f.DurationVar(&within, "seen-within", 0, "leave out of --past the nodes that have not reported for so long (default: none)")
	return cmd
}

// behind is an error while a node lacks the event.
func behind(list hubapi.NodeList, past int64, within time.Duration) error {
	if past == 0 {
		return nil
	}
	n := 0
	for _, node := range list.Nodes {
		if !node.Past && (within == 0 || time.Since(node.Seen) < within) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("event %d: %w: %d of %d", past, errBehind, n, len(list.Nodes))
}

func printNodes(out io.Writer, list hubapi.NodeList) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "NODE\tSITE\tSERIAL\tOF\tSEEN\tPAST\n") // Flush tells
	for _, node := range list.Nodes {
		past, serial := "no", fmt.Sprint(node.Serial)
		if node.Past {
			past = "yes"
		}
		if node.Log != list.Log {
			serial = "another log"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", printable(node.Name), printable(node.Site), serial, list.Head,
			node.Seen.UTC().Format(time.RFC3339), past)
	}
	return w.Flush()
}

// printable takes control characters out of what a node has said.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '�'
		}
		return r
	}, s)
}
