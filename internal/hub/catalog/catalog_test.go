package catalog_test

import (
	"errors"
	"fmt"
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
			Contents: `{"build":1}`, Actor: "hub", Attempt: 1, Created: w.Now(), Started: w.Now(),
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

func TestTokens(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		expires := w.Now().Add(24 * time.Hour)
		use := func(jti string) bool { t.Helper(); return value(c.UseToken(ctx, jti, "", expires))(t) }
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
		value(c.UseToken(ctx, "short", "", w.Now().Add(time.Minute)))(t)
		value(c.UseToken(ctx, "long", "", w.Now().Add(time.Hour)))(t)
		value(c.UseToken(ctx, "revoked", "", w.Now().Add(time.Minute)))(t)
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
