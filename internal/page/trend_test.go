package page_test

import (
	"strings"
	"testing"
	"time"

	"freshet/internal/page"
)

func TestTrend(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	points := []page.TrendPoint{{now.Add(-8 * time.Hour), 0}, {now.Add(-4 * time.Hour), 25}, {now, 50}}
	for name, c := range map[string]struct {
		ahead       page.TrendPoint
		line, later string
	}{
		"nothing ahead":  {page.TrendPoint{}, "0,100 400,75 800,50", ""},
		"within the box": {page.TrendPoint{At: now.Add(time.Hour), Value: 75}, "0,100 400,75 800,50", "800,50 900,25"},
		"behind it":      {page.TrendPoint{At: now.Add(4 * time.Hour), Value: 100}, "0,100 400,75 800,50", "800,50 1000,25"},
	} {
		got := page.NewTrend("c", "w", points, c.ahead, 90, 100, now)
		if got.Line != c.line || got.Ahead != c.later || got.Limit != 10 || got.Now != 800 || got.From != "8 h ago" || got.To != "in 2 h" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	var many []page.TrendPoint
	for i := range 10_000 {
		many = append(many, page.TrendPoint{At: now.Add(time.Duration(i-9999) * time.Minute), Value: float64(i)})
	}
	if got := page.NewTrend("c", "w", many, page.TrendPoint{}, 0, 1, now); strings.Count(got.Line, " ") > 1000 {
		t.Errorf("%d points", strings.Count(got.Line, " "))
	}
	if got := page.NewTrend("c", "w", nil, page.TrendPoint{}, 0, 0, now); got.Line != "" {
		t.Errorf("%+v", got)
	}
}
