package edge

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// statement is one sentence of a standard, and the exchanges that show it.
// Every statement has a path of its own.
type statement struct {
	says  string // with its section
	steps []step
}

// step is one request of a client, and what becomes of it.
type step struct {
	after  time.Duration // passes before
	method string        // GET if empty
	path   string        // is added to the statement's
	send   []string      // fields of the request
	// from is what the origin answers: fields, ":404" for a status, ":cut" for a
	// broken connection, "~name: value" for a 103 before. Nil says that it must
	// not be asked. "@5" in a value is the HTTP-date five seconds from now.
	from []string
	// asks are the fields of the request that the origin sees; "!Name" says
	// that it must not be there.
	asks []string
	// gives is the step whose body comes, counted from 1; 0 is this one if the
	// origin is asked, else the first. -1: none is looked at.
	gives  int
	status int      // 200 if 0
	has    []string // fields of the answer, as in asks
}

// script plays statements against an edge.
type script struct {
	*world
	mu    sync.Mutex
	now   *step // the one being played
	n     int
	path  string
	asked []http.Header
}

// newScript starts an edge in front of an origin that answers as scripted.
func newScript(t *testing.T, rules string) *script {
	t.Helper()
	s := new(script)
	s.world = newWorld(t, Config{Rules: rules}, s.origin)
	return s
}

func dated(value string) string {
	if rest, ok := strings.CutPrefix(value, "@"); ok {
		if n, err := strconv.Atoi(rest); err == nil {
			return time.Now().Add(time.Duration(n) * time.Second).UTC().Format(http.TimeFormat)
		}
	}
	return value
}

func (s *script) origin(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if r.URL.Path != s.path { // what belongs to it, asked for by the edge itself
		s.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	st, n := s.now, s.n
	s.asked = append(s.asked, r.Header.Clone())
	s.mu.Unlock()
	status := http.StatusOK
	h := w.Header()
	h["Date"] = nil
	h["Content-Type"] = []string{"text/plain"}
	early := make(http.Header)
	for _, f := range st.from {
		name, value, _ := strings.Cut(f, ": ")
		switch {
		case f == ":cut":
			panic(http.ErrAbortHandler)
		case strings.HasPrefix(f, ":"):
			status, _ = strconv.Atoi(f[1:])
		case strings.HasPrefix(f, "~"):
			early.Add(name[1:], value)
		case name == "Date":
			h["Date"] = []string{dated(value)}
		default:
			h.Add(name, dated(value))
		}
	}
	if len(early) > 0 {
		final := h.Clone()
		clear(h)
		maps.Copy(h, early)
		w.WriteHeader(http.StatusEarlyHints)
		clear(h)
		maps.Copy(h, final)
	}
	w.WriteHeader(status)
	if status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified {
		fmt.Fprintf(w, "answer %d", n)
	}
}

func (s *script) play(st statement, path string) {
	s.t.Helper()
	for i := range st.steps {
		if !s.step(st.says, path, i, &st.steps[i]) {
			return // what follows builds on it
		}
	}
}

// step plays one. It reports false if something is wrong.
func (s *script) step(says, path string, i int, st *step) bool {
	s.t.Helper()
	time.Sleep(st.after) // of the bubble
	s.mu.Lock()
	s.now, s.n, s.asked = st, i+1, nil
	s.path, _, _ = strings.Cut(path+st.path, "?")
	s.mu.Unlock()
	method := st.method
	if method == "" {
		method = http.MethodGet
	}
	var send []string
	for _, f := range st.send {
		name, value, _ := strings.Cut(f, ": ")
		send = append(send, name+": "+dated(value))
	}
	a := s.do(method, path+st.path, send...)
	synctest.Wait() // what goes on in the background
	s.mu.Lock()
	asked := s.asked
	s.mu.Unlock()
	good := true
	fail := func(format string, args ...any) {
		s.t.Helper()
		good = false
		s.t.Errorf("%s: step %d: %s\n%d %v %q", says, i+1, fmt.Sprintf(format, args...), a.status, a.header, a.body)
	}
	switch {
	case st.from == nil && len(asked) > 0:
		fail("the origin was asked")
	case st.from != nil && len(asked) == 0:
		fail("the origin was not asked")
	case len(asked) > 1 && !slices.Contains(st.from, ":cut"): // that is tried once more
		fail("the origin was asked %d times", len(asked))
	}
	want := st.status
	if want == 0 {
		want = http.StatusOK
	}
	if a.status != want {
		fail("status %d, want %d", a.status, want)
	}
	gives := st.gives
	if gives == 0 {
		if gives = 1; st.from != nil {
			gives = i + 1
		}
	}
	if body := fmt.Sprintf("answer %d", gives); gives > 0 && method == http.MethodGet && a.status < 300 && a.status != 204 && a.body != body {
		fail("body %q, want %q", a.body, body)
	}
	var first, last, size int
	if n, _ := fmt.Sscanf(a.header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); n == 3 && size == 8 && a.body != "answer 1"[first:last+1] {
		fail("the part is %q", a.body)
	}
	if problem := compare(st.has, a.header); problem != "" {
		fail("answer: %s", problem)
	}
	if len(asked) > 0 {
		if problem := compare(st.asks, asked[0]); problem != "" {
			fail("request to the origin: %s", problem)
		}
	}
	return good
}

// compare says what is wrong with h: "Name: value" must be there, "Name" with
// any value, "!Name" must not.
func compare(want []string, h http.Header) string {
	for _, f := range want {
		name, value, exact := strings.Cut(f, ": ")
		got := strings.Join(h.Values(strings.TrimPrefix(name, "!")), ", ")
		switch {
		case strings.HasPrefix(name, "!"):
			if len(h.Values(name[1:])) > 0 {
				return fmt.Sprintf("%s is %q, want none", name[1:], got)
			}
		case len(h.Values(name)) == 0:
			return name + " is missing"
		case exact && got != value:
			return fmt.Sprintf("%s is %q, want %q", name, got, value)
		}
	}
	return ""
}

// playAll plays a table in one bubble.
func playAll(t *testing.T, rules, root string, table []statement) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		s := newScript(t, rules)
		for i, st := range table {
			s.play(st, fmt.Sprintf("%s%d", root, i))
		}
	})
}
