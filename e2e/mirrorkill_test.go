package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/mirror/nginxtest"
	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// A mirror of upstreams of all kinds is killed at random moments of their syncs, until
// a sync of each kind has been under way so many times. Clients
// that read from the index to every package, all the time, never find one missing or
// wrong; and what is new is there after the next start.
func TestMirrorKilled(t *testing.T) {
	onlyInAcceptance(t)
	parallel(t)
	kills := 3
	if fullSize() {
		kills = 50
	}
	for _, protocol := range []string{"rsync", "http"} {
		t.Run(protocol, func(t *testing.T) { mirrorKilled(t, protocol, kills) })
	}
}

func mirrorKilled(t *testing.T, protocol string, kills int) {
	kinds := kindtest.Upstreams()
	dir := t.TempDir()
	publish := func(v int) {
		t.Helper()
		for _, k := range kinds {
			k.Publish(t, filepath.Join(dir, k.Name), v)
		}
	}
	for _, k := range kinds {
		peertest.Require(t, k.Needs...)
		if err := os.MkdirAll(filepath.Join(dir, k.Name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	publish(1)
	serve := rsynctest.Serve
	if protocol == "http" {
		serve = nginxtest.Serve
	}
	url := serve(t, dir)
	var projects strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&projects, "[mirror.projects.%s]\nkind = %q\nupstreams = [%q]\nschedule = \"never\"\nmax-shrink = 100\nrepositories = [", k.Name, k.Config.Format, url+k.Name+"/")
		for _, r := range k.Config.Repositories {
			fmt.Fprintf(&projects, "%q", r)
		}
		projects.WriteString("]\n")
	}
	b := startBoxes(t, t.TempDir(), strings.ReplaceAll(projects.String(), "repositories = []\n", ""), "")
	order := func(name string) {
		t.Helper()
		if _, err := b.api().Sync(t.Context(), name, mirrorapi.SyncRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	// orders has all of them synced, the one that is aimed at last: it may be short.
	orders := func(aim string) {
		t.Helper()
		for _, k := range kinds {
			if k.Name != aim {
				order(k.Name)
			}
		}
		order(aim)
	}
	syncs := func() {
		t.Helper()
		for _, k := range kinds {
			for e, err := range b.api().SyncWaiting(t.Context(), k.Name, mirrorapi.SyncRequest{}) {
				if err != nil {
					t.Fatal(err)
				}
				if r := e.Report; r != nil && r.Result != mirrorapi.Published && r.Result != mirrorapi.Unchanged {
					t.Fatalf("%s: %+v", k.Name, r)
				}
			}
		}
	}
	syncs()
	publish(2)
	began := time.Now()
	orders(kinds[0].Name)
	eventually(t, "all syncs end", patience, func() error {
		status, err := b.api().Status(t.Context())
		for _, p := range status.Projects {
			if p.State != mirrorapi.Idle && err == nil {
				err = fmt.Errorf("%s is %s", p.Name, p.State)
			}
		}
		return err
	})
	took := make(map[string]time.Duration) // how long after the order a sync of the kind is under way; it is learned
	for _, k := range kinds {
		took[k.Name] = time.Since(began)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	var walks, read, cut, mixed atomic.Int64
	for _, k := range kinds {
		clients.Go(func() {
			for ctx.Err() == nil {
				<-time.After(5 * time.Millisecond)
				began := b.now()
				before := b.served(k.Name)
				n, err := newWalker("http://"+b.listen+"/"+k.Name+"/").walk(ctx, k.Config)
				switch {
				case err == nil:
					walks.Add(1)
					read.Add(int64(n))
				case ctx.Err() != nil:
				case errors.Is(err, errDown) && (b.now() != began || began%2 == 0):
					cut.Add(1)
				case errors.Is(err, kindtest.ErrMixed) && (b.now() != began || began%2 == 0 || b.served(k.Name) != before):
					mixed.Add(1) // over a switch; nothing says that files of a plain tree belong together
				default:
					t.Errorf("a client of %s, from generation %s to %s: %v", k.Name, before, b.served(k.Name), err)
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, uint64(kills)))
	steps, under := make(map[mirrorapi.Step]int), make(map[string]int)
	fewest := func() string {
		return slices.MinFunc(kinds, func(a, b kindtest.Upstream) int { return under[a.Name] - under[b.Name] }).Name
	}
	all := 0
	for ; under[fewest()] < kills; all++ {
		if all == 10*kills {
			t.Errorf("of %d kills too few met a sync: %v", all, under)
			break
		}
		v := 3 + all
		publish(v)
		before := make(map[string]string)
		for _, k := range kinds {
			before[k.Name] = b.generation(k.Name)
		}
		aim := fewest()
		orders(aim)
		<-time.After(time.Duration(random.Int64N(int64(took[aim]))))
		status, err := b.api().Status(t.Context())
		b.kill()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range status.Projects {
			if p.Progress != nil {
				steps[p.Progress.Step]++
				under[p.Name]++
			}
			if p.Name != aim {
				continue
			}
			if p.State == mirrorapi.Idle { // that was too late
				took[aim] = max(took[aim]*3/4, time.Millisecond)
			} else {
				took[aim] = took[aim] * 9 / 8
			}
		}
		if random.IntN(4) == 0 { // and again, while it starts
			p := start(t, "mirror", "-c", b.config, "--listen", b.listen, "--admin", b.admin)
			<-time.After(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
			p.kill()
		}
		b.start()
		syncs()
		for _, k := range kinds {
			if b.generation(k.Name) == before[k.Name] {
				t.Errorf("%s: version %d is not there after the next start", k.Name, v)
			}
		}
	}
	cancel()
	clients.Wait()
	for _, k := range kinds {
		if left, err := filepath.Glob(filepath.Join(b.data, "projects", k.Name, "staging/objects/*/*/*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
	var when []string
	for _, s := range slices.Sorted(maps.Keys(steps)) {
		when = append(when, fmt.Sprintf("%d in %s", steps[s], s))
	}
	t.Attr("killed", fmt.Sprintf("%d times; syncs under way, by kind: %v; by step: %s", all, under, strings.Join(when, ", ")))
	t.Attr("clients", fmt.Sprintf("%d walks, %d files, none missing or wrong; %d walks cut by a kill; %d of the plain tree, of which no index tells what belongs together, had files of two versions", walks.Load(), read.Load(), cut.Load(), mixed.Load()))
	if walks.Load() < int64(kills) {
		t.Error("hardly anything was read")
	}
}
