package follow_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/follow"
	"freshet/internal/memnet"
)

// log is the event log of a hub in memory.
type log struct {
	mu     sync.Mutex
	name   string
	events []hubapi.Event
	more   chan struct{}
	away   bool
}

func (l *log) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.more)
	l.more = make(chan struct{})
}

func (l *log) publish(repo string) {
	l.change(func() {
		l.events = append(l.events, hubapi.Event{Serial: int64(len(l.events) + 1), Kind: hubapi.EventTree, Repo: repo, Base: "/tree/" + repo + "/"})
	})
}

func (l *log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.Atoi(r.URL.Query().Get("after"))
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	l.mu.Lock()
	defer l.mu.Unlock()
	if more := l.more; after >= len(l.events) && wait > 0 && !l.away {
		l.mu.Unlock()
		select {
		case <-more:
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		l.mu.Lock()
	}
	if l.away {
		panic(http.ErrAbortHandler)
	}
	page := hubapi.EventPage{Log: l.name, Head: int64(len(l.events))}
	if after < len(l.events) {
		page.Events = l.events[after:]
	}
	_ = json.NewEncoder(w).Encode(page)
}

// kept keeps a cursor as a file would.
type kept struct{ c hubapi.Cursor }

func (k *kept) Load() (hubapi.Cursor, error) { return k.c, nil }
func (k *kept) Save(c hubapi.Cursor) error   { k.c = c; return nil }

// A follower hears each event once it can, also what happened while it or the hub was
// away; begins anew where it cannot know; and is told again of what it could not act on.
func TestFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network memnet.Network
		ln, err := network.Listen("mem:hub")
		if err != nil {
			t.Fatal(err)
		}
		hub := &log{name: "one", more: make(chan struct{})}
		srv := &http.Server{Handler: hub}
		go func() { _ = srv.Serve(ln) }()
		transport := &http.Transport{DialContext: network.DialContext}
		defer func() { _ = srv.Close(); transport.CloseIdleConnections() }()

		var (
			mu     sync.Mutex
			heard  []string
			state  follow.State
			broken bool
		)
		cursor := new(kept)
		run := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			f := follow.Follower{
				Client: hubapi.Client{Base: "http://hub.mem", HTTP: &http.Client{Transport: transport}}, Cursors: cursor,
				Begin: func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					heard = append(heard, "all")
					return nil
				},
				Apply: func(_ context.Context, b hubapi.Batch) error {
					mu.Lock()
					defer mu.Unlock()
					if broken && len(b.Events) > 0 {
						return errors.New("the disk is full")
					}
					for _, e := range b.Events {
						heard = append(heard, e.Repo)
					}
					return nil
				},
				Told: func(_ context.Context, s follow.State, _ error) { mu.Lock(); state = s; mu.Unlock() },
			}
			go func() { defer close(ended); f.Run(ctx) }()
			return func() { cancel(); <-ended }
		}
		want := func(when string, s follow.State, repos ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(heard, repos) || state != s {
				t.Errorf("%s: %v, heard %q, want %v, %q", when, state, heard, s, repos)
			}
			heard = nil
		}
		hub.publish("before")
		stop := run()
		want("at the start", follow.Following, "all")
		hub.publish("a")
		want("an event", follow.Following, "a")

		stop()
		hub.publish("b")
		hub.publish("c")
		stop = run()
		want("after it was off", follow.Following, "b", "c")

		hub.change(func() { hub.away = true })
		time.Sleep(time.Minute)
		want("away", follow.Away)
		hub.publish("d")
		hub.change(func() { hub.away = false })
		time.Sleep(time.Minute)
		want("back", follow.Following, "d")

		mu.Lock()
		broken = true
		mu.Unlock()
		hub.publish("e")
		synctest.Wait()
		mu.Lock()
		broken = false
		mu.Unlock()
		time.Sleep(time.Minute)
		want("what could not be acted on", follow.Following, "e")

		hub.change(func() { hub.name, hub.events = "two", nil })
		time.Sleep(time.Minute)
		want("another log", follow.Following, "all")
		if cursor.c != (hubapi.Cursor{Log: "two"}) {
			t.Errorf("the cursor is %+v", cursor.c)
		}
		stop()
	})
}
