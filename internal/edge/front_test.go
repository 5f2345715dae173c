package edge

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/doors"
	"freshet/internal/memnet"
	"freshet/internal/role"
)

// twoWays is an edge that is asked on two ways at once: by its own loop, and by
// net/http alone.
type twoWays struct {
	t       *testing.T
	e       *Edge
	edge    *prometheus.Registry // metrics of the edge itself
	network memnet.Network
	ways    map[string]*way
	counted map[*prometheus.Registry]map[string]float64 // as they were last seen
}

type way struct {
	access *prometheus.Registry
	log    lockedBuffer
	loop   *prometheus.Registry // nil for net/http
}

func newTwoWays(t *testing.T, cfg Config, origin http.HandlerFunc) *twoWays {
	t.Helper()
	w := &twoWays{t: t, edge: prometheus.NewRegistry(), ways: make(map[string]*way), counted: make(map[*prometheus.Registry]map[string]float64)}
	listen := func(name string) net.Listener {
		ln, err := w.network.Listen(name)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	upstream := role.NewTransport(w.network.DialContext)
	cfg.Origin, cfg.Store, cfg.Size, cfg.Follow = "http://origin.mem", t.TempDir(), 64<<20, "off"
	var err error
	w.e, err = New(t.Context(), cfg, role.Env{HTTP: &http.Client{Transport: upstream}, Metrics: w.edge})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for _, name := range []string{"loop", "plain"} {
		v := &way{access: prometheus.NewRegistry()}
		w.ways[name] = v
		access := role.NewAccess("edge", slog.New(slog.NewTextHandler(&v.log, nil)), v.access)
		access.Each = w.e.metrics.note
		ln := listen(name)
		if name == "loop" {
			v.loop = prometheus.NewRegistry()
			door := doorAt(t, ln, v.loop)
			go func() { ended <- w.e.serve(ctx, door, access) }()
		} else {
			go func() { ended <- role.Serve(ctx, ln, access.Wrap(w.e), w.e.log) }()
		}
	}
	ln := listen("origin")
	go func() { ended <- role.Serve(ctx, ln, origin, w.e.log) }()
	t.Cleanup(func() {
		cancel()
		upstream.CloseIdleConnections()
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := w.e.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// seen is everything that can be told of an answer.
type seen struct {
	Lines   []string // the head, sorted
	Body    string
	Log     string
	Metrics map[string]float64 // what the request changed
}

// ask sends a request on one way. byLoop says that net/http had no part in the
// answer.
func (w *twoWays) ask(name, request string) (s seen, byLoop bool) {
	w.t.Helper()
	v := w.ways[name]
	synctest.Wait()
	v.log.mu.Lock()
	v.log.b.Reset()
	v.log.mu.Unlock()
	c, err := w.network.DialContext(w.t.Context(), "tcp", name+".mem:80")
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		w.t.Fatal(err)
	}
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			w.t.Fatalf("%q: read the head: %v", request, err)
		}
		if line == "\r\n" {
			break
		}
		s.Lines = append(s.Lines, line)
	}
	slices.Sort(s.Lines)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(statusFirst(s.Lines)+"\r\n")), &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("%q: %v", request, err)
	}
	if resp.ContentLength > 0 && method != "HEAD" {
		body := make([]byte, resp.ContentLength)
		if _, err := io.ReadFull(br, body); err != nil {
			w.t.Fatalf("%q: read the body: %v", request, err)
		}
		s.Body = string(body)
	}
	synctest.Wait() // the record comes after the answer
	v.log.mu.Lock()
	s.Log = v.log.b.String()
	v.log.mu.Unlock()
	s.Metrics = w.changes(v)
	if v.loop == nil {
		return s, false
	}
	for name := range s.Metrics {
		if strings.HasPrefix(name, "freshet_http_handovers_total") {
			delete(s.Metrics, name)
			return s, false
		}
	}
	return s, true
}

func statusFirst(lines []string) string {
	i := slices.IndexFunc(lines, func(s string) bool { return strings.HasPrefix(s, "HTTP/1.1 ") })
	return lines[i] + strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "")
}

// changes is by how much counters, and the counts of histograms, have grown since
// they were last looked at. Whatever is asked is asked by ask, so that is what one
// request did.
func (w *twoWays) changes(v *way) map[string]float64 {
	w.t.Helper()
	out := make(map[string]float64)
	for _, reg := range []*prometheus.Registry{w.edge, v.access, v.loop} {
		if reg == nil {
			continue
		}
		now := w.counts(reg)
		for name, n := range now {
			if n = math.Round((n-w.counted[reg][name])*1e6) / 1e6; n != 0 { // sums are not exact
				out[name] = n
			}
		}
		w.counted[reg] = now
	}
	return out
}

// counts are the counters of a registry, and the counts of its histograms.
func (w *twoWays) counts(reg *prometheus.Registry) map[string]float64 {
	w.t.Helper()
	families, err := reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "freshet_http_connections") {
			continue
		}
		for _, m := range f.GetMetric() {
			n := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()) + m.GetHistogram().GetSampleSum()
			if n == 0 {
				continue
			}
			name := f.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			out[name] = n
		}
	}
	return out
}

// same asks on both ways and, if the loop answered by itself, which it reports,
// compares everything.
func (w *twoWays) same(request string) bool {
	w.t.Helper()
	plain, _ := w.ask("plain", request)
	loop, byLoop := w.ask("loop", request)
	if diff := cmp.Diff(plain, loop); byLoop && diff != "" {
		w.t.Errorf("%q: net/http alone (-), by the loop (+):\n%s", request, diff)
	}
	return byLoop
}

// variety is an origin with one path for each thing that matters to how a hit is
// sent.
func variety(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Last-Modified", time.Now().Add(-24*time.Hour).UTC().Format(http.TimeFormat))
	h.Set("Etag", `"`+r.URL.Path+`"`)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Extra", " more of it ")
	h["X-Twice"] = []string{"1", "2"}
	body := pattern(5000)
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch name {
	case "max-age":
		h.Set("Cache-Control", "max-age=100")
	case "untyped.rpm":
		h["Content-Type"] = nil
		body = "<html>" + body
	case "weak.rpm":
		h.Set("Etag", `W/"w"`)
	case "large.rpm":
		body = pattern(300 << 10)
	case "empty.rpm":
		body = ""
	case "dated.rpm":
		h.Set("Expires", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		h.Set("Pragma", "no-cache")
		h.Set("Cache-Control", "max-age=5")
		h.Set("Content-Language", "de")
	case "expires":
		h.Set("Expires", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
	case "zipped.rpm":
		h.Set("Content-Encoding", "gzip")
		h["Content-Type"] = nil
		var b bytes.Buffer
		zw := gzip.NewWriter(&b)
		_, _ = io.WriteString(zw, body)
		_ = zw.Close()
		body = b.String()
	case "behind.rpm":
		h["Cache-Status"] = []string{"other; hit", "third; fwd=miss"}
		h.Set("Age", "7")
	case "vary":
		h.Set("Vary", "Accept-Language")
		h.Set("Cache-Control", "max-age=100")
	case "private":
		h.Set("Cache-Control", "private, max-age=100")
	case "cookie":
		h.Set("Set-Cookie", "a=b")
		h.Set("Cache-Control", "max-age=100")
	case "moved":
		h.Set("Location", "/elsewhere")
		h.Set("Cache-Control", "max-age=100")
		w.WriteHeader(http.StatusMovedPermanently)
	case "missing.rpm":
		http.NotFound(w, r)
		return
	case "broken.rpm":
		w.WriteHeader(http.StatusInternalServerError)
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = io.WriteString(w, body)
}

// Clients, records and metrics cannot tell a hit that the loop answers from one
// that net/http answers.
func TestLoopIsAsNetHTTP(t *testing.T) {
	for _, rules := range []string{rulesAuto, rulesNone} {
		bubble(t, func(t *testing.T) { testLoopIsAsNetHTTP(t, rules) })
	}
}

func testLoopIsAsNetHTTP(t *testing.T, rules string) {
	w := newTwoWays(t, Config{Rules: rules}, variety)
	object := "/repo/objects/0a/" + strings.Repeat("0a", 31) + ".filez"
	// What is asked for with all the fields, and what is another way to write a path,
	// with a few.
	paths := []string{
		object, "/repo/summary", "/a.rpm", "/untyped.rpm", "/weak.rpm", "/large.rpm", "/empty.rpm", "/zipped.rpm",
		"/behind.rpm", "/dated.rpm", "/max-age", "/expires", "/vary", "/private", "/cookie", "/moved", "/missing.rpm", "/broken.rpm", "/a.rpm?q=1",
	}
	spelled := []string{
		"/max-age?q=%20", "/x//a.rpm", "/x/./a.rpm", "/%61.rpm", "/a%2fb.rpm", "/x/../a.rpm", "//a.rpm", "/a:b@c;d.rpm", "/a%5cb.rpm", "/",
	}
	past, soon := time.Now().Add(-24*time.Hour).UTC().Format(http.TimeFormat), time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	fields := []string{
		"", "Accept: */*", "accept-encoding: gzip, br", "If-None-Match: \"PATH\"", "If-None-Match: W/\"PATH\"", "if-none-match: \"x\", \"PATH\"",
		"If-None-Match: \"x\"", "If-None-Match: *", "If-None-Match: \"x\"\r\nIf-None-Match: \"PATH\"",
		"If-Modified-Since: " + past, "If-Modified-Since: " + soon, "If-Modified-Since: never",
		"If-None-Match: \"x\"\r\nIf-Modified-Since: " + soon,
		"Range: bytes=0-0", "Range: bytes=10-99", "RANGE: bytes=4990-", "Range: bytes=-7", "Range: bytes=0-", "Range: bytes=0-9,20-29",
		"Range: bytes=9999999-", "Range: bytes=5-4", "Range: lines=1-2", "Range: bytes=0-1\r\nRange: bytes=3-4",
		"Range: bytes=1-2\r\nIf-Range: \"PATH\"", "Range: bytes=1-2\r\nIf-Range: \"x\"", "Range: bytes=1-2\r\nIf-Range: " + past,
		"If-Range: \"PATH\"", "Range: bytes=1-2\r\nIf-None-Match: \"PATH\"", "Range: bytes=1-2\r\nIf-Range: \"PATH\"\r\nIf-Range: \"PATH\"",
		"Cache-Control: no-cache", "Cache-Control: max-age=0", "Cache-Control: only-if-cached", "Pragma: no-cache", "Cache-Control: no-store",
		"If-Match: \"PATH\"", "If-Unmodified-Since: " + soon, "Authorization: Basic x", "Cookie: a=b", "Accept-Language: de",
		"Connection: close", "Connection: keep-alive", "X-Forwarded-For: 1.2.3.4", "Via: 1.1 x",
	}
	few := []string{"", "If-None-Match: \"PATH\"", "Range: bytes=10-99", "Cache-Control: no-cache", "Connection: close"}
	byLoop := make(map[string]int)
	all := 0
	for _, path := range slices.Concat(paths, spelled) {
		fields := fields
		if slices.Contains(spelled, path) {
			fields = few
		}
		get := "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"
		w.ask("plain", get)
		for range 3 { // the first from the file, the others from memory
			w.same(get)
		}
		for _, field := range fields {
			field = strings.ReplaceAll(field, "PATH", path)
			if field != "" {
				field += "\r\n"
			}
			for _, method := range []string{"GET", "HEAD"} {
				all++
				if w.same(method + " " + path + " HTTP/1.1\r\nHost: h\r\n" + field + "\r\n") {
					byLoop[path]++
				}
				time.Sleep(7 * time.Millisecond)
			}
		}
	}
	// It must be the loop that was compared.
	sum := 0
	for _, n := range byLoop {
		sum += n
	}
	if want := map[string]int{rulesAuto: all / 3, rulesNone: all / 4}[rules]; sum < want {
		t.Errorf("the loop answered %d of %d, want at least %d: %v", sum, all, want, byLoop)
	}
	for _, path := range []string{"/private", "/moved", "/missing.rpm", "/broken.rpm", "/vary"} {
		if byLoop[path] > 0 {
			t.Errorf("the loop answered for %s", path)
		}
	}
	if rules == rulesAuto && (byLoop[object] < len(fields) || byLoop["/large.rpm"] < len(fields)) {
		t.Errorf("the loop answers too little: %v", byLoop)
	}
}

// The same path of two hosts is two things, also for the loop.
func TestLoopTellsHostsApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwoWays(t, Config{Sites: map[string]SiteConfig{
			"a": {Hosts: []string{"a"}, Origin: "http://origin.mem/of-a", Rules: rulesAuto, Follow: followOff},
			"b": {Hosts: []string{"b", "c"}, Origin: "http://origin.mem/of-b", Rules: rulesAuto, Follow: followOff},
		}}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(rw, r.URL.Path)
		})
		for range 4 {
			for host, want := range map[string]string{
				"a": "/of-a/x.rpm", "b": "/of-b/x.rpm", "B:80": "/of-b/x.rpm", "c": "/of-b/x.rpm", "d": "/x.rpm", "[::1]:80": "/x.rpm",
			} {
				request := "GET /x.rpm HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
				if got, _ := w.ask("loop", request); got.Body != want {
					t.Errorf("host %s: got %s, want %s", host, got.Body, want)
				}
				if !w.same(request) {
					t.Errorf("host %s: not from the loop", host)
				}
			}
		}
	})
}

// What happens to an entry shows on both ways at the same moment.
func TestLoopFollowsTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := "one"
		w := newTwoWays(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Etag", `"`+body+`"`)
			rw.Header().Set("Content-Type", "text/plain")
			rw.Header().Set("Cache-Control", "max-age=600")
			_, _ = io.WriteString(rw, body)
		})
		ask := func(path, want string, byLoop bool) {
			t.Helper()
			got, by := w.ask("loop", "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
			if got.Body != want || by != byLoop {
				t.Errorf("%s: %q, by the loop: %v; want %q, %v", path, got.Body, by, want, byLoop)
			}
		}
		for _, path := range []string{"/summary", "/a.rpm", "/page"} {
			body = "one"
			ask(path, "one", false)
			for range 3 {
				ask(path, "one", true)
			}
			body = "two"
			ask(path, "one", true)
			if _, err := w.e.purge(w.e.rest, []string{path}); err != nil {
				t.Fatal(err)
			}
			ask(path, "two", false)
			ask(path, "two", true)
			ask(path, "two", true)
			for entry := range w.e.store.All() {
				if entry.Meta().Path == path {
					w.e.store.Delete(entry)
				}
			}
			body = "three"
			ask(path, "three", false)
			ask(path, "three", true)
			w.same("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		}
		// Lifetimes end.
		body = "four"
		time.Sleep(59 * time.Second)
		ask("/summary", "three", true)
		time.Sleep(2 * time.Second)
		ask("/summary", "three", false) // stale, and asked for
		time.Sleep(time.Second)
		ask("/summary", "four", true)
		w.e.rest.news.Store(uint32(newsCatchingUp))
		ask("/summary", "four", false)
		ask("/a.rpm", "three", true)
		w.e.rest.news.Store(uint32(newsNone))
		// A newer answer that varies hides the older one.
		w.e.names.vary(&call{site: w.e.rest, id: keyID("", "/page", "")}, []string{"Accept"}, keyID("", "/page", "x"))
		ask("/page", "four", false)
	})
}

// doorAt is a door that is open already: ln, which may have TLS.
func doorAt(t *testing.T, ln net.Listener, metrics *prometheus.Registry) *doors.Doors {
	t.Helper()
	d, err := doors.Listeners{Listen: ln.Addr().String()}.Open(t.Context(), doors.Options{Role: "edge", Env: role.Env{
		Metrics: metrics, Listen: func(context.Context, string) (net.Listener, error) { return ln, nil },
	}.WithDefaults()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
