package edge

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestInterimAnswers is RFC 9110 §15.2: a proxy passes on 1xx, but for what is
// between neighbours.
func TestInterimAnswers(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		proceed := make(chan struct{}, 9)
		w := newWorld(t, Config{Rules: "none"}, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h["Link"] = []string{"</style.css>; rel=preload"}
			h["X-Hop"], h["Connection"] = []string{"1"}, []string{"X-Hop"}
			w.WriteHeader(http.StatusEarlyHints)
			clear(h)
			<-proceed
			w.WriteHeader(http.StatusProcessing)
			if r.Method == http.MethodGet {
				h["Cache-Control"] = []string{r.URL.Query().Get("cc")}
			}
			_, _ = io.WriteString(w, "final")
		})
		type seen struct {
			status int
			header textproto.MIMEHeader
		}
		ask := func(method, target string, out chan<- seen) answer {
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
					out <- seen{status, h}
					return nil
				},
			}), method, "http://edge.mem"+target, nil)
			if err != nil {
				t.Error(err)
				return answer{}
			}
			resp, err := w.client.Do(req)
			if err != nil {
				t.Error(err)
				return answer{}
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return answer{resp.StatusCode, resp.Header, string(body), err, 0}
		}
		for _, c := range []struct{ method, target string }{
			{"GET", "/stored?cc=max-age=100"}, {"GET", "/alone?cc=no-store"}, {"GET", "/alone?cc=no-store"}, {"POST", "/passed"},
		} {
			first, second := make(chan seen, 9), make(chan seen, 9)
			got := make(chan answer, 2)
			go func() { got <- ask(c.method, c.target, first) }()
			synctest.Wait()
			joined := c.method == http.MethodGet && strings.HasPrefix(c.target, "/stored")
			if joined {
				go func() { got <- ask(c.method, c.target, second) }()
			} else {
				close(second)
			}
			synctest.Wait()
			for _, ch := range []chan seen{first, second} { // before the final answer is there
				early, ok := <-ch
				if ok && (early.status != 103 || early.header.Get("Link") == "" || early.header.Get("X-Hop") != "") {
					t.Errorf("%s %s: %d %v, want 103 with Link", c.method, c.target, early.status, early.header)
				}
			}
			proceed <- struct{}{}
			answers := 1
			if joined {
				answers = 2
			}
			for range answers {
				a := <-got
				if a.status != 200 || a.body != "final" || a.header.Get("Link") != "" {
					t.Errorf("%s %s: %d %v %q", c.method, c.target, a.status, a.header, a.body)
				}
			}
			if late := <-first; late.status != 102 {
				t.Errorf("%s %s: %d, want 102", c.method, c.target, late.status)
			}
		}
		// A hit has none.
		none := make(chan seen, 9)
		if a := ask("GET", "/stored?cc=max-age=100", none); a.body != "final" || len(none) > 0 {
			t.Errorf("a hit: %q, %d interim answers", a.body, len(none))
		}
	})
}

// TestNoInterimForHTTP10 is RFC 9110 §15.2: HTTP/1.0 has no 1xx.
func TestNoInterimForHTTP10(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Rules: "none"}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Link"] = []string{"</style.css>"}
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "final")
		})
		for _, method := range []string{"GET", "POST"} {
			got := w.raw(method + " /x HTTP/1.0\r\nHost: edge.mem\r\n\r\n")
			if !strings.HasPrefix(got, "HTTP/1.0 200") && !strings.HasPrefix(got, "HTTP/1.1 200") || strings.Contains(got, "103") {
				t.Errorf("%s: %q", method, got)
			}
		}
	})
}

// raw sends bytes and returns what comes until the end.
func (w *world) raw(request string) string {
	w.t.Helper()
	conn, err := w.net.DialContext(w.t.Context(), "tcp", "edge.mem:80")
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		w.t.Error(err)
	}
	return string(b)
}

// TestExpectContinue is RFC 9110 §10.1.1: 100 comes when the origin wants the
// body, and a body it does not want is never sent.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Rules: "none"}, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/refused" {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			_, _ = io.Copy(w, r.Body)
		})
		for path, want := range map[string]string{"/taken": "HTTP/1.1 100 Continue", "/refused": "HTTP/1.1 413 Request Entity Too Large"} {
			conn, err := w.net.DialContext(t.Context(), "tcp", "edge.mem:80")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "PUT "+path+" HTTP/1.1\r\nHost: edge.mem\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
			r := textproto.NewReader(bufio.NewReader(conn))
			if line, err := r.ReadLine(); err != nil || line != want {
				t.Errorf("%s: %q, %v; want %q", path, line, err, want)
			}
			if path == "/taken" {
				_, _ = io.WriteString(conn, "body")
				_, _ = r.ReadLine()
				if line, err := r.ReadLine(); err != nil || line != "HTTP/1.1 200 OK" {
					t.Errorf("%s: %q, %v", path, line, err)
				}
			}
			_ = conn.Close()
		}
	})
}

// TestForwarding is RFC 9110 §7.6 and §9.
func TestForwarding(t *testing.T) {
	t.Parallel()
	playAll(t, "none", "/76/", []statement{
		{"§7.6.1: what concerns a connection ends there", []step{{
			send: []string{"Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Te: trailers", "Proxy-Authorization: a", "X-End: 1"}, from: fresh(),
			asks: []string{"!X-Hop", "!Keep-Alive", "!Te", "!Proxy-Authorization", "X-End: 1"},
		}}},
		{"§7.6.1: also when it is passed on", []step{{
			method: "POST", send: []string{"Connection: X-Hop", "X-Hop: 1", "Upgrade: h2c", "X-End: 1"},
			from: fresh("Connection: X-Back", "X-Back: 1", "X-Out: 1"), asks: []string{"!X-Hop", "!Upgrade", "X-End: 1"}, has: []string{"!X-Back", "X-Out: 1"},
		}}},
		{"§7.6.3: Via", []step{{send: []string{"Via: 1.0 other"}, from: fresh(), asks: []string{"Via: 1.0 other, 1.1 freshet"}}}},
		{"§7.6.2: the last hop answers", []step{{method: "OPTIONS", send: []string{"Max-Forwards: 0"}, gives: -1, has: []string{"Allow"}}}},
		{"§7.6.2: those before count down", []step{{method: "OPTIONS", send: []string{"Max-Forwards: 3"}, from: []string{"Allow: GET"}, asks: []string{"Max-Forwards: 2"}, has: []string{"Allow: GET"}}}},
		{"§7.6.2: for no other methods", []step{{method: "POST", send: []string{"Max-Forwards: 0"}, from: fresh(), asks: []string{"Max-Forwards: 0"}}}},
		{"§9.3.8: TRACE is not answered here", []step{{method: "TRACE", send: []string{"Max-Forwards: 0"}, status: 405, gives: -1}}},
		{"§9.3.6: no tunnels", []step{{method: "CONNECT", status: 405, gives: -1}}},
		{"§9.1: other methods go through", []step{{method: "PROPFIND", from: []string{":207"}, status: 207, gives: -1}}},
	})
}

// TestTargeted is RFC 9213.
func TestTargeted(t *testing.T) {
	t.Parallel()
	cdn := func(value string, more ...string) []string {
		return append([]string{"CDN-Cache-Control: " + value, "Date: @0"}, more...)
	}
	playAll(t, "none", "/9213/", []statement{
		{"§2.2: it decides alone", []step{{from: cdn("max-age=50", "Cache-Control: max-age=10")}, {after: 49 * time.Second}, {after: time.Second, from: fresh()}}},
		{"§2.2: also when it says less", []step{{from: cdn("max-age=5", "Cache-Control: max-age=50")}, {after: 6 * time.Second, from: fresh()}}},
		{"§2.2: Expires has no say", []step{{from: cdn("max-age=0", "Expires: @50")}, {from: fresh()}}},
		{"§2.2: nor no-store of Cache-Control", []step{{from: cdn("max-age=50", "Cache-Control: no-store")}, {}}},
		{"§2.2: no-store", []step{{from: cdn("no-store", "Cache-Control: max-age=50")}, {from: fresh()}}},
		{"§2.2: private", []step{{from: cdn("private", "Cache-Control: max-age=50")}, {from: fresh()}}},
		{"§2.2: no-cache", []step{{from: cdn("no-cache", "Cache-Control: max-age=50")}, {from: fresh()}}},
		{"§2.1: empty is as if absent", []step{{from: cdn("", "Cache-Control: max-age=50")}, {}}},
		{"§2.1: so is what is malformed", []step{{from: cdn("max-age=50, &&", "Cache-Control: no-store")}, {from: fresh()}}},
		{"§2.1: and a value of another type", []step{{from: cdn(`max-age="50"`, "Cache-Control: no-store")}, {from: fresh()}}},
		{"§2: the field goes on to the next cache", []step{{from: cdn("max-age=50"), has: []string{"CDN-Cache-Control: max-age=50"}}, {has: []string{"CDN-Cache-Control: max-age=50"}}}},
		{"a 304 can change it", []step{
			{from: cdn("max-age=5", `Etag: "a"`)},
			{after: 6 * time.Second, from: cdn("max-age=50", ":304", `Etag: "a"`), gives: 1},
			{after: 49 * time.Second},
		}},
	})
}

// TestExplanations is RFC 9211 and RFC 9209 as far as exchanges show them.
func TestExplanations(t *testing.T) {
	t.Parallel()
	playAll(t, "none", "/9211/", []statement{
		{"RFC 9211 §2.1: hit, with what is left", []step{
			{from: fresh(), has: []string{"Cache-Status: freshet; fwd=uri-miss; fwd-status=200; ttl=100; stored"}},
			{after: 10 * time.Second, has: []string{"Cache-Status: freshet; hit; ttl=90"}},
		}},
		{"RFC 9211 §2: the caches nearer to the origin come first", []step{
			{from: fresh("Cache-Status: inner; hit; ttl=20"), has: []string{"Cache-Status: inner; hit; ttl=20, freshet; fwd=uri-miss; fwd-status=200; ttl=100; stored"}},
			{has: []string{"Cache-Status: inner; hit; ttl=20, freshet; hit; ttl=100"}},
		}},
		{"RFC 9211 §2.2: other methods", []step{{method: "POST", from: fresh(), has: []string{"Cache-Status: freshet; fwd=method; fwd-status=200"}}}},
		{"RFC 9211 §2.2: stale", []step{
			{from: aged("max-age=5", `Etag: "a"`)},
			{after: 10 * time.Second, from: fresh(":304"), gives: 1, has: []string{"Cache-Status: freshet; fwd=stale; fwd-status=304; ttl=100"}},
		}},
		{"RFC 9209 §2.1.1: why there is no answer", []step{{from: []string{":cut"}, status: 502, has: []string{`Proxy-Status: freshet; error=connection_terminated; details="reset"`, "Freshet-Reason: reset"}}}},
		{"RFC 9209 §2.1.4: the origin's own error", []step{{from: []string{":503"}, status: 503, has: []string{`Proxy-Status: freshet; received-status=503; details="status_5xx"`}}}},
		{"RFC 9209 §2.1.1: why it is stale", []step{
			{from: aged("max-age=5")},
			{after: 10 * time.Second, from: []string{":cut"}, gives: 1, has: []string{`Proxy-Status: freshet; error=connection_terminated; details="reset"`, "Age: 10"}},
		}},
	})
}

// TestErrorsAreKeptBriefly shows that where rules are on, a 5xx is not stored and
// a missing file not for long, whatever the origin says of them.
func TestErrorsAreKeptBriefly(t *testing.T) {
	t.Parallel()
	const hash = "/0000000000000000000000000000000000000000000000000000000000000000"
	for path, kept := range map[string]time.Duration{
		"/repo/any": 5 * time.Second, "/repo/Packages/a-1.rpm": 5 * time.Second, "/repo/summary": 2 * time.Second,
		"/repo/repodata/repomd.xml": 2 * time.Second, "/repo/repodata" + hash + "-primary.xml.gz": 2 * time.Second,
		"/dists/stable/InRelease": 2 * time.Second, "/dists/stable/main/by-hash/SHA256" + hash: 2 * time.Second,
	} {
		var table []statement
		for _, from := range [][]string{{"Date: @0"}, {"Date: @0", "Cache-Control: max-age=3600"}} {
			for _, status := range []string{":404", ":410"} {
				answer := append([]string{status}, from...)
				n := statusOf(answer)
				table = append(table, statement{status[1:] + " of " + path, []step{
					{after: time.Hour, from: answer, status: n},
					{after: kept - time.Second, status: n},
					{after: time.Second, from: answer, status: n},
				}})
			}
			for _, status := range []string{":500", ":502", ":503", ":504"} {
				answer := append([]string{status}, from...)
				n := statusOf(answer)
				table = append(table, statement{status[1:] + " of " + path, []step{
					{after: time.Hour, from: answer, status: n},
					{after: time.Second, from: answer, status: n},
				}})
			}
		}
		bubble(t, func(t *testing.T) {
			s := newScript(t, "auto")
			for _, st := range table {
				s.play(st, path)
			}
		})
	}
}

// TestUnknownFilesOfRepositories is what else holds where rules are on and none
// is about the path.
func TestUnknownFilesOfRepositories(t *testing.T) {
	t.Parallel()
	playAll(t, "auto", "/unknown/", []statement{
		{"only fields of negotiation go on", []step{{
			send: []string{"Accept-Language: de", "X-Forwarded-Host: evil", "X-Any: 1", "Cache-Control: max-stale", "User-Agent: a/1"},
			from: fresh(), asks: []string{"Accept-Language: de", "User-Agent: a/1", "!X-Forwarded-Host", "!X-Any", "!Cache-Control", "Via: 1.1 freshet"},
		}, {}}},
		{"what sets a cookie is for one", []step{{from: fresh("Set-Cookie: a=b"), has: []string{"Set-Cookie: a=b"}}, {from: fresh("Set-Cookie: a=c")}}},
		{"unless it is public", []step{{from: aged("public, max-age=100", "Set-Cookie: a=b")}, {}}},
	})
}
