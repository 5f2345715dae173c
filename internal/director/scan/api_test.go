package scan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/orders"
)

// office is the API of a scanner behind its desk.
type office struct {
	t   *testing.T
	mux *http.ServeMux
}

func newOffice(t *testing.T, s *Scanner, c *directorapi.Catalogue, cfg orders.Config) *office {
	t.Helper()
	desk, err := orders.Open(cfg, func() *directorapi.Catalogue { return c }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = desk.Close() })
	mux := http.NewServeMux()
	s.Register(desk, mux.Handle)
	return &office{t, mux}
}

// ask sends a request with a token, and returns status, reason and body.
func (o *office) ask(method, path, token, body string) (status int, reason string, answer []byte) {
	o.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	o.mux.ServeHTTP(w, r)
	var e directorapi.Error
	_ = json.Unmarshal(w.Body.Bytes(), &e)
	return w.Code, e.Reason, w.Body.Bytes()
}

// manifestOf writes a manifest of files of one byte.
func manifestOf(head string, names ...string) string {
	var b bytes.Buffer
	b.WriteString("freshet-manifest 1\n" + head + "\n")
	for _, name := range names {
		if strings.HasPrefix(name, "gone ") {
			b.WriteString(name + "\n")
			continue
		}
		fmt.Fprintf(&b, "1 - - %s\n", name)
	}
	fmt.Fprintf(&b, "end %d\n", len(names))
	return b.String()
}

func TestAPI(t *testing.T) {
	t.Parallel()
	token, hash := control.NewToken("test")
	admin, adminHash := control.NewToken("test")
	kept, keptHash := control.NewToken("test")
	c := &directorapi.Catalogue{
		Projects: []directorapi.Project{{Name: "p", Inventory: directorapi.Source{How: directorapi.HowManifest}}},
		Mirrors: []directorapi.Mirror{
			{Name: "m", Token: hash, Carries: []directorapi.Carried{{Project: "p", Inventory: directorapi.Source{How: directorapi.HowManifest}}}},
			{Name: "other", Carries: []directorapi.Carried{{Project: "p", HTTP: "http://127.0.0.1:1/", Inventory: directorapi.Source{How: directorapi.HowHTTP}}}},
		},
	}
	s := newScanner(t, Options{PushedOnly: true, Catalogue: newShelf(c)})
	s.adopt(t.Context(), c)
	o := newOffice(t, s, c, orders.Config{Clients: map[string]orders.ClientConfig{
		"admin": {Token: adminHash}, "kept": {Token: keptHash, Mirrors: []string{"other"}},
	}})
	push := func(mirror, project, token, body string, status int, reason string) {
		t.Helper()
		got, why, answer := o.ask(http.MethodPut, directorapi.ManifestPath(mirror, project), token, body)
		if got != status || why != reason {
			t.Errorf("%d %q, want %d %q: %s", got, why, status, reason, answer)
		}
	}
	names := []string{"a", "b", "c", "d", "e"}
	push("-", "p", admin, manifestOf("project p\ngeneration o1\n", names...), 204, "")
	push("m", "p", token, manifestOf("project p\ngeneration 1\n", names...), 204, "")
	same(t, held(s.o.Inventory, "p", "m"), map[string]int64{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1})
	push("m", "p", token, manifestOf("project p\ngeneration 2\nbase 1\n", "gone a"), 204, "")
	same(t, held(s.o.Inventory, "p", "m"), map[string]int64{"b": 1, "c": 1, "d": 1, "e": 1})

	// What is refused changes nothing.
	push("m", "p", token, manifestOf("project p\ngeneration 3\nbase 1\n", "gone b"), 409, "gap")
	push("m", "p", token, manifestOf("project q\ngeneration 3\n", "b"), 400, "bad_request")
	push("m", "p", token, "hello", 400, "bad_request")
	push("m", "p", token, strings.TrimSuffix(manifestOf("project p\ngeneration 3\n", names...), "end 5\n"), 400, "bad_request")
	push("other", "p", admin, manifestOf("project p\ngeneration 3\n", "b"), 404, "not_found")
	push("m", "none", admin, manifestOf("project none\ngeneration 3\n", "b"), 404, "not_found")
	push("other", "p", token, manifestOf("project p\ngeneration 3\n", "b"), 403, "forbidden")
	push("-", "p", token, manifestOf("project p\ngeneration 3\n", "b"), 403, "forbidden")
	push("m", "p", kept, manifestOf("project p\ngeneration 3\n", "b"), 403, "forbidden")
	push("m", "p", "wrong", manifestOf("project p\ngeneration 3\n", "b"), 401, "unauthorized")
	same(t, held(s.o.Inventory, "p", "m"), map[string]int64{"b": 1, "c": 1, "d": 1, "e": 1})
	if st, _ := s.Status("m", "p"); st.Failures == 0 || st.Cause != string(Push) {
		t.Errorf("status after a refusal: %+v", st)
	}
	// Most is gone: that counts when it is said twice.
	push("m", "p", token, manifestOf("project p\ngeneration 4\n", "b"), 409, "shrunk")
	push("m", "p", token, manifestOf("project p\ngeneration 4\n", "b"), 204, "")
	same(t, held(s.o.Inventory, "p", "m"), map[string]int64{"b": 1})

	list := func(token, query string) (found []string) {
		t.Helper()
		_, _, answer := o.ask(http.MethodGet, directorapi.ScansPath+query, token, "")
		var list directorapi.ScanList
		if err := json.Unmarshal(answer, &list); err != nil {
			t.Fatal(err)
		}
		for _, st := range list.Scans {
			found = append(found, st.Mirror+"/"+st.Project)
		}
		return found
	}
	if got := list(admin, ""); fmt.Sprint(got) != "[/p m/p other/p]" {
		t.Errorf("scans %v", got)
	}
	if got := list(kept, "?project=p"); fmt.Sprint(got) != "[other/p]" {
		t.Errorf("scans for a client that is kept to one mirror: %v", got)
	}
	for _, tt := range []struct {
		token, body string
		status      int
	}{
		{admin, `{"mirror":"other"}`, 202},
		{kept, `{"mirror":"other","project":"p","reason":"new disk"}`, 202},
		{kept, `{"mirror":""}`, 403},
		{admin, `{"mirror":"m"}`, 404}, // it pushes
		{admin, `{"mirrors":"m"}`, 400},
	} {
		if status, _, answer := o.ask(http.MethodPost, directorapi.ScansPath, tt.token, tt.body); status != tt.status {
			t.Errorf("%s: %d, want %d: %s", tt.body, status, tt.status, answer)
		}
	}
	if st, _ := s.Status("other", "p"); st.Reason != "new disk" {
		t.Errorf("status of a scan that was asked for: %+v", st)
	}
}
