package edge

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A body cut at each multiple of 64 kB, in each way to say where it ends, is
// not stored, is told from a whole one, and is counted by its reason; the same
// file is good as soon as it comes whole. Where only the end of the connection
// ends a body nobody can tell a cut one, so such bodies are not kept at all.
func TestCutAnywhere(t *testing.T) {
	const step = 64 << 10
	body := pattern(16*step + 1)
	for _, framing := range []string{"length", "chunked", "close"} {
		t.Run(framing, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var whole bool
				w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
					n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/"), ".rpm"))
					if whole || err != nil {
						n = len(body)
					}
					sendCut(rw, framing, body, n)
				})
				cuts := 0
				for n := 0; n < len(body); n += step {
					cuts++
					path := fmt.Sprintf("/%d.rpm", n)
					for range 2 { // the second time shows that nothing was kept
						a, err := w.try(t.Context(), "GET", path)
						switch {
						case framing == "close":
							if a.status != 200 || a.body != body[:n] {
								t.Errorf("cut at %d: %d, %d bytes", n, a.status, len(a.body))
							}
						case err == nil && a.err == nil && a.status == http.StatusOK:
							t.Errorf("cut at %d: %d bytes arrived as if complete", n, len(a.body))
						case !strings.HasPrefix(body, a.body) && a.status == http.StatusOK:
							t.Errorf("cut at %d: %d wrong bytes", n, len(a.body))
						}
					}
				}
				w.wantFetches(int64(2 * cuts))
				if got := w.metric("freshet_edge_store_entries", ""); got != 0 {
					t.Errorf("%v entries are stored", got)
				}
				want := 2 * cuts
				if framing == "close" {
					want = 0
				}
				for _, name := range []string{"freshet_edge_fetches_total/short_body", "freshet_edge_requests_total/error:short_body"} {
					metric, label, _ := strings.Cut(name, "/")
					if got := w.metric(metric, label); got != float64(want) {
						t.Errorf("%s counted %v, want %d", name, got, want)
					}
				}
				whole = true
				for n := 0; n < len(body); n += step {
					path := fmt.Sprintf("/%d.rpm", n)
					w.want(w.get(path), body, "fwd=uri-miss")
					if framing != "close" {
						w.want(w.get(path), body, "hit")
					}
				}
			})
		})
	}
}

// sendCut sends the first n bytes of a body, framed as a whole one, and ends the
// connection.
func sendCut(rw http.ResponseWriter, framing, body string, n int) {
	conn, buf, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	switch framing {
	case "length":
		_, _ = fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:n])
	case "chunked":
		_, _ = io.WriteString(buf, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for rest := body[:n]; rest != ""; {
			k := min(len(rest), 30_000)
			_, _ = fmt.Fprintf(buf, "%x\r\n%s\r\n", k, rest[:k])
			rest = rest[k:]
		}
		if n == len(body) {
			_, _ = io.WriteString(buf, "0\r\n\r\n")
		}
	case "close":
		_, _ = fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\n\r\n%s", body[:n])
	}
	_ = buf.Flush()
}

// The first of four clients leaves after a hundredth, a half and nearly all of
// the body, one byte more or less: the others get all of it, from one fetch.
func TestLeaderLeavesAt(t *testing.T) {
	for _, percent := range []int64{1, 50, 99} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				body := pattern(100 << 14) // a hundredth is 16 kB
				w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
					for i := 0; i < len(body); i += 1 << 14 {
						_, _ = io.WriteString(rw, body[i:i+1<<14])
						_ = http.NewResponseController(rw).Flush()
						time.Sleep(10 * time.Millisecond)
					}
				})
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://edge.mem/a.rpm", nil)
				if err != nil {
					t.Fatal(err)
				}
				leader, err := w.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				var followers sync.WaitGroup
				for range 3 {
					followers.Go(func() {
						if a := w.get("/a.rpm"); a.err != nil || a.body != body {
							t.Errorf("a follower got %d bytes, %v", len(a.body), a.err)
						}
					})
				}
				read, err := io.CopyN(io.Discard, leader.Body, int64(len(body))*percent/100)
				if err != nil {
					t.Fatalf("the leader got %d bytes: %v", read, err)
				}
				leave()
				_ = leader.Body.Close()
				followers.Wait()
				w.wantFetches(1)
				w.want(w.get("/a.rpm"), body, "hit")
				w.wantFetches(1)
			})
		})
	}
}

// A client that was alone and leaves: what is below 64 MB, or half there, is
// finished for the next one; of more, what is missing is not fetched for
// nobody.
func TestOnlyReaderLeaves(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name          string
		size, read    int
		goesOn        bool
		unknownLength bool
	}{
		{"small", 10 * mb, 1 * mb, true, false},
		{"long, more than half", 80 * mb, 48 * mb, true, false},
		{"long, less than half", 80 * mb, 8 * mb, false, false},
		{"long, of unknown length", 80 * mb, 66 * mb, false, true},
		{"unknown length, little so far", 10 * mb, 1 * mb, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				piece := strings.Repeat("0123456789abcdef", mb/16)
				sent, ended := 0, false
				w := newWorld(t, Config{Size: 1 << 30}, func(rw http.ResponseWriter, r *http.Request) {
					defer func() { ended = true }()
					if !c.unknownLength {
						rw.Header().Set("Content-Length", strconv.Itoa(c.size))
					}
					for ; sent < c.size; sent += mb {
						if _, err := io.WriteString(rw, piece); err != nil || http.NewResponseController(rw).Flush() != nil {
							return
						}
						select {
						case <-time.After(20 * time.Millisecond):
						case <-r.Context().Done():
							return
						}
					}
				})
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://edge.mem/a.rpm", nil)
				if err != nil {
					t.Fatal(err)
				}
				alone, err := w.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.CopyN(io.Discard, alone.Body, int64(c.read)); err != nil {
					t.Fatal(err)
				}
				leave()
				_ = alone.Body.Close()
				time.Sleep(time.Minute)
				synctest.Wait()
				if !ended || (sent >= c.size) != c.goesOn {
					t.Errorf("the origin sent %d of %d bytes, want all: %v", sent, c.size, c.goesOn)
				}
				if stored := w.metric("freshet_edge_store_entries", "") == 1; c.goesOn && !stored {
					t.Error("the file is not stored")
				}
			})
		})
	}
}
