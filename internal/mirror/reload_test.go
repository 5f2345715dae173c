package mirror_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/control"
	"freshet/internal/mirror"
	"freshet/internal/mirror/project"
)

// with is the world's configuration with other projects.
func (w *world) with(projects map[string]project.Config) mirror.Config {
	cfg := w.cfg
	cfg.Projects = projects
	return cfg
}

// until waits until ok.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for ticker := time.NewTicker(10 * time.Millisecond); !ok(); <-ticker.C {
		if time.Now().After(deadline) {
			w.t.Fatal(what)
		}
	}
}

// What a configuration says is taken over while the mirror serves: projects come, change and
// go, and nothing of a configuration that is wrong.
func TestReload(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "every 1h"})
	w.write("a", "first")
	w.write("b", "second")
	w.start()
	w.await("p is synced", func(st mirrorapi.ProjectStatus) bool { return st.Generation != "" })

	p := w.cfg.Projects["p"]
	both := map[string]project.Config{"p": p, "q": p}
	w.reloads <- w.with(both)
	w.until("q is served", func() bool { return w.get("/q/a") == "first" })

	narrower := p
	narrower.Exclude = []string{"b"}
	both = maps.Clone(both)
	both["p"] = narrower
	w.reloads <- w.with(both)
	w.await("p has what is wanted now", func(st mirrorapi.ProjectStatus) bool {
		return st.Last != nil && st.Last.Order.Cause == mirrorapi.CauseConfig && st.Last.Result == mirrorapi.Published && st.Files == 1
	})

	wrong := maps.Clone(both)
	wrong["r"] = project.Config{Kind: "nonsense"}
	w.reloads <- w.with(wrong)
	unreadable := maps.Clone(both)
	delete(unreadable, "q")
	lost := p
	lost.Kind, lost.Keys, lost.Repositories = "rpm", []string{filepath.Join(t.TempDir(), "gone")}, []string{"."}
	unreadable["p"] = lost
	w.reloads <- w.with(unreadable)
	w.reloads <- w.with(both) // the ones before are done with
	if got := w.get("/q/a"); got != "first" {
		t.Errorf("a configuration that is wrong took q away: %s", got)
	}

	// Orders are those of the clients that are there now.
	token, hash := control.NewToken("fw_")
	cfg := w.with(map[string]project.Config{"q": p})
	cfg.Control.Clients = map[string]mirror.ClientConfig{"new": {Token: hash}}
	cfg.Directory = t.TempDir() // which needs a restart
	w.reloads <- cfg
	w.until("p is gone", func() bool { return w.get("/p/a") == "404 Not Found" })
	if _, err := w.client.Status(t.Context()); err == nil {
		t.Error("a client that is gone may still ask")
	}
	w.client.Token = token
	st, err := w.client.Status(t.Context())
	if err != nil || len(st.Projects) != 1 || st.Projects[0].Name != "q" {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := os.Stat(filepath.Join(w.cfg.Directory, "projects", "p", "generations")); err != nil {
		t.Errorf("the files of p do not stay: %v", err)
	}

	w.reloads <- w.with(both)
	w.until("p is back", func() bool { return w.get("/p/a") == "first" })
}
