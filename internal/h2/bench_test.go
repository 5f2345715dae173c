package h2

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"freshet/internal/h1"
)

// constant answers everything but /slow with the same bytes.
type constant struct{ body []byte }

func (c constant) Answer(req *h1.Request, res *h1.Response) bool {
	if strings.HasPrefix(string(req.Target), "/slow") {
		return false
	}
	res.Head = AppendNumber(AppendStatus(res.Head, 200), "content-length", int64(len(c.body)))
	res.Body = c.body
	return true
}

func (constant) Sent(*h1.Request, *h1.Response, int64, error) {}

// benchmark asks for a path, so many requests at once.
func benchmark(b *testing.B, path string, batch int) {
	b.Helper()
	body := make([]byte, 1000)
	srv := Server{Handler: constant{body}, HTTP: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := ln.Accept(); err == nil {
			srv.ServeClear(context.Background(), c)
		}
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	hello := appendHead([]byte(preface), frameSettings, 0, 0, 0)
	if _, err := c.Write(hello); err != nil {
		b.Fatal(err)
	}
	// GET, https, authority and path as indexed fields do most of it.
	block := append([]byte{0x82, 0x87, 0x01, 1, 'h', 0x04, byte(len(path))}, path...)
	request := appendHead(nil, frameHeaders, flagEndStream|flagEndHeaders, 0, len(block))
	request = append(request, block...)
	var out []byte
	for range batch {
		out = append(out, request...)
	}
	window := appendHead(nil, frameWindowUpdate, 0, 0, 4)
	out = append(out, binary.BigEndian.AppendUint32(window, uint32(batch*len(body)))...)
	br := bufio.NewReaderSize(c, 64<<10)
	id := uint32(1)
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			binary.BigEndian.PutUint32(out[i*len(request)+5:], id)
			id += 2
		}
		if _, err := c.Write(out); err != nil {
			b.Fatal(err)
		}
		for left := batch; left > 0; {
			head, err := br.Peek(frameHead)
			if err != nil {
				b.Fatal(err)
			}
			f, n := parseHead(head)
			if f.stream > 0 && f.has(flagEndStream) && f.kind <= frameHeaders {
				left--
			}
			if _, err := br.Discard(frameHead + n); err != nil {
				b.Fatal(err)
			}
		}
	}
	_ = c.Close()
	_, _ = io.Copy(io.Discard, br)
	<-done
}

// A hit makes no garbage but the strings of its header; what net/http's kind of
// handler answers costs a goroutine and a request.
func BenchmarkHit(b *testing.B)       { benchmark(b, "/x", 1) }
func BenchmarkHits32(b *testing.B)    { benchmark(b, "/x", 32) }
func BenchmarkHandler(b *testing.B)   { benchmark(b, "/slow", 1) }
func BenchmarkHandler32(b *testing.B) { benchmark(b, "/slow", 32) }
