package schedule

import (
	"cmp"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"freshet/api/mirrorapi"
)

// entry is a project of a scheduler.
type entry struct {
	Project
	times Times   // moved to this mirror's own
	part  float64 // of this mirror and project, from 0 to 1 without 1

	next     time.Time // of a sync by itself; zero: never
	began    time.Time
	good     time.Time
	failures int
	hold     *mirrorapi.Hold // nil: it is not held; what it points to is not changed
	triggers map[string]time.Time
	running  *Sync
	pending  *Sync
	gone     bool // from the configuration: it is forgotten when its sync has ended
}

// newEntry makes an entry of what is remembered.
func newEntry(p Project, rec Record, seed uint64, now time.Time) *entry {
	part := partOf(seed, p.Name)
	e := &entry{
		Project: p, times: p.Times.Moved(p.Jitter, part), part: part,
		began: rec.Began, good: rec.Good, failures: rec.Failures, hold: rec.Hold, triggers: maps.Clone(rec.Triggers),
	}
	if e.triggers == nil {
		e.triggers = make(map[string]time.Time)
	}
	e.plan(rec.Retry, now)
	if rec.Settings != "" && rec.Settings != p.Settings && !e.times.Never() {
		e.add(mirrorapi.Order{Project: p.Name, Cause: mirrorapi.CauseConfig}, now, 0)
	}
	if rec.Pending != nil {
		e.add(*rec.Pending, now, 0)
		e.pending.due = earlier(rec.Due, now.Add(time.Hour))
	}
	if rec.Running != nil {
		order := *rec.Running
		order.Cause = mirrorapi.CauseResume
		e.add(order, now, 0)
	}
	return e
}

// plan says when e is synced next by itself: at retry, unless that is zero.
func (e *entry) plan(retry, now time.Time) {
	switch {
	case e.times.Never():
		e.next = time.Time{}
	case e.began.IsZero():
		e.next = now
	case !retry.IsZero():
		e.next = e.caughtUp(retry, now)
	default:
		e.next = e.caughtUp(e.times.After(earlier(e.began, now)), now)
	}
}

// set has e follow other settings.
func (e *entry) set(p Project, now time.Time) {
	before := e.Project
	e.Project = p
	if p.Times != before.Times || p.Jitter != before.Jitter {
		e.times = p.Times.Moved(p.Jitter, e.part)
		var retry time.Time
		if e.failures > 0 {
			retry = e.next
		}
		e.plan(retry, now)
	}
	again := mirrorapi.Order{Project: p.Name, Cause: mirrorapi.CauseConfig}
	switch comesBack := e.gone; {
	case e.running != nil && (comesBack || p.Settings != before.Settings):
		e.running.end(errChanged)
		e.add(merge(again, e.running.order), now, 0)
	case p.Settings != before.Settings && !e.times.Never():
		e.add(again, now, 0)
	}
	e.gone = false
}

// takeBack takes back the sync that waits.
func (e *entry) takeBack(now time.Time) {
	e.pending.report = mirrorapi.Report{
		Project: e.Name, Order: e.pending.order, Began: now, Ended: now,
		Result: mirrorapi.Canceled, Reason: mirrorapi.ReasonCanceled, Message: "taken back before it began",
	}
	close(e.pending.done)
	e.pending = nil
}

// caughtUp is when a sync begins that was to begin at: when that is past, because the
// mirror was off, soon. A fleet that gets its power back does not begin at once.
func (e *entry) caughtUp(at, now time.Time) time.Time {
	if at.After(now) {
		return at
	}
	return now.Add(time.Duration(e.part * float64(min(e.Jitter, maxCatchUp))))
}

// maxCatchUp bounds for how long what was missed waits.
const maxCatchUp = 30 * time.Minute

// partOf is a number from 0 to 1, without 1, that is evenly spread over seeds.
func partOf(seed uint64, project string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(project)) // never fails
	x := h.Sum64() ^ seed
	// The finalizer of MurmurHash3: seeds that differ in one bit are far apart.
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// earlier is the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// add makes order part of the sync that waits.
func (e *entry) add(order mirrorapi.Order, now time.Time, within time.Duration) *Sync {
	if order.Given.IsZero() {
		order.Given = now.UTC()
	}
	due := now.Add(time.Duration(e.part * float64(within)))
	if e.pending == nil {
		e.pending = &Sync{order: order, due: due, done: make(chan struct{})}
		return e.pending
	}
	e.pending.order = merge(e.pending.order, order)
	e.pending.due = earlier(e.pending.due, due)
	return e.pending
}

// merge is the order that does what two want.
func merge(a, b mirrorapi.Order) mirrorapi.Order {
	if rank(b.Cause) > rank(a.Cause) {
		a.Cause, a.By = b.Cause, b.By
	}
	a.Force = a.Force || b.Force
	a.Rollback = a.Rollback || b.Rollback
	a.Shrink = a.Shrink || b.Shrink
	a.Given = earlier(a.Given, b.Given)
	return a
}

// rank says how much a cause says, from 0.
func rank(c mirrorapi.Cause) int {
	return slices.Index([]mirrorapi.Cause{
		mirrorapi.CauseSchedule, mirrorapi.CauseRetry, mirrorapi.CauseResume, mirrorapi.CauseConfig, mirrorapi.CauseEvent, mirrorapi.CauseTrigger, mirrorapi.CauseOrder,
	}, c)
}

// due is when the next sync of e is to begin, zero if none is: one runs, it is held, or
// nobody wants one. What is to begin by itself begins to wait when its time has come.
func (e *entry) due(now time.Time) time.Time {
	if e.running != nil || e.hold != nil {
		return time.Time{} // one that is gone has nothing else
	}
	if limit := now.Add(max(e.times.every, maxBackOff) + time.Minute); e.next.After(limit) {
		e.next = e.times.After(now) // the clock was set back
	}
	if !e.next.IsZero() && !e.next.After(now) {
		cause := mirrorapi.CauseSchedule
		if e.failures > 0 {
			cause = mirrorapi.CauseRetry
		}
		e.add(mirrorapi.Order{Project: e.Name, Cause: cause}, now, 0)
		e.next = e.times.After(now)
	}
	if e.pending != nil {
		return e.pending.due
	}
	return e.next
}

// begin marks the sync that waits as running.
func (e *entry) begin(now time.Time) {
	e.running, e.pending = e.pending, nil
	e.began = now.UTC()
}

// end takes over what came of the sync that ran. If it ended because the process does, or
// because it is held, it waits again.
func (e *entry) end(report mirrorapi.Report, now time.Time, stopped bool) {
	sync := e.running
	e.running = nil
	sync.report = report
	defer close(sync.done)
	switch {
	case isGood(report):
		e.good, e.failures = now.UTC(), 0
		e.next = e.times.After(now)
	case report.Result == mirrorapi.Canceled:
		e.next = e.times.After(now)
		if stopped || errors.Is(sync.ended, errHeld) {
			order := sync.order
			order.Cause = mirrorapi.CauseResume
			e.add(order, now, 0)
		}
	default:
		e.failures++
		e.next = time.Time{}
		if !e.times.Never() {
			e.next = now.Add(e.backOff())
		}
		if isPart(report) {
			e.next = earlier(e.next, e.times.After(now))
		}
	}
}

// isGood reports whether all of the project is what its upstream has.
func isGood(r mirrorapi.Report) bool {
	return (r.Result == mirrorapi.Published || r.Result == mirrorapi.Unchanged) && len(r.HeldBack()) == 0
}

// isPart reports whether some repositories were held back, and others were not: those are
// looked at as often as ever.
func isPart(r mirrorapi.Report) bool {
	held := len(r.HeldBack())
	return held > 0 && held < len(r.Repositories)
}

// Bounds of the wait after a failure.
const (
	minBackOff = time.Minute
	maxBackOff = 6 * time.Hour
)

// backOff is how long it is waited after a failure: twice as long after each, up to the
// time between two syncs, but an hour at least and six at most. Mirrors that failed
// together, because their upstream did, do not come back together.
func (e *entry) backOff() time.Duration {
	wait := minBackOff << min(e.failures-1, 20)
	wait = min(wait, maxBackOff, max(e.times.every, time.Hour))
	return wait + time.Duration(e.part*float64(wait)/2)
}

// compareEntries says who begins first of those that are ready.
func compareEntries(a, b *entry) int {
	return cmp.Or(
		cmp.Compare(orderFirst(b), orderFirst(a)),
		cmp.Compare(b.Priority, a.Priority),
		a.pending.order.Given.Compare(b.pending.order.Given),
		strings.Compare(a.Name, b.Name),
	)
}

// orderFirst is 1 for what an operator waits for.
func orderFirst(e *entry) int {
	if e.pending.order.Cause == mirrorapi.CauseOrder {
		return 1
	}
	return 0
}

func (e *entry) status() Status {
	st := Status{State: mirrorapi.Idle, Next: e.next, Good: e.good, Failures: e.failures, Hold: e.hold}
	if e.pending != nil {
		order := e.pending.order
		st.State, st.Pending = mirrorapi.Waiting, &order
		if st.Next.IsZero() || e.pending.due.Before(st.Next) {
			st.Next = e.pending.due
		}
	}
	if e.hold != nil {
		st.State, st.Next = mirrorapi.Held, time.Time{}
	}
	if e.running != nil {
		st.State = mirrorapi.Running
	}
	return st
}

// record is what is remembered of e.
func (e *entry) record() Record {
	rec := Record{Began: e.began, Good: e.good, Failures: e.failures, Hold: e.hold, Triggers: e.triggers, Settings: e.Settings}
	if e.failures > 0 {
		rec.Retry = e.next
	}
	if e.running != nil {
		order := e.running.order
		rec.Running = &order
	}
	if e.pending != nil {
		order := e.pending.order
		rec.Pending, rec.Due = &order, e.pending.due
	}
	return rec
}
