package deltas_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
)

// task is a delta from nothing to the commit n.
func task(n int) deltas.Task {
	return deltas.Task{Repo: "stable", Delta: deltas.Delta{Ref: "app/org.x.A/x86_64/stable", Name: ostree.DeltaName{To: sum(n)}, Newest: 100}}
}

// bench is a queue with what became of its tasks.
type bench struct {
	t        *testing.T
	queue    deltas.Queue
	outcomes []deltas.Outcome
}

func (b *bench) submit(ctx context.Context, tasks ...deltas.Task) {
	for _, task := range tasks {
		b.queue.Submit(ctx, task, func(o deltas.Outcome) { b.outcomes = append(b.outcomes, o) })
	}
}

func (b *bench) take(w deltas.Worker) *deltas.Lease {
	b.t.Helper()
	l, err := b.queue.Take(b.t.Context(), w)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// none checks that nothing is to be had.
func (b *bench) none(w deltas.Worker) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Millisecond)
	defer cancel()
	if l, err := b.queue.Take(ctx, w); err == nil {
		b.t.Errorf("took %s", l.Task.Name.Hex())
	}
}

// The most urgent task comes first, whoever asked first; a publish that waits is
// most urgent of all.
func TestQueueOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bench{t: t}
		update, catalogue, old, waited := task(2), task(3), task(4), task(5)
		update.Age, update.Name.From = 1, sum(1)
		catalogue.Age, catalogue.Name.From, catalogue.Ref = 1, sum(1), "appstream2/x86_64"
		old.Newest = 50
		waited.Build, waited.Newest = 7, 1
		b.submit(t.Context(), old, task(1), update, catalogue, waited)
		var got []byte
		for range 5 {
			l := b.take(deltas.Worker{})
			got = append(got, l.Task.Name.To[0])
			if err := l.Done(deltas.Made{}); err != nil {
				t.Error(err)
			}
		}
		if want := []byte{5, 3, 2, 1, 4}; !slices.Equal(got, want) || len(b.outcomes) != 5 {
			t.Errorf("order %v, want %v; outcomes %v", got, want, b.outcomes)
		}
		b.none(deltas.Worker{})
	})
}

// A lease that is not extended goes to somebody else, and its holder can no longer
// end the task; after some attempts the task has failed.
func TestQueueExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bench{t: t}
		b.submit(t.Context(), task(1))
		lost := 0
		w := deltas.Worker{Name: "w", TTL: time.Minute, Lost: func(*deltas.Lease, error) { lost++ }}
		late := b.take(w)
		for range 5 {
			time.Sleep(59 * time.Second)
			if err := late.Extend("making"); err != nil {
				t.Fatal(err)
			}
		}
		if s := b.queue.Status(); len(s) != 1 || s[0].Step != "making" || s[0].Worker != "w" {
			t.Errorf("status %+v", s)
		}
		b.none(w)
		time.Sleep(61 * time.Second)
		next := b.take(w)
		synctest.Wait()
		if next.Attempt != 2 || next.ID == late.ID || lost != 1 || late.Context().Err() == nil {
			t.Errorf("attempt %d, lost %d", next.Attempt, lost)
		}
		judged := false
		for _, err := range []error{
			late.Extend(""), late.Done(deltas.Made{}), late.Fail(nil, true), late.Release(),
			late.Judge(func(context.Context) (deltas.Made, error) { judged = true; return deltas.Made{}, nil }),
		} {
			if !errors.Is(err, deltas.ErrLeaseLost) {
				t.Errorf("late: %v", err)
			}
		}
		if _, err := b.queue.Lease(late.ID); !errors.Is(err, deltas.ErrLeaseLost) || judged {
			t.Errorf("late: %v, judged %v", err, judged)
		}
		if err := next.Release(); err != nil { // counts for nothing
			t.Fatal(err)
		}
		cause := errors.New("no room")
		for i := range 2 {
			l := b.take(w)
			if l.Attempt != i+2 || len(b.outcomes) != 0 {
				t.Fatalf("attempt %d, %v", l.Attempt, b.outcomes)
			}
			if err := l.Fail(cause, true); err != nil {
				t.Fatal(err)
			}
		}
		b.none(w)
		if len(b.outcomes) != 1 || !errors.Is(b.outcomes[0].Err, cause) {
			t.Errorf("outcomes %v", b.outcomes)
		}
	})
}

// A worker that was begun anew has no leases of before.
func TestQueueBuries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bench{t: t}
		b.submit(t.Context(), task(1), task(2), task(3))
		w := deltas.Worker{ID: "a", Run: "1", TTL: time.Minute}
		dead := b.take(w)
		alive := b.take(deltas.Worker{ID: "b", Run: "1", TTL: time.Minute})
		w.Run = "2"
		again := b.take(w)
		b.take(w)
		if again.Task.Name != dead.Task.Name || again.Attempt != 2 || dead.Extend("") == nil || alive.Extend("") != nil || again.Extend("") != nil {
			t.Errorf("attempt %d, dead %v, alive %v, again %v", again.Attempt, dead.Extend(""), alive.Extend(""), again.Extend(""))
		}
	})
}

// The lease does not expire while the work is judged, and whoever asks again gets
// the same verdict.
func TestQueueJudges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bench{t: t}
		b.submit(t.Context(), task(1))
		w := deltas.Worker{Name: "w", TTL: time.Minute}
		bad := errors.New("wrong bytes")
		refused := b.take(w)
		if err := refused.Judge(func(context.Context) (deltas.Made, error) { return deltas.Made{}, bad }); !errors.Is(err, bad) {
			t.Error(err)
		}
		l := b.take(w)
		calls := 0
		verdicts := make(chan error, 2)
		judge := func(context.Context) (deltas.Made, error) {
			calls++
			time.Sleep(time.Hour)
			return deltas.Made{Dir: "made"}, nil
		}
		for range 2 {
			go func() { verdicts <- l.Judge(judge) }()
		}
		time.Sleep(time.Minute)
		if !l.Judged() || l.Extend("") != nil {
			t.Error("not being judged")
		}
		for range 2 {
			if err := <-verdicts; err != nil {
				t.Error(err)
			}
		}
		if calls != 1 || len(b.outcomes) != 1 || b.outcomes[0].Made.Dir != "made" || b.outcomes[0].Made.Worker != "w" {
			t.Errorf("%d calls, outcomes %v", calls, b.outcomes)
		}
		if err, known := b.queue.Verdict(l.ID); err != nil || !known {
			t.Errorf("verdict %v %v", err, known)
		}
		if err := refused.Judge(judge); !errors.Is(err, bad) {
			t.Errorf("verdict on the refused one: %v", err)
		}
	})
}

// A submitter that goes takes its tasks along, those under way too; and what nobody
// wants any more is not begun.
func TestQueueWithdraws(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bench{t: t}
		ctx, cancel := context.WithCancel(t.Context())
		b.submit(ctx, task(1), task(2))
		var why error
		l := b.take(deltas.Worker{Lost: func(_ *deltas.Lease, err error) { why = err }})
		if commits := b.queue.Commits("stable"); len(commits) != 2 || len(b.queue.Commits("beta")) != 0 {
			t.Errorf("commits %v", commits)
		}
		cancel()
		synctest.Wait()
		if l.Context().Err() == nil || !errors.Is(l.Done(deltas.Made{}), deltas.ErrLeaseLost) || why == nil || len(b.queue.Status()) != 0 || len(b.outcomes) != 0 {
			t.Errorf("after the end: %v, %v", b.queue.Status(), b.outcomes)
		}
		b.none(deltas.Worker{})

		stale := task(3)
		stale.Stale = func() bool { return true }
		other := task(4)
		other.Repo = "beta"
		b.submit(t.Context(), stale, other)
		b.none(deltas.Worker{Accepts: func(t deltas.Task) bool { return t.Repo != "beta" }})
		if len(b.outcomes) != 1 || !errors.Is(b.outcomes[0].Err, deltas.ErrStale) {
			t.Errorf("outcomes %v", b.outcomes)
		}
		if l := b.take(deltas.Worker{}); l.Task.Repo != "beta" {
			t.Errorf("took %+v", l.Task)
		}
	})
}
