package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/edgeapi"
)

// A soft purge of each kind, given to three edges, is in force on all of them
// within a second: by URL, prefix, tag, set and everything. Without a token it
// is refused and changes nothing.
func TestEachPurgeOnThreeEdges(t *testing.T) {
	parallel(t)
	var version atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sig") {
			http.NotFound(w, r)
			return
		}
		tag := fmt.Sprintf(`"%d"`, version.Load())
		w.Header().Set("Surrogate-Key", "release "+strings.ReplaceAll(r.URL.Path, "/", "_"))
		w.Header().Set("Cache-Control", "public, max-age=3600, stale-if-error=3600")
		w.Header().Set("Etag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = fmt.Fprintf(w, "%s version %d", r.URL.Path, version.Load())
	}))
	defer origin.Close()
	edges := make([]*purger, 3)
	for i := range edges {
		edges[i] = startPurger(t, filepath.Join(t.TempDir(), "store"), "", origin.URL, `follow = "off"`)
	}
	const page, nested, set = "/page", "/app/one", "/repo/summary"
	ask := func(e *purger, path string) (body, status string) {
		t.Helper()
		resp, err := http.Get(e.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(data), resp.Header.Get("Cache-Status")
	}
	for _, c := range []struct {
		name   string
		req    edgeapi.PurgeRequest
		purged []string
	}{
		{"url", edgeapi.PurgeRequest{URLs: []string{page}}, []string{page}},
		{"prefix", edgeapi.PurgeRequest{Prefixes: []string{"/app/"}}, []string{nested}},
		{"tag", edgeapi.PurgeRequest{Tags: []string{"_app_one"}}, []string{nested}},
		{"set", edgeapi.PurgeRequest{Sets: []string{set}}, []string{set}},
		{"tag of all", edgeapi.PurgeRequest{Tags: []string{"release"}}, []string{page, nested, set}},
		{"everything", edgeapi.PurgeRequest{Everything: true}, []string{page, nested, set}},
	} {
		for _, e := range edges { // all is fresh, of the version before
			e.order(t, edgeapi.PurgeRequest{Everything: true, Hard: true})
			for _, path := range []string{page, nested, set} {
				ask(e, path)
				if body, status := ask(e, path); body != fmt.Sprintf("%s version %d", path, version.Load()) || !strings.Contains(status, "hit") {
					t.Fatalf("%s before: %q, %q", path, body, status)
				}
			}
			nobody := edgeapi.Client{Base: "http://" + e.admin}
			if _, err := nobody.Purge(t.Context(), c.req); err == nil || !strings.Contains(err.Error(), "401") && !strings.Contains(err.Error(), "unauthorized") {
				t.Errorf("%s without a token: %v", c.name, err)
			}
			if _, status := ask(e, page); !strings.Contains(status, "hit") {
				t.Errorf("%s without a token changed something: %q", c.name, status)
			}
		}
		version.Add(1)
		begun := time.Now()
		var orders sync.WaitGroup
		for _, e := range edges {
			orders.Go(func() {
				client := edgeapi.Client{Base: "http://" + e.admin, Token: e.token}
				if _, err := client.Purge(t.Context(), c.req); err != nil {
					t.Error(err)
				}
			})
		}
		orders.Wait()
		took := time.Since(begun)
		if took > promised(time.Second) {
			t.Errorf("%s: in force after %v", c.name, took)
		}
		for i, e := range edges {
			for _, path := range []string{page, nested, set} {
				now := version.Load() - 1
				for _, p := range c.purged {
					if p == path {
						now++
					}
				}
				if body, status := ask(e, path); body != fmt.Sprintf("%s version %d", path, now) {
					t.Errorf("%s: edge %d has %q (%s), want version %d", c.name, i, body, status, now)
				}
			}
		}
	}
}
