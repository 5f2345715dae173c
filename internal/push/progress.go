package push

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"freshet/api/hubapi"
)

// Progress is told how a push goes. Steps follow one another, each with Start,
// any number of Set and one Finish. Set and Line may be called by several
// goroutines at once.
type Progress interface {
	// Start begins a step of work of so many bytes.
	Start(step string, total int64)
	// Set tells how many bytes of the step are done. It may go back, when
	// something has to be sent again.
	Set(done int64)
	// Finish ends the step, done or not.
	Finish()
	// Line tells anything else: a decision, a line of the hub's log.
	Line(text string)
}

// NewProgress writes to w: with a progress bar if it is a terminal, in plain
// lines otherwise.
func NewProgress(w io.Writer) Progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &barProgress{w: f}
	}
	return NewLines(w, 5*time.Second)
}

type silent struct{}

func (silent) Start(string, int64) {}
func (silent) Set(int64)           {}
func (silent) Finish()             {}
func (silent) Line(string)         {}

// NewLines writes plain lines to w: one at the end of a step, and one each time
// the interval has passed while it moves. A step of no bytes is not told.
func NewLines(w io.Writer, interval time.Duration) Progress {
	return &lineProgress{w: w, interval: interval}
}

type lineProgress struct {
	w        io.Writer
	interval time.Duration

	mu   sync.Mutex // guards what follows, and writing to w
	pace *pace      // nil between steps
	told time.Time
}

func (p *lineProgress) Start(step string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = time.Now()
	p.pace = newPace(step, total, p.told)
}

func (p *lineProgress) Set(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pace == nil {
		return
	}
	now := time.Now()
	p.pace.set(done, now)
	if now.Sub(p.told) < p.interval || done >= p.pace.total {
		return
	}
	p.told = now
	p.print(fmt.Sprintf("%s: %s of %s (%d%%)%s", p.pace.step, formatBytes(done), formatBytes(p.pace.total), p.pace.percent(), p.pace.ahead(now)))
}

func (p *lineProgress) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pace != nil && p.pace.total > 0 {
		p.print(p.pace.summary(time.Now()))
	}
	p.pace = nil
}

func (p *lineProgress) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(text)
}

func (p *lineProgress) print(line string) { _, _ = fmt.Fprintln(p.w, printable(line)) }

// barEvery is how often a bar is drawn.
const barEvery = 100 * time.Millisecond

type barProgress struct {
	w io.Writer

	mu    sync.Mutex // guards what follows, and writing to w
	bar   *progressbar.ProgressBar
	pace  *pace
	drawn time.Time
}

func (p *barProgress) Start(step string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if total <= 0 {
		return
	}
	p.drawn = time.Now()
	p.pace = newPace(step, total, p.drawn)
	p.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(p.w),
		progressbar.OptionSetDescription(p.describe(p.drawn)),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionSetPredictTime(false), // we know better
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetWidth(20),
		progressbar.OptionSetRenderBlankState(true),
	)
}

func (p *barProgress) describe(now time.Time) string {
	return fmt.Sprintf("%s: %s of %s%s", p.pace.step, formatBytes(p.pace.done), formatBytes(p.pace.total), p.pace.ahead(now))
}

func (p *barProgress) Set(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return
	}
	now := time.Now()
	p.pace.set(done, now)
	if now.Sub(p.drawn) >= barEvery {
		p.draw(now)
	}
}

func (p *barProgress) draw(now time.Time) {
	p.drawn = now
	// A full bar is final, but the step may still have to repeat something.
	_ = p.bar.Set64(max(min(p.pace.done, p.pace.total-1), 0))
	p.bar.Describe(p.describe(now))
}

func (p *barProgress) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return
	}
	_ = p.bar.Clear()
	_, _ = fmt.Fprintln(p.w, printable(p.pace.summary(time.Now())))
	p.bar, p.pace = nil, nil
}

func (p *barProgress) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	_, _ = fmt.Fprintln(p.w, printable(text))
	if p.bar != nil {
		p.draw(time.Now())
	}
}

// printable takes the control characters out of a line: part of what is shown
// was written by the hub, and must not steer the terminal.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0) {
			return '�'
		}
		return r
	}, line)
}

// meter adds up what parallel uploads have done of a step.
type meter struct {
	mu       sync.Mutex
	done     int64 // guarded by mu
	progress Progress
}

// retryLine tells about failed attempts.
func retryLine(p Progress, hub string, also func(hubapi.Retry)) func(hubapi.Retry) {
	return func(r hubapi.Retry) {
		err := r.Err
		if answer, ok := errors.AsType[*hubapi.Error](err); ok {
			err = fmt.Errorf("hub %s: answer %d: %s", hub, answer.Status, answer.Message)
		}
		p.Line(fmt.Sprintf("%v; trying again in %s, for %s at most", err, r.Pause.Round(10*time.Millisecond), r.Left.Round(time.Second)))
		if also != nil {
			also(r)
		}
	}
}

// count is a number of things, "1 ref" or "2 refs".
func count(n int, thing string) string { return english.Plural(n, thing, "") }

// formatBytes is a size for people, in the units in which the hub and flatpak tell
// theirs.
func formatBytes(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }
