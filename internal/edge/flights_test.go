package edge

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/role"
)

// An event during a fetch for one client alone counts for what that fetch
// stores.
func TestEventDuringFlightAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/stable/summary": "old"})
		log := newEventLog("l")
		var slow atomic.Bool
		w := newWorld(t, Config{Follow: "auto"}, func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, hubapi.EventsPath) {
				log.serve(rw, r)
				return
			}
			rw.Header().Set("Cache-Control", "public, max-age=30, s-maxage=60")
			if !slow.Load() || r.Header.Get("Authorization") == "" {
				files.serve(rw, r)
				return
			}
			rw.Header().Set("Content-Length", "3")
			rw.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(rw).Flush()
			time.Sleep(3 * time.Second)
			_, _ = rw.Write([]byte("old"))
		})
		time.Sleep(3 * time.Second)
		slow.Store(true)
		done := make(chan answer, 1)
		go func() { done <- w.get("/repo/stable/summary", "Authorization: Basic eHh4") }()
		time.Sleep(time.Second)
		files.set("/repo/stable/summary", "new")
		log.publish("/repo/stable", "/summary")
		if a := <-done; a.body != "old" {
			t.Errorf("who asked before the event got %q", a.body)
		}
		time.Sleep(10 * time.Second)
		if a := w.get("/repo/stable/summary"); a.body != "new" {
			t.Errorf("after the event: %q, %s", a.body, a.cacheStatus())
		}
	})
}

// A 304 that was asked for before an event does not undo the event, here and
// after a restart.
func TestEventDuringValidationAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/stable/summary": "old"})
		log := newEventLog("l")
		var slow atomic.Bool
		w := newWorld(t, Config{Follow: "auto"}, func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, hubapi.EventsPath) {
				log.serve(rw, r)
				return
			}
			rw.Header().Set("Cache-Control", "public, max-age=30, s-maxage=60")
			if slow.Load() && r.Header.Get("Authorization") != "" {
				time.Sleep(3 * time.Second)
				rw.Header().Set("Etag", r.Header.Get("If-None-Match"))
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			files.serve(rw, r)
		})
		time.Sleep(3 * time.Second)
		w.get("/repo/stable/summary")
		time.Sleep(61 * time.Minute)
		slow.Store(true)
		done := make(chan answer, 1)
		go func() { done <- w.get("/repo/stable/summary", "Authorization: Basic eHh4") }()
		time.Sleep(time.Second)
		files.set("/repo/stable/summary", "new")
		log.publish("/repo/stable", "/summary")
		<-done
		w.restart()
		time.Sleep(5 * time.Second)
		if a := w.get("/repo/stable/summary"); a.body != "new" {
			t.Errorf("after the event and a restart: %q, %s", a.body, a.cacheStatus())
		}
	})
}

// A 404 that was under way when the file came is not remembered, though the
// flight could not be joined.
func TestEventDuringMissingAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{})
		log := newEventLog("l")
		var asked atomic.Int32
		w := newWorld(t, Config{Follow: "auto"}, func(rw http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasPrefix(r.URL.Path, hubapi.EventsPath):
				log.serve(rw, r)
				return
			case asked.Add(1) == 1: // what is not to be shared
				rw.WriteHeader(http.StatusForbidden)
				return
			case asked.Load() == 2:
				rw.Header().Set("Content-Length", "2")
				rw.WriteHeader(http.StatusNotFound)
				_ = http.NewResponseController(rw).Flush()
				time.Sleep(500 * time.Millisecond)
				_, _ = rw.Write([]byte("no"))
				return
			}
			files.serve(rw, r)
		})
		time.Sleep(3 * time.Second)
		w.get("/repo/stable/refs/heads/x")
		done := make(chan answer, 1)
		go func() { done <- w.get("/repo/stable/refs/heads/x") }()
		time.Sleep(100 * time.Millisecond)
		files.set("/repo/stable/refs/heads/x", "new")
		log.publish("/repo/stable", "/refs/heads/x")
		if a := <-done; a.status != http.StatusNotFound {
			t.Errorf("before the event: %d", a.status)
		}
		if a := w.get("/repo/stable/refs/heads/x"); a.body != "new" {
			t.Errorf("after the event: %d %q", a.status, a.body)
		}
	})
}

// No flight stays known after its end.
func TestFlightsAreForgotten(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		rw.WriteHeader(status)
		_, _ = rw.Write([]byte("body"))
	}))
	defer origin.Close()
	e, err := New(t.Context(), Config{Origin: origin.URL, Store: t.TempDir(), Size: 1 << 24, Follow: "off"}, role.Env{})
	if err != nil {
		t.Fatal(err)
	}
	for _, uri := range []string{"/a?status=200", "/b?status=404", "/c?status=500", "/d?status=403", "/d?status=403"} {
		for _, field := range []string{"X-None", "Authorization", "Range"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, uri, nil)
			r.Header.Set(field, "bytes=0-1")
			e.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if len(e.flights) != 0 || len(e.live) != 0 {
		t.Errorf("%d flights may be joined, %d are live", len(e.flights), len(e.live))
	}
}

// One client's credentials, on which the origin fails, do not keep the others
// from what is new.
func TestFailureWithCredentialsIsOnesOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/x/summary": "old"})
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				rw.WriteHeader(http.StatusInternalServerError)
				return
			}
			files.serve(rw, r)
		})
		w.get("/x/summary")
		files.set("/x/summary", "new")
		time.Sleep(time.Hour)
		w.get("/x/summary", "Authorization: x")
		if a := w.get("/x/summary"); a.body != "new" {
			t.Errorf("after another's failure: %q, %s", a.body, a.cacheStatus())
		}
	})
}

// A request that is made alone because of what its client sent does not end
// sharing for everybody.
func TestCredentialsDoNotEndSharing(t *testing.T) {
	for _, field := range []string{"Authorization: Basic eHh4", "Cookie: a=b", "Cache-Control: no-store"} {
		for _, path := range []string{"/x/a.rpm", "/x/index.html"} {
			t.Run(field+path, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
						time.Sleep(time.Second)
						if r.Header.Get(strings.SplitN(field, ":", 2)[0]) != "" {
							rw.WriteHeader(http.StatusUnauthorized)
							return
						}
						rw.Header().Set("Cache-Control", "max-age=600")
						rw.Header().Set("Content-Length", "4")
						_, _ = rw.Write([]byte("body"))
					})
					w.get(path, field)
					n := w.fetches.Load()
					var wg sync.WaitGroup
					for range 20 {
						wg.Go(func() { w.get(path) })
					}
					wg.Wait()
					if n = w.fetches.Load() - n; n > 1 {
						t.Errorf("20 clients made %d fetches", n)
					}
				})
			})
		}
	}
}

// The body of an error that does not come holds nobody for long.
func TestSlowErrorBody(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusBadGateway} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				files := newStatic(map[string]string{"/x/refs/heads/a": "old"})
				var slow atomic.Bool
				w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
					if !slow.Load() {
						files.serve(rw, r)
						return
					}
					rw.WriteHeader(status)
					for r.Context().Err() == nil {
						_, _ = rw.Write([]byte("x"))
						_ = http.NewResponseController(rw).Flush()
						time.Sleep(100 * time.Millisecond)
					}
				})
				w.get("/x/refs/heads/a")
				time.Sleep(time.Hour)
				slow.Store(true)
				if a := w.get("/y/refs/heads/a"); a.status != status || a.body != "" || a.first > 2*time.Second {
					t.Errorf("%d %q after %v", a.status, a.body, a.first)
				}
				a := w.get("/x/refs/heads/a")
				if status == http.StatusNotFound {
					return
				}
				if a.body != "old" || a.first > 0 {
					t.Errorf("with a stored answer: %d %q after %v", a.status, a.body, a.first)
				}
			})
		})
	}
}

// A 304 that names another entity-tag is about something else: the origin is
// asked again, for the whole.
func TestNotModifiedOfAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var n atomic.Int32
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			tag := `"b"`
			if n.Add(1) == 1 {
				tag = `"a"`
			}
			rw.Header().Set("Etag", tag)
			if r.Header.Get("If-None-Match") != "" {
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = rw.Write([]byte(tag))
		})
		w.get("/repo/refs/heads/a")
		time.Sleep(time.Hour)
		if a := w.get("/repo/refs/heads/a"); a.body != `"b"` || a.header.Get("Etag") != `"b"` {
			t.Errorf("got %q with entity-tag %s", a.body, a.header.Get("Etag"))
		}
		w.wantFetches(3)
	})
}

// Who comes as the only reader of a long body leaves is not cut with him.
func TestJoinAsLastReaderLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const part = 64 << 10
		w := newWorld(t, Config{Size: 1 << 30}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", strconv.Itoa(64<<20)) // from here on it is long
			for range 2 {
				_, _ = rw.Write(make([]byte, part))
				_ = http.NewResponseController(rw).Flush()
				time.Sleep(time.Second)
			}
			<-r.Context().Done()
		})
		open := func(ctx context.Context, path string) *http.Response {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://edge.mem"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := w.client.Do(req)
			if err != nil {
				t.Error(err)
				return nil
			}
			return resp
		}
		for i := range 60 {
			path := "/x/" + strconv.Itoa(i) + ".rpm"
			ctx, leave := context.WithCancel(t.Context())
			first := open(ctx, path)
			time.Sleep(100 * time.Millisecond)
			var wg sync.WaitGroup
			wg.Go(func() {
				leave()
				_ = first.Body.Close()
			})
			wg.Go(func() {
				second := open(t.Context(), path)
				if second == nil {
					return
				}
				defer second.Body.Close()
				if n, err := io.CopyN(io.Discard, second.Body, 2*part); err != nil {
					t.Errorf("%s: cut after %d bytes: %v", path, n, err)
				}
			})
			wg.Wait()
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// A fill that is given up takes no reader, also before it has ended.
func TestAbandonedFillTakesNobody(t *testing.T) {
	given := 0
	f := &fill{size: 1 << 30, readers: 1, release: func() {}, idle: func() { given++ }}
	f.leave()
	if f.join() || !f.isClosing() || given != 1 {
		t.Errorf("joined a fill that was given up (%d times)", given)
	}
	small := &fill{size: 100, readers: 1, release: func() {}, idle: func() { given++ }}
	small.leave()
	if !small.join() || given != 1 {
		t.Error("a small fill goes on and takes readers")
	}
}
