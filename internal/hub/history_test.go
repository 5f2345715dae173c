package hub_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
)

// done waits for a job that the history API queued, and returns what became of it.
func (h *runningHub) done(job hubapi.Job, err error) hubapi.PublishResults {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	ended := h.wait(hubapi.JobPath(job.ID))
	var results hubapi.PublishResults
	if ended.Status != hubapi.JobEnded || json.Unmarshal([]byte(*ended.Results), &results) != nil {
		h.t.Fatalf("job %+v results %s", ended, *ended.Results)
	}
	return results
}

// head is what a ref points at, "" for nothing.
func (h *runningHub) head(ref string) string {
	h.t.Helper()
	a := h.get("/repo/stable/refs/heads/" + ref)
	if a.status == http.StatusNotFound {
		return ""
	}
	return strings.TrimSpace(string(a.body))
}

// publishes is the history of a ref, of all with "".
func (h *runningHub) publishes(ref string) []hubapi.Publish {
	h.t.Helper()
	list, err := h.api().Publishes(h.t.Context(), "stable", ref, 0, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return list.Publishes
}

// The history tells what moved from where to where and who asked, and everything
// in it can be taken back.
func TestHistory(t *testing.T) {
	h := startHub(t, hub.Config{})
	api := h.api()
	const ref, other = "app/org.test.Hello/x86_64/stable", "app/org.test.Other/x86_64/stable"
	var heads []string
	for _, version := range []string{"v1", "v2", "v3"} {
		h.publishAll("stable", app(t, "org.test.Hello", version))
		heads = append(heads, h.head(ref))
	}
	h.publishAll("stable", app(t, "org.test.Other", "v1"))

	list := h.publishes(ref)
	if len(list) != 3 {
		t.Fatalf("history %+v", list)
	}
	for i, publish := range slices.Backward(list) {
		n := len(list) - 1 - i
		before := ""
		if n > 0 {
			before = heads[n-1]
			if publish.Number <= list[i+1].Number {
				t.Errorf("publish %d after %d", publish.Number, list[i+1].Number)
			}
		}
		if got := publish.Refs[ref]; got != (hubapi.RefMove{From: before, To: heads[n]}) {
			t.Errorf("publish %d moved %+v", n, got)
		}
		if len(publish.Jobs) != 1 || publish.Jobs[0].Actor != "tester" || publish.Jobs[0].Kind != "publish" || publish.Jobs[0].Build == 0 {
			t.Errorf("publish %d by %+v", n, publish.Jobs)
		}
	}
	page, err := api.Publishes(t.Context(), "stable", "", 0, 2)
	if err != nil || len(page.Publishes) != 2 || page.Next != page.Publishes[1].Number {
		t.Errorf("page %+v, %v", page, err)
	}
	if rest, err := api.Publishes(t.Context(), "stable", "", page.Next, 0); err != nil || len(rest.Publishes) != 2 || rest.Next != 0 {
		t.Errorf("rest %+v, %v", rest, err)
	}

	// One ref, to what it was before, and to a given commit.
	tree := func() string {
		return string(h.get("/repo/stable/objects/" + h.head(ref)[:2] + "/" + h.head(ref)[2:] + ".commit").body)
	}
	h.done(api.Rollback(t.Context(), "stable", hubapi.RollbackRequest{Refs: map[string]string{ref: ""}, Reason: "v3 eats data"}))
	if !strings.Contains(tree(), heads[1]) || h.head(ref) == heads[1] { // xa.from_commit names it
		t.Errorf("rolled back to %s", h.head(ref))
	}
	h.done(api.Rollback(t.Context(), "stable", hubapi.RollbackRequest{Refs: map[string]string{ref: heads[0]}}))
	if !strings.Contains(tree(), heads[0]) {
		t.Errorf("rolled back to %s", h.head(ref))
	}

	// A whole publish, which two refs are in after an unpublish of both.
	both := hubapi.UnpublishRequest{Refs: []string{ref, other}, Reason: "takedown"}
	h.done(api.Unpublish(t.Context(), "stable", both))
	if h.head(ref) != "" || h.head(other) != "" {
		t.Fatalf("still published: %s, %s", h.head(ref), h.head(other))
	}
	gone := h.publishes("")[0]
	if len(gone.Refs) != 2 || gone.Refs[ref].To != "" || gone.Jobs[0].Kind != "unpublish" {
		t.Errorf("recorded %+v", gone)
	}
	h.done(api.Rollback(t.Context(), "stable", hubapi.RollbackRequest{Undo: gone.Number}))
	if h.head(ref) == "" || h.head(other) == "" {
		t.Errorf("not back: %s, %s", h.head(ref), h.head(other))
	}
	undone := func() error {
		_, err := api.Rollback(t.Context(), "stable", hubapi.RollbackRequest{Undo: gone.Number})
		return err
	}
	if e := problemOf(t, undone()); e.Kind != hubapi.ErrConflict {
		t.Errorf("undone twice: %v", e)
	}

	// Everything, to the first publish: the other one was not there, and what is the
	// same as then keeps its commit.
	was := h.head(ref)
	h.done(api.Rollback(t.Context(), "stable", hubapi.RollbackRequest{To: list[2].Number}))
	if h.head(other) != "" || h.head(ref) != was {
		t.Errorf("rolled back to %s and %s", h.head(ref), h.head(other))
	}

	entries, err := api.Audit(t.Context(), 0, 500)
	if err == nil {
		t.Errorf("everybody reads the audit log: %+v", entries)
	}
	claims := everything()
	claims.Sub, claims.Scope = "", []auth.Scope{auth.ScopeTokenManagement}
	entries, err = (&hubapi.Client{Base: h.base, Token: h.token(claims), HTTP: h.client, RetryFor: -1}).Audit(t.Context(), 0, 500)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"v3 eats data", "takedown", "undo publish"} {
		if !slices.ContainsFunc(entries.Entries, func(e hubapi.AuditEntry) bool {
			return e.Actor == "tester" && strings.Contains(e.Detail, want)
		}) {
			t.Errorf("the audit log does not tell of %q", want)
		}
	}
	h.restart()
	if again := h.publishes(ref); len(again) < 5 {
		t.Errorf("after a restart %d publishes", len(again))
	}
}

func problemOf(t *testing.T, err error) hubapi.Error {
	t.Helper()
	e, ok := errors.AsType[*hubapi.Error](err)
	if !ok {
		t.Fatalf("no problem: %v", err)
	}
	return *e
}

// What may not be rolled back is refused, and says why.
func TestRollbackRefused(t *testing.T) {
	h := startHub(t, hub.Config{})
	api := h.api()
	const ref, other = "app/org.test.Hello/x86_64/stable", "app/org.test.Other/x86_64/stable"
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	h.publishAll("stable", app(t, "org.test.Other", "v1"))
	limited := everything()
	limited.Prefixes = []string{"org.test.Other"}
	vendor := &hubapi.Client{Base: h.base, Token: h.token(limited), HTTP: h.client, RetryFor: -1}
	for _, test := range []struct {
		what    string
		client  *hubapi.Client
		request hubapi.RollbackRequest
		kind    hubapi.ErrorKind
	}{
		{"nothing", api, hubapi.RollbackRequest{}, hubapi.ErrGeneric},
		{"two things", api, hubapi.RollbackRequest{Undo: 1, To: 1}, hubapi.ErrGeneric},
		{"a publish to come", api, hubapi.RollbackRequest{To: 1000}, hubapi.ErrNotFound},
		{"what was never there", api, hubapi.RollbackRequest{Refs: map[string]string{ref: ""}}, hubapi.ErrNotFound},
		{"to what it is", api, hubapi.RollbackRequest{Refs: map[string]string{ref: h.head(ref)}}, hubapi.ErrGeneric},
		{"that of others", vendor, hubapi.RollbackRequest{Refs: map[string]string{ref: h.head(other)}}, hubapi.ErrInsufficient},
	} {
		_, err := test.client.Rollback(t.Context(), "stable", test.request)
		if e := problemOf(t, err); e.Kind != test.kind {
			t.Errorf("%s: %v", test.what, err)
		}
	}
	// To a commit of another ref: that comes to light in the job.
	job, err := api.Rollback(t.Context(), "stable", hubapi.RollbackRequest{Refs: map[string]string{ref: h.head(other)}})
	if err != nil {
		t.Fatal(err)
	}
	if ended := h.wait(hubapi.JobPath(job.ID)); ended.Status != hubapi.JobBroken || !strings.Contains(*ended.Results, "was published as") {
		t.Errorf("job %+v %s", ended, *ended.Results)
	}
}

// Publishes of what is held wait and others pass them; those of what is frozen are
// refused.
func TestHolds(t *testing.T) {
	h := startHub(t, hub.Config{})
	api := h.api()
	ready := func(id, version string) hubapi.Build {
		build := h.push("stable", app(t, id, version))
		h.commit(build)
		return build
	}
	held, err := api.Hold(t.Context(), "stable", hubapi.Hold{App: "org.test.Hello", Kind: hubapi.HoldWait, Reason: "under review"})
	if err != nil || held.Actor != "tester" || held.ID == 0 {
		t.Fatalf("%+v, %v", held, err)
	}
	first, second := ready("org.test.Hello.Locale", "v1"), ready("org.test.Hello.Locale", "v2")
	for _, build := range []hubapi.Build{first, second} {
		if _, err := api.Publish(t.Context(), build.ID); err != nil {
			t.Fatal(err)
		}
	}
	h.publish(ready("org.test.HelloWorld", "v1")) // passes
	job, err := api.PublishJob(t.Context(), first.ID, hubapi.JobRequest{})
	if err != nil || job.Status != hubapi.JobNew || !strings.Contains(job.WaitsFor, "under review") || !strings.Contains(job.WaitsFor, "tester") {
		t.Errorf("job %+v, %v", job, err)
	}
	h.restart()
	api = h.api()
	holds, err := api.Holds(t.Context(), "stable")
	if err != nil || len(holds.Holds) != 1 || holds.Holds[0].ID != held.ID {
		t.Errorf("holds %+v, %v", holds, err)
	}
	if err := api.Release(t.Context(), "stable", held.ID); err != nil {
		t.Fatal(err)
	}
	for _, build := range []hubapi.Build{first, second} {
		if job := h.wait(hubapi.BuildPath(build.ID, "publish")); job.Status != hubapi.JobEnded {
			t.Errorf("job %+v", job)
		}
	}
	if e := problemOf(t, api.Release(t.Context(), "stable", held.ID)); e.Kind != hubapi.ErrNotFound {
		t.Errorf("released twice: %v", e)
	}

	frozen, err := api.Hold(t.Context(), "stable", hubapi.Hold{Kind: hubapi.HoldFreeze, Reason: "we move"})
	if err != nil {
		t.Fatal(err)
	}
	build := ready("org.test.Hello", "v2")
	_, err = api.Publish(t.Context(), build.ID)
	if e := problemOf(t, err); e.Kind != hubapi.ErrConflict || !strings.Contains(e.Message, "we move") {
		t.Errorf("published what is frozen: %v", err)
	}
	vendor := everything()
	vendor.Prefixes = []string{"org.test"}
	token := h.token(vendor)
	path := hubapi.RepoAPIPath("stable", "unpublish")
	h.json(http.MethodPost, path, token, map[string]any{"app": "org.test.HelloWorld"}).problem(t, http.StatusConflict, hubapi.ErrConflict)
	h.json(http.MethodPost, hubapi.RepoAPIPath("stable", "holds"), token, hubapi.Hold{Kind: hubapi.HoldWait}).problem(t, http.StatusForbidden, hubapi.ErrInsufficient)
	// Who may do everything can still take something back.
	h.done(api.Unpublish(t.Context(), "stable", hubapi.UnpublishRequest{App: "org.test.HelloWorld"}))
	if err := api.Release(t.Context(), "stable", frozen.ID); err != nil {
		t.Fatal(err)
	}
	h.publish(build)
}
