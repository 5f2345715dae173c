package repository

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// journal writes the log of a job, for people: what happens, how much of it and
// how long each step took. A log that cannot be written stops no job.
type journal struct {
	w     io.Writer
	begun time.Time
	step  time.Time
	spent []spent
}

type spent struct {
	name string
	time time.Duration
}

func newJournal(w io.Writer) *journal {
	if w == nil {
		w = io.Discard
	}
	now := time.Now()
	return &journal{w: w, begun: now, step: now}
}

// printf writes a line.
func (j *journal) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(j.w, format+"\n", args...)
}

// lap ends a step and remembers what it took.
func (j *journal) lap(name string) {
	now := time.Now()
	j.spent = append(j.spent, spent{name, now.Sub(j.step)})
	j.step = now
}

// total returns the time since the beginning and the times of the steps:
// "84 ms (objects 20 ms, catalogue 31 ms)".
func (j *journal) total() string {
	var b strings.Builder
	b.WriteString(formatDuration(time.Since(j.begun)))
	separator := " ("
	for _, s := range j.spent {
		fmt.Fprintf(&b, "%s%s %s", separator, s.name, formatDuration(s.time))
		separator = ", "
	}
	if len(j.spent) > 0 {
		b.WriteByte(')')
	}
	return b.String()
}

func formatDuration(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// formatBytes writes a size with decimal units, as download sizes are written.
func formatBytes(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// count writes a number with its noun.
func count(n int, noun string) string { return english.Plural(n, noun, "") }

// short abbreviates a checksum for people.
func short(checksum string) string {
	return checksum[:min(10, len(checksum))]
}
