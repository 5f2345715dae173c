package catalog_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

func refs(tb testing.TB, c *catalog.Catalog, repo string) map[string]catalog.RefInfo {
	tb.Helper()
	all := map[string]catalog.RefInfo{}
	for r, err := range c.Refs(tb.Context(), repo) {
		must(tb, err)
		all[r.Ref] = r
	}
	return all
}

func TestPublishIsRecordedOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		build := ready(t, c, "stable")
		value(c.StartPublish(ctx, build, nil))(t)
		job := claim(t, c)
		must(t, c.SetRefs(ctx, "stable", []catalog.RefInfo{{Ref: "old", Commit: "01"}, {Ref: "app", Commit: "02", Info: []byte("x")}}, nil))
		must(t, c.SetRefs(ctx, "beta", []catalog.RefInfo{{Ref: "app", Commit: "09"}}, nil))
		publish := catalog.Publish{
			Key: "k1", Repo: "stable", Base: "/repo/stable/", Changed: []string{"summary"},
			Jobs:    []catalog.PublishedJob{{Claim: job.Claim(), Refs: map[string]string{"app": "03"}}},
			Infos:   []catalog.RefInfo{{Ref: "app", Commit: "03", Info: []byte("\x00\xff\xfe")}},
			Removed: []string{"old"},
		}
		event := value(c.FinishPublish(ctx, publish))(t)
		equal(t, refs(t, c, "stable"), map[string]catalog.RefInfo{"app": {Ref: "app", Commit: "03", Info: []byte("\x00\xff\xfe")}})
		equal(t, refs(t, c, "beta")["app"].Commit, "09")
		equal(t, refs(t, c, "none"), map[string]catalog.RefInfo{})

		// After a crash the same call comes again, from a new process.
		w.advance(time.Hour)
		c = w.open("a")
		value(c.Recover(ctx))(t)
		publish.Jobs[0].Claim.Attempt = 0
		equal(t, value(c.FinishPublish(ctx, publish))(t), event)
		equal(t, value(c.Head(ctx))(t), int64(1))

		// Another publish of the same job is somebody else's.
		publish.Key = "k2"
		_, err := c.FinishPublish(ctx, publish)
		wantError(t, err, catalog.ErrClaimLost)
		equal(t, value(c.Head(ctx))(t), int64(1))

		// Nothing changed: nothing to tell, and no serial used.
		quiet := catalog.Publish{Key: "k3", Repo: "stable", Infos: []catalog.RefInfo{{Ref: "found", Commit: "05"}}}
		equal(t, value(c.FinishPublish(ctx, quiet))(t).Serial, int64(0))
		equal(t, value(c.FinishPublish(ctx, quiet))(t), hubapi.Event{})
		equal(t, value(c.Head(ctx))(t), int64(1))
		equal(t, refs(t, c, "stable")["found"].Commit, "05")

		tree := hubapi.Event{Repo: "rpms", Base: "/tree/rpms/", Changed: []string{"repodata/repomd.xml"}, Generation: 4}
		recorded := value(c.RecordTree(ctx, "k1", tree))(t)
		equal(t, []any{recorded.Serial, recorded.Kind, recorded.Generation}, []any{int64(2), hubapi.EventTree, int64(4)})
		equal(t, value(c.RecordTree(ctx, "k1", tree))(t), recorded)
		equal(t, value(c.Head(ctx))(t), int64(2))
	})
}

// A crash after the publish was done on disk and before it was recorded: the
// publisher confirms it at the next start, before or after the job was queued
// again, but not after somebody began anew.
func TestPublishConfirmedAfterRestart(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		for i, restart := range []func(c *catalog.Catalog){
			func(*catalog.Catalog) {},
			func(c *catalog.Catalog) { value(c.Recover(ctx))(t) },
		} {
			for _, attempt := range []int64{0, 1} {
				build := ready(t, c, "stable")
				value(c.StartPublish(ctx, build, nil))(t)
				job := claim(t, c, hubapi.JobPublish)
				c = w.open("a")
				restart(c)
				equal(t, value(c.Build(ctx, build))(t).PublishedState, hubapi.Publishing)
				value(c.FinishPublish(ctx, catalog.Publish{
					Key: fmt.Sprint("k", i, attempt), Repo: "stable", Changed: []string{"summary"},
					Jobs: []catalog.PublishedJob{{Claim: catalog.Claim{Job: job.ID, Attempt: attempt}}},
				}))(t)
				equal(t, value(c.Build(ctx, build))(t).PublishedState, hubapi.Published)
				value(c.Recover(ctx))(t)
				wantNoJob(t, c, catalog.JobFilter{})
			}
		}
		build := ready(t, c, "stable")
		value(c.StartPublish(ctx, build, nil))(t)
		old := claim(t, c, hubapi.JobPublish)
		c = w.open("a")
		value(c.Recover(ctx))(t)
		claim(t, c, hubapi.JobPublish)
		_, err := c.FinishPublish(ctx, catalog.Publish{
			Key: "late", Repo: "stable", Changed: []string{"summary"},
			Jobs: []catalog.PublishedJob{{Claim: old.Claim()}}, Infos: []catalog.RefInfo{{Ref: "r", Commit: "01"}},
		})
		wantError(t, err, catalog.ErrClaimLost)
		equal(t, refs(t, c, "stable"), map[string]catalog.RefInfo{})
	})
}

func TestEvents(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		page := value(c.Events(ctx, 0, 10))(t)
		equal(t, page, hubapi.EventPage{Log: c.Log(), Events: []hubapi.Event{}})
		empty, full, err := c.EventPage(ctx, 0)
		must(t, err)
		equal(t, []any{empty, full}, []any{page, false})

		const total = hubapi.EventPageSize + 3
		var want []hubapi.Event
		for i := range total {
			w.advance(time.Millisecond)
			want = append(want, value(c.RecordTree(ctx, fmt.Sprint(i), hubapi.Event{Repo: "t", Base: "/tree/t/", Generation: int64(i)}))(t))
		}
		serials := slices.Collect(func(yield func(int64) bool) {
			for _, e := range want {
				yield(e.Serial)
			}
		})
		for i, serial := range serials {
			if serial != int64(i+1) {
				t.Fatalf("event %d has serial %d", i, serial)
			}
		}
		equal(t, value(c.Events(ctx, 0, 2))(t), hubapi.EventPage{Log: c.Log(), Events: want[:2], Head: total})
		equal(t, value(c.Events(ctx, total-1, 1000))(t).Events, want[total-1:])
		equal(t, value(c.Events(ctx, total, 1000))(t).Events, []hubapi.Event{})
		equal(t, value(c.Events(ctx, 5*total, -1))(t).Events, []hubapi.Event{})

		first, full, err := c.EventPage(ctx, 0)
		must(t, err)
		equal(t, []any{first, full}, []any{hubapi.EventPage{Log: c.Log(), Events: want[:100], Head: 100}, true})
		second, full, err := c.EventPage(ctx, 1)
		must(t, err)
		equal(t, []any{second, full}, []any{hubapi.EventPage{Log: c.Log(), Events: want[100:], Head: total}, false})
		for _, n := range []int64{2, -1, 1 << 62} {
			_, _, err = c.EventPage(ctx, n)
			wantError(t, err, catalog.ErrNotFound)
		}

		// The identity of the log stays, until it is renewed on purpose.
		equal(t, w.open("b").Log(), c.Log())
		must(t, c.RenewLog(ctx))
		if w.open("b").Log() == c.Log() {
			t.Error("the log has its old identity")
		}
	})
}

// Parallel writers of several processes leave no gap and no serial twice, and
// whoever sees a serial sees all before it.
func TestSerialsUnderConcurrency(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		const handles, writers, rounds = 2, 3, 12
		ctx := t.Context()
		var group, reader sync.WaitGroup
		done := make(chan struct{})
		reader.Go(func() {
			for after := int64(0); ; {
				page, err := c.Events(ctx, after, 1000)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range page.Events {
					if after++; e.Serial != after {
						t.Errorf("serial %d where %d is due", e.Serial, after)
						return
					}
				}
				select {
				case <-done:
					if after == page.Head {
						return
					}
				case <-time.After(time.Millisecond):
				}
			}
		})
		for handle := range handles {
			h := w.open(fmt.Sprint("handle", handle))
			for writer := range writers {
				group.Go(func() {
					for round := range rounds {
						// Some transactions fail after they took a serial, and each
						// key is recorded by two handles.
						if round%4 == 3 {
							gone, cancel := context.WithCancel(ctx)
							go cancel()
							_, _ = h.RecordTree(gone, fmt.Sprint("cancelled", handle, writer, round), hubapi.Event{Repo: "t"})
						}
						if _, err := h.RecordTree(ctx, fmt.Sprint(writer, round), hubapi.Event{Repo: "t"}); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		group.Wait()
		close(done)
		reader.Wait()
		head := value(c.Head(ctx))(t)
		events := value(c.Events(ctx, 0, 1000))(t).Events
		if int64(len(events)) != head || head < writers*rounds {
			t.Errorf("%d events, head %d", len(events), head)
		}
	})
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestChanged(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		events, jobs := c.EventsChanged(), c.JobsChanged()
		job := value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobCommit}))(t)
		equal(t, []bool{closed(events), closed(jobs)}, []bool{false, true})
		jobs = c.By("other").JobsChanged()
		must(t, c.AppendLog(ctx, job.ID, "x"))
		equal(t, closed(jobs), true)
		jobs = c.JobsChanged()
		must(t, c.EndLog(ctx, job.ID, "y"))
		equal(t, closed(jobs), false) // the end of the job will
		equal(t, value(c.JobWithLog(ctx, job.ID, 0))(t).Log, "xy")
		value(c.RecordTree(ctx, "k", hubapi.Event{Repo: "t"}))(t)
		equal(t, closed(events), true)

		// Another process hears of it too, once it watches.
		watching, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		other := w.open("b")
		go func() { ended <- other.Watch(watching) }()
		for i, wait := range []func() <-chan struct{}{other.EventsChanged, other.JobsChanged, other.EventsChanged} {
			// Until a change is seen, make changes: the first marks that Watch
			// reads are news to it as well.
			for changed := wait(); ; {
				value(c.RecordTree(ctx, fmt.Sprint(i, time.Now()), hubapi.Event{Repo: "t"}))(t)
				must(t, c.AppendLog(ctx, job.ID, "x"))
				select {
				case <-changed:
				case <-time.After(20 * time.Millisecond):
					continue
				case <-ctx.Done():
				}
				break
			}
		}
		stop()
		must(t, <-ended)
	})
}

func TestRefsStopsEarly(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		t.Helper()
		var infos []catalog.RefInfo
		for i := range 10 {
			infos = append(infos, catalog.RefInfo{Ref: fmt.Sprint("ref", i), Commit: "01"})
		}
		must(t, c.SetRefs(t.Context(), "stable", infos, nil))
		n := 0
		for r, err := range c.Refs(t.Context(), "stable") {
			must(t, err)
			if n++; r.Ref == "ref2" {
				break
			}
		}
		equal(t, n, 3)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range c.Refs(gone, "stable") {
			wantError(t, err, context.Canceled)
		}
		must(t, c.Ping(t.Context()))
	})
}
