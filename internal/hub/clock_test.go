package hub_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/hub/catalog"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
	"freshet/internal/sign"
)

// timestamp is when the commit of a ref says that it was made.
func (h *runningHub) timestamp(ref string) uint64 {
	h.t.Helper()
	repo, err := ostree.OpenRepo(os.DirFS(filepath.Join(h.cfg.Dir, "repos", "stable")))
	if err != nil {
		h.t.Fatal(err)
	}
	sum, err := repo.ResolveRef(ref)
	if err != nil {
		h.t.Fatal(err)
	}
	commit, err := repo.Commit(sum)
	if err != nil {
		h.t.Fatal(err)
	}
	return commit.Timestamp
}

// A machine comes up with the clock of decades ago, as one without a battery does, and
// is set right later. Nothing that was begun waits for the time to come round again, what
// clients compare never goes back, and tokens are of the time that the clock shows.
func TestClockSetBack(t *testing.T) {
	peertest.Require(t, "ostree")
	const ref = "app/org.test.Hello/x86_64/stable"
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // the key is older than all of this
		if _, err := sign.Generate(filepath.Join(dir, "signing-key.asc"), "Test"); err != nil {
			t.Fatal(err)
		}
	})
	real := startHub(t, hub.Config{Dir: dir})
	real.publishAll("stable", app(t, "org.test.Hello", "v1"))
	ready, later := real.push("stable", app(t, "org.test.Hello", "v2")), real.push("stable", app(t, "org.test.Other", "v1"))
	real.commit(ready)
	real.commit(later)
	token := real.token(everything())
	head := decode[hubapi.EventPage](t, real.get(hubapi.EventsPath)).Head
	before := real.timestamp(ref)
	real.stop()
	putOff(t, dir, later.ID)

	var inPast string
	synctest.Test(t, func(t *testing.T) { // the clock shows the year 2000
		if year := time.Now().Year(); year > 2020 {
			t.Fatalf("the clock is not set back: %d", year)
		}
		h := startHub(t, hub.Config{Dir: dir})
		begun := time.Now()
		if job := h.wait(hubapi.BuildPath(later.ID, "publish")); job.Status != hubapi.JobEnded {
			t.Errorf("what was put off: %+v", job)
		}
		if a := h.json(http.MethodPost, hubapi.BuildPath(ready.ID, "publish"), token, struct{}{}); a.status != http.StatusOK {
			t.Errorf("with a token of before: %d %s", a.status, a.body)
		}
		if job := h.wait(hubapi.BuildPath(ready.ID, "publish")); job.Status != hubapi.JobEnded || time.Since(begun) > time.Minute {
			t.Errorf("after %v: %+v", time.Since(begun), job)
		}
		if now := h.timestamp(ref); now <= before {
			t.Errorf("the commit is of %d, the one before of %d", now, before)
		}
		before = h.timestamp(ref)
		h.publishAll("stable", app(t, "org.test.Third", "v1"))
		// A rollback is a new commit, later than what it takes back.
		job, err := h.api().Rollback(t.Context(), "stable", hubapi.RollbackRequest{Refs: map[string]string{ref: ""}})
		if err != nil {
			t.Fatal(err)
		}
		if job := h.wait(hubapi.JobPath(job.ID)); job.Status != hubapi.JobEnded || h.timestamp(ref) <= before {
			t.Errorf("rolled back to %d, before it was %d: %+v", h.timestamp(ref), before, job)
		}
		before = h.timestamp(ref)
		// Upkeep takes no build for an old one.
		waiting := h.push("stable", app(t, "org.test.Waiting", "v1"))
		time.Sleep(3 * time.Hour)
		h.commit(waiting)
		h.publish(waiting)
		inPast = h.token(everything())
		page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath))
		if page.Head <= head {
			t.Errorf("the log ends at %d, before at %d", page.Head, head)
		}
		head = page.Head
		h.stop()
	})

	real.start() // and now it is right again
	if a := real.json(http.MethodPost, "/api/v1/build", inPast, map[string]any{"repo": "stable"}); a.status != http.StatusUnauthorized {
		t.Errorf("a token that has ended long ago: %d %s", a.status, a.body)
	}
	real.publishAll("stable", app(t, "org.test.Hello", "v3"))
	if now := real.timestamp(ref); now <= before {
		t.Errorf("the commit is of %d, the one before of %d", now, before)
	}
	if now := decode[hubapi.EventPage](t, real.get(hubapi.EventsPath)).Head; now <= head {
		t.Errorf("the log ends at %d, before at %d", now, head)
	}
	numbers := int64(0)
	list := real.publishes("")
	for i := range list {
		if n := list[len(list)-1-i].Number; n <= numbers {
			t.Errorf("publish %d comes after %d", n, numbers)
		} else {
			numbers = n
		}
	}
	real.stop()
	peertest.Run(t, "", nil, "ostree", "fsck", "--quiet", "--repo="+filepath.Join(dir, "repos", "stable"))
}

// putOff asks for the publish of a build and puts the job off for half an hour, as one is
// for which there was no room.
func putOff(t *testing.T, dir string, build int64) {
	t.Helper()
	c, err := catalog.Open(t.Context(), catalog.Config{Path: filepath.Join(dir, "hub.db")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StartPublish(t.Context(), build, json.RawMessage(`{}`)); err != nil {
		t.Fatal(err)
	}
	job, err := c.NextJob(t.Context(), catalog.JobFilter{Kinds: catalog.SerialKinds(), Repo: "stable"})
	if err == nil && job != nil {
		err = c.ReleaseJob(t.Context(), job.Claim(), time.Now().Add(30*time.Minute))
	}
	if err != nil || job == nil {
		t.Fatal(job, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
