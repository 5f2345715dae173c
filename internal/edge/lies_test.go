package edge

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"freshet/internal/edge/upstream"
	"freshet/internal/role"
)

// Every way in which an origin can lie or fail has its word, the same for the
// client and for the metrics, and leaves nothing in the store.
func TestLyingOrigins(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<16)
	for name, c := range map[string]struct {
		path, send string
		stay       bool // the connection is left open
		want       upstream.Reason
	}{
		"longer than its length":          {"/a.rpm", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", false, upstream.LongBody},
		"longer, and kept open":           {"/a.rpm", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", true, upstream.LongBody},
		"a second answer":                 {"/a.rpm", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", true, upstream.LongBody},
		"longer than nothing":             {"/a.rpm", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nabc", false, upstream.LongBody},
		"long, and longer":                {"/a.rpm", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long)-1, long), true, upstream.LongBody},
		"shorter":                         {"/a.rpm", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd", false, upstream.ShortBody},
		"silent in the middle":            {"/a.rpm", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd", true, upstream.IdleTimeout},
		"a chunk cut":                     {"/a.rpm", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcd", false, upstream.ShortBody},
		"a chunk longer than its size":    {"/a.rpm", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", false, upstream.BadMessage},
		"two lengths":                     {"/a.rpm", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", false, upstream.BadMessage},
		"no HTTP":                         {"/a.rpm", "220 mail.example ESMTP\r\n\r\n", false, upstream.BadMessage},
		"nothing":                         {"/a.rpm", "", false, upstream.Reset},
		"silent":                          {"/a.rpm", "", true, upstream.FirstByteTimeout},
		"another content than its name's": {"/repodata/" + strings.Repeat("ab", 32) + "-primary.xml.gz", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, upstream.VerifyMismatch},
		"a fault of its own":              {"/a.rpm", "HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nabc", false, upstream.Status5xx},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
					conn, _, err := http.NewResponseController(rw).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					if c.send != "" {
						_, _ = io.WriteString(conn, c.send)
					}
					if c.stay {
						_ = conn.SetReadDeadline(time.Now().Add(time.Hour))
						_, _ = io.Copy(io.Discard, conn) // until it is cut
					}
				})
				a, err := w.try(t.Context(), "GET", c.path)
				if c.want != upstream.Status5xx && err == nil && a.err == nil && a.status == 200 {
					t.Errorf("got %q as if it were whole", a.body[:min(len(a.body), 100)])
				}
				if err == nil && a.status >= 500 && a.header.Get(role.ReasonHeader) != string(c.want) {
					t.Errorf("reason %q, want %q", a.header.Get(role.ReasonHeader), c.want)
				}
				if n := w.metric("freshet_edge_requests_total", "error:"+string(c.want)); n != 1 {
					t.Errorf("%v requests failed by %s, want 1", n, c.want)
				}
				if n := w.metric("freshet_edge_store_entries", ""); n != 0 {
					t.Errorf("%v entries are stored", n)
				}
			})
		})
	}
}

// HTTP alone says that what is announced is the body, and that what comes behind
// it is no other answer (RFC 9112 §6.3): it goes with its connection.
func TestTrailingBytes(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<16)
	for name, c := range map[string]struct{ send, body string }{
		"some":          {"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\nabcd", "abc"},
		"behind no":     {"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 0\r\n\r\nabc", ""},
		"behind a long": {fmt.Sprintf("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n%s", len(long)-1, long), long[:len(long)-1]},
		"an answer":     {"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{Rules: rulesNone}, func(rw http.ResponseWriter, _ *http.Request) {
					conn, _, err := http.NewResponseController(rw).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					_, _ = io.WriteString(conn, c.send)
					_ = conn.SetReadDeadline(time.Now().Add(time.Hour))
					_, _ = io.Copy(io.Discard, conn) // until it is cut
				})
				for _, hits := range []float64{0, 1} {
					if a := w.get("/a"); a.status != 200 || a.body != c.body {
						t.Errorf("status %d, %d bytes, want %d", a.status, len(a.body), len(c.body))
					}
					if n := w.metric("freshet_edge_requests_total", "hit"); n != hits {
						t.Errorf("%v hits, want %v", n, hits)
					}
				}
				if a := w.get("/b"); a.body != c.body {
					t.Errorf("another path got %d bytes", len(a.body))
				}
			})
		})
	}
}
