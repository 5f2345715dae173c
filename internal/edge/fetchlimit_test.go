package edge

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/edge/turns"
	"freshet/internal/role"
)

// What is asked of an origin at once is bounded. Who comes later waits, for a
// time and in a line with an end; hits, and who joins, are not concerned.
func TestFetchLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var slow atomic.Bool
		release := make(chan struct{})
		w := newWorld(t, Config{Limits: LimitsConfig{Fetches: 4, FetchesWaiting: 6, FetchWait: 3 * time.Second}}, func(rw http.ResponseWriter, r *http.Request) {
			if slow.Load() {
				<-release
			}
			_, _ = io.WriteString(rw, r.URL.Path)
		})
		w.get("/hit.rpm")
		w.get("/repodata/repomd.xml")
		time.Sleep(10 * time.Minute) // the root is stale
		slow.Store(true)
		var clients sync.WaitGroup
		var served, refused, late atomic.Int64
		ask := func(path string) {
			begun := time.Now()
			a := w.get(path)
			took := time.Since(begun)
			switch {
			case a.status == http.StatusOK && a.body == path && took == time.Second:
				served.Add(1)
			case a.status != http.StatusServiceUnavailable || a.header.Get(role.ReasonHeader) != "fetch_limit" || a.header.Get("Retry-After") == "":
				t.Errorf("%s: %d, %v", path, a.status, a.header)
			case !strings.Contains(a.header.Get("Proxy-Status"), "connection_limit_reached"):
				t.Errorf("Proxy-Status is %q", a.header.Get("Proxy-Status"))
			case took >= 3*time.Second:
				late.Add(1)
			default:
				refused.Add(1)
			}
		}
		for i := range 16 {
			clients.Go(func() { ask(fmt.Sprintf("/%d.rpm", i)) })
			synctest.Wait()
		}
		for range 20 { // of a fetch that is under way
			clients.Go(func() { ask("/0.rpm") })
		}
		synctest.Wait()
		w.want(w.get("/hit.rpm"), "/hit.rpm", "hit")
		if running, waiting := w.metric("freshet_edge_fetches", "default"), w.metric("freshet_edge_fetches_waiting", "default"); running != 4 || waiting != 6 {
			t.Errorf("%v run and %v wait", running, waiting)
		}
		time.Sleep(time.Second)
		slow.Store(false)
		close(release)
		clients.Wait()
		if served.Load() != 4+6+20 || refused.Load() != 6 || late.Load() != 0 {
			t.Errorf("%d served, %d refused, %d too late", served.Load(), refused.Load(), late.Load())
		}
		if n := w.metric("freshet_edge_requests_total", "error:fetch_limit"); n != 6 {
			t.Errorf("%v are counted", n)
		}
	})
}

// Who waits in vain is told so, or has what is stored.
func TestFetchLimitLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var slow atomic.Bool
		w := newWorld(t, Config{Limits: LimitsConfig{Fetches: 2, FetchWait: 3 * time.Second}}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Etag", `"1"`)
			if slow.Load() {
				select {
				case <-time.After(14 * time.Second):
				case <-r.Context().Done():
				}
			}
			_, _ = io.WriteString(rw, r.URL.Path)
		})
		w.get("/stale.rpm")
		time.Sleep(8 * 24 * time.Hour)
		slow.Store(true)
		var clients sync.WaitGroup
		for i := range 2 {
			clients.Go(func() { w.get(fmt.Sprintf("/%d.rpm", i)) })
		}
		synctest.Wait()
		begun := time.Now()
		if a := w.get("/2.rpm"); a.status != 503 || a.header.Get(role.ReasonHeader) != "fetch_limit" || time.Since(begun) != 3*time.Second {
			t.Errorf("%d after %v", a.status, time.Since(begun))
		}
		begun = time.Now()
		if a := w.get("/stale.rpm"); a.status != 200 || a.body != "/stale.rpm" || time.Since(begun) != 3*time.Second {
			t.Errorf("what is stored: %d after %v", a.status, time.Since(begun))
		}
		clients.Wait()
	})
}

// transportFunc is an origin in the place of a network.
type transportFunc func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// One address has its share of what is asked of an origin, not more, and others
// have theirs at once.
func TestFetchesPerAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked atomic.Int64
		origin := transportFunc(func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			select {
			case <-release:
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
			return &http.Response{StatusCode: 200, ContentLength: 1, Body: io.NopCloser(strings.NewReader("x")), ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}, nil
		})
		e, err := New(t.Context(), Config{
			Origin: "http://origin.mem", Store: t.TempDir(), Size: 64 << 20, Follow: "off", Limits: LimitsConfig{FetchesPerAddress: 5, FetchWait: time.Minute},
		}, role.Env{HTTP: &http.Client{Transport: origin}})
		if err != nil {
			t.Fatal(err)
		}
		var clients sync.WaitGroup
		n := 0
		get := func(from, kind string) {
			n++
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/%d.%s", n, kind), nil)
			r.RemoteAddr = from
			clients.Go(func() {
				a := httptest.NewRecorder()
				if e.ServeHTTP(a, r); a.Code != 200 || a.Body.String() != "x" {
					t.Errorf("%s: %d %q", from, a.Code, a.Body)
				}
			})
		}
		for range 4 {
			get("192.0.2.1:1000", "rpm")
			get("192.0.2.1:2000", "unknown")
			get("[2001:db8::1]:1000", "rpm")
			get("[2001:db8::2]:1000", "rpm") // of the same network
			get("192.0.2.2:1000", "rpm")
		}
		for range 9 {
			get("127.0.0.1:1000", "rpm")
		}
		synctest.Wait()
		if got := asked.Load(); got != 5+5+4+9 {
			t.Errorf("%d fetches are under way", got)
		}
		close(release)
		clients.Wait()
		if got := asked.Load(); got != 4*5+9 {
			t.Errorf("%d fetches in the end", got)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// stuckClient is a client who takes nothing of a body until he is let go.
type stuckClient struct {
	*httptest.ResponseRecorder
	release <-chan struct{}
}

// Write implements [io.Writer].
func (c stuckClient) Write(p []byte) (int, error) {
	<-c.release
	return c.ResponseRecorder.Write(p) //nolint:wrapcheck // as it is
}

// passingOrigin reads all that it is sent, and answers with body; what ends in
// .pass is not to be stored.
func passingOrigin(body string) transportFunc {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{}
		if strings.HasSuffix(r.URL.Path, ".pass") {
			h.Set("Cache-Control", "no-store")
		}
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
		}
		return &http.Response{StatusCode: 200, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1, Header: h}, nil
	}
}

// Clients that take nothing of what is passed on to them, or send nothing of
// what is to be, may take all that is passed on at once: others wait for that, in
// vain, but what is stored goes on.
func TestPassesLeaveFetches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := strings.Repeat("x", 1<<20)
		origin := passingOrigin(body)
		e, err := New(t.Context(), Config{
			Origin: "http://origin.mem", Store: t.TempDir(), Size: 64 << 20, Follow: "off",
			Limits: LimitsConfig{Fetches: 8, Passes: 16, FetchWait: 3 * time.Second},
		}, role.Env{HTTP: &http.Client{Transport: origin}})
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		var clients sync.WaitGroup
		sent, upload := io.Pipe()
		for i := range 16 { // each of another network
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/%d.pass", i), nil)
			switch i % 4 {
			case 1:
				r.Header.Set("Authorization", "Basic eA==") // alone from the beginning
			case 2:
				r = httptest.NewRequestWithContext(t.Context(), http.MethodDelete, fmt.Sprintf("/%d", i), nil)
			case 3:
				r = httptest.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("/%d", i), sent)
			}
			r.RemoteAddr = fmt.Sprintf("[2001:db8:0:%d::1]:1", i)
			clients.Go(func() { e.ServeHTTP(stuckClient{httptest.NewRecorder(), release}, r) })
		}
		synctest.Wait()
		if held, _ := e.rest.passes.Held(); held != 16 {
			t.Errorf("%d are passed on", held)
		}
		if held, _ := e.rest.line.Held(); held != 0 {
			t.Errorf("%d fetches are held by what is passed on", held)
		}
		ask := func(path string) (*httptest.ResponseRecorder, time.Duration) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			begun, a := time.Now(), httptest.NewRecorder()
			e.ServeHTTP(a, r)
			return a, time.Since(begun)
		}
		for i := range 20 {
			if a, took := ask(fmt.Sprintf("/%d.rpm", i)); a.Code != 200 || a.Body.Len() != len(body) || took > 0 {
				t.Errorf("a miss: %d, %d bytes after %v", a.Code, a.Body.Len(), took)
			}
		}
		if a, took := ask("/late.pass"); a.Code != 503 || a.Header().Get(role.ReasonHeader) != "fetch_limit" || took != 3*time.Second {
			t.Errorf("one more to pass on: %d %v after %v", a.Code, a.Header(), took)
		}
		_ = upload.Close()
		close(release)
		clients.Wait()
		if a, took := ask("/again.pass"); a.Code != 200 || a.Body.Len() != len(body) || took > 0 {
			t.Errorf("when there is room: %d, %d bytes after %v", a.Code, a.Body.Len(), took)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		for _, line := range []*turns.Line{&e.rest.line, &e.rest.passes} {
			if held, waiting := line.Held(); held+waiting != 0 {
				t.Errorf("%d are held and %d wait in the end", held, waiting)
			}
		}
	})
}

// A few addresses whose clients take nothing of what is passed on to them leave
// room for all others: for what is stored, and for what is not.
func TestSlowAddressesLeaveRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := strings.Repeat("x", 1<<20)
		origin := passingOrigin(body)
		e, err := New(t.Context(), Config{
			Origin: "http://origin.mem", Store: t.TempDir(), Size: 64 << 20, Follow: "off",
			Limits: LimitsConfig{Fetches: 64, Passes: 64, PassesPerAddress: 16, FetchWait: time.Minute},
		}, role.Env{HTTP: &http.Client{Transport: origin}})
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		var clients sync.WaitGroup
		for i := range 4 * 16 {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/%d.pass", i), nil)
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i%4)
			clients.Go(func() { e.ServeHTTP(stuckClient{httptest.NewRecorder(), release}, r) })
		}
		synctest.Wait()
		if held, waiting := e.rest.passes.Held(); held < 16 || waiting == 0 {
			t.Errorf("%d are held and %d wait", held, waiting)
		}
		for i := range 20 {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/other/%d.%s", i, [...]string{"rpm", "pass"}[i%2]), nil)
			r.RemoteAddr = fmt.Sprintf("198.51.100.%d:1", i)
			begun := time.Now()
			a := httptest.NewRecorder()
			if e.ServeHTTP(a, r); a.Code != 200 || a.Body.Len() != len(body) || time.Since(begun) > time.Second {
				t.Errorf("%s: %d, %d bytes after %v", r.URL, a.Code, a.Body.Len(), time.Since(begun))
			}
		}
		close(release)
		clients.Wait()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if held, waiting := e.rest.passes.Held(); held+waiting != 0 {
			t.Errorf("%d are held and %d wait in the end", held, waiting)
		}
	})
}
