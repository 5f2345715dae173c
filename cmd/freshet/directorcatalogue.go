package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/catalogue"
	"freshet/internal/director/orders"
	"freshet/internal/page"
)

func newDirectorCatalogueCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "catalogue",
		Short: "Export, import and look back at the catalogue of mirrors",
		Long: `Catalogue is about all projects, sites and mirrors together. A director keeps them
in its database, or follows those of another director or of a file.`,
	}
	cmd.AddCommand(newCatalogueExportCommand(), newCatalogueImportCommand(), newCatalogueHistoryCommand(), newCatalogueCheckCommand())
	return cmd
}

func newCatalogueExportCommand() *cobra.Command {
	var (
		flags catalogueFlags
		out   string
	)
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the whole catalogue in JSON",
		Long: `Export prints the whole catalogue in JSON, with the contacts of sites and the hashes
of tokens. Import takes it back, and other directors can follow the file.`,
		Example: `  freshet director catalogue export --out mirrors.json
  freshet director --catalogue mirrors.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			backend, err := flags.backend(cmd)
			if err != nil {
				return err
			}
			c, err := backend.Catalogue(cmd.Context())
			if err != nil {
				return flags.failed(cmd, err)
			}
			text, err := catalogue.Format(c)
			if err != nil {
				return err
			}
			if out != "" {
				return os.WriteFile(out, text, 0o600)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "write it to this file, which only you can read")
	return cmd
}

func newCatalogueCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Tell all that is wrong with a catalogue in a file",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := catalogue.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("director catalogue check: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s, %s\n", args[0], page.Plural(len(c.Projects), "project", "projects"),
				page.Plural(len(c.Sites), "site", "sites"), page.Plural(len(c.Mirrors), "mirror", "mirrors"))
			return err
		},
	}
}

func newCatalogueHistoryCommand() *cobra.Command {
	var (
		flags directorFlags
		query directorapi.HistoryQuery
		items string
	)
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Print who changed what, newest first",
		Example: `  freshet director catalogue history
  freshet director catalogue history --kind mirrors --name uni`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			query.Items = directorapi.Items(items)
			h, err := client.History(cmd.Context(), query)
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.answer(cmd, h, func(out io.Writer) error { return printHistory(out, h) })
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&items, "kind", "", `"projects", "sites" or "mirrors" (default: all)`)
	f.StringVar(&query.Name, "name", "", "name of what was changed (default: all)")
	f.Int64Var(&query.Before, "before", 0, "only what is older than this serial")
	f.IntVar(&query.Limit, "limit", 20, "how many changes at most")
	return cmd
}

func printHistory(out io.Writer, h directorapi.History) error {
	for _, e := range h.Entries {
		note := ""
		if e.Note != "" {
			note = ": " + printable(e.Note)
		}
		if _, err := fmt.Fprintf(out, "%d  %s  %s%s\n", e.Serial, when(e.Time), printable(e.Actor), note); err != nil {
			return err
		}
		for _, item := range e.Items {
			keys := strings.Join(item.Keys, ", ")
			if keys != "" {
				keys = ": " + keys
			}
			if _, err := fmt.Fprintf(out, "   %s %s%s\n", item.Action, itemName(item), keys); err != nil {
				return err
			}
		}
	}
	return nil
}

func newDirectorTokenCommand() *cobra.Command {
	var (
		out   string
		allow []string
	)
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token with which a client may order something of a director",
		Long: `Token makes a random token and prints what goes into the director's
configuration, which holds its hash only. The token itself is written to the
file --out, or shown (on standard error). Mirrors have tokens of another kind: see
"freshet director mirror token".`,
		Example: `  freshet director token ops --out ops.token >>freshet.toml
  freshet director token edges --allow report --out edges.token >>freshet.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			token, hash := control.NewToken(directorTokenPrefix)
			cfg := orders.Config{Clients: map[string]orders.ClientConfig{args[0]: {Token: hash, Allow: allow}}}
			if problems := cfg.Validate(); len(problems) > 0 {
				return usageError(cmd, "%s", problems[0].Message)
			}
			return printToken(cmd, "director", args[0], token, hash, allow, out)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "out", "o", "", "write the token to this file, which only you can read and which must not be there yet")
	f.StringSliceVar(&allow, "allow", []string{"read", "write", "push", "report"}, "what the client may do")
	return cmd
}
