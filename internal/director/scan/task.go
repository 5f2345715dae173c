package scan

import (
	"context"
	"math/rand/v2"
	"time"

	"freshet/api/directorapi"
)

// task is a target, and how its scans went. It is guarded by Scanner.mu, but for its memo.
type task struct {
	target target
	memo   *memo

	due    time.Time // of the next scan
	asked  string    // why that was hastened
	begun  time.Time // of the last scan
	cancel context.CancelCauseFunc
	why    string // the scan that runs was hastened

	good     time.Time // end of the last scan that succeeded
	took     time.Duration
	files    int64
	failed   time.Time // end of the last scan, if it failed
	failures int       // in a row
	err      error
	remark   string
}

const (
	soonest    = time.Minute // between the beginnings of two scans
	firstRetry = time.Minute
	confirming = 2 * time.Minute // after a listing that lacked so much that it did not count
	slowest    = time.Hour       // between two retries, unless scans are rarer anyway
)

func (t *task) running() bool { return t.cancel != nil }

// hasten makes the next scan due as soon as may be.
func (t *task) hasten(why string) {
	t.asked = why
	if soon := t.begun.Add(soonest); soon.Before(t.due) {
		t.due = soon
	}
}

// plan sets when the next scan is due, which no two tasks do at the same beat.
func (t *task) plan(now time.Time, after time.Duration) {
	t.due = now.Add(jitter(after))
	if t.asked != "" {
		t.hasten(t.asked)
	}
}

// retry is how long to wait after a failure.
func (t *task) retry() time.Duration {
	if reasonOf(t.err) == Shrunk {
		return confirming
	}
	return min(firstRetry<<min(t.failures-1, 16), max(slowest, t.target.every))
}

// succeed and fault note how a scan went that ended now, and plan the next one.
func (t *task) succeed(now time.Time, files int) {
	t.good, t.took, t.files = now, now.Sub(t.begun), int64(files)
	t.failed, t.failures, t.err = time.Time{}, 0, nil
	t.plan(now, t.target.every)
}

func (t *task) fault(now time.Time, err error) {
	t.failed, t.err = now, err
	t.failures++
	t.plan(now, t.retry())
}

// jitter is within a tenth of d.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// statusOf is what is told of a task. Scanner.mu is held.
func (s *Scanner) statusOf(t *task) directorapi.ScanStatus {
	st := directorapi.ScanStatus{
		Mirror: t.target.mirror, Project: t.target.project, How: t.target.how,
		Running: t.running(), Reason: t.asked,
		Good: t.good, Took: directorapi.Duration(t.took.Round(time.Millisecond)),
		Failed: t.failed, Failures: t.failures, Remark: t.remark,
	}
	if t.running() {
		st.Reason = t.why
	}
	if t.err != nil {
		st.Cause, st.Error = string(reasonOf(t.err)), t.err.Error()
	}
	standing := s.standing(t.target.key)
	st.Files, st.Used = int64(standing.Files), !standing.Updated.IsZero()
	if st.Good.IsZero() {
		st.Good = standing.Updated // of the process before
	}
	if !t.target.pushed() && !s.o.PushedOnly && !s.o.Followed {
		st.Next = t.due
	}
	return st
}
