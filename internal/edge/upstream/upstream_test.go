package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"freshet/internal/edge/upstream/h1client"
)

// origins returns the two ways to ask the server: ours and net/http's.
func origins(t *testing.T, base string) []*Origin {
	t.Helper()
	transported := originAt(t, base)
	o := &Origin{Base: transported.Base, FirstByte: transported.FirstByte, Idle: transported.Idle}
	o.Client = &h1client.Client{Addr: o.Base.Host}
	if o.Base.Port() == "" {
		o.Client.Addr += ":80"
	}
	if o.Base.Scheme == "https" {
		o.Client.TLS = &tls.Config{ServerName: o.Base.Hostname()}
	}
	t.Cleanup(o.Client.CloseIdle)
	return []*Origin{o, transported}
}

func originAt(t *testing.T, base string) *Origin {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &Origin{Base: u, HTTP: transport, FirstByte: time.Minute, Idle: time.Minute}
}

func TestReasons(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			<-r.Context().Done()
		case "/pause":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/short", "/chunks", "/nonsense":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, map[string]string{
				"/short":    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx",
				"/chunks":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
				"/nonsense": "what\r\n\r\n",
			}[r.URL.Path])
			_ = conn.Close()
		case "/reset":
			panic(http.ErrAbortHandler)
		}
	}))
	defer plain.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		base, uri string
		ctx       context.Context
		want      Reason
	}{
		{"http://name.invalid", "/", nil, DNS},
		{"http://" + closed.Addr().String(), "/", nil, Refused},
		{secure.URL, "/", nil, TLS},
		{"https" + plain.URL[4:], "/", nil, TLS},
		{plain.URL, "/hang", nil, FirstByteTimeout},
		{plain.URL, "/pause", nil, IdleTimeout},
		{plain.URL, "/short", nil, ShortBody},
		{plain.URL, "/chunks", nil, BadMessage},
		{plain.URL, "/nonsense", nil, BadMessage},
		{plain.URL, "/reset", nil, Reset},
		{plain.URL, "/", gone, ClientGone},
	} {
		ctx := c.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		for i, o := range origins(t, c.base) {
			// Only where it is waited for: a busy machine is slow to shake hands.
			if c.want == FirstByteTimeout {
				o.FirstByte = 300 * time.Millisecond
			}
			if c.want == IdleTimeout {
				o.Idle = 300 * time.Millisecond
			}
			resp, err := o.Do(ctx, Request{Method: "GET", URI: c.uri, Header: http.Header{}})
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				if cerr := resp.Body.Close(); err == nil {
					err = cerr
				}
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason != c.want {
				t.Errorf("%d: %s%s: %v, want %s", i, c.base, c.uri, err, c.want)
			}
			if n := o.InFlight(); n != 0 {
				t.Errorf("%d: %s%s: %d still in flight", i, c.base, c.uri, n)
			}
		}
		if s := c.want.Status(); s != 502 && s != 504 {
			t.Errorf("%s: status %d", c.want, s)
		}
	}
}

func TestURI(t *testing.T) {
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI }))
	defer srv.Close()
	for _, c := range []struct{ base, uri, want string }{
		{"", "/a%20b/c%2Fd?x=%20&y", "/a%20b/c%2Fd?x=%20&y"},
		{"/", "/a", "/a"},
		{"/base", "/a?", "/base/a?"},
		{"/b%20c/", "/a+b", "/b%20c/a+b"},
	} {
		for i, o := range origins(t, srv.URL+c.base) {
			resp, err := o.Do(t.Context(), Request{Method: "GET", URI: c.uri, Header: http.Header{}})
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
			if got != c.want {
				t.Errorf("%d: %s + %s: asked for %s, want %s", i, c.base, c.uri, got, c.want)
			}
		}
	}
}
