package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
	"freshet/internal/peertest"
)

// script writes a program.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nset -e\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func repos(hooks hub.HooksConfig) map[string]hub.RepoConfig {
	return map[string]hub.RepoConfig{"stable": {Hooks: hooks, Subsets: []string{"floss"}}}
}

// ask makes a request with all rights and expects success.
func (h *runningHub) ask(path string, v any) answer {
	h.t.Helper()
	a := h.json(http.MethodPost, path, h.token(everything()), v)
	if a.status != http.StatusOK && a.status != http.StatusNoContent {
		h.t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	return a
}

func (h *runningHub) extended(build hubapi.Build) hubapi.BuildExtended {
	h.t.Helper()
	return decode[hubapi.BuildExtended](h.t, h.do(http.MethodGet, hubapi.BuildPath(build.ID, "extended"), h.token(everything()), nil))
}

// checked commits a build and waits for the jobs of its checks.
func (h *runningHub) checked(build hubapi.Build) hubapi.BuildExtended {
	h.t.Helper()
	h.commit(build)
	for _, check := range h.extended(build).Checks {
		h.wait(hubapi.JobPath(check.JobID))
	}
	return h.extended(build)
}

func TestChecks(t *testing.T) {
	pass := script(t, `
		test -f config; test -d refs/heads/app/org.test.Hello
		if command -v ostree >/dev/null; then ostree --repo=. log app/org.test.Hello/x86_64/stable | grep ^commit; fi
		echo "build $FLAT_MANAGER_BUILD_ID job $FLAT_MANAGER_JOB_ID arg $1 token $TOKEN$PLAIN"
		if touch mine 2>/dev/null; then echo "it may write"; fi
		if cat "$2" 2>/dev/null; then echo "it may read"; fi`)
	flag := filepath.Join(t.TempDir(), "flag")
	dir := t.TempDir()
	t.Setenv("TOKEN", "xyz")
	h := startHub(t, hub.Config{Dir: dir, Repos: repos(hub.HooksConfig{
		Env: []string{"TOKEN", "PLAIN=-plain", "ABSENT"},
		Checks: map[string]hub.CheckConfig{
			"good":   {Command: []string{pass, "$(id); x", filepath.Join(dir, "secret")}},
			"review": {Command: []string{script(t, "exit 5")}, Reviewable: true},
			"flaky":  {Command: []string{script(t, `test -e "$1"`), flag}},
			"absent": {Command: []string{"/nonexistent/check"}},
		},
	})})
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	extended := h.checked(build)
	if len(extended.Checks) != 4 || extended.Build.RepoState != hubapi.RepoValidating {
		t.Fatalf("build %+v checks %+v", extended.Build, extended.Checks)
	}
	// By name: absent, flaky, good, review.
	for i, want := range []struct {
		status hubapi.CheckStatus
		reason string
	}{
		{hubapi.CheckFailed, "/nonexistent/check"},
		{hubapi.CheckFailed, "exited with status 1"},
		{hubapi.CheckPassed, ""},
		{hubapi.CheckReviewRequired, "exited with status 5"},
	} {
		check := extended.Checks[i]
		if check.Status != want.status || !strings.Contains(value(check.StatusReason), want.reason) {
			t.Errorf("check %s: %v %q", check.CheckName, check.Status, value(check.StatusReason))
		}
	}
	job := decode[hubapi.Job](t, h.do(http.MethodGet, hubapi.BuildPath(build.ID, "check", "good", "job"), h.token(everything()), nil))
	if want := "build 1 job " + fmt.Sprint(job.ID) + " arg $(id); x token xyz-plain\n"; !strings.Contains(job.Log, want) || job.Kind != hubapi.JobCheck || job.Repo != nil {
		t.Errorf("job %+v, want %q", job, want)
	}
	if strings.Contains(job.Log, "it may") {
		t.Errorf("a check is not confined: %s", job.Log)
	}
	token := h.token(everything())
	h.do(http.MethodGet, hubapi.BuildPath(build.ID, "check", "none", "job"), token, nil).problem(t, 404, hubapi.ErrNotFound)
	h.json(http.MethodPost, hubapi.BuildPath(build.ID, "publish"), token, struct{}{}).problem(t, 400, hubapi.ErrWrongRepoState)
	h.json(http.MethodPost, hubapi.BuildPath(build.ID, "purge"), token, struct{}{}).problem(t, 400, hubapi.ErrGeneric)

	// The review fails the build; the other checks are reviewed or made again.
	review := func(name string, body string) answer {
		t.Helper()
		for _, check := range h.extended(build).Checks {
			if check.CheckName == name {
				return h.do(http.MethodPost, hubapi.JobPath(check.JobID, "check", "review"), token, strings.NewReader(body), "Content-Type", "application/json")
			}
		}
		t.Fatalf("no check %s", name)
		return answer{}
	}
	review("review", `{"new-status":{"status":"Perfect"}}`).problem(t, 400, hubapi.ErrGeneric)
	review("review", `{}`).problem(t, 400, hubapi.ErrGeneric)
	if a := review("review", `{"new-status":{"status":"Failed","reason":"bad icon"},"new-results":"{\"x\":1}","other":2}`); a.status != 204 {
		t.Errorf("review: %d %s", a.status, a.body)
	}
	extended = h.extended(build)
	if value(extended.Build.RepoStateReason) != "3 out of 4 checks failed (absent, flaky, review)" || extended.Build.RepoState != hubapi.RepoFailed ||
		value(extended.Checks[3].Results) != `{"x":1}` || value(extended.Checks[3].StatusReason) != "bad icon" {
		t.Errorf("build %+v checks %+v", extended.Build, extended.Checks)
	}
	review("review", `{"new-status":{"status":"PassedWithWarnings","reason":"so be it"}}`)
	review("absent", `{"new-status":{"status":"Passed"}}`)
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	again := decode[hubapi.Job](t, h.ask(hubapi.BuildPath(build.ID, "check", "flaky", "job"), struct{}{}))
	if job := h.wait(hubapi.JobPath(again.ID)); job.Status != hubapi.JobEnded {
		t.Errorf("again: %+v", job)
	}
	if extended = h.extended(build); extended.Build.RepoState != hubapi.RepoReady || extended.Build.RepoStateReason != nil {
		t.Errorf("build %+v checks %+v", extended.Build, extended.Checks)
	}
	h.publish(build)
	review("review", `{"new-status":{"status":"Failed"}}`).problem(t, 400, hubapi.ErrWrongPublishedState)

	few := everything()
	few.Scope = []auth.Scope{auth.ScopeBuild, auth.ScopeJobs}
	h.json(http.MethodPost, hubapi.JobPath(job.ID, "check", "review"), h.token(few), struct{}{}).problem(t, 403, hubapi.ErrInsufficient)
	other := everything()
	other.Prefixes = []string{"org.other"}
	h.json(http.MethodPost, hubapi.JobPath(job.ID, "check", "review"), h.token(other), struct{}{}).problem(t, 403, hubapi.ErrInsufficient)
}

// A check that hangs holds up neither the commits of other builds nor their
// publishes, and goes on after a restart.
func TestChecksHoldUpNobody(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "flag")
	wait := script(t, `if test $FLAT_MANAGER_BUILD_ID = 1; then until test -e `+fifo+`; do sleep 0.05; done; fi`)
	h := startHub(t, hub.Config{Repos: repos(hub.HooksConfig{Checks: map[string]hub.CheckConfig{"wait": {Command: []string{wait}}}})})
	slow := h.push("stable", app(t, "org.test.Slow", "v1"))
	h.commit(slow)
	fast := h.push("stable", app(t, "org.test.Fast", "v1"))
	if extended := h.checked(fast); extended.Build.RepoState != hubapi.RepoReady {
		t.Errorf("build %+v", extended.Build)
	}
	h.publish(fast)
	h.cancel() // the check is ended with the hub
	h.restart()
	if extended := h.extended(slow); extended.Build.RepoState != hubapi.RepoValidating {
		t.Errorf("build %+v checks %+v", extended.Build, extended.Checks)
	}
	if err := os.WriteFile(fifo, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.wait(hubapi.JobPath(h.extended(slow).Checks[0].JobID))
	h.publish(slow)
}

// editor is a publish hook that gives every ref a new commit with more metadata.
func editor(t *testing.T, more string) string {
	t.Helper()
	peertest.Require(t, "ostree")
	return script(t, `
		echo "republish $FLAT_MANAGER_IS_REPUBLISH build ${FLAT_MANAGER_BUILD_ID-none}"
		for ref in $(ostree --repo=. refs --list app); do
			ostree --repo=. commit --branch=$ref --parent=$(ostree --repo=. rev-parse $ref) --tree=ref=$ref \
				--keep-metadata=xa.metadata --keep-metadata=xa.installed-size --keep-metadata=xa.download-size --keep-metadata=ostree.ref-binding \
				--bind-ref=$ref --subject=edited `+more+`
		done`)
}

func TestPublishHook(t *testing.T) {
	h := startHub(t, hub.Config{Repos: repos(hub.HooksConfig{
		Publish: []string{editor(t, `--add-metadata=xa.subsets='["floss","none"]' --add-metadata=xa.token-type='1'`)},
	})})
	ref := "app/org.test.Hello/x86_64/stable"
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	h.commit(build)
	job := h.publish(build)
	if !strings.Contains(job.Log, "republish false build 1\n") {
		t.Errorf("log %s", job.Log)
	}
	metadata := func() string {
		t.Helper()
		head := strings.TrimSpace(string(h.get("/repo/stable/refs/heads/" + ref).body))
		return string(h.get("/repo/stable/objects/" + head[:2] + "/" + head[2:] + ".commit").body)
	}
	before := metadata()
	for _, want := range []string{"xa.subsets", "floss", "xa.token-type", "edited"} {
		if !strings.Contains(before, want) {
			t.Errorf("no %s in the published commit", want)
		}
	}
	if strings.Contains(before, "none") {
		t.Error("a subset that the repository does not have")
	}

	// Republishing runs the hook on what is published.
	asked := h.ask("/api/v1/repo/stable/republish", map[string]any{"app": "org.test.Hello", "endoflife": "no more", "endoflife_rebase": "org.test.New", "x": 1})
	queued := decode[hubapi.Job](t, asked)
	if location := asked.header.Get("Location"); !strings.HasSuffix(location, hubapi.JobPath(queued.ID)) || queued.Kind != hubapi.JobRepublish || value(queued.Repo) != "stable" {
		t.Errorf("Location %s of %+v", location, queued)
	}
	job = h.wait(hubapi.JobPath(queued.ID))
	var results hubapi.PublishResults
	if err := json.Unmarshal([]byte(value(job.Results)), &results); err != nil || job.Status != hubapi.JobEnded || results.UpdateRepoJob != job.ID || len(results.Refs) != 1 {
		t.Fatalf("job %+v %s", job, value(job.Results))
	}
	if !strings.Contains(job.Log, "republish true build none\n") {
		t.Errorf("log %s", job.Log)
	}
	after := metadata()
	for _, want := range []string{"xa.subsets", "ostree.endoflife", "no more", "org.test.New"} {
		if !strings.Contains(after, want) {
			t.Errorf("no %s in the republished commit", want)
		}
	}
	h.eventually("its files are gone", func() bool {
		entries, err := os.ReadDir(filepath.Join(h.cfg.Dir, "builds"))
		return err == nil && len(entries) == 0
	})
	job = h.wait(hubapi.JobPath(decode[hubapi.Job](t, h.ask("/api/v1/repo/stable/republish", map[string]any{"app": "org.test.Nothing"})).ID))
	if job.Status != hubapi.JobBroken || !strings.Contains(value(job.Results), "no ref app/org.test.Nothing") {
		t.Errorf("job %+v %s", job, value(job.Results))
	}
	token := h.token(everything())
	h.json(http.MethodPost, "/api/v1/repo/none/republish", token, map[string]any{"app": "org.test.Hello"}).problem(t, 404, hubapi.ErrNotFound)
	h.json(http.MethodPost, "/api/v1/repo/stable/republish", token, map[string]any{"app": "no/id"}).problem(t, 400, hubapi.ErrGeneric)
	other := everything()
	other.Apps, other.Prefixes = []string{"org.test.Hello"}, nil
	h.json(http.MethodPost, "/api/v1/repo/stable/republish", h.token(other), map[string]any{"app": "org.test.Hello", "endoflife_rebase": "org.test.New"}).problem(t, 403, hubapi.ErrInsufficient)
}

// What a hook writes is verified, and one that fails publishes nothing; the
// publish can be asked for again.
func TestPublishHookFails(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "flag")
	h := startHub(t, hub.Config{Repos: repos(hub.HooksConfig{Publish: []string{script(t, `
		test -e `+flag+` && exit 0
		echo damage >$(ls objects/*/*.filez | head -n 1)`)}})})
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	h.commit(build)
	h.ask(hubapi.BuildPath(build.ID, "publish"), struct{}{})
	job := h.wait(hubapi.BuildPath(build.ID, "publish"))
	if job.Status != hubapi.JobBroken || !strings.Contains(value(job.Results), ".filez") {
		t.Errorf("job %+v %s", job, value(job.Results))
	}
	if a := h.get("/repo/stable/refs/heads/app/org.test.Hello/x86_64/stable"); a.status != 404 {
		t.Errorf("published: %d", a.status)
	}
}

// The post-publish command is told of publishes, repeated, and fails none.
func TestPostPublish(t *testing.T) {
	told := filepath.Join(t.TempDir(), "told")
	if err := os.Mkdir(told, 0o755); err != nil {
		t.Fatal(err)
	}
	// A confined command writes nowhere: it speaks by failing until it is let.
	h := startHub(t, hub.Config{Repos: repos(hub.HooksConfig{PostPublish: []string{script(t, `test "$1" = -x; test "$2" = stable; test -f "$3/summary"; test -d `+told), "-x"}})})
	count := func(result string) float64 {
		return gather(t, h.metrics)["freshet_hub_post_publish_total repo=stable result="+result]
	}
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	h.eventually("it was told", func() bool { return count("ok") > 0 })
	if err := os.Remove(told); err != nil {
		t.Fatal(err)
	}
	h.publishAll("stable", app(t, "org.test.Hello", "v2"))
	h.eventually("it failed", func() bool { return count("failed") > 0 })
	h.publishAll("stable", app(t, "org.test.Hello", "v3"))
	before := count("ok")
	if err := os.Mkdir(told, 0o755); err != nil {
		t.Fatal(err)
	}
	h.eventually("it was repeated", func() bool { return count("ok") > before })
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
