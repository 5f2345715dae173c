package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freshet/api/mirrorapi"
)

func newMirrorSyncCommand() *cobra.Command {
	var (
		flags  mirrorFlags
		req    mirrorapi.SyncRequest
		noWait bool
	)
	cmd := &cobra.Command{
		Use:   "sync PROJECT",
		Short: "Have a mirror sync a project now, and see how it goes",
		Long: `Sync has a running mirror look whether a project has something new, and fetch,
check and serve it. It shows how that goes, and what came of it; leaving it does
not end the sync.

What speaks against an update holds it back until an operator says otherwise:
--rollback takes over versions that are older than those that are served,
--shrink a project that has lost more than max-shrink says. Both count once.`,
		Example: `  freshet mirror sync epel
  freshet mirror sync epel --force
  freshet mirror sync debian --shrink
  freshet mirror sync epel --no-wait`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			if noWait {
				answer, err := client.Sync(cmd.Context(), args[0], req)
				if err != nil {
					return flags.failed(cmd, err)
				}
				return flags.answer(cmd, answer, func(out io.Writer) error {
					_, err := fmt.Fprintf(out, "%s: %s\n", args[0], answer.State)
					return err
				})
			}
			report, err := watchSync(cmd, client, args[0], req, flags.asJSON)
			if err != nil {
				return flags.failed(cmd, err)
			}
			if !flags.asJSON {
				err = printSyncReport(cmd.OutOrStdout(), report)
			}
			return errors.Join(err, syncFailed(cmd, report))
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&req.Force, "force", false, "look at everything, also if the quick look finds nothing new, and whether all files are still here")
	f.BoolVar(&req.Rollback, "rollback", false, "take over versions that are older than those that are served")
	f.BoolVar(&req.Shrink, "shrink", false, "take over a project that has lost much")
	f.BoolVar(&noWait, "no-wait", false, "do not wait until it has ended")
	return cmd
}

// syncFailed is the error of a sync that did not end well.
func syncFailed(cmd *cobra.Command, r mirrorapi.Report) error {
	if r.Result == mirrorapi.Published || r.Result == mirrorapi.Unchanged {
		return nil
	}
	return fmt.Errorf("mirror %s: %s: %s (%s): %s", cmd.Name(), r.Project, r.Result, r.Reason, printable(r.Message))
}

// watchSync gives the order and shows how it goes: as a bar on a terminal, as lines of JSON
// if these are wanted, else by a line for each step and now and then.
func watchSync(cmd *cobra.Command, client *mirrorapi.Client, project string, req mirrorapi.SyncRequest, asJSON bool) (mirrorapi.Report, error) {
	show := newSyncProgress(cmd.ErrOrStderr())
	defer show.clear()
	for event, err := range client.SyncWaiting(cmd.Context(), project, req) {
		if err != nil {
			return mirrorapi.Report{}, err
		}
		if asJSON {
			if err := printJSON(cmd.OutOrStdout(), event); err != nil {
				return mirrorapi.Report{}, err
			}
		}
		switch {
		case event.Report != nil:
			return *event.Report, nil
		case asJSON:
		case event.Progress != nil:
			show.step(time.Now(), *event.Progress)
		case event.State == mirrorapi.Waiting:
			show.wait()
		}
	}
	return mirrorapi.Report{}, mirrorapi.ErrCut
}

// syncProgress shows how far a sync is.
type syncProgress struct {
	out io.Writer
	bar *progressbar.ProgressBar

	told    time.Time
	doing   mirrorapi.Step
	waits   int
	at      time.Time // of the last measure of the rate
	bytes   int64
	rate    float64 // bytes per second, of the last seconds
	sampled bool
}

func newSyncProgress(out io.Writer) *syncProgress {
	p := &syncProgress{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions64(1, progressbar.OptionSetWriter(out), progressbar.OptionShowDescriptionAtLineEnd(),
			progressbar.OptionSetWidth(20), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
			progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

func (p *syncProgress) clear() { clearBar(p.bar) }

// wait tells, once, that others are first.
func (p *syncProgress) wait() {
	if p.waits++; p.waits == 2 { // the first may be about to begin
		clearBar(p.bar)
		_, _ = fmt.Fprintln(p.out, "waits for its turn")
	}
}

func (p *syncProgress) step(now time.Time, to mirrorapi.Progress) {
	p.measure(now, to.Received)
	text := progressText(to, p.rate)
	if p.bar != nil {
		done, total := to.Bytes, to.BytesTotal
		if total <= 0 {
			done, total = to.Files, to.FilesTotal
		}
		p.bar.ChangeMax64(max(total, 1))
		_ = p.bar.Set64(max(min(done, total-1), 0)) // a full bar is final
		p.bar.Describe(text)
		return
	}
	if to.Step != p.doing || now.Sub(p.told) >= checkLines {
		p.doing, p.told = to.Step, now
		_, _ = fmt.Fprintln(p.out, text)
	}
}

// rateTime is the time over which the rate is averaged.
const rateTime = 5 * time.Second

// measure takes part of what was received since the last measure into the rate.
func (p *syncProgress) measure(now time.Time, received int64) {
	passed := now.Sub(p.at)
	if p.at.IsZero() {
		p.at, p.bytes = now, received
		return
	}
	if passed < 200*time.Millisecond {
		return
	}
	rate := float64(received-p.bytes) / passed.Seconds()
	if part := min(1, float64(passed)/float64(rateTime)); p.sampled {
		rate = p.rate + part*(rate-p.rate)
	}
	p.rate, p.sampled, p.at, p.bytes = max(rate, 0), true, now, received
}

// progressText is "fetch: 12 of 3,400 files, 1.2 GB of 5.6 GB, 25 MB/s, 2m56s left".
func progressText(p mirrorapi.Progress, rate float64) string {
	parts := []string{}
	add := func(done, total int64, unit func(int64) string, noun string) {
		switch {
		case total >= 0 && (total > 0 || done > 0):
			parts = append(parts, unit(done)+" of "+unit(total)+noun)
		case done > 0:
			parts = append(parts, unit(done)+noun)
		}
	}
	add(p.Files, p.FilesTotal, func(n int64) string { return fmt.Sprint(n) }, fileWord(p))
	if p.Step == mirrorapi.StepFetch && p.BytesTotal <= 0 { // nobody tells the sizes
		add(p.Bytes, -1, bytesText, "")
	} else {
		add(p.Bytes, p.BytesTotal, bytesText, "")
	}
	if p.Step == mirrorapi.StepFetch && rate >= 1 {
		parts = append(parts, bytesText(int64(rate))+"/s")
		if left := p.BytesTotal - p.Bytes; p.BytesTotal > 0 && left > 0 {
			parts = append(parts, ageText(int64(float64(left)/rate))+" left")
		}
	}
	text := string(p.Step)
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	if p.Doing != "" {
		text += " (" + printable(p.Doing) + ")"
	}
	return text
}

// fileWord is the noun for the files of a step.
func fileWord(p mirrorapi.Progress) string {
	if p.FilesTotal == 1 || p.FilesTotal < 0 && p.Files == 1 {
		return " file"
	}
	return " files"
}

func newMirrorCancelCommand() *cobra.Command {
	var flags mirrorFlags
	cmd := &cobra.Command{
		Use:   "cancel PROJECT",
		Short: "End the sync of a project that runs or waits",
		Long: `Cancel ends the sync of a project that runs, and takes back one that waits. What
was fetched stays for the next sync, which begins at its time or when you say so.`,
		Example: "  freshet mirror cancel epel",
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.SyncAnswer, error) {
				return c.Cancel(cmd.Context(), args[0])
			}, func(out io.Writer, _ mirrorapi.SyncAnswer) error {
				_, err := fmt.Fprintf(out, "%s: canceled\n", args[0])
				return err
			})
		},
	}
	flags.register(cmd)
	return cmd
}
