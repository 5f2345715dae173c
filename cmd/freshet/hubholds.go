package main

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

func newHubHoldCommand() *cobra.Command {
	var (
		c      hubClient
		hold   hubapi.Hold
		freeze bool
	)
	cmd := &cobra.Command{
		Use:   "hold REPO [ID]",
		Short: "Stop the publishes of an application or of a whole repository",
		Long: `Hold stops what has not begun yet: publishes of ID, and of the ids below it
(ID.Locale), can still be asked for, but wait until the hold is released; others
go first. With --freeze they are refused, and who asks is told the reason.
Without ID it is on all of the repository.

REPO can be a plain tree: it stays as it is, and what is pushed into it meanwhile
can be published when the hold is released.

Who has a token for all ids can still roll back and unpublish what is held.`,
		Example: `  # look at it before users get it
  freshet hub hold stable org.example.App --reason 'new permissions are reviewed'

  # nothing changes while the repository is copied
  freshet hub hold stable --freeze --reason 'we move to new disks until 18:00'

  freshet hub holds stable
  freshet hub release stable 7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if hold.Kind = hubapi.HoldWait; freeze {
				hold.Kind = hubapi.HoldFreeze
			}
			if hold.Reason == "" {
				return usageError(cmd, "--reason is needed: those who wait are told")
			}
			if len(args) > 1 {
				hold.App = args[1]
			}
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			placed, err := client.Hold(cmd.Context(), args[0], hold)
			if err != nil {
				return err
			}
			return c.answer(cmd, placed, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "hold %d; to end it: freshet hub release %s %d\n", placed.ID, args[0], placed.ID)
				return err
			})
		},
	}
	c.register(cmd, scopes(auth.ScopePublish))
	f := cmd.Flags()
	f.BoolVar(&freeze, "freeze", false, "refuse publishes instead of letting them wait")
	f.StringVar(&hold.Reason, "reason", "", "why, for those who wait and for the audit log")
	return cmd
}

func newHubHoldsCommand() *cobra.Command {
	var c hubClient
	cmd := &cobra.Command{
		Use:   "holds REPO",
		Short: "Show what may not be published now",
		Long: `Holds lists the holds of a repository: what is held or frozen, since when, by
whom and why.`,
		Example: `  freshet hub holds stable --hub https://hub.example.org --token-file token`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.Holds(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.answer(cmd, list, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				_, _ = fmt.Fprintf(w, "HOLD\tKIND\tID\tSINCE\tBY\tREASON\n") // Flush tells
				for _, hold := range list.Holds {
					id := hold.App
					if id == "" {
						id = "everything"
					}
					_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", hold.ID, hold.Kind, printable(id),
						hold.Time.UTC().Format(time.RFC3339), printable(hold.Actor), printable(hold.Reason))
				}
				return w.Flush()
			})
		},
	}
	c.register(cmd, scopes(auth.ScopeJobs))
	return cmd
}

func newHubReleaseCommand() *cobra.Command {
	var c hubClient
	cmd := &cobra.Command{
		Use:   "release REPO HOLD",
		Short: "End a hold, so that what waited is published",
		Long: `Release ends a hold by its number, which "freshet hub holds" shows. The publishes
that waited for it go on in the order in which they were asked for.`,
		Example: `  freshet hub release stable 7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || id < 1 {
				return usageError(cmd, "HOLD: want the number of a hold, got %q", args[1])
			}
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			return client.Release(cmd.Context(), args[0], id)
		},
	}
	c.register(cmd, scopes(auth.ScopePublish))
	cmd.Flags().Lookup("json").Hidden = true // there is nothing to print
	return cmd
}

func newHubAuditCommand() *cobra.Command {
	var (
		c      hubClient
		before int64
		limit  int
	)
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who did what",
		Long: `Audit shows the hub's audit log, newest first: builds, publishes, rollbacks,
holds, tokens, each with who did it, by the name in the token. Entries are kept for
90 days.

The token needs the scope "tokenmanagement" and an empty subject, as that which
revokes tokens.`,
		Example: `  freshet token create --dir /srv/hub --name admin --sub '' --scope tokenmanagement --out admin.token
  freshet hub audit --hub https://hub.example.org --token-file admin.token --limit 20`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if before < 0 || limit < 0 {
				return usageError(cmd, "--before and --limit want numbers above zero")
			}
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.Audit(cmd.Context(), before, limit)
			if err != nil {
				return err
			}
			return c.answer(cmd, list, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				_, _ = fmt.Fprintf(w, "ENTRY\tTIME\tBY\tACTION\tOBJECT\tDETAIL\n") // Flush tells
				for _, e := range list.Entries {
					_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.Time.UTC().Format(time.RFC3339), printable(e.Actor),
						e.Action, printable(e.Object), printable(e.Detail))
				}
				return w.Flush()
			})
		},
	}
	c.register(cmd, managing())
	f := cmd.Flags()
	f.Int64Var(&before, "before", 0, "only entries with a lower number")
	f.IntVar(&limit, "limit", 0, "at most so many (default 50)")
	return cmd
}
