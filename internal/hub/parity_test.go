package hub_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
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
	// Who may ask for a prune may see it through, and no other job.
	if a := h.do(http.MethodGet, hubapi.JobPath(1), h.token(manager), nil); a.status != 200 || decode[hubapi.Job](t, a).Kind != hubapi.JobPrune {
		t.Errorf("who asked for it sees %d %s", a.status, a.body)
	}
	h.json(http.MethodPost, "/api/v1/prune", h.token(manager), map[string]any{"repo": "none"}).problem(t, 404, hubapi.ErrNotFound)
	// A token that names repositories is for those.
	other := manager
	other.Repos = []string{"beta"}
	h.do(http.MethodGet, hubapi.JobPath(1), h.token(other), nil).problem(t, 403, hubapi.ErrInsufficient)
	h.json(http.MethodPost, "/api/v1/prune", h.token(other), map[string]any{"repo": "stable"}).problem(t, 403, hubapi.ErrInsufficient)
	own := manager
	own.Repos = []string{"stable"}
	if a := h.do(http.MethodGet, hubapi.JobPath(1), h.token(own), nil); a.status != 200 {
		t.Errorf("who prunes stable sees %d %s", a.status, a.body)
	}
	builder := everything()
	builder.Scope = []auth.Scope{auth.ScopeBuild}
	h.json(http.MethodPost, "/api/v1/prune", h.token(builder), map[string]any{"repo": "stable"}).problem(t, 403, hubapi.ErrInsufficient)
	// A publish goes on beside it.
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	h.do(http.MethodGet, hubapi.JobPath(2), h.token(manager), nil).problem(t, 403, hubapi.ErrInsufficient)
	h.do(http.MethodGet, hubapi.JobPath(99), h.token(manager), nil).problem(t, 404, hubapi.ErrNotFound)
	h.do(http.MethodGet, hubapi.JobPath(99), h.token(builder), nil).problem(t, 403, hubapi.ErrInsufficient)
	for _, request := range []hubapi.PruneRequest{{Repo: "stable", DryRun: true}, {Repo: "stable", Full: true}} {
		a := h.json(http.MethodPost, "/api/v1/prune", h.token(manager), request)
		if job := h.wait(hubapi.JobPath(decode[hubapi.Job](t, a).ID)); job.Status != hubapi.JobEnded || job.Results == nil || !strings.Contains(*job.Results, `"commits":0`) {
			t.Errorf("%+v: %+v", request, job)
		}
	}
}

// The table of docs/hub-parity.md is true: its routes are there, and so are its
// tests.
func TestParity(t *testing.T) {
	text, err := os.ReadFile("../../docs/hub-parity.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	h := startHub(t, hub.Config{})
	rows, routes := 0, 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[2]) == "test" {
			continue
		}
		rows++
		if name := strings.TrimSpace(cells[2]); !tests[name] {
			t.Errorf("%s: there is no test %q", strings.TrimSpace(cells[0]), name)
		}
		route := strings.Trim(strings.TrimSpace(cells[0]), "`")
		method, path, found := strings.Cut(route, " /")
		if !found || method != http.MethodGet && method != http.MethodPost {
			continue
		}
		routes++
		path = "/" + strings.NewReplacer("{id}", "1", "{ref}", "1", "{repo}", "stable", "{name}", "stable", "{path}", "summary").Replace(path)
		// Whatever the answer, it is not that there is no such page, nor method.
		a := h.do(method, path, "", nil)
		if a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound && strings.Contains(string(a.body), "there is no page") {
			t.Errorf("%s: %d %s", route, a.status, a.body)
		}
	}
	if rows < 40 || routes < 28 {
		t.Errorf("%d rows with %d routes were found", rows, routes)
	}
}

// testNames are the tests of the hub and what it is made of.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, dir := range []string{".", "../auth"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, match := range declared.FindAllSubmatch(source, -1) {
				names[string(match[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}
