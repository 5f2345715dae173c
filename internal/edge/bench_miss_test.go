package edge

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"freshet/internal/edge/upstream/origintest"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// benchmarkMiss asks an edge, over TCP and by many connections, for files that
// it does not have. Client and origin allocate nothing.
func benchmarkMiss(b *testing.B, size int, fields string) {
	origin := origintest.Canned(b, append([]byte("HTTP/1.1 200 OK\r\nServer: x\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\n"+
		"Last-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\nEtag: \"abc-def\"\r\nAccept-Ranges: bytes\r\n"+fields+"Content-Length: "+strconv.Itoa(size)+"\r\n\r\n"), make([]byte, size)...))
	e, err := New(b.Context(), Config{Origin: "http://" + origin, Store: b.TempDir(), Size: 4 << 30, Follow: "off"}, role.Env{})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	access := role.NewAccess("bench", slog.New(slog.DiscardHandler), e.env.Metrics)
	served := make(chan error, 1)
	go func() {
		log := slog.New(slog.DiscardHandler)
		srv := h1.Server{Handler: &front{e: e, access: access, hots: newHots()}, HTTP: role.NewServer(ctx, access.Wrap(e), log), Log: log}
		served <- srv.Serve(ctx, ln)
	}()
	b.ReportAllocs()
	b.SetParallelism(16)
	var serial atomic.Int64
	before := spent(b)
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		br := bufio.NewReaderSize(conn, 64<<10)
		var request []byte
		for pb.Next() {
			request = strconv.AppendInt(append(request[:0], "GET /files/"...), serial.Add(1), 10)
			request = append(request, ".rpm HTTP/1.1\r\nHost: files.example.org\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"...)
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			for first := true; ; first = false {
				line, err := br.ReadSlice('\n')
				if err != nil || first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
					b.Errorf("%q, %v", line, err)
					return
				}
				if len(line) == 2 {
					break
				}
			}
			if n, err := br.Discard(size); n != size {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(spent(b)-before)/float64(b.N), "cpu-ns/op")
	cancel()
	if err := <-served; err != nil {
		b.Error(err)
	}
	if err := e.Close(); err != nil {
		b.Error(err)
	}
}

// spent is the processor time of this process, client and origin included.
func spent(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkMissStored(b *testing.B) { benchmarkMiss(b, 3000, "Cache-Control: max-age=3600\r\n") }
func BenchmarkMissPassed(b *testing.B) { benchmarkMiss(b, 3000, "Cache-Control: no-store\r\n") }
