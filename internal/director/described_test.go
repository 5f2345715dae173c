package director_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director"
	"freshet/internal/director/orders"
	"freshet/internal/openapitest"
)

// listening is a mux that knows what it was given.
type listening struct {
	*http.ServeMux
	patterns []string
}

func (l *listening) Handle(pattern string, h http.Handler) {
	l.ServeMux.Handle(pattern, h)
	if strings.Contains(pattern, directorapi.Prefix) {
		l.patterns = append(l.patterns, pattern)
	}
}

// The description has every route of the API and no other, and what is answered is what
// it says.
func TestDescribed(t *testing.T) {
	doc := openapitest.Read(t, "../../api/directorapi/openapi.json")
	token, hash := control.NewToken("fd_")
	mux := &listening{ServeMux: http.NewServeMux()}
	start(t, func(c *director.Config) {
		c.Snapshot, c.State = "", filepath.Join(t.TempDir(), "state")
		c.Control.Clients = map[string]orders.ClientConfig{"me": {Token: hash}}
	}, mux)
	described := doc.Operations(func(string) bool { return true })
	slices.Sort(mux.patterns)
	if !slices.Equal(described, mux.patterns) {
		t.Errorf("described: %q\nhandled:   %q", described, mux.patterns)
	}
	admin := httptest.NewServer(mux)
	defer admin.Close()

	project := directorapi.Project{
		Name: "pub", Path: "/pub/", Origins: []string{"http://127.0.0.1:1/"}, Hub: "http://127.0.0.1:1/", Inventory: directorapi.Source{How: directorapi.HowManifest},
		Repositories: []directorapi.Repository{{Kind: directorapi.KindRPM}},
	}
	site := directorapi.Site{Name: "uni", Country: "DE", Latitude: 48.1, ASN: 680}
	mirror := directorapi.Mirror{Name: "uni", Site: "uni", Rules: directorapi.Rules{Countries: []string{"AT"}}, Carries: []directorapi.Carried{{
		Project: "pub", HTTP: "http://127.0.0.1:1/", Inventory: directorapi.Source{How: directorapi.HowHTTP, Every: directorapi.Duration(time.Hour)},
	}}}
	own, ownHash := control.NewToken("fd_")
	me := &directorapi.Client{Base: admin.URL, Token: token}
	// The box that shows a claim becomes the mirror.
	redemption := func() any {
		claim, err := me.Claim(t.Context(), "uni", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return directorapi.Redemption{Mirror: "uni", Secret: claim.Secret, Token: ownHash}
	}
	asked := make(map[string]bool)
	for _, c := range []struct {
		pattern, target string
		body            any
		status          int
	}{
		{"PUT /director/v1/catalogue", "/catalogue", directorapi.Catalogue{Projects: []directorapi.Project{project}}, 200},
		{"PUT /director/v1/catalogue/{items}/{name}", "/catalogue/sites/uni?note=new", site, 200},
		{"PUT /director/v1/catalogue/{items}/{name}", "/catalogue/mirrors/uni", mirror, 200},
		{"PUT /director/v1/catalogue/{items}/{name}", "/catalogue/mirrors/uni?dry-run", directorapi.Mirror{Site: "none"}, 422},
		{"GET /director/v1/catalogue", "/catalogue", nil, 200},
		{"GET /director/v1/catalogue/{items}/{name}", "/catalogue/projects/pub", nil, 200},
		{"GET /director/v1/catalogue/{items}/{name}", "/catalogue/sites/uni", nil, 200},
		{"GET /director/v1/catalogue/{items}/{name}", "/catalogue/mirrors/uni", nil, 200},
		{"GET /director/v1/catalogue/{items}/{name}", "/catalogue/mirrors/none", nil, 404},
		{"PUT /director/v1/manifests/{mirror}/{project}", "/manifests/-/pub", "nonsense", 400},
		{"PUT /director/v1/manifests/{mirror}/{project}", "/manifests/-/pub", originManifest, 204},
		{"GET /director/v1/history", "/history?limit=10", nil, 200},
		{"POST /director/v1/scans", "/scans", directorapi.ScanRequest{Mirror: "uni", Reason: "test"}, 202},
		{"POST /director/v1/scans", "/scans", directorapi.ScanRequest{Mirror: "none"}, 404},
		{"GET /director/v1/scans", "/scans", nil, 200},
		{"GET /director/v1/health", "/health", nil, 200},
		{"POST /director/v1/reports", "/reports", directorapi.Reports{Reports: []directorapi.Report{{Mirror: "uni", What: "load", Load: 0.5}}}, 202},
		{"GET /director/v1/why", "/why?path=/pub/a/file&client=192.0.2.7", nil, 200},
		{"GET /director/v1/inventory", "/inventory", nil, 200},
		{"PUT /director/v1/desired/{mirror}", "/desired/uni", directorapi.DesiredChange{Settings: "[projects.pub]", Note: "first"}, 200},
		{"PUT /director/v1/desired/{mirror}", "/desired/none", directorapi.DesiredChange{Settings: "[projects.pub]"}, 404},
		{"GET /director/v1/desired/{mirror}", "/desired/uni", nil, 200},
		{"GET /director/v1/desired/{mirror}/history", "/desired/uni/history", nil, 200},
		{"POST /director/v1/desired/{mirror}/claim", "/desired/uni/claim", directorapi.ClaimRequest{Seconds: 60}, 200},
		{"POST " + directorapi.RedeemPath, "/redeem", directorapi.Redemption{Mirror: "uni", Secret: "guess", Token: ownHash}, 403},
		{"POST " + directorapi.RedeemPath, "/redeem", redemption, 200},
		{"GET " + followed, "/desired/uni/follow?after=0&wait=0", nil, 200},
		{"GET " + followed, "/desired/uni/follow?after=1&wait=0", nil, 204},
		{"POST " + applied, "/desired/uni/applied", directorapi.Applied{Version: 1}, 204},
		{"GET " + directorapi.DesiredPath, "/desired", nil, 200},
		{"DELETE /director/v1/catalogue/{items}/{name}", "/catalogue/mirrors/uni", nil, 200},
	} {
		asked[c.pattern] = true
		method, path, _ := strings.Cut(c.pattern, " ")
		tokens := []string{"guess", token}
		switch path {
		case followed, applied: // by the mirror alone
			tokens[1] = own
		case directorapi.RedeemPath: // by whoever has the claim
			tokens = tokens[:1]
		}
		if made, ok := c.body.(func() any); ok {
			c.body = made()
		}
		for _, token := range tokens {
			want := c.status
			if token == "guess" && path != directorapi.RedeemPath {
				want = http.StatusUnauthorized
			}
			status, kind, body := ask(t, method, admin.URL+directorapi.Prefix+c.target, token, c.body)
			for range 3000 { // until the catalogue is put together
				if status == want || c.pattern != "GET "+directorapi.WhyPath {
					break
				}
				time.Sleep(10 * time.Millisecond)
				status, kind, body = ask(t, method, admin.URL+directorapi.Prefix+c.target, token, c.body)
			}
			if status != want {
				t.Errorf("%s %s: %d %s, want %d", method, c.target, status, body, want)
			}
			if err := doc.Check(c.pattern, status, kind, body); err != nil {
				t.Errorf("%s: %v", c.target, err)
			}
		}
	}
	for _, pattern := range mux.patterns {
		if !asked[pattern] {
			t.Errorf("%s is not asked", pattern)
		}
	}
}

// What only a mirror itself may ask.
const (
	followed = "/director/v1/desired/{mirror}" + directorapi.DesiredFollow
	applied  = "/director/v1/desired/{mirror}" + directorapi.DesiredApplied
)

const originManifest = `freshet-manifest 1
project pub
generation 1

7 1767225600 - a/file
end 1
`

// ask makes a request, with a body in JSON, or as it is if it is text.
func ask(t *testing.T, method, url, token string, body any) (status int, kind string, answer []byte) {
	t.Helper()
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer
}
