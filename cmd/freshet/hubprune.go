package main

import (
	"github.com/spf13/cobra"

	"freshet/api/hubapi"
)

func newHubPruneCommand() *cobra.Command {
	var (
		c       hubClient
		request hubapi.PruneRequest
	)
	cmd := &cobra.Command{
		Use:   "prune REPO",
		Short: "Remove what a repository does not need any more",
		Args:  cobra.ExactArgs(1),
		Long: `Prune removes the commits that the rules in [hub.repos.REPO.prune] do not keep, and
what only they needed, and waits until that is done. The hub goes on publishing
meanwhile. What unpublished builds need stays, and everything stays for a grace
time after nothing needed it any more.

It costs what was published and removed since the last prune; the first one, and
--full, look at the whole repository. Commits that are gone cannot be rolled back
to. --dry-run tells what would go, without the grace.

The token needs the scope "tokenmanagement", of whatever sub and repository.`,
		Example: `  freshet hub prune stable --dry-run --hub https://hub.example.org --token-file token
  freshet hub prune stable --json | jq .results`,
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Repo = args[0]
			return c.move(cmd, func(client *hubapi.Client) (hubapi.Job, error) {
				return client.Prune(cmd.Context(), request)
			})
		},
	}
	c.register(cmd, managing())
	f := cmd.Flags()
	f.BoolVar(&request.DryRun, "dry-run", false, "tell what would be removed")
	f.BoolVar(&request.Full, "full", false, "look for objects that nothing ever needed, too")
	return cmd
}
