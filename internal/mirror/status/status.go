// Package status has what a mirror tells everybody of itself: what it holds, how fresh that
// is, how full its disk is and was. It has no secrets: no upstream, no path, no message of an
// error. Package serve shows it.
package status

import (
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/generation"
)

// Status is what there is to tell at a moment; docs/mirror-serving.md says what the fields
// mean.
type Status struct {
	Made     time.Time `json:"made"`
	Node     string    `json:"node"`
	Disk     Disk      `json:"disk"`
	Projects []Project `json:"projects"`

	// History is for plots: how full the disk was.
	History []Sample `json:"-"`
}

// Disk is how full the file system is, in bytes.
type Disk struct {
	Size    int64 `json:"size"`
	Free    int64 `json:"free"`
	Reserve int64 `json:"reserve"` // of what is free, this is kept so
	// Full is when the reserve will be reached if it goes on as in the last two weeks; zero:
	// not in sight, or not known yet.
	Full time.Time `json:"full,omitzero"`
}

// Used is what is not free.
func (d Disk) Used() int64 { return max(0, d.Size-d.Free) }

// Project is what the mirror has of a project.
type Project struct {
	Name string `json:"project"`
	Kind string `json:"kind"`
	// State is what is done with it; Held since when an operator has it stay as it is, zero: he does
	// not.
	State mirrorapi.State `json:"state"`
	Held  time.Time       `json:"held,omitzero"`
	// Generation is the name of what is served since Switched; empty: nothing yet.
	Generation string    `json:"generation,omitempty"`
	Switched   time.Time `json:"switched,omitzero"`
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"`
	// Version is when the youngest of its repositories was made, as the project says; zero:
	// it does not say.
	Version time.Time `json:"version_time,omitzero"`
	// Checked is when a sync last found that the upstream has nothing newer, or took it
	// over; Stale says that this is longer ago than its schedule explains.
	Checked time.Time `json:"checked,omitzero"`
	Stale   bool      `json:"stale"`
	// Next is when the next sync begins by itself; zero: none does.
	Next time.Time `json:"next,omitzero"`
	// Last is the last sync; nil: there was none.
	Last *Sync `json:"last,omitempty"`
	// Failing is set while syncs do not end well.
	Failing *Failing `json:"failing,omitempty"`
	// Repositories are the versions of the repositories in it.
	Repositories []generation.Repository `json:"repositories,omitempty"`

	// Week is when it was up to date in the last seven days.
	Week []Span `json:"-"`
}

// Sync is what came of one.
type Sync struct {
	Began  time.Time        `json:"began"`
	Ended  time.Time        `json:"ended"`
	Result mirrorapi.Result `json:"result"`
	Reason mirrorapi.Reason `json:"reason,omitempty"`
}

// Failing says since when syncs fail, and why the last one did.
type Failing struct {
	Since  time.Time        `json:"since"`
	Syncs  int              `json:"syncs"`
	Reason mirrorapi.Reason `json:"reason"`
}

// Span is a time in which a project was up to date, or was not.
type Span struct {
	From, To time.Time
	Fresh    bool
}

// Week is how long [Freshness] looks back.
const Week = 7 * 24 * time.Hour

// IsStale says whether what was found up to date at checked is so no more: limit is how long
// that lasts; 0: for good.
func IsStale(checked, now time.Time, limit time.Duration) bool {
	return limit > 0 && !checked.IsZero() && now.Sub(checked) > limit
}

// Freshness returns when a project was up to date in the last week, by the times at which it
// was found so, oldest first: for limit from each of them. Before the first one nothing is
// known.
func Freshness(good []time.Time, now time.Time, limit time.Duration) []Span {
	var spans []Span
	begin := now.Add(-Week)
	add := func(from, to time.Time, fresh bool) {
		if from.Before(begin) {
			from = begin
		}
		switch n := len(spans); {
		case !from.Before(to):
		case n > 0 && spans[n-1].Fresh == fresh && spans[n-1].To.Equal(from):
			spans[n-1].To = to
		default:
			spans = append(spans, Span{from, to, fresh})
		}
	}
	for i, from := range good {
		to := now
		if i+1 < len(good) {
			to = good[i+1]
		}
		if limit > 0 && to.Sub(from) > limit {
			add(from, from.Add(limit), true)
			add(from.Add(limit), to, false)
			continue
		}
		add(from, to, true)
	}
	return spans
}
