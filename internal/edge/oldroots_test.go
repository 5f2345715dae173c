package edge

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/role"
)

// A client that holds a root uses what it lists for a week after the publisher
// has replaced the root and deleted the rest, also after a restart, and also
// what nobody had asked for when it was listed plainly.
func TestOldRootStaysOfUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		primary := func(n int) (path, body string) {
			body = fmt.Sprintf("generation %d. primary", n)
			return "/r/repodata/" + sha(body) + "-primary.xml", body
		}
		files := newStatic(make(map[string]string))
		publish := func(n int) {
			path, body := primary(n)
			files.set(path, body)
			if n > 0 { // in place: what was there before is deleted
				old, _ := primary(n - 1)
				files.mu.Lock()
				delete(files.files, old)
				files.mu.Unlock()
			}
			files.set("/r/repodata/repomd.xml", `<repomd><data type="primary"><checksum type="sha256">`+sha(body)+
				`</checksum><location href="`+strings.TrimPrefix(path, "/r/")+`"/></data></repomd>`)
		}
		publish(0)
		w := newWorld(t, Config{}, files.serve)
		w.get("/r/repodata/repomd.xml")
		path, body := primary(0)
		w.want(w.get(path), body, "")
		switched := time.Now()
		for n := 1; time.Since(switched) < 7*24*time.Hour; n++ {
			publish(n)
			time.Sleep(6 * time.Hour)
			if a := w.get("/r/repodata/repomd.xml"); !strings.Contains(a.body, sha(fmt.Sprintf("generation %d. primary", n))) {
				time.Sleep(time.Minute)
				if a = w.get("/r/repodata/repomd.xml"); !strings.Contains(a.body, sha(fmt.Sprintf("generation %d. primary", n))) {
					t.Fatalf("publish %d does not show: %d %q", n, a.status, a.body)
				}
			}
			if n == 10 {
				w.restart()
			}
			if a := w.get(path); a.status != http.StatusOK || a.body != body {
				t.Fatalf("%v after the switch the old primary is %d %q", time.Since(switched), a.status, a.body)
			}
		}
		if n := files.count(path); n != 1 {
			t.Errorf("the origin was asked for it %d times", n)
		}
	})
}

// A publisher replaces the index of a summary two hundred times, and deletes the
// signature and the subsummary of the one before at once; fifty clients read
// the index, then what it names: it is always there, and always the right one.
func TestIndexSwitchesWithWhatItLists(t *testing.T) {
	bubble(t, func(t *testing.T) {
		publishes, readers := 200, 50
		if testing.Short() {
			publishes = 30
		}
		key := newSigner(t)
		type generation struct {
			index, sigPath, sig, subPath, sub string
		}
		var mu sync.Mutex
		byIndex := make(map[string]generation)
		make1 := func(n int) generation {
			text := fmt.Sprintf("generation %d. subsummary", n)
			sum := ostree.ChecksumOf([]byte(text))
			x := ostree.SummaryIndex{Subsummaries: []ostree.Subsummary{{Name: "x86_64", Checksum: sum, Metadata: gvariant.Dict{}}}}
			g := generation{index: string(x.Encode()), subPath: "/repo/" + ostree.SubsummaryPath(sum), sub: gzipped(t, text)}
			g.sigPath, g.sig = "/repo/"+ostree.SummaryIndexSignaturePath(ostree.ChecksumOf([]byte(g.index))), key.ostree(t, g.index)
			mu.Lock()
			byIndex[g.index] = g
			mu.Unlock()
			return g
		}
		files := newStatic(make(map[string]string))
		remove := func(paths ...string) {
			files.mu.Lock()
			defer files.mu.Unlock()
			for _, p := range paths {
				delete(files.files, p)
			}
		}
		pause := func(most time.Duration) { time.Sleep(rand.N(most)) }
		now := make1(0)
		files.set(now.subPath, now.sub)
		files.set(now.sigPath, now.sig)
		files.set("/repo/summary.idx", now.index)
		w := newWorld(t, Config{Keys: []string{key.file}}, func(rw http.ResponseWriter, r *http.Request) {
			pause(20 * time.Millisecond)
			rw.Header().Set("Cache-Control", "max-age=1")
			files.serve(rw, r)
		})
		w.get("/repo/summary.idx")
		w.get(now.subPath) // from now on it is known which of them clients ask for
		over := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(over)
			for n := 1; n <= publishes; n++ {
				next := make1(n)
				steps := [][2]string{{next.subPath, next.sub}, {next.sigPath, next.sig}, {"/repo/summary.idx", next.index}}
				if rand.IntN(4) == 0 { // some publish the index before its signature
					steps[1], steps[2] = steps[2], steps[1]
				}
				for _, s := range steps {
					files.set(s[0], s[1])
					pause(1500 * time.Millisecond)
				}
				remove(now.subPath, now.sigPath)
				now = next
				pause(4 * time.Second)
			}
			time.Sleep(3 * time.Minute)
		})
		reads, refused := 0, 0
		last := ""
		for range readers {
			wg.Go(func() {
				transport := role.NewTransport(w.net.DialContext)
				defer transport.CloseIdleConnections()
				r := &reader{client: &http.Client{Transport: transport}}
				for {
					select {
					case <-over:
						return
					case <-time.After(rand.N(12 * time.Second)):
					}
					index, status := r.get(t, "http://edge.mem", "/repo/summary.idx")
					mu.Lock()
					g, known := byIndex[index]
					reads++
					if status != http.StatusOK {
						refused++
					}
					last = index
					mu.Unlock()
					if status != http.StatusOK {
						continue
					}
					if !known {
						t.Errorf("an index that nobody published: %q", index)
						continue
					}
					rest := [][2]string{{g.sigPath, g.sig}, {g.subPath, g.sub}}
					rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
					for _, f := range rest {
						pause(300 * time.Millisecond)
						if body, status := r.get(t, "http://edge.mem", f[0]); status != http.StatusOK || body != f[1] {
							t.Errorf("%s of a shown index: %d, %d bytes", f[0], status, len(body))
						}
					}
				}
			})
		}
		wg.Wait()
		shown := w.metric("freshet_edge_generations_total", "shown")
		t.Logf("%d readings, %d refused; %v generations shown", reads, refused, shown)
		if refused > reads/50 || shown < float64(publishes)/4 || last != now.index {
			t.Errorf("%d of %d readings were refused, %v generations shown, the last is the newest: %v", refused, reads, shown, last == now.index)
		}
	})
}
