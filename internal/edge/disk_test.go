package edge

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A store that somebody deletes costs speed, not answers, and is there again
// after a while.
func TestStoreFolderVanishes(t *testing.T) {
	for _, what := range [][]string{{"seg", "big", "tmp"}, {"index"}, {"."}} {
		t.Run(strings.Join(what, ","), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				files := newStatic(map[string]string{"/a.rpm": "a", "/b.rpm": "b", "/summary": "s", "/long.rpm": pattern(200_000)})
				w := newWorld(t, Config{}, files.serve)
				w.get("/a.rpm")
				time.Sleep(time.Second)
				for _, name := range what {
					if err := os.RemoveAll(filepath.Join(w.cfg.Store, name)); err != nil {
						t.Fatal(err)
					}
				}
				ask := func(status string) {
					t.Helper()
					for path, body := range files.files {
						if a := w.get(path); a.status != 200 || a.body != body || a.err != nil || !strings.Contains(a.cacheStatus(), status) {
							t.Errorf("%s: %d %.20q %v, %s; want %s", path, a.status, a.body, a.err, a.cacheStatus(), status)
						}
					}
				}
				for range 3 {
					ask("")
				}
				time.Sleep(3 * time.Second)
				if got := w.metric("freshet_edge_store_failing", ""); what[0] != "index" && got != 0 {
					t.Error("the alert does not end")
				}
				time.Sleep(time.Minute) // longer than anything is passed on without asking the store
				ask("")
				time.Sleep(time.Second)
				ask("hit")
				w.restart()
				ask("hit")
			})
		})
	}
}

// On a full disk every client gets every byte.
func TestDiskFull(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Store: filepath.Join(disk, "store"), Size: 64 << 20}, func(rw http.ResponseWriter, r *http.Request) {
			body := contentOf(r.URL.Path)
			if len(body)%2 == 0 {
				rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			}
			for len(body) > 0 {
				n := min(len(body), 100<<10)
				_, _ = rw.Write(body[:n])
				_ = http.NewResponseController(rw).Flush()
				body = body[n:]
			}
		})
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 150 {
					path := fmt.Sprintf("/%d.rpm", (i+g*75)%300)
					if a := w.get(path); a.status != 200 || a.body != string(contentOf(path)) || a.err != nil {
						t.Errorf("%s: %d, %d bytes, %v, %s", path, a.status, len(a.body), a.err, a.cacheStatus())
					}
				}
			})
		}
		wg.Wait()
		if w.metric("freshet_edge_store_failing", "") != 1 {
			t.Error("no alert")
		}
		if n := w.metric("freshet_edge_store_entries", ""); n < 10 {
			t.Errorf("%v entries are stored on a disk that holds more", n)
		}
	})
}

// In a full store, a long body is passed on when it is asked for once, and
// stored when it is asked for again.
func TestLongOneHitBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		long := pattern(2 << 20)
		w := newWorld(t, Config{Size: 8 << 20}, func(rw http.ResponseWriter, r *http.Request) {
			body := long
			if !strings.HasPrefix(r.URL.Path, "/long") {
				body = long[:500_000]
			}
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			time.Sleep(100 * time.Millisecond)
			_, _ = io.WriteString(rw, body)
		})
		for i := range 20 {
			w.get(fmt.Sprintf("/%d.rpm", i))
		}
		if a := w.get("/long1.rpm"); a.body != long || strings.Contains(a.cacheStatus(), "stored") {
			t.Errorf("%d bytes, %s", len(a.body), a.cacheStatus())
		}
		w.want(w.get("/long1.rpm"), long, "fwd=uri-miss; fwd-status=200; ttl=604799; stored")
		w.want(w.get("/long1.rpm"), long, "hit")
		// Those who come at once make two fetches, not more.
		before := w.fetches.Load()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if a := w.get("/long2.rpm"); a.body != long || a.err != nil {
					t.Errorf("%d bytes, %v", len(a.body), a.err)
				}
			})
		}
		wg.Wait()
		if n := w.fetches.Load() - before; n != 2 {
			t.Errorf("%d fetches", n)
		}
		w.want(w.get("/long2.rpm"), long, "hit")
	})
}

// An edge whose disk is read-only when it starts passes answers on, says so, and
// uses what is stored when it can.
func TestStartOnReadOnlyDisk(t *testing.T) {
	disk := smallDisk(t, 16)
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/a.rpm": "a", "/b.rpm": "b"})
		w := newWorld(t, Config{Store: filepath.Join(disk, "store"), Size: 8 << 20}, files.serve)
		w.want(w.get("/a.rpm"), "a", "fwd=uri-miss")
		w.stop()
		remount := func(flags uintptr) {
			if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
				t.Skipf("remount: %v", err)
			}
		}
		remount(syscall.MS_RDONLY)
		w.start()
		for range 3 {
			if a := w.get("/a.rpm"); a.status != 200 || a.body != "a" || strings.Contains(a.cacheStatus(), "hit") {
				t.Errorf("%d %q, %s", a.status, a.body, a.cacheStatus())
			}
		}
		if w.metric("freshet_edge_store_failing", "") != 1 {
			t.Error("no alert")
		}
		remount(0)
		time.Sleep(2 * time.Minute)
		if w.metric("freshet_edge_store_failing", "") != 0 {
			t.Error("the alert does not end")
		}
		w.want(w.get("/a.rpm"), "a", "hit")
		w.get("/b.rpm")
		w.restart()
		w.want(w.get("/b.rpm"), "b", "hit")
	})
}
