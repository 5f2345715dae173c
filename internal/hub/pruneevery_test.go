package hub_test

import (
	"net/http"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/hub/catalog"
)

// The hub prunes by itself, and a restart is no reason to do it once more.
func TestPruneEvery(t *testing.T) {
	h := startHub(t, hub.Config{Repos: map[string]hub.RepoConfig{"stable": {Prune: hub.PruneConfig{Every: time.Hour}}}})
	h.eventually("the hub queues a prune", func() bool {
		return h.do(http.MethodGet, hubapi.JobPath(1), h.token(everything()), nil).status == http.StatusOK
	})
	if job := h.wait(hubapi.JobPath(1)); job.Kind != hubapi.JobPrune || job.Status != hubapi.JobEnded {
		t.Fatalf("%+v", job)
	}
	h.restart()
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	h.stop()
	h.withCatalog(func(c *catalog.Catalog) {
		jobs, _, err := c.JobPage(t.Context(), catalog.JobListing{Kinds: []hubapi.JobKind{hubapi.JobPrune}}, 0, 10)
		if err != nil || len(jobs) != 1 || jobs[0].Actor != "hub" {
			t.Errorf("%d prunes, %v", len(jobs), err)
		}
	})
}
