package room

import (
	"testing"
	"time"

	"freshet/api/mirrorapi"
)

// Churn is what syncs have fetched by the day; the first one is none, and as long as little
// is known a guess counts.
func TestChurn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	at := func(days int, previous string, bytes int64) mirrorapi.Report {
		when := now.Add(-time.Duration(days) * day)
		return mirrorapi.Report{
			Began: when, Ended: when, Result: mirrorapi.Published, Previous: previous,
			Fetched: map[string]mirrorapi.Amount{mirrorapi.FromUpstream: {Files: bytes / 10, Bytes: bytes}},
		}
	}
	size := Amount{Bytes: 100_000, Inodes: 10_000}
	for name, c := range map[string]struct {
		reports []mirrorapi.Report
		want    int64
	}{
		"nothing is known":      {nil, 1000},
		"the first one":         {[]mirrorapi.Report{at(9, "", 100_000)}, 100},
		"four days":             {[]mirrorapi.Report{at(1, "3", 4000), at(2, "2", 4000), at(3, "1", 4000), at(4, "", 100_000)}, 2600},
		"without the first one": {[]mirrorapi.Report{at(1, "3", 4000), at(9, "2", 5000)}, 1000},
		"failures":              {[]mirrorapi.Report{{Began: now.Add(-9 * day), Result: mirrorapi.Failed}}, 100},
		"a clock set back":      {[]mirrorapi.Report{at(-9, "2", 1000)}, 2000},
	} {
		got := Churn(c.reports, size, now)
		if got.Bytes != c.want || got.Inodes != c.want/10 {
			t.Errorf("%s: %+v, want %d bytes", name, got, c.want)
		}
	}
}
