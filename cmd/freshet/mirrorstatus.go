package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/mirror"
	"freshet/internal/node"
	"freshet/internal/page"
)

func newMirrorStatusCommand() *cobra.Command {
	var flags mirrorFlags
	cmd := &cobra.Command{
		Use:   "status [PROJECT]",
		Short: "Show what a mirror does and has",
		Long: `Status shows each project of a running mirror: what is served since when, when it
was last known to be up to date, what is being done, and what went wrong.`,
		Example: `  freshet mirror status
  freshet mirror status epel
  freshet mirror status --json | jq '.projects[] | select(.failures > 0).name'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.Status, error) { return c.Status(cmd.Context()) }, printStatus)
			}
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.ProjectStatus, error) {
				return c.Project(cmd.Context(), args[0])
			}, printProject)
		},
	}
	flags.register(cmd)
	return cmd
}

func printStatus(out io.Writer, st mirrorapi.Status) error {
	_, err := fmt.Fprintf(out, "%s: %s of %s free (reserve %s)\n", printable(st.Node), bytesText(st.Disk.Free), bytesText(st.Disk.Size), bytesText(st.Disk.Reserve))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PROJECT\tSTATE\tUP TO DATE\tNEXT\tFILES\tSIZE\tTROUBLE") // Flush tells
	for _, p := range st.Projects {
		trouble := ""
		if p.Damaged > 0 {
			trouble = filesText(p.Damaged) + " damaged"
		} else if p.Hold != nil {
			trouble = "held " + holdText(*p.Hold)
		} else if p.Failures > 0 && p.Last != nil {
			trouble = fmt.Sprintf("%s, %s", p.Last.Trouble(), page.Plural(p.Failures, "time", "times"))
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", p.Name, stateText(p), ago(st.Now, p.Checked), until(st.Now, p.Next), p.Files, bytesText(p.Bytes), trouble)
	}
	err = errors.Join(err, w.Flush())
	for _, l := range st.Left {
		do := "freshet mirror drop " + printable(l.Name) + " --all removes it"
		if l.Removing {
			do = "it is being removed"
		}
		_, lerr := fmt.Fprintf(out, "not configured, on the disk: %s; %s\n", leftText(l), do)
		err = errors.Join(err, lerr)
	}
	return err
}

// stateText is what is done with a project.
func stateText(p mirrorapi.ProjectStatus) string {
	if p.Progress != nil {
		return string(p.Progress.Step)
	}
	return string(p.State)
}

// ago is how long ago a time was.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return ageText(int64(now.Sub(t).Seconds())) + " ago"
}

// until is how long it is until a time.
func until(now, t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case !t.After(now):
		return "now"
	}
	return "in " + ageText(int64(t.Sub(now).Seconds()))
}

func printProject(out io.Writer, p mirrorapi.ProjectStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // Flush tells
	}
	line("project", "%s (%s)", p.Name, p.Kind)
	line("state", "%s", stateText(p))
	if p.Progress != nil {
		line("progress", "%s", progressText(*p.Progress, 0))
	}
	if p.Generation != "" {
		line("serves", "%s since %s: %s, %s", p.Generation, when(p.Published), filesText(p.Files), bytesText(p.Bytes))
	}
	line("up to date", "%s", when(p.Checked))
	next := ""
	if !p.Next.IsZero() {
		next = "; next at " + when(p.Next)
	}
	line("schedule", "%s%s", p.Schedule, next)
	if p.Hold != nil {
		line("held", "%s", holdText(*p.Hold))
	}
	for _, f := range p.Follows {
		line("follows", "%s", followText(f))
	}
	if p.Pending != nil {
		line("waits", "%s by %s since %s", p.Pending.Cause, cmp.Or(printable(p.Pending.By), "the mirror"), when(p.Pending.Given))
	}
	if p.Damaged > 0 {
		line("damaged", "%s; freshet mirror doctor says which", filesText(p.Damaged))
	}
	if p.Failures > 0 {
		line("failures", "%d in a row", p.Failures)
	}
	err := w.Flush()
	if p.Last != nil {
		_, lerr := fmt.Fprintln(out, "\nThe last sync:")
		err = errors.Join(err, lerr, printSyncReport(out, *p.Last))
	}
	return err
}

// followText is how an upstream is followed.
func followText(f mirrorapi.Followed) string {
	text := printable(f.Upstream) + ": "
	switch f.State {
	case mirrorapi.FollowFollowing:
		text += "up to " + cmp.Or(printable(f.Position), "its beginning") + ", since " + when(f.Since)
	case mirrorapi.FollowCatchingUp:
		text += fmt.Sprintf("catching up, %s behind", page.Plural(f.Behind, "event", "events"))
	case mirrorapi.FollowAway:
		text += "not reached since " + when(f.Since)
	case mirrorapi.FollowNoLog:
		text += "it tells nobody of changes, since " + when(f.Since)
	}
	if f.Error != "" {
		text += " (" + printable(f.Error) + ")"
	}
	return text
}

func newMirrorLogCommand() *cobra.Command {
	var (
		flags mirrorFlags
		limit int
		whole bool
	)
	cmd := &cobra.Command{
		Use:   "log PROJECT",
		Short: "Show what came of the syncs of a project",
		Long: `Log prints the reports of the newest syncs of a project, newest first: a line for
each, or with --whole all that is known: durations, bytes, repositories, warnings.`,
		Example: `  freshet mirror log epel
  freshet mirror log epel --whole --limit 1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.Log, error) {
				return c.Log(cmd.Context(), args[0], limit)
			}, func(out io.Writer, l mirrorapi.Log) error {
				if !whole {
					return printSyncs(out, l.Reports)
				}
				var failed error
				for _, r := range l.Reports {
					failed = errors.Join(failed, printSyncReport(out, r))
				}
				return failed
			})
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.IntVarP(&limit, "limit", "n", 0, "how many at most (default 20)")
	f.BoolVar(&whole, "whole", false, "print the whole reports")
	return cmd
}

func printSyncs(out io.Writer, reports []mirrorapi.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NO\tBEGAN\tTOOK\tCAUSE\tRESULT\tFETCHED\tWHY") // Flush tells
	for _, r := range reports {
		fetched := total(r.Fetched)
		why := string(r.Reason)
		if r.Message != "" {
			why += ": " + printable(r.Message)
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s in %s\t%s\n", r.Serial, when(r.Began), tookText(r.Ended.Sub(r.Began)),
			r.Order.Cause, r.Result, bytesText(fetched.Bytes), filesText(fetched.Files), why)
	}
	return w.Flush()
}

// total is what was fetched from everywhere.
func total(fetched map[string]mirrorapi.Amount) (sum mirrorapi.Amount) {
	for _, a := range fetched {
		sum.Files += a.Files
		sum.Bytes += a.Bytes
	}
	return sum
}

// tookText is a duration as people want it.
func tookText(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(time.Millisecond).String()
	}
	return ageText(int64(d.Seconds()))
}

// printReport prints all of a report.
func printSyncReport(out io.Writer, r mirrorapi.Report) error {
	o := &lineWriter{w: out}
	by := ""
	if r.Order.By != "" {
		by = " by " + printable(r.Order.By)
	}
	o.printf("%s #%d (%s%s) at %s: %s in %s\n", r.Project, r.Serial, r.Order.Cause, by, when(r.Began), r.Result, tookText(r.Ended.Sub(r.Began)))
	if r.Reason != "" {
		o.printf("  %s: %s\n", r.Reason, printable(r.Message))
	}
	if r.Path != "" {
		o.printf("  about %q\n", r.Path)
	}
	if r.Generation != "" {
		o.printf("  serves %s: %s, %s", r.Generation, filesText(r.Files), bytesText(r.Bytes))
		if r.Previous != "" && r.Previous != r.Generation {
			o.printf(" (before: %s)", r.Previous)
		}
		o.printf("\n")
	}
	for _, source := range slices.Sorted(maps.Keys(r.Fetched)) {
		if a := r.Fetched[source]; a.Files > 0 {
			o.printf("  fetched from %s: %s, %s\n", source, filesText(a.Files), bytesText(a.Bytes))
		}
	}
	if r.Linked.Files > 0 {
		o.printf("  were here: %s, %s\n", filesText(r.Linked.Files), bytesText(r.Linked.Bytes))
	}
	if r.Removed.Files > 0 {
		o.printf("  gone: %s, %s\n", filesText(r.Removed.Files), bytesText(r.Removed.Bytes))
	}
	var steps []string
	for _, s := range r.Steps {
		steps = append(steps, fmt.Sprintf("%s %s", s.Step, tookText(s.Took)))
	}
	if len(steps) > 0 {
		o.printf("  %s\n", strings.Join(steps, ", "))
	}
	said := map[string]bool{string(r.Reason) + ": " + r.Message: true}
	for _, repo := range r.Repositories {
		text := fmt.Sprintf("%s: %s", repo.Reason, repo.Message)
		if repo.Held && !said[text] {
			o.printf("  held back: %q: %s\n", cmp.Or(repo.Pointer, repo.Path, "."), printable(text))
			said[text] = true
		}
	}
	for _, warning := range r.Warnings {
		if !said[warning] {
			o.printf("  note: %s\n", printable(warning))
		}
	}
	return o.err
}

func newMirrorDoctorCommand() *cobra.Command {
	var (
		flags mirrorFlags
		file  string
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Have a mirror say in plain words what is wrong with it",
		Long: `Doctor says what is wrong with a mirror, worst first, and what to do about it: with
its disk and how that fills, its projects and their upstreams, the clock, disks
that are failing (smartctl), certificates, limits, and the programs it needs.

It asks the mirror that runs. If none does, and --config names the file of one,
it looks at that, at the folder of the mirror and at the machine: why it does not
start, for instance.

It ends with 0 if nothing is wrong or there are warnings only, and with 1 if
there are errors.`,
		Example: `  freshet mirror doctor
  freshet mirror doctor --json
  freshet mirror doctor --config /etc/freshet/mirror.toml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var (
				d   mirrorapi.Diagnosis
				err error
			)
			if file != "" && !flags.answers(cmd) {
				d = examineMirror(cmd, file)
				err = flags.answer(cmd, d, func(out io.Writer) error { return printDiagnosis(out, d) })
			} else {
				err = ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.Diagnosis, error) {
					d, err = c.Doctor(cmd.Context())
					return d, err
				}, printDiagnosis)
			}
			if n := sick(d); err == nil && n > 0 {
				err = fmt.Errorf("mirror doctor: %s wrong", page.Plural(n, "thing is", "things are"))
			}
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file of the mirror, for when it does not run")
	return cmd
}

// examineMirror judges the mirror of a configuration file that does not run. A file that
// cannot be read is a finding, too.
func examineMirror(cmd *cobra.Command, file string) mirrorapi.Diagnosis {
	var cfg node.Config
	_, err := config.Read(file, &cfg)
	if err == nil && cfg.Mirror == nil {
		err = errors.New("there is no table [mirror]")
	}
	if err == nil {
		return mirror.Examine(cmd.Context(), *cfg.Mirror)
	}
	return mirrorapi.Diagnosis{Findings: []mirrorapi.Finding{{
		Level: mirrorapi.LevelError, About: "configuration " + file, Message: err.Error(), Do: "mend it; freshet config check " + file + " says when it is right",
	}}}
}

func printDiagnosis(out io.Writer, d mirrorapi.Diagnosis) error {
	o := &lineWriter{w: out}
	for _, f := range d.Findings {
		o.printf("%-7s  %s: %s\n", f.Level, f.About, printable(f.Message))
		if f.Do != "" {
			o.printf("         do: %s\n", f.Do)
		}
	}
	return o.err
}
