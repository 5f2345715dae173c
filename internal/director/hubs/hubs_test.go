package hubs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/api/hubapi"
	"freshet/internal/director/hubs"
	"freshet/internal/memnet"
)

// hub has an event log.
type hub struct {
	mu     sync.Mutex
	name   string // of the log
	events []hubapi.Event
	more   chan struct{}
	asked  int
}

func (h *hub) publish(base string, changed ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, hubapi.Event{Serial: int64(len(h.events) + 1), Kind: hubapi.EventTree, Base: base, Changed: changed})
	close(h.more)
	h.more = make(chan struct{})
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != hubapi.EventsPath {
		http.NotFound(w, r)
		return
	}
	after, _ := strconv.Atoi(r.URL.Query().Get("after"))
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if more := h.more; after >= len(h.events) && wait > 0 {
		h.mu.Unlock()
		select {
		case <-more:
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		h.mu.Lock()
	}
	page := hubapi.EventPage{Log: h.name, Head: int64(len(h.events))}
	if after < len(h.events) {
		page.Events = h.events[after:]
	}
	_ = json.NewEncoder(w).Encode(page)
}

// source is a catalogue that changes.
type source struct {
	mu   sync.Mutex
	now  *directorapi.Catalogue
	next chan struct{}
}

func (s *source) Current() *directorapi.Catalogue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *source) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *source) set(projects ...directorapi.Project) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
	}
	s.now, s.next = &directorapi.Catalogue{Projects: projects}, make(chan struct{})
}

// What hubs tell is looked at in the projects that it is about, at once and again; what
// was before the start is looked at whole.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network memnet.Network
		ln, err := network.Listen("mem:hub")
		if err != nil {
			t.Fatal(err)
		}
		server := &hub{name: "first", more: make(chan struct{})}
		for i := range 150 {
			server.publish("/old/", fmt.Sprint(i))
		}
		srv := &http.Server{Handler: server}
		go func() { _ = srv.Serve(ln) }()
		transport := &http.Transport{DialContext: network.DialContext}
		var (
			mu  sync.Mutex
			got []string
		)
		want := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
			got = nil
		}
		catalogue := new(source)
		part := directorapi.Project{Name: "part", Hub: "http://hub.mem/repo/40/"}
		catalogue.set(part, directorapi.Project{Name: "all", Hub: "http://hub.mem/repo/"}, directorapi.Project{Name: "none"},
			directorapi.Project{Name: "off", Hub: "http://off.mem/", Disabled: true})
		f := &hubs.Follower{Catalogue: catalogue, HTTP: &http.Client{Transport: transport}, Hasten: func(project, path string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, project+" "+path)
		}}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		defer func() {
			stop()
			<-done
			_ = srv.Close()
			transport.CloseIdleConnections()
		}()

		time.Sleep(time.Minute)
		want("at first", "all ", "part ")
		server.publish("/repo/", "40/repodata/repomd.xml", "41/repodata/repomd.xml")
		want("at once", "all 40/repodata/repomd.xml", "all 41/repodata/repomd.xml", "part repodata/repomd.xml")
		time.Sleep(2 * time.Second)
		want("again", "all 40/repodata/repomd.xml", "all 41/repodata/repomd.xml", "part repodata/repomd.xml")
		server.publish("/other/", "x")
		time.Sleep(2 * time.Second)
		want("of others")

		server.mu.Lock()
		server.name, server.events = "second", nil
		close(server.more)
		server.more = make(chan struct{})
		server.mu.Unlock()
		time.Sleep(time.Minute)
		want("another log", "all ", "part ")

		catalogue.set(part)
		server.publish("/repo/40/", "x")
		time.Sleep(2 * time.Second)
		want("another catalogue", "part x", "part x")
		catalogue.set()
		time.Sleep(time.Minute)
		server.mu.Lock()
		asked := server.asked
		server.mu.Unlock()
		time.Sleep(time.Hour)
		server.mu.Lock()
		defer server.mu.Unlock()
		if server.asked != asked {
			t.Errorf("asked %d times by nobody", server.asked-asked)
		}
	})
}

// A hub whose log is another one each time, such as two behind one name, is not asked
// without a pause.
func TestLogsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network memnet.Network
		ln, err := network.Listen("mem:hub")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		asked := 0
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked++
			n := asked
			mu.Unlock()
			if n > 5000 { // otherwise time would never go on
				<-r.Context().Done()
				return
			}
			_ = json.NewEncoder(w).Encode(hubapi.EventPage{Log: fmt.Sprint(n % 2), Head: 7})
		})}
		go func() { _ = srv.Serve(ln) }()
		transport := &http.Transport{DialContext: network.DialContext}
		catalogue := new(source)
		catalogue.set(directorapi.Project{Name: "p", Hub: "http://hub.mem/repo/"})
		f := &hubs.Follower{Catalogue: catalogue, HTTP: &http.Client{Transport: transport}, Hasten: func(string, string) {}}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		defer func() {
			stop()
			<-done
			_ = srv.Close()
			transport.CloseIdleConnections()
		}()
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if asked < 10 || asked > 1000 {
			t.Errorf("asked %d times in an hour", asked)
		}
	})
}
