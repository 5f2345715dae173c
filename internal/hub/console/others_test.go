package console_test

import (
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

// Nobody learns from what was published together with the own builds whose the others
// were, nor of the work on the whole repository.
func TestJobsOfOthers(t *testing.T) {
	w := newWorld(t, "")
	ctx, c := t.Context(), w.catalog
	w.publishRefs(1)
	refs, before := map[int64]string{}, map[string]string{}
	for i, who := range []string{"mine", "theirs"} {
		app := "org.example.App" + who
		as := c.By(who + "-actor")
		b, err := as.CreateBuild(ctx, catalog.NewBuild{Repo: "stable", AppID: &app})
		must(t, err)
		ref := "app/" + app + "/x86_64/stable"
		_, err = as.AddBuildRef(ctx, b.ID, hubapi.CreateBuildRefRequest{Ref: ref, Commit: strings.Repeat("a", 64)})
		must(t, err)
		_, err = as.StartCommit(ctx, b.ID, struct{}{})
		must(t, err)
		must(t, c.FinishCommit(ctx, w.next().Claim(), map[string]string{ref: strings.Repeat("b", 64)}))
		refs[b.ID], before[ref] = ref, ""
		w.mine[b.ID] = i == 0
	}
	for i, who := range []string{"mine", "theirs"} {
		_, err := c.By(who+"-actor").StartPublish(ctx, int64(i+1), struct{}{})
		must(t, err)
	}
	first := w.next()
	more, err := c.ClaimAlike(ctx, first, 10)
	must(t, err)
	var jobs []catalog.PublishedJob
	for _, job := range append([]*catalog.Job{first}, more...) {
		jobs = append(jobs, catalog.PublishedJob{Claim: job.Claim(), Refs: map[string]string{refs[job.Build]: strings.Repeat("b", 64)}})
	}
	_, err = c.FinishPublish(ctx, catalog.Publish{Key: "both", Repo: "stable", Base: "/repo/stable/", Number: 1, Changed: []string{"summary"}, Jobs: jobs, Before: before})
	must(t, err)
	_, err = c.By("prunes-actor").EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobPrune, Repo: "stable", Contents: struct{}{}})
	must(t, err)
	limited := everything()
	limited.Prefixes = []string{"org.example.Appmine"}
	v := w.signIn(limited)
	for _, path := range []string{"/publishes/stable/1", "/refs/stable/app/org.example.Appmine/x86_64/stable", "/jobs", "/queue", "/"} {
		p := v.get(path)
		if p.Status != 200 || strings.Contains(p.Body, "theirs") || strings.Contains(p.Body, "/builds/2") || strings.Contains(p.Body, "/jobs/4") || strings.Contains(p.Body, "prunes") {
			t.Errorf("%s: %d %s", path, p.Status, p.Body)
		}
	}
	for path, want := range map[string]int{"/jobs/3": 200, "/jobs/4": 403, "/jobs/5": 403, "/jobs/5/log": 403} {
		if p := v.get(path); p.Status != want {
			t.Errorf("%s: %d, want %d", path, p.Status, want)
		}
	}
	if p := v.get("/publishes/stable/1"); !strings.Contains(p.Body, "mine-actor") || !strings.Contains(p.Body, "/jobs/3") {
		t.Errorf("the own job is not shown: %s", p.Body)
	}
	if p := w.signIn(everything()).get("/publishes/stable/1"); !strings.Contains(p.Body, "theirs-actor") || !strings.Contains(p.Body, "/jobs/4") {
		t.Errorf("those of all are not shown: %s", p.Body)
	}
}
