package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"freshet/internal/edge/diskcache"
)

// How many objects are in the store, and how long a long body is. With these
// set, times are compared with the promises.
const (
	objectsEnv = "FRESHET_SCALE_OBJECTS"
	bodyEnv    = "FRESHET_SCALE_BODY"
)

func numberFrom(t *testing.T, env string, otherwise int) (n int, set bool) {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise, false
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%s: %v", env, text, err)
	}
	return n, true
}

// Ten million objects, or fewer: an edge that is killed while it stores more
// serves within two seconds of its next start, has what was stored a second
// before, needs little memory for it, also with 2000 downloads at once, and has
// not one wrong byte.
func TestManyObjects(t *testing.T) {
	parallel(t)
	objects, strict := numberFrom(t, objectsEnv, 20_000)
	whole, origin := t, newScaleOrigin(t)
	store := filepath.Join(t.TempDir(), "store")
	begun := time.Now()
	fillStore(t, store, objects)
	t.Logf("%d objects stored in %v", objects, time.Since(begun))
	boot := func(t *testing.T) *edgeServer {
		t.Helper()
		begun := time.Now()
		e := startEdge(whole, store, "", origin.url, "--size", "100GB", "--follow", "off")
		took := time.Since(begun)
		t.Logf("serves %v after its start", took)
		if strict && took > 2*time.Second {
			t.Errorf("serves %v after its start", took)
		}
		return e
	}
	freshet(t) // building it is no part of a start

	var edge *edgeServer
	t.Run("restart", func(t *testing.T) {
		edge = boot(t)
		told := writeAndKill(t, edge, origin)
		edge = boot(t)
		lost := 0
		was := origin.requests.Load()
		for _, n := range told {
			resp, err := http.Get(edge.url + scalePath(n))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(body, scaleBody(n)) {
				t.Errorf("object %d: %d wrong bytes, %v", n, len(body), err)
			}
			if !strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
				lost++
			}
		}
		t.Logf("of %d objects stored well before the kill %d are lost; the origin was asked %d times", len(told), lost, origin.requests.Load()-was)
		if len(told) < 100 || lost*1000 > len(told) {
			t.Errorf("of %d objects stored well before the kill %d are lost", len(told), lost)
		}
	})
	if edge == nil {
		t.FailNow()
	}
	t.Run("memory", func(t *testing.T) {
		idle := residentBytes(t, edge.process)
		most := downloads(t, edge, origin)
		limit := int64(objects)*64 + 512<<20
		t.Logf("%d MB resident with %d objects, %d MB with 2000 downloads besides; %d MB are allowed", idle>>20, objects, most>>20, limit>>20)
		if most > limit {
			t.Errorf("%d MB resident, %d are allowed", most>>20, limit>>20)
		}
	})
	edge.stop(syscall.SIGTERM)
	t.Run("verify", func(t *testing.T) { verifyStore(t, store, objects) })
}

// fillStore makes a store with so many small objects of nobody's site.
func fillStore(t *testing.T, dir string, objects int) {
	t.Helper()
	s, err := diskcache.Open(t.Context(), dir, diskcache.Options{Size: 100 << 30, Memory: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	for n := range objects {
		body := scaleFiller(n)
		name := fmt.Sprint("/filler/", n)
		w, err := s.Create(scaleID(n), &diskcache.Meta{
			Key: "filler " + strconv.Itoa(n), Site: "filler", URI: name, Path: name, Status: http.StatusOK, Fixed: true,
			Header: http.Header{"Content-Type": {"application/octet-stream"}, "Etag": {`"1"`}, "Date": {"Sat, 21 Nov 2026 02:42:51 GMT"}},
		}, int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(diskcache.State{Validated: time.Now(), Lifetime: 1000 * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
}

// scaleID spreads numbers over all IDs, as digests are.
func scaleID(n int) (id diskcache.ID) {
	r := rand.NewPCG(uint64(n), 77)
	binary.BigEndian.PutUint64(id[:], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], r.Uint64())
	return id
}

func scaleFiller(n int) []byte { return noise(uint64(n), 50+n%100) }

// scaleBody is the one true content of an object: most are small.
func scaleBody(n int) []byte {
	size := 500 + n*7919%6000
	if n%20 == 0 {
		size = 200_000
	}
	return noise(uint64(n)+1<<40, size)
}

func scalePath(n int) string { return fmt.Sprintf("/o/%d.rpm", n) }

// scaleOrigin serves scaleBody below /o/, and long bodies below /long/.
type scaleOrigin struct {
	url      string
	body     int
	requests atomic.Int64
}

func newScaleOrigin(t *testing.T) *scaleOrigin {
	t.Helper()
	o := new(scaleOrigin)
	o.body, _ = numberFrom(t, bodyEnv, 32<<20)
	piece := noise(1, 1<<20)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		w.Header().Set("Etag", `"1"`)
		if strings.HasPrefix(r.URL.Path, "/long/") {
			http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(repeated(piece), 0, int64(o.body)))
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/o/"), ".rpm"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(scaleBody(n))
	}))
	t.Cleanup(srv.Close)
	o.url = srv.URL
	return o
}

// repeated is a body without an end.
type repeated []byte

func (r repeated) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], r[(off+int64(n))%int64(len(r)):])
	}
	return len(p), nil
}

// writeAndKill has an edge store objects for some seconds, kills it, and
// returns the numbers of those that it had answered whole a second before; on a
// machine whose figures are not asked for, some seconds before.
func writeAndKill(t *testing.T, edge *edgeServer, origin *scaleOrigin) (safe []int) {
	t.Helper()
	type told struct {
		n  int
		at time.Time
	}
	var mu sync.Mutex
	var all []told
	var next atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1))
				body, err := fetch(ctx, edge.url+scalePath(n))
				if err != nil {
					return // it was killed
				}
				if !bytes.Equal(body, scaleBody(n)) {
					t.Errorf("object %d: %d wrong bytes", n, len(body))
				}
				mu.Lock()
				all = append(all, told{n, time.Now()})
				mu.Unlock()
			}
		})
	}
	settled := time.Second
	if os.Getenv(figuresEnv) == "" {
		settled = 5 * time.Second
	}
	<-time.After(2 * time.Second)
	for slow := time.Now().Add(patience); next.Load() < 200 && time.Now().Before(slow); {
		<-time.After(10 * time.Millisecond)
	}
	<-time.After(settled)
	killed := time.Now()
	edge.kill()
	cancel()
	writers.Wait()
	for _, o := range all {
		if killed.Sub(o.at) > settled {
			safe = append(safe, o.n)
		}
	}
	t.Logf("killed after %d objects; the origin was asked %d times", len(all), origin.requests.Load())
	return safe
}

// residentBytes is what the process has in memory.
func residentBytes(t *testing.T, p *process) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// downloads has 2000 clients read long bodies, half of them one that is
// stored, the others twenty that are not, and returns the most memory that the
// edge had meanwhile. Each reads for seconds; none may be cut.
func downloads(t *testing.T, edge *edgeServer, origin *scaleOrigin) (most int64) {
	t.Helper()
	for range 3 { // what is long is kept at the second sight
		resp, err := http.Get(edge.url + "/long/stored.iso")
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || n != int64(origin.body) {
			t.Fatalf("%d of %d bytes, %v", n, origin.body, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext, ReadBufferSize: 4 << 10}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var reading, whole sync.WaitGroup
	var failed, ended atomic.Int64
	var read atomic.Int64
	reading.Add(2000)
	for i := range 2000 {
		path := "/long/stored.iso"
		if i%2 == 1 {
			path = fmt.Sprintf("/long/cold-%d.iso", i%40)
		}
		whole.Go(func() {
			once := sync.OnceFunc(reading.Done)
			defer once()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, edge.url+path, nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := client.Do(req)
			if err != nil {
				if ctx.Err() == nil {
					failed.Add(1)
					t.Errorf("%s: %v", path, err)
				}
				return
			}
			defer resp.Body.Close()
			buf := make([]byte, 16<<10)
			for {
				n, err := resp.Body.Read(buf)
				read.Add(int64(n))
				if n > 0 {
					once()
				}
				switch {
				case errors.Is(err, io.EOF):
					ended.Add(1)
					return
				case err != nil:
					if ctx.Err() == nil {
						failed.Add(1)
						t.Errorf("%s: %v", path, err)
					}
					return
				}
			}
		})
	}
	all := make(chan struct{})
	go func() { reading.Wait(); close(all) }()
	watch := func(until <-chan struct{}, limit time.Duration) {
		timeout := time.After(limit)
		for {
			most = max(most, residentBytes(t, edge.process))
			select {
			case <-until:
				return
			case <-timeout:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	watch(all, patience)
	select {
	case <-all:
	default:
		t.Error("not all clients got a first byte")
	}
	over := make(chan struct{})
	go func() { whole.Wait(); close(over) }()
	watch(over, 5*time.Second)
	t.Logf("2000 downloads of %d MB: %d MB read, %d were over before the others had begun or soon after, %d failed", origin.body>>20, read.Load()>>20, ended.Load(), failed.Load())
	cancel()
	whole.Wait()
	return most
}

// verifyStore compares everything that is stored with what it should be.
func verifyStore(t *testing.T, dir string, objects int) {
	t.Helper()
	s, err := diskcache.Open(t.Context(), dir, diskcache.Options{Size: 100 << 30, Memory: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	fillers, others := 0, 0
	for e := range s.All() {
		meta := e.Meta()
		var want []byte
		if text, ok := strings.CutPrefix(meta.Key, "filler "); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			want = scaleFiller(n)
			fillers++
		} else if text, ok := strings.CutPrefix(meta.URI, "/o/"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(text, ".rpm"))
			if err != nil {
				t.Fatal(err)
			}
			want = scaleBody(n)
			others++
		} else {
			continue // a long one
		}
		body, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(body, 0, e.Size()))
		body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d wrong bytes, %v", meta.Key, len(got), err)
		}
	}
	t.Logf("%d objects of before and %d others are right", fillers, others)
	if fillers < objects-objects/1000 || s.Stat().Damaged > 0 {
		t.Errorf("%d of %d objects, %d damaged", fillers, objects, s.Stat().Damaged)
	}
}
