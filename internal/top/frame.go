package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// history is what was, oldest first, one value for each moment shown.
type history struct {
	requests, bytes []float64
	outcomes        map[string][]float64
}

// historyLength is how many moments are kept: two minutes at two a second.
const historyLength = 240

func (h *history) add(s *snapshot) {
	if h.outcomes == nil {
		h.outcomes = make(map[string][]float64)
	}
	keep := func(list []float64, v float64) []float64 {
		list = append(list, v)
		return list[max(len(list)-historyLength, 0):]
	}
	h.requests, h.bytes = keep(h.requests, s.requests), keep(h.bytes, s.bytes)
	for _, o := range s.outcomes {
		h.outcomes[o.name] = keep(h.outcomes[o.name], o.requests)
	}
}

// frame is the lines of a screen.
type frame struct {
	title string
	note  string // what is wrong, if anything
	past  *history
	width int
}

// lines draws s, no line longer than the width. s is nil as long as nothing is
// known.
func (f frame) lines(s *snapshot) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, clip(fmt.Sprintf(format, args...), f.width)) }
	head := "freshet edge  " + f.title
	if s != nil && s.uptime > 0 {
		head += "  up " + long(s.uptime)
	}
	add("%s", head)
	if f.note != "" {
		add("! %s", f.note)
	}
	if s == nil {
		if f.note == "" {
			add("waiting for the first measurement …")
		}
		return out
	}
	plot := max(f.width-64, 0)
	add("requests %9s/s %-*s   hits %s of requests, %s of bytes", count(s.requests), plot, spark(f.past.requests, plot), percent(s.hitObjects), percent(s.hitBytes))
	add("bytes    %9s/s %-*s   %s connections, %s/s new", size(s.bytes), plot, spark(f.past.bytes, plot), count(s.open), count(s.accepted))
	add("")
	add("OUTCOME       REQ/S    BYTES/S   TTFB P50     P99   TOTAL P50     P99")
	for _, o := range s.outcomes {
		if o.name == "own" && o.requests == 0 {
			continue // robots.txt and the like: rare
		}
		add("%-9s %9s %10s  %9s %7s   %9s %7s  %s", o.name, count(o.requests), size(o.bytes),
			f.span(o.firstByte, o.firstByte.p50), f.span(o.firstByte, o.firstByte.p99),
			f.span(o.took, o.took.p50), f.span(o.took, o.took.p99), spark(f.past.outcomes[o.name], max(f.width-72, 0)))
	}
	add("")
	add("ERRORS    %s", list(s.errors, "none"))
	add("FETCHES   %s", list(s.fetches, "none"))
	add("ORIGINS   first byte p50 %s p99 %s", strings.TrimSpace(f.span(s.upstream, s.upstream.p50)), strings.TrimSpace(f.span(s.upstream, s.upstream.p99)))
	for _, o := range s.origins {
		add("  %-4s %-30s %5s in flight  %s", o.health, o.name, count(o.inFlight), list(o.failing, ""))
	}
	add("STORE     %s, %s answers%s", s.store.text(20), count(s.entries), map[bool]string{true: "  CANNOT STORE"}[s.failing])
	if s.short > 0 {
		add("  DISK TOO SMALL BY %s", size(s.short))
	}
	for _, p := range s.pools {
		add("  %-12s %s", p.name, p.text(20))
	}
	for i, e := range s.sites {
		state := "follows, " + count(e.lag) + " events behind"
		if !e.following {
			state = "does not follow"
		}
		add("%-9s %-30s %s", map[bool]string{true: "EVENTS"}[i == 0], e.name, state)
	}
	if s.dropped > 0 {
		add("LOG       %s lines dropped", count(s.dropped))
	}
	return out
}

func (f frame) span(s span, d time.Duration) string {
	if !s.known {
		return "-"
	}
	return short(d)
}

// text is the fill with a bar.
func (f fill) text(width int) string {
	if f.limit <= 0 {
		return size(f.used)
	}
	part := min(max(f.used/f.limit, 0), 1)
	full := int(math.Round(part * float64(width)))
	return fmt.Sprintf("%s %s %s of %s", strings.Repeat("█", full)+strings.Repeat("░", width-full), percent(part), size(f.used), size(f.limit))
}

func list(rates []rate, none string) string {
	if len(rates) == 0 {
		return none
	}
	var parts []string
	for _, r := range rates {
		parts = append(parts, r.name+" "+count(r.perSecond)+"/s")
	}
	return strings.Join(parts, "  ")
}

// spark draws the last values as a line of bars, the highest of them full.
func spark(values []float64, width int) string {
	if width <= 0 {
		return ""
	}
	values = values[max(len(values)-width, 0):]
	var top float64
	for _, v := range values {
		top = max(top, v)
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range values {
		switch {
		case v <= 0 || top <= 0:
			b.WriteByte(' ')
		default:
			b.WriteRune(bars[min(int(v/top*float64(len(bars))), len(bars)-1)])
		}
	}
	return b.String()
}

// clip cuts s after width characters and drops spaces at its end. Bytes that
// could steer a terminal are replaced.
func clip(s string, width int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > width {
		s = string(r[:max(width, 0)])
	}
	return strings.TrimRight(s, " ")
}

// count writes a number in at most seven characters.
func count(v float64) string {
	switch {
	case v < 10 && v != math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 1e5:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return scaled(v, "kMGTP")
}

// size writes bytes.
func size(v float64) string {
	if v < 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64) + " B"
	}
	s := scaled(v, "kMGTP")
	return s[:len(s)-1] + " " + s[len(s)-1:] + "B"
}

func scaled(v float64, units string) string {
	i := 0
	for v /= 1000; v >= 999.5 && i < len(units)-1; i++ {
		v /= 1000
	}
	digits := 1
	if v >= 100 {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + units[i:i+1]
}

func percent(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return strconv.FormatFloat(math.Floor(v*1000)/10, 'f', 1, 64) + " %"
}

// short writes a duration in at most seven characters.
func short(d time.Duration) string {
	unit := func(v float64, name string) string {
		digits := 0
		switch {
		case v < 10:
			digits = 2
		case v < 100:
			digits = 1
		}
		return strconv.FormatFloat(v, 'f', digits, 64) + name
	}
	switch {
	case d < time.Millisecond:
		return unit(float64(d)/1e3, "µs")
	case d < time.Second:
		return unit(float64(d)/1e6, "ms")
	}
	return unit(d.Seconds(), "s")
}

// long writes a time of hours.
func long(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d/time.Minute%60)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
