package push

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
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

// NewProgress writes to f: with a progress bar if it is a terminal, in plain
// lines otherwise.
func NewProgress(f *os.File) Progress {
	if term.IsTerminal(int(f.Fd())) {
		return &barProgress{w: f}
	}
	return NewLines(f, 5*time.Second)
}

type silent struct{}

func (silent) Start(string, int64) {}
func (silent) Set(int64)           {}
func (silent) Finish()             {}
func (silent) Line(string)         {}

// NewLines writes plain lines to w: one when a step begins, one each time the
// interval has passed while it moves, and one at its end.
func NewLines(w io.Writer, interval time.Duration) Progress {
	return &lineProgress{w: w, interval: interval}
}

type lineProgress struct {
	w        io.Writer
	interval time.Duration

	mu      sync.Mutex // guards what follows, and writing to w
	step    string
	total   int64
	done    int64
	started time.Time
	told    time.Time
}

func (p *lineProgress) Start(step string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.step, p.total, p.done, p.started, p.told = step, total, 0, now, now
	p.print(fmt.Sprintf("%s: %s", step, formatBytes(total)))
}

func (p *lineProgress) Set(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = done
	now := time.Now()
	if now.Sub(p.told) < p.interval || done >= p.total {
		return
	}
	p.told = now
	line := fmt.Sprintf("%s: %s of %s (%d%%)", p.step, formatBytes(done), formatBytes(p.total), done*100/max(p.total, 1))
	if seconds := now.Sub(p.started).Seconds(); seconds > 0 && done > 0 {
		rate := float64(done) / seconds
		left := time.Duration(float64(p.total-done) / rate * float64(time.Second))
		line += fmt.Sprintf(", %s/s, %s left", formatBytes(int64(rate)), left.Round(time.Second))
	}
	p.print(line)
}

func (p *lineProgress) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.started)
	line := fmt.Sprintf("%s: %s in %s", p.step, formatBytes(p.done), took.Round(10*time.Millisecond))
	if p.done < p.total {
		line = fmt.Sprintf("%s: stopped after %s of %s", p.step, formatBytes(p.done), formatBytes(p.total))
	} else if seconds := took.Seconds(); seconds >= 0.1 {
		line += fmt.Sprintf(" (%s/s)", formatBytes(int64(float64(p.done)/seconds)))
	}
	p.print(line)
}

func (p *lineProgress) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(text)
}

func (p *lineProgress) print(line string) { _, _ = fmt.Fprintln(p.w, printable(line)) }

type barProgress struct {
	w io.Writer

	mu  sync.Mutex // guards what follows, and writing to w
	bar *progressbar.ProgressBar
}

func (p *barProgress) Start(step string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bar = progressbar.NewOptions64(max(total, 1),
		progressbar.OptionSetWriter(p.w),
		progressbar.OptionSetDescription(step),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionShowElapsedTimeOnFinish(),
		progressbar.OptionSetWidth(25),
		progressbar.OptionSetRenderBlankState(true),
	)
}

func (p *barProgress) Set(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return
	}
	// A full bar is final, but the step may still have to repeat something.
	if done = min(done, p.bar.GetMax64()-1); done > 0 {
		_ = p.bar.Set64(done)
	}
}

func (p *barProgress) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return
	}
	if p.bar.State().CurrentNum >= p.bar.GetMax64()-1 {
		_ = p.bar.Finish()
	} else {
		_ = p.bar.Exit()
	}
	_, _ = fmt.Fprintln(p.w)
	p.bar = nil
}

func (p *barProgress) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	_, _ = fmt.Fprintln(p.w, printable(text))
	if p.bar != nil {
		_ = p.bar.Set64(p.bar.State().CurrentNum)
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
func retryLine(p Progress, also func(error, time.Duration)) func(error, time.Duration) {
	return func(err error, pause time.Duration) {
		p.Line(fmt.Sprintf("%v; trying again in %s", err, pause.Round(10*time.Millisecond)))
		if also != nil {
			also(err, pause)
		}
	}
}

func formatBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, exponent := float64(n)/unit, 0
	for value >= 999.95 && exponent < 4 {
		value /= unit
		exponent++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[exponent])
}
