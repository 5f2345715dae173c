package edge

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/role"
)

func TestCoalescing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const step = 256 << 10
		body := strings.Repeat("0123456789abcdef", 8*step/16)
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			for i := 0; i < len(body); i += step { // 1 MB/s
				_, _ = io.WriteString(rw, body[i:i+step])
				_ = http.NewResponseController(rw).Flush()
				time.Sleep(250 * time.Millisecond)
			}
		})
		var wg sync.WaitGroup
		client := func(after, ttfb time.Duration) {
			wg.Go(func() {
				time.Sleep(after)
				a := w.get("/a.rpm")
				if a.body != body || a.err != nil {
					t.Errorf("after %v: wrong body of %d bytes, %v", after, len(a.body), a.err)
				}
				if a.first > ttfb {
					t.Errorf("after %v: first byte after %v, want at most %v", after, a.first, ttfb)
				}
			})
		}
		client(0, 300*time.Millisecond)
		for range 10 {
			client(100*time.Millisecond, 200*time.Millisecond)
			client(1300*time.Millisecond, 0)
		}
		wg.Wait()
		w.wantFetches(1)
		if got := w.metric("freshet_edge_requests_total", "join"); got != 20 {
			t.Errorf("%v requests joined, want 20", got)
		}
	})
}

// What cannot be shared must not make anybody wait for anybody.
func TestUncacheableDoesNotSerialise(t *testing.T) {
	for _, cc := range []string{"no-store", "private", "max-age=0", "no-cache"} {
		t.Run(cc, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := new(atomic.Int64)
				w := newWorld(t, Config{Rules: "none"}, func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(200 * time.Millisecond)
					rw.Header().Set("Cache-Control", cc)
					rw.Header().Set("Etag", `"v"`)
					if r.Header.Get("If-None-Match") == `"v"` {
						rw.WriteHeader(304)
						return
					}
					fmt.Fprintf(rw, "answer %d", n.Add(1))
				})
				for wave, limit := range []time.Duration{400 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond} {
					var wg sync.WaitGroup
					for range 20 {
						wg.Go(func() {
							a := w.get("/x")
							if a.status != 200 || !strings.HasPrefix(a.body, "answer ") || a.first > limit {
								t.Errorf("wave %d: %d %q after %v", wave, a.status, a.body, a.first)
							}
						})
					}
					wg.Wait()
				}
				w.wantFetches(60)
			})
		})
	}
}

func TestLeaderLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := strings.Repeat("x", 1<<20)
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			for i := 0; i < len(body); i += 1 << 18 {
				time.Sleep(time.Second)
				_, _ = io.WriteString(rw, body[i:i+1<<18])
				_ = http.NewResponseController(rw).Flush()
			}
		})
		for i, after := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond} {
			path := fmt.Sprintf("/%d.rpm", i)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = w.try(ctx, "GET", path) })
			synctest.Wait()
			for range 3 {
				wg.Go(func() {
					if a := w.get(path); a.err != nil || a.body != body {
						t.Errorf("left after %v: follower got %d bytes, %v", after, len(a.body), a.err)
					}
				})
			}
			wg.Wait()
			cancel()
		}
		w.wantFetches(3)
		// A client that was alone: a small file is finished for the next one.
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		_, _ = w.try(ctx, "GET", "/alone.rpm")
		time.Sleep(10 * time.Second)
		w.want(w.get("/alone.rpm"), body, "hit")
		w.wantFetches(4)
	})
}

// A body that ends too early is never stored, and never looks complete.
func TestShortBody(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<16/16)
	cut := func(n int, framing string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			conn, buf, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				return
			}
			switch framing {
			case "length":
				fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:n])
			case "chunked":
				fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", n, body[:n])
			case "close":
				fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\n\r\n%s", body[:n])
			}
			_ = buf.Flush()
			_ = conn.Close()
		}
	}
	for _, framing := range []string{"length", "chunked", "close"} {
		for _, n := range []int{1, 1000, 32 << 10, len(body) - 1} {
			t.Run(fmt.Sprintf("%s/%d", framing, n), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, Config{}, cut(n, framing))
					for range 2 {
						a, err := w.try(t.Context(), "GET", "/a.rpm")
						if framing == "close" { // nobody can tell
							if a.body != body[:n] {
								t.Errorf("got %d bytes", len(a.body))
							}
						} else if err == nil && a.err == nil {
							t.Errorf("%d bytes of %d arrived as if complete", len(a.body), len(body))
						}
					}
					w.wantFetches(2)
					if got := w.metric("freshet_edge_fetches_total", "short_body"); framing != "close" && got != 2 {
						t.Errorf("%v short bodies counted, want 2", got)
					}
					if n := w.metric("freshet_edge_store_entries", ""); n != 0 {
						t.Errorf("%v entries are stored", n)
					}
				})
			})
		}
	}
}

func TestIdleTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(rw, "some")
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
		})
		begun := time.Now()
		a := w.get("/a.rpm")
		if a.err == nil || a.body != "some" || time.Since(begun) != 15*time.Second {
			t.Errorf("got %q, %v after %v", a.body, a.err, time.Since(begun))
		}
		if got := w.metric("freshet_edge_requests_total", "error:idle_timeout"); got != 1 {
			t.Errorf("counted %v", got)
		}
	})
}

func TestVerify(t *testing.T) {
	for _, size := range []int{100, 3 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				good := strings.Repeat("g", size)
				bad := strings.Repeat("g", size-1) + "!"
				path := "/any" + objectOf(good)
				files := newStatic(map[string]string{path: bad})
				w := newWorld(t, Config{}, files.serve)
				for range 2 {
					a, err := w.try(t.Context(), "GET", path)
					if size <= verifyFirst {
						if a.status != 502 || a.header.Get(role.ReasonHeader) != "verify_mismatch" {
							t.Errorf("got %d, reason %q", a.status, a.header.Get(role.ReasonHeader))
						}
					} else if err == nil && a.err == nil {
						t.Error("a wrong body arrived as if complete")
					}
				}
				w.wantFetches(2)
				if got := w.metric("freshet_edge_requests_total", "error:verify_mismatch"); got != 2 {
					t.Errorf("counted %v", got)
				}
				files.set(path, good)
				w.want(w.get(path), good, "fwd=uri-miss")
				w.want(w.get(path), good, "hit")
			})
		})
	}
}
