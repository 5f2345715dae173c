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
	At   time.Time `json:"at"`
	Used int64     `json:"used"`
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
func (h *History) Add(now time.Time, used int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	now = now.UTC().Truncate(time.Second)
	kept := slices.DeleteFunc(slices.Clone(h.samples), func(s Sample) bool { return s.At.After(now) || now.Sub(s.At) > KeepFor })
	if n := len(kept); n > 0 && now.Sub(kept[n-1].At) < SampleEvery {
		return nil
	}
	kept = append(kept, Sample{now, used})
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

// Forecast returns when the disk reaches limit bytes if it goes on as in the last two weeks:
// by the straight line that is nearest to the samples. Zero: it does not grow, is known for
// less than a day, or has more than a year; now if it is there already.
func Forecast(samples []Sample, now time.Time, limit int64) time.Time {
	if n := len(samples); n > 0 && samples[n-1].Used >= limit {
		return now
	}
	var n, sumX, sumY, sumXX, sumXY float64
	var first time.Time
	for _, s := range samples {
		if now.Sub(s.At) > forecastOf {
			continue
		}
		if first.IsZero() {
			first = s.At
		}
		x, y := s.At.Sub(now).Hours(), float64(s.Used)
		n, sumX, sumY, sumXX, sumXY = n+1, sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
	}
	if n < 3 || now.Sub(first) < forecastLeast {
		return time.Time{}
	}
	slope := (n*sumXY - sumX*sumY) / (n*sumXX - sumX*sumX) // bytes an hour
	if !(slope > 0) {
		return time.Time{}
	}
	// From what there is now: the line may lie above or below it.
	hours := float64(limit-samples[len(samples)-1].Used) / slope
	if hours > forecastMost.Hours() {
		return time.Time{}
	}
	return now.Add(time.Duration(hours * float64(time.Hour))).Truncate(time.Hour)
}
