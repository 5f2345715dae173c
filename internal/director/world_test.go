package director_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/director"
	"freshet/internal/director/directortest"
	"freshet/internal/doors"
	"freshet/internal/memnet"
	"freshet/internal/role"
)

// world is a director that serves, in a bubble of its own time.
type world struct {
	t       *testing.T
	dir     string
	cfg     director.Config
	network memnet.Network
	addr    string // of a listener of TCP, "" if there is none
	metrics *prometheus.Registry
	log     syncBuffer
	reloads chan director.Config
	stop    context.CancelFunc
	ended   chan error
}

// config is that of a director of the files in a folder.
func config(dir string) director.Config {
	return director.Config{
		Listeners: doors.Listeners{Listen: "mem:director"}, Minimum: 1, Prefer: "first",
		Snapshot: filepath.Join(dir, directortest.Snapshot), GeoIP: filepath.Join(dir, directortest.GeoIP),
		Netblocks: filepath.Join(dir, directortest.Netblocks), Continents: filepath.Join(dir, directortest.Continents),
	}
}

// start starts a director, which ends with the test. Its admin listener's handlers go to
// the first mux, if there is one.
func start(t *testing.T, change func(*director.Config), admin ...interface {
	Handle(pattern string, h http.Handler)
},
) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), metrics: prometheus.NewRegistry(),
		reloads: make(chan director.Config), ended: make(chan error, 1),
	}
	directortest.Network{Time: 1700000000}.Write(t, w.dir)
	w.cfg = config(w.dir)
	if change != nil {
		change(&w.cfg)
	}
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	ready := make(chan struct{})
	env := role.Env{
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Metrics: w.metrics, Ready: func() { close(ready) },
		Listen: w.listen,
	}
	for _, mux := range admin {
		env.Admin = mux.Handle
	}
	go func() { w.ended <- director.RunReloading(ctx, w.cfg, env, director.Beside{Reloads: w.reloads}) }()
	select {
	case <-ready:
	case err := <-w.ended:
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	return w
}

func (w *world) end() {
	w.stop()
	if err := <-w.ended; err != nil {
		w.t.Error(err)
	}
	w.ended <- nil
}

// listen opens a listener in memory, or one of TCP.
func (w *world) listen(ctx context.Context, addr string) (net.Listener, error) {
	if strings.HasPrefix(addr, memnet.Scheme) {
		return w.network.Listen(addr)
	}
	ln, err := role.ListenTCP(ctx, addr)
	if err == nil {
		w.addr = ln.Addr().String()
	}
	return ln, err
}

func (w *world) dial() (net.Conn, error) {
	if w.addr != "" {
		return new(net.Dialer).DialContext(w.t.Context(), "tcp", w.addr)
	}
	return w.network.DialContext(w.t.Context(), "", "director.mem")
}

// send sends requests as they are over one connection, and returns the answers to as
// many.
func (w *world) send(n int, requests string) []*http.Response {
	w.t.Helper()
	c, err := w.dial()
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	go func() { _, _ = io.WriteString(c, requests) }()
	in := bufio.NewReader(c)
	method, _, _ := strings.Cut(requests, " ")
	var all []*http.Response
	for range n {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			w.t.Fatalf("%q: %v", requests, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		all = append(all, resp)
	}
	return all
}

// get asks for a target as a client in DE, and returns the status and the body.
func (w *world) get(target string) (status int, body string) {
	w.t.Helper()
	resp := w.send(1, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: d\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n", target))[0]
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

const repo = "/mirrorlist?repo=r-1&arch=x86_64"

// mirrors are the URLs that a client in DE is given.
func (w *world) mirrors() string {
	w.t.Helper()
	_, body := w.get(repo)
	_, urls, _ := strings.Cut(body, "\n")
	return strings.TrimSuffix(strings.ReplaceAll(urls, "\n", " "), " ")
}

// wait lets the director look at its files twice.
func (w *world) wait() {
	time.Sleep(2*w.cfg.WithDefaults().CheckEvery + time.Millisecond)
	synctest.Wait()
}

// loads is how often an input was read, with a result.
func (w *world) loads(input, result string) float64 {
	w.t.Helper()
	return w.metric("freshet_director_loads_total", input, result)
}

// metric is the value of a metric with labels of these values.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			found := 0
			for _, want := range labels {
				for _, l := range m.GetLabel() {
					if l.GetValue() == want {
						found++
					}
				}
			}
			if found == len(labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// syncBuffer is a buffer for many.
type syncBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // is closed by the next write, nil if nobody waits
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
	return s.b.Write(p)
}

// await waits until it has a text.
func (s *syncBuffer) await(text string) {
	for {
		s.mu.Lock()
		if s.more == nil {
			s.more = make(chan struct{})
		}
		there, more := strings.Contains(s.b.String(), text), s.more
		s.mu.Unlock()
		if there {
			return
		}
		<-more
	}
}

func (s *syncBuffer) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Reset()
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
