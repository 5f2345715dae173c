package events_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/memnet"
	"freshet/internal/mirror/events"
	"freshet/internal/ramtest"
)

func TestMain(m *testing.M) { os.Exit(ramtest.Run(m)) }

// world is who listens, and an upstream. Time is that of a bubble.
type world struct {
	t         *testing.T
	transport *http.Transport
	state     durable.Dir
	result    mirrorapi.Result // of syncs

	mu    sync.Mutex
	syncs []string
}

// newWorld serves an upstream as "up.mem".
func newWorld(t *testing.T, upstream http.Handler) *world {
	t.Helper()
	var network memnet.Network
	ln, err := network.Listen("mem:up")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: upstream, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, transport: &http.Transport{DialContext: network.DialContext}, state: dir, result: mirrorapi.Published}
	t.Cleanup(func() {
		_ = srv.Close()
		w.transport.CloseIdleConnections()
		_ = dir.Root.Close()
	})
	return w
}

// ended is a sync that has ended.
type ended struct{ result mirrorapi.Result }

func (e ended) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}
func (e ended) Report() mirrorapi.Report { return mirrorapi.Report{Result: e.result} }

// listen follows the upstreams of projects until stop is called.
func (w *world) listen(upstreams map[string]string) (l *events.Listener, stop func()) {
	o := events.Options{State: w.state, HTTP: &http.Client{Transport: w.transport}, Sync: func(project, by string, perhaps bool) (events.Sync, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.syncs = append(w.syncs, fmt.Sprintf("%s by %s, perhaps %t", project, by, perhaps))
		return ended{w.result}, nil
	}}
	for project, upstream := range upstreams {
		o.Projects = append(o.Projects, events.Project{Name: project, Upstreams: []string{"https://nobody.example/", upstream}})
	}
	l = events.New(o)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	return l, func() { cancel(); <-done }
}

// after lets time pass, and returns which syncs there were, sorted.
func (w *world) after(d time.Duration) []string {
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.syncs
	w.syncs = nil
	slices.Sort(list)
	return list
}

func (w *world) want(what string, got []string, want ...string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: syncs %q, want %q", what, got, want)
	}
}

func (w *world) state1(l *events.Listener, project string) mirrorapi.Followed {
	w.t.Helper()
	list := l.Follows(project)
	if len(list) != 1 {
		w.t.Fatalf("%+v", list)
	}
	return list[0]
}

// hub is the event log of a hub.
type hub struct {
	mu     sync.Mutex
	name   string
	events []hubapi.Event
	more   chan struct{}
	status int // instead of an answer, unless it is 0
	asked  int
}

func newHub() *hub { return &hub{name: "one", more: make(chan struct{})} }

func (h *hub) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.more)
	h.more = make(chan struct{})
}

func (h *hub) tell(kind hubapi.EventKind, base string, changed ...string) {
	h.change(func() {
		h.events = append(h.events, hubapi.Event{Serial: int64(len(h.events) + 1), Kind: kind, Base: base, Changed: changed})
	})
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.Atoi(r.URL.Query().Get("after"))
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if h.status == 0 && after >= len(h.events) && wait > 0 {
		more := h.more
		h.mu.Unlock()
		select {
		case <-more:
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		h.mu.Lock()
	}
	if h.status != 0 {
		w.WriteHeader(h.status)
		return
	}
	page := hubapi.EventPage{Log: h.name, Head: int64(len(h.events))}
	if after < len(h.events) {
		page.Events = h.events[after:]
	}
	_ = json.NewEncoder(w).Encode(page)
}

// Projects of a hub are synced when something of them was published, and nothing else is;
// what happened while nobody listened comes later.
func TestHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		h.tell(hubapi.EventTree, "/tree/a/")
		w := newWorld(t, h)
		upstreams := map[string]string{"a": "hub+http://up.mem/tree/a/", "b": "hub+http://up.mem/repo/b/", "deep": "hub+http://up.mem/tree/a/deep/"}
		l, stop := w.listen(upstreams)
		// Once at the start, and once for what was before the first cursor.
		first := w.after(5 * time.Second)
		if len(slices.Compact(slices.Clone(first))) != 3 || slices.ContainsFunc(first, func(s string) bool { return !strings.HasSuffix(s, "by up.mem, perhaps true") }) {
			t.Errorf("at the start: %q", first)
		}
		if st := w.state1(l, "a"); st.State != mirrorapi.FollowFollowing || st.Error != "" || st.Heard.IsZero() {
			t.Errorf("%+v", st)
		}
		h.tell(hubapi.EventTree, "/tree/a/", "x/y", "z")
		w.want("a tree", w.after(time.Second), "a by up.mem, perhaps false")
		h.tell(hubapi.EventTree, "/tree/a/", "deep/y")
		w.want("a folder of it", w.after(time.Second), "a by up.mem, perhaps false", "deep by up.mem, perhaps false")
		h.tell(hubapi.EventPublish, "/repo/b/")
		w.want("a repository", w.after(time.Second), "b by up.mem, perhaps false")
		h.tell(hubapi.EventPublish, "/repo/bc/")
		h.tell("something", "/repo/b/")
		w.want("others", w.after(time.Second))
		if st := w.state1(l, "b"); st.Position != "6" || st.Behind != 0 || st.Events != 1 {
			t.Errorf("%+v", st)
		}
		stop()
		for range 3 {
			h.tell(hubapi.EventTree, "/tree/a/", "z")
		}
		_, stop = w.listen(upstreams)
		var sure []string
		for _, s := range w.after(5 * time.Second) {
			if strings.HasSuffix(s, "false") {
				sure = append(sure, s)
			}
		}
		w.want("what was missed", sure, "a by up.mem, perhaps false")
		h.change(func() { h.name, h.events = "two", nil })
		w.want("another log", w.after(11*time.Second), "a by up.mem, perhaps true", "b by up.mem, perhaps true", "deep by up.mem, perhaps true")
		stop()
	})
}

// A sync that finds nothing of what it was told of is done once more: a cache may have
// answered it.
func TestHubAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		w := newWorld(t, h)
		_, stop := w.listen(map[string]string{"a": "hub+http://up.mem/tree/a/"})
		defer stop()
		w.after(5 * time.Second)
		w.mu.Lock()
		w.result = mirrorapi.Unchanged
		w.mu.Unlock()
		h.tell(hubapi.EventTree, "/tree/a/")
		w.want("at once", w.after(time.Second), "a by up.mem, perhaps false")
		w.want("once more", w.after(5*time.Second), "a by up.mem, perhaps false")
		w.want("and no more", w.after(time.Minute))
	})
}

// A hub that is away, has no log or tells without end does not take more of the mirror than
// a little.
func TestHubHostile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		w := newWorld(t, h)
		l, stop := w.listen(map[string]string{"a": "hub+http://up.mem/tree/a/"})
		defer stop()
		w.after(5 * time.Second)
		for status, want := range map[int]mirrorapi.FollowState{http.StatusBadGateway: mirrorapi.FollowAway, http.StatusTeapot: mirrorapi.FollowAway} {
			h.change(func() { h.status, h.asked = status, 0 })
			w.want("away", w.after(5*time.Minute))
			if st := w.state1(l, "a"); st.State != want || st.Error == "" || h.asked > 60 {
				t.Errorf("%d: asked %d times, %+v", status, h.asked, st)
			}
			h.change(func() { h.status = 0 })
			w.after(time.Minute)
			if st := w.state1(l, "a"); st.State != mirrorapi.FollowFollowing || st.Error != "" {
				t.Errorf("back: %+v", st)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ctx.Err() == nil {
				h.tell(hubapi.EventTree, "/tree/a/")
				time.Sleep(5 * time.Millisecond)
			}
		}()
		if n := len(w.after(time.Minute)); n < 10 || n > 121 {
			t.Errorf("%d syncs in a minute", n)
		}
		cancel()
		w.after(time.Second)
	})
}

// other is another mirror, which holds answers back.
type other struct {
	mu         sync.Mutex
	generation string
	more       chan struct{}
	answer     http.HandlerFunc // instead, if it is not nil
	asked      []url.Values
}

func (o *other) serves(generation string, answer http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.generation, o.answer = generation, answer
	if o.more != nil {
		close(o.more)
	}
	o.more = make(chan struct{})
}

func (o *other) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.asked = append(o.asked, r.URL.Query())
	answer, generation, more := o.answer, o.generation, o.more
	o.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	if wait, _ := time.ParseDuration(r.URL.Query().Get("wait")); wait > 0 && r.URL.Query().Get("after") == generation {
		select {
		case <-more:
			o.ServeHTTP(w, r)
			return
		case <-time.After(wait):
		case <-r.Context().Done():
		}
	}
	_ = json.NewEncoder(w).Encode(mirrorapi.Head{Project: "p", Generation: generation})
}

func (o *other) questions() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.asked)
	o.asked = nil
	return n
}

// A project of another mirror is synced when that serves another generation, also if it did
// so while nobody listened.
func TestMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(other)
		o.serves("g1", nil)
		w := newWorld(t, o)
		upstreams := map[string]string{"p": "mirror+http://up.mem/p/"}
		l, stop := w.listen(upstreams)
		w.want("the first one", w.after(time.Second), "p by up.mem, perhaps false")
		w.want("nothing new", w.after(time.Hour))
		if n := o.questions(); n > 3600/10+3 {
			t.Errorf("%d questions in an hour", n)
		}
		o.serves("g2", nil)
		w.want("another one", w.after(time.Millisecond), "p by up.mem, perhaps false")
		if st := w.state1(l, "p"); st.State != mirrorapi.FollowFollowing || st.Position != "g2" || st.Events != 2 {
			t.Errorf("%+v", st)
		}
		stop()
		_, stop = w.listen(upstreams)
		w.want("a restart", w.after(time.Minute))
		stop()
		o.serves("g3", nil)
		_, stop = w.listen(upstreams)
		w.want("missed", w.after(time.Second), "p by up.mem, perhaps false")
		stop()
		names, err := os.ReadDir(w.state.Root.Name())
		if err != nil || len(names) != 1 {
			t.Fatalf("%v, %v", names, err)
		}
		if err := w.state.WriteFile(names[0].Name(), []byte("{damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, stop = w.listen(upstreams)
		defer stop()
		w.want("the file is damaged", w.after(time.Second), "p by up.mem, perhaps false")
	})
}

// Whatever another mirror answers, little is asked of it, and little is done.
func TestMirrorHostile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(other)
		o.serves("g1", nil)
		w := newWorld(t, o)
		l, stop := w.listen(map[string]string{"p": "mirror+http://up.mem/p/"})
		defer stop()
		w.after(time.Second)
		endless := func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, `{"generation":"`)
			for err == nil {
				_, err = io.WriteString(w, strings.Repeat("x", 1<<16))
			}
		}
		n := 0
		for what, c := range map[string]struct {
			answer http.HandlerFunc
			state  mirrorapi.FollowState
			syncs  int // at most, in five minutes
		}{
			"gone":     {http.NotFound, mirrorapi.FollowNoLog, 0},
			"busy":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, mirrorapi.FollowAway, 0},
			"nonsense": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, mirrorapi.FollowAway, 0},
			"nothing":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, mirrorapi.FollowAway, 0},
			"endless":  {endless, mirrorapi.FollowAway, 0},
			"silent":   {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, mirrorapi.FollowAway, 0},
			"long name": {func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(mirrorapi.Head{Generation: strings.Repeat("g", 129)})
			}, mirrorapi.FollowAway, 0},
			"at once": {func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(mirrorapi.Head{Generation: "g1"})
			}, mirrorapi.FollowFollowing, 1},
			"always new": {func(w http.ResponseWriter, _ *http.Request) {
				n++
				_ = json.NewEncoder(w).Encode(mirrorapi.Head{Generation: "new" + strconv.Itoa(n)})
			}, mirrorapi.FollowFollowing, 601},
		} {
			o.serves("g1", c.answer)
			time.Sleep(40 * time.Second) // until it is asked again
			w.after(0)
			o.questions()
			syncs := w.after(5 * time.Minute)
			if st := w.state1(l, "p"); st.State != c.state {
				t.Errorf("%s: %+v", what, st)
			}
			if asked := o.questions(); len(syncs) > c.syncs || asked == 0 || asked > 2*5*60+1 {
				t.Errorf("%s: %d syncs, asked %d times", what, len(syncs), asked)
			}
			o.serves("g1", nil)
			w.after(3 * time.Minute)
			if st := w.state1(l, "p"); st.State != mirrorapi.FollowFollowing || st.Position != "g1" {
				t.Errorf("after %s: %+v", what, st)
			}
		}
	})
}
