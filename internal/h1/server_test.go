package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/memnet"
)

// world is a server and what it was asked.
type world struct {
	t       *testing.T
	addr    string
	network *memnet.Network // nil: TCP
	metrics *prometheus.Registry
	stop    func() error // once; waits for the end

	fast, slow atomic.Int64 // requests answered by either
	errs       chan error   // from Sent
	file       *os.File     // holds content
	content    []byte
	hold       chan struct{} // what /slow/hold waits for
}

const (
	testHeader = 10 * time.Second
	testIdle   = 120 * time.Second
	testDrain  = 20 * time.Second
	contentLen = 3 << 20
)

// newWorld begins to serve: in memory if mem, else on TCP through wrap.
func newWorld(t *testing.T, mem bool, wrap func(net.Listener) net.Listener) *world {
	t.Helper()
	w := &world{t: t, errs: make(chan error, 1<<16), hold: make(chan struct{})}
	w.content = make([]byte, contentLen)
	for i := range w.content {
		w.content[i] = byte(i>>8) ^ byte(i*7)
	}
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, w.content, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.file, err = os.Open(name); err != nil {
		t.Fatal(err)
	}
	var ln net.Listener
	if mem {
		w.network = new(memnet.Network)
		ln, err = w.network.Listen("mem:s")
	} else {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	if wrap != nil {
		ln = wrap(ln)
	}
	w.metrics = prometheus.NewRegistry()
	srv := &Server{
		Handler: w, Drain: testDrain, Metrics: NewMetrics("test", w.metrics),
		HTTP: &http.Server{
			Handler: http.HandlerFunc(w.serveSlow), ReadHeaderTimeout: testHeader, IdleTimeout: testIdle, MaxHeaderBytes: 32 << 10,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, ln) }()
	w.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		_ = w.file.Close()
	})
	return w
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	var c net.Conn
	var err error
	if w.network != nil {
		c, err = w.network.DialContext(w.t.Context(), "tcp", w.addr)
	} else {
		c, err = net.Dial("tcp", w.addr)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Answer implements Handler: /memory/N, /file/OFF/N and /short have answers.
func (w *world) Answer(req *Request, res *Response) bool {
	parts := strings.Split(string(req.Target), "/")
	var off, n int
	switch {
	case parts[1] == "memory" && len(parts) == 3:
		n, _ = strconv.Atoi(parts[2])
		res.Body = w.content[:n]
	case parts[1] == "file" && len(parts) == 4:
		off, _ = strconv.Atoi(parts[2])
		n, _ = strconv.Atoi(parts[3])
		res.File, res.Offset, res.Length = w.file, int64(off), int64(n)
	case parts[1] == "short":
		n = contentLen + 100
		res.File, res.Length = w.file, int64(n)
	default:
		return false
	}
	if req.Head {
		res.Body, res.File = nil, nil
	}
	w.fast.Add(1)
	res.Head = fmt.Appendf(res.Head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nBy: fast\r\n", n)
	res.Tag = w
	return true
}

// Sent implements Handler.
func (w *world) Sent(_ *Request, res *Response, _ int64, err error) {
	if res.Tag != w {
		w.t.Error("the tag is lost")
	}
	w.errs <- err
}

func (w *world) serveSlow(rw http.ResponseWriter, r *http.Request) {
	w.slow.Add(1)
	switch r.URL.Path {
	case "/slow/hold":
		<-w.hold
	case "/slow/abort":
		panic(http.ErrAbortHandler)
	}
	body, _ := io.ReadAll(r.Body)
	rw.Header().Set("By", "slow")
	if r.TLS != nil {
		rw.Header().Set("Tls", r.TLS.NegotiatedProtocol)
	}
	_, _ = fmt.Fprintf(rw, "%s %s %s %q", r.Method, r.RequestURI, r.Host, body)
}

// handovers is how many requests were handed over for this reason.
func (w *world) handovers(why string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "why" && l.GetValue() == why {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

// metric is the value of a gauge, over all its labels.
func (w *world) metric(name string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			sum := 0.0
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue()
			}
			return sum
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}

// read reads one answer and returns its body.
func (w *world) read(br *bufio.Reader, method, by string) string {
	w.t.Helper()
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("read an answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("read a body: %v after %d bytes", err, len(body))
	}
	if got := resp.Header.Get("By"); got != by {
		w.t.Errorf("answered by %q, want %q: %s %.80q", got, by, resp.Status, body)
	}
	return string(body)
}

func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n" }

func (w *world) send(c net.Conn, s string) {
	w.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		w.t.Fatal(err)
	}
}

// Pipelined requests are answered in order, whoever answers them, and nothing is
// lost.
func TestPipelined(t *testing.T) {
	t.Parallel()
	for _, pieces := range []int{1, 7, 1000} {
		w := newWorld(t, false, nil)
		c := w.dial()
		all := get("/memory/10") + get("/a") + get("/b") + "HEAD /memory/10 HTTP/1.1\r\nHost: h\r\n\r\n" +
			get("/file/5/2000") + "HEAD /c HTTP/1.1\r\nHost: h\r\n\r\n" + get("/file/0/3000000") + get("/d") + get("/memory/0")
		go func() {
			for len(all) > 0 {
				n := min(len(all), pieces)
				if pieces == 1000 {
					n = len(all)
				}
				if _, err := io.WriteString(c, all[:n]); err != nil {
					t.Error(err)
				}
				all = all[n:]
			}
		}()
		br := bufio.NewReader(c)
		for _, want := range []struct{ method, by, body string }{
			{"GET", "fast", string(w.content[:10])},
			{"GET", "slow", `GET /a h ""`},
			{"GET", "slow", `GET /b h ""`},
			{"HEAD", "fast", ""},
			{"GET", "fast", string(w.content[5:2005])},
			{"HEAD", "slow", ""},
			{"GET", "fast", string(w.content[:3000000])},
			{"GET", "slow", `GET /d h ""`},
			{"GET", "fast", ""},
		} {
			if got := w.read(br, want.method, want.by); got != want.body {
				t.Errorf("in pieces of %d: %d bytes %.60q, want %d %.60q", pieces, len(got), got, len(want.body), want.body)
			}
		}
		if got := w.handovers("answer"); got != 4 {
			t.Errorf("%v left to the handler, want 4", got)
		}
	}
}

// What the client sends while the handler works is not lost: a byte of it is
// read to see whether the client is there.
func TestNextDuringAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	c := w.dial()
	br := bufio.NewReader(c)
	w.send(c, get("/slow/hold"))
	waitFor(t, func() bool { return w.slow.Load() == 1 })
	w.send(c, get("/memory/3")+get("/x")+"G")
	w.hold <- struct{}{}
	w.read(br, "GET", "slow")
	if got := w.read(br, "GET", "fast"); got != string(w.content[:3]) {
		t.Errorf("%q", got)
	}
	w.read(br, "GET", "slow")
	w.send(c, get("/memory/4")[1:])
	if got := w.read(br, "GET", "fast"); got != string(w.content[:4]) {
		t.Errorf("%q", got)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
		<-time.After(time.Millisecond)
	}
}

// A request that is not understood goes to net/http with all its bytes, and the
// connection stays there.
func TestGift(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	for _, c := range []struct {
		why  oddity
		send string
		want []string
	}{
		{oddBody, "GET /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + get("/memory/3"), []string{`GET /p h "abc"`, `GET /memory/3 h ""`}},
		{oddMethod, "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + get("/memory/3"), []string{`POST /p h "abc"`, `GET /memory/3 h ""`}},
		{oddTarget, "GET http://x/memory/3 HTTP/1.1\r\nHost: h\r\n\r\n", []string{`GET http://x/memory/3 x ""`}},
		{oddSize, "GET /memory/3 HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", inSize) + "\r\n\r\n", []string{`GET /memory/3 h ""`}},
		{oddVersion, "GET /memory/3 HTTP/1.0\r\nHost: h\r\n\r\n", []string{`GET /memory/3 h ""`}},
		{oddExpect, "GET /p HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n", []string{`GET /p h ""`}},
	} {
		before := w.handovers(c.why.String())
		conn := w.dial()
		w.send(conn, c.send)
		br := bufio.NewReader(conn)
		for _, want := range c.want {
			if got := w.read(br, "GET", "slow"); got != want {
				t.Errorf("%v: got %q, want %q", c.why, got, want)
			}
		}
		if got := w.handovers(c.why.String()) - before; got != 1 {
			t.Errorf("%v: counted %v times", c.why, got)
		}
	}
	if n := w.fast.Load(); n != 0 {
		t.Errorf("%d of them were answered here", n)
	}
}

// hostile is what attacks on the framing are made of.
func hostile() []string {
	const h = " HTTP/1.1\r\nHost: h\r\n"
	list := []string{
		"GET /" + h + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /memory/9" + h + "\r\n",
		"GET /" + h + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
		"GET /" + h + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
		"GET /" + h + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"GET /" + h + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"GET /" + h + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"GET /" + h + "Content-Length: -1\r\n\r\n",
		"GET /" + h + "Content-Length: 1,1\r\n\r\na",
		"POST /" + h + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
		"POST /" + h + "Transfer-Encoding: chunked\r\n\r\n1;a=\"\n\"\r\na\r\n0\r\n\r\n",
		"POST /" + h + "Transfer-Encoding: chunked\r\n\r\n0000000000000000000001\r\na\r\n0\r\n\r\n",
		"GET / HTTP/1.1\nHost: h\n\n",
		"GET /" + h + "X: a\n\r\n",
		"GET /" + h + "X: a\r\n b\r\n\r\n",
		"GET /" + h + " X: a\r\n\r\n",
		"GET /" + h + "X : a\r\n\r\n",
		"GET /" + h + "X\x00: a\r\n\r\n",
		"GET /" + h + "X: a\x00b\r\n\r\n",
		"GET /" + h + "X: a\rb\r\n\r\n",
		"GET /" + h + "X\r\n\r\n",
		"GET /" + h + "Host: i\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h@i\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h/i\r\n\r\n",
		"GET http://i/" + h + "\r\n",
		"GET //i/a" + h + "\r\n",
		"GET *" + h + "\r\n",
		"GET /%" + h + "\r\n",
		"GET /\x7f" + h + "\r\n",
		"GET / a" + h + "\r\n",
		"GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
		"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
		"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
		"GET /\r\n\r\n",
		"\r\n\r\nGET /" + h + "\r\n",
		"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /" + h + "Connection: Host\r\n\r\n",
		"GET /" + h + "Expect: 100-continue\r\n\r\n",
		"GET /" + h + "Expect: x\r\n\r\n",
		"GET /" + h + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\nGET /memory/9" + h + "\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"GET /" + h + strings.Repeat("X: a\r\n", 70) + "\r\n",
		"GET /" + h + "X: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
		strings.Repeat("A", 40<<10) + "\r\n\r\n",
	}
	return list
}

// To hostile input the answer is that of net/http alone, to the byte.
func TestHostileAsNetHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bare := &http.Server{
		Handler: http.HandlerFunc(w.serveSlow), MaxHeaderBytes: 32 << 10, ReadHeaderTimeout: testHeader,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	go func() { _ = bare.Serve(ln) }()
	defer func() { _ = bare.Close() }()
	for _, in := range hostile() {
		ours, theirs := exchange(t, w.addr, in), exchange(t, ln.Addr().String(), in)
		if ours != theirs {
			t.Errorf("%.120q:\nwe answer %q\nnet/http  %q", in, ours, theirs)
		}
	}
	if n := w.fast.Load(); n != 0 {
		t.Errorf("%d of them were answered here", n)
	}
}

// exchange sends in and the end of it, and returns all that comes back, without
// dates.
func exchange(t *testing.T, addr, in string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	go func() {
		_, _ = io.WriteString(c, in) // it may be refused half-way
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	out, _ := io.ReadAll(c)
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "Date: ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// A body that turns out shorter than announced ends the connection.
func TestShortFile(t *testing.T) {
	t.Parallel()
	for _, mem := range []bool{false, true} {
		w := newWorld(t, mem, nil)
		c := w.dial()
		go func() { _, _ = io.WriteString(c, get("/short")+get("/memory/1")) }()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) || n > contentLen {
			t.Errorf("%d bytes, %v", n, err)
		}
		var fault *FileError
		if err := <-w.errs; !errors.As(err, &fault) {
			t.Errorf("Sent was told %v", err)
		}
		if n := w.fast.Load(); n != 1 {
			t.Errorf("%d requests answered", n)
		}
	}
}

// A client that leaves in the middle of a body is noticed.
func TestClientGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	c := w.dial()
	w.send(c, strings.Repeat(get("/file/0/3000000"), 20))
	if _, err := io.CopyN(io.Discard, c, 1000); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for err := range w.errs {
		if err != nil {
			return
		}
	}
}

// A slow reader gets everything, from memory and from a file.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	for _, target := range []string{"/memory/3000000", "/file/77/3000000"} {
		c := w.dial()
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		w.send(c, get(target))
		resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond) // the sockets fill up
		body, err := io.ReadAll(resp.Body)
		off := 0
		if strings.Contains(target, "77") {
			off = 77
		}
		if err != nil || !bytes.Equal(body, w.content[off:off+3000000]) {
			t.Errorf("%s: %d bytes, %v", target, len(body), err)
		}
		w.send(c, get("/memory/1"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s: the connection is not usable afterwards: %v", target, err)
		}
	}
}

// In fake time: how long a connection may do nothing.
func TestTimeLimits(t *testing.T) {
	for _, c := range []struct {
		name     string
		send     []string // each answered before the next
		drip     string   // then, a byte a second
		min, max time.Duration
	}{
		{"nothing at all", nil, "", testHeader, testHeader},
		{"slow-loris", nil, get("/memory/" + strings.Repeat("1", 100)), testHeader, testHeader},
		{"slow-loris later", []string{"/memory/1"}, get("/memory/" + strings.Repeat("1", 100)), testHeader, testHeader + slack},
		{"idle", []string{"/memory/1", "/memory/2"}, "", testIdle, testIdle + slack},
		{"idle after another", []string{"/memory/1", "/a"}, "", testIdle, testIdle + slack},
		{"idle after a gift", []string{"/p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"}, "", testIdle, testIdle},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, true, nil)
			conn := w.dial()
			br := bufio.NewReader(conn)
			for _, target := range c.send {
				if !strings.Contains(target, " ") {
					target = get(target)
				} else {
					target = "GET " + target
				}
				w.send(conn, target)
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				time.Sleep(3 * time.Second)
			}
			begun := time.Now()
			if len(c.send) > 0 {
				begun = begun.Add(-3 * time.Second)
				if c.drip != "" {
					begun = begun.Add(3 * time.Second)
				}
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range c.drip {
					if _, err := io.WriteString(conn, c.drip[i:i+1]); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
			if _, err := br.ReadByte(); err == nil {
				t.Errorf("%s: got an answer", c.name)
			}
			if took := time.Since(begun); took < c.min || took > c.max {
				t.Errorf("%s: cut after %v, want %v to %v", c.name, took, c.min, c.max)
			}
			_ = conn.Close()
			wg.Wait()
		})
	}
}

// Ten thousand clients that never end their header take nothing from the others,
// and are gone when their time is over.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 10000
		if testing.Short() {
			n = 1000
		}
		w := newWorld(t, true, nil)
		for i := range n {
			c := w.dial()
			if i%2 == 0 {
				w.send(c, get("/memory/1")[:1+i%30])
			}
		}
		begun := time.Now()
		good := w.dial()
		w.send(good, get("/memory/9"))
		br := bufio.NewReader(good)
		w.read(br, "GET", "fast")
		if took := time.Since(begun); took > 0 {
			t.Errorf("answered after %v", took)
		}
		if got := w.metric("freshet_http_connections"); got != float64(n+1) {
			t.Errorf("%v connections are open, want %d", got, n+1)
		}
		time.Sleep(testHeader)
		synctest.Wait()
		if got := w.metric("freshet_http_connections"); got != 1 {
			t.Errorf("%v connections are open after the time for a header, want the good one", got)
		}
		w.send(good, get("/memory/9"))
		w.read(br, "GET", "fast")
	})
}

// Each header has its time, also one that came in part with the request before
// it.
func TestTimeOfEachHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, nil)
		c := w.dial()
		br := bufio.NewReader(c)
		request := get("/memory/7")
		w.send(c, request[:5])
		for range 5 {
			time.Sleep(testHeader - time.Second)
			go func() { _, _ = io.WriteString(c, request[5:]+request[:5]) }()
			w.read(br, "GET", "fast")
		}
	})
}

// A client that takes nothing is cut.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, nil)
		c := w.dial()
		w.send(c, get("/file/0/3000000"))
		begun := time.Now()
		if err := <-w.errs; err == nil {
			t.Error("the answer was sent to nobody")
		}
		if took := time.Since(begun); took < defaultStall || took > defaultStall+slack {
			t.Errorf("cut after %v", took)
		}
	})
}

// When serving ends, idle connections are closed at once, what is in flight is
// answered and told that it is the last, and new connections are refused.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, nil)
		fresh, idle, partial, slow, stuck := w.dial(), w.dial(), w.dial(), w.dial(), w.dial()
		idleR := bufio.NewReader(idle)
		w.send(idle, get("/memory/1"))
		w.read(idleR, "GET", "fast")
		w.send(partial, get("/memory/5")[:20])
		w.send(slow, get("/slow/hold"))
		w.send(stuck, get("/memory/3000000"))
		synctest.Wait()
		ended := make(chan error, 1)
		begun := time.Now()
		go func() { ended <- w.stop() }()
		synctest.Wait()
		for name, c := range map[string]net.Conn{"fresh": fresh, "idle": idle} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(begun) > 0 {
				t.Errorf("the %s connection: %v after %v", name, err, time.Since(begun))
			}
		}
		if _, err := w.network.DialContext(t.Context(), "tcp", w.addr); err == nil {
			t.Error("a new connection was taken")
		}
		time.Sleep(time.Second)
		w.send(partial, get("/memory/5")[20:])
		wantLast(t, partial, string(w.content[:5]))
		w.hold <- struct{}{}
		wantLast(t, slow, `GET /slow/hold h ""`)
		if err := <-ended; err != nil || time.Since(begun) != testDrain {
			t.Errorf("%v after %v, want the drain time: one client takes nothing", err, time.Since(begun))
		}
	})
}

func wantLast(t *testing.T, c net.Conn, want string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != want || !resp.Close {
		t.Errorf("%q, %v, Connection: close is %v; want %q", body, err, resp.Close, want)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection was left open: %v", err)
	}
}

// Serving ends while hundreds of clients ask: each gets a whole answer or none.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	var wg sync.WaitGroup
	var answered atomic.Int64
	for i := range 64 {
		wg.Go(func() {
			c, err := net.Dial("tcp", w.addr)
			if err != nil {
				return
			}
			defer c.Close()
			br := bufio.NewReader(c)
			for n := i; ; n++ {
				target := []string{"/memory/4000", "/file/1/200000", "/a"}[n%3]
				if _, err := io.WriteString(c, get(target)); err != nil {
					return
				}
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Errorf("%s: cut in the middle: %v", target, err)
				}
				answered.Add(1)
				if resp.Close {
					return
				}
			}
		})
	}
	waitFor(t, func() bool { return answered.Load() > 500 })
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// The handler's abort cuts the connection.
func TestAbort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	c := w.dial()
	w.send(c, get("/slow/abort"))
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("got %d bytes", n)
	}
}
