package hub_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// waitingHub is a hub whose publishes of org.test.Waits wait for deltas that workers
// make.
func waitingHub(t *testing.T, most time.Duration) *runningHub {
	t.Helper()
	return startHub(t, hub.Config{DeltaWorkers: -1, Repos: map[string]hub.RepoConfig{"stable": {Deltas: hub.DeltasConfig{
		AppstreamDepth: -1, Rules: []hub.DeltaRule{{Depth: 2}}, WaitFor: []string{"org.test.Wait*"}, WaitAtMost: most,
	}}}})
}

const waitsRef = "app/org.test.Waits/x86_64/stable"

// askPublish asks for the publish of content and does not wait for it.
func (h *runningHub) askPublish(c content) (build hubapi.Build, path string) {
	h.t.Helper()
	build = h.push("stable", c)
	h.commit(build)
	path = hubapi.BuildPath(build.ID, "publish")
	if a := h.json(http.MethodPost, path, h.token(everything()), struct{}{}); a.status != http.StatusOK {
		h.t.Fatalf("publish: %d %s", a.status, a.body)
	}
	return build, path
}

func (h *runningHub) jobAt(path string) hubapi.Job {
	h.t.Helper()
	return decode[hubapi.Job](h.t, h.do(http.MethodGet, path, h.token(everything()), nil))
}

// A publish that waits for its deltas shows the new version together with them. It
// holds up no other publish, but later ones of the same application.
func TestPublishWaitsForDeltas(t *testing.T) {
	peertest.Require(t, "xz")
	h := waitingHub(t, time.Hour)
	worker := h.worker(t.TempDir(), nil)
	stop := h.background(worker)
	h.publishAll("stable", app(t, "org.test.Waits", "v1"))
	v1 := h.head(waitsRef)
	if found := h.deltasTo(v1); !found[""] { // without waiting for them
		t.Errorf("deltas to v1: %v", found)
	}
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v1)})
	stop()

	_, path := h.askPublish(app(t, "org.test.Waits", "v2"))
	h.eventually("the queue", func() bool { return len(h.queue()) == 2 })
	for _, q := range h.queue() {
		if q.Build == 0 || q.Ref != waitsRef || q.From != "" && q.From != v1 {
			t.Errorf("queue %+v", q)
		}
	}
	if job := h.jobAt(path); job.Status != hubapi.JobNew || !strings.Contains(job.WaitsFor, "build-deltas") {
		t.Errorf("publish %+v", job)
	}
	h.publishAll("stable", app(t, "org.test.Other", "v1")) // is not held up
	_, later := h.askPublish(app(t, "org.test.Waits", "v3"))
	h.restart()
	h.eventually("the queue again", func() bool { return len(h.queue()) >= 4 })
	if now := h.head(waitsRef); now != v1 || h.jobAt(later).Status != hubapi.JobNew {
		t.Errorf("head %s, later publish %+v", now, h.jobAt(later))
	}

	h.background(h.worker(t.TempDir(), nil))
	if job := h.wait(path); job.Status != hubapi.JobEnded {
		t.Fatalf("publish: %+v", job)
	}
	if job := h.wait(later); job.Status != hubapi.JobEnded {
		t.Fatalf("publish: %+v", job)
	}
	v3 := h.head(waitsRef)
	if found := h.deltasTo(v3); !found[""] {
		t.Errorf("deltas to v3: %v", found)
	}
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v3)})
	parent := h.parentOf(v3)
	if h.parentOf(parent) != v1 {
		t.Errorf("v3 comes after %s, and that after %s", parent, h.parentOf(parent))
	}
	// That between the two is made afterwards: one was not published when the other
	// was asked for.
	h.eventually("the other delta to v3", func() bool { return h.deltasTo(v3)[parent] })
	h.verifyDelta(ostree.DeltaName{From: commitOf(t, parent), To: commitOf(t, v3)})
}

// parentOf is the commit before one.
func (h *runningHub) parentOf(commit string) string {
	h.t.Helper()
	name := ostree.ObjectName{Checksum: commitOf(h.t, commit), Type: ostree.TypeCommit}
	parsed, err := ostree.ParseCommit(h.get("/repo/stable/" + name.Path()).body)
	if err != nil {
		h.t.Fatal(err)
	}
	return parsed.Parent.String()
}

// A publish goes on without deltas that nobody makes in time.
func TestPublishWaitsNotForEver(t *testing.T) {
	peertest.Require(t, "xz")
	h := waitingHub(t, 50*time.Millisecond)
	_, path := h.askPublish(app(t, "org.test.Waits", "v1"))
	if job := h.wait(path); job.Status != hubapi.JobEnded {
		t.Fatalf("publish: %+v", job)
	}
	if found := h.deltasTo(h.head(waitsRef)); len(found) != 0 {
		t.Errorf("deltas %v", found)
	}
	h.eventually("the delta in the queue, for what is published", func() bool {
		q := h.queue()
		return len(q) == 1 && q[0].Build == 0 && q[0].To == h.head(waitsRef)
	})
}

// A worker may read a build that is not public while it makes a delta for it.
func TestWorkerReadsBuild(t *testing.T) {
	peertest.Require(t, "xz")
	h := waitingHub(t, time.Hour)
	build := h.pushInto(map[string]any{"repo": "stable", "public-download": false}, app(t, "org.test.Waits", "v1"))
	h.commit(build)
	h.json(http.MethodPost, hubapi.BuildPath(build.ID, "publish"), h.token(everything()), struct{}{})
	h.eventually("the queue", func() bool { return len(h.queue()) == 1 })
	commit := h.queue()[0].To
	path := hubapi.BuildRepoPath(build.ID) + ostree.ObjectName{Checksum: commitOf(t, commit), Type: ostree.TypeCommit}.Path()
	get := func() int { return h.get(path, "Authorization", "Bearer "+h.token(deltaClaims())).status }
	if status := get(); status == http.StatusOK {
		t.Error("a worker without a lease reads a build")
	}
	lease, err := h.workerAPI().LeaseDelta(t.Context(), hubapi.DeltaLeaseRequest{})
	if err != nil || lease == nil || lease.To != commit {
		t.Fatal(lease, err)
	}
	if status := get(); status != http.StatusOK {
		t.Errorf("with the lease: %d", status)
	}
	others := deltaClaims()
	others.Name = "farm/one" // like the worker of somebody else
	if a := h.get(path, "Authorization", "Bearer "+h.token(others)); a.status == http.StatusOK {
		t.Error("a worker reads a build for which another one has the lease")
	}
	if err := h.workerAPI().GiveBackDelta(t.Context(), lease.Lease, hubapi.DeltaGivenBack{}); err != nil {
		t.Fatal(err)
	}
	if status := get(); status == http.StatusOK {
		t.Error("a worker that gave the lease back reads a build")
	}
	_, err = h.workerAPI().ExtendDelta(t.Context(), lease.Lease, hubapi.DeltaProgress{})
	if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Kind != hubapi.ErrNotFound {
		t.Error(err)
	}
}
