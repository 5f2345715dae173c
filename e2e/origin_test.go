package e2e

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// origin is a plain web server on a folder, as most mirrors are: it can die in
// the middle of an answer and come back at the same address.
type origin struct {
	t    testing.TB
	dir  string
	addr string

	mu       sync.Mutex
	srv      *http.Server
	requests map[string]int
	// left is how many bytes of bodies it lives for, with mortal.
	left   atomic.Int64
	mortal atomic.Bool
}

// startOrigin serves the folder until the test ends.
func startOrigin(t testing.TB, dir string) *origin {
	t.Helper()
	o := &origin{t: t, dir: dir, addr: freeAddr(t), requests: make(map[string]int)}
	o.start()
	t.Cleanup(o.die)
	return o
}

func (o *origin) url() string { return "http://" + o.addr }

// start begins to serve, or does so again.
func (o *origin) start() {
	o.t.Helper()
	o.mortal.Store(false)
	var ln net.Listener
	eventually(o.t, "the origin's address is free", patience, func() (err error) {
		ln, err = net.Listen("tcp", o.addr)
		return err
	})
	srv := &http.Server{Handler: http.HandlerFunc(o.serve), ReadHeaderTimeout: time.Minute}
	o.mu.Lock()
	o.srv = srv
	o.mu.Unlock()
	go func() { _ = srv.Serve(ln) }() // ends with die
}

// die cuts every connection and takes no new ones.
func (o *origin) die() {
	o.mu.Lock()
	srv := o.srv
	o.mu.Unlock()
	_ = srv.Close() // it is over either way
}

// dieAfter lets it die when n more bytes of bodies were sent.
func (o *origin) dieAfter(n int64) {
	o.left.Store(n)
	o.mortal.Store(true)
}

// asked counts the requests for paths with the suffix.
func (o *origin) asked(suffix string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for path, count := range o.requests {
		if strings.HasSuffix(path, suffix) {
			n += count
		}
	}
	return n
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.requests[r.URL.Path]++
	o.mu.Unlock()
	// Short lifetimes for everything: what is kept longer is the edge's doing.
	w.Header().Set("Cache-Control", "max-age=1")
	http.FileServer(http.Dir(o.dir)).ServeHTTP(&mortalWriter{w, o}, r)
}

// mortalWriter takes the origin with it when its time has come.
type mortalWriter struct {
	http.ResponseWriter
	o *origin
}

func (w *mortalWriter) Write(p []byte) (int, error) {
	if w.o.mortal.Load() && w.o.left.Add(-int64(len(p))) < 0 {
		go w.o.die()
		panic(http.ErrAbortHandler)
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps sendfile away from the count.
func (w *mortalWriter) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, src)
}
