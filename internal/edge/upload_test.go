package edge

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"freshet/internal/role"
)

// What is wrong with the body of a request is not held against the origin, and
// a body that stands still holds nothing for long.
func TestBodiesOfRequestsThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		send   string
		status int
		reason string
		within time.Duration
	}{
		"malformed":          {"POST", "Transfer-Encoding: chunked\r\n\r\nZZ\r\n", http.StatusBadRequest, "bad_chunk", time.Second},
		"of no use":          {"GET", "Transfer-Encoding: chunked\r\n\r\nZZ\r\n", http.StatusBadRequest, "bad_chunk", time.Second},
		"of no use, stalled": {"GET", "Content-Length: 9\r\n\r\nabc", http.StatusBadRequest, "bad_body", time.Minute},
		"of no use, long":    {"HEAD", "Content-Length: 99999\r\n\r\n" + strings.Repeat("a", 99999), http.StatusRequestEntityTooLarge, "body_size", time.Second},
		"two lengths":        {"POST", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", http.StatusBadRequest, "ambiguous_length", time.Second},
		"stalled":            {"POST", "Content-Length: 9\r\n\r\nabc", http.StatusRequestTimeout, "slow_body", 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{}, func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
				})
				for range 5 {
					conn, err := w.net.DialContext(t.Context(), "tcp", "edge.mem:80")
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					begun := time.Now()
					go func() { _, _ = io.WriteString(conn, c.method+" /x HTTP/1.1\r\nHost: edge.mem\r\n"+c.send) }() // it may be refused half-way
					in := bufio.NewReader(conn)
					resp, err := http.ReadResponse(in, &http.Request{Method: c.method})
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					if resp.StatusCode != c.status || time.Since(begun) > c.within {
						t.Errorf("%d after %v, want %d", resp.StatusCode, time.Since(begun), c.status)
					}
					if got := resp.Header.Get(role.ReasonHeader); got != c.reason {
						t.Errorf("reason %q, want %q", got, c.reason)
					}
					if _, err := in.ReadByte(); err == nil {
						t.Error("the connection goes on")
					}
					_ = conn.Close()
				}
				if w.metric("freshet_edge_origin_up", "origin.mem") != 1 {
					t.Error("the origin is held to be down")
				}
				if a := w.do("POST", "/x"); a.status != http.StatusOK {
					t.Errorf("the next request: %d", a.status)
				}
			})
		})
	}
}

// Many answers of one connection that nobody takes need little memory each.
func TestBuffersOfStreams(t *testing.T) {
	e := &Edge{buffers: bufferPool{size: bufferSize}, small: bufferPool{size: streamBuffer}}
	for major, want := range map[int]int{1: bufferSize, 2: streamBuffer, 3: streamBuffer} {
		for range 2 { // the second may be one that was used
			lender := (&reply{e: e, r: &http.Request{ProtoMajor: major}}).lender(1 << 20)
			buf := lender.get()
			if len(*buf) != want {
				t.Errorf("HTTP/%d: %d bytes", major, len(*buf))
			}
			lender.put(buf)
		}
	}
}

// The body of a GET request ends at the edge, and the origin is told of none,
// for which it would wait. What is behind it is the next request.
func TestBodyOfNoUse(t *testing.T) {
	for name, send := range map[string]string{
		"length": "Content-Length: 13\r\nContent-Type: application/json\r\n\r\n{\"wanted\":[]}",
		"chunks": "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil || len(body) > 0 || r.ContentLength != 0 || r.Header.Get("Content-Type")+r.Header.Get("Content-Encoding") != "" {
						t.Errorf("the origin was sent %q with %v, %v", body, r.Header, err)
					}
					w.Header().Set("Cache-Control", "no-store")
				})
				conn, err := w.net.DialContext(t.Context(), "tcp", "edge.mem:80")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				in := bufio.NewReader(conn)
				for range 2 {
					if _, err := io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: edge.mem\r\nAuthorization: Bearer x\r\n"+send); err != nil {
						t.Fatal(err)
					}
					resp, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
						t.Errorf("%d, %v", resp.StatusCode, err)
					}
				}
			})
		})
	}
}
