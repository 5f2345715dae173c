package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
)

// An upstream that answers nonsense is not a mistake of the mirror.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html><h1>Under construction</h1></html>")
		},
		"other JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{}`)
		},
		"a circle": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) },
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		},
		"a bad answer": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"no bottom": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `[{"name":"d%d","type":"directory","mtime":"Sun, 22 Nov 2026 10:00:00 GMT"}]`, strings.Count(r.URL.Path, "/"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := httptest.NewServer(answer)
			defer up.Close()
			w := newWorld(t, kind.Config{Format: kind.Plain})
			w.upstreamIs(up.URL+"/", fetch.Options{})
			if r := w.sync(mirrorapi.Order{}); r.Result != mirrorapi.Failed || r.Reason != mirrorapi.ReasonMetadata {
				t.Errorf("%s, %s: %s", r.Result, r.Reason, r.Message)
			}
		})
	}
}
