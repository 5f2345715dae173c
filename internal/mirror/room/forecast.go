package room

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"freshet/internal/durable"
)

// sample is how much was taken of the disk at a time.
type sample struct {
	At     time.Time `json:"at"`
	Bytes  int64     `json:"bytes"`
	Inodes int64     `json:"inodes"`
	// Size is that of the disk: with another one, what was before says nothing.
	Size int64 `json:"size"`
}

const (
	sampleEvery = 3 * time.Hour
	sampleFor   = 30 * day
	// minSpan is for how long the disk must have been looked at to tell anything.
	minSpan = day
)

// history is the samples of a disk, the oldest first.
type history []sample

// add adds a sample if it is time for one, and reports whether it did.
func (h *history) add(s sample) bool {
	list := *h
	if n := len(list); n > 0 {
		switch last := list[n-1]; {
		case last.Size != s.Size, last.At.After(s.At): // another disk, or another time
			list = nil
		case s.At.Sub(last.At) < sampleEvery:
			return false
		}
	}
	first := slices.IndexFunc(list, func(old sample) bool { return s.At.Sub(old.At) <= sampleFor })
	*h = append(slices.Clone(list[max(first, 0):]), s)
	return true
}

// perDay is how much more is taken each day: the median of what any two samples say, so
// that a project which came or went at once does not count as what goes on (Theil 1950,
// Sen 1968). It is false if the disk was looked at for too short a time.
func (h history) perDay(of func(sample) int64) (float64, bool) {
	if len(h) < 3 || h[len(h)-1].At.Sub(h[0].At) < minSpan {
		return 0, false
	}
	var slopes []float64
	for i, a := range h {
		for _, b := range h[i+1:] {
			if days := b.At.Sub(a.At).Hours() / 24; days > 0 {
				slopes = append(slopes, float64(of(b)-of(a))/days)
			}
		}
	}
	if len(slopes) == 0 {
		return 0, false
	}
	slices.SortFunc(slopes, cmp.Compare[float64])
	return slopes[len(slopes)/2], true
}

// Forecast says how a disk fills.
type Forecast struct {
	// Known: the disk was looked at for long enough.
	Known bool
	// PerDay is how much more is taken each day; less if it is negative.
	PerDay Amount
	// Full is when so much is taken that the reserve begins, zero if that is not within
	// a year; Inodes says that it is these which end first.
	Full   time.Time
	Inodes bool
}

// horizon is how far a forecast looks ahead.
const horizon = 365 * day

// forecast says when what is left, beside the reserve, is taken.
func (h history) forecast(left Amount, inodes bool, now time.Time) Forecast {
	var f Forecast
	perDay, known := h.perDay(func(s sample) int64 { return s.Bytes })
	if !known {
		return f
	}
	f.Known, f.PerDay.Bytes = true, int64(perDay)
	if d, fills := within(left.Bytes, perDay); fills {
		f.Full = now.Add(d)
	}
	if !inodes {
		return f
	}
	perDay, _ = h.perDay(func(s sample) int64 { return s.Inodes })
	f.PerDay.Inodes = int64(perDay)
	if d, fills := within(left.Inodes, perDay); fills && (f.Full.IsZero() || now.Add(d).Before(f.Full)) {
		f.Full, f.Inodes = now.Add(d), true
	}
	return f
}

func within(left int64, perDay float64) (time.Duration, bool) {
	if perDay <= 0 {
		return 0, false
	}
	days := float64(max(left, 0)) / perDay
	if days*float64(day) > float64(horizon) {
		return 0, false
	}
	return time.Duration(days * float64(day)), true
}

// historyName is the file with the samples, in the folder of the state.
const historyName = "disk.json"

// loadHistory reads the samples. Without them, it begins anew.
func loadHistory(dir durable.Dir) (history, error) {
	data, err := dir.Root.ReadFile(historyName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var h history
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return nil, fmt.Errorf("how full the disk was: %w", err)
	}
	slices.SortFunc(h, func(a, b sample) int { return a.At.Compare(b.At) })
	return h[max(0, len(h)-int(sampleFor/sampleEvery)-1):], nil
}

func (h history) save(dir durable.Dir) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return dir.WriteFile(historyName, append(data, '\n'), 0o644)
}
