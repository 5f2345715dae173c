package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/sqldb/sqldbtest"
)

// clock is a clock that moves when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a database with a clock; open opens a handle on it, as a process
// would.
type world struct {
	*clock
	t   *testing.T
	dsn string
}

func (w *world) open(instance string) *catalog.Catalog {
	w.t.Helper()
	c, err := catalog.Open(w.t.Context(), catalog.Config{DSN: w.dsn, Instance: instance, Now: w.Now})
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, c.Close()) })
	return c
}

// each runs a test against both engines.
func each(t *testing.T, test func(t *testing.T, w *world, c *catalog.Catalog)) {
	t.Helper()
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		t.Helper()
		w := &world{clock: newClock(), t: t, dsn: newDSN()}
		test(t, w, w.open("a"))
	})
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// value returns v, or ends the test.
func value[T any](v T, err error) func(tb testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		must(tb, err)
		return v
	}
}

func equal(tb testing.TB, got, want any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("(-want +got)\n%s", diff)
	}
}

func wantState(tb testing.TB, err error, kind hubapi.ErrorKind, current, expected string) {
	tb.Helper()
	e, ok := errors.AsType[*catalog.WrongStateError](err)
	if !ok || e.Kind != kind || e.Current != current || e.Expected != expected {
		tb.Errorf("got %v, want %s with %s instead of %s", err, kind, current, expected)
	}
}

func wantError(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("got %v, want %v", err, want)
	}
}

// ready makes a build and brings it to Ready.
func ready(tb testing.TB, c *catalog.Catalog, repo string) int64 {
	tb.Helper()
	build := value(c.CreateBuild(tb.Context(), catalog.NewBuild{Repo: repo}))(tb)
	value(c.StartCommit(tb.Context(), build.ID, nil))(tb)
	job := claim(tb, c, hubapi.JobCommit)
	must(tb, c.FinishCommit(tb.Context(), job.Claim(), map[string]string{"ref": "c0ffee"}))
	return build.ID
}

func claim(tb testing.TB, c *catalog.Catalog, kinds ...hubapi.JobKind) *catalog.Job {
	tb.Helper()
	job := value(c.NextJob(tb.Context(), catalog.JobFilter{Kinds: kinds}))(tb)
	if job == nil {
		tb.Fatal("no job to claim")
	}
	return job
}

func wantNoJob(tb testing.TB, c *catalog.Catalog, filter catalog.JobFilter) {
	tb.Helper()
	if job := value(c.NextJob(tb.Context(), filter))(tb); job != nil {
		tb.Errorf("claimed %s job %d", job.Kind, job.ID)
	}
}

func TestBuilds(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		created := hubapi.Timestamp{Time: w.Now()}
		first := value(c.By("ci").CreateBuild(ctx, catalog.NewBuild{
			Repo: "stable", AppID: new("org.a"), BuildLogURL: new("https://x\x00\xff"), TokenName: new("ci"), TokenType: new(int32(1)),
		}))(t)
		want := hubapi.Build{
			ID: 1, Created: created, Repo: "stable", ExtraIDs: []string{}, AppID: new("org.a"),
			BuildLogURL: new("https://x\uFFFD\uFFFD"), TokenName: new("ci"), TokenType: new(int32(1)),
		}
		equal(t, first, want)
		equal(t, value(c.Build(ctx, 1))(t), want)
		second := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "beta", PublicDownload: true}))(t)
		equal(t, second, hubapi.Build{ID: 2, Created: created, Repo: "beta", ExtraIDs: []string{}, PublicDownload: true})

		_, err := c.Build(ctx, 3)
		wantError(t, err, catalog.ErrNotFound)
		_, err = c.ExtendedBuild(ctx, 3)
		wantError(t, err, catalog.ErrNotFound)

		equal(t, value(c.Builds(ctx, nil))(t), []hubapi.Build{second})
		equal(t, value(c.Builds(ctx, new("org.a")))(t), []hubapi.Build{first})
		equal(t, value(c.Builds(ctx, new("org.b")))(t), []hubapi.Build{})

		changed := value(c.AddExtraIDs(ctx, 1, []string{"org.c", "org.b"}))(t)
		equal(t, changed.ExtraIDs, []string{"org.b", "org.c"})
		changed = value(c.AddExtraIDs(ctx, 1, []string{"org.b", "org.d"}))(t)
		equal(t, changed.ExtraIDs, []string{"org.b", "org.c", "org.d"})

		audit := value(c.Audit(ctx, 0, 1))(t)
		all := value(c.Audit(ctx, 0, 100))(t)
		equal(t, audit[0], all[0])
		oldest := all[len(all)-1]
		equal(t, oldest, catalog.AuditEntry{ID: 1, Time: w.Now(), Actor: "ci", Action: "build.create", Object: "build/1", Detail: "stable"})
		equal(t, value(c.Audit(ctx, 2, 100))(t), []catalog.AuditEntry{oldest})
	})
}

func TestBuildRefs(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t)
		value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t)
		value(c.AddBuildRef(ctx, 1, hubapi.CreateBuildRefRequest{Ref: "b", Commit: "01"}))(t)
		a := value(c.AddBuildRef(ctx, 1, hubapi.CreateBuildRefRequest{Ref: "a", Commit: "02", BuildLogURL: new("u")}))(t)
		equal(t, a, hubapi.BuildRef{ID: 2, BuildID: 1, RefName: "a", Commit: "02", BuildLogURL: new("u")})
		value(c.AddBuildRef(ctx, 2, hubapi.CreateBuildRefRequest{Ref: "a", Commit: "03"}))(t)

		// The same ref again is the same ref, with the new commit.
		b := value(c.AddBuildRef(ctx, 1, hubapi.CreateBuildRefRequest{Ref: "b", Commit: "04"}))(t)
		equal(t, b.ID, int64(1))
		equal(t, value(c.BuildRefs(ctx, 1))(t), []hubapi.BuildRef{a, b})
		equal(t, value(c.BuildRef(ctx, 1, 1))(t), b)
		_, err := c.BuildRef(ctx, 2, 1)
		wantError(t, err, catalog.ErrNotFound)
		_, err = c.AddBuildRef(ctx, 9, hubapi.CreateBuildRefRequest{Ref: "b", Commit: "04"})
		wantError(t, err, catalog.ErrNotFound)

		value(c.StartCommit(ctx, 1, nil))(t)
		_, err = c.AddBuildRef(ctx, 1, hubapi.CreateBuildRefRequest{Ref: "b", Commit: "05"})
		wantState(t, err, hubapi.ErrWrongRepoState, "committing", "uploading")
		_, err = c.AddExtraIDs(ctx, 1, []string{"x"})
		wantState(t, err, hubapi.ErrWrongRepoState, "committing", "uploading")
		wantState(t, c.RequireUploading(ctx, 1), hubapi.ErrWrongRepoState, "committing", "uploading")
		must(t, c.RequireUploading(ctx, 2))

		must(t, c.SetRepoState(ctx, 2, hubapi.RepoUploading, hubapi.RepoFailed, "why"))
		err = c.SetRepoState(ctx, 2, hubapi.RepoUploading, hubapi.RepoReady, "")
		wantState(t, err, hubapi.ErrWrongRepoState, "failed", "uploading")
		equal(t, value(c.Build(ctx, 2))(t).RepoStateReason, new("why"))
	})
}

func TestLifeOfABuild(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		build := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t).ID
		_, err := c.StartPublish(ctx, build, nil)
		wantState(t, err, hubapi.ErrWrongRepoState, "uploading", "ready")

		commit := value(c.StartCommit(ctx, build, map[string]any{"build": build}))(t)
		_, err = c.StartCommit(ctx, build, nil)
		wantState(t, err, hubapi.ErrWrongRepoState, "committing", "uploading")
		_, err = c.StartPurge(ctx, build)
		wantError(t, err, catalog.ErrInUse)
		b := value(c.Build(ctx, build))(t)
		equal(t, []any{b.RepoState, *b.CommitJobID}, []any{hubapi.RepoCommitting, commit.ID})

		job := claim(t, c)
		equal(t, job, &catalog.Job{
			ID: commit.ID, Kind: hubapi.JobCommit, Status: hubapi.JobStarted, Repo: "stable", Build: build,
			Contents: `{"build":1}`, Attempt: 1, Created: w.Now(), Started: w.Now(),
		})
		must(t, c.FinishCommit(ctx, job.Claim(), map[string]string{"app/org.a/x86_64/stable": "c1"}))
		equal(t, value(c.JobWithLog(ctx, job.ID, 0))(t), hubapi.Job{
			ID: job.ID, Kind: hubapi.JobCommit, Status: hubapi.JobEnded, Contents: `{"build":1}`,
			Results: new(`{"refs":{"app/org.a/x86_64/stable":"c1"}}`),
		})
		equal(t, value(c.Build(ctx, build))(t).RepoState, hubapi.RepoReady)
		wantError(t, c.FinishCommit(ctx, job.Claim(), nil), catalog.ErrClaimLost)

		// A publish that failed may be asked for again.
		value(c.StartPublish(ctx, build, nil))(t)
		_, err = c.StartPublish(ctx, build, nil)
		wantState(t, err, hubapi.ErrWrongPublishedState, "publishing", "unpublished")
		_, err = c.StartPurge(ctx, build)
		wantError(t, err, catalog.ErrInUse)
		job = claim(t, c)
		must(t, c.FailJob(ctx, job.Claim(), "disk\x00full"))
		shown := value(c.JobWithLog(ctx, job.ID, 0))(t)
		equal(t, []any{shown.Status, *shown.Results, *shown.Repo}, []any{hubapi.JobBroken, `{"error-message":"disk` + "\uFFFD" + `full"}`, "stable"})
		b = value(c.Build(ctx, build))(t)
		equal(t, []any{b.PublishedState, *b.PublishedStateReason, b.RepoState}, []any{hubapi.PublishFailed, "disk\uFFFDfull", hubapi.RepoReady})

		value(c.StartPublish(ctx, build, nil))(t)
		equal(t, value(c.Build(ctx, build))(t).PublishedStateReason, (*string)(nil))
		job = claim(t, c)
		refs := map[string]string{"app/org.a/x86_64/stable": "c2"}
		event := value(c.FinishPublish(ctx, catalog.Publish{
			Key: "k", Repo: "stable", Base: "/repo/stable/", Changed: []string{"summary"},
			Jobs: []catalog.PublishedJob{{Claim: job.Claim(), Refs: refs}},
		}))(t)
		equal(t, event, hubapi.Event{
			Serial: 1, Time: w.Now(), Kind: hubapi.EventPublish, Repo: "stable", Base: "/repo/stable/",
			Changed: []string{"summary"}, Refs: refs, Build: build,
		})
		shown = value(c.JobWithLog(ctx, job.ID, 0))(t)
		equal(t, *shown.Results, fmt.Sprintf(`{"refs":{"app/org.a/x86_64/stable":"c2"},"update-repo-job":%d,"serial":1}`, job.ID))
		equal(t, value(c.Build(ctx, build))(t).PublishedState, hubapi.Published)
		_, err = c.StartPublish(ctx, build, nil)
		wantState(t, err, hubapi.ErrWrongPublishedState, "published", "unpublished")

		purging := value(c.StartPurge(ctx, build))(t)
		equal(t, purging.RepoState, hubapi.RepoPurging)
		_, err = c.StartPurge(ctx, build)
		wantError(t, err, catalog.ErrInUse)
		equal(t, value(c.FinishPurge(ctx, build, "busy"))(t).RepoState, hubapi.RepoFailed)
		value(c.StartPurge(ctx, build))(t)
		equal(t, value(c.FinishPurge(ctx, build, ""))(t).RepoState, hubapi.RepoPurged)
		_, err = c.FinishPurge(ctx, build, "")
		wantState(t, err, hubapi.ErrWrongRepoState, "purged", "purging")
		equal(t, value(c.Builds(ctx, nil))(t), []hubapi.Build{})
		// The published state comes first, because clients take it for success.
		_, err = c.StartPublish(ctx, build, nil)
		wantState(t, err, hubapi.ErrWrongPublishedState, "published", "unpublished")
	})
}

func TestFailedCommit(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		build := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t).ID
		value(c.StartCommit(ctx, build, nil))(t)
		must(t, c.FailJob(ctx, claim(t, c).Claim(), "object missing"))
		b := value(c.Build(ctx, build))(t)
		equal(t, []any{b.RepoState, *b.RepoStateReason}, []any{hubapi.RepoFailed, "object missing"})
	})
}

func TestStaleBuilds(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		ids := func(before time.Time) (ids []int64) {
			for _, b := range value(c.StaleBuilds(ctx, before))(t) {
				ids = append(ids, b.ID)
			}
			return ids
		}
		abandoned := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t).ID
		committed := ready(t, c, "stable")
		busy := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t).ID
		value(c.StartCommit(ctx, busy, nil))(t)
		w.advance(time.Hour)
		value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t)
		equal(t, ids(w.Now()), []int64{abandoned, committed})
		equal(t, ids(w.Now().Add(-2*time.Hour)), []int64(nil))
		value(c.StartPurge(ctx, abandoned))(t)
		equal(t, ids(w.Now()), []int64{committed})
	})
}

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

		// One job of a repository at a time, oldest first, prune last;
		// commits beside everything.
		running := next(first)
		runningOther := next(other)
		next(commit1)
		next(commit2)
		wantNoJob(t, c, catalog.JobFilter{})
		end(runningOther)
		wantNoJob(t, c, catalog.JobFilter{})
		end(running)
		wantNoJob(t, c, catalog.JobFilter{Repo: "beta"})
		wantNoJob(t, c, catalog.JobFilter{Kinds: []hubapi.JobKind{hubapi.JobCommit}})
		running = next(second)
		end(running)

		// After an hour a prune waits like everybody else.
		third := enqueue(hubapi.JobRepublish, "stable")
		w.advance(2 * time.Hour)
		end(next(prune))
		end(next(third))

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

func TestTokens(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		expires := w.Now().Add(24 * time.Hour)
		use := func(jti string) bool { t.Helper(); return value(c.UseToken(ctx, jti, expires))(t) }
		first := w.Now()
		equal(t, use("one"), false)
		w.advance(30 * time.Second)
		equal(t, use("one"), false)
		one := catalog.Token{ID: "one", Expires: expires, LastUsed: first}
		equal(t, value(c.Tokens(ctx, []string{"zero", "one"}))(t), []catalog.Token{one})
		w.advance(time.Minute)
		equal(t, use("one"), false)
		one.LastUsed = w.Now()
		equal(t, value(c.Tokens(ctx, []string{"one"}))(t), []catalog.Token{one})

		must(t, c.By("admin").RevokeTokens(ctx, []string{"one", "never seen"}))
		revoked := w.Now()
		equal(t, use("one"), true)
		equal(t, use("never seen"), true)
		equal(t, use("two"), false)
		w.advance(time.Hour)
		must(t, c.RevokeTokens(ctx, []string{"one"}))
		equal(t, value(c.Tokens(ctx, []string{"one"}))(t)[0].Revoked, revoked)
		equal(t, value(c.Audit(ctx, 2, 1))(t), []catalog.AuditEntry{{ID: 1, Time: revoked, Actor: "admin", Action: "token.revoke", Object: "token/one"}})
		must(t, c.RevokeTokens(ctx, nil))

		many := make([]string, 1200)
		for i := range many {
			many[i] = fmt.Sprint("absent", i)
		}
		equal(t, len(value(c.Tokens(ctx, append(many, "one", "two")))(t)), 2)
	})
}

func TestExpire(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		ended := value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobCommit}))(t)
		must(t, c.AppendLog(ctx, ended.ID, "old"))
		must(t, c.FinishJob(ctx, claim(t, c).Claim(), nil))
		queued := value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobCommit}))(t)
		must(t, c.AppendLog(ctx, queued.ID, "kept"))
		value(c.RecordTree(ctx, "k", hubapi.Event{Repo: "t"}))(t)
		value(c.UseToken(ctx, "short", w.Now().Add(time.Minute)))(t)
		value(c.UseToken(ctx, "long", w.Now().Add(time.Hour)))(t)
		value(c.UseToken(ctx, "revoked", w.Now().Add(time.Minute)))(t)
		must(t, c.RevokeTokens(ctx, []string{"unseen", "revoked"}))
		w.advance(10 * time.Minute)
		value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobPrune}))(t)

		must(t, c.Expire(ctx, w.Now().Add(-time.Minute)))
		equal(t, value(c.JobWithLog(ctx, ended.ID, 0))(t).Log, "")
		equal(t, value(c.JobWithLog(ctx, queued.ID, 0))(t).Log, "kept")
		equal(t, value(c.Head(ctx))(t), int64(1))
		tokens := value(c.Tokens(ctx, []string{"short", "long", "revoked", "unseen"}))(t)
		equal(t, []string{tokens[0].ID, tokens[1].ID, tokens[2].ID}, []string{"long", "revoked", "unseen"})
		equal(t, len(value(c.Audit(ctx, 0, 100))(t)), 1)
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
