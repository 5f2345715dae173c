package catalog_test

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

func TestQueueOrder(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		enqueue := func(kind hubapi.JobKind, repo string, more ...func(*catalog.NewJob)) *catalog.Job {
			j := catalog.NewJob{Kind: kind, Repo: repo}
			for _, f := range more {
				f(&j)
			}
			return value(c.EnqueueJob(ctx, j))(t)
		}
		next := func(want *catalog.Job, kinds ...hubapi.JobKind) *catalog.Job {
			t.Helper()
			job := claim(t, c, kinds...)
			if job.ID != want.ID {
				t.Fatalf("claimed %s job %d, want %d", job.Kind, job.ID, want.ID)
			}
			return job
		}
		end := func(job *catalog.Job) { t.Helper(); must(t, c.FinishJob(ctx, job.Claim(), struct{}{})) }

		prune := enqueue(hubapi.JobPrune, "stable")
		first := enqueue(hubapi.JobRepublish, "stable")
		second := enqueue(hubapi.JobRepublish, "stable")
		other := enqueue(hubapi.JobRepublish, "beta")
		commit1 := enqueue(hubapi.JobCommit, "stable")
		commit2 := enqueue(hubapi.JobCommit, "stable")

		equal(t, value(c.JobCounts(ctx))(t), []catalog.JobCount{
			{Kind: hubapi.JobCommit, Repo: "stable", Count: 2},
			{Kind: hubapi.JobRepublish, Repo: "beta", Count: 1},
			{Kind: hubapi.JobRepublish, Repo: "stable", Count: 2},
			{Kind: hubapi.JobPrune, Repo: "stable", Count: 1},
		})

		// One job of a repository at a time, oldest first; commits beside
		// everything, and a prune too, last.
		running := next(first)
		runningOther := next(other)
		next(commit1)
		next(commit2)
		end(next(prune))
		wantNoJob(t, c, catalog.JobFilter{})
		end(runningOther)
		wantNoJob(t, c, catalog.JobFilter{})
		end(running)
		wantNoJob(t, c, catalog.JobFilter{Repo: "beta"})
		wantNoJob(t, c, catalog.JobFilter{Kinds: []hubapi.JobKind{hubapi.JobCommit}})
		running = next(second)
		end(running)

		// After an hour a prune waits like everybody else, and is in nobody's way.
		prune = enqueue(hubapi.JobPrune, "stable")
		third := enqueue(hubapi.JobRepublish, "stable")
		w.advance(2 * time.Hour)
		running = next(prune)
		end(next(third))
		end(running)

		// Not before its time, and not before what it depends on has ended.
		later := enqueue(hubapi.JobPublish, "stable", func(j *catalog.NewJob) { j.StartAfter = w.Now().Add(time.Minute) })
		dependent := enqueue(hubapi.JobUpdateRepo, "beta", func(j *catalog.NewJob) { j.DependsOn = []int64{later.ID} })
		wantNoJob(t, c, catalog.JobFilter{})
		w.advance(time.Minute)
		running = next(later)
		wantNoJob(t, c, catalog.JobFilter{})
		shown := value(c.JobWithLog(ctx, later.ID, 0))(t)
		equal(t, shown.StartAfter, &hubapi.StartAfter{Seconds: w.Now().Unix(), Nanos: int32(w.Now().Nanosecond())})
		must(t, c.FailJob(ctx, running.Claim(), "no"))
		end(next(dependent))

		// A job given back is there at once, or when it says so.
		again := enqueue(hubapi.JobRepublish, "stable")
		running = next(again)
		must(t, c.ReleaseJob(ctx, running.Claim(), time.Time{}))
		running = next(again)
		must(t, c.ReleaseJob(ctx, running.Claim(), w.Now().Add(time.Minute)))
		wantNoJob(t, c, catalog.JobFilter{})
		w.advance(time.Minute)
		stale := running.Claim()
		running = next(again)
		wantError(t, c.FinishJob(ctx, stale, nil), catalog.ErrClaimLost)
		wantError(t, c.Extend(ctx, stale), catalog.ErrClaimLost)
		wantError(t, c.ReleaseJob(ctx, stale, time.Time{}), catalog.ErrClaimLost)
		must(t, c.Extend(ctx, running.Claim()))
		end(running)
		_, err := c.Job(ctx, 99)
		wantError(t, err, catalog.ErrNotFound)
	})
}

func TestMergedPublishes(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		var builds []int64
		for _, repo := range []string{"stable", "stable", "stable", "stable", "beta"} {
			builds = append(builds, ready(t, c, repo))
		}
		for _, build := range builds {
			value(c.StartPublish(ctx, build, nil))(t)
		}
		first := claim(t, c)
		more := value(c.ClaimAlike(ctx, first, 2))(t)
		jobs := append([]*catalog.Job{first}, more...)
		var got []int64
		publish := catalog.Publish{Key: "k", Repo: "stable", Base: "/repo/stable/", Changed: []string{"summary"}, Removed: []string{"gone"}, Refs: map[string]string{"appstream2/x86_64": "aa"}}
		for i, job := range jobs {
			got = append(got, job.Build)
			publish.Jobs = append(publish.Jobs, catalog.PublishedJob{Claim: job.Claim(), Refs: map[string]string{fmt.Sprint("ref", i): fmt.Sprint("c", i)}})
		}
		equal(t, got, builds[:3])
		wantNoJob(t, c, catalog.JobFilter{Repo: "stable"})
		event := value(c.FinishPublish(ctx, publish))(t)
		equal(t, event.Refs, map[string]string{"ref0": "c0", "ref1": "c1", "ref2": "c2", "gone": "", "appstream2/x86_64": "aa"})
		equal(t, event.Build, int64(0))
		for i, build := range builds[:3] {
			equal(t, value(c.Build(ctx, build))(t).PublishedState, hubapi.Published)
			results := *value(c.JobWithLog(ctx, jobs[i].ID, 0))(t).Results
			equal(t, results, fmt.Sprintf(`{"refs":{"ref%d":"c%d"},"update-repo-job":%d,"serial":1}`, i, i, jobs[i].ID))
		}
		equal(t, value(c.Build(ctx, builds[3]))(t).PublishedState, hubapi.Publishing)
		equal(t, claim(t, c).Build, builds[3])
	})
}

func TestRecover(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		build := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t).ID
		value(c.StartCommit(ctx, build, nil))(t)
		purged := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t).ID
		value(c.StartPurge(ctx, purged))(t)
		claim(t, c)

		// Our own jobs, and those of others who live, are left alone.
		found := value(c.Recover(ctx))(t)
		equal(t, len(found.Requeued), 0)
		equal(t, found.Purging[0].ID, purged)
		other := w.open("b")
		equal(t, len(value(other.Recover(ctx))(t).Requeued), 0)
		w.advance(catalog.Lease - time.Second)
		must(t, c.AppendLog(ctx, 1, "still alive\n"))
		w.advance(2 * time.Second)
		equal(t, len(value(other.Recover(ctx))(t).Requeued), 0)
		w.advance(catalog.Lease)
		equal(t, len(value(other.Recover(ctx))(t).Requeued), 1)

		// A job is retried after a restart, with its build as it was.
		for i := 2; i < catalog.MaxInterruptions; i++ {
			job := claim(t, c)
			equal(t, job.Attempt, int64(i))
			c = w.open("a")
			found = value(c.Recover(ctx))(t)
			equal(t, []int{len(found.Requeued), len(found.Failed)}, []int{1, 0})
			equal(t, value(c.Build(ctx, build))(t).RepoState, hubapi.RepoCommitting)
		}
		// But not for ever.
		claim(t, c)
		c = w.open("a")
		found = value(c.Recover(ctx))(t)
		equal(t, []int{len(found.Requeued), len(found.Failed)}, []int{0, 1})
		b := value(c.Build(ctx, build))(t)
		equal(t, []any{b.RepoState, *b.RepoStateReason}, []any{hubapi.RepoFailed, "The hub died 5 times while it worked on this job"})
		wantNoJob(t, c, catalog.JobFilter{})
	})
}

func TestJobLog(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		job := value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobCommit}))(t).ID
		log := func(offset int64) string { t.Helper(); return value(c.JobWithLog(ctx, job, offset))(t).Log }
		equal(t, log(0), "")
		equal(t, log(10), "")
		var want strings.Builder
		for i := range 30 {
			line := fmt.Sprintf("%d größer\x00\xff\n", i)
			must(t, c.AppendLog(ctx, job, line))
			fmt.Fprintf(&want, "%d größer\uFFFD\uFFFD\n", i)
		}
		must(t, c.AppendLog(ctx, job, ""))
		all := want.String()
		for offset := range len(all) + 2 {
			tail := ""
			if offset < len(all) {
				tail = strings.TrimLeftFunc(strings.ToValidUTF8(all[offset:], "\x00"), func(r rune) bool { return r == 0 })
			}
			if got := log(int64(offset)); got != tail {
				t.Fatalf("from %d: %q, want %q", offset, got, tail)
			}
		}
		equal(t, log(-1), all)
		wantError(t, c.AppendLog(ctx, 99, "x"), catalog.ErrNotFound)

		// A log ends where it is full, and says so once.
		for range 5 {
			must(t, c.AppendLog(ctx, job, strings.Repeat("ä", catalog.MaxLog/8)))
		}
		must(t, c.AppendLog(ctx, job, "more"))
		full := log(0)
		if len(full) != catalog.MaxLog || strings.Count(full, "the log is full") != 1 || strings.Contains(full, "more") {
			t.Errorf("full log: %d bytes, ends with %q", len(full), full[len(full)-60:])
		}
	})
}

// Many workers of several processes claim every job once, and never two of a
// repository at a time.
func TestClaimsUnderConcurrency(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		const jobs = 24
		ctx := t.Context()
		for i := range jobs {
			kind := []hubapi.JobKind{hubapi.JobCommit, hubapi.JobRepublish}[i%2]
			value(c.EnqueueJob(ctx, catalog.NewJob{Kind: kind, Repo: fmt.Sprint("repo", i%3)}))(t)
		}
		var mu sync.Mutex
		done := map[int64]int{}
		busy := map[string]bool{}
		var group sync.WaitGroup
		for handle := range 2 {
			h := w.open(fmt.Sprint("handle", handle))
			for range 3 {
				group.Go(func() {
					for {
						mu.Lock()
						left := jobs - len(done)
						mu.Unlock()
						if left == 0 {
							return
						}
						job, err := h.NextJob(ctx, catalog.JobFilter{})
						if err != nil {
							t.Error(err)
							return
						}
						if job == nil {
							select {
							case <-ctx.Done():
								return
							case <-time.After(time.Millisecond):
							}
							continue
						}
						mu.Lock()
						if job.Kind != hubapi.JobCommit {
							if busy[job.Repo] {
								t.Errorf("two jobs of %s at a time", job.Repo)
							}
							busy[job.Repo] = true
						}
						mu.Unlock()
						if err := h.AppendLog(ctx, job.ID, "working\n"); err != nil {
							t.Error(err)
						}
						mu.Lock()
						if job.Kind != hubapi.JobCommit {
							busy[job.Repo] = false
						}
						done[job.ID]++
						mu.Unlock()
						if err := h.FinishJob(ctx, job.Claim(), nil); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
		}
		group.Wait()
		want := map[int64]int{}
		for id := range int64(jobs) {
			want[id+1] = 1
		}
		if !maps.Equal(done, want) {
			t.Errorf("jobs done: %v", done)
		}
	})
}

// Publishes are merged, but none overtakes another job of the repository.
func TestMergedPublishesKeepTheirOrder(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		publish := func() *catalog.Job { return value(c.StartPublish(ctx, ready(t, c, "stable"), nil))(t) }
		publish()
		second := publish()
		republish := value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobRepublish, Repo: "stable"}))(t)
		value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobPrune, Repo: "stable"}))(t)
		last := publish()

		first := claim(t, c)
		more := value(c.ClaimAlike(ctx, first, 10))(t)
		if len(more) != 1 || more[0].ID != second.ID {
			t.Fatalf("merged with %+v, want job %d", more, second.ID)
		}
		must(t, c.FailJob(ctx, first.Claim(), "no"))
		must(t, c.FailJob(ctx, second.Claim(), "no"))
		next := claim(t, c)
		equal(t, next.ID, republish.ID)
		must(t, c.FailJob(ctx, next.Claim(), "no"))
		equal(t, claim(t, c).ID, last.ID)
	})
}
