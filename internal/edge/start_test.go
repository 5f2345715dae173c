package edge

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"freshet/internal/config"
)

// A store that is larger than its disk says so when it is opened, with both
// figures, and as long as that is so by a metric; one that fits says nothing.
func TestStoreLargerThanItsDisk(t *testing.T) {
	const told = "the size of the store is more than its disk has"
	for size, warns := range map[config.Size]bool{64 << 20: false, 1 << 50: true} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{Size: size}, func(http.ResponseWriter, *http.Request) {})
			text := w.log.String()
			if strings.Contains(text, told) != warns {
				t.Errorf("size %v:\n%s", size, text)
			}
			if short := w.metric("freshet_edge_store_disk_short_bytes", ""); short > 0 != warns || short >= float64(size) {
				t.Errorf("size %v: the disk is %v too small", size, short)
			}
			for _, figure := range []string{"size=1024TiB", " disk=", " free="} {
				if warns && !strings.Contains(text, figure) {
					t.Errorf("%s is not told:\n%s", figure, text)
				}
			}
		})
	}
}

// Who stops an edge reads why, what is waited for and for how long, and that it
// is over.
func TestStopIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
			<-release
			_, _ = rw.Write([]byte("x"))
		})
		answered := make(chan answer, 1)
		go func() {
			a, _ := w.try(t.Context(), "POST", "/x")
			answered <- a
		}()
		time.Sleep(time.Second)
		time.AfterFunc(3*time.Second, func() { close(release) })
		w.stop()
		if a := <-answered; a.body != "x" {
			t.Errorf("the request in flight got %q, %v", a.body, a.err)
		}
		text := w.log.String()
		for _, line := range []string{
			`msg="stop serving: requests in flight are answered, idle connections closed" why="context canceled" connections=1 at_most=20s`,
			`msg="stopped serving" took=3.`,
		} {
			if !strings.Contains(text, line) {
				t.Errorf("the log lacks %q:\n%s", line, text)
			}
		}
	})
}

// Both pools of the store are metrics, for freshet edge top.
func TestPoolsAreMetrics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(make([]byte, 100_000)) })
		w.get("/a.rpm")
		if n := w.metric("freshet_edge_store_pool_bytes", "metadata") + w.metric("freshet_edge_store_pool_bytes", "payload"); n < 100_000 {
			t.Errorf("the pools have %v bytes", n)
		}
		if n := w.metric("freshet_edge_store_pool_share_bytes", "metadata") + w.metric("freshet_edge_store_pool_share_bytes", "payload"); n <= 0 || n > 64<<20 {
			t.Errorf("the pools share %v bytes", n)
		}
	})
}
