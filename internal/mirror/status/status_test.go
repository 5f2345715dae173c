package status_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"freshet/internal/durable"
	"freshet/internal/mirror/status"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

func TestFreshness(t *testing.T) {
	t.Parallel()
	const h, day = time.Hour, 24 * time.Hour
	for name, c := range map[string]struct {
		good  []time.Time
		limit time.Duration
		want  []status.Span
	}{
		"nothing known": {nil, h, nil},
		"always":        {[]time.Time{ago(9 * day)}, 0, []status.Span{{ago(7 * day), now, true}}},
		"since it is here": {
			[]time.Time{ago(3 * h), ago(2 * h), ago(h)},
			h,
			[]status.Span{{ago(3 * h), now, true}},
		},
		"a gap": {
			[]time.Time{ago(5 * h), ago(h)},
			2 * h,
			[]status.Span{{ago(5 * h), ago(3 * h), true}, {ago(3 * h), ago(h), false}, {ago(h), now, true}},
		},
		"stale now, and the beginning of the week cut off": {
			[]time.Time{ago(8 * day), ago(6 * day)},
			day,
			[]status.Span{{ago(7 * day), ago(6 * day), false}, {ago(6 * day), ago(5 * day), true}, {ago(5 * day), now, false}},
		},
	} {
		got := status.Freshness(c.good, now, c.limit)
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
	if status.IsStale(ago(2*h), now, 0) || status.IsStale(time.Time{}, now, h) || !status.IsStale(ago(2*h), now, h) || status.IsStale(ago(h), now, h) {
		t.Error("stale")
	}
}

func TestForecast(t *testing.T) {
	t.Parallel()
	line := func(samples, perHour int64) (list []status.Sample) {
		for i := range samples {
			list = append(list, status.Sample{At: ago(time.Duration(samples-1-i) * time.Hour), Used: 1000 + i*perHour})
		}
		return list
	}
	for name, c := range map[string]struct {
		samples []status.Sample
		limit   int64
		want    time.Time
	}{
		"none":            {nil, 10, time.Time{}},
		"grows":           {line(101, 10), 2000 + 10*48, now.Add(48 * time.Hour)},
		"too short":       {line(20, 10), 5000, time.Time{}},
		"does not grow":   {line(101, 0), 5000, time.Time{}},
		"shrinks":         {line(50, -10), 5000, time.Time{}},
		"in a long time":  {line(101, 1), 1 << 40, time.Time{}},
		"is full already": {line(101, 10), 1500, now},
	} {
		if got := status.Forecast(c.samples, now, c.limit); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	// What was before the last two weeks does not count.
	old := append([]status.Sample{{At: ago(30 * 24 * time.Hour), Used: 1 << 40}}, line(101, 10)...)
	if got := status.Forecast(old, now, 2000+480); !got.Equal(now.Add(48 * time.Hour)) {
		t.Error(got)
	}
}

// A project that came at once does not count as what goes on.
func TestForecastJump(t *testing.T) {
	t.Parallel()
	var list []status.Sample
	for i := range int64(240) {
		s := status.Sample{At: ago(time.Duration(239-i) * time.Hour), Used: 1000 + i*10, Inodes: i}
		if i > 100 {
			s.Used += 1 << 40
		}
		list = append(list, s)
	}
	limit := list[239].Used + 2400
	if got := status.Forecast(list, now, limit); !got.Equal(now.Add(240 * time.Hour)) {
		t.Errorf("%v", got)
	}
	if got := status.Forecast(status.OfInodes(list), now, 239+48); !got.Equal(now.Add(48 * time.Hour)) {
		t.Errorf("inodes: %v", got)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	open := func() (*status.History, error) {
		dir, err := durable.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = dir.Root.Close() })
		return status.OpenHistory(dir)
	}
	h, err := open()
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range []time.Time{ago(91 * 24 * time.Hour), ago(48 * time.Hour), ago(2 * time.Hour), ago(90 * time.Minute), now.Add(time.Hour), now} {
		if err := h.Add(at, int64(i), int64(10*i)); err != nil {
			t.Fatal(err)
		}
	}
	h, err = open()
	if err != nil {
		t.Fatal(err)
	}
	// The first is too old, the fourth too soon, the fifth of a clock that went ahead.
	want := []status.Sample{{ago(48 * time.Hour), 1, 10}, {ago(2 * time.Hour), 2, 20}, {now, 5, 50}}
	if got := h.Samples(); len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%v, want %v", got, want)
	}
	if err := os.WriteFile(filepath.Join(path, "disk.json"), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err = open(); err == nil || h == nil || len(h.Samples()) != 0 {
		t.Errorf("damaged: %v", err)
	}
	if err := h.Add(now, 1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err = open(); err != nil {
		t.Error(err)
	}
}

// How much is known is told by the oldest sample that counts.
func TestKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		samples []status.Sample
		want    time.Duration
		enough  bool
	}{
		"nothing":      {nil, 0, false},
		"an hour":      {[]status.Sample{{At: ago(time.Hour)}}, time.Hour, false},
		"three days":   {[]status.Sample{{At: ago(72 * time.Hour)}, {At: ago(time.Hour)}}, 72 * time.Hour, true},
		"a month":      {[]status.Sample{{At: ago(30 * 24 * time.Hour)}, {At: ago(13 * 24 * time.Hour)}}, 13 * 24 * time.Hour, true},
		"of the clock": {[]status.Sample{{At: ago(-time.Hour)}}, 0, false},
	} {
		if got := status.Known(c.samples, now); got != c.want || status.Foreseen(got) != c.enough {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
