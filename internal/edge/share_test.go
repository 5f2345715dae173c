package edge

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/role"
)

// addressed is an edge whose clients have addresses, of which each may have two
// fetches, and wait ten seconds for one. Of an address, /ADDRESS/N are fetched
// until it is let go; everything else is answered at once.
type addressed struct {
	t       *testing.T
	e       *Edge
	answer  func(r *http.Request) (*http.Response, error)
	release map[string]chan struct{}
	clients sync.WaitGroup
}

func newAddressed(t *testing.T, answer func(*http.Request) (*http.Response, error), addresses ...string) *addressed {
	t.Helper()
	w := &addressed{t: t, answer: answer, release: make(map[string]chan struct{})}
	for _, address := range addresses {
		w.release[address] = make(chan struct{})
	}
	origin := transportFunc(func(r *http.Request) (*http.Response, error) {
		address, _, _ := strings.Cut(r.URL.Path[1:], "/")
		if release := w.release[address]; release != nil {
			<-release
		}
		return w.answer(r)
	})
	var err error
	if w.e, err = New(t.Context(), Config{
		Origin: "http://origin.mem", Store: t.TempDir(), Size: 64 << 20, Follow: "off", Limits: LimitsConfig{FetchesPerAddress: 2, FetchWait: 10 * time.Second},
	}, role.Env{HTTP: &http.Client{Transport: origin}}); err != nil {
		t.Fatal(err)
	}
	return w
}

// exhaust has an address fetch as much as it may.
func (w *addressed) exhaust(address string) {
	w.t.Helper()
	for i := range 2 {
		w.clients.Go(func() { w.get(address, fmt.Sprintf("/%s/%d.rpm", address, i)) })
	}
	synctest.Wait()
	if w.e.rest.line.Free((&call{from: address + ":1"}).source()) {
		w.t.Errorf("%s may fetch more", address)
	}
}

func (w *addressed) get(address, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, nil)
	r.RemoteAddr = address + ":1"
	a := httptest.NewRecorder()
	w.e.ServeHTTP(a, r)
	return a
}

func (w *addressed) wants(a *httptest.ResponseRecorder, begun time.Time, body string, took time.Duration) {
	w.t.Helper()
	if a.Body.String() != body || time.Since(begun) != took {
		w.t.Errorf("%d %q after %v, want %q after %v", a.Code, a.Body, time.Since(begun), body, took)
	}
}

// end lets all go, and sees to it that no turn is lost.
func (w *addressed) end() {
	w.t.Helper()
	for _, release := range w.release {
		select {
		case <-release:
		default:
			close(release)
		}
	}
	w.clients.Wait()
	if err := w.e.Close(); err != nil {
		w.t.Error(err)
	}
	if running, waiting := w.e.rest.line.Held(); running+waiting != 0 {
		w.t.Errorf("%d have a turn and %d wait in the end", running, waiting)
	}
}

func answerOf(status int, body io.Reader, fields ...string) *http.Response {
	h := http.Header{}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	return &http.Response{StatusCode: status, ContentLength: -1, TransferEncoding: []string{"chunked"}, Body: io.NopCloser(body), ProtoMajor: 1, ProtoMinor: 1, Header: h}
}

// A fetch that waits because its client's address has its share holds up nobody
// of another address, whether he comes later or waits with it.
func TestShareIsOnesOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const a, b, c = "192.0.2.1", "192.0.2.2", "192.0.2.3"
		w := newAddressed(t, func(*http.Request) (*http.Response, error) {
			return answerOf(http.StatusOK, strings.NewReader("body")), nil
		}, a, b)
		w.exhaust(a)
		w.exhaust(b)
		begun := time.Now()
		for _, path := range []string{"/x.rpm", "/y.rpm"} {
			w.clients.Go(func() {
				if got := w.get(a, path); got.Code != http.StatusServiceUnavailable || got.Header().Get(role.ReasonHeader) != "fetch_limit" {
					t.Errorf("who has his share gets %d, %v", got.Code, got.Header())
				}
			})
		}
		synctest.Wait()
		w.clients.Go(func() { w.wants(w.get(b, "/x.rpm"), begun, "body", 10*time.Second) })
		time.Sleep(time.Second)
		close(w.release[b])
		synctest.Wait()
		later := time.Now()
		w.wants(w.get(c, "/y.rpm"), later, "body", 0)
		time.Sleep(time.Minute)
		w.end()
	})
}

// That there is no room to ask says nothing about the origin: the next one asks
// it.
func TestFetchLimitIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const a, b = "192.0.2.1", "192.0.2.2"
		version := "old"
		w := newAddressed(t, func(*http.Request) (*http.Response, error) {
			return answerOf(http.StatusOK, strings.NewReader(version), `Etag: "`+version+`"`), nil
		}, a)
		w.get(b, "/x.rpm")
		time.Sleep(8 * 24 * time.Hour)
		version = "new"
		w.exhaust(a)
		begun := time.Now()
		w.wants(w.get(a, "/x.rpm"), begun, "old", 10*time.Second)
		w.wants(w.get(b, "/x.rpm"), time.Now(), "new", 0)
		w.end()
	})
}

// panics is a body that panics.
type panics struct{}

func (panics) Read([]byte) (int, error) { panic(errBug) }

var errBug = errors.New("a bug")

// Whatever panics between the question and the end of the answer, no turn is
// lost, nobody waits for ever, and the edge lives.
func TestPanicLosesNoTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newAddressed(t, func(r *http.Request) (*http.Response, error) {
			switch {
			case strings.HasSuffix(r.URL.Path, "asked.rpm"):
				panic(errBug)
			case strings.HasSuffix(r.URL.Path, "missing.rpm"):
				return answerOf(http.StatusNotFound, panics{}), nil
			case strings.HasSuffix(r.URL.Path, "error.rpm"):
				return answerOf(http.StatusBadGateway, panics{}), nil
			case strings.HasSuffix(r.URL.Path, "alone.rpm"):
				return answerOf(http.StatusOK, panics{}, "Cache-Control: no-store"), nil
			}
			return answerOf(http.StatusOK, panics{}), nil
		})
		for _, path := range []string{"/asked.rpm", "/missing.rpm", "/error.rpm", "/alone.rpm", "/fill.rpm"} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				func() {
					defer func() {
						if p := recover(); p != nil && p != any(errBug) && p != any(http.ErrAbortHandler) {
							t.Errorf("%s %s: %v", method, path, p)
						}
					}()
					w.e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, nil))
				}()
				synctest.Wait()
				if running, _ := w.e.rest.line.Held(); running != 0 {
					t.Errorf("%s %s: %d turns are lost", method, path, running)
				}
			}
		}
		if len(w.e.flights)+len(w.e.live) != 0 {
			t.Errorf("%d flights may be joined, %d are live", len(w.e.flights), len(w.e.live))
		}
		w.end()
	})
}
