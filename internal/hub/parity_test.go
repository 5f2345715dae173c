package hub_test

import (
	"net/http"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
)

// What flat-manager's dashboards look at.
func TestFlatManagerMetrics(t *testing.T) {
	h := startHub(t, hub.Config{})
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	h.wait(hubapi.JobPath(decode[hubapi.Job](t, h.ask("/api/v1/repo/stable/republish", map[string]any{"app": "org.test.None"})).ID))
	var text string
	h.eventually("the last job is counted", func() bool {
		text = string(h.get("/metrics").body)
		return strings.Contains(text, `flat_manager_jobs_total{kind="republish",repo="stable",status="broken"} 1`)
	})
	for _, want := range []string{
		`flat_manager_jobs_total{kind="commit",repo="global",status="ended"} 1`,
		`flat_manager_jobs_total{kind="publish",repo="stable",status="ended"} 1`,
		`flat_manager_job_duration_seconds_count{kind="commit",repo="global",status="ended"} 1`,
		`flat_manager_job_duration_seconds_bucket{kind="publish",repo="stable",status="ended",le="3600"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if a := h.get("/metrics", "Accept", "application/openmetrics-text"); !strings.HasPrefix(a.header.Get("Content-Type"), "application/openmetrics-text") {
		t.Errorf("Content-Type %q", a.header.Get("Content-Type"))
	}
}

// /status/{job}: of a private build, outsiders learn only how far it is.
func TestStatusOfJob(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	public := h.push("stable", app(t, "org.test.Public", "v1"))
	private := decode[hubapi.Build](t, h.ask("/api/v1/build", map[string]any{"repo": "stable", "app-id": "org.test.Private"}))
	for _, build := range []hubapi.Build{public, private} {
		h.ask(hubapi.BuildPath(build.ID, "commit"), struct{}{})
		job := h.wait(hubapi.BuildPath(build.ID, "commit"))
		path := "/status/" + hubapi.JobPath(job.ID)[len(hubapi.JobPath(0))-1:]
		seen := h.get(path)
		if seen.status != 200 || !strings.Contains(string(seen.body), "Job") || strings.Contains(string(seen.body), "<h2>Log") != (build.ID == public.ID) {
			t.Errorf("build %d: %d %s", build.ID, seen.status, seen.body)
		}
		if a := h.do(http.MethodGet, path, token, nil, "Accept", "application/json"); !strings.Contains(string(a.body), `"results":"{`) {
			t.Errorf("with a token: %s", a.body)
		}
	}
	few := everything()
	few.Prefixes = []string{"org.other"}
	h.do(http.MethodGet, "/status/2", h.token(few), nil).problem(t, 403, hubapi.ErrInsufficient)
	h.get("/status/99").problem(t, 404, hubapi.ErrNotFound)
	h.get("/status/x").problem(t, 404, hubapi.ErrNotFound)
}

func TestPruneRoute(t *testing.T) {
	h := startHub(t, hub.Config{})
	manager := auth.Claims{Sub: "", Scope: []auth.Scope{auth.ScopeTokenManagement}, Expires: everything().Expires}
	a := h.json(http.MethodPost, "/api/v1/prune", h.token(manager), map[string]any{"repo": "stable", "more": 1})
	if job := decode[hubapi.Job](t, a); a.status != 200 || job.Kind != hubapi.JobPrune || a.header.Get("Location") != "" {
		t.Errorf("%d %+v Location %q", a.status, job, a.header.Get("Location"))
	}
	h.json(http.MethodPost, "/api/v1/prune", h.token(manager), map[string]any{"repo": "none"}).problem(t, 404, hubapi.ErrNotFound)
	builder := everything()
	builder.Scope = []auth.Scope{auth.ScopeBuild}
	h.json(http.MethodPost, "/api/v1/prune", h.token(builder), map[string]any{"repo": "stable"}).problem(t, 403, hubapi.ErrInsufficient)
	// A publish goes on beside it.
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
}
