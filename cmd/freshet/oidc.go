package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/api/hubapi"
	"freshet/internal/push"
)

// oidcFlags say which ID token is exchanged for a token of the hub.
type oidcFlags struct {
	on                        bool
	file, audience, publisher string
}

func (o *oidcFlags) register(f *pflag.FlagSet) {
	f.StringVar(&o.file, "oidc-token-file", "", "file with the ID token; default: that of the environment")
	f.StringVar(&o.audience, "oidc-audience", "", "for whom the ID token is made (default: the hub's URL)")
	f.StringVar(&o.publisher, "oidc-publisher", "", "which of the hub's trusted publishers to be, where several match")
}

// wanted tells whether an ID token is to be used.
func (o *oidcFlags) wanted() bool { return o.on || o.file != "" }

// exchange gets a token for a repository or tree, or for all of the publisher's
// when repo is empty.
func (o *oidcFlags) exchange(ctx context.Context, client *hubapi.Client, repo string) (hubapi.ExchangedToken, error) {
	token, err := push.IDToken(ctx, o.file, cmp.Or(o.audience, client.Base), os.Getenv)
	if err != nil {
		return hubapi.ExchangedToken{}, err
	}
	return client.ExchangeToken(ctx, hubapi.ExchangeRequest{Token: token, Repo: repo, Publisher: o.publisher})
}

func newTokenExchangeCommand() *cobra.Command {
	var (
		id        oidcFlags
		hub, repo string
		out       string
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "exchange",
		Short: "Get a short token of a hub for the ID token of a CI's job",
		Long: `Exchange gives the ID token of a CI's job to a hub that trusts it, and prints the
token of the hub that it gets: for several pushes, or for flat-manager-client.
"freshet push --oidc" does the same by itself.

On GitHub the job asks for its ID token ("permissions: id-token: write"), elsewhere
it stands in ` + push.IDTokenVariable + ` or in --oidc-token-file.`,
		Example: `  # in a job: several commands with one token
  export REPO_TOKEN=$(freshet token exchange --hub https://hub.example.org)
  flat-manager-client create https://hub.example.org stable

  # which repositories may this job push to?
  freshet token exchange --hub https://hub.example.org --json | jq .repos`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url := cmp.Or(hub, os.Getenv("FRESHET_HUB"))
			if !isHubURL(url) {
				return usageError(cmd, "--hub wants a URL like https://hub.example.org, got %q", url)
			}
			client := &hubapi.Client{Base: strings.TrimSuffix(url, "/")}
			answer, err := id.exchange(cmd.Context(), client, repo)
			if err != nil {
				return fmt.Errorf("token exchange: %w", err)
			}
			if out != "" {
				if err := writeNewFile(out, []byte(answer.Token+"\n")); err != nil {
					return fmt.Errorf("token exchange: %w", err)
				}
				answer.Token = ""
			}
			switch {
			case asJSON:
				return printJSON(cmd.OutOrStdout(), answer)
			case out != "":
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: good until %s\n", out, answer.Expires.Format(time.RFC3339))
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer.Token)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&hub, "hub", "", "URL of the hub (default $FRESHET_HUB)")
	f.StringVar(&repo, "repo", "", "repository or tree that the token is for (default: all that the job may push to)")
	id.register(f)
	f.StringVarP(&out, "out", "o", "", "write it to this file, which only you can read and which must not be there yet")
	f.BoolVar(&asJSON, "json", false, "print the token and what it allows in JSON")
	return cmd
}
