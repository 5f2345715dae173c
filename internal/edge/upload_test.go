package edge

import (
	"bufio"
	"io"
	"net/http"
	"testing"
	"time"
)

// What is wrong with the body of a request is not held against the origin, and
// a body that stands still holds nothing for long.
func TestBodiesOfRequestsThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		send   string
		status int
		within time.Duration
	}{
		"malformed": {"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", http.StatusBadRequest, time.Second},
		"stalled":   {"Content-Length: 9\r\n\r\nabc", http.StatusRequestTimeout, 3 * time.Minute},
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
					begun := time.Now()
					if _, err := io.WriteString(conn, "POST /x HTTP/1.1\r\nHost: edge.mem\r\n"+c.send); err != nil {
						t.Fatal(err)
					}
					in := bufio.NewReader(conn)
					resp, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					if resp.StatusCode != c.status || time.Since(begun) > c.within {
						t.Errorf("%d after %v, want %d", resp.StatusCode, time.Since(begun), c.status)
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
	e := new(Edge)
	for major, want := range map[int]int{1: bufferSize, 2: streamBuffer, 3: streamBuffer} {
		for range 2 { // the second may be one that was used
			buf, giveBack := (&reply{e: e, r: &http.Request{ProtoMajor: major}}).buffer()
			if len(*buf) != want {
				t.Errorf("HTTP/%d: %d bytes", major, len(*buf))
			}
			giveBack(buf)
		}
	}
}
