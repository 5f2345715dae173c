package edge

import (
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/edgeapi"
	"freshet/internal/gvariant"
	"freshet/internal/memnet"
	"freshet/internal/ostree"
	"freshet/internal/role"
)

// Metadata named by its content is shown for a week although the origin has
// deleted it, even when it is to be validated, and what was not known is 404.
func TestHashedMetadataOutlivesItsPublish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var (
			rpm  = "/r/repodata/" + sha("old primary") + "-primary.xml"
			deb  = "/d/dists/s/main/binary-amd64/by-hash/SHA256/" + sha("old packages")
			idx  = "/f/summaries/" + sha("idx") + ".idx.sig"
			list = map[string]string{rpm: "old primary", deb: "old packages", idx: "idx signature"}
		)
		files := newStatic(map[string]string{"/r/repodata/repomd.xml": "<repomd></repomd>"})
		for path, body := range list {
			files.set(path, body)
		}
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{Control: cfg}, files.serve)
		for path, body := range list {
			w.want(w.get(path), body, "fwd=uri-miss")
		}
		files.mu.Lock()
		for path := range list {
			delete(files.files, path)
		}
		files.mu.Unlock()
		for day := range 7 {
			for path, body := range list {
				status := "hit"
				if day > 3 {
					status = "fwd=stale; fwd-status=404" // it was purged
				}
				w.want(w.get(path), body, status)
			}
			if day == 3 { // somebody purges: the origin is asked, and has it no more
				for path, body := range list {
					w.purge(boss, edgeapi.PurgeRequest{Paths: []string{path}})
					w.want(w.get(path), body, "fwd=stale; fwd-status=404")
				}
				w.restart()
			}
			time.Sleep(24 * time.Hour)
		}
		if a := w.get("/r/repodata/" + sha("other") + "-primary.xml"); a.status != http.StatusNotFound {
			t.Errorf("what was never there: %d", a.status)
		}
	})
}

// Payload in any amount does not drive out the metadata that leads to it.
func TestHashedMetadataHasItsShare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hashed := "/r/repodata/" + sha("primary") + "-primary.xml"
		w := newWorld(t, Config{Size: 8 << 20}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Etag", `"x"`)
			if r.URL.Path == hashed {
				_, _ = rw.Write([]byte("primary"))
				return
			}
			_, _ = rw.Write(make([]byte, 40_000))
		})
		w.get(hashed)
		w.get("/first.rpm")
		for i := range 600 {
			w.get(fmt.Sprintf("/%d.rpm", i))
		}
		w.want(w.get(hashed), "primary", "hit")
		if a := w.get("/first.rpm"); !strings.HasPrefix(a.cacheStatus(), "freshet; fwd=uri-miss") {
			t.Errorf("nothing was driven out: %s", a.cacheStatus())
		}
	})
}

// What is not what its name, or the file that lists it, says is not stored.
func TestWrongContentIsNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		good := map[string]string{
			objectOf("commit"): "commit",
			"/r/repodata/" + sha("primary") + "-primary.xml":     "primary",
			"/d/dists/s/main/by-hash/SHA256/" + sha("packages"):  "packages",
			"/d/dists/s/main/binary-amd64/Packages":              "packages",
			"/r/repodata/filelists.xml":                          "filelists",
			"/objects/0a/" + strings.Repeat("0a", 31) + ".filez": "x",
		}
		files := newStatic(map[string]string{
			"/d/dists/s/InRelease":   "Date: x\nSHA256:\n " + sha("packages") + " 8 main/binary-amd64/Packages\n",
			"/r/repodata/repomd.xml": `<repomd><data type="filelists"><checksum type="sha256">` + sha("filelists") + `</checksum><location href="repodata/filelists.xml"/></data></repomd>`,
		})
		for path := range good {
			files.set(path, "<html>a page of some proxy</html>")
		}
		w := newWorld(t, Config{}, files.serve)
		w.get("/d/dists/s/InRelease")
		w.get("/r/repodata/repomd.xml")
		for path := range good {
			a, err := w.try(t.Context(), "GET", path)
			if err == nil && a.err == nil && (a.status != http.StatusBadGateway || a.header.Get(role.ReasonHeader) != "verify_mismatch") {
				t.Errorf("%s: %d %q", path, a.status, a.body)
			}
		}
		if got := w.metric("freshet_edge_fetches_total", "verify_mismatch"); got < float64(len(good)) {
			t.Errorf("%v mismatches counted, want %d", got, len(good))
		}
		for path, body := range good {
			files.set(path, body)
		}
		time.Sleep(time.Minute)
		for path, body := range good {
			w.want(w.get(path), body, "fwd=uri-miss")
		}
	})
}

// An InRelease and what it lists is used without its origin until its own
// Valid-Until, and no longer; one without is used for a day.
func TestValidUntil(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := func(until string) string {
			return "Origin: x\nDate: Sat, 01 Jan 2000 00:00:00 UTC\n" + until + "SHA256:\n " + sha("packages") + " 8 main/binary-amd64/Packages\n"
		}
		until := time.Now().Add(10 * time.Minute).UTC()
		files := newStatic(map[string]string{
			"/dists/short/InRelease": release("Valid-Until: " + until.Format("Mon, 02 Jan 2006 15:04:05 MST") + "\n"),
			"/dists/long/InRelease":  release(""),
		})
		for _, suite := range []string{"short", "long"} {
			files.set("/dists/"+suite+"/main/binary-amd64/Packages", "packages")
		}
		w := newWorld(t, Config{}, files.serve)
		all := []string{"/dists/short/InRelease", "/dists/short/main/binary-amd64/Packages", "/dists/long/InRelease", "/dists/long/main/binary-amd64/Packages"}
		for _, path := range all {
			w.get(path)
		}
		w.restart() // it is known afterwards too
		files.down.Store(true)
		time.Sleep(time.Until(until) - time.Second)
		for _, path := range all {
			if a := w.get(path); a.status != http.StatusOK {
				t.Errorf("%s one second before its end: %d", path, a.status)
			}
		}
		time.Sleep(time.Second)
		for i, path := range all {
			want := http.StatusOK
			if i < 2 {
				want = http.StatusBadGateway
			}
			if a := w.get(path); a.status != want {
				t.Errorf("%s after its end: %d, want %d", path, a.status, want)
			}
		}
		time.Sleep(24*time.Hour - 11*time.Minute)
		for _, path := range all[2:] {
			if a := w.get(path); a.status != http.StatusOK {
				t.Errorf("%s within a day: %d", path, a.status)
			}
		}
		time.Sleep(20 * time.Minute)
		if a := w.get(all[2]); a.status != http.StatusBadGateway {
			t.Errorf("%s after a day: %d", all[2], a.status)
		}
		files.down.Store(false)
		for _, path := range all {
			if a := w.get(path); a.status != http.StatusOK {
				t.Errorf("%s when the origin is back: %d", path, a.status)
			}
		}
	})
}

// A mirror that lags behind does not bring an older database of pacman, unless
// somebody purges.
func TestOlderDatabaseIsNotTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		begun := time.Now()
		var hours atomic.Int64
		hours.Store(10)
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{Control: cfg}, func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/core/core.db" {
				http.NotFound(rw, r)
				return
			}
			at := begun.Add(time.Duration(hours.Load()) * time.Hour)
			http.ServeContent(rw, r, "", at, strings.NewReader(fmt.Sprint("db of hour ", hours.Load())))
		})
		w.want(w.get("/core/core.db"), "db of hour 10", "fwd=uri-miss")
		hours.Store(9)
		for range 20 {
			time.Sleep(3 * time.Minute)
			if a := w.get("/core/core.db"); a.body != "db of hour 10" {
				t.Fatalf("got %d %q", a.status, a.body)
			}
		}
		if got := w.metric("freshet_edge_generations_total", "generation_conflict"); got == 0 {
			t.Error("no conflict was counted")
		}
		hours.Store(11)
		time.Sleep(3 * time.Minute)
		w.want(w.get("/core/core.db"), "db of hour 11", "fwd=stale; fwd-status=200")
		hours.Store(8)
		w.purge(boss, edgeapi.PurgeRequest{Paths: []string{"/core/core.db"}})
		w.want(w.get("/core/core.db"), "db of hour 8", "fwd=stale; fwd-status=200")
	})
}

// With keys, only what they have signed is shown.
func TestKeysDecide(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mine, other := newSigner(t), newSigner(t)
		signature := mine.ostree(t, "one")
		files := newStatic(map[string]string{"/repo/summary": "one", "/repo/summary.sig": signature, "/unsigned/summary": "x"})
		w := newWorld(t, Config{Keys: []string{mine.file}}, files.serve)
		w.want(w.get("/repo/summary"), "one", "fwd=uri-miss")
		if a := w.get("/unsigned/summary"); a.status != http.StatusBadGateway || a.header.Get(role.ReasonHeader) != "verify_mismatch" {
			t.Errorf("without a signature: %d %q", a.status, a.body)
		}
		files.set("/repo/summary", "two")
		files.set("/repo/summary.sig", other.ostree(t, "two"))
		for range 5 {
			time.Sleep(10 * time.Minute)
			if a, b := w.get("/repo/summary"), w.get("/repo/summary.sig"); a.body != "one" || b.body != signature {
				t.Errorf("signed by another: %q and %q", a.body, b.body)
			}
		}
		files.set("/repo/summary.sig", mine.ostree(t, "two"))
		time.Sleep(time.Minute)
		w.want(w.get("/repo/summary"), "two", "fwd=stale")
	})
}

// A publish is fetched, with what clients use, before anybody sees it, and
// nobody waits for it.
func TestEventBringsGeneration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := newSigner(t)
		commit := func(n int) (string, ostree.Checksum) {
			return objectOf(fmt.Sprint("commit ", n)), ostree.ChecksumOf([]byte(fmt.Sprint("commit ", n)))
		}
		summaryOf := func(n int) string {
			_, sum := commit(n)
			s := ostree.Summary{Refs: []ostree.SummaryRef{{Ref: "app/org.x/x86_64/stable", Commit: sum}, {Ref: "app/org.y/x86_64/stable", Commit: sum}}}
			return string(s.Encode())
		}
		files := newStatic(map[string]string{"/repo/summary": summaryOf(0), "/repo/summary.sig": key.ostree(t, summaryOf(0))})
		log := newEventLog("log-a")
		var slow atomic.Bool
		w := newWorld(t, Config{Follow: "auto", Prefill: []string{"app/org.x/*/stable"}, PrefillWithin: 5 * time.Second}, func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/api/") {
				log.serve(rw, r)
				return
			}
			if slow.Load() {
				time.Sleep(200 * time.Millisecond)
			}
			files.serve(rw, r)
		})
		w.following(true)
		w.get("/repo/summary")
		w.get("/repo/summary.sig")
		slow.Store(true)
		for n := 1; n <= 3; n++ {
			path, _ := commit(n)
			files.set("/repo"+path, fmt.Sprint("commit ", n))
			files.set("/repo/summary", summaryOf(n))
			files.set("/repo/summary.sig", key.ostree(t, summaryOf(n)))
			log.publish("/repo/", "summary", "summary.sig", "refs/heads/app/org.x/x86_64/stable")
			begun := time.Now()
			for a := w.get("/repo/summary"); a.body != summaryOf(n); a = w.get("/repo/summary") {
				if a.first > 0 || a.status != http.StatusOK {
					t.Fatalf("a client waits %v for %d", a.first, a.status)
				}
				if files.count("/repo"+path) > 0 && time.Since(begun) > 6*time.Second {
					t.Fatal("the publish does not show")
				}
				time.Sleep(50 * time.Millisecond)
			}
			if files.count("/repo"+path) == 0 {
				t.Error("the new commit was not fetched before")
			}
			w.want(w.get("/repo/summary"), summaryOf(n), "hit")
			t.Logf("publish %d shown after %v", n, time.Since(begun))
		}
	})
}

// The root of a set that is not there is fetched as fast as its slowest file,
// and many who wait cost one fetch.
func TestColdSetIsOneFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := newSigner(t)
		files := newStatic(map[string]string{"/repo/summary": "one", "/repo/summary.sig": key.ostree(t, "one")})
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(300 * time.Millisecond)
			files.serve(rw, r)
		})
		var wg sync.WaitGroup
		for i := range 40 {
			path := "/repo/summary"
			if i%2 == 0 {
				path = "/repo/summary.sig"
			}
			wg.Go(func() {
				if a := w.get(path); a.status != http.StatusOK || a.first != 300*time.Millisecond {
					t.Errorf("%s: %d after %v", path, a.status, a.first)
				}
			})
		}
		wg.Wait()
		w.wantFetches(2)
		synctest.Wait()
	})
}

// A subsummary, its delta and the signature of the index are there when the
// index is shown.
func TestIndexComesWithWhatItLists(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := newSigner(t)
		files := newStatic(make(map[string]string))
		publish := func(n int) (idx string, sub string, sum ostree.Checksum) {
			sub = gzipped(t, fmt.Sprint("subsummary ", n))
			sum = ostree.ChecksumOf([]byte(fmt.Sprint("subsummary ", n)))
			x := ostree.SummaryIndex{Subsummaries: []ostree.Subsummary{{Name: "x86_64", Checksum: sum, Metadata: gvariant.Dict{}}}}
			idx = string(x.Encode())
			files.set("/repo/"+ostree.SubsummaryPath(sum), sub)
			files.set("/repo/summary.idx", idx)
			return idx, sub, sum
		}
		sign := func(idx string) string {
			path := "/repo/" + ostree.SummaryIndexSignaturePath(ostree.ChecksumOf([]byte(idx)))
			files.set(path, key.ostree(t, idx))
			return path
		}
		w := newWorld(t, Config{}, files.serve)
		idx, sub, before := publish(1)
		sig := sign(idx)
		w.want(w.get("/repo/summary.idx"), idx, "fwd=uri-miss")
		w.want(w.get(sig), key0(files, sig), "fwd=uri-miss")
		w.want(w.get("/repo/"+ostree.SubsummaryPath(before)), sub, "fwd=uri-miss")

		next, sub, after := publish(2)
		delta := "/repo/" + ostree.SubsummaryDeltaPath(before, after)
		files.set(delta, "delta")
		time.Sleep(5 * time.Minute)
		// Its signature is not there yet.
		w.want(w.get("/repo/summary.idx"), idx, "fwd=stale")
		sig = sign(next)
		time.Sleep(time.Minute)
		w.want(w.get("/repo/summary.idx"), next, "fwd=stale; fwd-status=200")
		w.want(w.get(sig), key0(files, sig), "hit")
		w.want(w.get("/repo/"+ostree.SubsummaryPath(after)), sub, "hit")
		w.want(w.get(delta), "delta", "hit")
	})
}

func key0(files *static, path string) string {
	files.mu.Lock()
	defer files.mu.Unlock()
	return files.files[path]
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Whenever the process is killed, the next one shows a generation as a whole:
// the one before or the one after.
func TestGenerationsSurviveKill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := newSigner(t)
		files := newStatic(make(map[string]string))
		signatures := make(map[string]string)
		publish := func(n int) {
			data := fmt.Sprintf("generation %d.", n)
			signatures[data] = key.ostree(t, data)
			files.set("/repo/summary", data)
			files.set("/repo/summary.sig", signatures[data])
		}
		publish(0)
		w := newWorld(t, Config{}, files.serve)
		w.get("/repo/summary")
		time.Sleep(time.Second)
		seen := make(map[string]int)
		for n := 1; n <= 30; n++ {
			publish(n)
			time.Sleep(3 * time.Minute)
			w.get("/repo/summary.sig")
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(w.cfg.Store)); err != nil { // as it is, with nothing written in peace
				t.Fatal(err)
			}
			after := newWorldAt(t, w, dir)
			a, b := after.get("/repo/summary"), after.get("/repo/summary.sig") // it finds no origin
			after.stop()
			if a.status != http.StatusOK || b.body != signatures[a.body] {
				t.Errorf("publish %d: %d %q, and its signature does not fit", n, a.status, a.body)
			}
			if got := number(a.body); got == fmt.Sprint(n) {
				seen["after"]++
			} else if got == fmt.Sprint(n-1) {
				seen["before"]++
			}
		}
		if seen["after"]+seen["before"] != 30 || seen["after"] == 0 {
			t.Errorf("what was shown after the kill: %v", seen)
		}
		t.Log(seen)
	})
}

// newWorldAt is another edge, over a copy of a store, whose origin is away.
func newWorldAt(t *testing.T, w *world, dir string) *world {
	t.Helper()
	again := &world{t: t, net: new(memnet.Network), log: new(lockedBuffer), cfg: w.cfg}
	again.cfg.Store = dir
	transport := role.NewTransport(again.net.DialContext)
	transport.DisableKeepAlives = true
	again.client = &http.Client{Transport: transport}
	again.start()
	t.Cleanup(func() {
		again.stop()
		transport.CloseIdleConnections()
	})
	return again
}
