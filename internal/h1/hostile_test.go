package h1

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

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
