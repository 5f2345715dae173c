package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freshet/internal/edge"
	"freshet/internal/edge/diskcache"
	"freshet/internal/page"
)

func newStoreCheckCommand() *cobra.Command {
	var (
		flags  storeFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare everything in a store with its checksums",
		Long: `Check reads all of a store in the order of the disk and compares every checksum,
those of long bodies too. What is damaged it prints and removes, as a running
edge does when it meets it: the edge then fetches it again. If anything was
damaged, the command fails.

An edge checks what it reads by itself, always. This is for a disk that is not
trusted any more, or to know how fast it is.`,
		Example: `  freshet edge store check --store /var/cache/freshet
  freshet edge store check -c /etc/freshet.toml --json >damage.jsonl`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd, "leave it to the edge, which checks everything it reads", func(store *edge.Inspection) error {
				return checkStore(cmd, store, asJSON)
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each damaged entry, and at the end one with the totals")
	return cmd
}

// errDamaged ends a check that met damage.
var errDamaged = errors.New("damaged entries were removed")

// damageLine and totalsLine are what check --json prints.
type damageLine struct {
	Key    string `json:"key,omitempty"`
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Error  string `json:"error"`
}

type totalsLine struct {
	Entries  int     `json:"entries"`
	Files    int     `json:"files"`
	Bytes    int64   `json:"bytes"`
	Damaged  int     `json:"damaged"`
	Doubtful int     `json:"doubtful"`
	Seconds  float64 `json:"seconds"`
}

func checkStore(cmd *cobra.Command, store *edge.Inspection, asJSON bool) error {
	out := &lineWriter{w: cmd.OutOrStdout()}
	progress := newCheckProgress(cmd, store.Extent())
	begun := time.Now()
	done, err := store.Check(cmd.Context(), progress.step, func(d diskcache.Damage) {
		progress.clear()
		if asJSON {
			if out.err == nil {
				out.err = printJSON(out.w, damageLine{Key: d.Key, File: d.File, Offset: d.Offset, Error: d.Err.Error()})
			}
			return
		}
		key := d.Key
		if key == "" {
			key = "(name unknown)"
		}
		where := d.File
		if d.Offset > 0 {
			where += fmt.Sprintf(" at %d", d.Offset)
		}
		out.printf("damaged: %s: %s: %v\n", printable(key), where, d.Err)
	})
	progress.clear()
	took := time.Since(begun)
	switch {
	case asJSON && out.err == nil:
		out.err = printJSON(out.w, totalsLine{done.Entries, done.Large, done.Bytes, done.Damaged, done.Doubtful, took.Seconds()})
	case !asJSON:
		out.printf("%s, %d with files of their own: %s in %v, %s/s; %d damaged\n", page.Plural(done.Entries, "entry", "entries"), done.Large,
			bytesText(done.Bytes), took.Round(time.Millisecond), bytesText(rate(done.Bytes, took)), done.Damaged)
		if done.Doubtful > 0 {
			out.printf("%d have a damaged state, and are asked for again before their next use\n", done.Doubtful)
		}
	}
	if err == nil && done.Damaged > 0 {
		err = fmt.Errorf("%w: %d", errDamaged, done.Damaged)
	}
	return errors.Join(err, out.err)
}

// rate is bytes per second.
func rate(n int64, took time.Duration) int64 {
	return int64(float64(n) / max(took.Seconds(), 1e-3))
}

// checkProgress shows how far a check is: as a bar on a terminal, else by a
// line now and then.
type checkProgress struct {
	out         io.Writer
	bar         *progressbar.ProgressBar
	begun, last time.Time
	done, total int64
}

// checkLines is how long it is from one line to the next.
const checkLines = 5 * time.Second

func newCheckProgress(cmd *cobra.Command, total int64) *checkProgress {
	p := &checkProgress{out: cmd.ErrOrStderr(), begun: time.Now(), last: time.Now(), total: max(total, 1)}
	if f, ok := p.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions64(p.total, progressbar.OptionSetWriter(p.out), progressbar.OptionShowBytes(true),
			progressbar.OptionSetWidth(20), progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

func (p *checkProgress) step(n int64) {
	p.done += n
	if p.bar != nil {
		_ = p.bar.Set64(min(p.done, p.total-1)) // a full bar is final
		return
	}
	if now := time.Now(); now.Sub(p.last) >= checkLines {
		p.last = now
		_, _ = fmt.Fprintf(p.out, "%s of about %s, %s/s\n", bytesText(p.done), bytesText(p.total), bytesText(rate(p.done, now.Sub(p.begun))))
	}
}

func (p *checkProgress) clear() { clearBar(p.bar) }

// ageText is a time span for people: its two largest units.
func ageText(seconds int64) string {
	if seconds < 0 {
		return "-" + ageText(-seconds)
	}
	m, h, d := seconds/60, seconds/3600, seconds/86400
	switch {
	case d > 0:
		return fmt.Sprintf("%dd%dh", d, h%24)
	case h > 0:
		return fmt.Sprintf("%dh%dm", h, m%60)
	case m > 0:
		return fmt.Sprintf("%dm%ds", m, seconds%60)
	}
	return fmt.Sprintf("%ds", seconds)
}
