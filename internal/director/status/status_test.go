package status_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"freshet/internal/director/status"
	"freshet/internal/page/browsertest"
	"freshet/internal/page/pagetest"
)

// serve shows a network.
func serve(t *testing.T, n *status.Network) *httptest.Server {
	t.Helper()
	site, err := status.New(slog.New(slog.DiscardHandler), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if n != nil {
		if err := site.Show(n); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(site.Handler())
	t.Cleanup(server.Close)
	return server
}

// Every page is well formed, leads to pages, and says what it should.
func TestPages(t *testing.T) {
	n := sample()
	for i := range n.Projects {
		// The files themselves are not the pages'.
		n.Projects[i].Path = status.Path + "projects/" + n.Projects[i].Name
	}
	server := serve(t, n)
	pages := make(map[string]string)
	pagetest.Crawl(t, server.Client(), server.URL, status.Path, func(p pagetest.Page) { pages[p.Path] = p.Body })
	if len(pages) < 40 {
		t.Errorf("%d pages were found", len(pages))
	}
	for path, wants := range map[string][]string{
		status.Path:                               {"<dd>30</dd>", "of 39 mirrors", "New Zealand", "mirror-12.example", `href="#DE"`},
		status.Path + "projects/fedora":           {"7c9fa1340e9b", "17 of 24", "is not the current version", "99.9 %"},
		status.Path + "projects/flathub":          {"connection refused", "not known"},
		status.Path + "projects/new":              {"No mirror carries it"},
		status.Path + "mirrors/mirror-05.example": {"42 %", "for clients in its own country only", "University of Somewhere"},
		status.Path + "mirrors/mirror-04.example": {"31 packages are missing", "works since 24 h ago"},
		status.Path + "mirrors/mirror-08.example": {"a page to log in", "down"},
		status.Path + "mirrors/mirror-07.example": {"Carries nothing"},
		status.Path + "mirrors/mirror-11.example": {"&lt;script&gt;", "#ZgotmplZ"},
		status.Path + "mirrors/mirror-02.example": {"not probed"},
		status.Path + "mirrors/mirror-16.example": {"the inventory is 3 days old"},
		status.Path + "mirrors/mirror-39.example": {"no answer within 10 s"},
	} {
		body, ok := pages[path]
		if !ok {
			t.Errorf("%s was not found", path)
		}
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s does not say %q", path, want)
			}
		}
	}
	if strings.Contains(pages[status.Path], "mirror-03.example") {
		t.Error("a mirror that is switched off is shown")
	}
}

// A network without anything has a page, and what is not there has one.
func TestEmpty(t *testing.T) {
	server := serve(t, nil)
	if p := pagetest.Get(t, server.Client(), server.URL, status.Path); !strings.Contains(p.Body, "No mirror") || !strings.Contains(p.Body, "No project") {
		t.Errorf("it says %s", p.Body)
	}
	for _, path := range []string{"mirrors/none", "projects/none", "none", "assets/none.css"} {
		p := pagetest.Get(t, server.Client(), server.URL, status.Path+path)
		if p.Status != http.StatusNotFound || !strings.Contains(p.Body, "no such page") {
			t.Errorf("%s: %d %s", path, p.Status, p.Body)
		}
		pagetest.Policy(t, p)
	}
}

// All of it can be had as JSON, and not again by who has it.
func TestJSON(t *testing.T) {
	server := serve(t, sample())
	p := pagetest.Get(t, server.Client(), server.URL, status.Path+"status.json")
	var n status.Network
	if err := json.Unmarshal([]byte(p.Body), &n); err != nil || len(n.Mirrors) != 40 || len(n.Projects) != 3 {
		t.Errorf("%d mirrors, %d projects, %v", len(n.Mirrors), len(n.Projects), err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+status.Path+"status.json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("If-None-Match", p.Header.Get("ETag"))
	if again := pagetest.Do(t, server.Client(), request); again.Status != http.StatusNotModified {
		t.Errorf("who has it gets %d", again.Status)
	}
}

func TestState(t *testing.T) {
	up, down, never := status.Access{OK: true, Since: now}, status.Access{Since: now}, status.Access{}
	behind := []status.Behind{{}}
	for _, test := range []struct {
		want status.State
		of   status.Carried
	}{
		{status.StateCurrent, status.Carried{Ways: []status.Access{down, up}}},
		{status.StateBehind, status.Carried{Ways: []status.Access{up}, Behind: behind}},
		{status.StateBehind, status.Carried{Ways: []status.Access{up}, Unused: "old"}},
		{status.StateDown, status.Carried{Ways: []status.Access{never, down}, Behind: behind}},
		{status.StateUnknown, status.Carried{Ways: []status.Access{never}}},
		{status.StateUnknown, status.Carried{}},
	} {
		if got := test.of.State(); got != test.want {
			t.Errorf("%+v is %s, want %s", test.of, got, test.want)
		}
	}
	current := status.Carried{Ways: []status.Access{up}}
	dead := status.Carried{Ways: []status.Access{down}}
	for _, test := range []struct {
		want status.State
		of   status.Mirror
	}{
		{status.StateDisabled, status.Mirror{Disabled: true, Carries: []status.Carried{current}}},
		{status.StateUnknown, status.Mirror{}},
		{status.StateCurrent, status.Mirror{Carries: []status.Carried{current, current}}},
		{status.StateBehind, status.Mirror{Carries: []status.Carried{current, dead}}},
		{status.StateDown, status.Mirror{Carries: []status.Carried{dead}}},
	} {
		if got := test.of.State(); got != test.want {
			t.Errorf("%+v is %s, want %s", test.of, got, test.want)
		}
	}
}

// In a real browser, with scripts forbidden.
func TestBrowser(t *testing.T) {
	server := serve(t, sample())
	b := browsertest.Start(t, server.URL)
	for name, path := range map[string]string{
		"network": "", "project": "projects/fedora", "project-new": "projects/new", "mirror": "mirrors/mirror-05.example",
		"mirror-down": "mirrors/mirror-08.example", "nowhere": "none",
	} {
		for _, problem := range b.Inspect(name, status.Path+path) {
			if name != "nowhere" {
				t.Errorf("%s: the browser says: %s", path, problem)
			}
		}
	}
	server = serve(t, nil)
	b = browsertest.Start(t, server.URL)
	for _, problem := range b.Inspect("network-empty", status.Path) {
		t.Errorf("the browser says: %s", problem)
	}
}
