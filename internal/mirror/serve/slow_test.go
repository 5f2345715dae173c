package serve_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/serve"
	"freshet/internal/role"
)

// slow is a client that takes what it is sent when it likes.
type slow struct {
	header http.Header
	status int
	taken  int
	take   func(n int) error // is called before each write
}

func (s *slow) Header() http.Header    { return s.header }
func (s *slow) WriteHeader(status int) { s.status = status }

func (s *slow) Write(p []byte) (int, error) {
	if err := s.take(len(p)); err != nil {
		return 0, err
	}
	s.taken += len(p)
	return len(p), nil
}

// longFolder is a tree with a folder whose listing is long.
func longFolder() map[string]string {
	files := make(map[string]string)
	for i := range 400 {
		files[fmt.Sprintf("Packages/%s-%04d.rpm", strings.Repeat("&", 200), i)] = "x" // each sign is ten in a page
	}
	return files
}

func list(t *testing.T, site *serve.Site, w http.ResponseWriter, target string) (cut bool) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("panic: %v", p)
			}
			cut = true
		}
	}()
	site.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
	return false
}

// newSite serves the project of a world without any server, in the time of a test.
func (w *world) newSite(t *testing.T) *serve.Site {
	t.Helper()
	site, err := serve.New(serve.Options{MaxListings: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	site.Show([]*generation.Project{w.epel}, nil)
	t.Cleanup(site.Close)
	return site
}

// Clients that take none of a listing keep nobody else from one.
func TestListingsToSlowClients(t *testing.T) {
	w := newWorld(t)
	w.publish(longFolder())
	synctest.Test(t, func(t *testing.T) {
		site := w.newSite(t)
		goOn := make(chan struct{})
		for range 6 {
			go list(t, site, &slow{header: make(http.Header), take: func(int) error { <-goOn; return http.ErrBodyNotAllowed }}, "/epel/Packages/")
		}
		synctest.Wait()
		got := httptest.NewRecorder()
		list(t, site, got, "/epel/Packages/")
		if n := strings.Count(got.Body.String(), "<tr>"); got.Code != http.StatusOK || n < 400 {
			t.Errorf("%d, %d rows", got.Code, n)
		}
		close(goOn)
	})
}

// Of long listings only so much is in memory: others are told to come later, and those who
// take theirs too slowly are cut.
func TestLongListings(t *testing.T) {
	w := newWorld(t)
	w.publish(longFolder())
	synctest.Test(t, func(t *testing.T) {
		site := w.newSite(t)
		one := httptest.NewRecorder()
		list(t, site, one, "/epel/Packages/")
		fit := 8<<20/one.Body.Len() + 1
		cut := make(chan bool, fit)
		for range fit {
			// Each piece of 16 KiB takes 100 seconds.
			client := &slow{header: make(http.Header), take: func(int) error { time.Sleep(100 * time.Second); return nil }}
			go func() { cut <- list(t, site, client, "/epel/Packages/") && client.taken < one.Body.Len() }()
		}
		synctest.Wait()
		late := httptest.NewRecorder()
		list(t, site, late, "/epel/Packages/")
		if late.Code != http.StatusServiceUnavailable || late.Header().Get(role.ReasonHeader) != string(serve.Busy) || late.Header().Get("Retry-After") == "" {
			t.Errorf("one more: %d %v", late.Code, late.Header())
		}
		small := httptest.NewRecorder()
		if list(t, site, small, "/epel/"); small.Code != http.StatusOK {
			t.Errorf("a short one: %d", small.Code)
		}
		time.Sleep(101 * time.Second)
		slow := 0
		for range fit {
			if <-cut {
				slow++
			}
		}
		if slow != fit-1 { // one of them came too late
			t.Errorf("%d of %d clients were cut", slow, fit)
		}
		again := httptest.NewRecorder()
		if list(t, site, again, "/epel/Packages/"); again.Code != http.StatusOK || again.Body.Len() != one.Body.Len() {
			t.Errorf("afterwards: %d with %d bytes", again.Code, again.Body.Len())
		}
	})
}
