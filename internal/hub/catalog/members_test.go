package catalog_test

import (
	"errors"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

func TestMembers(t *testing.T) {
	each(t, func(t *testing.T, w *world, a *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		b := w.open("b")
		if _, _, err := a.Beat(ctx); !errors.Is(err, catalog.ErrBuried) {
			t.Errorf("a sign of life of who has not joined: %v", err)
		}
		must(t, a.Join(ctx, "http://a"))
		must(t, b.Join(ctx, "http://b"))
		take := func(c *catalog.Catalog, newest, want int64) {
			t.Helper()
			fence, taken, err := c.TakeLead(ctx, "repo/stable", newest)
			must(t, err)
			if taken != (want > 0) || fence != want {
				t.Errorf("fence %d, %v, want %d", fence, taken, want)
			}
		}
		take(a, 0, 1)
		take(b, 0, 0)
		take(a, 1, 1)
		take(a, 7, 8) // the repository knows a newer one: the database is a copy

		// A job of a and what it leads come to b when a is buried.
		commit := value(a.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobRepublish, Repo: "stable"}))(t)
		job := value(a.NextJob(ctx, catalog.JobFilter{}))(t)
		members, leads, err := b.Beat(ctx)
		must(t, err)
		if len(members) != 2 || members[0].Address != "http://a" || len(leads) != 1 || leads[0].Holder != a.Boot() || leads[0].Fence != 8 {
			t.Fatalf("members %+v, leads %+v", members, leads)
		}
		seen := members[0]
		_, _, err = a.Beat(ctx)
		must(t, err)
		if _, buried, err := b.Bury(ctx, seen); err != nil || buried {
			t.Errorf("buried who lives: %v, %v", buried, err)
		}
		members, _, err = b.Beat(ctx)
		must(t, err)
		found, buried, err := b.Bury(ctx, members[0])
		must(t, err)
		if !buried || len(found.Requeued) != 1 || found.Requeued[0].ID != commit.ID {
			t.Fatalf("buried %v, found %+v", buried, found)
		}
		take(b, 0, 9)
		again := value(b.NextJob(ctx, catalog.JobFilter{}))(t)
		if again == nil || again.ID != job.ID || again.Attempt != 2 {
			t.Fatalf("b has %+v", again)
		}

		// a wakes up.
		for _, err := range []error{
			func() error { _, _, err := a.Beat(ctx); return err }(),
			func() error { _, _, err := a.TakeLead(ctx, "repo/stable", 0); return err }(),
			func() error { _, _, err := a.Bury(ctx, members[1]); return err }(),
		} {
			if !errors.Is(err, catalog.ErrBuried) {
				t.Errorf("a goes on: %v", err)
			}
		}
		if err := a.FinishJob(ctx, job.Claim(), struct{}{}); !errors.Is(err, catalog.ErrClaimLost) {
			t.Errorf("a ends its job: %v", err)
		}
		must(t, a.Join(ctx, "http://a"))
		take(a, 0, 0)

		// A lead that is dropped, or whose member leaves, is free at once.
		must(t, b.DropLead(ctx, "repo/stable", 8))
		take(a, 0, 0)
		must(t, b.DropLead(ctx, "repo/stable", 9))
		take(a, 0, 10)
		must(t, a.Leave(ctx))
		take(b, 0, 11)

		// A new life under the same name has nothing of the former.
		must(t, w.open("b").Join(ctx, "http://b2"))
		if _, _, err := b.Beat(ctx); !errors.Is(err, catalog.ErrBuried) {
			t.Errorf("the former b lives on: %v", err)
		}
		members, leads, err = a.Members(ctx)
		must(t, err)
		if len(members) != 1 || members[0].Address != "http://b2" || leads[0].Holder != "" {
			t.Errorf("members %+v, leads %+v", members, leads)
		}
	})
}
