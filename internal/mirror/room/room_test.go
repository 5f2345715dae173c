package room

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// What does not fit is told by what is short of it.
func TestWhy(t *testing.T) {
	t.Parallel()
	disk := Disk{Size: Amount{100e9, 1000}, Free: Amount{7e9, 70}, Reserve: Amount{8e9, 80}}
	wide := Disk{Size: Amount{100e9, 1000}, Free: Amount{50e9, 90}, Reserve: Amount{8e9, 80}}
	for want, text := range map[string]string{
		"nothing may be used: of 100.0 GB 7.0 GB are free, the reserve is 8.0 GB": why(disk, Amount{}, disk.left(), false),
		"5.0 GB are needed and 0.0 MB may be used: of 100.0 GB 7.0 GB are free":   why(disk, Amount{5e9, 10}, disk.left(), false),
		"20 inodes are needed and 10 may be used: of 1000 90 are free":            why(wide, Amount{1e9, 20}, wide.left(), false),
	} {
		if !strings.HasPrefix(text, want) {
			t.Errorf("%s\nwant %s", text, want)
		}
	}
	if !errors.Is(ErrNoRoom, unix.ENOSPC) {
		t.Error("ErrNoRoom is not ENOSPC")
	}
}
