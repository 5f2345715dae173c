package top

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"freshet/internal/histogram"
	"freshet/internal/peertest"
)

// adminEnv makes the test binary a "freshet edge top" of the admin listener it
// names.
const adminEnv = "FRESHET_TEST_TOP"

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	if admin := os.Getenv(adminEnv); admin != "" {
		if err := Run(context.Background(), Options{Admin: admin, Every: 20 * time.Millisecond, In: os.Stdin, Out: os.Stdout}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeEdge has the metrics of an edge. At each step they grow by the same.
type fakeEdge struct {
	mu       sync.Mutex
	reg      *prometheus.Registry
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	fetches  *prometheus.CounterVec
	ttfb     *histogram.Vec
	took     *histogram.Vec
	upstream *histogram.Vec
	failures *prometheus.CounterVec
	steps    int
}

func newFakeEdge() *fakeEdge {
	vec := func(name, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, []string{label})
	}
	f := &fakeEdge{
		reg: prometheus.NewRegistry(), requests: vec("freshet_edge_requests_total", "outcome"),
		bytes: vec("freshet_edge_response_bytes_total", "outcome"), fetches: vec("freshet_edge_fetches_total", "result"),
		ttfb:     histogram.NewVec(prometheus.Opts{Name: "freshet_edge_first_byte_seconds"}, "outcome", outcomeNames()...),
		took:     histogram.NewVec(prometheus.Opts{Name: "freshet_edge_request_seconds"}, "outcome", outcomeNames()...),
		upstream: histogram.NewVec(prometheus.Opts{Name: "freshet_edge_upstream_seconds"}, "phase", "first_byte"),
	}
	f.failures = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "freshet_edge_origin_failures_total"}, []string{"site", "origin", "reason"})
	f.reg.MustRegister(f.failures)
	gauges := func(name string, by map[string]float64, labels ...string) {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name}, labels)
		for value, n := range by {
			v.WithLabelValues(strings.Fields(value)...).Set(n)
		}
		f.reg.MustRegister(v)
	}
	gauges("freshet_edge_store_bytes", map[string]float64{"": 75e9})
	gauges("freshet_edge_store_limit_bytes", map[string]float64{"": 100e9})
	gauges("freshet_edge_store_entries", map[string]float64{"": 1234567})
	gauges("freshet_edge_store_disk_short_bytes", map[string]float64{"": 25e9})
	gauges("freshet_edge_store_pool_bytes", map[string]float64{"payload": 70e9, "metadata": 5e9}, "pool")
	gauges("freshet_edge_store_pool_share_bytes", map[string]float64{"payload": 80e9, "metadata": 20e9}, "pool")
	gauges("freshet_edge_event_lag", map[string]float64{"main": 0, "rpm": 12}, "site")
	gauges("freshet_edge_following", map[string]float64{"main": 1, "rpm": 1}, "site")
	gauges("freshet_edge_origin_in_flight", map[string]float64{"main hub.example.org": 3, "rpm rpm.example.org": 0}, "site", "origin")
	gauges("freshet_edge_origin_up", map[string]float64{"main hub.example.org": 1, "rpm rpm.example.org": 0}, "site", "origin")
	gauges("freshet_http_connections", map[string]float64{"edge": 812, "hub": 9999}, "role")
	f.reg.MustRegister(f.requests, f.bytes, f.fetches, f.ttfb, f.took, f.upstream)
	f.step()
	return f
}

func (f *fakeEdge) step() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps++
	for i, name := range outcomeNames() {
		n := []float64{9700, 20, 30, 200, 40, 0, 0}[i]
		if n == 0 {
			continue
		}
		f.requests.WithLabelValues(name).Add(n)
		f.bytes.WithLabelValues(name).Add(n * 10000)
		for k := range 100 {
			f.ttfb.At(i).Observe(time.Duration(k+1) * time.Duration(i*i+1) * 10 * time.Microsecond)
			f.took.At(i).Observe(time.Duration(k+1) * time.Duration(i*i+1) * time.Millisecond)
		}
	}
	f.requests.WithLabelValues("error:reset").Add(7)
	f.requests.WithLabelValues("error:first_byte_timeout").Add(3)
	f.bytes.WithLabelValues("error").Add(1500)
	f.fetches.WithLabelValues("ok").Add(200)
	f.fetches.WithLabelValues("reset").Add(7)
	f.failures.WithLabelValues("rpm", "rpm.example.org", "reset").Add(4)
	f.upstream.At(0).Observe(40 * time.Millisecond)
}

func (f *fakeEdge) sample(t *testing.T, at time.Time) *sample {
	t.Helper()
	srv := httptest.NewServer(promhttp.HandlerFor(f.reg, promhttp.HandlerOpts{}))
	defer srv.Close()
	s, err := scrape(t.Context(), srv.Client(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.at = at
	return s
}

// What is shown is what was counted, in the rate it was counted.
func TestBetween(t *testing.T) {
	f := newFakeEdge()
	begin := time.Unix(1000, 0)
	before := f.sample(t, begin)
	f.step()
	f.step()
	s := between(before, f.sample(t, begin.Add(4*time.Second)))
	if s.requests != 5000 || s.outcomes[0].requests != 4850 || s.outcomes[5].requests != 5 {
		t.Errorf("requests %v, of them %v", s.requests, s.outcomes)
	}
	if want := 0.975; math.Abs(s.hitObjects-want) > 1e-9 {
		t.Errorf("%v hits, want %v", s.hitObjects, want)
	}
	if want := 9750e4 / (9990e4 + 1500); math.Abs(s.hitBytes-want) > 1e-9 {
		t.Errorf("%v of bytes, want %v", s.hitBytes, want)
	}
	hit := s.outcomes[0].firstByte
	if near := func(got, want time.Duration) bool { return math.Abs(float64(got-want)) < 0.09*float64(want) }; !near(hit.p50, 500*time.Microsecond) || !near(hit.p99, 990*time.Microsecond) {
		t.Errorf("first byte of hits: %v", hit)
	}
	if s.open != 812 || s.errors[0] != (rate{"reset", 3.5}) || s.origins[1].health != "down" || s.origins[0].inFlight != 3 ||
		len(s.origins[0].failing) != 0 || s.origins[1].failing[0] != (rate{"reset", 2}) {
		t.Errorf("%+v", s)
	}
	fresh := newFakeEdge().sample(t, begin.Add(8*time.Second)) // the edge began anew
	if s := between(f.sample(t, begin.Add(4*time.Second)), fresh); s.requests != 2500 || !s.outcomes[0].firstByte.known {
		t.Errorf("after a restart: %v/s", s.requests)
	}
	if s := between(before, before); s.requests != 0 || !math.IsNaN(s.hitObjects) {
		t.Errorf("nothing happened: %+v", s)
	}
}

// Without native histograms the classic ones will do.
func TestTextFormat(t *testing.T) {
	f := newFakeEdge()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept")
		promhttp.HandlerFor(f.reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	}))
	defer srv.Close()
	before, err := scrape(t.Context(), srv.Client(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	before.families["freshet_edge_first_byte_seconds"] = nil
	now, err := scrape(t.Context(), srv.Client(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if s := between(before, now); s.outcomes[0].firstByte.p50 < 200*time.Microsecond || s.outcomes[0].firstByte.p50 > 980*time.Microsecond {
		t.Errorf("%+v", s.outcomes[0])
	}
}

func TestNotAnEdge(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"is not of an edge": func(http.ResponseWriter, *http.Request) {},
		"404 Not Found":     http.NotFound,
		"read metrics":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "{{{ ?") },
	} {
		srv := httptest.NewServer(h)
		if err := Once(t.Context(), Options{Admin: srv.URL, Out: new(bytes.Buffer)}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
		srv.Close()
	}
}

// frameOf draws what two measurements, a second apart, and a minute of history
// show.
func frameOf(t *testing.T, width int) []string {
	t.Helper()
	f := newFakeEdge()
	begin := time.Unix(1000, 0)
	var past history
	last := f.sample(t, begin)
	var s *snapshot
	for i := range 6 {
		f.step()
		if i%2 == 0 {
			f.step()
		}
		now := f.sample(t, begin.Add(time.Duration(i+1)*time.Second))
		s = between(last, now)
		past.add(s)
		last = now
	}
	s.uptime = 75 * time.Hour
	return frame{title: "http://127.0.0.1:9600", past: &past, width: width}.lines(s)
}

func TestFrames(t *testing.T) {
	for _, width := range []int{80, 120, 30} {
		lines := frameOf(t, width)
		if width == 80 && len(lines) > 23 {
			t.Errorf("%d lines do not fit on a small terminal", len(lines))
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > width {
				t.Errorf("%d characters in %q", n, line)
			}
		}
		golden(t, fmt.Sprintf("frame-%d.txt", width), strings.Join(lines, "\n")+"\n")
	}
	bad := frame{title: "http://x\x1b[2J", note: "no\nanswer", past: new(history), width: 80}.lines(nil)
	if got := strings.Join(bad, "|"); got != "freshet edge  http://x?[2J|! no?answer" {
		t.Errorf("%q", got)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// terminal is a real one, of tmux.
type terminal struct {
	t      *testing.T
	socket string
}

func (m terminal) tmux(args ...string) (string, error) {
	out, err := exec.CommandContext(m.t.Context(), "tmux", append([]string{"-S", m.socket, "-f", os.DevNull}, args...)...).CombinedOutput()
	return string(out), err
}

// until captures the screen until it is as wanted.
func (m terminal) until(what string, good func(screen string) bool) string {
	m.t.Helper()
	var screen string
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		screen, _ = m.tmux("capture-pane", "-p")
		if good(screen) {
			return screen
		}
	}
	m.t.Fatalf("never: %s; the screen is\n%s", what, screen)
	return ""
}

// In a terminal of 80 by 24, top draws, draws anew at each measurement and when
// the size changes, tells when the edge is away, and ends at q.
func TestTerminal(t *testing.T) {
	peertest.Require(t, "tmux")
	f := newFakeEdge()
	handler := promhttp.HandlerFor(f.reg, promhttp.HandlerOpts{})
	var mu sync.Mutex
	away := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		gone := away
		mu.Unlock()
		if gone {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		f.step()
		handler.ServeHTTP(w, r)
	}))
	defer srv.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := terminal{t, filepath.Join(t.TempDir(), "s")}
	if out, err := m.tmux("new-session", "-d", "-x", "80", "-y", "24", "env", adminEnv+"="+srv.URL, "sh", "-c", `"$0"; echo "ended with $?"`, self, ";", "set", "-g", "remain-on-exit", "on"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer func() { _, _ = m.tmux("kill-server") }()
	screen := m.until("a frame with rates", func(s string) bool {
		return strings.Contains(s, "hits 97.5 % of requests") && strings.Contains(s, "█")
	})
	lines := strings.Split(strings.TrimRight(screen, "\n"), "\n")
	if len(lines) != 24 || !strings.HasPrefix(lines[0], "freshet edge  "+srv.URL) || lines[23] != "q quits" {
		t.Errorf("%d lines:\n%s", len(lines), screen)
	}
	for _, want := range []string{"OUTCOME", "hit-stale", "reset", "first_byte_timeout", "down rpm rpm.example.org", "75.0 % 75.0 GB of 100 GB", "12 events behind"} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q is not in\n%s", want, screen)
		}
	}
	mu.Lock()
	away = true
	mu.Unlock()
	m.until("what is wrong", func(s string) bool {
		return strings.Contains(s, "503 Service Unavailable") && strings.Contains(s, "hit-stale")
	})
	mu.Lock()
	away = false
	mu.Unlock()
	m.until("all is well", func(s string) bool { return !strings.Contains(s, "503") })
	if out, err := m.tmux("resize-window", "-x", "60", "-y", "10"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.until("a small screen", func(s string) bool {
		lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
		return len(lines) == 10 && lines[9] == "q quits" && strings.HasPrefix(lines[0], "freshet edge")
	})
	if out, err := m.tmux("send-keys", "q"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.until("the end", func(s string) bool { return strings.Contains(s, "ended with 0") || strings.Contains(s, "status 0") })
}
