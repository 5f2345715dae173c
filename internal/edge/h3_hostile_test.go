package edge

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"freshet/internal/accesslog"
)

// A body of another length than it says is refused over HTTP/3, and no origin
// takes it for whole.
func TestBodyLengthsOverHTTP3(t *testing.T) {
	var whole, length atomic.Int64
	s := newSeeing(t, accesslog.JSON, func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			whole.Add(1)
			length.Store(int64(len(body)))
		}
	})
	defer s.end() // before the client
	s.over("h3")
	for _, c := range []struct {
		says, sends int64
		ok          bool
	}{{5, 5, true}, {5, 3, false}, {5, 8, false}, {0, 3, true}} { // 0: it says nothing
		before := whole.Load()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/x", io.NopCloser(strings.NewReader(strings.Repeat("x", int(c.sends)))))
		if err != nil {
			t.Fatal(err)
		}
		if req.ContentLength = c.says; c.says == 0 {
			req.ContentLength = -1
		}
		resp, err := s.client.Do(req)
		status := 0
		if err == nil {
			status = resp.StatusCode
			_ = resp.Body.Close()
		}
		came := whole.Load() > before
		if c.sends > c.says && c.says > 0 && status == 200 && came && length.Load() == c.says {
			continue // the client sends what it said and breaks off then, which comes later
		}
		if (status == 200) != c.ok || came != c.ok {
			t.Errorf("%+v: status %d, %v; whole to the origin: %v", c, status, err, came)
		}
	}
}
