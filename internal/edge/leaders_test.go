package edge

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/role"
)

// records are the lines of the edge's log that have the text.
func (w *world) records(text string) int {
	synctest.Wait()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	n := 0
	for line := range bytes.Lines(w.log.b.Bytes()) {
		if strings.Contains(string(line), text) {
			n++
		}
	}
	return n
}

// The client for whom a fetch was begun leaves before there is anything to tell
// him: his connection is free and his request recorded at once, and those who
// wait with him get the answer of that one fetch.
func TestLeaderIsNotHeld(t *testing.T) {
	const body = "body"
	for _, path := range []string{"/header.rpm", objectOf(body)} {
		t.Run(path, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{}, func(rw http.ResponseWriter, _ *http.Request) {
					if path == objectOf(body) { // nobody sees the header before the body
						rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
						_ = http.NewResponseController(rw).Flush()
					}
					time.Sleep(10 * time.Second)
					_, _ = io.WriteString(rw, body)
				})
				ctx, leave := context.WithCancel(t.Context())
				go func() { _, _ = w.try(ctx, http.MethodGet, path) }()
				synctest.Wait()
				joined := make(chan answer, 1)
				go func() { joined <- w.get(path) }()
				time.Sleep(time.Second)
				leave()
				if n := w.records("status=499"); n != 1 {
					t.Errorf("%d records of a client that left", n)
				}
				if n := w.metric("freshet_http_connections", "http/1.1"); n != 1 {
					t.Errorf("%v connections are open, want the other client's", n)
				}
				if a := <-joined; a.body != body || a.first > 10*time.Second {
					t.Errorf("who waited too got %q after %v: %v", a.body, a.first, a.err)
				}
				w.wantFetches(1)
			})
		})
	}
}

// An origin that is silent does not hold the edge when it stops: what is not
// answered when the drain time is over is cut.
func TestStopWithSilentOrigin(t *testing.T) {
	const body = "body"
	for _, path := range []string{"/header.rpm", objectOf(body), "/unknown?passed"} {
		t.Run(path, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{FirstByteTimeout: time.Hour, IdleTimeout: time.Hour}, func(rw http.ResponseWriter, r *http.Request) {
					if path == objectOf(body) {
						rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
						_ = http.NewResponseController(rw).Flush()
					}
					<-r.Context().Done()
				})
				ended := make(chan error, 1)
				go func() {
					_, err := w.try(t.Context(), http.MethodGet, path)
					ended <- err
				}()
				time.Sleep(time.Second)
				begun := time.Now()
				w.stop()
				if took := time.Since(begun); took > role.DrainTimeout+time.Second {
					t.Errorf("it took %v to stop", took)
				}
				<-ended
				if n := w.records("status=499") + w.records("reason=stopping"); n != 1 {
					t.Errorf("%d records of the request", n)
				}
			})
		})
	}
}
