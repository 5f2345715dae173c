package serve_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/serve"
	"freshet/internal/role"
)

// Payload that a hot set does not hold comes from where the project is whole, signatures of commits
// with the commits; pointers and everything else never do.
func TestThrough(t *testing.T) {
	w := newWorld(t)
	object := "/objects/ab/" + strings.Repeat("c", 62) + ".filez"
	held := "/objects/cd/" + strings.Repeat("e", 62) + ".filez"
	commit, heldCommit := "/objects/ab/"+strings.Repeat("d", 62)+".commit", "/objects/cd/"+strings.Repeat("f", 62)+".commit"
	w.publish(map[string]string{"config": "[core]", "summary": "here", held[1:]: "held", heldCommit[1:]: "held"})
	asked := make(chan string, 10)
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		if r.Header.Get("Authorization")+r.Header.Get("Cookie") != "" {
			t.Error("secrets of the client were passed on")
		}
		http.ServeContent(w, r, "", epoch, strings.NewReader("elsewhere"))
	}))
	defer whole.Close()
	to, err := url.Parse(whole.URL + "/repo/")
	if err != nil {
		t.Fatal(err)
	}
	access := role.NewAccess("mirror", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	site, err := serve.New(serve.Options{Access: access})
	if err != nil {
		t.Fatal(err)
	}
	site.Show([]*generation.Project{w.epel}, map[string]*url.URL{"epel": to})
	defer site.Close()
	front := httptest.NewServer(access.Wrap(site))
	defer front.Close()
	get := func(path string, fields ...string) (int, string, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/epel"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(fields); i += 2 {
			req.Header.Set(fields[i], fields[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header.Get(role.ReasonHeader)
	}
	if status, body, _ := get(object, "Authorization", "Bearer x", "Cookie", "y"); status != http.StatusOK || body != "elsewhere" {
		t.Errorf("%d %q", status, body)
	}
	if path := <-asked; path != "/repo"+object {
		t.Errorf("asked for %q", path)
	}
	if status, body, _ := get(object, "Range", "bytes=0-3"); status != http.StatusPartialContent || body != "else" {
		t.Errorf("a part: %d %q", status, body)
	}
	<-asked
	for path, want := range map[string]string{held: "held", "/summary": "here"} {
		if _, body, _ := get(path); body != want {
			t.Errorf("%s: %q", path, body)
		}
	}
	for _, path := range []string{commit, commit + "meta"} {
		if status, body, _ := get(path); status != http.StatusOK || body != "elsewhere" {
			t.Errorf("%s: %d %q", path, status, body)
			continue
		}
		<-asked
	}
	// Whatever is written twice stays in the project.
	if _, _, _ = get("/%252e%252e/%252e%252e" + object); true {
		if path := <-asked; path != "/repo/%2e%2e/%2e%2e"+object {
			t.Errorf("asked for %q", path)
		}
	}
	for _, path := range []string{heldCommit + "meta", "/summary.sig", "/refs/heads/x", "/README", "/other/"} {
		if status, _, reason := get(path); status != http.StatusNotFound || reason != string(serve.NotFound) {
			t.Errorf("%s: %d %s", path, status, reason)
		}
	}
	if len(asked) > 0 {
		t.Errorf("asked for %q", <-asked)
	}
	whole.Close()
	if status, _, reason := get(object); status != http.StatusBadGateway || reason != string(serve.UpstreamFailed) {
		t.Errorf("nobody is there: %d %s", status, reason)
	}
}
