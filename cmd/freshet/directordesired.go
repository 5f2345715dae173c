package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/directorapi"
	"freshet/internal/config"
)

func newDirectorDesiredCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "desired",
		Short: "Say what mirrors carry, and see what they make of it",
		Long: `Desired says what a mirror is to carry: its projects, limits and public keys, in the
tables that a mirror's own file has. Each change is a version, which the director
signs for this mirror; the mirror follows it within seconds, and goes on with the last
good one while the director is away. What stands in the file of the box goes before.`,
		Example: `  # box7.toml:
  #   [mirror.limits]
  #   bandwidth = "200Mbit/s"
  #   [mirror.projects.epel]
  #   preset = "epel"
  #   releases = ["10"]
  freshet director desired set box7 --file box7.toml --note 'EPEL 10'
  freshet director desired list
  freshet director desired diff box7`,
	}
	cmd.AddCommand(newDesiredSetCommand(), newDesiredShowCommand(), newDesiredDiffCommand(), newDesiredHistoryCommand(), newDesiredListCommand())
	return cmd
}

func newDesiredSetCommand() *cobra.Command {
	var (
		flags  directorFlags
		file   string
		change directorapi.DesiredChange
	)
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Say what a mirror carries from now on",
		Long: `Set makes the file the next version of what is desired of the mirror. The director
checks it first as a mirror does. To take a change back, set what was before: "show
--version" prints it. --version gives the new version a higher number than the next
one, which mirrors need after a director has lost versions that they know.`,
		Example: `  freshet director desired set box7 --file box7.toml
  freshet director desired show box7 --version 3 | freshet director desired set box7 --file -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usageError(cmd, "--file is needed: the settings, in TOML")
			}
			text, err := readSettings(cmd, file)
			if err != nil {
				return err
			}
			change.Settings = string(text)
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			d, err := client.SetDesired(cmd.Context(), args[0], change)
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.answer(cmd, d, func(out io.Writer) error {
				if change.Check {
					_, err := fmt.Fprintln(out, "nothing is wrong with it")
					return err
				}
				_, err := fmt.Fprintf(out, "%s: version %d\n", d.Mirror, d.Version)
				return err
			})
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", `file with the settings, in TOML; "-": standard input`)
	f.StringVar(&change.Note, "note", "", "why, for the history")
	f.Int64Var(&change.Version, "version", 0, "the number of the new version (default: the next)")
	f.BoolVar(&change.Check, "dry-run", false, "change nothing, only say what is wrong with the file")
	return cmd
}

// readSettings reads a file of at most as much as can be desired.
func readSettings(cmd *cobra.Command, file string) ([]byte, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, directorapi.MaxDesired+1))
	if err == nil && len(text) > directorapi.MaxDesired {
		err = fmt.Errorf("--file %s: has more than %d bytes", file, directorapi.MaxDesired)
	}
	return text, err
}

func newDesiredShowCommand() *cobra.Command {
	var (
		flags   directorFlags
		version int64
	)
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Print what is desired of a mirror, as set takes it",
		Example: "  freshet director desired show box7 >box7.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			d, err := client.Desired(cmd.Context(), args[0], version)
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.answer(cmd, d, func(out io.Writer) error {
				_, err := io.WriteString(out, d.Settings)
				return err
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().Int64Var(&version, "version", 0, "an older version (default: the newest)")
	return cmd
}

func newDesiredDiffCommand() *cobra.Command {
	var (
		flags    directorFlags
		from, to int64
	)
	cmd := &cobra.Command{
		Use:   "diff NAME",
		Short: "Print the lines in which two versions differ",
		Long: `Diff prints the lines that the newer of two versions has not any more, after "-", and
those that it has besides, after "+". Without --from, the older one is the one before.`,
		Example: "  freshet director desired diff box7 --from 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			newer, err := client.Desired(cmd.Context(), args[0], to)
			if err != nil {
				return flags.failed(cmd, err)
			}
			if from == 0 {
				list, err := client.DesiredHistory(cmd.Context(), args[0])
				if err != nil {
					return flags.failed(cmd, err)
				}
				for _, v := range list.Versions {
					if v.Version < newer.Version {
						from = v.Version
						break
					}
				}
			}
			var older directorapi.Desired
			if from > 0 {
				if older, err = client.Desired(cmd.Context(), args[0], from); err != nil {
					return flags.failed(cmd, err)
				}
			}
			return flags.answer(cmd, []directorapi.Desired{older, newer}, func(out io.Writer) error {
				return printLines(out, strings.SplitAfter(older.Settings, "\n"), strings.SplitAfter(newer.Settings, "\n"))
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().Int64Var(&from, "from", 0, "the older version (default: the one before)")
	cmd.Flags().Int64Var(&to, "to", 0, "the newer version (default: the newest)")
	return cmd
}

// printLines prints what leads from a to b, by the longest lines that both have in the same order.
func printLines(out io.Writer, a, b []string) error {
	// lengths[i][j] is how many lines a[i:] and b[j:] have in common.
	lengths := make([][]int32, len(a)+1)
	for i := range lengths {
		lengths[i] = make([]int32, len(b)+1)
	}
	for i, before := range slices.Backward(a) {
		for j, after := range slices.Backward(b) {
			if lengths[i][j] = max(lengths[i+1][j], lengths[i][j+1]); before == after {
				lengths[i][j] = lengths[i+1][j+1] + 1
			}
		}
	}
	var text strings.Builder
	line := func(sign, s string) {
		if s != "" {
			text.WriteString(sign + strings.TrimSuffix(s, "\n") + "\n")
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && lengths[i+1][j] >= lengths[i][j+1]:
			line("-", a[i])
			i++
		default:
			line("+", b[j])
			j++
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func newDesiredHistoryCommand() *cobra.Command {
	var flags directorFlags
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "List the versions of what is desired of a mirror, newest first",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.DesiredHistory(cmd.Context(), args[0])
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.answer(cmd, list, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				_, _ = fmt.Fprintln(w, "VERSION\tMADE\tBY\tNOTE") // Flush tells
				for _, v := range list.Versions {
					_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", v.Version, v.Made.Format(time.RFC3339), printable(v.By), printable(v.Note))
				}
				return w.Flush()
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func newDesiredListCommand() *cobra.Command {
	var flags directorFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what mirrors work by, and why they do not take what is desired",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.DesiredList(cmd.Context())
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.answer(cmd, list, func(out io.Writer) error { return printDesired(out, list) })
		},
	}
	flags.register(cmd)
	return cmd
}

func printDesired(out io.Writer, list directorapi.DesiredList) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "MIRROR\tDESIRED\tWORKS BY\tHEARD\tCLAIM\tSTATE") // Flush tells
	for _, m := range list.Mirrors {
		heard, state := "never", "up to date"
		if !m.Heard.IsZero() {
			heard = m.Heard.Format(time.RFC3339)
		}
		switch {
		case m.Applied.Refused > 0:
			state = fmt.Sprintf("refuses %d: %s", m.Applied.Refused, printable(m.Applied.Why))
		case m.Version == 0:
			state = "nothing is desired yet"
		case m.Applied.Version > m.Version:
			state = fmt.Sprintf("knows %d: freshet director desired set --version %d", m.Applied.Version, m.Applied.Version+1)
		case m.Applied.Version < m.Version:
			state = "behind"
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", m.Mirror, m.Version, m.Applied.Version, heard, cmp.Or(m.Claim, "-"), state)
	}
	return w.Flush()
}

// defaultClaim is how long a claim is good.
const defaultClaim = 24 * time.Hour

func newMirrorClaimCommand() *cobra.Command {
	var (
		flags   directorFlags
		expires string
		via     string
	)
	cmd := &cobra.Command{
		Use:   "claim NAME",
		Short: "Make the claim by which a fresh box becomes this mirror",
		Long: `Claim prints one word. With it, "freshet mirror setup" makes a fresh box this mirror of
the catalogue: it gets a token, pins the key that signs desired states, and follows
them. The word is a secret, and good once; the claim before, if there was one, is good no
longer. The box reaches the director's admin listener by the URL that this command uses, or that of
--via.`,
		Example: `  freshet director mirror claim box7 --via https://director.example:9600
  # on the box
  freshet mirror setup fc1_…`,
		RunE: func(cmd *cobra.Command, args []string) error {
			good, err := config.ParseDuration(expires)
			if err != nil || good < time.Minute {
				return usageError(cmd, "--expires: want how long the claim is good, \"24h\", got %q", expires)
			}
			to, err := flags.connect(cmd)
			if err != nil {
				return err
			}
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			made, err := client.Claim(cmd.Context(), args[0], good)
			if err != nil {
				return flags.failed(cmd, err)
			}
			claim := directorapi.Claim{URL: cmp.Or(via, to.base), Mirror: made.Mirror, Secret: made.Secret, Key: made.Key}
			if _, err := directorapi.ParseClaim(claim.String()); err != nil {
				return usageError(cmd, "--via: %w", err)
			}
			return flags.answer(cmd, map[string]any{"claim": claim.String(), "mirror": made.Mirror, "expires": made.Expires, "url": claim.URL}, func(out io.Writer) error {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "good until %s, at %s\n", made.Expires.Format(time.RFC3339), claim.URL) // besides what is asked for
				_, err := fmt.Fprintln(out, claim)
				return err
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&expires, "expires", config.FormatDuration(defaultClaim), "how long the claim is good, 30 days at most")
	cmd.Flags().StringVar(&via, "via", "", "the director's admin listener as the box reaches it (default: as this command does)")
	return cmd
}
