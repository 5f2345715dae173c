package edge

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/edgeapi"
)

// open begins to read a file; the caller closes it, or cancels.
func (w *world) open(ctx context.Context, path string, fields ...string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://edge.mem"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

// skim reads n bytes of a file and leaves.
func (w *world) skim(path string, n int64, fields ...string) {
	w.t.Helper()
	ctx, leave := context.WithCancel(w.t.Context())
	defer leave()
	resp := w.open(ctx, path, fields...)
	if _, err := io.CopyN(io.Discard, resp.Body, n); err != nil {
		w.t.Errorf("%s: %v", path, err)
	}
	leave()
	_ = resp.Body.Close()
	time.Sleep(time.Minute)
	synctest.Wait()
}

// What is fetched in slices is fetched for those who read: when the last has
// left, two slices more at most, and who comes then has all of it right.
func TestUnreadSlices(t *testing.T) {
	for name, field := range map[string]string{"the first": rangeOf(0, 16<<20), "one that finds a part": "X: y"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newHuge(200 << 20)
				o.pause = 10 * time.Millisecond
				w := newWorld(t, Config{Size: 1 << 30}, o.serve)
				if field == "X: y" {
					w.wantPart(w.get(hugePath, rangeOf(0, 1<<20)), o.file, 0, 1<<20)
				}
				before := o.sent.Load()
				w.skim(hugePath, 3<<20, field)
				if sent := o.sent.Load() - before; sent > 7<<20 {
					t.Errorf("the origin sent %d bytes for one who read 3 MiB", sent)
				}
				kept := w.metric("freshet_edge_store_bytes", "")
				if kept < 3<<20 {
					t.Errorf("%v bytes are kept", kept)
				}
				before = o.sent.Load()
				w.wantPart(w.get(hugePath, rangeOf(1000, 40<<20)), o.file, 1000, 40<<20)
				if sent := o.sent.Load() - before; sent > 40<<20 {
					t.Errorf("the origin sent %d bytes, what was kept again", sent)
				}
			})
		})
	}
}

// Of a whole file that was begun and left, what came is kept, and only the rest
// is fetched.
func TestUnreadWhole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newHuge(200 << 20)
		o.pause = 10 * time.Millisecond
		w := newWorld(t, Config{Size: 1 << 30}, o.serve)
		w.skim(hugePath, 21<<20)
		sent := o.sent.Load()
		if sent > 30<<20 {
			t.Fatalf("the origin sent %d bytes", sent)
		}
		o.pause = 0
		w.wantPart(w.get(hugePath, rangeOf(5<<20, 10<<20)), o.file, 5<<20, 10<<20)
		if more := o.sent.Load() - sent; more > 0 {
			t.Errorf("the origin sent %d bytes again", more)
		}
		w.restart()
		if a := w.get(hugePath); a.status != 200 || a.body != o.file.part(0, 200<<20) {
			t.Errorf("the whole: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
		if all := o.sent.Load(); all > 200<<20+10<<20 {
			t.Errorf("the origin sent %d bytes in all", all)
		}
	})
	bubble(t, func(t *testing.T) { // which is not kept in place of a whole one, nor after a purge
		o := newHuge(100 << 20)
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{Size: 1 << 30, Control: cfg}, o.serve)
		old := o.file
		w.get(hugePath)
		o.pause = 10 * time.Millisecond
		o.replace(huge{100 << 20, 2}, `"v2"`)
		w.purge(boss, edgeapi.PurgeRequest{Paths: []string{hugePath}})
		w.skim(hugePath, 10<<20)
		o.answer = func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		if a := w.get(hugePath); a.status != 200 || a.body != old.part(0, 100<<20) {
			t.Errorf("the old one while the origin is away: %d, %d bytes", a.status, len(a.body))
		}
	})
}
