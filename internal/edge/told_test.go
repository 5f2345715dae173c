package edge

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"freshet/internal/networks"
)

// What a client says of itself, or of another place than it asks for, never
// comes to the origin; what the edge knows does, with requests for that client
// alone.
func TestWhatOriginsAreTold(t *testing.T) {
	lies := []string{
		"X-Original-URL: /secret", "X-Rewrite-Url: /secret", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https",
		"X-Forwarded-Prefix: /evil", "Forwarded: for=1.2.3.4;host=evil", "X-Real-IP: 1.2.3.4", "True-Client-IP: 1.2.3.4", "X-Host: evil",
		"X-HTTP-Method-Override: DELETE", "X-Method-Override: DELETE", "X-Url-Scheme: https", "Client-IP: 1.2.3.4", "X-Mine: 1",
	}
	for _, rules := range []string{"auto", "none"} {
		t.Run(rules, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				told := make(chan http.Header, 1)
				w := newWorld(t, Config{Rules: rules}, func(_ http.ResponseWriter, r *http.Request) { told <- r.Header })
				for _, method := range []string{"GET", "POST"} {
					for _, path := range []string{"/a.rpm", "/any/page"} {
						w.do(method, path, lies...)
						h := <-told
						var odd []string
						for _, name := range slices.Sorted(maps.Keys(h)) {
							if strings.HasPrefix(name, "X-") && name != "X-Mine" || strings.Contains(name, "Ip") || name == "Forwarded" {
								odd = append(odd, name+": "+strings.Join(h[name], ","))
							}
						}
						want := "[]"
						if method == "POST" {
							want = "[X-Forwarded-For: client X-Forwarded-Host: edge.mem X-Forwarded-Proto: http]"
						}
						if got := fmt.Sprint(odd); got != want {
							t.Errorf("%s %s: the origin is told %s, want %s", method, path, got, want)
						}
					}
				}
			})
		})
	}
}

// Listed proxies are believed about the address and about TLS, nobody else is.
func TestWhoIsBelieved(t *testing.T) {
	trusted := networks.Set{netip.MustParsePrefix("10.0.0.0/8")}
	e := new(Edge)
	e.trusted.Store(&trusted)
	for _, c := range []struct{ remote, client, proto string }{
		{"10.0.0.1:5", "192.0.2.7", "https"},
		{"192.0.2.9:5", "192.0.2.9", "http"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Host: "dl.example", Header: http.Header{
			"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil"}, "X-Original-Url": {"/secret"},
		}}
		client, clear := e.clientOf(r)
		h := (&site{}).passHeaderOf(r)
		if client.String() != c.client || clear != (c.proto == "http") || h.Get("X-Forwarded-For") != c.client || h.Get("X-Forwarded-Proto") != c.proto ||
			h.Get("X-Forwarded-Host") != "dl.example" || h.Get("X-Original-Url") != "" {
			t.Errorf("%+v: %v, clear %v, %v", c, client, clear, h)
		}
	}
}
