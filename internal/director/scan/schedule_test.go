package scan

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
)

// network is web servers that each list one folder, without any network.
type network struct {
	mu    sync.Mutex
	sites map[string]files       // by host
	down  map[string]bool        // connections are refused
	stuck map[string]bool        // nothing is answered
	asked map[string][]time.Time // when a host was asked for its listing
	busy  map[string]int
	most  int // requests at once
}

func newNetwork() *network {
	return &network{
		sites: make(map[string]files), down: make(map[string]bool), stuck: make(map[string]bool),
		asked: make(map[string][]time.Time), busy: make(map[string]int),
	}
}

// RoundTrip implements [http.RoundTripper]. A request takes a second.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	host := r.URL.Host
	n.asked[host] = append(n.asked[host], time.Now())
	n.busy[host]++
	n.most = max(n.most, len(n.busy))
	down, stuck := n.down[host], n.stuck[host]
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		if n.busy[host]--; n.busy[host] == 0 {
			delete(n.busy, host)
		}
		n.mu.Unlock()
	}()
	if stuck {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	time.Sleep(time.Second)
	if down {
		return nil, errors.New("connection refused")
	}
	var text strings.Builder
	text.WriteString("<title>Index of /</title><pre>")
	n.mu.Lock()
	for name, content := range n.sites[host] {
		fmt.Fprintf(&text, "<a href=%q>%s</a> 02-Jan-2024 03:04 %d\n", name, name, len(content))
	}
	n.mu.Unlock()
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(text.String())), Request: r}, nil
}

// do changes something.
func (n *network) do(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// when is how long after begin a host was asked, in minutes.
func (n *network) when(host string, begin time.Time) []float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []float64
	for _, t := range n.asked[host] {
		all = append(all, t.Sub(begin).Minutes())
	}
	return all
}

// catalogueOf has a project "p" with an origin, and mirrors that are listed by HTTP.
func catalogueOf(mirrors ...string) *directorapi.Catalogue {
	c := &directorapi.Catalogue{Projects: []directorapi.Project{{
		Name: "p", Path: "/p/", Origins: []string{"http://origin/"}, Inventory: directorapi.Source{How: directorapi.HowHTTP},
	}}}
	for _, name := range mirrors {
		c.Mirrors = append(c.Mirrors, directorapi.Mirror{Name: name, Carries: []directorapi.Carried{{
			Project: "p", HTTP: "http://" + name + "/", Inventory: directorapi.Source{How: directorapi.HowHTTP},
		}}})
	}
	return c
}

// world runs a scanner of a catalogue in a bubble.
func world(t *testing.T, c *directorapi.Catalogue, o Options) (*Scanner, *network, *shelf) {
	t.Helper()
	n, shelf := newNetwork(), newShelf(c)
	n.sites["origin"] = files{"a": "a", "b": "bb"}
	for _, m := range c.Mirrors {
		n.sites[m.Name] = maps.Clone(n.sites["origin"])
	}
	o.Catalogue, o.Transport, o.Rate = shelf, n, 1000
	return newScanner(t, o), n, shelf
}

// wait lets time pass, and then what is to happen until then.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestScheduleOriginFirstThenAgainAndAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n, _ := world(t, catalogueOf("m1", "m2"), Options{})
		begin := time.Now()
		run(t, s)
		wait(10 * time.Second)
		for _, m := range []string{"", "m1", "m2"} {
			same(t, held(s.o.Inventory, "p", m), map[string]int64{"a": 1, "b": 2})
			if st, ok := s.Status(m, "p"); !ok || !st.Used || st.Files != 2 || st.Error != "" || st.Next.Before(begin.Add(27*time.Minute)) {
				t.Errorf("status of %q: %+v, %v", m, st, ok)
			}
		}
		if first := n.when("m1", begin)[0]; first < n.when("origin", begin)[0]+1.0/60 {
			t.Errorf("a mirror was scanned %v minutes after the beginning, before the origin was known", first)
		}
		wait(100 * time.Minute)
		for host := range n.sites {
			times := n.when(host, begin)
			if len(times) != 4 {
				t.Errorf("%s was scanned at %v minutes, want every 30", host, times)
			}
			for i := 1; i < len(times); i++ {
				if d := times[i] - times[i-1]; d < 27 || d > 33.1 {
					t.Errorf("%s: %v minutes between scans", host, d)
				}
			}
		}
		if list := s.Statuses("", "p"); len(list) != 3 || list[0].Mirror != "" || list[2].Mirror != "m2" {
			t.Errorf("statuses %+v", list)
		}
		if list := s.Statuses("m2", ""); len(list) != 1 {
			t.Errorf("statuses of m2 %+v", list)
		}
	})
}

func TestScheduleBacksOffAndExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n, _ := world(t, catalogueOf("m1"), Options{MaxAge: 5 * time.Hour})
		run(t, s)
		wait(time.Minute)
		n.do(func() { n.down["m1"] = true })
		wait(34 * time.Minute)
		st, _ := s.Status("m1", "p")
		if st.Failures == 0 || !st.Used || st.Cause != string(Unreachable) || st.Failed.IsZero() {
			t.Errorf("after a failure: %+v", st)
		}
		n.do(func() { n.asked["m1"] = nil })
		wait(4 * time.Hour)
		if tries := len(n.when("m1", time.Now())) / attempts; tries < 6 || tries > 12 {
			t.Errorf("tried %d times in four hours", tries)
		}
		if len(held(s.o.Inventory, "p", "m1")) != 2 {
			t.Error("what was known is not used any more, too early")
		}
		wait(2 * time.Hour)
		if st, _ = s.Status("m1", "p"); st.Used || len(held(s.o.Inventory, "p", "m1")) != 0 || !s.Updated("m1", "p").IsZero() {
			t.Errorf("what was known six hours ago is still used: %+v", st)
		}
		n.do(func() { n.down["m1"] = false })
		wait(2 * time.Hour)
		if st, _ = s.Status("m1", "p"); !st.Used || st.Failures != 0 || st.Error != "" || len(held(s.o.Inventory, "p", "m1")) != 2 {
			t.Errorf("it works again, and is not used: %+v", st)
		}
		// The origin's files are known for as long as it takes.
		n.do(func() { n.down["origin"] = true })
		wait(100 * time.Hour)
		if len(held(s.o.Inventory, "p", "")) != 2 {
			t.Error("the origin's files are forgotten")
		}
	})
}

func TestHasten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n, _ := world(t, catalogueOf("m1"), Options{})
		run(t, s)
		wait(5 * time.Minute)
		n.do(func() { n.sites["m1"]["a"] = "another length" })
		if !s.Hasten("m1", "", "three reports") || s.Hasten("m1", "other", "x") || s.Hasten("nobody", "", "x") {
			t.Error("hastened what is not there, or not what is")
		}
		synctest.Wait()
		if st, _ := s.Status("m1", "p"); !st.Running || st.Reason != "three reports" {
			t.Errorf("not running at once: %+v", st)
		}
		wait(2 * time.Second)
		same(t, held(s.o.Inventory, "p", "m1"), map[string]int64{"b": 2})
		// Not more often than once a minute, however often somebody asks.
		n.do(func() { n.asked["m1"] = nil })
		for range 30 {
			s.Hasten("m1", "p", "again")
			wait(10 * time.Second)
		}
		if times := n.when("m1", time.Now()); len(times) < 4 || len(times) > 5 {
			t.Errorf("scanned %d times in five minutes", len(times))
		}
	})
}

func TestCatalogueChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n, shelf := world(t, catalogueOf("m1", "m2", "m3"), Options{})
		run(t, s)
		wait(10 * time.Second)
		n.do(func() { n.stuck["m3"] = true; n.sites["elsewhere"] = files{"b": "bb", "a": "a"} })
		s.Hasten("m3", "p", "to be stuck")
		wait(time.Minute)
		if st, _ := s.Status("m3", "p"); !st.Running {
			t.Fatalf("not running: %+v", st)
		}
		next := catalogueOf("m1", "m2")
		next.Mirrors[1].Carries[0].HTTP = "http://elsewhere/"
		shelf.put(next)
		wait(2 * time.Second)
		if _, ok := s.Status("m3", "p"); ok || len(held(s.o.Inventory, "p", "m3")) != 0 {
			t.Error("a mirror is known that the catalogue does not have")
		}
		if len(n.when("elsewhere", time.Now())) != 1 {
			t.Error("a mirror that has moved was not scanned at once")
		}
		next = catalogueOf("m1", "m2")
		next.Mirrors[0].Disabled = true
		shelf.put(next)
		wait(time.Second)
		if len(held(s.o.Inventory, "p", "m1")) != 0 {
			t.Error("a disabled mirror is known")
		}
		next = catalogueOf("m1", "m2")
		next.Projects[0].Disabled = true
		shelf.put(next)
		wait(time.Second)
		if len(s.Statuses("", "")) != 0 || len(s.o.Inventory.Projects()) != 0 {
			t.Error("a disabled project is known")
		}
	})
}

// An inventory that was read from disk is used, and not asked for again before its time;
// without a catalogue, nothing of it is forgotten.
func TestScheduleAfterStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inv := new(inventory.Inventory)
		publish(t, inv, "p", map[string]int64{"a": 1})
		s, n, shelf := world(t, new(directorapi.Catalogue), Options{Inventory: inv})
		run(t, s)
		wait(time.Minute)
		if len(inv.Projects()) != 1 {
			t.Fatal("forgotten before there is a catalogue")
		}
		shelf.put(catalogueOf("m1"))
		n.do(func() { n.sites["m1"] = files{"a": "a"} })
		wait(20 * time.Second)
		if len(n.when("origin", time.Now())) != 0 || len(n.when("m1", time.Now())) != 1 {
			t.Error("the origin was scanned before its time, or a mirror was not")
		}
	})
}

func TestScansAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n, _ := world(t, catalogueOf("m1", "m2", "m3", "m4", "m5", "m6"), Options{AtOnce: 2})
		run(t, s)
		wait(time.Minute)
		if n.most != 2 || len(held(s.o.Inventory, "p", "m6")) != 2 {
			t.Errorf("%d scans at once, want 2, and all done", n.most)
		}
	})
}

// A server that says nothing, or without end, does not hold a scan for ever.
func TestScanEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n, _ := world(t, catalogueOf("m1"), Options{})
		n.stuck["m1"] = true
		run(t, s)
		wait(5 * time.Minute)
		if st, _ := s.Status("m1", "p"); st.Failures != 1 || st.Cause != string(Silent) {
			t.Errorf("a silent server: %+v", st)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, n, _ := world(t, catalogueOf("m1"), Options{Longest: 20 * time.Second})
		n.stuck["m1"] = true
		run(t, s)
		wait(30 * time.Second)
		if st, _ := s.Status("m1", "p"); st.Failures != 1 || st.Cause != string(TooLong) {
			t.Errorf("a scan that takes too long: %+v", st)
		}
	})
}
