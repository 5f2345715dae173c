package versions

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"freshet/internal/watchdog"
)

// TestHTTPOrigin reads from a real server: what has changed, what has not, what is not
// there, and from the second when the first fails.
func TestHTTPOrigin(t *testing.T) {
	t.Parallel()
	old := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	var seen http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		switch r.URL.Path {
		case "/a/a b%.rpm", "/a/x:y":
			_, _ = io.WriteString(w, "odd")
		case "/a/etag":
			w.Header().Set("ETag", `"1"`)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader("etag"))
		case "/a/modified":
			w.Header().Set("Last-Modified", old)
			if r.Header.Get("If-Modified-Since") == old {
				w.WriteHeader(http.StatusNotModified)
			}
		case "/a/fresh":
			w.Header().Set("ETag", `"of seconds"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		case "/a/short":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "short")
		case "/a/gone":
			w.WriteHeader(http.StatusGone)
		case "/a/broken", "/b/missing":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/b/broken":
			_, _ = io.WriteString(w, "from the second")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	roots := []string{server.URL + "/a/", server.URL + "/b/"}
	o := &HTTPOrigin{Client: server.Client(), URLs: func(project string) []string {
		if project == "p" {
			return roots
		}
		return nil
	}}
	get := func(path, tag string) (content, newTag string, err error) {
		body, newTag, err := o.Get(t.Context(), "p", path, tag)
		if err != nil || body == nil {
			return "", newTag, err
		}
		data, err := io.ReadAll(body)
		return string(data), newTag, errors.Join(err, body.Close())
	}
	for _, path := range []string{"a b%.rpm", "x:y"} {
		if got, _, err := get(path, ""); got != "odd" || err != nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if seen.Get("Accept-Encoding") != "identity" || seen.Get("User-Agent") == "" {
		t.Errorf("it asked with %v", seen)
	}
	got, tag, err := get("etag", "")
	if got != "etag" || tag == "" || err != nil {
		t.Errorf("%q, %q, %v", got, tag, err)
	}
	if body, again, err := o.Get(t.Context(), "p", "etag", tag); body != nil || again != tag || err != nil {
		t.Errorf("unchanged: %q, %v", again, err)
	}
	if got, _, err := get("etag", strings.Replace(tag, `"1"`, `"0"`, 1)); got != "etag" || err != nil {
		t.Errorf("changed: %q, %v", got, err)
	}
	if got, _, err := get("etag", strings.Replace(tag, "/a/", "/b/", 1)); got != "etag" || err != nil || seen.Get("If-None-Match") != "" {
		t.Errorf("a tag of another origin: %q, %v", got, err)
	}
	_, tag, err = get("modified", "")
	if body, _, err2 := o.Get(t.Context(), "p", "modified", tag); tag == "" || body != nil || err != nil || err2 != nil {
		t.Errorf("unchanged: %q, %v, %v", tag, err, err2)
	}
	if _, tag, err := get("fresh", ""); tag != "" || err != nil {
		t.Errorf("what changed just now can change again: %q, %v", tag, err)
	}
	if _, _, err := get("short", ""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
	for _, path := range []string{"gone", "nowhere"} {
		if _, _, err := get(path, ""); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got, _, err := get("broken", ""); got != "from the second" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	roots[0] = "http://127.0.0.1:1/"
	if _, _, err := get("missing", ""); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(err.Error(), "503") {
		t.Errorf("both fail: %v", err)
	}
	if _, _, err := o.Get(t.Context(), "q", "x", ""); err == nil {
		t.Error("a project without an origin")
	}
}

// An origin that sends nothing is given up, wherever it stops.
func TestOriginStalls(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}))
	defer server.Close()
	o := &HTTPOrigin{Client: server.Client(), URLs: func(string) []string { return []string{server.URL + "/"} }, Stall: 10 * time.Millisecond}
	for _, path := range []string{"head", "body"} {
		body, _, err := o.Get(t.Context(), "p", path, "")
		if err == nil {
			_, err = io.ReadAll(body)
			_ = body.Close()
		}
		if !errors.Is(err, watchdog.ErrSilent) || !strings.Contains(fmt.Sprint(err), "10ms") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
