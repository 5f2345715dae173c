package edge

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"freshet/internal/accesslog"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// BenchmarkFront is what a small hit costs between its header and its answer,
// with metrics and the line of the log: 2,000 objects by turns, as many
// connections as there are processors.
func BenchmarkFront(b *testing.B) {
	const objects = 2000
	lines, err := accesslog.Open(accesslog.Options{Writer: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(pattern(4800))
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Etag"] = []string{`"6b014c9b-400"`}
		w.Header()["Cache-Control"] = []string{"max-age=86400"}
		_, _ = w.Write(body)
	}))
	defer upstream.Close()
	e, err := New(b.Context(), Config{Origin: upstream.URL, Store: b.TempDir(), Size: 1 << 30, Follow: "off"}, role.Env{Access: lines.For("edge")})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	}()
	f := &front{e: e, access: e.newAccess(), hots: newHots()}
	var requests [objects]h1.Request
	for i := range requests {
		target := fmt.Sprintf("/files/%02x/object-%04d.rpm", i%256, i)
		requests[i] = h1.Request{
			Clear: true, Target: []byte(target), Host: []byte("files.example.org"), Remote: "192.0.2.1:1234", Client: netip.MustParseAddr("192.0.2.1"),
			Fields: []h1.Field{{Name: []byte("User-Agent"), Value: []byte("bench")}, {Name: []byte("Accept"), Value: []byte("*/*")}},
		}
		for range 3 { // into the store, and into its memory
			e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, target, nil))
		}
		req := requests[i]
		req.Begun = time.Now()
		if !f.Answer(&req, new(h1.Response)) {
			b.Fatalf("no hit for %s", target)
		}
	}
	var first atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		head := make([]byte, 0, 2<<10)
		var req h1.Request
		var res h1.Response
		for i := first.Add(objects / 3); pb.Next(); i++ {
			req, res = requests[i%objects], h1.Response{Head: head}
			req.Begun = time.Now()
			if !f.Answer(&req, &res) || len(res.Body) != len(body) {
				b.Errorf("no hit for %s", req.Target)
				return
			}
			f.Sent(&req, &res, int64(len(res.Body)), nil)
		}
	})
}
