package edge

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/api/edgeapi"
)

// One object path in two repositories of a host, and in one of another host,
// has other bytes and another length in each, as Flathub had it in 2026: nobody
// ever gets bytes of two, cold, joined, warm or after a purge, whole or in part.
func TestReposNeverMix(t *testing.T) {
	bubble(t, func(t *testing.T) {
		object := "/objects/0a/" + strings.Repeat("0a", 31) + ".filez"
		type repo struct{ name, host, path, body string }
		repos := []repo{
			{"stable", "edge.mem", "/stable" + object, strings.Repeat("s", 1<<20)},
			{"beta", "edge.mem", "/beta" + object, strings.Repeat("b", 3<<20)},
			{"other", "other.example", "/stable" + object, strings.Repeat("o", 2<<20)},
		}
		origin := func(bodies map[string]string) http.HandlerFunc {
			return func(rw http.ResponseWriter, r *http.Request) {
				body := bodies[r.URL.Path]
				rw.Header().Set("Etag", `"same"`) // a validator tells nothing of the repository
				rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
				for i := 0; i < len(body); i += 128 << 10 {
					_, _ = io.WriteString(rw, body[i:i+128<<10])
					_ = http.NewResponseController(rw).Flush()
					time.Sleep(10 * time.Millisecond)
				}
			}
		}
		control, boss, _ := clients(t)
		w := newWorld(t, Config{Control: control, Sites: map[string]SiteConfig{
			"other": {Hosts: []string{"other.example"}, Origin: "http://other.mem"},
		}}, origin(map[string]string{repos[0].path: repos[0].body, repos[1].path: repos[1].body}))
		w.serve("other", origin(map[string]string{repos[2].path: repos[2].body}))
		round := func(when string) {
			t.Helper()
			var wg sync.WaitGroup
			for _, r := range repos {
				for i := range 6 {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * 15 * time.Millisecond) // some join in the middle
						want, fields := r.body, []string{"Host: " + r.host}
						from := len(r.body) - 1000
						switch i % 3 {
						case 1:
							want, fields = r.body[from:], append(fields, fmt.Sprintf("Range: bytes=%d-", from), `If-Range: "same"`)
						case 2:
							want, fields = r.body[:10], append(fields, "Range: bytes=0-9")
						}
						a := w.get(r.path, fields...)
						if a.status == http.StatusOK && when == "passed on" {
							want = r.body // this origin knows no ranges
						}
						if a.err != nil || a.body != want {
							t.Errorf("%s, %s, reader %d: %d, %d bytes that begin with %.3q, want %d; %v", when, r.name, i, a.status, len(a.body), a.body, len(want), a.err)
						}
						if a.status == http.StatusPartialContent && !strings.HasSuffix(a.header.Get("Content-Range"), fmt.Sprintf("/%d", len(r.body))) {
							t.Errorf("%s, %s, reader %d: Content-Range %q", when, r.name, i, a.header.Get("Content-Range"))
						}
					})
				}
			}
			wg.Wait()
		}
		round("cold")
		w.wantFetches(2) // the other host's are not counted
		round("warm")
		w.wantFetches(2)
		for _, hard := range []bool{false, true} { // one of the three only
			w.purge(boss, edgeapi.PurgeRequest{Paths: []string{repos[0].path}, Hard: hard})
			before := w.fetches.Load()
			round(fmt.Sprintf("after a purge, hard %v", hard))
			if n := w.fetches.Load() - before; n != 1 {
				t.Errorf("%d fetches after the purge of one", n)
			}
		}
		w.restart()
		round("after a restart")
		w.wantFetches(4)
		w.stop()
		w.cfg.Size /= 32 // too small for any of them: passed on
		w.start()
		round("passed on")
	})
}
