package hub_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/hub/upkeep"
	"freshet/internal/peertest"
)

// crowded is a hub on a small disk.
type crowded struct {
	*runningHub
	left   uint64 // bytes that a full disk still has
	waited map[string]int
	silent int // jobs that did not say why they wait
}

// fill leaves so many bytes of the disk, until room is called.
func (h *crowded) fill() (room func()) {
	h.t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(h.cfg.Dir, &stat); err != nil {
		h.t.Fatal(err)
	}
	filler := filepath.Join(h.cfg.Dir, "filler")
	if free := stat.Bavail * uint64(stat.Bsize); free > h.left {
		if err := os.WriteFile(filler, make([]byte, free-h.left), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	return func() {
		h.t.Helper()
		if err := os.Remove(filler); err != nil && !os.IsNotExist(err) {
			h.t.Fatal(err)
		}
	}
}

// ask makes a request on a full disk, and again with room when it is refused for that
// reason.
func (h *crowded) ask(step string, request func() answer) answer {
	h.t.Helper()
	room := h.fill()
	a := request()
	room()
	if a.status == http.StatusInsufficientStorage {
		a.problem(h.t, http.StatusInsufficientStorage, hubapi.ErrNoSpace)
		h.waited[step]++
		a = request()
	}
	if a.status != http.StatusOK {
		h.t.Fatalf("%s with %d bytes left: %d %s", step, h.left, a.status, a.body)
	}
	return a
}

// The disk is full at every step of the life of a build, with more and more room: nothing
// is lost, the hub says what it waits for, and goes on when there is space.
func TestDiskFullAtEveryStep(t *testing.T) {
	peertest.Require(t, "ostree", "xz")
	dir := smallDisk(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	lefts := []uint64{0, 4 << 10, 16 << 10, 48 << 10, 96 << 10, 160 << 10, 256 << 10, 384 << 10, 512 << 10, 768 << 10}
	if testing.Short() {
		lefts = []uint64{0, 96 << 10, 384 << 10}
	}
	synctest.Test(t, func(t *testing.T) {
		h := &crowded{runningHub: startHub(t, hub.Config{Dir: dir, Repos: map[string]hub.RepoConfig{"stable": {
			Deltas: hub.DeltasConfig{Rules: []hub.DeltaRule{{Depth: 2}}},
			Prune:  hub.PruneConfig{Rules: []hub.PruneRule{{Ref: "*", Depth: 1}}, Grace: time.Minute},
		}}}), waited: map[string]int{}}
		h.publishAll("stable", app(t, "org.test.Hello", "v0"))
		for i, left := range lefts {
			h.left = left
			noise := make([]byte, 200<<10)
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for j := range noise {
				noise[j] = byte(random.Uint32())
			}
			h.life(app(t, "org.test.Hello", fmt.Sprintf("v%d %x", i+1, noise)))
		}
		t.Logf("refused or put off: %v", h.waited)
		for _, step := range []string{"upload", "commit", "publish"} {
			if h.waited[step] == 0 {
				t.Errorf("the disk was never full for %s", step)
			}
		}
		h.stop()
	})
	peertest.Run(t, "", nil, "ostree", "fsck", "--quiet", "--repo="+filepath.Join(dir, "repos", "stable"))
}

// life takes a version through its whole life, with a full disk at the beginning of each
// step.
func (h *crowded) life(c content) {
	h.t.Helper()
	token := h.token(everything())
	build := decode[hubapi.Build](h.t, h.ask("create", func() answer {
		return h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"})
	}))
	path := hubapi.BuildPath(build.ID)
	h.ask("upload", func() answer { return h.upload(path+"/upload", token, "mixed", c.parts...) })
	ref, commit := c.ref()
	h.ask("build_ref", func() answer {
		return h.json(http.MethodPost, path+"/build_ref", token, map[string]any{"ref": ref, "commit": commit})
	})
	job := func(what string) func() (answer, string) {
		return func() (answer, string) {
			return h.json(http.MethodPost, path+"/"+what, token, struct{}{}), path + "/" + what
		}
	}
	h.work("commit", job("commit"))
	before := h.head(ref)
	h.work("publish", job("publish"))
	if h.head(ref) == before {
		h.t.Errorf("with %d bytes left: nothing was published", h.left)
	}
	room := h.fill() // while deltas are made
	time.Sleep(time.Minute)
	room()
	time.Sleep(5 * time.Minute) // the longest pause
	for id := int64(1); len(h.deltasTo(h.head(ref))) == 0; id++ {
		a := h.do(http.MethodGet, hubapi.JobPath(id), token, nil)
		if a.status != http.StatusOK {
			h.t.Fatalf("with %d bytes left: no deltas", h.left)
		}
		if job := decode[hubapi.Job](h.t, a); job.Kind == hubapi.JobDeltas {
			h.t.Logf("deltas: %+v", job)
		}
	}
	h.work("prune", func() (answer, string) {
		a := h.json(http.MethodPost, "/api/v1/prune", token, map[string]any{"repo": "stable"})
		if a.status != http.StatusOK {
			return a, ""
		}
		return a, hubapi.JobPath(decode[hubapi.Job](h.t, a).ID)
	})
	report, err := upkeep.Check(h.t.Context(), filepath.Join(h.cfg.Dir, "repos", "stable"), upkeep.CheckOptions{DryRun: true, Found: func(p upkeep.Problem) {
		h.t.Errorf("with %d bytes left: %+v", h.left, p)
	}})
	if err != nil || !report.Sound() {
		h.t.Errorf("with %d bytes left: %+v, %v", h.left, report, err)
	}
}

// work asks for a job while the disk is full. If it is accepted, it says what it waits
// for, and it is done when there is room.
func (h *crowded) work(step string, ask func() (a answer, path string)) {
	h.t.Helper()
	room := h.fill()
	a, path := ask()
	if a.status == http.StatusInsufficientStorage {
		h.waited[step+" asked"]++
		room()
		a, path = ask()
	}
	if a.status != http.StatusOK {
		h.t.Fatalf("%s with %d bytes left: %d %s", step, h.left, a.status, a.body)
	}
	time.Sleep(20 * time.Second)
	job := decode[hubapi.Job](h.t, h.do(http.MethodGet, path, h.token(everything()), nil))
	if job.Status != hubapi.JobEnded {
		h.waited[step]++
		// A disk that has no room for the log has some for the rest of the answer.
		if said := job.WaitsFor + job.Log; !strings.Contains(said, "space") && !strings.Contains(said, "disk is full") {
			h.silent++
			h.t.Logf("%s with %d bytes left says nothing: %+v", step, h.left, job)
		}
	}
	if a := h.get("/repo/stable/summary"); a.status != http.StatusOK {
		h.t.Errorf("%s with %d bytes left: what is published is not served: %d", step, h.left, a.status)
	}
	room()
	if job := h.wait(path); job.Status != hubapi.JobEnded {
		h.t.Errorf("%s with %d bytes left: %+v results %s", step, h.left, job, *job.Results)
	}
}
