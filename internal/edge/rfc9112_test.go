package edge

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
)

// TestEndOfConnection is RFC 9112 §6.3 and §8: the end of a connection ends a
// body of no other end. Where HTTP alone decides, it is complete then; where
// rules are on, nobody can tell, so it is passed on and not stored.
func TestEndOfConnection(t *testing.T) {
	t.Parallel()
	heads := map[string]string{
		"no length":        "HTTP/1.1 200 OK\r\nCache-Control: max-age=100\r\n\r\n",
		"HTTP/1.0":         "HTTP/1.0 200 OK\r\nCache-Control: max-age=100\r\n\r\n",
		"a coding unknown": "HTTP/1.1 200 OK\r\nCache-Control: max-age=100\r\nTransfer-Encoding: foo\r\n\r\n",
	}
	for name, head := range heads {
		for rules, fetches := range map[string]int64{"none": 1, "auto": 2} {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{Rules: rules}, func(rw http.ResponseWriter, _ *http.Request) {
					conn, buf, err := http.NewResponseController(rw).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					fmt.Fprintf(buf, "%sbody", head)
					_ = buf.Flush()
					_ = conn.Close()
				})
				for range 2 {
					if a := w.get("/any"); a.status != 200 || a.body != "body" || a.err != nil || a.header.Get("Transfer-Encoding") != "" {
						t.Errorf("%s, rules %s: %d %v %q, %v", name, rules, a.status, a.header, a.body, a.err)
					}
					synctest.Wait()
				}
				if got := w.fetches.Load(); got != fetches {
					t.Errorf("%s, rules %s: the origin was asked %d times, want %d", name, rules, got, fetches)
				}
			})
		}
	}
}
