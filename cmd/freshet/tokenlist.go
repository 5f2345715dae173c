package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
)

func newTokenListCommand() *cobra.Command {
	var c hubClient
	cmd := &cobra.Command{
		Use:   "list ID...",
		Short: "Show when tokens were used last, and whether they were revoked",
		Long: `List asks the hub about tokens by their ids (jti), which "freshet token show"
prints. A hub knows of a token when it was used or revoked; it keeps no list of
those it has signed.

The hub answers a token with an empty sub and the scope "tokenmanagement":

  freshet token create --dir /srv/hub --name admin --sub "" --scope tokenmanagement`,
		Example: `  freshet token list 4T6XJ5UTTY --hub https://hub.example.org --token-file admin.token`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.Tokens(cmd.Context(), args)
			if err != nil {
				return err
			}
			return c.answer(cmd, list, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				_, _ = fmt.Fprintf(w, "TOKEN\tEXPIRES\tLAST USED\tREVOKED\n") // Flush tells
				for _, token := range list {
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(token.TokenID), stamp(&token.Expires), stamp(token.LastUsed), stamp(token.RevokedAt))
				}
				return w.Flush()
			})
		},
	}
	c.register(cmd, managing())
	return cmd
}

func stamp(t *hubapi.Timestamp) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func newTokenRevokeCommand() *cobra.Command {
	var c hubClient
	cmd := &cobra.Command{
		Use:   "revoke ID...",
		Short: "Take tokens back, at once and for good",
		Long: `Revoke takes tokens back by their ids (jti), which "freshet token show" prints.
With a token go those that were made from it. A revoked id stays revoked, whether
the hub has ever seen the token or not.

It needs what "freshet token list" needs.`,
		Example: `  freshet token show --dir /srv/hub <leaked.token
  freshet token revoke 4T6XJ5UTTY --hub https://hub.example.org --token-file admin.token`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			return client.RevokeTokens(cmd.Context(), args)
		},
	}
	c.register(cmd, managing())
	cmd.Flags().Lookup("json").Hidden = true // there is nothing to print
	return cmd
}
