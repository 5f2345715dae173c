package edge

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/config"
	"freshet/internal/doors"
	"freshet/internal/role"
)

// smallDisk mounts a disk of that many MiB.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// The store refuses a body in its middle, because the disk is full or because
// its length, which nobody announced, turns out to be too much: whoever reads
// along, fast, slowly, or a part, gets every byte, from one fetch. Who comes
// later fetches for himself.
func TestStoreRefusesTheRest(t *testing.T) {
	const mb = 1 << 20
	body := pattern(16 * mb)
	for _, framing := range []string{"length", "chunked"} {
		t.Run(framing, func(t *testing.T) {
			cfg := Config{Size: 8 * mb}
			if framing == "length" {
				cfg = Config{Store: filepath.Join(smallDisk(t, 6), "store"), Size: 64 * mb}
			}
			bubble(t, func(t *testing.T) {
				w := newWorld(t, cfg, func(rw http.ResponseWriter, _ *http.Request) {
					if framing == "length" {
						rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
					}
					for i := 0; i < len(body); i += 64 << 10 {
						_, _ = io.WriteString(rw, body[i:i+64<<10])
						_ = http.NewResponseController(rw).Flush()
						time.Sleep(10 * time.Millisecond)
					}
				})
				var wg sync.WaitGroup
				for i := range 12 {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * 20 * time.Millisecond)
						req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://edge.mem/a.rpm", nil)
						if err != nil {
							t.Error(err)
							return
						}
						want := body
						if i%4 == 3 && framing == "length" {
							req.Header.Set("Range", "bytes=1000000-1000009,15000000-")
							want = body[15000000:]
						}
						resp, err := w.client.Do(req)
						if err != nil {
							t.Error(err)
							return
						}
						defer resp.Body.Close()
						var got bytes.Buffer
						for err == nil { // the later, the slower
							_, err = io.CopyN(&got, resp.Body, 256<<10)
							time.Sleep(time.Duration(i) * 20 * time.Millisecond)
						}
						if !errors.Is(err, io.EOF) || got.String() != want && !strings.Contains(got.String(), want) {
							t.Errorf("reader %d got %d bytes, %v", i, got.Len(), err)
						}
					})
				}
				wg.Wait()
				w.wantFetches(1)
				if n := w.metric("freshet_edge_store_entries", ""); n != 0 {
					t.Errorf("%v entries are stored", n)
				}
				if n := w.metric("freshet_edge_fetches_total", "store_full"); n != 1 {
					t.Errorf("counted %v", n)
				}
				if a := w.get("/a.rpm"); a.body != body || a.err != nil {
					t.Errorf("the next one got %d bytes, %v", len(a.body), a.err)
				}
				w.wantFetches(2)
			})
		})
	}
}

// A reader that takes nothing holds the others up for a while only, if what it
// has not taken is not in the store.
func TestStalledReaderIsLeftBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := pattern(24 << 20)
		w := newWorld(t, Config{Size: 8 << 20}, func(rw http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(rw).Flush()
			time.Sleep(time.Second)
			_, _ = io.WriteString(rw, body)
		})
		open := func() *http.Response {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://edge.mem/a.rpm", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		stalled := open()
		defer stalled.Body.Close()
		begun := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if a := w.get("/a.rpm"); a.err != nil || a.body != body {
					t.Errorf("got %d bytes, %v", len(a.body), a.err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took < windowStall/2 || took > 2*windowStall {
			t.Errorf("took %v", took)
		}
		if got, err := io.Copy(io.Discard, stalled.Body); err == nil {
			t.Errorf("the one who stalled got %d bytes as if they were all", got)
		}
		w.wantFetches(1)
		if n := w.metric("freshet_edge_requests_total", "error:verify_mismatch"); n != 0 {
			t.Errorf("%v errors", n)
		}
	})
}

// What all windows hold is bounded, and without any spare memory a body still
// arrives, at the pace of the slowest.
func TestWindowsShareMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var spare allowance
		for spare.take() {
		}
		full := spare.used.Load()
		if full != maxSpare {
			t.Errorf("%d bytes were given", full)
		}
		for _, left := range []int{0, 3, 100} {
			spare.used.Store(full - int64(left)*bufferSize)
			f := &fill{size: -1, n: 7, shown: 7, readers: 2, release: func() {}}
			f.refuse(&spare)
			body := []byte(pattern(5 << 20))
			done := make(chan error)
			go func() {
				err := f.push(t.Context(), body)
				f.finish(err)
				done <- err
			}()
			var most int64
			var wg sync.WaitGroup
			for i := range 2 {
				wg.Go(func() {
					defer f.leave()
					c := f.place(7)
					defer f.unplace(c)
					var got []byte
					for buf := make([]byte, 50_000); ; time.Sleep(time.Duration(i) * time.Millisecond) {
						n, err := f.read(nil, c, 7+int64(len(got)))
						if err != nil {
							if !errors.Is(err, io.EOF) || !bytes.Equal(got, body) {
								t.Errorf("reader %d got %d bytes, %v", i, len(got), err)
							}
							return
						}
						k, err := f.readAt(buf[:min(n, int64(len(buf)))], 7+int64(len(got)))
						if err != nil {
							t.Error(err)
							return
						}
						got = append(got, buf[:k]...)
						if i == 0 {
							most = max(most, spare.used.Load()-full+int64(left)*bufferSize)
						}
					}
				})
			}
			wg.Wait()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if want := int64(min(left, maxPieces)) * bufferSize; most != want {
				t.Errorf("%d bytes were borrowed, want %d", most, want)
			}
			if used := spare.used.Load(); used != full-int64(left)*bufferSize {
				t.Errorf("%d bytes are used afterwards, %d before", used, full-int64(left)*bufferSize)
			}
			if f.join() {
				t.Error("joined a body of which a part is gone")
			}
		}
	})
}

// Nobody who reads means the end of what cannot be stored.
func TestNobodyReadsPastTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sent := 0
		w := newWorld(t, Config{Size: 8 << 20}, func(rw http.ResponseWriter, _ *http.Request) {
			piece := []byte(pattern(1 << 20))
			for ; sent < 40; sent++ {
				if _, err := rw.Write(piece); err != nil || http.NewResponseController(rw).Flush() != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://edge.mem/a.rpm", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, 10<<20); err != nil {
			t.Error(err)
		}
		leave()
		_ = resp.Body.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if sent > 14 {
			t.Errorf("%d of 40 MiB were fetched for nobody", sent)
		}
	})
}

// wrongBodies are bodies that are not what their paths say, and what they
// should be.
func wrongBodies(t *testing.T, size int) map[string][2]string {
	t.Helper()
	good, bad := pattern(size), pattern(size-1)+"!"
	pack := func(s string) string {
		var b bytes.Buffer
		zw, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(zw, s); err != nil || zw.Close() != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	sum := sha256.Sum256([]byte(good))
	return map[string][2]string{
		objectOf(good): {good, bad},
		"/repodata/" + hex.EncodeToString(sum[:]) + "-primary.xml.gz": {good, bad},
		"/summaries/" + hex.EncodeToString(sum[:]) + ".gz":            {pack(good), pack(bad)},
	}
}

// A body that cannot be stored and is not what its name says reaches nobody as
// complete, whether the edge sees from the beginning that it cannot be stored
// or in the middle.
func TestVerifyWhatCannotBeStored(t *testing.T) {
	for _, framing := range []string{"length", "chunked"} {
		for _, size := range []int64{4 << 20, 64 << 20} { // the disk takes 4 MiB
			t.Run(fmt.Sprintf("%s, %d", framing, size), func(t *testing.T) {
				disk := smallDisk(t, 4)
				bubble(t, func(t *testing.T) {
					bodies := wrongBodies(t, 6<<20)
					which := 1
					w := newWorld(t, Config{Store: filepath.Join(disk, "store"), Size: config.Size(size)}, func(rw http.ResponseWriter, r *http.Request) {
						body := bodies[r.URL.Path][which]
						if framing == "length" {
							rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
						}
						_ = http.NewResponseController(rw).Flush()
						time.Sleep(100 * time.Millisecond)
						_, _ = io.WriteString(rw, body)
					})
					for which = 1; which >= 0; which-- {
						for path, both := range bodies {
							var wg sync.WaitGroup
							for range 3 {
								wg.Go(func() {
									a, err := w.try(t.Context(), http.MethodGet, path)
									whole := err == nil && a.err == nil && a.status == http.StatusOK
									if whole != (which == 0) || whole && a.body != both[0] {
										t.Errorf("%s: %d bytes of body %d, complete: %v (%v, %v)", path, len(a.body), which, whole, err, a.err)
									}
								})
							}
							wg.Wait()
						}
					}
					if n := w.metric("freshet_edge_requests_total", "error:verify_mismatch"); n != float64(3*len(bodies)) {
						t.Errorf("counted %v", n)
					}
				})
			})
		}
	}
}

// An HTTP/1.0 client knows the end of a body of unknown length by that of the
// connection: where the body is cut or wrong, the connection breaks.
func TestOldClientSeesTheCut(t *testing.T) {
	good, bad := pattern(3<<20), pattern(3<<20-1)+"!"
	path := objectOf(good)
	var broken atomic.Bool
	var net10 net.Listener
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body := good
		if broken.Load() {
			body = bad
		}
		if r.URL.Path == "/cut.rpm" && broken.Load() {
			sendCut(rw, "chunked", body, 1<<20)
			return
		}
		_ = http.NewResponseController(rw).Flush() // so that its length is not known
		_, _ = io.WriteString(rw, body)
	})}
	go func() { _ = srv.Serve(origin) }()
	defer srv.Close()
	for _, size := range []int64{4 << 20, 64 << 20} { // it can be stored, or not
		ctx, stop := context.WithCancel(t.Context())
		ready, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- Run(ctx, Config{Origin: "http://" + origin.Addr().String(), Store: t.TempDir(), Listeners: doors.Listeners{Listen: "127.0.0.1:0"}, Size: config.Size(size), Follow: "off"}, role.Env{
				Listen: func(ctx context.Context, addr string) (net.Listener, error) {
					ln, err := role.ListenTCP(ctx, addr)
					net10 = ln
					return ln, err
				},
				Metrics: prometheus.NewRegistry(), Ready: func() { close(ready) },
			})
		}()
		<-ready
		ask := func(path string) (string, error) {
			conn, err := net.Dial("tcp", net10.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: edge\r\n\r\n", path); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return string(body), err
		}
		for _, wrong := range []bool{true, false} {
			broken.Store(wrong)
			for _, path := range []string{path, "/cut.rpm"} {
				body, err := ask(path)
				switch {
				case wrong && err == nil:
					t.Errorf("%s: %d bytes arrived as if complete", path, len(body))
				case !wrong && (err != nil || body != good):
					t.Errorf("%s: %d bytes, %v", path, len(body), err)
				}
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
