package schedule_test

import (
	"strings"
	"testing"
	"time"

	"freshet/internal/mirror/schedule"
)

func TestTimes(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, test := range []struct {
		form   string
		jitter time.Duration
		part   float64
		after  string
		want   string
	}{
		{"every 1h", 0, 0, "2026-11-22 10:20", "2026-11-22 11:00"},
		{"every 1h", 0, 0, "2026-11-22 11:00", "2026-11-22 12:00"},
		{"every 1h", time.Hour, 0.5, "2026-11-22 10:20", "2026-11-22 10:30"},
		{"every 1h", 5 * time.Hour, 0.5, "2026-11-22 10:20", "2026-11-22 10:30"}, // the jitter ends with the time between two
		{"every 2d", 0, 0, "1970-01-04 00:00", "1970-01-05 00:00"},
		{"daily at 02:00", 0, 0, "2026-11-22 02:00", "2026-11-23 02:00"},
		{"Daily at 02:30", time.Hour, 0.75, "2026-11-22 03:00", "2026-11-22 03:15"},
		{"weekly on sun at 02:00", 0, 0, "2026-11-16 00:00", "2026-11-22 02:00"},
		{"weekly on Thursday at 00:00", 0, 0, "2026-11-22 00:00", "2026-11-26 00:00"},
	} {
		times, err := schedule.Parse(test.form)
		if err != nil {
			t.Errorf("%s: %v", test.form, err)
			continue
		}
		if got := times.Moved(test.jitter, test.part).After(at(test.after)); !got.Equal(at(test.want)) {
			t.Errorf("%s, %v, %v: after %s comes %v, want %s", test.form, test.jitter, test.part, test.after, got, test.want)
		}
	}
	if never, err := schedule.Parse("never"); err != nil || !never.After(at("2026-11-22 10:20")).IsZero() {
		t.Errorf("never: %v, %v", never, err)
	}
	for _, form := range []string{
		"", "1h", "every", "every hour", "every 30s", "every -1h", "every 1h 30m", "daily", "daily at 25:00", "daily at 2am",
		"weekly on someday at 02:00", "weekly on sun", "monthly", "never ever",
	} {
		if got, err := schedule.Parse(form); err == nil || !strings.Contains(err.Error(), form) {
			t.Errorf("%q: %v, %v", form, got, err)
		}
	}
}
