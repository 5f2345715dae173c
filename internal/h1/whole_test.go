package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"freshet/internal/h1/h1test"
)

// wholes answers with one piece of memory, and takes it away once it is sent.
type wholes struct {
	body []byte
	sent chan wholeSent
}

type wholeSent struct {
	n   int64
	err error
}

func (h *wholes) Answer(_ *Request, res *Response) bool {
	res.Body = h.body
	head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", len(h.body))
	if res.Closing {
		res.Head = append(res.Head, head...)
		return true
	}
	res.Head = append(res.Head, "what is worked out"...)
	res.Whole = append(append(head, "\r\n"...), h.body...)
	return true
}

func (h *wholes) Sent(_ *Request, res *Response, sent int64, err error) {
	clear(res.Whole)
	h.sent <- wholeSent{sent, err}
}

func newWholes(t *testing.T, mem bool) (*wholes, *world) {
	t.Helper()
	h := &wholes{sent: make(chan wholeSent, 100), body: h1test.NewContent(t).Bytes[:3000000]}
	return h, newWorldOf(t, mem, nil, func(s *Server) { s.Handler = h })
}

// A whole is what the client gets, however slowly it reads, and is free afterwards;
// when the connection ends with an answer, there is none.
func TestWhole(t *testing.T) {
	t.Parallel()
	for _, mem := range []bool{false, true} {
		h, w := newWholes(t, mem)
		c := w.dial()
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(64 << 10)
		}
		go func() {
			_, _ = io.WriteString(c, get("/")+get("/")+"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		}()
		br := bufio.NewReaderSize(c, 512)
		for i := range 3 {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(body, h.body) || resp.Close != (i == 2) {
				t.Errorf("answer %d: %d bytes, %v, closes: %v", i, len(body), err, resp.Close)
			}
			if got := <-h.sent; got.err != nil || got.n != int64(len(h.body)) {
				t.Errorf("answer %d: Sent was told %+v", i, got)
			}
		}
		if n, err := br.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes follow", n)
		}
	}
}

// Of a whole that is cut, what counts as sent is of the body.
func TestWholeIsCut(t *testing.T) {
	t.Parallel()
	for _, mem := range []bool{false, true} {
		h, w := newWholes(t, mem)
		c := w.dial()
		w.send(c, strings.Repeat(get("/"), 20)) // more than the sockets hold
		if _, err := io.CopyN(io.Discard, c, 1000); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		got := <-h.sent
		for got.err == nil {
			got = <-h.sent
		}
		if got.n < 0 || got.n >= int64(len(h.body)) {
			t.Errorf("Sent was told %+v", got)
		}
	}
}
