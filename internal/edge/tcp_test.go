package edge

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/doors"
	"freshet/internal/edge/diskcache"
	"freshet/internal/peertest"
	"freshet/internal/ramtest"
	"freshet/internal/role"
)

// childEnv makes the test binary an edge: its value is the store, the origin
// follows in childOrigin.
const (
	childEnv    = "FRESHET_TEST_EDGE_STORE"
	childOrigin = "FRESHET_TEST_EDGE_ORIGIN"
)

func TestMain(m *testing.M) {
	if store := os.Getenv(childEnv); store != "" {
		err := Run(context.Background(), Config{
			Origin: os.Getenv(childOrigin), Store: store, Listeners: doors.Listeners{Listen: "127.0.0.1:0"}, Size: 24 << 20, Follow: "off",
		}, role.Env{
			Listen: func(ctx context.Context, addr string) (net.Listener, error) {
				ln, err := role.ListenTCP(ctx, addr)
				if err == nil {
					fmt.Println(ln.Addr())
				}
				return ln, err
			},
			Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(ramtest.Run(m))
}

// contentOf is the one true content of a path: length and bytes follow from
// its name.
func contentOf(path string) []byte {
	sum := sha256.Sum256([]byte(path))
	n := int(binary.LittleEndian.Uint32(sum[:]) % 3000)
	if sum[4] < 40 {
		n *= 300
	}
	seed := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(sum[8:]), 1))
	b := make([]byte, n+8)
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], seed.Uint64())
	}
	return b
}

// TestKill kills an edge at random moments while clients fill it, and looks at
// what it left.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := contentOf(r.URL.Path)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		for len(body) > 0 { // in pieces, so that a kill meets half a body
			n := min(len(body), 100<<10)
			if _, err := w.Write(body[:n]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			body = body[n:]
		}
	}))
	defer origin.Close()
	store := t.TempDir()
	var hits, gone int
	for round := range 12 {
		addr, kill := startChild(t, store, origin.URL)
		answered, stop := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 6 {
			wg.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for {
					select {
					case <-stop:
						return
					default:
					}
					path := fmt.Sprintf("/%d.rpm", rand.IntN(1500))
					resp, err := client.Get("http://" + addr + path)
					if err != nil {
						continue // killed
					}
					body, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err == nil && resp.StatusCode == 200 && string(body) != string(contentOf(path)) {
						t.Errorf("round %d: %s: wrong body", round, path)
					}
					mu.Lock()
					if strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
						hits++
					}
					mu.Unlock()
					select {
					case answered <- struct{}{}:
					case <-stop:
					}
				}
			})
		}
		late := time.After(5 * time.Minute)
		for range 50 + rand.IntN(400) { // as many on a machine of any speed
			select {
			case <-answered:
			case <-late:
				t.Fatalf("round %d: the edge does not answer", round)
			}
		}
		kill()
		close(stop)
		wg.Wait()

		s, err := diskcache.Open(t.Context(), store, diskcache.Options{Size: 24 << 20})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for entry := range s.All() {
			n++
			err := s.Verify(entry)
			if errors.Is(err, fs.ErrNotExist) {
				continue // evicted in the last moment
			}
			if err != nil {
				t.Errorf("round %d: %v", round, err)
				continue
			}
			body, err := entry.Open()
			if err != nil {
				t.Error(err)
				continue
			}
			data, err := io.ReadAll(io.NewSectionReader(body, 0, entry.Size()))
			if err != nil || string(data) != string(contentOf(entry.Meta().Path)) {
				t.Errorf("round %d: %s is wrong, %v", round, entry.Meta().Path, err)
			}
			body.Close()
		}
		left, err := filepath.Glob(filepath.Join(store, "tmp", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("round %d: temporary files are left: %v %v", round, left, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if round > 2 && n == 0 {
			gone++
		}
	}
	if hits == 0 || gone > 0 {
		t.Errorf("%d hits, %d rounds left an empty store: the kills lose too much", hits, gone)
	}
}

// startChild runs an edge in a process of its own.
func startChild(t *testing.T, store, origin string) (addr string, kill func()) {
	t.Helper()
	cmd := peertest.Command(t, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+store, childOrigin+"="+origin)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the edge did not start: %v", err)
	}
	return strings.TrimSpace(line), func() {
		_ = cmd.Process.Kill() // SIGKILL
		_ = cmd.Wait()
	}
}

// newTCP is an edge on TCP, where sendfile works.
func newTCP(tb testing.TB, origin http.Handler) (edge, upstream *httptest.Server) {
	tb.Helper()
	upstream = httptest.NewServer(origin)
	env := role.Env{}.WithDefaults()
	e, err := New(tb.Context(), Config{Origin: upstream.URL, Store: tb.TempDir(), Size: 1 << 30, Follow: "off"}, env)
	if err != nil {
		tb.Fatal(err)
	}
	edge = httptest.NewServer(e.newAccess().Wrap(e))
	tb.Cleanup(func() {
		edge.Close()
		upstream.Close()
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return edge, upstream
}

// Large bodies go by sendfile, from an offset of their own each.
func TestLargeHitsTogether(t *testing.T) {
	body := pattern(5 << 20)
	edge, _ := newTCP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	fetch := func(from int) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", edge.URL+"/a.rpm", nil)
		if err != nil {
			t.Error(err)
			return
		}
		if from > 0 {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil || string(data) != body[from:] {
			t.Errorf("from %d: %d bytes, %v", from, len(data), err)
		}
	}
	fetch(0)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() { fetch(i * 300000) })
	}
	wg.Wait()
}

// discard is a ResponseWriter that costs nothing.
type discard struct {
	h http.Header
	n int64
}

func (d *discard) Header() http.Header { return d.h }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(p []byte) (int, error) {
	d.n += int64(len(p))
	return len(p), nil
}

func benchmarkHit(b *testing.B, path string, body string, fields ...string) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	}))
	defer upstream.Close()
	e, err := New(b.Context(), Config{Origin: upstream.URL, Store: b.TempDir(), Size: 1 << 30, Follow: "off"}, role.Env{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	}()
	r := httptest.NewRequest("GET", path, nil)
	e.ServeHTTP(httptest.NewRecorder(), r)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
	}
	w := &discard{h: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		e.ServeHTTP(w, r)
	}
	if len(fields) == 0 && w.n < int64(b.N)*int64(len(body)) {
		b.Errorf("%d bytes in %d rounds", w.n, b.N)
	}
}

func BenchmarkHit3k(b *testing.B) {
	benchmarkHit(b, "/repo/objects/0a/"+strings.Repeat("0a", 31)+".filez", pattern(3000))
}
func BenchmarkHitPointer(b *testing.B) { benchmarkHit(b, "/repo/summary", pattern(3000)) }
func BenchmarkHit1M(b *testing.B)      { benchmarkHit(b, "/a.rpm", pattern(1<<20)) }
func BenchmarkNotModified(b *testing.B) {
	benchmarkHit(b, "/repo/summary", pattern(3000), `If-None-Match: "v"`)
}

func BenchmarkRange(b *testing.B) {
	benchmarkHit(b, "/a.rpm", pattern(1<<20), "Range: bytes=1000-1999")
}

func BenchmarkMiss3k(b *testing.B) {
	body := pattern(3000)
	edge, _ := newTCP(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		resp, err := http.Get(edge.URL + "/" + strconv.Itoa(i) + ".rpm")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != 3000 || err != nil {
			b.Fatal(n, err)
		}
		_ = resp.Body.Close()
		i++
	}
}
