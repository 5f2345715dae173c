package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/role"
)

func TestMissThenHit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		object := objectOf("the commit")
		files := newStatic(map[string]string{"/repo" + object: "the commit", "/repo/summary": "one"})
		w := newWorld(t, Config{}, files.serve)
		w.want(w.get("/repo"+object), "the commit", "fwd=uri-miss; fwd-status=200; ttl=31536000; stored")
		w.want(w.get("/repo"+object+"?cache=buster"), "the commit", "hit; ttl=31536000")
		a := w.get("/repo" + object)
		if got := a.header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("Cache-Control %q", got)
		}
		w.wantFetches(1)

		w.want(w.get("/repo/summary"), "one", "fwd=uri-miss")
		time.Sleep(59 * time.Second)
		a = w.get("/repo/summary")
		w.want(a, "one", "hit; ttl=1")
		if got := a.header.Get("Age"); got != "59" {
			t.Errorf("Age %q, want 59", got)
		}
		w.wantFetches(3) // with a signature that is not there
		for outcome, n := range map[string]float64{"hit": 3, "miss": 2, "pass": 0} {
			if got := w.metric("freshet_edge_requests_total", outcome); got != n {
				t.Errorf("%v requests counted as %s, want %v", got, outcome, n)
			}
		}
	})
}

func TestStaleWhileRevalidate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/refs/heads/app": "one"})
		slow := time.Duration(0)
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(slow)
			files.serve(rw, r)
		})
		w.want(w.get("/refs/heads/app"), "one", "fwd=uri-miss")
		time.Sleep(61 * time.Second)
		slow = 500 * time.Millisecond
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				a := w.get("/refs/heads/app")
				w.want(a, "one", "hit; ttl=-1")
				if a.first > 0 {
					t.Errorf("waited %v for a stale answer", a.first)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		w.wantFetches(2)
		if a := w.get("/refs/heads/app"); a.header.Get("Age") != "1" {
			t.Errorf("Age %s after a validation one second ago", a.header.Get("Age"))
		}
		if got := w.metric("freshet_edge_fetches_total", "not-modified"); got != 1 {
			t.Errorf("%v conditional requests succeeded, want 1", got)
		}
		// Beyond stale-while-revalidate the client waits for the truth.
		files.set("/refs/heads/app", "two")
		time.Sleep(3 * time.Minute)
		w.want(w.get("/refs/heads/app"), "two", "fwd=stale; fwd-status=200")
	})
}

func TestStaleWhenTheOriginIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/summary": "one"})
		w := newWorld(t, Config{}, files.serve)
		w.want(w.get("/summary"), "one", "fwd=uri-miss")
		time.Sleep(5 * time.Minute)
		files.down.Store(true)
		a := w.get("/summary")
		w.want(a, "one", "fwd=stale; ttl=-240; detail=reset")
		if got := a.header.Get("Proxy-Status"); got != `freshet; error=connection_terminated; details="reset"` {
			t.Errorf("Proxy-Status %q", got)
		}
		if got := a.header.Get("Age"); got != "300" {
			t.Errorf("Age %q, want the truth: 300", got)
		}
		// The sick origin is left alone, whatever clients do …
		before := w.fetches.Load()
		for range 50 {
			w.want(w.get("/summary"), "one", "hit; ttl=-240; detail=reset")
		}
		w.wantFetches(before)
		// … but not for long, and the good copy outlives the failures.
		for range 200 {
			time.Sleep(6 * time.Second)
			w.want(w.get("/summary"), "one", "fwd=stale")
		}
		files.down.Store(false)
		files.set("/summary", "two")
		time.Sleep(6 * time.Second)
		w.want(w.get("/summary"), "two", "fwd=stale; fwd-status=200")
		// After stale-if-error it is an error, and never 404.
		files.down.Store(true)
		time.Sleep(25 * time.Hour)
		if a := w.get("/summary"); a.status != 502 || a.header.Get(role.ReasonHeader) != "reset" {
			t.Errorf("got %d, reason %q, want 502 reset", a.status, a.header.Get(role.ReasonHeader))
		}
	})
}

func TestNoAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		origin http.HandlerFunc // nil: nobody listens
		status int
		reason string
		proxy  string
		took   time.Duration
	}{
		{"refused", nil, 502, "refused", `freshet; error=connection_refused; details="refused"`, 0},
		{
			"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504, "first_byte_timeout",
			`freshet; error=http_response_timeout; details="first_byte_timeout"`, 15 * time.Second,
		},
		{
			"resets", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "reset",
			`freshet; error=connection_terminated; details="reset"`, 0,
		},
		{
			"fails", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "ill", http.StatusServiceUnavailable) }, 503, "status_5xx",
			`freshet; received-status=503; details="status_5xx"`, 0,
		},
		{"talks nonsense", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte("HTTP/9 what\r\n\r\n"))
				_ = conn.Close()
			}
		}, 502, "bad_message", `freshet; error=http_protocol_error; details="bad_message"`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{}, c.origin)
				for range 2 { // nothing of it is stored
					a := w.get("/objects/x")
					if a.status != c.status || a.header.Get(role.ReasonHeader) != c.reason || a.header.Get("Proxy-Status") != c.proxy {
						t.Errorf("got %d, reason %q, Proxy-Status %q; want %d %s %s", a.status,
							a.header.Get(role.ReasonHeader), a.header.Get("Proxy-Status"), c.status, c.reason, c.proxy)
					}
					if a.first != c.took {
						t.Errorf("took %v, want %v", a.first, c.took)
					}
				}
				if got := w.metric("freshet_edge_requests_total", "error:"+c.reason); got != 2 {
					t.Errorf("counted %v errors, want 2", got)
				}
				if c.origin != nil {
					w.wantFetches(2)
				}
			})
		})
	}
}

func TestErrorsAreSharedButNotStored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			rw.Header().Set("Cache-Control", "max-age=3600")
			http.Error(rw, "ill", 500)
		})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if a := w.get("/refs/heads/x"); a.status != 500 || a.body != "ill\n" || a.header.Get("Cache-Control") != "no-store" {
					t.Errorf("got %d %q", a.status, a.body)
				}
			})
		}
		wg.Wait()
		w.wantFetches(1)
		w.get("/refs/heads/x")
		w.wantFetches(2)
	})
}

func TestMissingFilesAreRememberedBriefly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{})
		w := newWorld(t, Config{}, files.serve)
		meta := "/objects/0a/" + strings.Repeat("0a", 31) + ".commitmeta"
		hashed := "/repodata/" + strings.Repeat("0a", 32) + "-primary.xml.gz"
		for path, kept := range map[string]time.Duration{"/summary": 5 * time.Second, meta: time.Minute, hashed: 2 * time.Second} {
			for i := range 3 {
				if a := w.get(path); a.status != 404 || i > 0 && !strings.HasPrefix(a.cacheStatus(), "freshet; hit") {
					t.Errorf("%s: %d, %s", path, a.status, a.cacheStatus())
				}
			}
			if n := files.count(path); n != 1 {
				t.Errorf("%s: asked %d times", path, n)
			}
			time.Sleep(kept)
			files.set(path, "here")
			if a := w.get(path); path != hashed && a.body != "here" {
				t.Errorf("%s is remembered as missing for longer than %v", path, kept)
			}
		}
	})
}

// Files that clients do without stay missing while the origin cannot be asked;
// of others nobody says so.
func TestMissingOptionalFilesWhileAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var away atomic.Bool
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			if away.Load() {
				panic(http.ErrAbortHandler)
			}
			http.NotFound(rw, r)
		})
		object := "/objects/0a/" + strings.Repeat("0a", 31)
		for path, want := range map[string]int{object + ".commitmeta": 404, object + ".filez": 502, "/a.pkg.tar.zst.sig": 404, "/a.pkg.tar.zst": 502} {
			away.Store(false)
			w.get(path)
			away.Store(true)
			time.Sleep(time.Hour)
			a := w.get(path)
			if a.status != want || want == 404 && !strings.Contains(a.cacheStatus(), "detail=reset") {
				t.Errorf("%s: %d, %s; want %d", path, a.status, a.cacheStatus(), want)
			}
			time.Sleep(24 * time.Hour)
			if a := w.get(path); a.status != 502 {
				t.Errorf("%s, a day later: %d", path, a.status)
			}
		}
	})
}

func TestSameObjectInTwoRepositories(t *testing.T) {
	bubble(t, func(t *testing.T) {
		object := "/objects/0a/" + strings.Repeat("0a", 31) + ".filez"
		stable, beta := strings.Repeat("s", 1<<20), strings.Repeat("b", 3<<20)
		files := newStatic(map[string]string{"/stable" + object: stable, "/beta" + object: beta})
		w := newWorld(t, Config{Sites: map[string]SiteConfig{
			"other": {Hosts: []string{"other.example"}, Origin: "http://other.mem"},
		}}, files.serve)
		other := newStatic(map[string]string{"/stable" + object: "other"})
		w.serve("other", other.serve)
		for range 2 {
			if a := w.get("/stable" + object); a.body != stable {
				t.Errorf("stable: %d bytes", len(a.body))
			}
			if a := w.get("/beta" + object); a.body != beta {
				t.Errorf("beta: %d bytes", len(a.body))
			}
			if a := w.get("/stable"+object, "Host: other.example:80"); a.body != "other" {
				t.Errorf("other site: %d bytes", len(a.body))
			}
			if a := w.get("/stable"+object, "Range: bytes=1048570-1048575"); a.body != stable[1048570:] || a.status != 206 {
				t.Errorf("stable range: %d %q", a.status, a.body)
			}
		}
		w.wantFetches(2)
	})
}

func TestHostWithoutSite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Origin: "http://origin.mem"}, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "x") })
		w.stop()
		w.cfg.Origin = ""
		w.cfg.Sites = map[string]SiteConfig{"a": {Hosts: []string{"a.example"}, Origin: "http://origin.mem"}}
		w.start()
		if a := w.get("/x", "Host: b.example"); a.status != 421 {
			t.Errorf("unknown host: %d", a.status)
		}
		if a := w.get("/x", "Host: A.example."); a.status != 200 {
			t.Errorf("known host: %d", a.status)
		}
	})
}

func TestAmbiguousPaths(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/a/summary": "x"})
		w := newWorld(t, Config{}, files.serve)
		for _, p := range []string{"/a/%2e%2e/summary", "/a%2fsummary", "/a/..%2fsummary", `/a/%5c..%5csummary`, "/%00"} {
			if a := w.get(p); a.status != 400 {
				t.Errorf("%s: %d, want 400", p, a.status)
			}
		}
		w.wantFetches(0)
		w.want(w.get("/a/summary"), "x", "fwd=uri-miss")
		for _, p := range []string{"//a//summary", "/a/./summary", "/%61/summary"} {
			w.want(w.get(p), "x", "hit")
		}
	})
}

func TestHead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/a.rpm": "package"})
		w := newWorld(t, Config{}, files.serve)
		a := w.do("HEAD", "/a.rpm")
		if a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "7" {
			t.Errorf("cold: %d %q %v", a.status, a.body, a.header)
		}
		w.want(w.get("/a.rpm"), "package", "fwd=uri-miss")
		a = w.do("HEAD", "/a.rpm")
		if a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "7" || !strings.HasPrefix(a.cacheStatus(), "freshet; hit") {
			t.Errorf("stored: %d %q %v", a.status, a.body, a.header)
		}
		w.wantFetches(2)
	})
}

func TestConditionalRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/summary": "one"})
		w := newWorld(t, Config{}, files.serve)
		tag := w.get("/summary").header.Get("Etag")
		w.fetches.Store(1) // of those for the set
		a := w.get("/summary", "If-None-Match: "+tag)
		if a.status != 304 || a.body != "" || a.header.Get("Etag") != tag || a.header.Get("Content-Length") != "" {
			t.Errorf("stored: %d %v", a.status, a.header)
		}
		w.want(w.get("/summary", `If-None-Match: "other"`), "one", "hit")
		w.wantFetches(1)
		// Cold: the client's condition does not keep the answer from the store.
		files.set("/summary.sig", "sig")
		time.Sleep(6 * time.Second) // it was missed a moment ago
		tag = `"` + func() string { s := sha256.Sum256([]byte("sig")); return hex.EncodeToString(s[:8]) }() + `"`
		if a := w.get("/summary.sig", "If-None-Match: "+tag); a.status != 304 {
			t.Errorf("cold: %d", a.status)
		}
		synctest.Wait() // the fill goes on without the client
		w.want(w.get("/summary.sig"), "sig", "hit")
	})
}

func TestRestartKeepsEntries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		object := objectOf("commit")
		files := newStatic(map[string]string{object: "commit", "/summary": "one", "/refs/heads/x": "ref"})
		w := newWorld(t, Config{}, files.serve)
		for path := range files.files {
			w.get(path)
		}
		w.wantFetches(3 + 1) // a signature that is not there
		w.restart()
		files.down.Store(true)
		w.want(w.get(object), "commit", "hit")
		w.want(w.get("/summary"), "one", "hit")
		time.Sleep(3 * time.Minute)
		a := w.get("/summary")
		w.want(a, "one", "fwd=stale")
		if a.header.Get("Age") != "180" {
			t.Errorf("Age %s after three minutes and a restart", a.header.Get("Age"))
		}
		w.wantFetches(3 + 1 + 2)
	})
}

func TestUnsafeMethodsInvalidate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var got []string
		w := newWorld(t, Config{Rules: "none"}, func(rw http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got = append(got, r.Method+" "+string(b))
			rw.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(rw, "x")
		})
		w.want(w.get("/x"), "x", "fwd=uri-miss")
		w.want(w.get("/x"), "x", "hit")
		w.do("PUT", "/x")
		w.want(w.get("/x"), "x", "fwd=uri-miss")
		if fmt.Sprint(got) != "[GET  PUT  GET ]" {
			t.Errorf("the origin saw %q", got)
		}
	})
}

func TestVary(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Rules: "none"}, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Millisecond)
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Vary", "Accept-Language")
			_, _ = io.WriteString(rw, "in ")
			_ = http.NewResponseController(rw).Flush()
			time.Sleep(100 * time.Millisecond) // the header is known before the end
			_, _ = io.WriteString(rw, r.Header.Get("Accept-Language"))
		})
		var wg sync.WaitGroup
		for range 5 { // together: they must not get each other's
			for _, lang := range []string{"de", "en"} {
				wg.Go(func() {
					if a := w.get("/x", "Accept-Language: "+lang); a.body != "in "+lang {
						t.Errorf("asked for %s, got %q", lang, a.body)
					}
				})
			}
		}
		wg.Wait()
		w.wantFetches(2)
		w.restart()
		w.want(w.get("/x", "Accept-Language: de"), "in de", "hit")
		w.want(w.get("/x", "Accept-Language: en"), "in en", "hit")
		w.wantFetches(2)
	})
}

func TestAuthorization(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/a.rpm": "secret"})
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				rw.WriteHeader(401)
				return
			}
			files.serve(rw, r)
		})
		for range 2 {
			if a := w.get("/a.rpm", "Authorization: Bearer x"); a.body != "secret" {
				t.Errorf("with a token: %d %q", a.status, a.body)
			}
			if a := w.get("/a.rpm"); a.status != 401 {
				t.Errorf("without: %d %q", a.status, a.body)
			}
		}
	})
}

func TestCookiesAreNotShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60") // but it forgot Vary
			if r.URL.Path == "/fields" {
				_, _ = io.WriteString(rw, r.Header.Get("X-Forwarded-Prefix")+r.Header.Get("X-Host")+r.Header.Get("X-Http-Method"))
				return
			}
			_, _ = io.WriteString(rw, "hello "+r.Header.Get("Cookie")+r.Header.Get("X-Forwarded-Host"))
		})
		if a := w.get("/page", "Cookie: me"); a.body != "hello me" {
			t.Errorf("%q", a.body)
		}
		for _, field := range []string{"X-Forwarded-Prefix: /evil", "X-Host: evil", "X-Http-Method: DELETE"} {
			if a := w.get("/fields", field); a.body != "" {
				t.Errorf("with %s the origin saw %q", field, a.body)
			}
			time.Sleep(time.Hour)
		}
		if a := w.get("/page", "X-Forwarded-Host: evil"); a.body != "hello " {
			t.Errorf("%q", a.body)
		}
		w.want(w.get("/page"), "hello ", "hit")
	})
}

// While the edge drains, downloads under way come to their end.
func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := pattern(1 << 20)
		w := newWorld(t, Config{}, slowly(body))
		var wg sync.WaitGroup
		wg.Go(func() { w.want(w.get("/a.rpm"), body, "fwd=uri-miss") })
		time.Sleep(500 * time.Millisecond)
		w.stop()
		wg.Wait()
		w.start()
		w.want(w.get("/a.rpm"), body, "hit")
	})
}
