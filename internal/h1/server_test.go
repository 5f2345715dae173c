package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

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
			{"GET", "fast", string(w.content.Bytes[:10])},
			{"GET", "slow", `GET /a h ""`},
			{"GET", "slow", `GET /b h ""`},
			{"HEAD", "fast", ""},
			{"GET", "fast", string(w.content.Bytes[5:2005])},
			{"HEAD", "slow", ""},
			{"GET", "fast", string(w.content.Bytes[:3000000])},
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
	if got := w.read(br, "GET", "fast"); got != string(w.content.Bytes[:3]) {
		t.Errorf("%q", got)
	}
	w.read(br, "GET", "slow")
	w.send(c, get("/memory/4")[1:])
	if got := w.read(br, "GET", "fast"); got != string(w.content.Bytes[:4]) {
		t.Errorf("%q", got)
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
		if err != nil || !bytes.Equal(body, w.content.Bytes[off:off+3000000]) {
			t.Errorf("%s: %d bytes, %v", target, len(body), err)
		}
		w.send(c, get("/memory/1"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s: the connection is not usable afterwards: %v", target, err)
		}
	}
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
