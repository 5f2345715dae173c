package hub_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/role"
	"freshet/internal/sign"
)

// publicPart writes the public part of a new key.
func publicPart(t *testing.T, user string) (file string, key sign.Key) {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret.asc")
	if _, err := sign.Generate(secret, user); err != nil {
		t.Fatal(err)
	}
	ring, err := sign.Open(sign.KeyFile{Path: secret})
	if err != nil {
		t.Fatal(err)
	}
	public, err := ring.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "public.gpg")
	if err := os.WriteFile(file, public, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, ring.Keys()[0]
}

// Commits wait for the key of builds, as publishes do for theirs, and can be
// seen to; nothing is broken. A hub that starts with a key that is away serves.
func TestCommitsWaitForTheKeyOfBuilds(t *testing.T) {
	file, key := publicPart(t, "Builds")
	h := startHub(t, hub.Config{
		BuildGPGKeys: []string{"builds"},
		Keys:         map[string]hub.KeyConfig{"builds": {File: file, Agent: filepath.Join(t.TempDir(), "nobody")}},
	})
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	path := hubapi.BuildPath(build.ID, "commit")
	if a := h.json(http.MethodPost, path, h.token(everything()), struct{}{}); a.status != http.StatusOK {
		t.Fatalf("commit: %d %s", a.status, a.body)
	}
	see := func() bool {
		job := decode[hubapi.Job](t, h.do(http.MethodGet, path, h.token(everything()), nil))
		status := string(h.get("/status", "Accept", "application/json").body)
		return job.Status == hubapi.JobNew && strings.HasPrefix(job.WaitsFor, "key: ") && strings.Contains(job.WaitsFor, key.ID) &&
			(job.Log == "" || strings.Contains(job.Log, "Waiting for key: ")) && // not begun, or tried
			strings.Contains(status, `"commits_wait_for":"key: `) &&
			gather(t, h.metrics)["freshet_hub_repo_waiting reason=key repo=(builds)"] == 1
	}
	h.eventually("the commit waits", see)
	h.restart()
	h.eventually("the commit waits after a restart", see)
	if n := gather(t, h.metrics)["freshet_hub_jobs_total kind=commit repo=stable status=broken"]; n != 0 {
		t.Errorf("%v commits are broken", n)
	}
}

// A key that is not the one that is meant ends the start of a hub.
func TestWrongFingerprint(t *testing.T) {
	file, key := publicPart(t, "Stable")
	cfg := hub.Config{
		Dir: t.TempDir(), Listen: "mem:hub", GPGKeys: []string{"stable"},
		Keys: map[string]hub.KeyConfig{"stable": {File: file, Agent: "/nobody", Fingerprint: strings.Repeat("0", 40)}},
	}
	env := role.Env{Listen: func(context.Context, string) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }}
	err := hub.Run(t.Context(), cfg, env)
	if err == nil || !strings.Contains(err.Error(), cfg.Keys["stable"].Fingerprint) || !strings.Contains(err.Error(), key.Fingerprint) {
		t.Errorf("started with another key: %v", err)
	}
	cfg.GPGKeys = []string{"stable", "nowhere.asc"}
	stable := cfg.Keys["stable"]
	stable.Fingerprint = key.Fingerprint
	cfg.Keys["stable"] = stable
	checks := hub.CheckKeys(t.Context(), cfg)
	if len(checks) != 2 || checks[0].Entry != "nowhere.asc" || checks[0].Problem == "" || checks[0].Away ||
		checks[1].Where != "agent" || !checks[1].Away || checks[1].Key.Fingerprint != key.Fingerprint || checks[1].Signs[0] != "stable" {
		t.Errorf("%+v", checks)
	}
}

// A hub whose clock shows a time before its key was made starts and serves. What is to be
// signed waits for the key, says that it is for the clock, and goes on when that is right.
func TestClockBeforeTheKey(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		if _, err := sign.Generate(filepath.Join(dir, "signing-key.asc"), "Later"); err != nil {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // an hour before that
		h := startHub(t, hub.Config{Dir: dir})
		build := h.push("stable", app(t, "org.test.Hello", "v1"))
		h.commit(build)
		path := hubapi.BuildPath(build.ID, "publish")
		if a := h.json(http.MethodPost, path, h.token(everything()), struct{}{}); a.status != http.StatusOK {
			t.Fatalf("publish: %d %s", a.status, a.body)
		}
		h.eventually("the publish waits for the clock", func() bool {
			job := decode[hubapi.Job](t, h.do(http.MethodGet, path, h.token(everything()), nil))
			return job.Status == hubapi.JobNew && strings.HasPrefix(job.WaitsFor, "key: ") && strings.Contains(job.WaitsFor, "the clock of this machine shows 2000-01-01") &&
				strings.Contains(string(h.get("/status", "Accept", "application/json").body), `"waits_for":"key: `) &&
				gather(t, h.metrics)["freshet_hub_repo_waiting reason=key repo=stable"] == 1
		})
		time.Sleep(time.Hour)
		if job := h.wait(path); job.Status != hubapi.JobEnded {
			t.Errorf("with the clock right: %+v", job)
		}
		if n := gather(t, h.metrics)["freshet_hub_repo_waiting reason=key repo=stable"]; n != 0 {
			t.Errorf("still waiting: %v", n)
		}
		h.stop()
	})
}
