package director_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"freshet/internal/certs"
	"freshet/internal/certs/certstest"
	"freshet/internal/director"
	"freshet/internal/forwarded"
)

// published is the moment of a metalink's answer.
var published = regexp.MustCompile("<published>[^<]*</published>")

// Who comes by TLS gets the same answers by HTTP/1.1 and HTTP/2, and is sent to nothing
// but https.
func TestTLS(t *testing.T) {
	pair, roots := certstest.Pair(t, t.TempDir(), 1, "director.example")
	w := startFleet(t, true, func(c *director.Config) {
		c.ListenTLS, c.TLS.Certificates = "127.0.0.1:0", []certs.Pair{pair}
	})
	answers := make(map[string]string) // of HTTP/1.1
	for _, proto := range []string{"http/1.1", "h2"} {
		tr := &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dial() }, ForceAttemptHTTP2: proto == "h2",
			TLSClientConfig: &tls.Config{RootCAs: roots, NextProtos: []string{proto}},
		}
		defer tr.CloseIdleConnections()
		for _, c := range []struct{ target, want string }{
			{"/pub/both.iso", "302|https://de.example/both.iso|"},
			{"/pub/both.iso?protocol=http", "302|https://de.example/both.iso|"},
			{"/pub/at.iso", "302|https://at.example/at.iso|"},
			{"/pub/nobody.iso", "302|https://origin.example/nobody.iso|"},
			{"/pub/x%00", "400||bad_path"},
			{"/pub/both.iso.meta4", "200||"},
			{repo, "200||"},
			{"/-/", "200||"},
			{"/mirrorlist", "200||missing_parameter"},
		} {
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				req, err := http.NewRequestWithContext(t.Context(), method, "https://director.example"+c.target, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Forwarded-For", "192.0.2.7")
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				h := resp.Header
				if got := fmt.Sprintf("%d|%s|%s", resp.StatusCode, h.Get("Location"), h.Get("Freshet-Reason")); method == "GET" && got != c.want {
					t.Errorf("%s %s: %s, want %s", proto, c.target, got, c.want)
				}
				if resp.TLS == nil || resp.TLS.NegotiatedProtocol != proto {
					t.Fatalf("%s was not spoken", proto)
				}
				h.Del("Date")
				h.Del("Connection")
				all := published.ReplaceAllString(fmt.Sprint(resp.StatusCode, h, string(body)), "")
				name := method + " " + c.target
				if proto == "h2" && answers[name] != all && c.target != "/-/" { // which is renewed
					t.Errorf("%s by HTTP/2:\n%s\nby HTTP/1.1:\n%s", name, all, answers[name])
				}
				answers[name] = all
			}
		}
	}
	if got := w.metric("freshet_director_certificate_expiry_timestamp_seconds", "director.example"); got == 0 {
		t.Error("nobody is told when the certificate expires")
	}
}

// Where proxies are named, only they are believed about who asks and by what; the PROXY
// protocol tells of a connection.
func TestTrustedProxies(t *testing.T) {
	const de, at, https = "X-Forwarded-For: 192.0.2.7\r\n", "X-Forwarded-For: 198.51.100.9\r\n", "X-Forwarded-Proto: https\r\n"
	w := startFleet(t, false, func(c *director.Config) { c.Listen, c.TrustedProxies = "127.0.0.1:0", []string{"127.0.0.1"} })
	ask := func(name, fields, want, client string) {
		t.Helper()
		for _, request := range []string{
			"GET /pub/both.iso HTTP/1.1\r\nHost: d\r\n" + fields + "\r\n",
			"GET /pub/both.iso HTTP/1.0\r\n" + fields + "\r\n",
		} {
			w.log.Reset()
			got := w.send(1, request)[0].Header.Get("Location")
			if want != "" && got != want {
				t.Errorf("%s: %q is sent to %s, want %s", name, request, got, want)
			}
			if want == "" && !strings.HasPrefix(got, "http://") {
				t.Errorf("%s: %q is sent to %s, and did not come by https", name, request, got)
			}
			w.log.await("client=" + client)
		}
	}
	ask("trusted", de, "http://de.example/both.iso", "192.0.2.0")
	ask("trusted", at+https, "https://at.example/both.iso", "198.51.100.0")
	ask("trusted", "X-Forwarded-For: 198.51.100.9, 192.0.2.7\r\n", "http://de.example/both.iso", "192.0.2.0")
	ask("trusted", "Forwarded: for=192.0.2.7;proto=https\r\n", "http://de.example/both.iso", "192.0.2.0")

	cfg := w.cfg
	cfg.TrustedProxies = []string{"192.0.2.0/24"}
	w.reloads <- cfg
	w.reloads <- cfg // the first one is done
	ask("another is trusted", de+https, "", "127.0.0.")

	cfg.TrustedProxies = nil
	w.reloads <- cfg
	w.reloads <- cfg
	ask("everybody is", de+https, "https://de.example/both.iso", "192.0.2.0")
	ask("everybody is", "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 198.51.100.9\r\n", "http://de.example/both.iso", "192.0.2.0")

	behind := startFleet(t, true, func(c *director.Config) {
		c.Listen, c.ProxyProtocol = "127.0.0.1:0", forwarded.Config{From: []string{"127.0.0.0/8"}}
	})
	resp := behind.send(1, "PROXY TCP4 198.51.100.9 192.0.2.1 5678 80\r\nGET /pub/both.iso HTTP/1.1\r\nHost: d\r\n\r\n")[0]
	if got := resp.Header.Get("Location"); got != "http://at.example/both.iso" {
		t.Errorf("a client behind a balancer is sent to %s", got)
	}
	resp = behind.send(1, "PROXY TCP4 192.0.2.7 192.0.2.1 5678 80\r\nGET "+repo+" HTTP/1.1\r\nHost: d\r\n\r\n")[0]
	if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), "country = DE") {
		t.Errorf("a client behind a balancer is given\n%s", body)
	}
}

// What makes no sense is told by its key.
func TestListenersAreChecked(t *testing.T) {
	for key, change := range map[string]func(*director.Config){
		"listen-tls":         func(c *director.Config) { c.ListenTLS = ":443" },
		"listen":             func(c *director.Config) { c.Listen = ":80,:80" },
		"trusted-proxies[1]": func(c *director.Config) { c.TrustedProxies = []string{"10.0.0.1", "balancer"} },
		"tls.acme.hosts":     func(c *director.Config) { c.TLS.ACME.Dir = "acme" },
	} {
		cfg := director.Config{Snapshot: "s"}
		change(&cfg)
		if found := cfg.Validate(); len(found) != 1 || found[0].Key != key {
			t.Errorf("%s: %v", key, found)
		}
	}
}
