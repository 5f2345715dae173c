package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

// Every list of builds, walked page by page, has what the filter says, once and in
// order, however short the pages and however little may be looked at.
func TestBuildPages(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		ctx := t.Context()
		random := rand.New(rand.NewPCG(1, 2))
		apps := []string{"", "org.a", "org.a.Locale", "org.ab", "org.b.C", "com.x"}
		var all []hubapi.Build
		tokens, brings := map[int64]string{}, map[int64]string{}
		for range 120 {
			n := catalog.NewBuild{Repo: []string{"stable", "beta"}[random.IntN(2)], TokenID: []string{"", "t1", "t2"}[random.IntN(3)]}
			if app := apps[random.IntN(len(apps))]; app != "" {
				n.AppID = &app
			}
			b := value(c.CreateBuild(ctx, n))(t)
			tokens[b.ID] = n.TokenID
			if app := apps[random.IntN(len(apps))]; app != "" {
				kind := []string{"app", "runtime"}[random.IntN(2)]
				ref := hubapi.CreateBuildRefRequest{Ref: kind + "/" + app + "/x86_64/stable", Commit: strings.Repeat("0", 64)}
				value(c.AddBuildRef(ctx, b.ID, ref))(t)
				brings[b.ID] = app
			}
			advance(t, c, b.ID, random.IntN(6))
			all = append(all, value(c.Build(ctx, b.ID))(t))
		}
		slices.Reverse(all)
		below := func(app, id string) bool { return app == id || strings.HasPrefix(app, id+".") }
		for name, test := range map[string]struct {
			filter catalog.BuildFilter
			has    func(b hubapi.Build, app string) bool
		}{
			"all":    {catalog.BuildFilter{}, func(hubapi.Build, string) bool { return true }},
			"repo":   {catalog.BuildFilter{Repos: []string{"beta"}}, func(b hubapi.Build, _ string) bool { return b.Repo == "beta" }},
			"repos":  {catalog.BuildFilter{Repos: []string{"beta", "stable"}}, func(hubapi.Build, string) bool { return true }},
			"failed": {catalog.BuildFilter{Stages: []catalog.Stage{catalog.StageFailed}}, func(b hubapi.Build, _ string) bool { return b.RepoState == hubapi.RepoFailed }},
			"open": {catalog.BuildFilter{Stages: catalog.OpenStages(), Repos: []string{"stable"}}, func(b hubapi.Build, _ string) bool {
				return b.Repo == "stable" && b.RepoState != hubapi.RepoFailed && b.RepoState != hubapi.RepoPurging
			}},
			"app":      {catalog.BuildFilter{IDs: &catalog.IDs{Apps: []string{"org.a"}}}, func(_ hubapi.Build, app string) bool { return app == "org.a" }},
			"below":    {catalog.BuildFilter{IDs: &catalog.IDs{Below: []string{"org.a"}}}, func(_ hubapi.Build, app string) bool { return below(app, "org.a") }},
			"prefix":   {catalog.BuildFilter{IDs: &catalog.IDs{Prefixes: []string{"org.a"}}}, func(_ hubapi.Build, app string) bool { return strings.HasPrefix(app, "org.a") }},
			"nothing":  {catalog.BuildFilter{IDs: &catalog.IDs{}}, func(hubapi.Build, string) bool { return false }},
			"no match": {catalog.BuildFilter{IDs: &catalog.IDs{Apps: []string{"org.%"}, Prefixes: []string{"%"}}}, func(hubapi.Build, string) bool { return false }},
			"token": {catalog.BuildFilter{IDs: &catalog.IDs{Apps: []string{"com.x"}}, Token: "t1"}, func(b hubapi.Build, app string) bool {
				return app == "com.x" || app == "" && tokens[b.ID] == "t1"
			}},
			"brought": {catalog.BuildFilter{IDs: &catalog.IDs{Apps: []string{"com.x"}, Below: []string{"org.a"}, Prefixes: []string{"org.b"}}, Bring: true}, func(b hubapi.Build, app string) bool {
				if app == "" {
					app = brings[b.ID]
				}
				return app == "com.x" || below(app, "org.a") || strings.HasPrefix(app, "org.b")
			}},
			"several": {
				catalog.BuildFilter{IDs: &catalog.IDs{Apps: []string{"com.x"}, Below: []string{"org.a"}}, Repos: []string{"beta"}, Stages: []catalog.Stage{catalog.StageReady, catalog.StagePublishing}},
				func(b hubapi.Build, app string) bool {
					return (app == "com.x" || below(app, "org.a")) && b.Repo == "beta" && b.RepoState == hubapi.RepoReady
				},
			},
		} {
			var want []int64
			for _, b := range all {
				app := ""
				if b.AppID != nil {
					app = *b.AppID
				}
				if test.has(b, app) {
					want = append(want, b.ID)
				}
			}
			for _, look := range []int{3, 10_000} {
				for _, limit := range []int{1, 7, 1000} {
					if got := walk(t, c, test.filter.Look(look), limit); !slices.Equal(got, want) {
						t.Errorf("%s, %d a page, looking at %d: got %v, want %v", name, limit, look, got, want)
					}
				}
			}
		}
	})
}

// advance brings a build into one of six states.
func advance(t *testing.T, c *catalog.Catalog, build int64, state int) {
	t.Helper()
	to := [...]hubapi.RepoState{hubapi.RepoUploading, hubapi.RepoReady, hubapi.RepoFailed, hubapi.RepoValidating, hubapi.RepoReady, hubapi.RepoPurging}[state]
	if to == hubapi.RepoUploading {
		return
	}
	must(t, c.SetRepoState(t.Context(), build, hubapi.RepoUploading, to, ""))
	if state == 4 {
		value(c.StartPublish(t.Context(), build, struct{}{}))(t)
	}
}

// walk returns the ids of a whole list.
func walk(t *testing.T, c *catalog.Catalog, filter catalog.BuildFilter, limit int) (ids []int64) {
	t.Helper()
	for before, pages := int64(0), 0; ; pages++ {
		page := value(c.BuildPage(t.Context(), filter, before, limit))(t)
		for _, b := range page.Builds {
			ids = append(ids, b.ID)
		}
		if len(page.Builds) > limit || pages > 1000 {
			t.Fatalf("%d builds on a page for %d, %d pages", len(page.Builds), limit, pages)
		}
		if before = page.Next; before == 0 {
			return ids
		}
	}
}

// Every pair of states is one stage, and every stage is found by its pairs.
func TestStages(t *testing.T) {
	for state, want := range map[[2]int]catalog.Stage{
		{int(hubapi.RepoUploading), int(hubapi.Unpublished)}: catalog.StageUploading, {int(hubapi.RepoValidating), int(hubapi.PublishFailed)}: catalog.StageChecking,
		{int(hubapi.RepoReady), int(hubapi.Unpublished)}: catalog.StageReady, {int(hubapi.RepoReady), int(hubapi.PublishFailed)}: catalog.StageFailed,
		{int(hubapi.RepoReady), int(hubapi.Publishing)}: catalog.StagePublishing, {int(hubapi.RepoPurged), int(hubapi.Published)}: catalog.StagePublished,
		{int(hubapi.RepoPurged), int(hubapi.PublishFailed)}: catalog.StagePurged, {int(hubapi.RepoFailed), int(hubapi.Unpublished)}: catalog.StageFailed,
		{int(hubapi.RepoCommitting), int(hubapi.Unpublished)}: catalog.StageCommitting,
	} {
		if got := catalog.StageOf(hubapi.RepoState(state[0]), hubapi.PublishedState(state[1])); got != want {
			t.Errorf("%v is %s, want %s", state, got, want)
		}
	}
}

func TestJobPages(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		ctx := t.Context()
		var want []int64
		for i := range 30 {
			kind := []hubapi.JobKind{hubapi.JobPrune, hubapi.JobDeltas, hubapi.JobUnpublish}[i%3]
			job := value(c.EnqueueJob(ctx, catalog.NewJob{Kind: kind, Repo: []string{"stable", "beta"}[i%2], Contents: struct{}{}}))(t)
			if kind == hubapi.JobDeltas && i%2 == 1 {
				want = append([]int64{job.ID}, want...)
			}
		}
		for _, listing := range []catalog.JobListing{
			{Kinds: []hubapi.JobKind{hubapi.JobDeltas}, Repo: "beta"},
			{Kinds: []hubapi.JobKind{hubapi.JobDeltas}, Repo: "beta", Statuses: []hubapi.JobStatus{hubapi.JobNew, hubapi.JobStarted}},
		} {
			var got []int64
			for before := int64(0); ; {
				jobs, next, err := c.JobPage(ctx, listing, before, 2)
				must(t, err)
				for _, job := range jobs {
					got = append(got, job.ID)
				}
				if before = next; next == 0 {
					break
				}
			}
			equal(t, got, want)
		}
		found := value(c.JobsByID(ctx, []int64{want[0], 999}))(t)
		if len(found) != 1 || found[want[0]].Kind != hubapi.JobDeltas {
			t.Errorf("found %v", found)
		}
	})
}

// A publish is everywhere when the last node that lives has reported it, and that
// time stays; each node's own time is known while its last steps are.
func TestReach(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		ctx := t.Context()
		report := func(name string, serial int64) {
			t.Helper()
			must(t, c.ReportNode(ctx, hubapi.Node{Name: name, Site: "dl", Log: c.Log(), Serial: serial}))
		}
		report("a", 0)
		report("b", 0)
		report("dead", 0)
		w.advance(catalog.NodeAway + time.Second)
		report("a", 0)
		report("b", 0)
		publish(t, c, 1)
		asked := w.Now()
		summary := func() catalog.PublishSummary {
			t.Helper()
			return value(c.PublishSummaryOf(ctx, "stable", 1))(t)
		}
		w.advance(time.Second)
		report("a", 1)
		if s := summary(); !s.Everywhere.IsZero() || s.Moved != 1 {
			t.Errorf("one of two nodes has it: %+v", s)
		}
		w.advance(time.Second)
		report("b", 1)
		w.advance(time.Second)
		report("late", 1)
		if s := summary(); !s.Everywhere.Equal(micro(asked.Add(2*time.Second))) || s.Nodes != 2 {
			t.Errorf("everywhere at %v by %d nodes", s.Everywhere, s.Nodes)
		}
		reach := value(c.Reach(ctx, 1, 10))(t)
		var got []string
		for _, r := range reach {
			got = append(got, fmt.Sprintln(r.Name, r.Past, r.Away, r.Passed.Equal(micro(asked.Add(time.Second))), r.Passed.IsZero()))
		}
		equal(t, got, []string{"a true false true false\n", "b true false false false\n", "dead false true false true\n", "late true false false true\n"})
		for serial := int64(2); serial < 100; serial++ {
			report("a", serial)
		}
		if r := value(c.Reach(ctx, 1, 1))(t); !r[0].Passed.IsZero() {
			t.Errorf("a passed long ago, and is said to have passed at %v", r[0].Passed)
		}
		page := value(c.PublishPage(ctx, "stable", "app/org.a/x86_64/stable", 0, 5))(t)
		if len(page) != 1 || len(page[0].Refs) != 1 || page[0].Number != 1 {
			t.Errorf("history of the ref: %+v", page)
		}
		must(t, c.Expire(ctx, w.Now().Add(time.Hour)))
		if r := value(c.Reach(ctx, 1, 10))(t); len(r) != 0 {
			t.Errorf("expired nodes: %+v", r)
		}
	})
}

// publish records a publish of one ref.
func publish(t *testing.T, c *catalog.Catalog, number int64) {
	t.Helper()
	commit := strings.Repeat("a", 64)
	value(c.FinishPublish(t.Context(), catalog.Publish{
		Key: fmt.Sprint("publish ", number), Repo: "stable", Base: "/repo/stable/", Number: number, Changed: []string{"summary"},
		Refs: map[string]string{"app/org.a/x86_64/stable": commit}, Before: map[string]string{"app/org.a/x86_64/stable": ""},
	}))(t)
}

// micro is a time as the database has it.
func micro(t time.Time) time.Time { return t.Truncate(time.Microsecond) }

func TestTokenPages(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		ctx := t.Context()
		for i := range 5 {
			w.advance(time.Minute)
			value(c.UseToken(ctx, fmt.Sprint("t", i), "", w.Now().Add(time.Hour)))(t)
		}
		name := "ci"
		value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable", TokenID: "t3", TokenName: &name}))(t)
		must(t, c.RevokeTokens(ctx, []string{"never", "t0"}))
		var got []string
		for before := (*catalog.TokenKey)(nil); ; {
			page := value(c.TokenPage(ctx, before, 2))(t)
			for _, token := range page {
				got = append(got, token.ID+token.Name)
			}
			if len(page) < 2 {
				break
			}
			key := page[1].Key()
			before = &key
		}
		equal(t, got, []string{"t4", "t3ci", "t2", "t1", "t0", "never"})
	})
}

func TestSessions(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		ctx := t.Context()
		must(t, c.SaveSession(ctx, "one", "first", w.Now().Add(time.Hour)))
		must(t, c.SaveSession(ctx, "one", "second", w.Now().Add(2*time.Hour)))
		content, expires, err := c.Session(ctx, "one")
		must(t, err)
		if content != "second" || !expires.Equal(micro(w.Now().Add(time.Hour))) {
			t.Errorf("%q until %v", content, expires)
		}
		gone := func(id string) {
			t.Helper()
			if _, _, err := c.Session(ctx, id); !errors.Is(err, catalog.ErrNotFound) {
				t.Errorf("session %s: %v", id, err)
			}
		}
		w.advance(time.Hour)
		gone("one")
		must(t, c.SaveSession(ctx, "two", "", w.Now().Add(time.Hour)))
		must(t, c.EndSession(ctx, "two"))
		gone("two")
	})
}

// What static deltas cost is remembered with the job that made them.
func TestDeltaRecords(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		ctx := t.Context()
		value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobDeltas, Repo: "stable", Contents: struct{}{}}))(t)
		job := value(c.NextJob(ctx, catalog.JobFilter{}))(t)
		made := []hubapi.MadeDelta{
			{Ref: "app/org.a/x86_64/stable", To: "bb", Size: 100, Instead: 1000, Parts: 2, Singly: 1, Seconds: 1.5},
			{Ref: "app/org.a/x86_64/stable", From: "aa", To: "bb", Size: 10},
			{Ref: "app/org.a/x86_64/stable", From: "00", To: "bb"},
		}
		must(t, c.FinishJob(ctx, job.Claim(), hubapi.DeltaResults{Deltas: made}))
		keys := []catalog.DeltaKey{{To: "bb"}, {From: "aa", To: "bb"}, {From: "00", To: "bb"}}
		known := value(c.Deltas(ctx, "stable", keys))(t)
		if len(known) != 2 {
			t.Fatalf("known: %v", known)
		}
		equal(t, known[keys[0]].MadeDelta, made[0])
		equal(t, value(c.DeltaTotals(ctx, "stable"))(t), catalog.DeltaTotals{Count: 2, Size: 100, Instead: 1000})
		must(t, c.ForgetDeltas(context.WithoutCancel(ctx), "stable", keys[:1]))
		equal(t, value(c.DeltaTotals(ctx, "stable"))(t), catalog.DeltaTotals{Count: 1})
	})
}

func TestAuditOf(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		b := value(c.By("ci").CreateBuild(t.Context(), catalog.NewBuild{Repo: "stable"}))(t)
		value(c.CreateBuild(t.Context(), catalog.NewBuild{Repo: "stable"}))(t)
		entries := value(c.AuditOf(t.Context(), fmt.Sprint("build/", b.ID), 5))(t)
		if len(entries) != 1 || entries[0].Actor != "ci" {
			t.Errorf("%+v", entries)
		}
	})
}
