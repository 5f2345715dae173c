package hubapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
)

// eventLog is a hub's event log that keeps the contract.
type eventLog struct {
	mu      sync.Mutex
	log     string
	head    int64
	first   int64 // events below are gone; 0: none
	grown   chan struct{}
	tailMin int64 // the tail answers only with events from here on
	asked   []string
	down    func(n int) int // status of the n-th request, 0 to answer
}

func newLog(name string, head int64) *eventLog {
	return &eventLog{log: name, head: head, grown: make(chan struct{})}
}

func (l *eventLog) grow(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head += n
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *eventLog) events(from, to int64) []hubapi.Event {
	list := []hubapi.Event{}
	for s := max(from, 1); s <= to; s++ {
		list = append(list, hubapi.Event{Serial: s, Kind: hubapi.EventTree, Repo: "r" + strconv.FormatInt(s, 10)})
	}
	return list
}

func (l *eventLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.asked = append(l.asked, r.URL.RequestURI())
	n := len(l.asked)
	l.mu.Unlock()
	if l.down != nil {
		if status := l.down(n); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	if page, ok := strings.CutPrefix(r.URL.Path, hubapi.EventsPath+"/page/"); ok {
		n, _ := strconv.ParseInt(page, 10, 64)
		l.mu.Lock()
		defer l.mu.Unlock()
		from, to := n*hubapi.EventPageSize+1, (n+1)*hubapi.EventPageSize
		if from > l.head || from < l.first {
			answer(w, 404, hubapi.Error{Status: 404, Kind: hubapi.ErrNotFound})
			return
		}
		// As it was when the page became full: its head is old.
		answer(w, 200, hubapi.EventPage{Log: l.log, Events: l.events(from, min(to, l.head)), Head: min(to, l.head)})
		return
	}
	if r.URL.Path != hubapi.EventsPath {
		http.NotFound(w, r)
		return
	}
	after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		w.WriteHeader(400)
		return
	}
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	deadline := time.After(wait)
	for over := false; ; {
		l.mu.Lock()
		if l.head > after || over || wait == 0 {
			defer l.mu.Unlock()
			from := max(after+1, l.tailMin)
			answer(w, 200, hubapi.EventPage{Log: l.log, Events: l.events(from, min(l.head, from+99)), Head: l.head})
			return
		}
		grown := l.grown
		l.mu.Unlock()
		select {
		case <-grown:
		case <-deadline:
			over = true
		case <-r.Context().Done():
			return
		}
	}
}

func collect(ctx context.Context, c *hubapi.Client, after hubapi.Cursor, until int64) ([]int64, error) {
	var got []int64
	for event, err := range c.Follow(ctx, after) {
		if err != nil {
			return got, err
		}
		if got = append(got, event.Serial); event.Serial >= until {
			return got, nil
		}
	}
	return got, errors.New("loop ended without an error")
}

func span(from, to int64) []int64 {
	var list []int64
	for ; from <= to; from++ {
		list = append(list, from)
	}
	return list
}

// Far behind, the follower reads whole pages, and its tail only at the end.
func TestFollowPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog("A", 1234)
		c := serve(t, l)
		got, err := collect(t.Context(), c, hubapi.Cursor{}, 1234)
		if err != nil || !slices.Equal(got, span(1, 1234)) {
			t.Fatalf("%v, %d events", err, len(got))
		}
		pages := 0
		for _, uri := range l.asked {
			if strings.Contains(uri, "/page/") {
				pages++
			}
		}
		if pages < 10 || len(l.asked) > pages+3 {
			t.Errorf("asked %q", l.asked)
		}
	})
}

func TestFollowFromTheMiddle(t *testing.T) {
	for _, after := range []int64{1, 99, 100, 101, 199, 250, 399, 400, 433} {
		synctest.Test(t, func(t *testing.T) {
			c := serve(t, newLog("A", 434))
			got, err := collect(t.Context(), c, hubapi.Cursor{Log: "A", Serial: after}, 434)
			if err != nil || !slices.Equal(got, span(after+1, 434)) {
				t.Errorf("after %d: %v %v", after, got, err)
			}
		})
	}
}

// At the end of the log the follower learns of an event when it happens, and
// is told at once that it has caught up.
func TestFollowLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog("A", 3)
		c := serve(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		type seen struct {
			batch hubapi.Batch
			at    time.Duration
		}
		started := time.Now()
		batches := make(chan seen)
		ended := make(chan error, 1)
		go func() {
			for b, err := range c.FollowBatches(ctx, hubapi.Cursor{Log: "A", Serial: 3}, hubapi.FollowOptions{}) {
				if err != nil {
					ended <- err
					return
				}
				batches <- seen{b, time.Since(started)}
			}
		}()
		if first := <-batches; first.at > time.Second || !first.batch.CaughtUp() || len(first.batch.Events) != 0 {
			t.Errorf("first %+v", first)
		}
		if second := <-batches; second.at != 30*time.Second || !second.batch.CaughtUp() {
			t.Errorf("second %+v", second)
		}
		time.Sleep(7 * time.Second)
		l.grow(2)
		if third := <-batches; third.at != 37*time.Second || !third.batch.CaughtUp() ||
			third.batch.Cursor != (hubapi.Cursor{Log: "A", Serial: 5}) || len(third.batch.Events) != 2 {
			t.Errorf("third %+v", third)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("end %v", err)
		}
	})
}

// A hub that does not hold answers back is asked now and then, not at once.
func TestFollowHurriedHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		tr := roundTrip(func(*http.Request) (*http.Response, error) {
			asked++
			body := io.NopCloser(strings.NewReader(`{"log":"A","events":[],"head":3}`))
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body}, nil
		})
		c := hubapi.Client{Base: "http://hub.mem", HTTP: &http.Client{Transport: tr}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, err := range c.FollowBatches(ctx, hubapi.Cursor{Log: "A", Serial: 3}, hubapi.FollowOptions{}) {
			if err != nil {
				break
			}
		}
		if asked < 5 || asked > 15 {
			t.Errorf("asked %d times in a minute", asked)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A tail that does not reach back to the cursor is completed from the pages.
func TestFollowGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog("A", 60)
		l.tailMin = 50
		c := serve(t, l)
		got, err := collect(t.Context(), c, hubapi.Cursor{Log: "A", Serial: 5}, 60)
		if err != nil || !slices.Equal(got, span(6, 60)) {
			t.Errorf("%v %v", got, err)
		}
	})
}

func TestFollowVoidCursor(t *testing.T) {
	for name, test := range map[string]struct {
		log   *eventLog
		after hubapi.Cursor
		now   hubapi.Cursor
	}{
		"other log":   {newLog("B", 9), hubapi.Cursor{Log: "A", Serial: 4}, hubapi.Cursor{Log: "B", Serial: 9}},
		"shorter log": {newLog("A", 9), hubapi.Cursor{Log: "A", Serial: 10}, hubapi.Cursor{Log: "A", Serial: 9}},
		"events gone": {
			&eventLog{log: "A", head: 500, first: 300, tailMin: 300},
			hubapi.Cursor{Log: "A", Serial: 10},
			hubapi.Cursor{Log: "A", Serial: 500},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serve(t, test.log)
				got, err := collect(t.Context(), c, test.after, 1000)
				e, ok := errors.AsType[*hubapi.CursorError](err)
				if !ok || e.Cursor != test.after || e.Now != test.now || len(got) != 0 {
					t.Fatalf("%v %#v", got, err)
				}
			})
		})
	}
}

// The log is replaced while it is being followed.
func TestFollowLogChangesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog("A", 3)
		c := serve(t, l)
		go func() {
			time.Sleep(time.Minute)
			l.mu.Lock()
			l.log = "B"
			l.mu.Unlock()
		}()
		got, err := collect(t.Context(), c, hubapi.Cursor{}, 1000)
		if e, ok := errors.AsType[*hubapi.CursorError](err); !ok || e.Now.Log != "B" || len(got) != 3 {
			t.Errorf("%v %v", got, err)
		}
	})
}

func TestFollowNoEventLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serve(t, http.NotFoundHandler())
		if _, err := collect(t.Context(), c, hubapi.Cursor{}, 1); !errors.Is(err, hubapi.ErrNoEventLog) {
			t.Errorf("%v", err)
		}
		if _, err := c.Events(t.Context(), 0, 0, 0); !errors.Is(err, hubapi.ErrNoEventLog) {
			t.Errorf("%v", err)
		}
	})
}

// A hub that is away is waited for; whoever follows is told, and gets the
// next batch without delay when it is back.
func TestFollowTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog("A", 3)
		l.down = func(n int) int {
			switch {
			case n > 2 && n < 12:
				return 502
			case n == 12:
				return 404 // a proxy without its hub: there was a log before
			case n == 13:
				return 401
			}
			return 0
		}
		c := serve(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var story []string
		opts := hubapi.FollowOptions{Wait: time.Minute, Trouble: func(err error, pause time.Duration) {
			e, _ := errors.AsType[*hubapi.Error](err)
			if pause < 100*time.Millisecond || pause > 30*time.Second {
				t.Errorf("pause of %v", pause)
			}
			story = append(story, strconv.Itoa(e.Status))
		}}
		for b, err := range c.FollowBatches(ctx, hubapi.Cursor{}, opts) {
			if err != nil {
				t.Fatal(err)
			}
			story = append(story, fmt.Sprint(b.Cursor.Serial, b.CaughtUp()))
			if len(story) > 2 {
				break
			}
			if len(story) == 2 { // after the second, caught up and waiting
				l.grow(1)
			}
		}
		want := []string{"3 true", "3 true"}
		for range 9 {
			want = append(want, "502")
		}
		want = append(want, "404", "401", "4 true")
		if !slices.Equal(story, want) {
			t.Errorf("story %q", story)
		}
	})
}

// An answer that breaks the order is not passed on.
func TestFollowRefusesDisorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			serials := [][]int64{{1, 3}, {2, 1}, {1, 1}, {1, 2, 3}}[n]
			n++
			page := hubapi.EventPage{Log: "A", Head: 3}
			for _, s := range serials {
				page.Events = append(page.Events, hubapi.Event{Serial: s})
			}
			answer(w, 200, page)
		}))
		got, err := collect(t.Context(), c, hubapi.Cursor{}, 3)
		if err != nil || !slices.Equal(got, span(1, 3)) {
			t.Errorf("%v %v", got, err)
		}
	})
}
