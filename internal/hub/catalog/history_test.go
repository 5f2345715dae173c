package catalog_test

import (
	"errors"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

// published records a publish of moves.
func published(tb testing.TB, c *catalog.Catalog, repo string, number int64, moves map[string]hubapi.RefMove) {
	tb.Helper()
	p := catalog.Publish{
		Key: repo + string(rune('0'+number)), Repo: repo, Base: "/repo/" + repo + "/",
		Number: number, Before: map[string]string{}, Refs: map[string]string{}, Changed: []string{"summary"},
	}
	for ref, move := range moves {
		p.Before[ref] = move.From
		if move.To == "" {
			p.Removed = append(p.Removed, ref)
		} else {
			p.Refs[ref] = move.To
		}
	}
	event := value(c.FinishPublish(tb.Context(), p))(tb)
	if event.Publish != number {
		tb.Errorf("the event has publish %d, want %d", event.Publish, number)
	}
}

func TestHistory(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		type moves = map[string]hubapi.RefMove
		ctx := t.Context()
		if n := value(c.LastPublish(ctx, "stable"))(t); n != 0 {
			t.Errorf("last publish %d", n)
		}
		published(t, c, "stable", 2, moves{"a": {To: "a1"}, "b": {To: "b1"}})
		published(t, c, "beta", 9, moves{"a": {To: "x"}})
		published(t, c, "stable", 3, moves{"a": {From: "a1", To: "a2"}})
		published(t, c, "stable", 4, nil) // only files: it counts, and is not listed
		published(t, c, "stable", 7, moves{"a": {From: "a2", To: "a3"}, "b": {From: "b1"}, "c": {To: "c1"}})

		if n := value(c.LastPublish(ctx, "stable"))(t); n != 7 {
			t.Errorf("last publish %d", n)
		}
		numbers := func(ref string, before int64, limit int) (got []int64) {
			for _, p := range value(c.Publishes(ctx, "stable", ref, before, limit))(t) {
				got = append(got, p.Number)
			}
			return got
		}
		equal(t, numbers("", 0, 10), []int64{7, 3, 2})
		equal(t, numbers("", 7, 1), []int64{3})
		equal(t, numbers("b", 0, 10), []int64{7, 2})
		equal(t, value(c.Publish(ctx, "stable", 7))(t).Refs, moves{"a": {From: "a2", To: "a3"}, "b": {From: "b1"}, "c": {To: "c1"}})
		_, err := c.Publish(ctx, "stable", 4)
		wantError(t, err, catalog.ErrNotFound)

		equal(t, value(c.Since(ctx, "stable", 2))(t), moves{"a": {From: "a1", To: "a3"}, "b": {From: "b1"}, "c": {To: "c1"}})
		equal(t, value(c.Since(ctx, "stable", 4))(t), moves{"a": {From: "a2", To: "a3"}, "b": {From: "b1"}, "c": {To: "c1"}})
		equal(t, value(c.Since(ctx, "stable", 7))(t), moves{})
		_, err = c.Since(ctx, "stable", 8)
		wantError(t, err, catalog.ErrNotFound)
		equal(t, value(c.LastMove(ctx, "stable", "a"))(t), hubapi.RefMove{From: "a2", To: "a3"})
		_, err = c.LastMove(ctx, "stable", "z")
		wantError(t, err, catalog.ErrNotFound)
	})
}

func TestHolds(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		ctx := t.Context()
		republish := func(app string) (*catalog.Job, error) {
			return c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobRepublish, Repo: "stable", Contents: map[string]string{"app": app}})
		}
		next := func() int64 {
			job := value(c.NextJob(ctx, catalog.JobFilter{Repo: "stable"}))(t)
			if job == nil {
				return 0
			}
			must(t, c.FinishJob(ctx, job.Claim(), nil))
			return job.ID
		}
		hold := value(c.By("reviewer").PlaceHold(ctx, hubapi.Hold{Repo: "stable", App: "org.a", Kind: hubapi.HoldWait, Reason: "r"}))(t)
		value(c.PlaceHold(ctx, hubapi.Hold{Repo: "beta", Kind: hubapi.HoldFreeze}))(t)
		first, below, other := value(republish("org.a"))(t), value(republish("org.a.Locale"))(t), value(republish("org.ab"))(t)
		held := value(c.HeldBy(ctx, below.ID))(t)
		if held == nil || held.ID != hold.ID || held.Actor != "reviewer" {
			t.Errorf("held by %+v", held)
		}
		if held := value(c.HeldBy(ctx, other.ID))(t); held != nil {
			t.Errorf("held by %+v", held)
		}
		equal(t, []int64{next(), next()}, []int64{other.ID, 0})

		freeze := value(c.PlaceHold(ctx, hubapi.Hold{Repo: "stable", Kind: hubapi.HoldFreeze, Reason: "moving"}))(t)
		_, err := republish("org.b")
		if frozen, ok := errors.AsType[*catalog.FrozenError](err); !ok || frozen.Hold.ID != freeze.ID {
			t.Errorf("got %v", err)
		}
		must(t, c.ReleaseHold(ctx, "stable", freeze.ID))
		wantError(t, c.ReleaseHold(ctx, "beta", hold.ID), catalog.ErrNotFound)
		must(t, c.ReleaseHold(ctx, "stable", hold.ID))
		equal(t, []int64{next(), next(), next()}, []int64{first.ID, below.ID, 0})
	})
}

// A clock that is set back by a month holds nothing up: jobs that were put off a
// little start, interrupted ones are taken up, and numbers go on.
func TestClockSetBack(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		ctx := t.Context()
		filter := catalog.JobFilter{Repo: "stable"}
		enqueue := func() *catalog.Job {
			return value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobRollback, Repo: "stable"}))(t)
		}
		published(t, c, "stable", 1, map[string]hubapi.RefMove{"a": {To: "a1"}})
		put := enqueue()
		job := value(c.NextJob(ctx, filter))(t)
		must(t, c.ReleaseJob(ctx, job.Claim(), w.Now().Add(time.Minute)))
		if early := value(c.NextJob(ctx, filter))(t); early != nil {
			t.Errorf("job %d is put off and starts", early.ID)
		}

		w.advance(-30 * 24 * time.Hour)
		if job = value(c.NextJob(ctx, filter))(t); job == nil || job.ID != put.ID {
			t.Fatalf("the job put off is %+v", job)
		}
		after := enqueue()
		again := w.open("a") // as after a restart: the claim of the process before is void
		found := value(again.Recover(ctx))(t)
		if len(found.Requeued) != 1 || found.Requeued[0].ID != put.ID {
			t.Errorf("found %+v", found)
		}
		for _, want := range []int64{put.ID, after.ID} {
			job := value(again.NextJob(ctx, filter))(t)
			if job == nil || job.ID != want {
				t.Fatalf("next is %+v, want %d", job, want)
			}
			must(t, again.FinishJob(ctx, job.Claim(), nil))
		}
		published(t, again, "stable", 2, map[string]hubapi.RefMove{"a": {From: "a1", To: "a2"}})
		list := value(again.Publishes(ctx, "stable", "", 0, 10))(t)
		if len(list) != 2 || list[0].Number != 2 || list[0].Event <= list[1].Event {
			t.Errorf("history %+v", list)
		}
	})
}
