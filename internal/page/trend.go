package page

import (
	"strconv"
	"time"
)

// Trend shows a quantity over time, and how it may go on.
type Trend struct {
	Caption, Words string
	// Line and Ahead are the points of lines, as SVG has them; Ahead may be empty.
	Line, Ahead string
	// Limit is where the line of the limit is, Now where the present is.
	Limit, Now float64
	// From, Present and To name the ends of the time.
	From, Present, To string
}

// TrendPoint is a quantity at a time.
type TrendPoint struct {
	At    time.Time
	Value float64
}

// The box of a trend.
const (
	trendHeight = 100
	trendAhead  = 0.2 // of the width, for what is to come
)

// NewTrend draws points, oldest first, in a box as high as most, and from the last one a
// line to the point ahead, if that has a time. The present is at four fifths of the width,
// the first point at its beginning; what is ahead ends where the box does.
func NewTrend(caption, words string, points []TrendPoint, ahead TrendPoint, limit, most float64, now time.Time) Trend {
	t := Trend{Caption: caption, Words: words, Now: plotWidth * (1 - trendAhead), Limit: trendHeight}
	if len(points) == 0 || most <= 0 {
		return t
	}
	past := max(now.Sub(points[0].At), time.Minute)
	future := time.Duration(float64(past) * trendAhead / (1 - trendAhead))
	y := func(v float64) float64 { return round(trendHeight * (1 - min(max(v/most, 0), 1))) }
	x := func(at time.Time) float64 {
		return round(t.Now * (1 + float64(at.Sub(now))/float64(past)))
	}
	put := func(line string, x, y float64) string {
		if line != "" {
			line += " "
		}
		return line + strconv.FormatFloat(x, 'f', -1, 64) + "," + strconv.FormatFloat(y, 'f', -1, 64)
	}
	last := -1.0
	for i, p := range points {
		if at := max(x(p.At), 0); at-last >= 1 || i == len(points)-1 { // no more points than can be seen
			t.Line = put(t.Line, at, y(p.Value))
			last = at
		}
	}
	t.Limit = y(limit)
	end := points[len(points)-1]
	if span := ahead.At.Sub(end.At); span > 0 {
		if until := now.Add(future); ahead.At.After(until) {
			ahead = TrendPoint{until, end.Value + (ahead.Value-end.Value)*float64(until.Sub(end.At))/float64(span)}
		}
		t.Ahead = put(put("", x(end.At), y(end.Value)), x(ahead.At), y(ahead.Value))
	}
	t.From, t.Present, t.To = Ago(points[0].At, now), "now", Ago(now.Add(future), now)
	return t
}
