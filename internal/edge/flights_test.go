package edge

import (
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
		w.get("/repo/stable/summary")
		done := make(chan answer, 1)
		go func() { done <- w.get("/repo/stable/summary") }()
		time.Sleep(100 * time.Millisecond)
		files.set("/repo/stable/summary", "new")
		log.publish("/repo/stable", "/summary")
		if a := <-done; a.status != http.StatusNotFound {
			t.Errorf("before the event: %d", a.status)
		}
		if a := w.get("/repo/stable/summary"); a.body != "new" {
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
				files := newStatic(map[string]string{"/x/summary": "old"})
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
				w.get("/x/summary")
				time.Sleep(time.Hour)
				slow.Store(true)
				if a := w.get("/y/summary"); a.status != status || a.body != "" || a.first > 2*time.Second {
					t.Errorf("%d %q after %v", a.status, a.body, a.first)
				}
				a := w.get("/x/summary")
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
