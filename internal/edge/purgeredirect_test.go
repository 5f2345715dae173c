package edge

import (
	"net/http"
	"testing"

	"freshet/internal/edge/gate"
)

// Where clients are sent to HTTPS, PURGE is carried out all the same, if it is
// understood there, and everything else is sent on.
func TestPurgeIsNotRedirected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{
			Control: cfg, Gate: gate.Config{RedirectHTTPS: true, RedirectPort: 8443}, Sites: map[string]SiteConfig{
				"purges": {Hosts: []string{"purges.example"}, Origin: "http://origin.mem", PurgeMethod: true},
				"plain":  {Hosts: []string{"plain.example"}, Origin: "http://origin.mem"},
			},
		}, func(http.ResponseWriter, *http.Request) {})
		w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, c := range []struct {
			method, host, token string
			status              int
		}{
			{"PURGE", "purges.example", boss, 200},
			{"PURGE", "purges.example", "nobody", 401},
			{"PURGE", "plain.example", boss, 308},
			{"GET", "purges.example", boss, 301},
			{"POST", "purges.example", boss, 308},
		} {
			a := w.do(c.method, "/page", "Host: "+c.host, "Authorization: Bearer "+c.token)
			location := a.header.Get("Location")
			if a.status != c.status || (c.status/100 == 3) != (location == "https://"+c.host+":8443/page") {
				t.Errorf("%+v: %d %q", c, a.status, location)
			}
		}
		w.wantFetches(0)
	})
}
