package edge

import (
	"net/http"
	"sync/atomic"
	"testing"

	"freshet/internal/accesslog"
)

// What HTTP/2 and HTTP/3 can carry in a query, and HTTP/1.1 cannot, is the
// client's fault, and no origin is held to have failed for it.
func TestQueryThatIsNone(t *testing.T) {
	var asked atomic.Int64
	s := newSeeing(t, accesslog.JSON, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	defer s.end() // before the client
	for _, protocol := range []string{"h2", "h3"} {
		s.over(protocol)
		for query, want := range map[string]int{"a b": 400, "a HTTP/1.1": 400, "a%20b": 200, "a=\u00e4": 200} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+"/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.URL.RawQuery = query
			before := asked.Load()
			resp, err := s.client.Do(req)
			if err != nil {
				t.Fatalf("%s, %q: %v", protocol, query, err)
			}
			_ = resp.Body.Close()
			if reason := resp.Header.Get("Freshet-Reason"); resp.StatusCode != want || (reason == "bad_path") != (want == 400) || want == 400 && asked.Load() > before {
				t.Errorf("%s, %q: status %d, reason %q, want %d", protocol, query, resp.StatusCode, reason, want)
			}
		}
	}
}
