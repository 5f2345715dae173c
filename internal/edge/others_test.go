package edge

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/h1"
	"freshet/internal/networks"
)

// What is missing may be missing for one client only.
func TestMissingForOneClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login" {
				rw.Header().Set("Set-Cookie", "session=of-the-first")
			}
			rw.WriteHeader(http.StatusNotFound)
			_, _ = rw.Write([]byte("nothing here for " + r.Header.Get("Cookie")))
		})
		if a := w.get("/account", "Cookie: user=alice"); !strings.HasSuffix(a.body, "user=alice") {
			t.Errorf("alice got %q", a.body)
		}
		if a := w.get("/account"); strings.Contains(a.body, "alice") {
			t.Errorf("anybody got %q", a.body)
		}
		for range 2 {
			before := w.fetches.Load()
			a := w.get("/login")
			if a.header.Get("Set-Cookie") == "" || w.fetches.Load() == before {
				t.Errorf("somebody got the cookie of another, or none: %v", a.header)
			}
		}
	})
}

// A variant is that of the fields that the origin saw.
func TestVariantsAreOfWhatTheOriginSaw(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Rules: rulesNone}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=600")
			rw.Header().Set("Vary", "Accept-Language")
			_, _ = rw.Write([]byte("language " + r.Header.Get("Accept-Language")))
		})
		w.get("/x", "Accept-Language: de", "Connection: Accept-Language")
		if a := w.get("/x", "Accept-Language: de"); a.body != "language de" {
			t.Errorf("got %q", a.body)
		}
	})
}

// Who is told by a balancer is the same client to hits as to everything else.
func TestClientsBehindBalancersAreOne(t *testing.T) {
	trusted := networks.Set{netip.MustParsePrefix("10.0.0.0/8")}
	e := new(Edge)
	e.trusted.Store(&trusted)
	req := &h1.Request{
		Client: netip.MustParseAddr("10.0.0.1"), Remote: "10.0.0.1:4711",
		Fields: []h1.Field{{Name: []byte("x-forwarded-for"), Value: []byte("192.0.2.7")}},
	}
	(&front{e: e}).open(&hot{call: call{site: new(site)}}, req)
	r := &http.Request{RemoteAddr: "10.0.0.1:4711", Header: http.Header{"X-Forwarded-For": {"192.0.2.7"}}}
	e.clientOf(r)
	if req.Remote != r.RemoteAddr {
		t.Errorf("%q for hits, %q else", req.Remote, r.RemoteAddr)
	}
}

// A failure with something of the first client in it is not for those who
// waited with him.
func TestFailureForOneClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Rules: rulesNone}, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			rw.Header().Set("Set-Cookie", "session=1")
			rw.WriteHeader(http.StatusInternalServerError)
			_, _ = rw.Write([]byte("failed for " + r.Header.Get("Cookie")))
		})
		var all sync.WaitGroup
		for _, name := range []string{"alice", "bob", "carol"} {
			all.Go(func() {
				a := w.get("/account", "Cookie: "+name)
				if strings.HasPrefix(a.body, "failed for ") && a.body != "failed for "+name {
					t.Errorf("%s got %q", name, a.body)
				}
			})
		}
		all.Wait()
	})
}

// A cookie that comes with a confirmation is for whoever caused it.
func TestConfirmationForOneClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Etag", `"1"`)
			rw.Header().Set("Cache-Control", "max-age=60")
			if r.Header.Get("If-None-Match") != "" {
				rw.Header().Set("Set-Cookie", "session="+r.Header.Get("Cookie"))
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = rw.Write([]byte("page"))
		})
		for _, path := range []string{"/page", "/summary", "/a.flatpakref"} {
			w.want(w.get(path), "page", "fwd=uri-miss")
			time.Sleep(10 * time.Minute)
			w.get(path, "Cookie: alice")
			time.Sleep(time.Second)
			if a := w.get(path); a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s: %v", path, a.header)
			}
		}
	})
}
