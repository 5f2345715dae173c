package h1

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Over TLS hits come from the loop, the rest from net/http, which sees that
// there is TLS; HTTP/2 is net/http's alone.
func TestTLS(t *testing.T) {
	t.Parallel()
	donor := httptest.NewTLSServer(nil) // for its certificate
	defer donor.Close()
	config := &tls.Config{Certificates: donor.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	w := newWorld(t, false, func(ln net.Listener) net.Listener { return tls.NewListener(ln, config) })
	for _, c := range []struct{ proto, by string }{{"http/1.1", "fast"}, {"h2", "slow"}} {
		transport := donor.Client().Transport.(*http.Transport).Clone()
		transport.ForceAttemptHTTP2 = c.proto == "h2"
		transport.TLSClientConfig.NextProtos = []string{c.proto}
		client := &http.Client{Transport: transport}
		for range 3 {
			for _, target := range []string{"/memory/100000", "/file/3/100000", "/a"} {
				resp, err := client.Get("https://" + w.addr + target)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				by := c.by
				if target == "/a" {
					by = "slow"
				}
				if resp.Header.Get("By") != by {
					t.Errorf("%s %s by %s", c.proto, target, resp.Header.Get("By"))
				}
				if by == "slow" && resp.Header.Get("Tls") != c.proto {
					t.Errorf("%s: the handler sees TLS %q", c.proto, resp.Header.Get("Tls"))
				}
				if target == "/file/3/100000" && by == "fast" && !bytes.Equal(body, w.content.Bytes[3:100003]) {
					t.Errorf("%s: wrong body", c.proto)
				}
			}
		}
		// The connection of an answer that is not read yet is open. On a busy machine
		// net/http may have closed others before.
		resp, err := client.Get("https://" + w.addr + "/memory/100000")
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return w.metric("freshet_http_connections") == 1 })
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		waitFor(t, func() bool { return w.metric("freshet_http_connections") == 0 })
	}
	// What does not speak TLS gets net/http's word for it.
	if got := exchange(t, w.addr, get("/memory/1")); got == "" {
		t.Error("no answer to plain HTTP")
	}
}
