package h1

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
)

// constant answers everything but /slow with the same bytes.
type constant struct{ body []byte }

func (c constant) Answer(req *Request, res *Response) bool {
	if strings.HasPrefix(string(req.Target), "/slow") {
		return false
	}
	res.Head = append(res.Head, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"...)
	res.Body = c.body
	return true
}

func (constant) Sent(*Request, *Response, int64, error) {}

func benchmark(b *testing.B, request string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 1000)
	srv := Server{Handler: constant{body}, HTTP: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(body)
	})}}
	go func() { _ = srv.Serve(b.Context(), ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	line := []byte(request)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(line); err != nil {
			b.Fatal(err)
		}
		for n := 0; ; {
			line, err := br.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if n += len(line); len(line) == 2 {
				break
			}
		}
		if _, err := br.Discard(1000); err != nil {
			b.Fatal(err)
		}
	}
}

// A hit must make no garbage. A gift costs what net/http costs, and a
// connection.
func BenchmarkHit(b *testing.B)     { benchmark(b, get("/")) }
func BenchmarkHandler(b *testing.B) { benchmark(b, get("/slow")) }
func BenchmarkGift(b *testing.B) {
	benchmark(b, "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
}
