package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/directorapi"
	"freshet/internal/page"
)

func newMirrorScanCommand() *cobra.Command {
	var (
		flags  directorFlags
		show   bool
		reason string
	)
	cmd := &cobra.Command{
		Use:   "scan [MIRROR] [PROJECT]",
		Short: "Find out anew what a mirror has, or see how that went",
		Long: `Scan has a running director find out soon what a mirror has, of one project or of
all that it carries, and does not wait for that. With --show, and without a mirror,
it prints what is known of the scans so far: when the last one that succeeded was,
why one failed since, by one word and in full, and what one that counts could not
look at.`,
		Example: `  freshet director mirror scan uni fedora
  freshet director mirror scan --show uni
  freshet director mirror scan`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			args = append(args, "", "")
			mirror, project := args[0], args[1]
			if mirror != "" && !show {
				if err := client.Scan(cmd.Context(), directorapi.ScanRequest{Mirror: mirror, Project: project, Reason: reason}); err != nil {
					return flags.failed(cmd, err)
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), mirror, "is scanned soon; see freshet director mirror scan --show", mirror)
				return err
			}
			list, err := client.Scans(cmd.Context(), mirror, project)
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.answer(cmd, list, func(out io.Writer) error { return printScans(out, list.Scans) })
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&show, "show", false, "scan nothing, print how it went")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the status")
	return cmd
}

func printScans(out io.Writer, scans []directorapi.ScanStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "MIRROR\tPROJECT\tHOW\tGOOD\tFILES\tUSED\tFAILED\tREMARK") // Flush tells
	for _, s := range scans {
		used, failed := "no", ""
		if s.Used {
			used = "yes"
		}
		if s.Error != "" {
			failed = fmt.Sprintf("%s (%s): %s: %s", when(s.Failed), page.Plural(s.Failures, "time", "times"), cmp.Or(s.Cause, "other"), printable(s.Error))
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", cmp.Or(s.Mirror, "(origin)"), s.Project,
			cmp.Or(string(s.How), "none"), when(s.Good), s.Files, used, failed, printable(s.Remark))
	}
	return w.Flush()
}

// when is a time as tables have it.
func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func newMirrorWhyCommand() *cobra.Command {
	var (
		flags directorFlags
		query directorapi.WhyQuery
	)
	cmd := &cobra.Command{
		Use:   "why PATH",
		Short: "Explain which mirror a client gets for a file",
		Long: `Why asks a running director how it answers a client who wants a file, and prints
each mirror with what speaks for or against it: how near it is, how large its share
of such requests is, or the one reason why it is not used.`,
		Example: `  freshet director mirror why /fedora/40/os/repodata/repomd.xml --client 192.0.2.7
  freshet director mirror why /fedora/40/iso/disc.iso --client 2001:db8::7 --mirror uni`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			query.Path = args[0]
			why, err := client.Why(cmd.Context(), query)
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.answer(cmd, why, func(out io.Writer) error { return printWhy(out, why) })
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&query.Client, "client", "", "address of the client (default: yours)")
	f.StringVar(&query.Mirror, "mirror", "", "the mirror that it is about (default: all)")
	return cmd
}

func printWhy(out io.Writer, why directorapi.Why) error {
	place := cmp.Or(why.Client.Country, "country unknown")
	if why.Client.ASN != 0 {
		place += fmt.Sprintf(", AS%d", why.Client.ASN)
	}
	_, err := fmt.Fprintf(out, "%s for %s (%s): %d %s %s\n\n", printable(why.Path), why.Client.Address, place, why.Status, why.Reason, printable(why.Location))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "MIRROR\tTIER\tSHARE\tKM\tWHY") // Flush tells
	for _, m := range why.Mirrors {
		share, distance := "", ""
		var because []string
		if m.Excluded == "" {
			share = fmt.Sprintf("%.1f%%", 100*m.Score)
		}
		if m.Distance >= 0 {
			distance = fmt.Sprintf("%.0f", m.Distance)
		}
		for _, reason := range [...]string{m.Excluded, printable(m.Detail)} {
			if reason != "" {
				because = append(because, reason)
			}
		}
		why := strings.Join(because, ": ")
		if !m.Since.IsZero() {
			why += " (since " + when(m.Since) + ")"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Mirror, m.Tier, share, distance, why)
	}
	return errors.Join(err, w.Flush())
}
