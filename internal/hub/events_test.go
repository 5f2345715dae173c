package hub_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/hub/catalog"
)

// A long poll is answered at the moment of the event, when its time is over,
// or when the hub stops.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{})
		head := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath)).Head
		poll := func(query string) hubapi.EventPage {
			return decode[hubapi.EventPage](t, h.get(hubapi.EventsPath+"?after="+strconv.FormatInt(head, 10)+query))
		}
		begin := time.Now()
		if page := poll("&wait=30s"); len(page.Events) != 0 || page.Events == nil || page.Head != head || time.Since(begin) != 30*time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), page)
		}
		begin = time.Now()
		if page := poll("&wait=24h"); len(page.Events) != 0 || time.Since(begin) != time.Minute {
			t.Errorf("the longest wait took %v", time.Since(begin))
		}
		begin = time.Now()
		if page := poll(""); len(page.Events) != 0 || time.Since(begin) != 0 {
			t.Errorf("without a wait: %v, %+v", time.Since(begin), page)
		}

		got := make(chan hubapi.EventPage)
		go func() { got <- poll("&wait=1m") }()
		synctest.Wait()
		begin = time.Now()
		pushTree(t, h, "files", map[string]string{"a.txt": "hello"})
		if page := <-got; len(page.Events) != 1 || page.Events[0].Kind != hubapi.EventTree || time.Since(begin) > time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), page)
		}

		head++
		go func() { got <- poll("&wait=1m") }()
		synctest.Wait()
		begin = time.Now()
		stopped := make(chan struct{})
		go func() { h.stop(); close(stopped) }()
		if page := <-got; len(page.Events) != 0 || time.Since(begin) > time.Second {
			t.Errorf("stop: after %v %+v", time.Since(begin), page)
		}
		<-stopped
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the stop took %v", took)
		}
	})
}

// A client that takes all the places it can get is answered at once from then
// on, and told to come back later.
func TestLongPollsOfOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{})
		head := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath)).Head
		path := hubapi.EventsPath + "?after=" + strconv.FormatInt(head, 10) + "&wait=30s"
		begin := time.Now()
		var waiting sync.WaitGroup
		for range 64 {
			waiting.Go(func() {
				if a := h.get(path); a.status != 200 || a.header.Get("Retry-After") != "" || time.Since(begin) != 30*time.Second {
					t.Errorf("after %v: %d %s", time.Since(begin), a.status, a.body)
				}
			})
		}
		synctest.Wait()
		a := h.get(path)
		page := decode[hubapi.EventPage](t, a)
		if a.status != 200 || page.Head != head || page.Events == nil || len(page.Events) != 0 || a.header.Get("Retry-After") == "" || time.Since(begin) != 0 {
			t.Errorf("after %v: %d %v %s", time.Since(begin), a.status, a.header, a.body)
		}
		waiting.Wait()
		if a := h.get(path); a.header.Get("Retry-After") != "" || time.Since(begin) != time.Minute {
			t.Errorf("with room again: after %v %v", time.Since(begin), a.header)
		}
		h.stop()
	})
}

func TestEventQueries(t *testing.T) {
	h := startHub(t, hub.Config{})
	for _, query := range []string{"after=-1", "after=x", "limit=0", "limit=x", "wait=x", "wait=-1s", "after=99999999999999999999"} {
		h.get(hubapi.EventsPath+"?"+query).problem(t, 400, hubapi.ErrGeneric)
	}
	for _, page := range []string{"x", "-1", "01", "1", "99999999999999999999"} {
		h.get(hubapi.EventsPath+"/page/"+page).problem(t, 404, hubapi.ErrNotFound)
	}
	// A cursor of another log is answered at once.
	if page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath+"?after=1000&wait=1m")); page.Head >= 1000 || len(page.Events) != 0 {
		t.Errorf("%+v", page)
	}
}

// A full page of the log never changes by a byte; the last one may not be
// kept.
func TestEventPages(t *testing.T) {
	h := startHub(t, hub.Config{})
	h.stop()
	record := func(from, to int) {
		h.withCatalog(func(c *catalog.Catalog) {
			for i := from; i < to; i++ {
				if _, err := c.RecordTree(t.Context(), fmt.Sprint("test-", i), hubapi.Event{Repo: "files", Base: "/tree/files/"}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	record(0, 110)
	h.start()
	full := h.get(hubapi.EventPagePath(0))
	page := decode[hubapi.EventPage](t, full)
	if len(page.Events) != 100 || page.Events[0].Serial != 1 || page.Events[99].Serial != 100 {
		t.Fatalf("page 0 has %d events", len(page.Events))
	}
	if cc := full.header.Get("Cache-Control"); cc != "public, max-age=31536000, immutable" {
		t.Errorf("page 0: Cache-Control %q", cc)
	}
	last := h.get(hubapi.EventPagePath(1))
	if cc := last.header.Get("Cache-Control"); cc != "no-cache" {
		t.Errorf("page 1: Cache-Control %q", cc)
	}
	if page := decode[hubapi.EventPage](t, last); page.Events[0].Serial != 101 || page.Head < 110 {
		t.Errorf("page 1: %+v", page)
	}
	h.stop()
	record(110, 130)
	h.start()
	if again := h.get(hubapi.EventPagePath(0)); !bytes.Equal(again.body, full.body) || again.header.Get("Etag") != full.header.Get("Etag") {
		t.Errorf("page 0 was\n%s\nand is\n%s", full.body, again.body)
	}
	if a := h.get(hubapi.EventPagePath(0), "If-None-Match", full.header.Get("Etag")); a.status != http.StatusNotModified {
		t.Errorf("a page known: %d", a.status)
	}
	if a := h.get(hubapi.EventsPath + "?after=3&limit=2"); len(decode[hubapi.EventPage](t, a).Events) != 2 {
		t.Errorf("limit: %s", a.body)
	}

	// The client reads it all, by pages and tail.
	after := hubapi.Cursor{}
	seen := int64(0)
	for batch, err := range h.api().FollowBatches(t.Context(), after, hubapi.FollowOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen += int64(len(batch.Events))
		if batch.CaughtUp() {
			if seen != batch.Head || seen < 130 {
				t.Errorf("followed %d of %d events", seen, batch.Head)
			}
			break
		}
	}
}
