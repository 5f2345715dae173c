package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freshet/internal/hub"
	"freshet/internal/hub/quarantine"
	"freshet/internal/hub/repository"
	"freshet/internal/hub/upkeep"
	"freshet/internal/page"
)

// damageExit is the status of a check after which damage is left, as that of
// fsck(8).
const damageExit = 4

// damageError ends a check after which damage is left.
type damageError struct{ left int }

func (e *damageError) Error() string {
	return fmt.Sprintf("%s left", english.Plural(e.left, "problem is", "problems are"))
}

// ExitCode tells scripts from a check that could not be made.
func (*damageError) ExitCode() int { return damageExit }

func newHubFsckCommand() *cobra.Command {
	var (
		opt               upkeep.CheckOptions
		from              []string
		keys              string
		configFile        string
		repairBucket      bool
		full, incremental bool
		asJSON            bool
	)
	cmd := &cobra.Command{
		Use:   "fsck DIR",
		Short: "Verify an OSTree repository, and repair it from a copy",
		Args:  cobra.ExactArgs(1),
		Long: `Fsck verifies the archive repository in DIR (HUB/repos/NAME of a hub): that each
object has the content of its name, that everything is there that refs and the
parents of their commits need, that heads and summaries are signed, that the
summaries say what the refs say, and that static deltas are whole. It may run
beside the hub, which goes on publishing.

Everything is read, unless --incremental is given: then only what was published
since the last check that found the repository sound. That takes a moment, and is
meant for every night or every hour.

With --quarantine, damaged objects that cannot be repaired are moved out of the way:
the hub answers 404 for them, with the reason "quarantined", and the refs that need
them are listed. They come back when a sound copy is uploaded or fetched, by
--repair-from or by the hub's scrub.

With --repair-from, what is damaged or missing is fetched by its name from another
copy of the repository, a mirror or an edge, and takes its place once it was
verified. Summaries and signatures the hub makes anew when it is started. With
--config, "bucket" is such a copy too.

With --config, the configuration file of the hub, the repository is compared with its
copy in the bucket of [hub.storage] as well: what the bucket lacks, or has with another
size, and whether its refs and summaries are those that were published. With
--repair-bucket it is given what it lacks, of what was verified in DIR. Publishes wait
for the moments in which something that looks different is looked at again.

What nothing needs is counted, and no problem: "freshet hub prune" removes it.

The exit status is 0 when the repository is sound or was repaired, 4 when problems
are left, and 1 when the check could not be made.`,
		Example: `  freshet hub fsck /srv/hub/repos/stable --incremental
  freshet hub fsck /srv/hub/repos/stable --repair-from https://mirror.example.org/repo/stable --dry-run
  freshet hub fsck /srv/hub/repos/stable --config /etc/freshet.toml --repair-bucket
  freshet hub fsck /srv/hub/repos/stable --config /etc/freshet.toml --repair-from bucket
  freshet hub fsck /srv/hub/repos/stable --json | jq 'select(.path and (.repaired|not))'`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if full && incremental {
				return usageError(cmd, "--full or --incremental?")
			}
			switch {
			case repairBucket && configFile == "":
				return usageError(cmd, "--repair-bucket needs --config, to know the bucket")
			case repairBucket && incremental:
				return usageError(cmd, "--repair-bucket needs a full check: what goes to the bucket has to be verified")
			}
			opt.Incremental = incremental
			if configFile != "" {
				if opt.Copied, err = copyOf(cmd, configFile, args[0]); err != nil {
					return err
				}
				opt.Copied.Repair = repairBucket
			}
			if keys != "" {
				if opt.Keys, err = os.ReadFile(keys); err != nil {
					return err
				}
			}
			for _, from := range from {
				source, err := repairSource(cmd, from, opt.Copied)
				if err != nil {
					return usageError(cmd, "--repair-from: %v", err)
				}
				opt.Repair = append(opt.Repair, source)
			}
			return fsck(cmd, args[0], opt, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&from, "repair-from", nil, "URL of a copy of the repository, from which to repair, or \"bucket\"; of several the first one that has it")
	f.BoolVar(&full, "full", false, "check everything (default)")
	f.BoolVar(&incremental, "incremental", false, "check what was published since the last check that found the repository sound")
	f.BoolVar(&opt.Quarantine, "quarantine", false, "move damaged objects that cannot be repaired out of the way of clients")
	f.BoolVar(&opt.DryRun, "dry-run", false, "change nothing: no repair, no quarantine, and do not remember the result")
	f.StringVar(&keys, "keys", "", "file with the OpenPGP public keys of the repository (default: those in its .flatpakrepo)")
	f.StringVarP(&configFile, "config", "c", "", "configuration file of the hub: compare the copy in its bucket, too")
	f.BoolVar(&repairBucket, "repair-bucket", false, "write to the bucket what it lacks or has otherwise; with --config")
	f.BoolVar(&asJSON, "json", false, "print a line of JSON for each problem, and at the end one with the totals")
	return cmd
}

// fromBucket is the --repair-from that is no URL.
const fromBucket = "bucket"

// repairSource is what --repair-from names.
func repairSource(cmd *cobra.Command, from string, copied *upkeep.Copied) (upkeep.Source, error) {
	switch {
	case from != fromBucket:
		return upkeep.NewHTTPSource(cmd.Context(), from)
	case copied == nil:
		return nil, errors.New("\"bucket\" needs --config, to know the bucket")
	}
	return upkeep.CopySource{Copy: copied.Copy}, nil
}

// copyOf is the copy of the repository in dir, as the configuration of its hub says.
func copyOf(cmd *cobra.Command, file, dir string) (*upkeep.Copied, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// A hub may be told its folder otherwise than by the file.
	cfg, err := hubConfig(cmd, file, hub.Config{Dir: filepath.Dir(filepath.Dir(dir))})
	if err != nil {
		return nil, err
	}
	opened, err := cfg.Storage.OpenCopy(filepath.Base(dir))
	if err != nil {
		return nil, err
	}
	if opened == nil {
		return nil, usageError(cmd, "%s names no bucket: [hub.storage] is not there", file)
	}
	return &upkeep.Copied{Copy: opened, Skip: repository.IsUncopied}, nil
}

// fsckTotals is the last line of fsck --json.
type fsckTotals struct {
	upkeep.Report
	Sound   bool    `json:"sound"`
	Seconds float64 `json:"seconds"`
}

func fsck(cmd *cobra.Command, dir string, opt upkeep.CheckOptions, asJSON bool) error {
	out := &lineWriter{w: cmd.OutOrStdout()}
	progress := newFsckProgress(cmd)
	opt.Progress = progress.step
	opt.Found = func(p upkeep.Problem) {
		progress.clear()
		if asJSON {
			out.err = cmp.Or(out.err, printJSON(out.w, p))
			return
		}
		out.printf("%s\n", problemText(p))
	}
	opt.Kept = func(item quarantine.Item) {
		progress.clear()
		if asJSON {
			out.err = cmp.Or(out.err, printJSON(out.w, fsckKept{"quarantine", item.Name.Path(), quarantine.Path(item.Name), item.Size, item.Note}))
			return
		}
		out.printf("%s\n", keptText(item))
	}
	begun := time.Now()
	report, err := upkeep.Check(cmd.Context(), dir, opt)
	progress.clear()
	took := time.Since(begun)
	if err != nil {
		return errors.Join(err, out.err)
	}
	if asJSON {
		out.err = cmp.Or(out.err, printJSON(out.w, fsckTotals{report, report.Sound(), took.Seconds()}))
	} else {
		printReport(out, report, took)
	}
	if left := report.Problems - report.Repaired; left > 0 {
		err = &damageError{left}
	}
	return errors.Join(err, out.err)
}

// fsckKept is the line of fsck --json for an object in quarantine.
type fsckKept struct {
	Kind string `json:"kind"`
	Path string `json:"path"` // of the object
	Kept string `json:"kept"` // where it is
	Size int64  `json:"size"`
	quarantine.Note
}

// shownRefs is how many of the refs are listed that need an object in quarantine.
const shownRefs = 5

// keptText is an object in quarantine on a line, for people.
func keptText(item quarantine.Item) string {
	text := fmt.Sprintf("in quarantine since %s: %s: %s: ", item.Since.Local().Format(time.DateTime), item.Name.Path(), printable(item.Error))
	some := item.Refs[:min(len(item.Refs), shownRefs)]
	switch more := len(item.Refs) - len(some) + item.More; {
	case len(some) == 0:
		return text + "no ref needs it"
	case more == 0:
		return text + "needed by " + printable(strings.Join(some, ", "))
	default:
		return text + fmt.Sprintf("needed by %s and %d more", printable(strings.Join(some, ", ")), more)
	}
}

// problemText is a problem on a line, for people.
func problemText(p upkeep.Problem) string {
	text := fmt.Sprintf("%s: %s: %s", p.Kind, printable(p.Path), printable(p.Error))
	if p.Ref != "" && p.Kind != upkeep.KindRef {
		text += " (needed by " + printable(p.Ref+p.In) + ")"
	}
	if p.Apart {
		text += ": put into quarantine"
	}
	if p.Repaired {
		text += ": repaired"
	} else if p.Failure != "" {
		text += ": cannot be repaired: " + printable(p.Failure)
	}
	return text
}

func printReport(out *lineWriter, r upkeep.Report, took time.Duration) {
	what := "everything"
	if r.Incremental {
		what = "what is new"
	}
	out.printf("%s with %s, %s checked: %s, %s, and %s in %v\n", english.Plural(r.Refs, "ref", ""), english.Plural(r.Commits, "commit", ""), what,
		english.Plural(int(r.Objects), "object", ""), bytesText(r.Bytes), english.Plural(r.Deltas, "static delta", ""), took.Round(time.Millisecond))
	if r.Orphans > 0 {
		out.printf("%s, %s: needed by nothing\n", english.Plural(int(r.Orphans), "object", ""), bytesText(r.OrphanBytes))
	}
	if r.CopyFiles > 0 {
		out.printf("%s in the bucket as well, and %d there alone\n", english.Plural(int(r.CopyFiles), "file is", "files are"), r.CopyExtra)
	}
	problems := english.Plural(r.Problems, "problem", "")
	switch {
	case r.Problems == 0:
		out.printf("sound\n")
	case r.Problems == r.Repaired:
		out.printf("%s, repaired: sound\n", problems)
	case r.Repaired == 0:
		out.printf("%s\n", problems)
	default:
		out.printf("%s, %d of them repaired\n", problems, r.Repaired)
	}
}

// fsckProgress shows how far a check is: as a bar on a terminal, else by a line now
// and then.
type fsckProgress struct {
	out   io.Writer
	bar   *progressbar.ProgressBar
	phase string
	last  time.Time
}

func newFsckProgress(cmd *cobra.Command) *fsckProgress {
	p := &fsckProgress{out: cmd.ErrOrStderr(), last: time.Now()}
	if f, ok := p.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions64(1, progressbar.OptionSetWriter(p.out), progressbar.OptionSetWidth(20),
			progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

func (p *fsckProgress) step(now upkeep.Progress) {
	if p.bar != nil {
		if p.phase != now.Phase {
			p.phase = now.Phase
			p.bar.Describe(now.Phase)
		}
		p.bar.ChangeMax64(now.Total + 1) // a full bar is final
		_ = p.bar.Set64(now.Done)
		return
	}
	if t := time.Now(); t.Sub(p.last) >= checkLines {
		p.last = t
		_, _ = fmt.Fprintf(p.out, "%s: %d of %d; %s, %s so far\n", now.Phase, now.Done, now.Total, page.Plural(now.Objects, "object", "objects"), bytesText(now.Bytes))
	}
}

func (p *fsckProgress) clear() { clearBar(p.bar) }
