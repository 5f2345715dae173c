package hub

import (
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"

	"freshet/internal/auth"
)

// The hub that publishes takes the word of others for whose request it is, and that of
// nobody else.
func TestForwardedClient(t *testing.T) {
	hubs := func(secret string) *server { return &server{authority: &auth.Authority{Secret: auth.Secret(secret)}} }
	from := hubs("0123456789abcdef")
	said := func(s *server) *http.Request {
		in := httptest.NewRequest(http.MethodPost, "http://hub/api/v1/delta/lease?x=1;y", nil)
		in.RemoteAddr = "192.0.2.1:4711"
		in.Header.Set("Authorization", "Bearer x")
		out := in.Clone(t.Context())
		out.URL.RawQuery, out.RemoteAddr = "", "198.51.100.1:1"
		out.Header.Set(forwardedBy, "b")
		s.sayClient(out, in)
		return out
	}
	for name, test := range map[string]struct {
		change func(r *http.Request)
		by     *server
		want   string
	}{
		"of a hub":       {func(*http.Request) {}, from, "192.0.2.1:4711"},
		"another secret": {func(*http.Request) {}, hubs("another secret, as long"), "198.51.100.1:1"},
		"none":           {func(r *http.Request) { r.Header.Del(forwardedFor) }, from, "198.51.100.1:1"},
		"another address": {func(r *http.Request) {
			r.Header.Set(forwardedFor, "203.0.113.1:1 "+hex.EncodeToString(from.clientCode(r, "192.0.2.1:4711")))
		}, from, "198.51.100.1:1"},
		"another token":  {func(r *http.Request) { r.Header.Set("Authorization", "Bearer y") }, from, "198.51.100.1:1"},
		"another path":   {func(r *http.Request) { r.URL.Path = "/api/v1/delta/worker" }, from, "198.51.100.1:1"},
		"another method": {func(r *http.Request) { r.Method = http.MethodGet }, from, "198.51.100.1:1"},
		"nonsense":       {func(r *http.Request) { r.Header.Set(forwardedFor, "192.0.2.1:4711 zz") }, from, "198.51.100.1:1"},
		"no code":        {func(r *http.Request) { r.Header.Set(forwardedFor, "192.0.2.1:4711 ") }, from, "198.51.100.1:1"},
	} {
		r := said(test.by)
		test.change(r)
		if got := from.ofClient(r).RemoteAddr; got != test.want {
			t.Errorf("%s: of %s, want %s", name, got, test.want)
		}
		if r.RemoteAddr != "198.51.100.1:1" {
			t.Errorf("%s: the request was changed", name)
		}
	}
}

// A request that was passed on comes to the handler as that of the client, whatever the
// client says.
func TestForwardSaysClient(t *testing.T) {
	hubOf := func(name string, now leader, next http.Handler) *httptest.Server {
		s := &server{authority: &auth.Authority{Secret: auth.Secret("0123456789abcdef")}, log: slog.New(slog.DiscardHandler)}
		s.cfg.Shared.Instance = name
		s.fleet.direct = newDirect()
		s.fleet.leader.Store(&now)
		web := httptest.NewServer(s.ledOnly(func() bool { return true }, next))
		t.Cleanup(web.Close)
		return web
	}
	leads := hubOf("a", leader{name: "a", self: true}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }))
	follows := hubOf("b", leader{name: "a", address: leads.URL}, http.NotFoundHandler())
	var own string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { own = info.Conn.LocalAddr().String() }})
	for _, base := range [...]string{follows.URL, leads.URL} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/delta/lease?a=b", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(forwardedFor, "192.0.2.1:1 00")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || string(got) != own {
			t.Errorf("by %s: of %q, want %s; %v", base, got, own, err)
		}
	}
}
