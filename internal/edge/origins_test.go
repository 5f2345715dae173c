package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/config"
	"freshet/internal/role"
)

// edge starts one more edge under a name.
func (w *world) edge(name string, cfg Config) {
	w.t.Helper()
	cfg.Store, cfg.Listen, cfg.Follow, cfg.Size = w.t.TempDir(), "mem:"+name, "off", 64<<20
	ctx, cancel := context.WithCancel(w.t.Context())
	transport := role.NewTransport(w.net.DialContext)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, cfg, role.Env{
			Log:    slog.New(slog.NewTextHandler(w.log, nil)),
			HTTP:   &http.Client{Transport: transport},
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return w.net.Listen(addr) },
			Ready:  func() { close(ready) },
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		w.t.Fatalf("edge %s did not start: %v", name, err)
	}
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("edge %s ended with %v", name, err)
		}
	})
}

// from asks another edge than "edge".
func (w *world) from(name, path string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+name+".mem"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	begun := time.Now()
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Errorf("%s%s: %v", name, path, err)
		return answer{err: err}
	}
	defer resp.Body.Close()
	first := time.Since(begun)
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err, first}
}

// An edge behind an edge: one request to the origin, ages add up, and each
// tier says what it did.
func TestTiers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Origins: []Origin{{URL: "http://shield.mem", Role: "shield"}, {URL: "http://origin.mem", Role: "last-resort"}}},
			func(rw http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Cdn-Loop"); strings.Count(got, "freshet;id=") != 2 {
					t.Errorf("CDN-Loop is %q", got)
				}
				rw.Header().Set("Age", "7")
				_, _ = io.WriteString(rw, "content")
			})
		w.edge("shield", Config{Origin: "http://origin.mem"})
		w.want(w.get("/a.rpm"), "content", "fwd=uri-miss")
		time.Sleep(10 * time.Second)
		if a := w.from("shield", "/a.rpm"); a.header.Get("Age") != "17" {
			t.Errorf("age at the shield is %s, want 17", a.header.Get("Age"))
		}
		a := w.get("/a.rpm")
		if a.header.Get("Age") != "17" {
			t.Errorf("age at the edge is %s, want 17", a.header.Get("Age"))
		}
		if got := a.cacheStatus(); !strings.HasPrefix(got, "freshet; fwd=uri-miss") || !strings.Contains(got, ", freshet; hit") {
			t.Errorf("chain of Cache-Status is %q", got)
		}
		w.edge("third", Config{Origin: "http://shield.mem"})
		b := w.from("third", "/a.rpm")
		if got := b.header.Get("Age"); got != "17" {
			t.Errorf("age at the third edge is %s, want 17", got)
		}
		if got := b.cacheStatus(); !strings.HasPrefix(got, "freshet; hit") || strings.Count(got, "freshet") != 2 || !strings.Contains(got, "fwd=uri-miss") {
			t.Errorf("chain of Cache-Status is %q", got)
		}
		w.wantFetches(1)
	})
}

// Two edges that are each other's shield: requests go one step aside, then to
// the origin, and nobody waits for one who waits for him.
func TestMutualShields(t *testing.T) {
	bubble(t, func(t *testing.T) {
		origins := func(other string) []Origin {
			return []Origin{{URL: "http://" + other + ".mem", Role: "shield", Weight: 1000}, {URL: "http://origin.mem"}}
		}
		w := newWorld(t, Config{Origins: origins("other")}, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Millisecond)
			_, _ = io.WriteString(rw, r.URL.Path)
		})
		w.edge("other", Config{Origins: origins("edge")})
		var wg sync.WaitGroup
		for i := range 20 {
			path := fmt.Sprintf("/%d.rpm", i)
			for _, name := range []string{"edge", "other"} {
				wg.Go(func() {
					if a := w.from(name, path); a.status != 200 || a.body != path || a.first > 250*time.Millisecond {
						t.Errorf("%s%s: %d after %v", name, path, a.status, a.first)
					}
				})
			}
		}
		wg.Wait()
	})
}

// Edges that are wrongly each other's origin refuse what comes back.
func TestLoop(t *testing.T) {
	for _, ring := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(ring), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				names := []string{"edge", "b", "c"}[:ring]
				w := newWorld(t, Config{Origin: "http://" + names[1%ring] + ".mem"}, nil)
				for i := 1; i < ring; i++ {
					w.edge(names[i], Config{Origin: "http://" + names[(i+1)%ring] + ".mem"})
				}
				for _, path := range []string{"/a.rpm", "/plain"} {
					a := w.get(path)
					if a.status != http.StatusLoopDetected || a.header.Get(role.ReasonHeader) != "loop" || a.first > time.Second {
						t.Errorf("%s: %d, reason %q after %v", path, a.status, a.header.Get(role.ReasonHeader), a.first)
					}
				}
				if got := w.do("POST", "/post"); got.status != http.StatusLoopDetected {
					t.Errorf("POST: %d", got.status)
				}
			})
		})
	}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, newStatic(map[string]string{"/a": "a"}).serve)
		if a := w.get("/a", "CDN-Loop: "+strings.Repeat("freshet;id=x, ", maxHops)+"freshet;id=y"); a.status != http.StatusLoopDetected {
			t.Errorf("%d hops: %d", maxHops+1, a.status)
		}
		w.want(w.get("/a", "CDN-Loop: other, freshet;id=x;y"), "a", "fwd=uri-miss")
	})
}

// Content that is not what its name says is asked of another origin: unseen if
// nothing was shown, else with the next request.
func TestVerifyElsewhere(t *testing.T) {
	for _, size := range []int{100, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				good := strings.Repeat("g", size)
				path := objectOf(good)
				files, liar := newStatic(map[string]string{path: good}), newStatic(map[string]string{path: strings.Repeat("g", size-1) + "!"})
				w := newWorld(t, Config{Origins: []Origin{{URL: "http://liar.mem", Weight: 1000}, {URL: "http://origin.mem", Role: "last-resort"}}}, files.serve)
				w.serve("liar", liar.serve)
				if size > verifyFirst {
					if a, err := w.try(t.Context(), "GET", path); err == nil && a.err == nil {
						t.Error("a wrong body arrived as if complete")
					}
				}
				w.want(w.get(path), good, "fwd=uri-miss")
				w.want(w.get(path), good, "hit")
				if n := liar.count(path); n != 1 {
					t.Errorf("the liar was asked %d times", n)
				}
				if n := w.metric("freshet_edge_origin_failures_total", "verify_mismatch"); n != 1 {
					t.Errorf("%v mismatches counted", n)
				}
			})
		})
	}
	bubble(t, func(t *testing.T) { // nobody has it right
		path := objectOf("good")
		liar := newStatic(map[string]string{path: "evil"})
		w := newWorld(t, Config{Origins: []Origin{{URL: "http://liar.mem"}, {URL: "http://origin.mem"}}}, liar.serve)
		w.serve("liar", liar.serve)
		if a := w.get(path); a.status != 502 || a.header.Get(role.ReasonHeader) != "verify_mismatch" || liar.count(path) != 2 {
			t.Errorf("%d, reason %q, asked %d times", a.status, a.header.Get(role.ReasonHeader), liar.count(path))
		}
	})
}

// 100 clients on a stale answer with an origin that takes half a second: all
// are answered at once, and there is one request, with conditions.
func TestStaleForMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var conditional atomic.Int64
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(500 * time.Millisecond)
			rw.Header().Set("Etag", `"v"`)
			if r.Header.Get("If-None-Match") == `"v"` {
				conditional.Add(1)
				rw.WriteHeader(304)
				return
			}
			_, _ = io.WriteString(rw, "config")
		})
		w.get("/refs/heads/a")
		time.Sleep(70 * time.Second) // fresh for 60, then stale for as long while it is confirmed
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if a := w.get("/refs/heads/a"); a.status != 200 || a.first > 5*time.Millisecond || a.header.Get("Age") != "70" {
					t.Errorf("%d after %v, age %s", a.status, a.first, a.header.Get("Age"))
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		w.wantFetches(2)
		if n := conditional.Load(); n != 1 {
			t.Errorf("%d conditional requests", n)
		}
	})
}

// An origin that fails after the fill, in each way: what is stored is served at
// once with its true age, the origin is asked once in 5 s, its return is seen
// soon, and no number of failures costs the good copy.
func TestSickOrigin(t *testing.T) {
	for _, ill := range []string{"503", "refused", "hang", "reset"} {
		t.Run(ill, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var sick atomic.Bool
				content := "old"
				w := newWorld(t, Config{}, nil)
				handler := func(rw http.ResponseWriter, r *http.Request) {
					w.fetches.Add(1)
					switch {
					case !sick.Load():
						_, _ = io.WriteString(rw, content)
					case ill == "503":
						http.Error(rw, "ill", http.StatusServiceUnavailable)
					case ill == "hang":
						<-r.Context().Done()
					default:
						panic(http.ErrAbortHandler)
					}
				}
				stop := w.serve("origin", handler)
				w.get("/refs/heads/a")
				filled := time.Now()
				time.Sleep(10 * time.Minute) // past what may be served while it is confirmed
				sick.Store(true)
				if ill == "refused" {
					stop()
				}
				w.fetches.Store(0)
				begun := time.Now()
				for time.Since(begun) < 2*time.Minute {
					a := w.get("/refs/heads/a")
					limit := 50 * time.Millisecond
					if ill == "hang" && a.first > limit { // once per try
						limit = 15 * time.Second
					}
					if a.status != 200 || a.body != "old" || a.first > limit {
						t.Fatalf("%d %q after %v", a.status, a.body, a.first)
					}
					if age, want := a.header.Get("Age"), fmt.Sprint(int(time.Since(filled)/time.Second)); age != want {
						t.Errorf("age %s, want %s", age, want)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if n := w.fetches.Load(); n > 30 || ill != "refused" && n < 5 {
					t.Errorf("%d requests to a sick origin in 2 minutes", n)
				}
				content = "new"
				sick.Store(false)
				if ill == "refused" {
					w.serve("origin", handler)
				}
				for back := time.Now(); w.get("/refs/heads/a").body != "new"; time.Sleep(100 * time.Millisecond) {
					if time.Since(back) > 6*time.Second {
						t.Fatal("not seen to be back within 6 s")
					}
				}
			})
		})
	}
	t.Run("1000 times", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			files := newStatic(map[string]string{"/refs/heads/a": "good"})
			w := newWorld(t, Config{}, files.serve)
			w.get("/refs/heads/a")
			time.Sleep(10 * time.Minute)
			files.down.Store(true)
			w.fetches.Store(0)
			for w.fetches.Load() < 1000 {
				if a := w.get("/refs/heads/a"); a.status != 200 || a.body != "good" {
					t.Fatalf("after %d failures: %d %q", w.fetches.Load(), a.status, a.body)
				}
				time.Sleep(5 * time.Second)
			}
		})
	})
}

// An origin that is away, and a file that is not known: the reason, never 404,
// in time.
func TestUnknownWhileAway(t *testing.T) {
	for _, c := range []struct {
		ill, reason string
		status      int
	}{{"refused", "refused", 502}, {"reset", "reset", 502}, {"hang", "first_byte_timeout", 504}, {"connect", "connect_timeout", 504}} {
		t.Run(c.ill, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{}, nil)
				switch c.ill {
				case "reset":
					w.serve("origin", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
				case "hang":
					w.serve("origin", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
				case "connect": // nobody accepts
					ln, err := w.net.Listen("mem:origin")
					if err != nil {
						t.Fatal(err)
					}
					defer ln.Close()
				}
				a := w.get("/a.rpm")
				if a.status != c.status || a.header.Get(role.ReasonHeader) != c.reason || a.first > 15500*time.Millisecond {
					t.Errorf("%d, reason %q after %v", a.status, a.header.Get(role.ReasonHeader), a.first)
				}
			})
		})
	}
}

// How long errors are kept, whatever the origin says: 5xx at most a second, 404
// at most 5, or 2 for metadata with a digest in its name.
func TestErrorsAreNotKept(t *testing.T) {
	for _, code := range []int{500, 502, 503, 504, 404} {
		for _, cc := range []string{"", "max-age=3600"} {
			for path, limit := range map[string]time.Duration{"/a.rpm": 5 * time.Second, "/plain": 5 * time.Second, "/repodata/" + strings.Repeat("0a", 32) + "-primary.xml.gz": 2 * time.Second} {
				t.Run(fmt.Sprintf("%d %s %s", code, cc, path), func(t *testing.T) {
					if code >= 500 {
						limit = time.Second
					}
					bubble(t, func(t *testing.T) {
						w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
							if cc != "" {
								rw.Header().Set("Cache-Control", cc)
							}
							http.Error(rw, "no", code)
						})
						for n := range int64(3) {
							if a := w.get(path); a.status != code {
								t.Errorf("got %d", a.status)
							}
							w.wantFetches(n + 1)
							time.Sleep(limit + time.Millisecond)
						}
						synctest.Wait()
					})
				})
			}
		}
	}
}

func TestOriginsConfig(t *testing.T) {
	var cfg struct {
		Edge Config `toml:"edge"`
	}
	text := `
[edge]
store = "/s"
origins = ["https://a.example.org", { url = "https://b.example.org/x", weight = 3, role = "shield" }]
[edge.upstream]
hedge = "200ms"
`
	if err := config.Decode("f", []byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(cfg.Edge.Origins); len(cfg.Edge.Origins) != 2 || cfg.Edge.Origins[1] != (Origin{"https://b.example.org/x", 3, "shield"}) || cfg.Edge.Origins[0].URL != "https://a.example.org" {
		t.Errorf("got %s", got)
	}
	for bad, want := range map[string]string{
		`origin = "http://a"` + "\n" + `origins = ["http://b"]`: "want one of the two",
		`origins = ["ftp://a"]`:                                 "no URL",
		`origins = ["http://a", "http://a/"]`:                   "there twice",
		`origins = [{ url = "http://a", role = "x"}]`:           "last-resort",
		`origins = [{ weight = 2 }]`:                            "required",
		`origins = [{ url = "http://a", weight = 1001 }]`:       "1000",
		`origins = [{ url = "http://a", wait = 1 }]`:            "unknown key",
		"origin = \"http://a\"\nupstream = { hedge = \"-1s\" }": "hedge",
		"origin = \"http://a\"\nupstream = { next-on = \"x\" }": "next-on",
		"origin = \"http://a\"\nupstream = { probe = \"x\" }":   "probe",
	} {
		err := config.Decode("f", []byte("[edge]\nstore = \"/s\"\n"+bad+"\n"), &cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", bad, err)
		}
		cfg.Edge = Config{}
	}
}

// Origins with https, by HTTP/1.1 and, if allowed, by HTTP/2.
func TestSecureOrigin(t *testing.T) {
	proto := make(chan string, 1)
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		proto <- r.Proto
		_, _ = io.WriteString(rw, "content")
	}))
	origin.EnableHTTP2 = true
	origin.StartTLS()
	defer origin.Close()
	for want, allowed := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		e, err := New(t.Context(), Config{Origin: origin.URL, Store: t.TempDir(), Size: 64 << 20, Follow: "off", Upstream: UpstreamConfig{HTTP2: allowed}},
			role.Env{HTTP: origin.Client()})
		if err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		e.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/a.rpm", nil))
		if rec.Code != http.StatusOK || rec.Body.String() != "content" {
			t.Errorf("%s: %d %q", want, rec.Code, rec.Body)
		} else if got := <-proto; got != want {
			t.Errorf("asked by %s, want %s", got, want)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What is stored stays while one of the origins does, and goes with the last.
func TestOriginsChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Origins: []Origin{{URL: "http://origin.mem"}, {URL: "http://b.mem"}}}, newStatic(map[string]string{"/a.rpm": "a"}).serve)
		w.serve("b", newStatic(map[string]string{"/a.rpm": "a"}).serve)
		w.serve("c", newStatic(map[string]string{"/a.rpm": "c"}).serve)
		w.get("/a.rpm")
		w.cfg.Origins = []Origin{{URL: "http://b.mem"}, {URL: "http://c.mem"}}
		w.restart()
		w.want(w.get("/a.rpm"), "a", "hit")
		w.cfg.Origins = []Origin{{URL: "http://c.mem"}}
		w.restart()
		w.want(w.get("/a.rpm"), "a", "hit")
		w.cfg.Origins, w.cfg.Origin = nil, "http://origin.mem"
		w.restart()
		w.want(w.get("/a.rpm"), "a", "fwd=uri-miss")
	})
}
