package edge

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pattern is a body in which every place tells where it is.
func pattern(n int) string {
	b := make([]byte, 0, n+8)
	for i := 0; len(b) < n; i++ {
		digits := [8]byte{'0', '0', '0', '0', '0', '0', '0', '0'}
		for at, rest := 7, i; rest > 0; at, rest = at-1, rest/10 {
			digits[at] += byte(rest % 10)
		}
		b = append(b, digits[:]...)
	}
	return string(b[:n])
}

// slowly sends the body in pieces of 64 kB, one every 100 ms.
func slowly(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Header().Set("Content-Type", "application/x-rpm")
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Last-Modified", "Mon, 03 Jan 2000 00:00:00 GMT")
		for rest := body; rest != ""; {
			n := min(len(rest), 64<<10)
			_, _ = io.WriteString(w, rest[:n])
			_ = http.NewResponseController(w).Flush()
			rest = rest[n:]
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func TestRanges(t *testing.T) {
	body := pattern(1 << 20)
	many := func(n int) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf("%d-%d", i*1000, i*1000+9)
		}
		return "bytes=" + strings.Join(parts, ",")
	}
	cases := []struct {
		name   string
		fields []string
		status int
		body   string // of a single part
		parts  int    // of a multipart answer
		field  string // Content-Range
	}{
		{"first", []string{"Range: bytes=0-9"}, 206, body[:10], 0, "bytes 0-9/1048576"},
		{"middle", []string{"Range: bytes=500000-699999"}, 206, body[500000:700000], 0, "bytes 500000-699999/1048576"},
		{"open", []string{"Range: bytes=1048570-"}, 206, body[1048570:], 0, "bytes 1048570-1048575/1048576"},
		{"suffix", []string{"Range: bytes=-6"}, 206, body[1048570:], 0, "bytes 1048570-1048575/1048576"},
		{"two", []string{"Range: bytes=0-9,700000-700009"}, 206, "", 2, ""},
		{"200", []string{"Range: " + many(200)}, 206, "", 200, ""},
		{"257", []string{"Range: " + many(257)}, 200, body, 0, ""},
		{"malformed", []string{"Range: bytes=9-0"}, 200, body, 0, ""},
		{"other unit", []string{"Range: rows=0-1"}, 200, body, 0, ""},
		{"unsatisfiable", []string{"Range: bytes=1048576-"}, 416, "", 0, "bytes */1048576"},
		{"If-Range match", []string{"Range: bytes=0-9", `If-Range: "v1"`}, 206, body[:10], 0, "bytes 0-9/1048576"},
		{"If-Range mismatch", []string{"Range: bytes=0-9", `If-Range: "v2"`}, 200, body, 0, ""},
		{"If-Range weak", []string{"Range: bytes=0-9", `If-Range: W/"v1"`}, 200, body, 0, ""},
	}
	check := func(t *testing.T, w *world, path string, i int) {
		t.Helper()
		c := cases[i]
		a := w.get(path, c.fields...)
		if a.status != c.status || a.header.Get("Content-Range") != c.field || a.err != nil {
			t.Errorf("%s: %d, Content-Range %q, %v; want %d %q", c.name, a.status, a.header.Get("Content-Range"), a.err, c.status, c.field)
			return
		}
		if c.parts == 0 {
			if a.body != c.body {
				t.Errorf("%s: wrong body of %d bytes, want %d", c.name, len(a.body), len(c.body))
			}
			return
		}
		_, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
		if err != nil || a.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
			t.Errorf("%s: Content-Type %q, Content-Length %q of %d", c.name, a.header.Get("Content-Type"), a.header.Get("Content-Length"), len(a.body))
		}
		r := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
		n := 0
		for {
			part, err := r.NextPart()
			if err != nil {
				break
			}
			var from, to, size int
			_, err = fmt.Sscanf(part.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size)
			data, rerr := io.ReadAll(part)
			if err != nil || rerr != nil || size != len(body) || string(data) != body[from:to+1] || part.Header.Get("Content-Type") != "application/x-rpm" {
				t.Errorf("%s: part %d: %v %q", c.name, n, part.Header, data)
			}
			n++
		}
		if n != c.parts {
			t.Errorf("%s: %d parts", c.name, n)
		}
	}
	t.Run("cold", func(t *testing.T) {
		for i, c := range cases {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{}, slowly(body))
				check(t, w, "/a.rpm", i)
				time.Sleep(10 * time.Second)
				w.want(w.get("/a.rpm"), body, "hit")
				if w.fetches.Load() != 1 {
					t.Errorf("%s: %d fetches", c.name, w.fetches.Load())
				}
			})
		}
	})
	t.Run("in flight", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{}, slowly(body))
			var wg sync.WaitGroup
			wg.Go(func() { w.want(w.get("/a.rpm"), body, "fwd=uri-miss") })
			time.Sleep(550 * time.Millisecond)
			for i := range cases {
				wg.Go(func() { check(t, w, "/a.rpm", i) })
			}
			wg.Go(func() { // what is there already does not wait for the rest
				if a := w.get("/a.rpm", "Range: bytes=0-9"); a.first > 0 {
					t.Errorf("the first bytes came after %v", a.first)
				}
			})
			wg.Wait()
			w.wantFetches(1)
		})
	})
	t.Run("hit", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{}, slowly(body))
			w.want(w.get("/a.rpm"), body, "fwd=uri-miss")
			for i := range cases {
				check(t, w, "/a.rpm", i)
			}
			w.wantFetches(1)
		})
	})
}

// A body that is larger than the store, or does not fit any more, still
// reaches the client, to the last byte.
func TestBodyDoesNotFit(t *testing.T) {
	for _, size := range []int{700 << 10, 3 << 20} {
		for _, framing := range []string{"length", "chunked"} {
			t.Run(fmt.Sprintf("%d/%s", size, framing), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					body := pattern(size)
					w := newWorld(t, Config{Size: 1 << 20}, func(rw http.ResponseWriter, _ *http.Request) {
						if framing == "length" {
							rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
						}
						for rest := body; rest != ""; {
							n := min(len(rest), 50000)
							_, _ = io.WriteString(rw, rest[:n])
							_ = http.NewResponseController(rw).Flush()
							rest = rest[n:]
							time.Sleep(time.Millisecond)
						}
					})
					for range 2 {
						if a := w.get("/a.rpm"); a.body != body || a.err != nil {
							t.Errorf("got %d of %d bytes, %v", len(a.body), size, a.err)
						}
						synctest.Wait()
					}
					if used := w.metric("freshet_edge_store_bytes", ""); used > 1<<20 {
						t.Errorf("%v bytes are used", used)
					}
				})
			})
		}
	}
}

func TestEvictionKeepsTheBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := pattern(20 << 10)
		w := newWorld(t, Config{Size: 1 << 20}, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, body) })
		for i := range 200 {
			if a := w.get(fmt.Sprintf("/%d.rpm", i)); a.body != body {
				t.Fatalf("%d: %d bytes", i, len(a.body))
			}
			_ = w.get("/0.rpm") // used again and again: stays
			if used := w.metric("freshet_edge_store_bytes", ""); used > 1<<20 {
				t.Fatalf("%v bytes are used", used)
			}
		}
		if n := w.metric("freshet_edge_store_entries", ""); n < 30 || n > 51 {
			t.Errorf("%v entries", n)
		}
		before := w.fetches.Load()
		w.want(w.get("/0.rpm"), body, "hit")
		w.wantFetches(before)
		if before != 200 {
			t.Errorf("%d fetches of 200 files", before)
		}
	})
}
