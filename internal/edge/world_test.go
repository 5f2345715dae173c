package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/memnet"
	"freshet/internal/role"
)

// world is an edge with an origin and clients, over memory. It lives in a
// synctest bubble, so that its hours take no time.
type world struct {
	t       *testing.T
	net     *memnet.Network
	cfg     Config
	metrics *prometheus.Registry
	log     *lockedBuffer
	admin   *http.ServeMux // of the admin listener
	client  *http.Client
	stop    func()
	fetches atomic.Int64 // requests the origin saw, events apart
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// newWorld starts an origin "origin" and an edge "edge" in front of it.
func newWorld(t *testing.T, cfg Config, origin http.HandlerFunc) *world {
	t.Helper()
	w := &world{t: t, net: new(memnet.Network), log: new(lockedBuffer)}
	if cfg.Origin == "" && len(cfg.Origins) == 0 {
		cfg.Origin = "http://origin.mem"
	}
	if cfg.Store == "" {
		cfg.Store = t.TempDir()
	}
	if cfg.Follow == "" {
		cfg.Follow = "off"
	}
	if cfg.Size == 0 {
		cfg.Size = 64 << 20
	}
	cfg.Listen = "mem:edge"
	w.cfg = cfg
	if origin != nil {
		w.serve("origin", func(rw http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/api/") {
				w.fetches.Add(1)
			}
			origin(rw, r)
		})
	}
	transport := role.NewTransport(w.net.DialContext)
	transport.DisableKeepAlives = true
	w.client = &http.Client{Transport: transport}
	w.start()
	t.Cleanup(func() {
		w.stop()
		transport.CloseIdleConnections()
		if t.Failed() {
			t.Logf("log of the edge:\n%s", w.log.b.String())
		}
	})
	return w
}

// serve runs a server in memory and returns what takes it away.
func (w *world) serve(name string, h http.HandlerFunc) (stop func()) {
	w.t.Helper()
	ln, err := w.net.Listen("mem:" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	var (
		mu       sync.Mutex
		ending   bool
		handlers sync.WaitGroup
	)
	counted := func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		serve := !ending
		if serve {
			handlers.Add(1)
		}
		mu.Unlock()
		if serve {
			defer handlers.Done()
			h(rw, r)
		}
	}
	srv := &http.Server{Handler: http.HandlerFunc(counted), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	stop = sync.OnceFunc(func() {
		mu.Lock()
		ending = true
		mu.Unlock()
		_ = srv.Close()
		<-done
		handlers.Wait()
	})
	w.t.Cleanup(stop)
	return stop
}

// start runs the edge.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.metrics = prometheus.NewRegistry()
	w.admin = http.NewServeMux()
	upstream := role.NewTransport(w.net.DialContext)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, w.cfg, role.Env{
			Log:     slog.New(slog.NewTextHandler(w.log, nil)),
			HTTP:    &http.Client{Transport: upstream},
			Listen:  func(_ context.Context, addr string) (net.Listener, error) { return w.net.Listen(addr) },
			Metrics: w.metrics,
			Ready:   func() { close(ready) },
			Admin:   w.admin.Handle,
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		w.t.Fatalf("edge did not start: %v", err)
	}
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("edge ended with %v", err)
		}
		upstream.CloseIdleConnections()
		if n := w.metric("freshet_edge_fetches", ""); n != 0 {
			w.t.Errorf("%v fetches never ended", n)
		}
	})
}

// restart stops the edge and starts it again on the same store.
func (w *world) restart() {
	w.stop()
	w.start()
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error // of the body
	first  time.Duration
}

func (a answer) cacheStatus() string { return a.header.Get("Cache-Status") }

// do sends a request; fields are "Name: value".
func (w *world) do(method, path string, fields ...string) answer {
	a, err := w.try(w.t.Context(), method, path, fields...)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
	}
	return a
}

func (w *world) try(ctx context.Context, method, path string, fields ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://edge.mem"+path, nil)
	if err != nil {
		return answer{}, err
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	begun := time.Now()
	resp, err := w.client.Do(req)
	if err != nil {
		return answer{err: err}, err
	}
	defer resp.Body.Close()
	first := time.Since(begun)
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err, first}, nil
}

func (w *world) get(path string, fields ...string) answer { return w.do("GET", path, fields...) }

// want fails unless the answer is a complete 200 with this body, made as the
// Cache-Status member says.
func (w *world) want(a answer, body, status string) {
	w.t.Helper()
	if a.err != nil || a.status != 200 || a.body != body {
		w.t.Errorf("got %d %.80q (%d bytes), %v; want 200 %.80q", a.status, a.body, len(a.body), a.err, body)
	}
	if !strings.HasPrefix(a.cacheStatus(), "freshet; "+status) {
		w.t.Errorf("Cache-Status is %q, want %q", a.cacheStatus(), status)
	}
}

func (w *world) wantFetches(n int64) {
	w.t.Helper()
	if got := w.fetches.Load(); got != n {
		w.t.Errorf("the origin was asked %d times, want %d", got, n)
	}
}

// metric returns the value of a counter or gauge with the label value.
func (w *world) metric(name, label string) float64 {
	w.t.Helper()
	synctest.Wait() // a request is counted after its answer
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := label == ""
			for _, l := range m.GetLabel() {
				match = match || l.GetValue() == label
			}
			if match {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// bubble runs the test in fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// static serves content by path, with entity-tags and 304.
type static struct {
	mu    sync.Mutex
	files map[string]string
	down  atomic.Bool
	asked map[string]int
}

func newStatic(files map[string]string) *static {
	return &static{files: files, asked: make(map[string]int)}
}

func (s *static) set(path, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = body
}

func (s *static) remove(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, path)
}

func (s *static) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

func (s *static) serve(w http.ResponseWriter, r *http.Request) {
	if s.down.Load() {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	body, ok := s.files[r.URL.Path]
	s.asked[r.URL.Path]++
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256([]byte(body))
	w.Header().Set("Etag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
}

func objectOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	h := hex.EncodeToString(sum[:])
	return "/objects/" + h[:2] + "/" + h[2:] + ".commit"
}
