package h1client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/memnet"
)

// server answers connection by connection, as told: each string is sent after
// the head of one more request; "" closes the connection.
type server struct {
	*Client
	conns    atomic.Int64
	requests atomic.Int64
	last     chan string // heads of requests
}

// script starts a server whose i-th connection answers with scripts[i].
func script(t *testing.T, scripts ...[]string) *server {
	t.Helper()
	network := new(memnet.Network)
	ln, err := network.Listen("mem:o")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Client: &Client{Addr: "o.mem:80", Dial: network.DialContext}, last: make(chan string, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			i := int(s.conns.Add(1)) - 1
			if i >= len(scripts) {
				_ = conn.Close()
				continue
			}
			go s.serve(conn, scripts[i])
		}
	}()
	t.Cleanup(func() {
		s.CloseIdle()
		_ = ln.Close()
		<-done
	})
	return s
}

func (s *server) serve(conn net.Conn, answers []string) {
	defer conn.Close()
	br := bufio.NewReader(conn)
	for _, answer := range answers {
		var head strings.Builder
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			if head.WriteString(line); line == "\r\n" {
				break
			}
		}
		s.requests.Add(1)
		s.last <- head.String()
		if answer == "" {
			return
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, conn)
}

func (s *server) get(t *testing.T) (body string, err error) {
	t.Helper()
	return read(s.Do(t.Context(), &Request{Method: "GET", Target: "/", Host: "o"}))
}

func read(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), errors.Join(err, resp.Body.Close())
}

func wantKind(t *testing.T, err error, want Kind) {
	t.Helper()
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != want {
		t.Errorf("got %v, want kind %q", err, want)
	}
}

const ok5 = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// bubble runs the test in fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, f)
}

func TestReuse(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer string
		conns  int64
	}{
		{"length", ok5, 1},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX: y\r\n\r\n", 1},
		{"interim", "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ok5, 1},
		{"same lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 1},
		{"close", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 5\r\n\r\nhello", 2},
		{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 2},
		{"bytes after chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + ok5, 2},
		{"no more", "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=9, max=0\r\nContent-Length: 5\r\n\r\nhello", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := script(t, []string{c.answer, c.answer}, []string{c.answer})
				for range 2 {
					if body, err := s.get(t); body != "hello" || err != nil {
						t.Errorf("got %q, %v", body, err)
					}
					synctest.Wait()
				}
				if n := s.conns.Load(); n != c.conns {
					t.Errorf("%d connections, want %d", n, c.conns)
				}
			})
		})
	}
}

// TestUnknownCoding is RFC 9112 §6.3: without the chunked coding the body goes to
// the end of the connection.
func TestUnknownCoding(t *testing.T) {
	for _, coding := range []string{"foo", "FOO-1"} {
		h, err := parseHead([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: "+coding+"\r\n\r\n"), false)
		if err != nil || h.framing != framedClose || !h.closing || h.length != -1 || h.header.Get("Transfer-Encoding") != "" {
			t.Errorf("%s: %+v, %v", coding, h, err)
		}
	}
}

func TestNoBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := script(t, []string{
			"HTTP/1.1 204 No Content\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
			"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
		})
		for i, method := range []string{"GET", "GET", "HEAD", "HEAD", "GET"} {
			if body, err := read(s.Do(t.Context(), &Request{Method: method, Target: "/", Host: "o"})); body != "" || err != nil {
				t.Errorf("%d: got %q, %v", i, body, err)
			}
		}
		if n := s.conns.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// A used connection may have been closed just then: once more, on a new one.
func TestRetry(t *testing.T) {
	for _, c := range []struct {
		name, method string
		body         string
		scripts      [][]string
		requests     int64
		fails        Kind
	}{
		{name: "idempotent", method: "GET", scripts: [][]string{{ok5, ""}, {ok5}}, requests: 3},
		{name: "only once", method: "GET", scripts: [][]string{{ok5, ""}, {""}, {ok5}}, requests: 3, fails: Broken},
		{name: "within the head", method: "GET", scripts: [][]string{{ok5, "HTTP/1.1 2"}, {ok5}}, requests: 2, fails: FirstByteTimeout},
		{name: "post", method: "POST", scripts: [][]string{{ok5, ""}, {ok5}}, requests: 2, fails: Broken},
		{name: "with a body", method: "GET", body: "x", scripts: [][]string{{ok5, ""}, {ok5}}, requests: 2, fails: Broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := script(t, c.scripts...)
				if _, err := s.get(t); err != nil {
					t.Fatal(err)
				}
				r := &Request{Method: c.method, Target: "/", Host: "o", Deadline: time.Now().Add(time.Second), FirstByte: time.Second}
				if c.body != "" {
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(c.body)), 1
				}
				body, err := read(s.Do(t.Context(), r))
				if c.fails != 0 {
					wantKind(t, err, c.fails)
				} else if body != "hello" || err != nil {
					t.Errorf("got %q, %v", body, err)
				}
				if n := s.requests.Load(); n != c.requests {
					t.Errorf("%d requests were sent, want %d", n, c.requests)
				}
			})
		})
	}
	t.Run("never on a new connection", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := script(t, []string{""}, []string{ok5})
			_, err := s.get(t)
			wantKind(t, err, Broken)
			if n := s.requests.Load(); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	})
}

// What must not be understood in two ways is not understood at all.
func TestRefused(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n",
		"HTTP/1.1 20 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 099 OK\r\n\r\n",
		"ICY 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\x00c\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: x-gzip\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: foo, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, foo\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: foo\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", maxHead) + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxFields+1) + "\r\n",
		strings.Repeat("HTTP/1.1 103 E\r\n\r\n", maxInterim+1) + ok5,
	} {
		bubble(t, func(t *testing.T) {
			s := script(t, []string{answer})
			_, err := s.get(t)
			wantKind(t, err, Malformed)
			if t.Failed() {
				t.Logf("answer: %.80q", answer)
			}
			if s.Idling() != 0 {
				t.Errorf("%.80q: the connection is kept", answer)
			}
		})
	}
	for _, chunks := range []string{
		"5\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n",
		"-1\r\n", " 5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "\r\n", "ffffffffffffffff\r\n", "10000000000000005\r\nhello",
		"5;a\x00b\r\nhello\r\n0\r\n\r\n", "5;" + strings.Repeat("x", 300) + "\r\nhello\r\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n",
		"0\r\nno trailer\r\n\r\n", "0\r\n" + strings.Repeat("A: b\r\n", 5000) + "\r\n", "5_0\r\n",
	} {
		bubble(t, func(t *testing.T) {
			s := script(t, []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks})
			_, err := s.get(t)
			wantKind(t, err, Malformed)
			if t.Failed() {
				t.Logf("chunks: %.80q", chunks)
			}
		})
	}
}

func TestTimes(t *testing.T) {
	slow := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	silent := func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, b) }()
		return a, nil
	}
	for _, c := range []struct {
		name   string
		client *Client
		want   Kind
		after  time.Duration
	}{
		{"connect", &Client{Dial: slow}, ConnectTimeout, 3 * time.Second},
		{"tls", &Client{Dial: silent, TLS: &tls.Config{ServerName: "o"}}, TLSTimeout, 5 * time.Second},
		{"first byte", &Client{Dial: silent}, FirstByteTimeout, 15 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				begun := time.Now()
				_, err := c.client.Do(t.Context(), &Request{Method: "GET", Target: "/", Host: "o", Deadline: begun.Add(15 * time.Second)})
				wantKind(t, err, c.want)
				if took := time.Since(begun); took != c.after {
					t.Errorf("took %v", took)
				}
			})
		})
	}
	t.Run("between bytes", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := script(t, []string{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"})
			begun := time.Now()
			body, err := read(s.Do(t.Context(), &Request{Method: "GET", Target: "/", Host: "o", Idle: 15 * time.Second}))
			wantKind(t, err, IdleTimeout)
			if took := time.Since(begun); body != "hello" || took != 15*time.Second {
				t.Errorf("%q after %v", body, took)
			}
		})
	})
	t.Run("canceled", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := script(t, []string{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := read(s.Do(ctx, &Request{Method: "GET", Target: "/", Host: "o"}))
			wantKind(t, err, Canceled)
		})
	})
}

func TestShort(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
	} {
		bubble(t, func(t *testing.T) {
			s := script(t, []string{answer, ""})
			s.Dial = cutAfter(s.Dial, len(answer))
			body, err := s.get(t)
			wantKind(t, err, Short)
			if body != "hello" {
				t.Errorf("%q: got %q", answer, body)
			}
		})
	}
}

// cutAfter ends connections after n bytes from the other side.
func cutAfter(dial func(context.Context, string, string) (net.Conn, error), n int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &cutConn{conn, io.LimitReader(conn, int64(n))}, err
	}
}

type cutConn struct {
	net.Conn
	r io.Reader
}

func (c *cutConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// An idle connection is not used beyond what the origin allows, and what is not
// used is closed by itself.
func TestIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		told := "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello"
		s := script(t, []string{told, told}, []string{ok5, ok5}, []string{ok5})
		for i, pause := range []time.Duration{3 * time.Second, 4 * time.Second, 49 * time.Second, 51 * time.Second, 0} {
			if _, err := s.get(t); err != nil {
				t.Fatal(err)
			}
			if want := []int64{1, 1, 2, 2, 3}[i]; s.conns.Load() != want {
				t.Errorf("request %d: %d connections, want %d", i, s.conns.Load(), want)
			}
			time.Sleep(pause)
		}
		time.Sleep(time.Minute + 10*time.Second)
		if n := s.Idling(); n != 0 {
			t.Errorf("%d connections idle", n)
		}
	})
}

func TestRequestHead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := script(t, []string{ok5, ok5})
		if _, err := read(s.Do(t.Context(), &Request{Method: "GET", Target: "/a?b", Host: "o:81", Header: http.Header{
			"X-A": {"1", "2"}, "Host": {"evil"}, "Connection": {"x"}, "Content-Length": {"9"}, "Transfer-Encoding": {"chunked"}, "User-Agent": {""},
		}})); err != nil {
			t.Fatal(err)
		}
		if got, want := <-s.last, "GET /a?b HTTP/1.1\r\nHost: o:81\r\nX-A: 1\r\nX-A: 2\r\n\r\n"; got != want {
			t.Errorf("sent %q, want %q", got, want)
		}
		for _, r := range []*Request{
			{Method: "G T", Target: "/"},
			{Method: "GET", Target: "/ HTTP/1.1\r\nX: y"},
			{Method: "GET", Target: ""},
			{Method: "GET", Target: "/", Header: http.Header{"A": {"b\r\nc: d"}}},
			{Method: "GET", Target: "/", Header: http.Header{"A b": {"c"}}},
		} {
			_, err := s.Do(t.Context(), r)
			wantKind(t, err, BadRequest)
		}
	})
}

// Bodies of requests, against net/http: of known and unknown length, refused
// before they are sent, and answered before they are read.
func TestUpload(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			b, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%d %s", r.ContentLength, b)
		case "/refuse":
			http.Error(w, "no", http.StatusRequestEntityTooLarge)
		}
	}))
	defer srv.Close()
	c := &Client{Addr: srv.Listener.Addr().String()}
	defer c.CloseIdle()
	long := strings.Repeat("x", 1<<20)
	for _, u := range []struct {
		path, body string
		length     int64
		expect     bool
		want       string
	}{
		{"/echo", "hello", 5, false, "5 hello"},
		{"/echo", "hello", -1, false, "-1 hello"},
		{"/echo", long, -1, false, "-1 " + long},
		{"/echo", "hello", 5, true, "5 hello"},
		{"/refuse", long, int64(len(long)), true, "no\n"},
		{"/echo", "", 0, false, "0 "},
	} {
		h := http.Header{}
		if u.expect {
			h.Set("Expect", "100-continue")
		}
		got, err := read(c.Do(t.Context(), &Request{
			Method: "POST", Target: u.path, Host: "o", Header: h, Body: io.NopCloser(strings.NewReader(u.body)), ContentLength: u.length,
			Deadline: time.Now().Add(10 * time.Second), FirstByte: 10 * time.Second, Idle: 10 * time.Second,
		}))
		if err != nil || got != u.want {
			t.Errorf("%s: got %.40q, %v; want %.40q", u.path, got, err, u.want)
		}
	}
}

// Over TCP and TLS: connections are used again, sessions resumed, and one that
// the server closed is noticed.
func TestSockets(t *testing.T) {
	var resumed atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && r.TLS.DidResume {
			resumed.Add(1)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
	}))
	var conns atomic.Int64
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.StartTLS()
	defer srv.Close()
	c := &Client{Addr: srv.Listener.Addr().String(), TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
	c.TLS.ServerName = "example.com"
	defer c.CloseIdle()
	get := func() *Timing {
		t.Helper()
		req := &Request{Method: "GET", Target: "/", Host: "o", Deadline: time.Now().Add(2 * time.Minute), Idle: 2 * time.Minute}
		body, err := read(c.Do(t.Context(), req))
		if len(body) != 100_000 || err != nil {
			t.Errorf("%d bytes, %v", len(body), err)
		}
		return &req.Timing
	}
	if tm := get(); tm.Reused || tm.Connect <= 0 || tm.TLS <= 0 {
		t.Errorf("first: %+v", tm)
	}
	for range 3 {
		if tm := get(); !tm.Reused || tm.Connect != 0 {
			t.Errorf("then: %+v", tm)
		}
	}
	srv.CloseClientConnections()
	if get(); conns.Load() != 2 || resumed.Load() != 1 {
		t.Errorf("%d connections, %d resumed", conns.Load(), resumed.Load())
	}
}
