package diskcache

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
)

func digestID(n int) ID {
	a, b := uint64(n)*0x9e3779b97f4a7c15, uint64(n)*0xc2b2ae3d27d4eb4f
	a ^= a >> 29
	b ^= b >> 31
	var id ID
	binary.BigEndian.PutUint64(id[:], a*0xbf58476d1ce4e5b9)
	binary.BigEndian.PutUint64(id[8:], b)
	return id
}

func benchMeta() *Meta {
	return &Meta{
		Key: "site /repo/objects/0a/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a.filez", Site: "site",
		URI:  "/repo/objects/0a/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a.filez",
		Path: "/repo/objects/0a/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a.filez", Status: 200, Fixed: true,
		Header: http.Header{
			"Content-Type": {"application/octet-stream"}, "Etag": {`"5f3c-1a2b3c"`}, "Date": {"Sat, 21 Nov 2026 02:42:51 GMT"},
			"Last-Modified": {"Sat, 21 Nov 2026 02:42:51 GMT"}, "Cache-Control": {"public, max-age=31536000, immutable"}, "Accept-Ranges": {"bytes"},
		},
	}
}

func putBench(b testing.TB, s *Store, n int, body []byte) {
	b.Helper()
	w, err := s.Create(digestID(n), benchMeta(), int64(len(body)))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		b.Fatal(err)
	}
	if _, err := w.Commit(State{Validated: time.Unix(1, 0)}); err != nil {
		b.Fatal(err)
	}
}

// cpu is the processor time this process has used. On a machine that others use
// too, it tells more than the clock.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmarkGet(b *testing.B, memory int64) {
	s, err := Open(b.Context(), b.TempDir(), Options{Size: 1 << 30, Memory: memory})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const n = 4000
	for i := range n {
		putBench(b, s, i, make([]byte, 3000))
	}
	for range 3 {
		for i := range n {
			s.Get(digestID(i))
		}
	}
	b.ReportAllocs()
	i, begun := 0, cpu()
	for b.Loop() {
		e := s.Get(digestID(i % n))
		body, err := e.Open()
		if err != nil || len(body.Bytes()) != 3000 || e.State().Flags != 0 {
			b.Fatal(err)
		}
		body.Close()
		i++
	}
	b.ReportMetric(float64(cpu()-begun)/float64(i), "cpu-ns/op")
}

// A hit: look-up, state, body of 3 kB.
func BenchmarkGetFromMemory(b *testing.B) { benchmarkGet(b, 64<<20) }
func BenchmarkGetFromDisk(b *testing.B)   { benchmarkGet(b, -1) }

func benchmarkPut(b *testing.B, length int, size int64) {
	s, err := Open(b.Context(), b.TempDir(), Options{Size: size})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	body := make([]byte, length)
	b.SetBytes(int64(length))
	b.ReportAllocs()
	i, begun := 0, cpu()
	for b.Loop() {
		putBench(b, s, i, body)
		i++
	}
	b.ReportMetric(float64(cpu()-begun)/float64(i), "cpu-ns/op")
	b.ReportMetric(float64(s.Stat().Evicted)/float64(i), "evicted/op")
}

func BenchmarkPut3k(b *testing.B)         { benchmarkPut(b, 3000, 16<<30) }
func BenchmarkPut3kEvicting(b *testing.B) { benchmarkPut(b, 3000, 16<<20) }
func BenchmarkPut1M(b *testing.B)         { benchmarkPut(b, 1<<20-4096, 256<<20) }

func BenchmarkMark(b *testing.B) {
	s, err := Open(b.Context(), b.TempDir(), Options{Size: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	putBench(b, s, 1, make([]byte, 3000))
	e := s.Get(digestID(1))
	b.ReportAllocs()
	for b.Loop() {
		e.Mark(func(st *State) { st.Flags |= 1 })
	}
}

// startDir makes the test binary open a store and tell what that took.
const startDir = "FRESHET_TEST_START"

func reportStart(dir string) error {
	runtime.GC()
	before := rss()
	begun, used := time.Now(), cpu()
	s, err := Open(context.Background(), dir, Options{Size: 100 << 30, Memory: -1})
	took, used := time.Since(begun), cpu()-used
	if err != nil {
		return err
	}
	n := s.Stat().Entries
	hits := 0
	for i := range 1000 {
		if s.Peek(digestID(i*(n/1000))) != nil {
			hits++
		}
	}
	runtime.GC()
	fmt.Println(took.Nanoseconds(), used.Nanoseconds(), n, rss()-before, hits)
	return s.Close()
}

func rss() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "RssAnon:")
	kb, _ := strconv.Atoi(strings.Fields(after)[0])
	return kb << 10
}

// How long a start takes after a kill, and what an entry takes in memory.
// FRESHET_START_OBJECTS says how many there are: 10 million need 8 GB of disk and
// some minutes.
func BenchmarkStart(b *testing.B) {
	n := 1_000_000
	if set := os.Getenv("FRESHET_START_OBJECTS"); set != "" {
		var err error
		if n, err = strconv.Atoi(set); err != nil {
			b.Fatal(err)
		}
	}
	dir := filepath.Join(b.TempDir(), "store")
	s, err := Open(b.Context(), dir, Options{Size: 100 << 30, Memory: -1})
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 100) // the start does not look at them
	begun := time.Now()
	for i := range n {
		putBench(b, s, i, body)
	}
	filled := time.Since(begun)
	// A kill: the last things that were written are in the log only.
	if err := s.log.flush(); err != nil {
		b.Fatal(err)
	}
	tail := s.log.length()
	_ = s.closeFiles() // what a kill would do to the lock
	var took, used, entries, bytes, hits float64
	var best, worst float64
	b.ResetTimer()
	for b.Loop() {
		cmd := peertest.Command(b, os.Args[0])
		cmd.Env = append(os.Environ(), startDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := fmt.Sscan(string(out), &took, &used, &entries, &bytes, &hits); err != nil {
			b.Fatal(err)
		}
		if best == 0 {
			best = took
		}
		best, worst = min(best, took), max(worst, took)
		if int(entries) != n || hits < 1000 {
			b.Fatalf("%v entries, want %d; %v of 1000 are found", entries, n, hits)
		}
	}
	b.ReportMetric(best/1e6, "best-start-ms")
	b.ReportMetric(worst/1e6, "worst-start-ms")
	b.ReportMetric(used/1e6, "start-cpu-ms")
	b.ReportMetric(bytes/entries, "B/object")
	b.ReportMetric(float64(tail)/1e6, "log-MB")
	b.ReportMetric(float64(filled.Nanoseconds())/float64(n), "fill-ns/object")
}
