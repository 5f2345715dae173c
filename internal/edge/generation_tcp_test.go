package edge

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/internal/h1"
	"freshet/internal/role"
)

// Over real connections, with purges as fast as they come, no two generations
// are mixed: neither by the fast loop nor by net/http.
func TestSetsSwitchTogetherOverTCP(t *testing.T) {
	t.Parallel()
	key := newSigner(t)
	kind := kindsOfSets()[0]
	files := newStatic(make(map[string]string))
	for _, f := range kind.publish(t, key, 0) {
		files.set(f[0], f[1])
	}
	origin := httptest.NewServer(http.HandlerFunc(files.serve))
	defer origin.Close()
	e, err := New(t.Context(), Config{Origin: origin.URL, Store: t.TempDir(), Size: 64 << 20, Follow: "off"}, role.Env{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	access := e.newAccess()
	go func() {
		srv := h1.Server{Handler: &front{e: e, access: access, hots: newHots()}, HTTP: role.NewServer(ctx, access.Wrap(e), slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler)}
		served <- srv.Serve(ctx, ln)
	}()
	const publishes, enough = 200, 300
	var over atomic.Bool
	var reads, moved, mixed, refused atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		defer over.Store(true)
		// A busy machine takes its time for the readings, not fewer of them.
		late := time.Now().Add(2 * time.Minute)
		for n := 1; n <= publishes || reads.Load() < enough && time.Now().Before(late); n++ {
			for _, f := range kind.publish(t, key, n) {
				files.set(f[0], f[1])
				<-time.After(time.Duration(rand.IntN(8)) * time.Millisecond)
			}
			if _, err := e.purge(e.rest, kind.pair); err != nil {
				t.Error(err)
			}
		}
	})
	for range 50 {
		wg.Go(func() {
			transport := role.NewTransport(new(net.Dialer).DialContext)
			defer transport.CloseIdleConnections()
			r := &reader{client: &http.Client{Transport: transport}}
			for !over.Load() {
				first := rand.IntN(2)
				read := make(map[string]string)
				whole := true
				for _, path := range []string{kind.pair[first], kind.pair[1-first]} {
					body, status := r.get(t, "http://"+ln.Addr().String(), path)
					read[path], whole = body, whole && status == http.StatusOK
				}
				if r.moved { // between the two: for the edge that is another client
					moved.Add(1)
					continue
				}
				reads.Add(1)
				switch {
				case !whole:
					refused.Add(1)
				case !kind.fits(read):
					mixed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d readings over one connection, %d over two, %d refused, %d mixed", reads.Load(), moved.Load(), refused.Load(), mixed.Load())
	if mixed.Load() > 0 || refused.Load() > reads.Load()/50 || reads.Load() < enough {
		t.Errorf("%d readings, %d refused, %d mixed", reads.Load(), refused.Load(), mixed.Load())
	}
}
