package upstream

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"

	"freshet/internal/edge/upstream/h1client"
	"freshet/internal/edge/upstream/origintest"
)

// benchmark asks an origin on the loopback that does next to nothing itself
// for 3 kB, again and again.
func benchmark(b *testing.B, size int, prepare func(*Origin)) {
	head := "HTTP/1.1 200 OK\r\nServer: x\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\n" +
		"Last-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\nEtag: \"abc-def\"\r\nAccept-Ranges: bytes\r\nContent-Length: 3000\r\n\r\n"
	addr := origintest.Canned(b, append([]byte(head), make([]byte, size)...))
	o := &Origin{Base: &url.URL{Scheme: "http", Host: addr}, FirstByte: 15e9, Idle: 15e9}
	prepare(o)
	g := &Group{Origins: []*Origin{o}}
	defer g.Close()
	header := http.Header{"User-Agent": {"freshet-edge"}, "Accept": {"*/*"}, "Accept-Encoding": {"identity"}, "Via": {"1.1 freshet"}}
	b.ReportAllocs()
	b.SetParallelism(16)
	before := spent(b)
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 128<<10)
		for pb.Next() {
			resp, err := g.Do(b.Context(), Request{Method: "GET", URI: "/objects/ab/cdef.filez", Header: header})
			if err != nil {
				b.Error(err)
				return
			}
			for err == nil {
				_, err = resp.Body.Read(buf)
			}
			if !errors.Is(err, io.EOF) {
				b.Error(err)
			}
			_ = resp.Body.Close()
		}
	})
	b.ReportMetric(float64(spent(b)-before)/float64(b.N), "cpu-ns/op")
}

// spent is the processor time of this process, the origin's included.
func spent(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkOwn(b *testing.B) {
	benchmark(b, 3000, func(o *Origin) { o.Client = &h1client.Client{Addr: o.Base.Host} })
}

// BenchmarkRaw is the least that client and origin together need.
func BenchmarkRaw(b *testing.B) {
	benchmark(b, 3000, func(o *Origin) {
		conns := make(chan net.Conn, 1000)
		o.HTTP = roundTrip(func(*http.Request) (*http.Response, error) {
			var conn net.Conn
			select {
			case conn = <-conns:
			default:
				var err error
				if conn, err = net.Dial("tcp", o.Base.Host); err != nil {
					return nil, err
				}
			}
			if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: o\r\n\r\n")); err != nil {
				return nil, err
			}
			var buf [8192]byte
			for n := 0; n < 3000; {
				k, err := conn.Read(buf[n:])
				if n += k; err != nil {
					return nil, err
				}
			}
			conns <- conn
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func BenchmarkTransport(b *testing.B) {
	benchmark(b, 3000, func(o *Origin) {
		t := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 256}
		b.Cleanup(t.CloseIdleConnections)
		o.HTTP = t
	})
}
