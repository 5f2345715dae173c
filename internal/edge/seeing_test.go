package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/accesslog"
	"freshet/internal/certs"
	"freshet/internal/certs/certstest"
	"freshet/internal/doors"
	"freshet/internal/edge/gate"
	"freshet/internal/peertest"
	"freshet/internal/role"
)

// seeing is an edge on a real listener whose requests are logged to a file.
type seeing struct {
	t    *testing.T
	addr string
	log  string
	reg  *prometheus.Registry
	end  func() // stops the edge and closes the log
	withTLS

	answers, gone, bytes atomic.Int64 // answers read to the end, clients that left, bytes of bodies
}

func newSeeing(t *testing.T, format accesslog.Format, origin http.HandlerFunc) *seeing {
	t.Helper()
	s := &seeing{t: t, log: filepath.Join(t.TempDir(), "access.log"), reg: prometheus.NewRegistry()}
	pair, roots := certstest.Pair(t, t.TempDir(), 1, "localhost")
	s.roots, s.text = roots, new(lockedBuffer)
	upstream := httptest.NewServer(origin)
	lines, err := accesslog.Open(accesslog.Options{Format: format, Path: s.log, Addresses: accesslog.AddressFull})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{
			Origin: upstream.URL, Store: t.TempDir(), Size: 64 << 20, Follow: "off",
			Listeners: doors.Listeners{Listen: "127.0.0.1:0", ListenTLS: "127.0.0.1:0", TLS: certs.Config{Certificates: []certs.Pair{pair}}}, ListenH3: "127.0.0.1:0",
			Gate: gate.Config{Robots: "disallow", Health: "/health", Rules: []gate.Rule{{Action: "deny", Paths: []string{"/secret/"}}}},
		}, role.Env{
			Metrics: s.reg, Access: lines, Log: slog.New(slog.NewTextHandler(s.text, nil)), Ready: func() { close(ready) },
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	s.addr = s.listening("http")
	s.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		upstream.Close()
		if err := lines.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.end)
	return s
}

// ask sends a request on a connection of its own and reads the whole answer.
func (s *seeing) ask(method, path string, fields ...string) int {
	s.t.Helper()
	return s.begin(method, path, fields...)()
}

// begin sends a request and reads the header of its answer; the function
// returned reads the rest.
func (s *seeing) begin(method, path string, fields ...string) func() int {
	s.t.Helper()
	if s.client != nil {
		return s.beginOver(method, path, fields...)
	}
	conn := s.send(method, path, fields...)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		s.t.Errorf("%s %s: %v", method, path, err)
		_ = conn.Close()
		return func() int { return 0 }
	}
	return func() int { return s.finish(conn, resp, method+" "+path) }
}

func (s *seeing) finish(conn io.Closer, resp *http.Response, what string) int {
	s.t.Helper()
	defer conn.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		s.t.Errorf("%s: %v", what, err)
	}
	s.answers.Add(1)
	s.bytes.Add(n)
	return resp.StatusCode
}

func (s *seeing) send(method, path string, fields ...string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	req := method + " " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
	for _, f := range fields {
		req += f + "\r\n"
	}
	if _, err := io.WriteString(conn, req+"\r\n"); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// mix is load of every kind. Its origin is [mixOrigin].
func (s *seeing) mix(o *mixOrigin) {
	s.t.Helper()
	want := func(status int, method, path string, fields ...string) {
		if got := s.ask(method, path, fields...); got != status {
			s.t.Errorf("%s %s %v: %d, want %d", method, path, fields, got, status)
		}
	}
	for i := range 20 { // misses, then hits of the loop
		path := fmt.Sprintf("/%d.rpm", i)
		want(200, "GET", path)
		for range 3 {
			want(200, "GET", path, "User-Agent: dnf/5 \"quoted\" \\back", "Referer: http://e/\xff")
		}
		want(200, "HEAD", path)
		want(304, "GET", path, `If-None-Match: "`+path+`"`)
		want(206, "GET", path, "Range: bytes=10-99")
		want(206, "GET", path, "Range: bytes=1-2,5-8")
		want(416, "GET", path, "Range: bytes=900000-")
		want(200, "GET", path+"?q=%22a", "Cache-Control: no-cache")
	}
	var joined []func() int
	for range 8 { // all but the first join its fetch
		joined = append(joined, s.begin("GET", "/slow.rpm"))
	}
	close(o.slow)
	for _, finish := range joined {
		finish()
	}
	want(200, "POST", "/form")
	want(200, "GET", "/mirrorlist")
	want(200, "GET", "/robots.txt")
	want(200, "HEAD", "/health")
	want(403, "GET", "/secret/1.rpm")
	for range 3 {
		want(404, "GET", "/missing.rpm")
		want(404, "HEAD", "/missing.rpm")
		want(500, "GET", "/broken.rpm")
		want(502, "GET", "/cut.rpm")
		want(502, "HEAD", "/cut.rpm")
		want(400, "GET", "/a%2e%2e%2fb")
		want(400, "HEAD", "/a%2e%2e%2fb")
		want(504, "GET", "/never", "Cache-Control: only-if-cached")
	}
	for _, fields := range [][]string{nil, {"Range: bytes=100-"}, {"If-Range: x", "Range: bytes=0-1,3-9"}} {
		s.leaves("/large.rpm", fields...) // first while it is filled
		want(200, "GET", "/large.rpm")
		s.leaves("/large.rpm", fields...) // then of the store
	}
	if s.client != nil { // nobody hears the answer
		_, leave := s.open("GET", "/hang.rpm")
		<-o.hanging
		leave()
		s.gone.Add(1)
		return
	}
	for _, field := range []string{"Content-Length: 1\r\nTransfer-Encoding: chunked", "X : a", "X: a\n"} { // what is no request
		want(400, "POST", "/form", field)
	}
	conn := s.send("GET", "/hang.rpm")
	<-o.hanging
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
	s.gone.Add(1)
}

// leaves begins to read, and goes.
func (s *seeing) leaves(path string, fields ...string) {
	s.t.Helper()
	if s.client != nil {
		s.leavesOver(path, fields...)
		return
	}
	conn := s.send("GET", path, fields...)
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	if _, err := io.ReadFull(conn, make([]byte, 1000)); err != nil {
		s.t.Errorf("leaves %s: %v", path, err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
	s.gone.Add(1)
}

// mixOrigin has an answer of each kind. /slow.rpm is sent whole when slow is
// closed; who asks for /hang.rpm is told of by hanging.
type mixOrigin struct{ slow, hanging chan struct{} }

func newMixOrigin() *mixOrigin { return &mixOrigin{make(chan struct{}), make(chan struct{})} }

func (o *mixOrigin) serve(w http.ResponseWriter, r *http.Request) {
	name := filepath.Base(r.URL.Path)
	body := strings.Repeat(name, 400)
	w.Header().Set("Etag", `"`+r.URL.Path+`"`)
	switch name {
	case "slow.rpm":
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body[:100])
		_ = http.NewResponseController(w).Flush()
		<-o.slow
		body = body[100:]
	case "large.rpm":
		body = strings.Repeat("0123456789abcdef", 1<<19)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	case "missing.rpm":
		http.NotFound(w, r)
		return
	case "broken.rpm":
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	case "cut.rpm":
		panic(http.ErrAbortHandler)
	case "hang.rpm":
		o.hanging <- struct{}{}
		<-r.Context().Done()
		return
	}
	_, _ = io.WriteString(w, body)
}

var combined = regexp.MustCompile(`^(\S+) - - \[([^]]+)\] "([^"]*)" ([0-9]+) ([0-9]+) "([^"]*)" "([^"]*)" outcome="([^"]*)" took="([0-9.]+)" ttfb="([0-9.]+|-)" host="(?:h|-)"(.*)$`)

// tally is what the log and the metrics both say.
type tally struct {
	Requests, Bytes, FirstBytes, Took map[string]float64 // by outcome
	Statuses                          map[string]float64 // by status and reason
	Total, TotalBytes                 float64
}

func newTally() tally {
	m := func() map[string]float64 { return make(map[string]float64) }
	return tally{m(), m(), m(), m(), m(), 0, 0}
}

// logged reads the tally from the log.
func (s *seeing) logged() tally {
	s.t.Helper()
	data, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	out := newTally()
	reason := regexp.MustCompile(` reason="([^"]+)"`)
	for line := range strings.Lines(string(data)) {
		m := combined.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			s.t.Errorf("line is not understood: %q", line)
			continue
		}
		n, err := strconv.ParseFloat(m[5], 64)
		if err != nil {
			s.t.Error(err)
		}
		outcome, word := m[8], ""
		if r := reason.FindStringSubmatch(m[11]); r != nil {
			word = r[1]
		}
		exact := outcome
		if outcome == "error" {
			exact += ":" + word
		}
		out.Requests[exact]++
		out.Bytes[outcome] += n
		out.Took[outcome]++
		if m[10] != "-" {
			out.FirstBytes[outcome]++
		}
		out.Statuses[m[4]+" "+word]++
		out.Total++
		out.TotalBytes += n
	}
	return out
}

// counted reads the tally from the metrics.
func (s *seeing) counted() tally {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	out := newTally()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := make(map[string]string)
			for _, l := range m.GetLabel() {
				label[l.GetName()] = l.GetValue()
			}
			n := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if n == 0 {
				continue
			}
			switch f.GetName() {
			case "freshet_edge_requests_total":
				out.Requests[label["outcome"]] = n
			case "freshet_edge_response_bytes_total":
				out.Bytes[label["outcome"]] = n
			case "freshet_edge_first_byte_seconds":
				out.FirstBytes[label["outcome"]] = n
			case "freshet_edge_request_seconds":
				out.Took[label["outcome"]] = n
			case "freshet_http_requests_total":
				out.Statuses[label["code"]+" "+label["reason"]] = n
			case "freshet_http_request_seconds":
				out.Total = n
			case "freshet_http_response_bytes_total":
				out.TotalBytes = n
			}
		}
	}
	return out
}

// Every line of the log is in the metrics and the other way round, to the
// request and to the byte, by outcome, status and reason; and GoAccess reads the
// log as what it is.
func TestLogAndMetricsAgree(t *testing.T) {
	for _, proto := range []string{"http/1.1", "h2", "h3"} {
		t.Run(proto, func(t *testing.T) { logAndMetricsAgree(t, proto) })
	}
}

func logAndMetricsAgree(t *testing.T, proto string) {
	origin := newMixOrigin()
	s := newSeeing(t, accesslog.Combined, origin.serve)
	refused := []string{"error:ambiguous_length", "error:bad_field", "error:bad_line_end"}
	if proto != "http/1.1" {
		s.over(proto)
		refused = nil
	}
	s.mix(origin)
	s.end()
	logged, counted := s.logged(), s.counted()
	maps.DeleteFunc(logged.Bytes, func(_ string, n float64) bool { return n == 0 })
	if diff := cmp.Diff(counted, logged); diff != "" {
		t.Errorf("metrics (-), log (+):\n%s", diff)
	}
	if logged.Total != float64(s.answers.Load()+s.gone.Load()) {
		t.Errorf("%v lines for %d answers and %d clients that left", logged.Total, s.answers.Load(), s.gone.Load())
	}
	for _, outcome := range append(refused, "hit", "join", "miss", "pass", "error:status_5xx", "error:reset", "error:bad_path", "own", "error:access_denied", "error:only_if_cached", "error:client_gone") {
		if logged.Requests[outcome] == 0 {
			t.Errorf("no request of outcome %s: %v", outcome, logged.Requests)
		}
	}
	for _, status := range []string{"200 client_gone", "206 client_gone", "499 client_gone", "304 ", "416 "} {
		if logged.Statuses[status] == 0 {
			t.Errorf("no request of status %q: %v", status, logged.Statuses)
		}
	}
	t.Run("goaccess", func(t *testing.T) {
		peertest.Require(t, "goaccess")
		report := filepath.Join(t.TempDir(), "report.json")
		out, err := exec.CommandContext(t.Context(), "goaccess", s.log, "--no-global-config", "--log-format=COMBINED", "--no-progress", "-o", report).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		type count struct{ Count float64 }
		var read struct {
			General struct {
				Total  float64 `json:"total_requests"`
				Valid  float64 `json:"valid_requests"`
				Failed float64 `json:"failed_requests"`
				Bytes  float64 `json:"bandwidth"`
			}
			Codes struct {
				Data []struct {
					Items []struct {
						Hits count
						Data string
					}
				}
			} `json:"status_codes"`
		}
		if err := json.Unmarshal(data, &read); err != nil {
			t.Fatal(err)
		}
		if g := read.General; g.Total != logged.Total || g.Valid != logged.Total || g.Failed != 0 || g.Bytes != logged.TotalBytes {
			t.Errorf("GoAccess read %+v, want %v requests, %v bytes", g, logged.Total, logged.TotalBytes)
		}
		want, got := make(map[string]float64), make(map[string]float64)
		for key, n := range logged.Statuses {
			want[key[:3]] += n
		}
		for _, class := range read.Codes.Data {
			for _, item := range class.Items {
				got[item.Data[:3]] = item.Hits.Count
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("statuses in the log (-), as GoAccess read them (+):\n%s", diff)
		}
		s.hostsByGoAccess(logged.Total)
	})
}

// hostsByGoAccess reads the log with the format that docs/monitoring.md has for
// hosts: all requests are of one.
func (s *seeing) hostsByGoAccess(requests float64) {
	s.t.Helper()
	guide, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		s.t.Fatal(err)
	}
	format := regexp.MustCompile(`--log-format='([^']+)'`).FindSubmatch(guide)
	if format == nil {
		s.t.Fatal("docs/monitoring.md has no format for hosts")
	}
	report := filepath.Join(s.t.TempDir(), "hosts.json")
	out, err := exec.CommandContext(s.t.Context(), "goaccess", s.log, "--no-global-config", "--date-format=%d/%b/%Y", "--time-format=%T",
		"--log-format="+string(format[1]), "--no-progress", "-o", report).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		s.t.Fatal(err)
	}
	var read struct {
		General struct {
			Valid float64 `json:"valid_requests"`
		}
		Hosts struct {
			Data []struct {
				Hits struct{ Count float64 }
				Data string
			}
		} `json:"vhosts"`
	}
	if err := json.Unmarshal(data, &read); err != nil {
		s.t.Fatal(err)
	}
	byHost := make(map[string]float64)
	for _, host := range read.Hosts.Data {
		byHost[host.Data] = host.Hits.Count
	}
	if read.General.Valid != requests || byHost["h"] < requests/2 || byHost["h"]+byHost["-"] != requests {
		s.t.Errorf("GoAccess read %v requests of %v, by host %v", read.General.Valid, requests, byHost)
	}
}

// A whole answer is as long in the log as it was for the client.
func TestLoggedBytesAreThoseOfTheClient(t *testing.T) {
	s := newSeeing(t, accesslog.JSON, newMixOrigin().serve)
	for _, request := range [][]string{
		{"GET", "/1.rpm"},
		{"GET", "/1.rpm"},
		{"HEAD", "/1.rpm"},
		{"GET", "/1.rpm", "Range: bytes=5-44"},
		{"GET", "/1.rpm", "Range: bytes=5-44,60-70"},
		{"GET", "/1.rpm", "Range: bytes=90000-"},
		{"GET", "/large.rpm"},
		{"GET", "/large.rpm"},
		{"GET", "/missing.rpm"},
		{"HEAD", "/missing.rpm"},
		{"GET", "/broken.rpm"},
		{"HEAD", "/broken.rpm"},
		{"GET", "/cut.rpm"},
		{"GET", "/a%2e%2e%2fb"},
		{"HEAD", "/a%2e%2e%2fb"},
		{"POST", "/form"},
		{"GET", "/1.rpm", `If-None-Match: "/1.rpm"`},
	} {
		s.ask(request[0], request[1], request[2:]...)
	}
	s.end()
	data, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	var lines, bytes int64
	for line := range strings.Lines(string(data)) {
		var r struct {
			Bytes  int64
			Client string
			Proto  string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Client != "127.0.0.1" {
			t.Errorf("%q: %v", line, err)
		}
		lines++
		bytes += r.Bytes
	}
	if lines != s.answers.Load() || bytes != s.bytes.Load() {
		t.Errorf("the log has %d lines, %d bytes; clients got %d answers, %d bytes", lines, bytes, s.answers.Load(), s.bytes.Load())
	}
}
