package catalog_test

import (
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

// committed takes a build to the end of its commit, with these checks.
func committed(t *testing.T, c *catalog.Catalog, checks ...string) int64 {
	t.Helper()
	ctx := t.Context()
	build := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t).ID
	value(c.StartCommit(ctx, build, nil))(t)
	var all []catalog.NewCheck
	for _, name := range checks {
		all = append(all, catalog.NewCheck{Name: name, Contents: map[string]string{"name": name}})
	}
	must(t, c.FinishCommit(ctx, claim(t, c, hubapi.JobCommit).Claim(), map[string]string{"ref": "aa"}, all...))
	return build
}

func TestChecks(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		build := committed(t, c, "lint", "metadata")
		see := func(state hubapi.RepoState, reason string) {
			t.Helper()
			b := value(c.Build(ctx, build))(t)
			if b.RepoState != state || (b.RepoStateReason != nil) != (reason != "") || reason != "" && *b.RepoStateReason != reason {
				t.Errorf("build %+v, want %s %q", b, state, reason)
			}
		}
		pass := hubapi.CheckVerdict{Status: hubapi.CheckPassed}
		bad := hubapi.CheckVerdict{Status: hubapi.CheckFailed, Reason: "bad"}
		review := hubapi.CheckVerdict{Status: hubapi.CheckReviewRequired, Reason: "look"}

		see(hubapi.RepoValidating, "")
		first, second := claim(t, c, hubapi.JobCheck), claim(t, c, hubapi.JobCheck)
		equal(t, first.Contents, `{"name":"lint"}`)
		// The command's own word counts, unless it then fails; and the build waits
		// for its end all the same.
		must(t, c.ReviewCheck(ctx, first.ID, hubapi.CheckVerdict{Status: hubapi.CheckPassedWithWarnings, Reason: "hm"}, new("{}")))
		must(t, c.FinishCheck(ctx, second.Claim(), pass))
		see(hubapi.RepoValidating, "")
		must(t, c.FinishCheck(ctx, first.Claim(), pass))
		see(hubapi.RepoReady, "")
		wantError(t, c.FinishCheck(ctx, first.Claim(), bad), catalog.ErrClaimLost)
		checks := value(c.ExtendedBuild(ctx, build))(t).Checks
		equal(t, checks, []hubapi.Check{
			{CheckName: "lint", BuildID: build, JobID: first.ID, Status: hubapi.CheckPassedWithWarnings, StatusReason: new("hm"), Results: new("{}")},
			{CheckName: "metadata", BuildID: build, JobID: second.ID, Status: hubapi.CheckPassed},
		})
		must(t, c.ReviewCheck(ctx, second.ID, bad, nil))
		see(hubapi.RepoFailed, "1 out of 2 checks failed (metadata)")

		// Again: while it waits it is not queued twice.
		for _, name := range []string{"lint", "metadata"} {
			_, err := c.RetryCheck(ctx, build, name)
			wantError(t, err, catalog.ErrReviewed)
		}
		_, err := c.StartCommit(ctx, build, nil)
		wantError(t, err, catalog.ErrReviewed)
		see(hubapi.RepoFailed, "1 out of 2 checks failed (metadata)")
		again := value(c.AsReviewer().RetryCheck(ctx, build, "metadata"))(t)
		equal(t, value(c.RetryCheck(ctx, build, "metadata"))(t).ID, again.ID)
		equal(t, again.Contents, second.Contents)
		_, err = c.RetryCheck(ctx, build, "none")
		wantError(t, err, catalog.ErrNotFound)
		wantError(t, c.ReviewCheck(ctx, second.ID, pass, nil), catalog.ErrNotFound)
		see(hubapi.RepoValidating, "")
		must(t, c.FailJob(ctx, claim(t, c, hubapi.JobCheck).Claim(), "no such program"))
		see(hubapi.RepoFailed, "1 out of 2 checks failed (metadata)")

		// What broke, nobody has decided on, unless somebody does then.
		again = value(c.RetryCheck(ctx, build, "metadata"))(t)
		must(t, c.FailJob(ctx, claim(t, c, hubapi.JobCheck).Claim(), "no such program"))
		must(t, c.ReviewCheck(ctx, again.ID, bad, nil))
		_, err = c.RetryCheck(ctx, build, "metadata")
		wantError(t, err, catalog.ErrReviewed)
		value(c.AsReviewer().RetryCheck(ctx, build, "metadata"))(t)
		// What the command itself has failed is not done again alone.
		must(t, c.FinishCheck(ctx, claim(t, c, hubapi.JobCheck).Claim(), bad))
		_, err = c.RetryCheck(ctx, build, "metadata")
		wantError(t, err, catalog.ErrReviewed)

		// A new commit makes all of them anew; a job of before changes nothing.
		value(c.StartCommit(ctx, build, nil))(t)
		equal(t, len(value(c.ExtendedBuild(ctx, build))(t).Checks), 0)
		must(t, c.FinishCommit(ctx, claim(t, c, hubapi.JobCommit).Claim(), nil, catalog.NewCheck{Name: "lint"}))
		third := claim(t, c, hubapi.JobCheck)
		must(t, c.FinishCheck(ctx, third.Claim(), review))
		see(hubapi.RepoValidating, "")
		_, err = c.StartPublish(ctx, build, nil)
		if err == nil {
			t.Error("published before the review")
		}
		must(t, c.ReviewCheck(ctx, third.ID, pass, nil))
		see(hubapi.RepoReady, "")
		value(c.StartPublish(ctx, build, nil))(t)
		if err := c.ReviewCheck(ctx, third.ID, bad, nil); err == nil {
			t.Error("reviewed while it is published")
		}

		// One that brings the hub down again and again fails its build.
		build = committed(t, c, "deadly")
		for range catalog.MaxInterruptions {
			claim(t, c, hubapi.JobCheck)
			must(t, c.Close())
			c = w.open("a")
			value(c.Recover(ctx))(t)
		}
		see(hubapi.RepoFailed, "1 out of 1 checks failed (deadly)")
	})
}
