package hub_test

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub"
)

// The configuration of a build's repository does not tell where the hub has
// its files.
func TestBuildConfigHasNoPaths(t *testing.T) {
	h := startHub(t, hub.Config{})
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	a := h.get(hubapi.BuildRepoPath(build.ID) + "config")
	text := string(a.body)
	if a.status != 200 || !strings.Contains(text, "mode=archive-z2") || strings.Contains(text, "parent") || strings.Contains(text, h.cfg.Dir) {
		t.Errorf("config: %d %s", a.status, text)
	}
}

// Whoever comes to a build while it is purged does not bring its folder back.
func TestPurgedBuildStaysGone(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	c := app(t, "org.test.Hello", "v1")
	for range 5 {
		build := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"}))
		path := hubapi.BuildPath(build.ID)
		var others sync.WaitGroup
		for range 4 {
			others.Go(func() {
				for range 5 {
					if a := h.upload(path+"/upload", token, "mixed", c.parts...); a.status != 200 && a.status != 400 {
						t.Errorf("upload: %d %s", a.status, a.body)
					}
					if a := h.get(hubapi.BuildRepoPath(build.ID) + "config"); a.status != 200 && a.status != 404 {
						t.Errorf("config: %d %s", a.status, a.body)
					}
				}
			})
		}
		if a := h.json(http.MethodPost, path+"/purge", token, struct{}{}); a.status != 200 {
			t.Errorf("purge: %d %s", a.status, a.body)
		}
		others.Wait()
		if dir := filepath.Join(h.cfg.Dir, "builds", strconv.FormatInt(build.ID, 10)); exists(dir) {
			t.Errorf("%s is back", dir)
		}
	}
}
