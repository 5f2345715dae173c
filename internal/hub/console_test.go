package hub_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"freshet/internal/auth"
	"freshet/internal/hub"
	"freshet/internal/page/pagetest"
)

// On a hub that has published, everything that the console leads to is there; with
// a token for another application it leads to less, and all of that is there too.
func TestConsole(t *testing.T) {
	h := startHub(t, hub.Config{Console: hub.ConsoleConfig{Listen: "mem:console"}})
	h.publishAll("stable", app(t, "org.example.One", "one"))
	h.push("stable", app(t, "org.example.Two", "two"))
	manage, other := everything(), everything()
	manage.Sub, manage.Name = "", "manager"
	other.Prefixes = []string{"org.example.Three"}
	const base = "http://console.mem"
	crawl := func(all ...auth.Claims) map[string]string {
		t.Helper()
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: h.client.Transport, Jar: jar}
		post := func(path string, form url.Values) pagetest.Page {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			return pagetest.Do(t, client, request)
		}
		post("/console/signin", url.Values{"token": {h.token(all[0])}})
		for _, further := range all[1:] {
			_, rest, _ := strings.Cut(pagetest.Get(t, client, base, "/console/account").Body, `name="csrf" value="`)
			csrf, _, _ := strings.Cut(rest, `"`)
			post("/console/account", url.Values{"token": {h.token(further)}, "csrf": {csrf}})
		}
		pages := map[string]string{}
		pagetest.Crawl(t, client, base, "/console/", func(p pagetest.Page) { pages[p.Path] = p.Body })
		return pages
	}
	pages := crawl(everything(), manage)
	for path, text := range map[string]string{
		"/console/": "Publish 2", "/console/builds/1": "published", "/console/builds/2": "uploading", "/console/refs/stable/app/org.example.One/x86_64/stable": "flatpak install stable org.example.One",
		"/console/publishes/stable/2": "from asked for to public", "/console/jobs/2": "Publish", "/console/audit": "build.published",
	} {
		if !strings.Contains(pages[path], text) {
			t.Errorf("%s does not say %q", path, text)
		}
	}
	for path, body := range crawl(other) {
		if strings.Contains(body, "org.example.One") || strings.Contains(body, "org.example.Two") {
			t.Errorf("%s shows what the token is not for", path)
		}
	}
}
