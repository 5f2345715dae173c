package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"freshet/internal/durable"
)

// Sample is how full the disk was.
type Sample struct {
	At     time.Time `json:"at"`
	Used   int64     `json:"used"` // bytes
	Inodes int64     `json:"inodes,omitempty"`
}

const (
	// SampleEvery is how often the disk is looked at.
	SampleEvery = time.Hour
	// KeepFor is how long it is remembered.
	KeepFor = 90 * 24 * time.Hour

	historyName = "disk.json"
)

// History is how full a disk was, in a file of its own. It is safe for concurrent use.
type History struct {
	dir durable.Dir

	mu      sync.Mutex
	samples []Sample // oldest first
}

// OpenHistory reads what is remembered. A file that is damaged is an error beside a history
// that begins anew.
func OpenHistory(dir durable.Dir) (*History, error) {
	h := &History{dir: dir}
	text, err := dir.Root.ReadFile(historyName)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &h.samples)
	}
	if err != nil {
		h.samples = nil
		return h, fmt.Errorf("%s: %w", historyName, err)
	}
	slices.SortFunc(h.samples, func(a, b Sample) int { return a.At.Compare(b.At) })
	return h, nil
}

// Add notes a sample, unless the last one is younger than [SampleEvery]. One that was
// taken later than now, by a clock that was wrong, is forgotten.
func (h *History) Add(now time.Time, used, inodes int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	now = now.UTC().Truncate(time.Second)
	kept := slices.DeleteFunc(slices.Clone(h.samples), func(s Sample) bool { return s.At.After(now) || now.Sub(s.At) > KeepFor })
	if n := len(kept); n > 0 && now.Sub(kept[n-1].At) < SampleEvery {
		return nil
	}
	kept = append(kept, Sample{now, used, inodes})
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	h.samples = kept
	return h.dir.WriteFile(historyName, append(text, '\n'), 0o644)
}

// Samples returns all, oldest first. They are the caller's.
func (h *History) Samples() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.samples)
}

// The bounds of a forecast: what it is made of, and how far it is believed.
const (
	forecastOf    = 14 * 24 * time.Hour
	forecastLeast = 24 * time.Hour
	forecastMost  = 365 * 24 * time.Hour
)

// Known is how much of the time that a [Forecast] is made of is covered by samples.
func Known(samples []Sample, now time.Time) time.Duration {
	for _, s := range samples {
		if ago := now.Sub(s.At); ago >= 0 && ago <= forecastOf {
			return ago
		}
	}
	return 0
}

// Foreseen reports whether so much is enough for a [Forecast].
func Foreseen(known time.Duration) bool { return known >= forecastLeast }

// Forecast returns when the disk reaches limit bytes if it goes on as in the last two weeks.
// Zero: it does not grow, is known for less than a day, or has more than a year; now if it
// is there already.
func Forecast(samples []Sample, now time.Time, limit int64) time.Time {
	n := len(samples)
	if n > 0 && samples[n-1].Used >= limit {
		return now
	}
	first := slices.IndexFunc(samples, func(s Sample) bool { return now.Sub(s.At) <= forecastOf })
	if first < 0 || now.Sub(samples[first].At) < forecastLeast {
		return time.Time{}
	}
	perDay, known := PerDay(samples[first:])
	if !known || perDay <= 0 {
		return time.Time{}
	}
	// From what there is now: a line through the samples may lie above or below it.
	hours := float64(limit-samples[n-1].Used) / perDay * 24
	if hours > forecastMost.Hours() {
		return time.Time{}
	}
	return now.Add(time.Duration(hours * float64(time.Hour))).Truncate(time.Hour)
}

// PerDay is how many bytes more are used each day, less if it is negative: the mean of what
// one day has brought, at any of its hours, without the tenth that brought most and the
// tenth that brought least, but a day's worth of each, so that a project which came or went
// at once does not count as what goes on. It is false if there is less than a day.
func PerDay(samples []Sample) (float64, bool) {
	const day = 24 * time.Hour
	var days []float64
	from := 0
	for _, s := range samples {
		for from+1 < len(samples) && !samples[from+1].At.After(s.At.Add(-day)) {
			from++
		}
		if passed := s.At.Sub(samples[from].At); passed >= day {
			days = append(days, float64(s.Used-samples[from].Used)*float64(day)/float64(passed))
		}
	}
	if len(days) == 0 {
		return 0, false
	}
	slices.Sort(days)
	if trim := max(len(days)/10, int(day/SampleEvery)); len(days) >= 4*trim {
		days = days[trim : len(days)-trim]
	}
	sum := 0.0
	for _, d := range days {
		sum += d
	}
	return sum / float64(len(days)), true
}

// OfInodes are the samples with their inodes in the place of bytes.
func OfInodes(samples []Sample) []Sample {
	out := make([]Sample, 0, len(samples))
	for _, s := range samples {
		out = append(out, Sample{At: s.At, Used: s.Inodes})
	}
	return out
}
