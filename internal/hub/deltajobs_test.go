package hub_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/hub/catalog"
	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
	"freshet/internal/peertest"
)

// deltasTo are the static deltas to a commit that clients find, by the commit
// from which they lead.
func (h *runningHub) deltasTo(head string) map[string]bool {
	h.t.Helper()
	to := commitOf(h.t, head)
	path := "/repo/stable/" + ostree.DeltaIndexPath(to)
	a := h.get(path)
	if a.status == http.StatusNotFound {
		return nil
	}
	listed := a.body
	index, err := ostree.ParseDeltaIndex(a.body)
	if err != nil {
		h.t.Fatal(err)
	}
	found := map[string]bool{}
	for _, d := range index.Deltas {
		a := h.get("/repo/stable/" + d.Name.SuperblockPath())
		if a.status == http.StatusNotFound && !bytes.Equal(h.get(path).body, listed) {
			return h.deltasTo(head) // it was retired meanwhile
		}
		if a.status != http.StatusOK || ostree.ChecksumOf(a.body) != d.Superblock {
			h.t.Errorf("superblock of %s: %d", d.Name.Hex(), a.status)
		}
		from := ""
		if !d.Name.FromScratch() {
			from = d.Name.From.String()
		}
		found[from] = true
	}
	return found
}

func commitOf(t *testing.T, sum string) ostree.Checksum {
	t.Helper()
	c, err := ostree.ParseChecksum(sum)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lastDeltas waits until no job for deltas is queued or under way, and returns
// the newest of at least n.
func (h *runningHub) lastDeltas(n int) (results hubapi.DeltaResults, log string) {
	h.t.Helper()
	h.eventually("deltas", func() bool {
		var jobs []hubapi.Job
		for id := int64(1); ; id++ {
			a := h.do(http.MethodGet, hubapi.JobPath(id), h.token(everything()), nil)
			if a.status != http.StatusOK {
				break
			}
			if job := decode[hubapi.Job](h.t, a); job.Kind == hubapi.JobDeltas {
				jobs = append(jobs, job)
			}
		}
		if len(jobs) < n {
			return false
		}
		for _, job := range jobs {
			if job.Status != hubapi.JobEnded {
				return false
			}
		}
		last := jobs[len(jobs)-1]
		log = last.Log
		results = hubapi.DeltaResults{}
		return json.Unmarshal([]byte(*last.Results), &results) == nil
	})
	return results, log
}

// verifyDelta checks that a client gets the whole commit by a delta.
func (h *runningHub) verifyDelta(name ostree.DeltaName) {
	h.t.Helper()
	dir := filepath.Join(h.cfg.Dir, "repos", "stable")
	repo, err := ostree.OpenRepo(os.DirFS(dir))
	if err != nil {
		h.t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name.SuperblockPath())))
	if err != nil {
		h.t.Fatal(err)
	}
	block, err := ostree.ParseSuperblock(data)
	if err != nil {
		h.t.Fatal(err)
	}
	err = delta.Verify(h.t.Context(), repo, block, func(part int) (io.ReadCloser, error) {
		return os.Open(filepath.Join(dir, filepath.FromSlash(name.PartPath(part))))
	}, "")
	if err != nil {
		h.t.Error(err)
	}
}

// Deltas come after each publish by the rules, are found by clients, and go again
// after a time when the rules no longer ask for them.
func TestDeltas(t *testing.T) {
	peertest.Require(t, "xz")
	rules := func(depth int) map[string]hub.RepoConfig {
		return map[string]hub.RepoConfig{"stable": {Deltas: hub.DeltasConfig{
			Rules: []hub.DeltaRule{{ID: []string{"*.Locale"}}, {ID: []string{"org.test.*"}, Depth: depth}},
			Grace: time.Nanosecond,
		}}}
	}
	h := startHub(t, hub.Config{Repos: rules(2)})
	const ref = "app/org.test.Hello/x86_64/stable"
	h.lastDeltas(1) // of the start
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	v1 := h.head(ref)
	results, log := h.lastDeltas(2)
	if found := h.deltasTo(v1); len(found) != 1 || !found[""] {
		t.Fatalf("deltas to v1: %v\n%s", found, log)
	}
	var made hubapi.MadeDelta
	for _, d := range results.Deltas {
		if d.Ref == ref {
			made = d
		}
	}
	if made.To != v1 || made.From != "" || made.Size == 0 || made.Instead == 0 || made.Parts != 1 || made.Seconds <= 0 || len(results.Failed) > 0 {
		t.Errorf("results %+v", results)
	}
	if !strings.Contains(log, ref+" from nothing: ") {
		t.Errorf("log:\n%s", log)
	}
	catalogue := h.head("appstream2/x86_64")
	if found := h.deltasTo(catalogue); !found[""] {
		t.Errorf("deltas to the catalogue: %v", found)
	}

	h.publishAll("stable", app(t, "org.test.Hello", "v2"))
	h.publishAll("stable", app(t, "org.other.Hello", "v1"))
	h.publishAll("stable", app(t, "org.test.Hello.Locale", "v1"))
	v2 := h.head(ref)
	h.eventually("deltas to v2", func() bool { return len(h.deltasTo(v2)) == 2 })
	h.lastDeltas(1)
	if found := h.deltasTo(v2); !found[""] || !found[v1] {
		t.Errorf("deltas to v2: %v", found)
	}
	for _, none := range []string{"app/org.other.Hello/x86_64/stable", "app/org.test.Hello.Locale/x86_64/stable"} {
		if found := h.deltasTo(h.head(none)); len(found) > 0 {
			t.Errorf("%s has deltas: %v", none, found)
		}
	}
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v2)})
	h.verifyDelta(ostree.DeltaName{From: commitOf(t, v1), To: commitOf(t, v2)})

	// Nothing is made twice.
	h.restart()
	if results, log := h.lastDeltas(4); len(results.Deltas) > 0 {
		t.Errorf("made again: %+v\n%s", results, log)
	}

	// The rules ask for less.
	h.cfg.Repos = rules(1)
	h.restart()
	h.eventually("retired", func() bool { return len(h.deltasTo(v2)) == 1 })
	h.lastDeltas(5)
	gone := ostree.DeltaName{From: commitOf(t, v1), To: commitOf(t, v2)}
	h.eventually("removed", func() bool {
		return h.get("/repo/stable/"+gone.SuperblockPath()).status == http.StatusNotFound
	})
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v2)})
}

// A delta that cannot be made is told of, and holds up no other, nor the
// publish.
func TestDeltaFails(t *testing.T) {
	peertest.Require(t, "xz")
	h := startHub(t, hub.Config{Repos: map[string]hub.RepoConfig{"stable": {Deltas: hub.DeltasConfig{Rules: []hub.DeltaRule{{Depth: 3}}}}}})
	const ref = "app/org.test.Hello/x86_64/stable"
	h.lastDeltas(1) // of the start
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	v1 := h.head(ref)
	h.lastDeltas(2)
	// What v1 alone consists of is lost.
	dir := filepath.Join(h.cfg.Dir, "repos", "stable")
	repo, err := ostree.OpenRepo(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	lost, err := repo.Lookup(commitOf(t, v1), "files/bin/hello")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, ostree.ObjectName{Checksum: lost.File, Type: ostree.TypeFile}.Path())); err != nil {
		t.Fatal(err)
	}
	h.publishAll("stable", app(t, "org.test.Hello", "v2"))
	v2 := h.head(ref)
	h.eventually("the other delta", func() bool { return h.deltasTo(v2)[""] })
	results, log := h.lastDeltas(3)
	if cause := results.Failed[v1+"-"+v2]; !strings.Contains(cause, lost.File.String()) || h.deltasTo(v2)[v1] {
		t.Errorf("failed %v\n%s", results.Failed, log)
	}
}

// Several publishes in a row wait for one job.
func TestDeltaJobsCoalesce(t *testing.T) {
	peertest.Require(t, "xz")
	h := startHub(t, hub.Config{Repos: map[string]hub.RepoConfig{"stable": {Deltas: hub.DeltasConfig{Rules: []hub.DeltaRule{{Depth: 1}}}}}})
	h.lastDeltas(1)
	h.stop()
	h.withCatalog(func(c *catalog.Catalog) {
		for range 2 {
			if _, err := c.EnqueueJob(t.Context(), catalog.NewJob{Kind: hubapi.JobDeltas, Repo: "stable", Contents: struct{}{}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	h.start() // finds two, adds none
	h.lastDeltas(3)
	if a := h.do(http.MethodGet, hubapi.JobPath(4), h.token(everything()), nil); a.status != http.StatusNotFound {
		t.Errorf("a fourth job: %s", a.body)
	}
}
