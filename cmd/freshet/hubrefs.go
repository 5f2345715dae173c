package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"freshet/internal/glob"
	"freshet/internal/hub/inspect"
	"freshet/internal/ostree"
	"freshet/internal/page"
)

func newHubRefsCommand() *cobra.Command {
	var from repositoryFlags
	cmd := &cobra.Command{
		Use:   "refs REPO [PATTERN...]",
		Short: "Show the refs of a repository, with sizes",
		Long: `Refs lists the refs of a repository: the commit that each points at, when that was
made, what it takes on a user's disk and to download, and what is special about it.
PATTERN chooses among them: "*" stands for any characters, slashes too, and an id
for all refs of it. Quote it, or the shell takes it for files.` + repositoryHelp,
		Example: `  freshet hub refs stable --dir /srv/hub
  freshet hub refs https://dl.example.org/repo/stable org.example.App
  freshet hub refs ./repo 'app/*/x86_64/*' --json | jq '.[] | select(."end-of-life") | .ref'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := from.open(cmd, args[0])
			if err != nil {
				return err
			}
			refs, err := repo.Refs()
			if err != nil {
				return err
			}
			all := len(refs)
			refs = slices.DeleteFunc(refs, func(ref inspect.Ref) bool { return !matchRef(ref.Ref, args[1:]) })
			if len(refs) == 0 {
				sayNone(cmd.ErrOrStderr(), all, args[1:])
			}
			return from.answer(cmd, refs, func(w io.Writer) error { return printRefs(w, refs) })
		},
	}
	from.register(cmd)
	return cmd
}

// matchRef tells whether one of the patterns, if there are any, chooses a ref, by
// its whole or by its id.
func matchRef(ref string, patterns []string) bool {
	elements := strings.Split(ref, "/")
	return len(patterns) == 0 || glob.MatchAny(patterns, ref) || len(elements) == 4 && glob.MatchAny(patterns, elements[1])
}

// sayNone says why a list of refs is empty.
func sayNone(out io.Writer, all int, patterns []string) {
	if all == 0 {
		_, _ = fmt.Fprintln(out, "the repository has no refs") // nobody reads it, then
		return
	}
	_, _ = fmt.Fprintf(out, "none of %s matches %s\n", page.Plural(all, "ref", "refs"), strings.Join(patterns, " or "))
}

func printRefs(out io.Writer, refs []inspect.Ref) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "REF\tCOMMIT\tTIME\tINSTALLED\tDOWNLOAD\tNOTES\n") // Flush tells
	for _, ref := range refs {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(ref.Ref), shortCommit(ref.Commit), ref.Time.Format(time.RFC3339),
			sizeText(ref.Installed), sizeText(ref.Download), printable(notes(&ref.Version)))
	}
	return w.Flush()
}

// notes says what is special about a version.
func notes(v *inspect.Version) string {
	var all []string
	if v.EndOfLife != "" {
		all = append(all, "end of life: "+v.EndOfLife)
	}
	if v.EndOfLifeRebase != "" {
		all = append(all, "replaced by "+v.EndOfLifeRebase)
	}
	if v.TokenType != nil && *v.TokenType != 0 {
		all = append(all, fmt.Sprintf("token type %d", *v.TokenType))
	}
	if len(v.Subsets) > 0 {
		all = append(all, "in "+strings.Join(v.Subsets, ", "))
	}
	return strings.Join(all, "; ")
}

func newHubLogCommand() *cobra.Command {
	var (
		from  repositoryFlags
		limit int
		after string
	)
	cmd := &cobra.Command{
		Use:   "log REPO REF",
		Short: "Show the versions of a ref",
		Long: `Log lists the commits of a ref, newest first, as far back as they are kept: when
each was made, its sizes, how many signatures it has and its subject.` + repositoryHelp + `

Who published a version, and when, "freshet hub publishes --ref" tells.`,
		Example: `  freshet hub log stable app/org.example.App/x86_64/stable --dir /srv/hub
  freshet hub log https://dl.example.org/repo/stable app/org.example.App/x86_64/stable --limit 3 --json | jq -r '.versions[].commit'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usageError(cmd, "--limit wants a number above zero, or 0 for no limit")
			}
			repo, err := from.open(cmd, args[0])
			if err != nil {
				return err
			}
			begin, err := repo.Resolve(args[1], after)
			if err != nil {
				return err
			}
			log, err := repo.Log(args[1], begin, limit)
			if err != nil {
				return err
			}
			return from.answer(cmd, log, func(w io.Writer) error { return printLog(w, log) })
		},
	}
	from.register(cmd)
	f := cmd.Flags()
	f.IntVar(&limit, "limit", 50, "at most so many; 0 for all")
	f.StringVar(&after, "from", "", `begin with this commit, its first digits, or "^" for the one before the newest`)
	return cmd
}

func printLog(out io.Writer, log *inspect.History) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "COMMIT\tTIME\tINSTALLED\tDOWNLOAD\tSIGNATURES\tSUBJECT\n") // Flush tells
	for _, v := range log.Versions {
		subject, _, _ := strings.Cut(v.Subject, "\n")
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", shortCommit(v.Commit), v.Time.Format(time.RFC3339), sizeText(v.Installed),
			sizeText(v.Download), v.Signatures, printable(subject))
	}
	switch {
	case log.Next != "":
		_, _ = fmt.Fprintf(w, "older ones: --from %s\n", shortCommit(log.Next))
	case log.Pruned != "":
		_, _ = fmt.Fprintf(w, "older ones are not there any more\n")
	}
	return w.Flush()
}

func newHubDeltasCommand() *cobra.Command {
	var from repositoryFlags
	cmd := &cobra.Command{
		Use:   "deltas REPO [REF...]",
		Short: "Show static deltas, what they weigh and what they save",
		Long: `Deltas lists the static deltas of a repository, or those to the given refs: from
which commit to which, how much a client fetches by one, in how many files, and
what the objects would cost that it brings. A delta is served when it leads to what a
ref points at and clients find it; a retired one stays for those who have chosen it
already, until the grace time is over (docs/hub-deltas.md).` + repositoryHelp + `

Behind a URL only deltas that are served can be seen, and what they save is not
counted: that needs the length of each object.`,
		Example: `  freshet hub deltas stable --dir /srv/hub
  freshet hub deltas ./repo app/org.example.App/x86_64/stable --json | jq '[.[].size] | add'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := from.open(cmd, args[0])
			if err != nil {
				return err
			}
			list, err := repo.Deltas(cmd.Context(), args[1:]...)
			if err != nil {
				return err
			}
			return from.answer(cmd, list, func(w io.Writer) error { return printDeltas(w, list) })
		},
	}
	from.register(cmd)
	return cmd
}

func printDeltas(out io.Writer, list []inspect.Delta) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "REF\tFROM\tTO\tSTATE\tSIZE\tFILES\tOBJECTS\tINSTEAD OF\tSAVED\n") // Flush tells
	for _, d := range list {
		saved := "-"
		if d.Instead > 0 {
			saved = fmt.Sprintf("%.0f%%", 100-100*float64(d.Size)/float64(d.Instead))
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", orDash(printable(d.Ref)), cmp.Or(shortCommit(d.From), "nothing"), shortCommit(d.To),
			d.State, bytesText(d.Size), 1+d.Parts+d.Singly, d.Objects, sizeText(uint64(d.Instead)), saved)
	}
	return w.Flush()
}

func newHubDiffCommand() *cobra.Command {
	var (
		from    repositoryFlags
		noPaths bool
	)
	cmd := &cobra.Command{
		Use:   "diff REPO REF [FROM [TO]]",
		Short: "Show what differs between two versions of a ref",
		Long: `Diff compares two versions of a ref: which permissions an application gains and
loses, its runtime and command, sizes, what an update costs with and without a
static delta, and which files were added, removed and changed, with their sizes.

FROM and TO are commits, their first digits, or "^" for the one before the newest
and "^^" for that before it. Without TO it is the newest, without FROM the one before
TO. Permissions are written as the options of flatpak that grant them.` + repositoryHelp,
		Example: `  # what would this update bring?
  freshet hub diff stable app/org.example.App/x86_64/stable --dir /srv/hub

  # refuse it when it wants more than before
  freshet hub diff ./repo app/org.example.App/x86_64/stable 4f1c0a77 --json | jq -e '.gained == []'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := from.open(cmd, args[0])
			if err != nil {
				return err
			}
			before, after, err := versions(repo, args[1], args[2:])
			if err != nil {
				return err
			}
			diff, err := repo.Diff(cmd.Context(), args[1], before, after)
			if err != nil {
				return err
			}
			if noPaths {
				diff.Paths = diff.Paths[:0]
			}
			return from.answer(cmd, diff, func(w io.Writer) error { return printDiff(&lineWriter{w: w}, diff) })
		},
	}
	from.register(cmd)
	cmd.Flags().BoolVar(&noPaths, "no-files", false, "leave the list of files out")
	return cmd
}

// versions are those that the arguments name: the newest and the one before unless
// they say otherwise, and nothing before the first one.
func versions(repo *inspect.Repository, ref string, args []string) (before, after ostree.Checksum, err error) {
	args = append(args, "", "")
	if after, err = repo.Resolve(ref, args[1]); err != nil {
		return before, after, err
	}
	if args[0] != "" {
		before, err = repo.Resolve(ref, args[0])
		return before, after, err
	}
	log, err := repo.Log(ref, after, 1)
	if err == nil && log.Next != "" {
		before, err = ostree.ParseChecksum(log.Next)
	}
	return before, after, err
}

func printDiff(out *lineWriter, d *inspect.Diff) error {
	out.printf("ref        %s\n", printable(d.Ref))
	var installed uint64
	if d.From != nil {
		installed = d.From.Installed
		out.printf("from       %s of %s\n", d.From.Commit, d.From.Time.Format(time.RFC3339))
	}
	out.printf("to         %s of %s\n", d.To.Commit, d.To.Time.Format(time.RFC3339))
	for _, permission := range d.Gained {
		out.printf("gained     %s\n", printable(permission))
	}
	for _, permission := range d.Lost {
		out.printf("lost       %s\n", printable(permission))
	}
	for _, s := range d.Settings {
		out.printf("%-10s %s → %s\n", s.Name, orDash(printable(s.From)), orDash(printable(s.To)))
	}
	if installed+d.To.Installed > 0 {
		out.printf("installed  %s → %s\n", sizeText(installed), sizeText(d.To.Installed))
	}
	out.printf("update     %s in %s\n", bytesText(d.Update.Bytes), english.Plural(d.Update.Objects, "object", ""))
	if delta := d.Update.Delta; delta != nil {
		out.printf("           %s in %s by the static delta\n", bytesText(delta.Bytes), english.Plural(delta.Requests, "request", ""))
	}
	f := &d.Files
	out.printf("files      %d added, %s; %d removed, %s; %d changed, %s → %s\n", f.Added, bytesText(f.AddedBytes), f.Removed, bytesText(f.RemovedBytes),
		f.Changed, bytesText(f.ChangedFrom), bytesText(f.ChangedTo))
	for _, p := range d.Paths {
		size := ""
		switch {
		case p.Kind == "directory":
		case p.Change == inspect.Added:
			size = bytesText(p.To)
		case p.Change == inspect.Removed:
			size = bytesText(p.From)
		default:
			size = bytesText(p.From) + " → " + bytesText(p.To)
		}
		path := printable(p.Path)
		if p.Kind == "directory" {
			path += "/"
		}
		out.printf("%-8s %20s  %s\n", p.Change, size, path)
	}
	return out.err
}
