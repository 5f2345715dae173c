package main

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/mirrorlist"
	"freshet/internal/page"
)

// readSnapshot reads a snapshot for a command that shows something of it.
func readSnapshot(cmd *cobra.Command, name string) (*mirrorlist.Snapshot, error) {
	s, err := mirrorlist.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("director snapshot %s: %w", cmd.Name(), err)
	}
	return s, nil
}

func newSnapshotStatCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stat FILE",
		Short: "Count what is in a snapshot",
		Long: `Stat reads a snapshot as a director does, and tells what is in it: mirrors,
directories, repositories, files with checksums. What a director leaves out
because it makes no sense is told as well.`,
		Example: `  freshet director snapshot stat mirrorlist_cache.proto
  freshet director snapshot stat mirrorlist_cache.proto --json | jq .directories`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readSnapshot(cmd, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s.Stat())
			}
			if err := printStat(cmd.OutOrStdout(), s.Stat()); err != nil {
				return err
			}
			tellProblems(cmd.ErrOrStderr(), s.Problems())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStat(out io.Writer, s mirrorlist.Stat) error {
	schemes := make([]string, 0, len(s.Schemes))
	for _, scheme := range slices.Sorted(maps.Keys(s.Schemes)) {
		schemes = append(schemes, fmt.Sprint(s.Schemes[scheme], " ", printable(scheme)))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"made", time.Unix(int64(s.Time), 0).UTC().Format(time.RFC3339)},
		{"mirrors", fmt.Sprintf("%d: %d public, %d private, %d without directories; in %d countries", s.Hosts, s.PublicHosts, s.PrivateHosts,
			s.Hosts-s.PublicHosts-s.PrivateHosts, s.Countries)},
		{"URLs", fmt.Sprintf("%d: %s", s.URLs, strings.Join(schemes, ", "))},
		{"directories", fmt.Sprintf("%d with %d different sets of mirrors; %d without a mirror", s.Directories, s.MirrorSets, s.Without)},
		{"mirrors of one", fmt.Sprintf("%d at least, %d in the middle, %d at most", s.Fewest, s.Median, s.Most)},
		{"files", fmt.Sprintf("%d with %d versions", s.Files, s.Versions)},
		{"repositories", fmt.Sprintf("%d, %d of them without a directory; %d names disabled, %d redirected", s.Repositories, s.Lost, s.Disabled, s.Redirects)},
		{"preferences", fmt.Sprintf("of %d autonomous systems and %d netblocks", s.ASNs, s.Netblocks)},
	} {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", row[0], row[1]) // Flush tells
	}
	return w.Flush()
}

func newSnapshotDiffCommand() *cobra.Command {
	var (
		asJSON, exitCode bool
		limit            int
	)
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show how two snapshots differ",
		Long: `Diff compares two snapshots entry by entry: mirrors, URLs, repositories,
checksums, and of each directory the mirrors that have it in one of the two
alone. The order of entries and the time of the snapshots do not matter; the
order of a mirror's URLs does, as clients get the first that suits them.

It tells, for instance, whether "freshet director snapshot" and
generate-mirrorlist-cache make the same of a database.`,
		Example: `  freshet director snapshot diff old.proto new.proto
  freshet director snapshot diff old.proto new.proto --limit 0 --json | jq 'select(.table == "MirrorListCache") | .key'
  freshet director snapshot diff old.proto new.proto --exit-code && echo the same`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usageError(cmd, "--limit wants a number above zero, or 0 for no limit")
			}
			before, err := readSnapshot(cmd, args[0])
			if err != nil {
				return err
			}
			after, err := readSnapshot(cmd, args[1])
			if err != nil {
				return err
			}
			changes, out := mirrorlist.Diff(before, after), cmd.OutOrStdout()
			differ := false
			if asJSON {
				for c := range changes {
					differ = true
					if err := printJSON(out, c); err != nil {
						return err
					}
				}
			} else if differ, err = printChanges(out, changes, limit); err != nil {
				return err
			}
			if differ && exitCode {
				return fmt.Errorf("director snapshot diff: %s and %s differ", args[0], args[1])
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print a line of JSON for each change")
	f.BoolVar(&exitCode, "exit-code", false, "fail if they differ")
	f.IntVar(&limit, "limit", 20, "print at most so many changes of each table (0: all)")
	return cmd
}

// printChanges prints the changes of each table, and how many they are.
func printChanges(out io.Writer, changes iter.Seq[mirrorlist.Change], limit int) (differ bool, err error) {
	table, n := "", 0
	rest := func() {
		if limit > 0 && n > limit && err == nil {
			_, err = fmt.Fprintf(out, "  … and %d more\n", n-limit)
		}
	}
	for c := range changes {
		if c.Table != table {
			rest()
			table, n = c.Table, 0
			if _, err := fmt.Fprintf(out, "%s\n", table); err != nil {
				return true, err
			}
		}
		if n++; limit > 0 && n > limit {
			continue
		}
		if _, err := fmt.Fprintf(out, "  %s\n", changeText(c)); err != nil {
			return true, err
		}
	}
	rest()
	return table != "", err
}

// changeText is a change in one line: "+ key: new", "- key: old" or "~ key: old → new".
func changeText(c mirrorlist.Change) string {
	key := printable(c.Key)
	switch {
	case !c.InOld:
		return fmt.Sprintf("+ %s: %s", key, shortened(c.New))
	case !c.InNew:
		return fmt.Sprintf("- %s: %s", key, shortened(c.Old))
	}
	return fmt.Sprintf("~ %s: %s → %s", key, orDash(shortened(c.Old)), orDash(shortened(c.New)))
}

// shortened is a text that fits on a line with others.
func shortened(s string) string {
	const most = 120
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	return printable(s)
}

func newSnapshotShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE [NAME...]",
		Short: "Show who has a repository or a directory",
		Long: `Show prints the repositories of a snapshot, each with its directory and the
number of its mirrors. With names it prints the mirrors of those: a repository
with its architecture, such as epel-9+x86_64, or a directory, such as
pub/epel/9/Everything/x86_64.`,
		Example: `  freshet director snapshot show mirrorlist_cache.proto
  freshet director snapshot show mirrorlist_cache.proto epel-9+x86_64
  freshet director snapshot show mirrorlist_cache.proto pub/epel/9 --json | jq '.mirrors[].urls[0]'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readSnapshot(cmd, args[0])
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return showRepositories(cmd.OutOrStdout(), s, asJSON)
			}
			for _, name := range args[1:] {
				shown, err := showDirectory(s, name)
				if err != nil {
					return fmt.Errorf("director snapshot show: %s: %w", args[0], err)
				}
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), shown)
				} else {
					err = printDirectory(cmd.OutOrStdout(), shown)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each repository or directory")
	return cmd
}

// shownRepository is one in the output of "snapshot show --json".
type shownRepository struct {
	Repository string `json:"repository"`
	Directory  string `json:"directory"`
	Mirrors    int    `json:"mirrors"`
	Public     int    `json:"public"`
}

func showRepositories(out io.Writer, s *mirrorlist.Snapshot, asJSON bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !asJSON {
		_, _ = fmt.Fprintln(w, "REPOSITORY\tMIRRORS\tPUBLIC\tDIRECTORY") // Flush tells
	}
	for name, directory := range s.Repositories() {
		row := shownRepository{Repository: name, Directory: directory}
		if d, ok := s.Directory(directory); ok {
			row.Mirrors, row.Public = d.NumHosts(), len(d.Global())
		}
		if !asJSON {
			_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", printable(name), row.Mirrors, row.Public, printable(directory)) // Flush tells
		} else if err := printJSON(out, row); err != nil {
			return err
		}
	}
	return w.Flush()
}

// shownDirectory is one in the output of "snapshot show NAME --json".
type shownDirectory struct {
	Directory string        `json:"directory"`
	Subpath   string        `json:"subpath"`
	Mirrors   []shownMirror `json:"mirrors"`
}

type shownMirror struct {
	ID        int64    `json:"id"`
	Country   string   `json:"country"`
	Bandwidth int64    `json:"bandwidth"`
	Public    bool     `json:"public"`
	URLs      []string `json:"urls"` // with the subpath
}

// showDirectory finds a directory, or that of a repository. Mirrors with much bandwidth
// are first.
func showDirectory(s *mirrorlist.Snapshot, name string) (shownDirectory, error) {
	if repo, arch, ok := strings.Cut(name, "+"); ok {
		if directory, ok := s.RepositoryDirectory(repo, arch); ok {
			name = directory
		}
	}
	d, ok := s.Directory(strings.Trim(name, "/"))
	if !ok {
		return shownDirectory{}, fmt.Errorf("there is no repository (such as epel-9+x86_64) and no directory %q", name)
	}
	shown := shownDirectory{Directory: d.Name(), Subpath: d.Subpath()}
	for h, urls := range d.Hosts() {
		m := shownMirror{ID: s.HostID(h), Country: s.HostCountry(h), Bandwidth: s.Bandwidth(h), Public: d.IsGlobal(h)}
		for _, u := range urls {
			m.URLs = append(m.URLs, strings.TrimSuffix(s.URL(u)+"/"+d.Subpath(), "/")+"/")
		}
		shown.Mirrors = append(shown.Mirrors, m)
	}
	slices.SortFunc(shown.Mirrors, func(a, b shownMirror) int {
		return cmp.Or(cmp.Compare(b.Bandwidth, a.Bandwidth), cmp.Compare(a.ID, b.ID))
	})
	return shown, nil
}

func printDirectory(out io.Writer, d shownDirectory) error {
	if _, err := fmt.Fprintf(out, "%s: %s\n", printable(d.Directory), page.Plural(len(d.Mirrors), "mirror", "mirrors")); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tCOUNTRY\tMBIT/S\tFOR\tURLS") // Flush tells
	for _, m := range d.Mirrors {
		whom := "all"
		if !m.Public {
			whom = "its networks"
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\n", m.ID, orDash(printable(m.Country)), m.Bandwidth, whom, printable(strings.Join(m.URLs, " ")))
	}
	return w.Flush()
}
