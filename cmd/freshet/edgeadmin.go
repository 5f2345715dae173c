package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"freshet/api/edgeapi"
	"freshet/internal/control"
	"freshet/internal/edge"
)

// edgeTokenVariable is the environment variable with the token for an edge.
const edgeTokenVariable = "FRESHET_EDGE_TOKEN" //nolint:gosec // G101: the name of a variable, not a secret

// edgeTokenPrefix begins the tokens of an edge's clients.
const edgeTokenPrefix = "fe_"

// edgeFlags say how to reach the admin listener of an edge.
type edgeFlags struct{ adminFlags }

func (e *edgeFlags) register(cmd *cobra.Command) {
	e.role, e.tokenVariable = "edge", edgeTokenVariable
	e.adminFlags.register(cmd)
}

// client returns a client for the edge.
func (e *edgeFlags) client(cmd *cobra.Command) (*edgeapi.Client, error) {
	to, err := e.connect(cmd)
	return &edgeapi.Client{Base: to.base, Token: to.token, HTTP: to.http}, err
}

func newEdgePurgeCommand() *cobra.Command {
	var (
		flags edgeFlags
		req   edgeapi.PurgeRequest
	)
	cmd := &cobra.Command{
		Use:   "purge [URL...]",
		Short: "Have a running edge ask again for what changed",
		Long: `Purge makes stored answers stale: the edge asks for them again before their
next use, and goes on using them while the origin cannot be asked. With --hard
it never uses them again.

URL is a path with its query, or a whole URL. Everything that is named goes in
one step, in force at once, and on the disk when the command ends. It costs
the edge the same for one answer as for a million.`,
		Example: `  freshet edge purge --token-file t /repo/stable/summary.idx
  freshet edge purge --token-file t --tag app-org.example.App --tag nightly
  freshet edge purge --token-file t --prefix /pool/main/ --dry-run
  freshet edge purge --token-file t --site dl --everything --hard`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.URLs = args
			if len(args)+len(req.Paths)+len(req.Prefixes)+len(req.Tags)+len(req.Sets) == 0 && !req.Everything {
				return usageError(cmd, "nothing to purge: give URLs, --path, --prefix, --tag, --set or --everything")
			}
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			result, err := client.Purge(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("purge: %w", flags.atAdmin(err))
			}
			return printPurged(cmd, result)
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&req.Site, "site", "", `site by its name, "default" for the one without (default: all)`)
	f.StringArrayVar(&req.Paths, "path", nil, "path, with whatever query (repeatable)")
	f.StringArrayVar(&req.Prefixes, "prefix", nil, "begin of paths (repeatable)")
	f.StringArrayVar(&req.Tags, "tag", nil, "tag that the origin gave by Surrogate-Key, Xkey or Cache-Tag (repeatable)")
	f.StringArrayVar(&req.Sets, "set", nil, "path of one of the files that change together (repeatable)")
	f.BoolVar(&req.Everything, "everything", false, "all that is stored")
	f.BoolVar(&req.Hard, "hard", false, "never use it again, also while the origin is away")
	f.BoolVar(&req.DryRun, "dry-run", false, "change nothing, print what would be purged")
	f.BoolVar(&req.Count, "count", false, "count what is purged, which takes time in a large store")
	return cmd
}

func printPurged(cmd *cobra.Command, r edgeapi.PurgeResult) error {
	out := cmd.OutOrStdout()
	line := "purged (" + r.Mode + ")"
	if r.Mode == "dry-run" {
		line = "would purge"
	}
	if r.Entries >= 0 {
		line += fmt.Sprintf(" %d stored answers", r.Entries)
	}
	_, err := fmt.Fprintf(out, "%s on %s\n", line, strings.Join(r.Sites, ", "))
	for _, key := range r.Sample {
		_, lerr := fmt.Fprintln(out, " ", key)
		err = errors.Join(err, lerr)
	}
	if more := r.Entries - len(r.Sample); len(r.Sample) > 0 && more > 0 {
		_, lerr := fmt.Fprintf(out, "  and %d more\n", more)
		err = errors.Join(err, lerr)
	}
	return err
}

func newEdgeTokenCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token with which a client may purge and warm",
		Long: `Token makes a random token and prints what goes into the edge's
configuration, which holds its hash only. The token itself is written to the
file --out, or shown (on standard error).`,
		Example: "  freshet edge token ci --out ci.token >>freshet.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			token, hash := control.NewToken(edgeTokenPrefix)
			cfg := edge.ControlConfig{Clients: map[string]edge.ClientConfig{args[0]: {Token: hash}}}
			if problems := cfg.Validate(); len(problems) > 0 {
				return usageError(cmd, "NAME: %s", problems[0].Message)
			}
			return printToken(cmd, "edge", args[0], token, hash, []string{"purge", "warm", "read"}, out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "write the token to this file, which only you can read and which must not be there yet")
	return cmd
}
