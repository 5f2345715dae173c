package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"freshet/internal/peertest"
)

// racedPublish is what "freshet hub publishes" tells of one.
type racedPublish struct {
	Number int64 `json:"number"`
	Jobs   []struct {
		ID    int64  `json:"id"`
		Actor string `json:"actor"`
	} `json:"jobs"`
	Refs map[string]struct{ From, To string } `json:"refs"`
}

// Two people push different builds of the same application at the same time, again and
// again. Both come through; what was asked for last is what users get; the history is
// one chain in which every push is, with who asked for it; and the repository is whole.
func TestRacingPushes(t *testing.T) {
	peertest.Require(t, "ostree")
	work := t.TempDir()
	dir := filepath.Join(work, "hub")
	hub := startHub(t, dir, "", "")
	repo := filepath.Join(dir, "repos", "stable")
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	people := []string{"person-0", "person-1"}
	for _, name := range people {
		run(t, "token", "create", "--dir", dir, "--name", name, "--repo", "stable", "--prefix", "org.example",
			"--scope", "build", "--scope", "upload", "--scope", "publish", "--scope", "jobs", "--out", filepath.Join(work, name))
	}
	auditor := filepath.Join(work, "auditor")
	if err := os.WriteFile(auditor, []byte(hub.token), 0o600); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		var all sync.WaitGroup
		for i, name := range people {
			app := filepath.Join(work, fmt.Sprintf("app-%d-%d", round, i))
			writeApp(t, app, 10*(round+1)+i)
			all.Go(func() {
				out, errOut, err := tryRun(t, "push", "--hub", hub.url, "--token-file", filepath.Join(work, name), "--repo", "stable", app)
				if err != nil {
					t.Errorf("%s in round %d: %v\n%s%s", name, round, err, out, errOut)
				}
			})
		}
		all.Wait()
		peertest.Run(t, "", nil, "ostree", "fsck", "--quiet", "--repo="+repo)
		run(t, "hub", "fsck", repo)

		var history struct {
			Publishes []racedPublish `json:"publishes"` // newest first
		}
		text := run(t, "hub", "publishes", "stable", "--hub", hub.url, "--token-file", auditor, "--json")
		if err := json.Unmarshal([]byte(text), &history); err != nil {
			t.Fatal(err, text)
		}
		jobs, last, winner, head := 0, int64(0), "", ""
		for _, publish := range slices.Backward(history.Publishes) {
			move, ok := publish.Refs[killedRef]
			if !ok || move.From != head {
				t.Errorf("round %d: publish %d goes on from %q, the one before ended at %q", round, publish.Number, move.From, head)
			}
			head = move.To
			for _, job := range publish.Jobs {
				if jobs++; job.ID > last {
					last = job.ID
					winner, _, _ = strings.Cut(job.Actor, " ") // then the id of the token
				}
			}
		}
		if want := len(people) * (round + 1); jobs != want {
			t.Errorf("round %d: %d publishes were asked for, %d are in the history\n%s", round, want, jobs, text)
		}
		if published := string(get(t, hub.url+"/repo/stable/refs/heads/"+killedRef, 200)); strings.TrimSpace(published) != head {
			t.Errorf("round %d: the history ends at %s, published is %s", round, head, published)
		}
		if got, err := readVersion(t.Context(), hub.url); err != nil || got != 10*(round+1)+slices.Index(people, winner) {
			t.Errorf("round %d: users get version %d, %s was the last to ask: %v", round, got, winner, err)
		}
	}
}
