package hub_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/peertest"
)

// Several publish the same application at the same time, while somebody else rolls
// it back. Nothing of it is lost: the history is one chain from the first commit to
// the one that is published, and every publish that was accepted is in it.
func TestRacingPublishers(t *testing.T) {
	peertest.Require(t, "ostree")
	h := startHub(t, hub.Config{})
	api := h.api()
	const ref = "app/org.test.Hello/x86_64/stable"
	h.publishAll("stable", app(t, "org.test.Hello", "v0"))
	const publishers, each = 4, 3
	var ready [publishers][]hubapi.Build
	for i := range publishers {
		for n := range each {
			build := h.push("stable", app(t, "org.test.Hello", fmt.Sprintf("v%d.%d", i, n)))
			h.commit(build)
			ready[i] = append(ready[i], build)
		}
	}
	errs := make(chan error, 2*publishers*each)
	moved := make(chan int64, each) // rollbacks that came through
	var all sync.WaitGroup
	for _, builds := range ready {
		all.Go(func() {
			for _, build := range builds {
				if _, err := api.Publish(t.Context(), build.ID); err != nil {
					errs <- err
				}
			}
		})
	}
	all.Go(func() {
		for range each {
			// It may find that there is nothing to do, or that the ref has moved.
			if job, err := api.Rollback(t.Context(), "stable", hubapi.RollbackRequest{Refs: map[string]string{ref: ""}}); err == nil {
				moved <- job.ID
			}
		}
	})
	all.Wait()
	close(errs)
	close(moved)
	for err := range errs {
		t.Error(err)
	}
	results := map[string]bool{}
	for _, build := range slices.Concat(ready[:]...) {
		job := h.wait(hubapi.BuildPath(build.ID, "publish"))
		if job.Status != hubapi.JobEnded {
			t.Errorf("build %d: %s", build.ID, *job.Results)
		}
		results[fmt.Sprint(job.ID)] = true
	}
	for id := range moved {
		h.wait(hubapi.JobPath(id))
	}

	list := h.publishes(ref)
	head := ""
	for _, publish := range slices.Backward(list) {
		move := publish.Refs[ref]
		if move.From != head {
			t.Errorf("publish %d goes on from %q, the one before ended at %q", publish.Number, move.From, head)
		}
		head = move.To
		for _, job := range publish.Jobs {
			delete(results, fmt.Sprint(job.ID))
		}
	}
	if head != h.head(ref) {
		t.Errorf("the history ends at %s, published is %s", head, h.head(ref))
	}
	if len(results) > 0 {
		t.Errorf("%d publishes are not in the history", len(results))
	}
	h.stop()
	peertest.Run(t, "", nil, "ostree", "fsck", "--quiet", "--repo="+filepath.Join(h.cfg.Dir, "repos", "stable"))
}
