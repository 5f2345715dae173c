package edge

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"freshet/api/hubapi"
	"freshet/internal/role"
)

// withholding is an origin that keeps all it has in quarantine while it is told
// to, and answers as a hub does then.
type withholding struct {
	*static
	apart atomic.Bool
}

func (o *withholding) serve(w http.ResponseWriter, r *http.Request) {
	if o.apart.Load() {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set(role.ReasonHeader, "quarantined")
		http.Error(w, "it is damaged", http.StatusNotFound)
		return
	}
	o.static.serve(w, r)
}

// That an origin withholds a file says nothing about the file: it is asked for
// again, and what is stored is used.
func TestQuarantined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		object := "/repo/objects/0a/" + strings.Repeat("0a", 31) + ".filez"
		origin := &withholding{static: newStatic(map[string]string{object: "content"})}
		log := newEventLog("log-a")
		w := newWorld(t, Config{Follow: "auto"}, func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, hubapi.EventsPath) {
				log.serve(rw, r)
				return
			}
			origin.serve(rw, r)
		})
		w.following(true)
		origin.apart.Store(true)
		for range 2 {
			a := w.get(object)
			if a.status != 404 || a.body != "it is damaged\n" || a.header.Get(role.ReasonHeader) != "quarantined" || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("it is withheld: %d %q %v", a.status, a.body, a.header)
			}
		}
		w.wantFetches(2)
		if n := w.metric("freshet_edge_origin_failures_total", "quarantined"); n != 2 {
			t.Errorf("counted %v times", n)
		}
		origin.apart.Store(false)
		w.want(w.get(object), "content", "fwd=uri-miss")
		origin.apart.Store(true)
		log.publish("/repo/", strings.TrimPrefix(object, "/repo/"))
		synctest.Wait()
		w.want(w.get(object), "content", "fwd=stale; fwd-status=404; ttl=0; detail=quarantined")
		w.want(w.get(object), "content", "hit; ttl=")
		w.wantFetches(4)
	})
}

// Another origin is asked, and the one that withholds a file is asked for others
// as before.
func TestQuarantinedElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := make(map[string]string)
		for i := range 40 {
			files[fmt.Sprintf("/repo/objects/%02x/%s.filez", i, strings.Repeat("0a", 31))] = fmt.Sprint(i)
		}
		one, two := &withholding{static: newStatic(files)}, newStatic(files)
		one.apart.Store(true)
		w := newWorld(t, Config{Origins: []Origin{{URL: "http://origin.mem"}, {URL: "http://two.mem"}}}, one.serve)
		w.serve("two", two.serve)
		for path, body := range files {
			w.want(w.get(path), body, "fwd=uri-miss; fwd-status=200")
		}
		if asked := w.fetches.Load(); asked < 10 {
			t.Errorf("the one that withholds them was asked %d times of %d", asked, len(files))
		}
		if up := w.metric("freshet_edge_origin_up", "origin.mem"); up != 1 {
			t.Error("it is left alone")
		}
	})
}
