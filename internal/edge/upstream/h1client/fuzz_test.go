package h1client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// said is a connection on which the other side said all it has to say.
type said struct {
	r *bytes.Reader
	// piece bounds each read.
	piece int
}

func (c *said) Read(p []byte) (int, error)       { return c.r.Read(p[:min(len(p), c.piece)]) }
func (c *said) Write(p []byte) (int, error)      { return len(p), nil }
func (c *said) Close() error                     { return nil }
func (c *said) LocalAddr() net.Addr              { return nil }
func (c *said) RemoteAddr() net.Addr             { return nil }
func (c *said) SetDeadline(time.Time) error      { return nil }
func (c *said) SetReadDeadline(time.Time) error  { return nil }
func (c *said) SetWriteDeadline(time.Time) error { return nil }

// answerOf reads an answer as Client does.
func answerOf(t *testing.T, method string, data []byte, piece int) (*http.Response, string, error) {
	t.Helper()
	c := &Client{Addr: "o:80", Dial: func(context.Context, string, string) (net.Conn, error) {
		return &said{bytes.NewReader(data), piece}, nil
	}}
	defer c.CloseIdle()
	resp, err := c.Do(t.Context(), &Request{Method: method, Target: "/", Host: "o"})
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), errors.Join(err, resp.Body.Close())
}

// What is understood, net/http understands in the same way, and how it comes in
// pieces makes no difference.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		ok5, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-a: b\r\nX-A: c\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: u\r\n\r\n",
		"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.0 200\r\n\r\nuntil the end", "HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 204 \r\nConnection: close\r\nKeep-Alive: timeout=5, max=7\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	} {
		f.Add([]byte(s), false, uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, isHead bool, piece uint8) {
		method := http.MethodGet
		if isHead {
			method = http.MethodHead
		}
		resp, body, err := answerOf(t, method, data, 1<<20)
		again, body2, err2 := answerOf(t, method, data, int(piece)+1)
		if (err == nil) != (err2 == nil) || body != body2 || resp != nil && again != nil && !reflect.DeepEqual(resp.Header, again.Header) {
			t.Fatalf("in one piece %q, %v; in pieces of %d %q, %v", body, err, int(piece)+1, body2, err2)
		}
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		br := bufio.NewReader(bytes.NewReader(data))
		for {
			std, err := http.ReadResponse(br, &http.Request{Method: method})
			if err != nil && strings.Contains(err.Error(), "unsupported transfer encoding") {
				return // read to the end of the connection here: RFC 9112 §6.3
			}
			if err != nil {
				t.Fatalf("net/http: %v", err)
			}
			theirs, err := io.ReadAll(std.Body)
			if std.StatusCode < 200 {
				continue
			}
			if err != nil || string(theirs) != body || std.StatusCode != resp.StatusCode || std.ProtoMinor != resp.ProtoMinor {
				t.Fatalf("%d %q; net/http: %d %q, %v", resp.StatusCode, body, std.StatusCode, theirs, err)
			}
			std.Header.Del("Trailer")
			if !sameFields(resp.Header, std.Header) {
				t.Fatalf("fields %v; net/http: %v", resp.Header, std.Header)
			}
			return
		}
	})
}

// sameFields compares fields, but for those of the connection and the framing,
// which net/http keeps or leaves out by rules of its own.
func sameFields(a, b http.Header) bool {
	a, b = a.Clone(), b.Clone()
	for _, h := range []http.Header{a, b} {
		h.Del("Content-Length")
		h.Del("Transfer-Encoding")
		h.Del("Connection")
		if h.Get("Pragma") != "" {
			h.Del("Cache-Control") // net/http makes one of it
		}
	}
	return reflect.DeepEqual(a, b)
}

// A chunk's size is a hex number or an error, never something else.
func FuzzChunkSize(f *testing.F) {
	for _, s := range []string{"0", "1a;b=c", "FFFFFFFFFFFFFFF", "-1", "0x1", " 1", "1 ", "1 ;x", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := chunkSize([]byte(s))
		if err == nil && (n < 0 || strings.Trim(strings.ToLower(strings.TrimRight(strings.SplitN(s, ";", 2)[0], " \t")), "0123456789abcdef") != "") {
			t.Errorf("%q is %d", s, n)
		}
	})
}
