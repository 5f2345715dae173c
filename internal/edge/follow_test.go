package edge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
)

// eventLog is a hub's event log, as far as its readers can tell.
type eventLog struct {
	mu     sync.Mutex
	name   string
	events []hubapi.Event
	news   chan struct{}
	away   bool
}

func newEventLog(name string) *eventLog { return &eventLog{name: name, news: make(chan struct{})} }

// publish adds an event.
func (l *eventLog) publish(base string, changed ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, hubapi.Event{
		Serial: int64(len(l.events) + 1), Time: time.Now(), Kind: hubapi.EventPublish, Repo: "stable", Base: base, Changed: changed,
	})
	close(l.news)
	l.news = make(chan struct{})
}

func (l *eventLog) setAway(away bool) {
	l.mu.Lock()
	l.away = away
	close(l.news)
	l.news = make(chan struct{})
	l.mu.Unlock()
}

func (l *eventLog) serve(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	if page, ok := strings.CutPrefix(r.URL.Path, hubapi.EventsPath+"/page/"); ok {
		n, _ := strconv.ParseInt(page, 10, 64)
		after, wait = n*hubapi.EventPageSize, 0
	}
	timeout := time.After(wait)
	for {
		l.mu.Lock()
		page := hubapi.EventPage{Log: l.name, Head: int64(len(l.events))}
		if after < page.Head {
			page.Events = l.events[after:min(page.Head, after+hubapi.EventPageSize)]
		}
		away, news := l.away, l.news
		l.mu.Unlock()
		if away {
			panic(http.ErrAbortHandler)
		}
		if len(page.Events) > 0 || wait == 0 {
			_ = json.NewEncoder(w).Encode(page)
			return
		}
		select {
		case <-news:
		case <-timeout:
			wait = 0
		case <-r.Context().Done():
			return
		}
	}
}

// newHub is a world whose origin is a hub: files and an event log.
func newHub(t *testing.T, cfg Config, files *static, log *eventLog) *world {
	t.Helper()
	if cfg.Follow == "" {
		cfg.Follow = "auto"
	}
	return newWorld(t, cfg, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, hubapi.EventsPath) {
			log.serve(w, r)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=30, s-maxage=60")
		files.serve(w, r)
	})
}

func (w *world) following(want bool) {
	w.t.Helper()
	synctest.Wait()
	if got := w.metric("freshet_edge_following", "default") == 1; got != want {
		w.t.Errorf("following is %v, want %v", got, want)
	}
}

func TestEventsPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/stable/summary": "s1", "/repo/stable/summary.sig": "sig1", "/repo/beta/summary": "b1"})
		log := newEventLog("log-a")
		w := newHub(t, Config{}, files, log)
		w.following(true)
		for _, p := range []string{"/repo/stable/summary", "/repo/stable/summary.sig", "/repo/beta/summary"} {
			w.get(p)
		}
		// As publishing purges, pointers stay fresh for an hour.
		time.Sleep(59 * time.Minute)
		w.want(w.get("/repo/stable/summary"), "s1", "hit; ttl=60")
		w.wantFetches(5) // with a signature that is not there, and one look again for the pair that shows nothing

		files.set("/repo/stable/summary", "s2")
		files.set("/repo/stable/summary.sig", "sig2")
		log.publish("/repo/stable/", "summary", "summary.sig")
		begun := time.Now()
		synctest.Wait()
		w.want(w.get("/repo/stable/summary.sig"), "sig2", "hit") // nobody waits
		w.want(w.get("/repo/stable/summary"), "s2", "hit")
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the publish showed after %v", took)
		}
		w.want(w.get("/repo/beta/summary"), "b1", "hit")
		w.want(w.get("/repo/stable/summary"), "s2", "hit")
		w.wantFetches(8)
		if got := w.metric("freshet_edge_events_total", ""); got != 1 {
			t.Errorf("%v events applied", got)
		}
	})
}

// A purge reaches a fetch that is under way: its answer may be the old one.
func TestEventDuringFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/summary": "old"})
		log := newEventLog("log-a")
		var delay time.Duration
		w := newWorld(t, Config{Follow: "auto"}, func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/api/") {
				log.serve(rw, r)
				return
			}
			rw.Header().Set("Etag", `"x`+strconv.Itoa(len(files.files))+`"`)
			files.mu.Lock()
			body := files.files[r.URL.Path]
			files.mu.Unlock()
			time.Sleep(delay)
			_, _ = io.WriteString(rw, body)
		})
		w.following(true)
		delay = 2 * time.Second
		var wg sync.WaitGroup
		wg.Go(func() {
			if a := w.get("/repo/summary"); a.body != "old" && a.body != "new" {
				t.Errorf("who asked before the event got %d %q", a.status, a.body)
			}
		})
		time.Sleep(time.Second)
		files.set("/repo/summary", "new")
		log.publish("/repo/", "summary")
		synctest.Wait()
		// Who asks after the event does not join the fetch from before it.
		wg.Go(func() { w.want(w.get("/repo/summary"), "new", "fwd=uri-miss") })
		wg.Wait()
		w.want(w.get("/repo/summary"), "new", "hit")
	})
}

func TestHubAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/summary": "one"})
		log := newEventLog("log-a")
		w := newHub(t, Config{}, files, log)
		w.following(true)
		w.get("/repo/summary")
		time.Sleep(10 * time.Minute)
		w.want(w.get("/repo/summary"), "one", "hit")
		// Without events only the short lifetime counts.
		log.setAway(true)
		w.following(false)
		w.want(w.get("/repo/summary"), "one", "fwd=stale; fwd-status=304")
		time.Sleep(50 * time.Second)
		w.want(w.get("/repo/summary"), "one", "hit; ttl=10")
		// What was published meanwhile is known before anything is fresh again.
		files.set("/repo/summary", "two")
		log.publish("/repo/", "summary")
		time.Sleep(5 * time.Second)
		w.want(w.get("/repo/summary"), "one", "hit; ttl=5")
		log.setAway(false)
		for w.metric("freshet_edge_following", "default") == 0 {
			time.Sleep(time.Second)
		}
		w.want(w.get("/repo/summary"), "two", "hit") // it came with the event
	})
}

// While the edge reads what it missed, page by page, nothing that a later page
// may change is fresh.
func TestNotFreshWhileCatchingUp(t *testing.T) {
	for name, path := range map[string]string{"a pointer": "/repo/summary", "a file of which HTTP alone says how long it lasts": "/repo/state.txt"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { notFreshWhileCatchingUp(t, path) })
		})
	}
}

func notFreshWhileCatchingUp(t *testing.T, path string) {
	files := newStatic(map[string]string{path: "one"})
	log := newEventLog("log-a")
	var slow time.Duration
	w := newWorld(t, Config{Follow: "auto"}, func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			rw.Header().Set("Cache-Control", "max-age=3600")
			files.serve(rw, r)
			return
		}
		if strings.Contains(r.URL.Path, "/page/") {
			time.Sleep(slow)
		}
		log.serve(rw, r)
	})
	w.following(true)
	log.setAway(true)
	w.following(false)
	slow = 5 * time.Second
	for range 250 {
		log.publish("/repo/", "other")
	}
	log.publish("/repo/", strings.TrimPrefix(path, "/repo/"))
	log.setAway(false)
	for w.metric("freshet_edge_events_total", "") == 0 {
		w.get(path) // by its short lifetime only
		time.Sleep(100 * time.Millisecond)
	}
	w.want(w.get(path), "one", "fwd=stale; fwd-status=304")
	for w.metric("freshet_edge_following", "default") == 0 {
		time.Sleep(100 * time.Millisecond)
	}
	if path == "/repo/summary" {
		w.want(w.get(path), "one", "hit") // confirmed when the event came
	} else {
		w.want(w.get(path), "one", "fwd=stale; fwd-status=304")
	}
	w.want(w.get(path), "one", "hit")
}

func TestCatchUpAfterRestart(t *testing.T) {
	for _, missed := range []int{0, 1, 250} {
		t.Run(strconv.Itoa(missed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				files := newStatic(map[string]string{"/repo/summary": "one", "/repo/other/summary": "other"})
				log := newEventLog("log-a")
				for range 10 {
					log.publish("/repo/", "summary")
				}
				w := newHub(t, Config{}, files, log)
				w.following(true)
				w.get("/repo/summary")
				w.get("/repo/other/summary")
				w.stop()
				for range missed {
					log.publish("/repo/", "summary")
				}
				files.set("/repo/summary", "two")
				w.start()
				w.following(true)
				if missed > 0 {
					w.want(w.get("/repo/summary"), "two", "hit") // fetched while it caught up
				} else {
					w.want(w.get("/repo/summary"), "one", "hit")
				}
				w.want(w.get("/repo/other/summary"), "other", "hit")
			})
		})
	}
}

// While it is not known what was missed, a pointer is not fresh, however young.
func TestNotFreshBeforeCaughtUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/summary": "one", objectOf("c"): "c"})
		log := newEventLog("log-a")
		gate := make(chan struct{})
		close(gate)
		w := newWorld(t, Config{Follow: "auto"}, func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/api/") {
				select {
				case <-gate:
				case <-r.Context().Done():
					return
				}
				log.serve(rw, r)
				return
			}
			files.serve(rw, r)
		})
		w.following(true)
		w.get("/repo/summary")
		w.get(objectOf("c"))
		w.stop()
		gate = make(chan struct{})
		w.start()
		w.following(false)
		w.want(w.get("/repo/summary"), "one", "fwd=stale; fwd-status=304")
		w.want(w.get("/repo/summary"), "one", "fwd=stale; fwd-status=304")
		w.want(w.get(objectOf("c")), "c", "hit")
		close(gate)
		w.following(true)
		w.want(w.get("/repo/summary"), "one", "hit")
	})
}

func TestAnotherLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/summary": "one", "/repo/a.rpm": "a", objectOf("c"): "c"})
		log := newEventLog("log-a")
		for range 5 {
			log.publish("/repo/", "summary")
		}
		w := newHub(t, Config{}, files, log)
		w.following(true)
		for p := range files.files {
			w.get(p)
		}
		w.wantFetches(4) // with the signature that is not there
		// The hub was started anew: nobody knows what happened meanwhile.
		log.mu.Lock()
		log.name, log.events = "log-b", nil
		log.mu.Unlock()
		files.set("/repo/summary", "two")
		w.restart()
		w.following(true)
		w.want(w.get("/repo/summary"), "two", "fwd=stale")
		w.want(w.get(objectOf("c")), "c", "hit")
		w.wantFetches(6)
		var cursor hubapi.Cursor
		data, err := os.ReadFile(filepath.Join(w.cfg.Store, "cursors", "default.json"))
		if err == nil {
			err = json.Unmarshal(data, &cursor)
		}
		if err != nil || cursor.Log != "log-b" || cursor.Serial != 0 {
			t.Errorf("cursor on disk: %s, %v", data, err)
		}
	})
}

// While nobody told of it, an object was repaired, and a package replaced under its
// name: after the gap they are asked for again, once, and those whose bytes are what
// their name says are not. What is asked for while the log begins anew is no
// exception.
func TestRepairedInTheGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		file, long := "/repo/objects/0a/"+strings.Repeat("0a", 31)+".filez", "/repo/objects/0b/"+strings.Repeat("0b", 31)+".filez"
		sound := strings.Repeat("sound", 2<<20)
		files := newStatic(map[string]string{file: "damaged", long: strings.Repeat("wrong", 2<<20), "/repo/a.rpm": "a", objectOf("c"): "c"})
		log := newEventLog("log-a")
		log.publish("/repo/", "summary")
		w := newHub(t, Config{}, files, log)
		w.following(true)
		for p := range files.files {
			w.get(p)
		}
		w.get(long, "Range: bytes=0-9")
		w.wantFetches(4)
		log.mu.Lock()
		log.name, log.events = "log-b", nil
		log.mu.Unlock()
		files.set(file, "sound")
		files.set(long, sound)
		files.set("/repo/a.rpm", "b")
		w.restart()
		w.following(true)
		for range 2 {
			for p, want := range map[string]string{file: "sound", long: sound, "/repo/a.rpm": "b", objectOf("c"): "c"} {
				if a := w.get(p); a.body != want {
					t.Errorf("%s: %d %.20q", p, a.status, a.body)
				}
			}
		}
		w.wantFetches(7)
		// What is there again is fresh for good, and while the origin is away.
		files.down.Store(true)
		time.Sleep(24 * time.Hour)
		w.want(w.get(file), "sound", "hit")
		w.restart()
		w.want(w.get(file), "sound", "hit")
	})
}

// What an event made stale is stale after a crash as well: the mark is in the
// entry's file before the cursor moves.
func TestPurgeSurvivesRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/tree/a.rpm": "one"})
		log := newEventLog("log-a")
		w := newHub(t, Config{}, files, log)
		w.following(true)
		w.get("/tree/a.rpm")
		files.set("/tree/a.rpm", "two")
		log.publish("/tree/", "a.rpm")
		w.following(true)
		w.restart()
		w.following(true)
		w.want(w.get("/tree/a.rpm"), "two", "fwd=stale")
	})
}

func TestOriginWithoutLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/summary": "one"})
		w := newWorld(t, Config{Follow: "auto"}, files.serve)
		w.following(false)
		w.want(w.get("/repo/summary"), "one", "fwd=uri-miss")
		time.Sleep(55 * time.Second)
		w.want(w.get("/repo/summary"), "one", "hit; ttl=5")
	})
}

// A pointer that came through another cache may be older than the events say.
func TestPointerThroughAnotherCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/summary": "one"})
		log := newEventLog("log-a")
		w := newWorld(t, Config{Follow: "http://hub.mem"}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Age", "20")
			files.serve(rw, r)
		})
		w.serve("hub", log.serve)
		for w.metric("freshet_edge_following", "default") == 0 {
			time.Sleep(time.Second)
		}
		w.get("/repo/summary")
		a := w.get("/repo/summary")
		w.want(a, "one", "hit; ttl=40")
		if a.header.Get("Age") != "20" {
			t.Errorf("Age %q", a.header.Get("Age"))
		}
	})
}

// Without events the members of a set still do not stay apart: when one turns
// out to have changed, the others are asked for anew.
func TestSetMembersAreValidatedTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/summary": "s1", "/repo/summary.sig": "sig1"})
		w := newWorld(t, Config{}, files.serve)
		w.get("/repo/summary.sig")
		time.Sleep(55 * time.Second)
		w.get("/repo/summary") // fresh for 55 s longer than its signature
		files.set("/repo/summary", "s2")
		files.set("/repo/summary.sig", "sig2")
		time.Sleep(10 * time.Second)
		w.want(w.get("/repo/summary.sig"), "sig1", "hit; ttl=-5") // refreshed meanwhile
		synctest.Wait()
		w.want(w.get("/repo/summary.sig"), "sig2", "hit")
		w.want(w.get("/repo/summary"), "s2", "hit")
	})
}

// Publishing again and again, a client that reads the pair after the event
// never gets two generations.
func TestPairsAfterEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/repo/summary": "0", "/repo/summary.sig": "0"})
		log := newEventLog("log-a")
		w := newHub(t, Config{}, files, log)
		w.following(true)
		for n := 1; n <= 50; n++ {
			want := strconv.Itoa(n)
			files.set("/repo/summary", want)
			files.set("/repo/summary.sig", want)
			log.publish("/repo/", "summary", "summary.sig")
			synctest.Wait()
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					first, second := "/repo/summary.sig", "/repo/summary"
					if i%2 == 0 {
						first, second = second, first
					}
					if a, b := w.get(first).body, w.get(second).body; a != want || b != want {
						t.Errorf("generation %d: got %s and %s", n, a, b)
					}
				})
			}
			wg.Wait()
		}
		if got := w.fetches.Load(); got > 153 { // one asks again for the first
			t.Errorf("%d fetches for 50 generations of two files", got)
		}
	})
}

func TestPathsOfEvents(t *testing.T) {
	event := hubapi.Event{Base: "/repo/stable/", Changed: []string{"summary", "refs/heads/x"}}
	for origin, want := range map[string]string{
		"http://hub":              "[/repo/stable/summary /repo/stable/refs/heads/x]",
		"http://hub/repo/stable":  "[/summary /refs/heads/x]",
		"http://hub/repo/stable/": "[/summary /refs/heads/x]",
		"http://hub/repo/sta":     "[]",
		"http://hub/repo/beta":    "[]",
	} {
		e := &Edge{cfg: Config{}.WithDefaults()}
		e.env = e.env.WithDefaults()
		s, err := e.newSite("", SiteConfig{Origin: origin})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(s.paths(event)); got != want {
			t.Errorf("%s: %s, want %s", origin, got, want)
		}
	}
}

// An origin cached by HTTP alone is not asked whether it is a hub, unless
// somebody says so.
func TestPlainOriginsAreNotFollowed(t *testing.T) {
	for follow, want := range map[string]bool{followAuto: false, followOn: true, "http://origin.mem": true} {
		bubble(t, func(t *testing.T) {
			var asked atomic.Int32
			newWorld(t, Config{Rules: rulesNone, Follow: follow}, func(_ http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, hubapi.EventsPath) {
					asked.Add(1)
				}
			})
			time.Sleep(time.Hour)
			if got := asked.Load() > 0; got != want {
				t.Errorf("follow = %q with rules = none: asked for events %v, want %v", follow, got, want)
			}
		})
	}
}
