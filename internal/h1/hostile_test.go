package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// attack is a message, and why it is refused; "" if it is none to refuse.
type attack struct {
	send string
	why  Rejection
}

// hostile is what attacks on the framing are made of, and what looks like it.
func hostile() []attack {
	const h = " HTTP/1.1\r\nHost: h\r\n"
	const post, chunked = "POST /slow" + h, "POST /slow" + h + "Transfer-Encoding: chunked\r\n\r\n"
	return []attack{
		{"GET /" + h + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /memory/9" + h + "\r\n", RejectLength},
		{post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", RejectLength},
		{post + "Content-Length: 5\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n", RejectLength},
		{post + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", RejectLength},
		{post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", RejectLength},
		{post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", RejectLength},
		{post + "Transfer-Encoding: identity\r\n\r\n", RejectLength},
		{post + "Transfer-Encoding:\r\n\r\n", RejectLength},
		{post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", RejectLength},
		{post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", RejectLength},
		{"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", RejectLength},
		{post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", RejectField},
		{post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", RejectField},
		{post + "Transfer-Encoding\x00: chunked\r\n\r\n0\r\n\r\n", RejectField},
		{post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", RejectLength},
		{post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", RejectLength},
		{post + "Content-Length: -1\r\n\r\n", RejectLength},
		{post + "Content-Length: +1\r\n\r\na", RejectLength},
		{post + "Content-Length: 1,1\r\n\r\na", RejectLength},
		{post + "Content-Length: 0x1\r\n\r\na", RejectLength},
		{post + "Content-Length: 1 1\r\n\r\na", RejectLength},
		{post + "Content-Length:\r\n\r\n", RejectLength},
		{post + "Content-Length: 99999999999999999999\r\n\r\n", RejectLength},
		{post + "Content-Length : 1\r\n\r\na", RejectField},
		{"GET / HTTP/1.1\nHost: h\n\n", RejectLineEnd},
		{"GET /" + h + "X: a\n\r\n", RejectLineEnd},
		{"GET /" + h + "\n", RejectLineEnd},
		{"GET /" + h + "X: a\rb\r\n\r\n", RejectLineEnd},
		{"GET /" + h + "X: a\r\r\n\r\n", RejectLineEnd},
		{"GET /" + h + "X: a\r\n b\r\n\r\n", RejectField},
		{"GET /" + h + " X: a\r\n\r\n", RejectField},
		{"GET / HTTP/1.1\r\n Host: h\r\n\r\n", RejectField},
		{"GET /" + h + "X : a\r\n\r\n", RejectField},
		{"GET /" + h + "X\x00: a\r\n\r\n", RejectField},
		{"GET /" + h + "X: a\x00b\r\n\r\n", RejectField},
		{"GET /" + h + "X\r\n\r\n", RejectField},
		{"GET /" + h + ": x\r\n\r\n", RejectField},
		{chunked + "zz\r\n", RejectChunk},
		{chunked + "\r\n0\r\n\r\n", RejectChunk},
		{chunked + "-1\r\na\r\n0\r\n\r\n", RejectChunk},
		{chunked + "0x1\r\na\r\n0\r\n\r\n", RejectChunk},
		{chunked + "1 \r\na\r\n0\r\n\r\n", RejectChunk},
		{chunked + " 1\r\na\r\n0\r\n\r\n", RejectChunk},
		{chunked + "0000000000000000000001\r\na\r\n0\r\n\r\n", RejectChunk},
		{chunked + "ffffffffffffffff\r\na", RejectChunk},
		{chunked + "1\r\nab\r\n0\r\n\r\n", RejectChunk},
		{chunked + "1\r\na\n0\r\n\r\n", RejectChunk},
		{chunked + "1\na\r\n0\r\n\r\n", RejectLineEnd},
		{chunked + "1;a=\"\n\"\r\na\r\n0\r\n\r\n", RejectLineEnd},
		{chunked + "1;a\rb\r\na\r\n0\r\n\r\n", RejectLineEnd},
		{chunked + "1;\x01\r\na\r\n0\r\n\r\n", RejectChunk},
		{chunked + "1;" + strings.Repeat("a", maxChunkLine) + "\r\na\r\n0\r\n\r\n", RejectChunk},
		{chunked + "0\r\nX : a\r\n\r\n", RejectField},
		{chunked + "0\r\n\n", RejectLineEnd},
		{chunked + "0\r\n" + strings.Repeat("X: aaaaaaaaaaaaaa\r\n", 300) + "\r\n", RejectChunk},

		{"GET /" + h + "Host: i\r\n\r\n", RejectMessage},
		{"GET / HTTP/1.1\r\n\r\n", RejectMessage},
		{"GET / HTTP/1.1\r\nHost: h@i\r\n\r\n", RejectMessage},
		{"GET / HTTP/1.1\r\nHost: h/i\r\n\r\n", RejectMessage},
		{"GET http://i/" + h + "\r\n", ""},
		{"GET //i/a" + h + "\r\n", ""},
		{"GET *" + h + "\r\n", ""},
		{"GET /%" + h + "\r\n", RejectMessage},
		{"GET /\x7f" + h + "\r\n", RejectMessage},
		{"GET /\ta" + h + "\r\n", RejectMessage},
		{"GET / a" + h + "\r\n", RejectMessage},
		{"GET /  HTTP/1.1\r\nHost: h\r\n\r\n", RejectMessage},
		{"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", RejectMessage},
		{"GET / HTTP/1.2\r\nHost: h\r\n\r\n", ""}, // RFC 9112 §2.3
		{"GET / HTTP/2.0\r\nHost: h\r\n\r\n", RejectMessage},
		{"GET /\r\n\r\n", RejectMessage},
		{"G@T /" + h + "\r\n", RejectMessage},
		{"\r\nGET /" + h + "\r\n", ""}, // RFC 9112 §2.2
		{"\r\n\r\nGET /" + h + "\r\n", RejectMessage},
		{"\nGET /" + h + "\r\n", RejectLineEnd},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", RejectMessage},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", RejectMessage},
		{"GET /" + h + strings.Repeat("X: a\r\n", 70) + "\r\n", ""},
		{"GET /" + h + "X: " + strings.Repeat("a", 40<<10) + "\r\n\r\n", RejectHeaderSize},
		{strings.Repeat("A", 40<<10) + "\r\n\r\n", RejectHeaderSize},

		{"GET /" + h + "X: \xff\xfe\r\n\r\n", ""}, // RFC 9110 §5.5 lets it pass
		{"GET /" + h + "Connection: Host\r\n\r\n", ""},
		{"GET /" + h + "Expect: 100-continue\r\n\r\n", ""},
		{"POST /slow" + h + "Transfer-Encoding:  Chunked \r\n\r\n03;a=b;c=\"d\"\r\nabc\r\n000\r\nX: y\r\n\r\n", ""},
		{"POST /slow" + h + "Content-Length: \t003\t\r\n\r\nabc", ""},
	}
}

// What is hostile is answered 400, once, with the reason; the connection ends
// there, and what is behind it is not looked at. What only looks like it is
// answered.
func TestHostile(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []Refused
	w := newWorldOf(t, false, nil, func(s *Server) {
		s.Refused = func(r *Refused) { mu.Lock(); told = append(told, *r); mu.Unlock() }
	})
	for _, before := range []string{"", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", get("/memory/1")} {
		for _, a := range hostile() {
			mu.Lock()
			told = nil
			mu.Unlock()
			counted := 0.0
			if a.why != "" {
				counted = rejected(t, w.metrics, a.why)
			}
			got := exchange(t, w.addr, before+a.send+get("/memory/7"))
			if before != "" {
				_, got, _ = strings.Cut(got, "HTTP/1.1 200 OK\r\n")
				_, got, _ = strings.Cut(got, "HTTP/1.1 ")
				got = "HTTP/1.1 " + got
			}
			if a.why == "" {
				if strings.Contains(got, "HTTP/1.1 400 ") || strings.Count(got, "HTTP/1.1 ") < 2 {
					t.Errorf("%.200q is refused: %.300q", a.send, got)
				}
				continue
			}
			status := "HTTP/1.1 400 Bad Request\r\n"
			if a.why == RejectHeaderSize {
				status = "HTTP/1.1 431 Request Header Fields Too Large\r\n"
			}
			if !strings.HasPrefix(got, status) || !strings.Contains(got, "\r\nConnection: close\r\n") ||
				!strings.Contains(got, "\r\nFreshet-Reason: "+string(a.why)+"\r\n") || strings.Count(got, "HTTP/1.1 ") != 1 {
				t.Errorf("%.200q: want one answer, %s, got %.300q", a.send, a.why, got)
			}
			if n := rejected(t, w.metrics, a.why) - counted; n != 1 {
				t.Errorf("%.200q: counted %v times", a.send, n)
			}
			mu.Lock()
			inBody := strings.HasPrefix(a.send, "POST") && strings.Contains(a.send, "\r\n\r\n") && len(told) == 0 // its handler tells
			if !inBody && (len(told) != 1 || told[0].Why != a.why || !strings.HasPrefix(status, fmt.Sprintf("HTTP/1.1 %d", told[0].Status))) {
				t.Errorf("%.200q: told %+v", a.send, told)
			}
			mu.Unlock()
		}
	}
}

// The end of the connection in the middle of a message is refused as well.
func TestCutShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	for _, in := range []string{"POST / HTTP/1.1\r\nHost: h\r\nX: a\r\n"} {
		if got := exchange(t, w.addr, in); !strings.Contains(got, "400 Bad Request") || !strings.Contains(got, "bad_message") {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// Whatever the referee lets pass, net/http takes for the same messages: it ends
// each where the referee does, also when the bytes come in pieces. What the loop
// takes for a request is right to the referee.
func FuzzReferee(f *testing.F) {
	for _, a := range hostile() {
		f.Add([]byte(a.send+get("/")), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		count := &pieces{r: bytes.NewReader(in), most: int(piece)%64 + 1}
		ref := &referee{from: count, most: 64 << 10}
		var r Request
		if n, odd := r.parse(in); n > 0 && odd == plain {
			head := make([]byte, n)
			if _, err := io.ReadFull(ref, head); err != nil || !bytes.Equal(head, in[:n]) || ref.bad != nil {
				t.Fatalf("%.500q: the loop takes it, the referee says %v, %v", in, ref.bad, err)
			}
			return
		}
		br := bufio.NewReader(ref)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if ref.bad != nil && ref.part == partHead && ref.line == "" {
				t.Fatalf("%q: a header that is refused, %v, got to net/http", in, ref.bad)
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				if ref.bad == nil && len(in) < 4096 && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%q: net/http says %v of a body that the referee let pass", in, err)
				}
				return
			}
			if br.Buffered() > 0 || ref.raw > 0 || ref.part != partHead {
				t.Fatalf("%q: net/http read %q and leaves %d bytes, the referee expects %d, part %d", in, body, br.Buffered(), ref.raw, ref.part)
			}
		}
	})
}

// pieces gives out a few bytes at a time.
type pieces struct {
	r    io.Reader
	most int
}

func (c *pieces) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.most)]) }

// exchange sends in and the end of it, and returns all that comes back, without
// dates.
func exchange(t *testing.T, addr, in string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
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
