package share_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/orders"
	"freshet/internal/director/share"
	"freshet/internal/inventory"
	"freshet/internal/memnet"
)

// world is a network of directors, in a bubble of its own time.
type world struct {
	t       *testing.T
	network memnet.Network
	client  *http.Client
	log     syncBuffer
	token   string
	hash    string
	stops   []func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	transport := &http.Transport{DialContext: w.network.DialContext}
	w.client = &http.Client{Transport: transport}
	w.token, w.hash = control.NewToken("fd_")
	t.Cleanup(func() {
		for _, stop := range w.stops {
			stop()
		}
		transport.CloseIdleConnections()
	})
	return w
}

// serve answers with an inventory under a name, until stop is called.
func (w *world) serve(name string, v *inventory.Inventory) (stop func()) {
	w.t.Helper()
	desk, err := orders.Open(orders.Config{Clients: map[string]orders.ClientConfig{
		"other": {Token: w.hash, Allow: []string{directorapi.RightRead}},
	}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, end := context.WithCancel(w.t.Context())
	mux := http.NewServeMux()
	share.NewServer(ctx, desk, v).Register(mux.Handle)
	return w.listen(name, mux, end)
}

func (w *world) listen(name string, h http.Handler, end func()) (stop func()) {
	w.t.Helper()
	ln, err := w.network.Listen("mem:" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(ln) }()
	stop = sync.OnceFunc(func() { end(); _ = srv.Close() })
	w.stops = append(w.stops, stop)
	return stop
}

// follow follows somebody.
func (w *world) follow(from string, v *inventory.Inventory) {
	w.t.Helper()
	f, err := share.NewFollower(share.Options{
		From: from, Token: w.token, Inventory: v, HTTP: w.client, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	w.stops = append(w.stops, func() { stop(); <-done })
}

// list makes a mirror, or the origin, have n files.
func list(t *testing.T, v *inventory.Inventory, name string, n int) {
	t.Helper()
	h, err := v.Holder(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Project("p").Replace(h, inventory.Listing{Entries: entries(n)}); err != nil {
		t.Fatal(err)
	}
}

func entries(n int) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		for i := range n {
			if !yield(inventory.Entry{Path: fmt.Sprintf("d%d/f", i), Size: int64(i)}, nil) {
				return
			}
		}
	}
}

// has checks how many files mirrors and the origin have.
func (w *world) has(when string, v *inventory.Inventory, want map[string]int) {
	w.t.Helper()
	synctest.Wait()
	for name, n := range want {
		h, _ := v.Lookup(name)
		if got := v.Project("p").View().Standing(h).Files; got != n {
			w.t.Errorf("%s: %q has %d files, want %d\n%s", when, name, got, n, w.log.String())
		}
	}
}

// Changes are there within two seconds, over several directors, and what is known stays
// when nobody answers.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var leader, middle, last inventory.Inventory
		list(t, &leader, "", 100)
		stop := w.serve("leader", &leader)
		w.serve("middle", &middle)
		w.follow("http://leader.mem", &middle)
		time.Sleep(time.Second)
		w.follow("http://middle.mem/director/v1/inventory", &last)
		w.has("at first", &middle, map[string]int{"": 100})
		w.has("at first", &last, map[string]int{"": 100})

		for n := range 20 {
			list(t, &leader, fmt.Sprint("m", n), 50+n)
			time.Sleep(2 * time.Second)
			w.has("a scan", &middle, map[string]int{fmt.Sprint("m", n): 50 + n})
		}
		time.Sleep(2 * time.Second)
		w.has("all scans", &last, map[string]int{"m0": 50, "m19": 69})

		time.Sleep(10 * time.Minute) // nothing happens
		stop()
		time.Sleep(24 * time.Hour)
		w.has("alone", &middle, map[string]int{"": 100, "m0": 50})
		if n := strings.Count(w.log.String(), "level=WARN"); n == 0 || n > 3 {
			t.Errorf("%d warnings:\n%s", n, w.log.String())
		}

		list(t, &leader, "m0", 99)
		w.serve("leader", &leader)
		time.Sleep(time.Minute)
		w.has("back", &middle, map[string]int{"": 100, "m0": 99})
		w.has("back", &last, map[string]int{"": 100, "m0": 99})
		if !strings.Contains(w.log.String(), "can be had again") {
			t.Error(w.log.String())
		}
	})
}

// What a follower is sent after the first time is what has changed.
func TestLittleIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var leader, follower inventory.Inventory
		list(t, &leader, "", 5000)
		list(t, &leader, "a", 5000)
		counted := &counter{Handler: nil}
		desk, err := orders.Open(orders.Config{Clients: map[string]orders.ClientConfig{"other": {Token: w.hash}}}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		mux := http.NewServeMux()
		share.NewServer(ctx, desk, &leader).Register(mux.Handle)
		counted.Handler = mux
		w.listen("leader", counted, end)
		w.follow("http://leader.mem", &follower)
		time.Sleep(time.Second)
		whole := counted.take()
		h, _ := leader.Lookup("a")
		for i := range 5 {
			leader.Project("p").Doubt(h, fmt.Sprintf("d%d/f", i))
			time.Sleep(3 * time.Second)
		}
		w.has("after all", &follower, map[string]int{"a": 4995})
		if n := counted.take(); whole < 50_000 || n > 2000 {
			t.Errorf("the whole was sent by %d bytes, and five changes by %d", whole, n)
		}
	})
}

// A director that has lost what it knew is not believed for an hour.
func TestLostState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var leader, follower, other inventory.Inventory
		list(t, &leader, "", 100)
		stop := w.serve("leader", &leader)
		w.follow("http://leader.mem", &follower)
		time.Sleep(time.Second)
		stop()
		list(t, &other, "", 10)
		w.serve("leader", &other)
		time.Sleep(55 * time.Minute)
		w.has("not believed", &follower, map[string]int{"": 100})
		time.Sleep(15 * time.Minute)
		w.has("believed", &follower, map[string]int{"": 10})
		if !strings.Contains(w.log.String(), "files of mirrors are missing") {
			t.Error(w.log.String())
		}
	})
}

// A web server with a copy of the file, or the file itself, will do; what is cut changes
// nothing, and a server that was silent is asked again.
func TestFollowCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		file := filepath.Join(t.TempDir(), "inventory")
		write := func(content []byte) {
			t.Helper()
			time.Sleep(time.Second) // another time of modification
			if err := os.WriteFile(file+".new", content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		}
		state := func(n int) []byte {
			t.Helper()
			var v inventory.Inventory
			var b bytes.Buffer
			list(t, &v, "", n)
			if err := v.Write(&b); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
		var mu sync.Mutex
		whole, unchanged, frozen := 0, 0, false
		w.listen("web", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			stuck := frozen
			mu.Unlock()
			if stuck {
				<-r.Context().Done()
				return
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
			}
			etag := fmt.Sprintf(`"%d"`, len(content))
			rw.Header().Set("ETag", etag)
			mu.Lock()
			defer mu.Unlock()
			if r.Header.Get("If-None-Match") == etag {
				unchanged++
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			whole++
			_, _ = rw.Write(content)
		}), func() {})
		write(state(70))
		var byHTTP, byFile inventory.Inventory
		w.follow("http://web.mem/copy/inventory", &byHTTP)
		w.follow(file, &byFile)
		want := func(when string, n int) {
			t.Helper()
			w.has(when, &byHTTP, map[string]int{"": n})
			w.has(when, &byFile, map[string]int{"": n})
		}
		time.Sleep(time.Minute)
		want("at first", 70)
		write(state(80))
		time.Sleep(time.Minute)
		want("another", 80)
		write(state(90)[:500])
		time.Sleep(10 * time.Minute)
		want("cut", 80)
		write(state(100))
		time.Sleep(10 * time.Minute)
		want("whole", 100)
		time.Sleep(5 * time.Minute)
		mu.Lock()
		if whole > 15 || unchanged < 5 {
			t.Errorf("sent %d times, and not %d times", whole, unchanged)
		}
		frozen = true
		mu.Unlock()
		write(state(110))
		time.Sleep(5 * time.Minute)
		w.has("frozen", &byHTTP, map[string]int{"": 100})
		mu.Lock()
		frozen = false
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		want("thawed", 110)
	})
}

// Who may not read it does not.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var leader, follower inventory.Inventory
		list(t, &leader, "", 3)
		w.serve("leader", &leader)
		w.token = "guess"
		w.follow("http://leader.mem", &follower)
		time.Sleep(time.Hour)
		w.has("refused", &follower, map[string]int{"": 0})
		if log := w.log.String(); !strings.Contains(log, "401 Unauthorized: ") || strings.Count(log, "WARN") != 1 {
			t.Error(log)
		}
		for _, query := range []string{"?wait=soon", "?changes=perhaps"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://leader.mem"+directorapi.InventoryPath+query, nil)
			if err != nil {
				t.Fatal(err)
			}
			token, hash := control.NewToken("fd_")
			w.hash = hash
			w.serve("another", &leader)
			req.URL.Host = "another.mem"
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %s", query, resp.Status)
			}
			_ = resp.Body.Close()
			w.stops[len(w.stops)-1]()
		}
	})
}

// counter counts what is sent.
type counter struct {
	http.Handler
	mu sync.Mutex
	n  int
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.Handler.ServeHTTP(&countingWriter{w, c}, r)
}

func (c *counter) take() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = 0
	return n
}

type countingWriter struct {
	http.ResponseWriter
	c *counter
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.c.mu.Lock()
	w.c.n += len(b)
	w.c.mu.Unlock()
	return w.ResponseWriter.Write(b)
}

// syncBuffer is a buffer for many.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
