package page

import (
	"fmt"
	"time"
)

// Tones of what is drawn, as the style sheet knows them.
const (
	ToneWork = "work" // something was done
	ToneWait = "wait" // it waited
	ToneDone = "done" // it arrived
	ToneBad  = "bad"
	ToneLess = "less" // what is left of ToneMore
	ToneMore = "more"
)

// plotWidth is that of the coordinates in which bars are drawn.
const plotWidth = 1000

// least is the width of what would be too narrow to be seen.
const least = 4

// Timeline shows what happened when, one row above the other.
type Timeline struct{ Rows []TimelineRow }

// TimelineRow is a thing with the times in which something happened to it.
type TimelineRow struct {
	Label Link
	// Text says how long it took.
	Text  string
	Spans []Span
}

// Span is a part of a bar.
type Span struct {
	Tone     string
	X, Width float64
}

// Phase is a span of time; a phase that ends when it begins is drawn as a mark.
type Phase struct {
	Tone     string
	From, To time.Time
}

// Event is a row of a timeline before it is drawn.
type Event struct {
	Label  Link
	Text   string
	Phases []Phase
}

// NewTimeline draws events on the scale from the first to the last of their
// times. Phases without a beginning are left out; those without an end last until
// now.
func NewTimeline(events []Event, now time.Time) Timeline {
	var first, last time.Time
	for _, e := range events {
		for i := range e.Phases {
			p := &e.Phases[i]
			if p.From.IsZero() {
				continue
			}
			if p.To.IsZero() {
				p.To = now
			}
			if first.IsZero() || p.From.Before(first) {
				first = p.From
			}
			if p.To.After(last) {
				last = p.To
			}
		}
	}
	scale := plotWidth / max(last.Sub(first).Seconds(), 1e-6)
	var line Timeline
	for _, e := range events {
		row := TimelineRow{Label: e.Label, Text: e.Text}
		for _, p := range e.Phases {
			if p.From.IsZero() {
				continue
			}
			x, width := p.From.Sub(first).Seconds()*scale, max(p.To.Sub(p.From).Seconds()*scale, least)
			row.Spans = append(row.Spans, Span{p.Tone, round(min(x, plotWidth-least)), round(min(width, plotWidth-min(x, plotWidth-least)))})
		}
		line.Rows = append(line.Rows, row)
	}
	return line
}

// Share is one bar: parts of a whole.
type Share struct {
	Spans []Span
	Words string
}

// NewShare draws part of whole in a bar of which most is all.
func NewShare(part, whole, most uint64, words string) Share {
	scale := plotWidth / float64(max(most, 1))
	return Share{Words: words, Spans: []Span{
		{ToneMore, 0, round(float64(whole) * scale)},
		{ToneLess, 0, round(max(float64(part)*scale, least))},
	}}
}

// Columns shows durations beside each other, the oldest first.
type Columns struct {
	Caption, Words, Most string
	Width                int
	Columns              []Column
	Legend               []Key
}

// Column is one of them.
type Column struct {
	Words string
	Parts []Box
}

// Box is a part of a column.
type Box struct {
	Tone                string
	X, Y, Width, Height float64
}

// Key explains a tone.
type Key struct{ Tone, Text string }

// Bar is a column before it is drawn: durations, one above the other.
type Bar struct {
	Words string
	Parts []BarPart
}

// BarPart is a part of a bar.
type BarPart struct {
	Tone string
	Took time.Duration
}

// columnWidth is that of a column with the space beside it.
const columnWidth = 12

// NewColumns draws bars. room is for how many there is room at least.
func NewColumns(caption string, bars []Bar, room int, legend ...Key) Columns {
	c := Columns{Caption: caption, Legend: legend, Width: columnWidth * max(room, len(bars))}
	var most, sum time.Duration
	for _, bar := range bars {
		var total time.Duration
		for _, part := range bar.Parts {
			total += max(part.Took, 0)
		}
		most, sum = max(most, total), sum+total
	}
	scale := 100 / max(most.Seconds(), 1e-9)
	left := c.Width - columnWidth*len(bars)
	for i, bar := range bars {
		column, y := Column{Words: bar.Words}, 100.0
		for _, part := range bar.Parts {
			if part.Took <= 0 {
				continue
			}
			height := max(part.Took.Seconds()*scale, 1)
			y = max(y-height, 0)
			column.Parts = append(column.Parts, Box{part.Tone, float64(left + i*columnWidth), round(y), columnWidth - 3, round(height)})
		}
		c.Columns = append(c.Columns, column)
	}
	c.Most = Took(most)
	if len(bars) > 0 {
		c.Words = fmt.Sprintf("%s: at most %s, %s on average", Plural(len(bars), "publish", "publishes"), Took(most), Took(sum/time.Duration(len(bars))))
	}
	return c
}

// round keeps coordinates short.
func round(x float64) float64 { return float64(int64(x*10+0.5)) / 10 }
