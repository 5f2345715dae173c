package h1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/h1/h1test"
	"freshet/internal/memnet"
)

// world is a server and what it was asked.
type world struct {
	t       *testing.T
	addr    string
	network *memnet.Network // nil: TCP
	metrics *prometheus.Registry
	stop    func() error // once; waits for the end

	fast, slow atomic.Int64 // requests answered by either
	errs       chan error   // from Sent
	content    h1test.Content
	hold       chan struct{} // what /slow/hold waits for
}

const (
	testHeader = 10 * time.Second
	testIdle   = 120 * time.Second
	testDrain  = 20 * time.Second
	contentLen = h1test.Len
	patience   = 2 * time.Minute // of tests, with a busy machine
)

// newWorld begins to serve: in memory if mem, else on TCP through wrap.
func newWorld(t *testing.T, mem bool, wrap func(net.Listener) net.Listener) *world {
	t.Helper()
	return newWorldOf(t, mem, wrap, func(*Server) {})
}

// newWorldOf is newWorld with a server that was changed before.
func newWorldOf(t *testing.T, mem bool, wrap func(net.Listener) net.Listener, change func(s *Server)) *world {
	t.Helper()
	w := &world{t: t, errs: make(chan error, 1<<16), hold: make(chan struct{})}
	w.content = h1test.NewContent(t)
	var err error
	var ln net.Listener
	if mem {
		w.network = new(memnet.Network)
		ln, err = w.network.Listen("mem:s")
	} else {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	if wrap != nil {
		ln = wrap(ln)
	}
	w.metrics = prometheus.NewRegistry()
	srv := &Server{
		Handler: w, Drain: drainSoon, Metrics: NewMetrics("test", w.metrics),
		HTTP: &http.Server{
			Handler: http.HandlerFunc(w.serveSlow), ReadHeaderTimeout: testHeader, IdleTimeout: testIdle, MaxHeaderBytes: 32 << 10,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
		},
	}
	change(srv)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, ln) }()
	w.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return w
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	var c net.Conn
	var err error
	if w.network != nil {
		c, err = w.network.DialContext(w.t.Context(), "tcp", w.addr)
	} else {
		c, err = net.Dial("tcp", w.addr)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Answer implements Handler: /memory/N, /file/OFF/N and /short have answers.
func (w *world) Answer(req *Request, res *Response) bool {
	part, ok := w.content.Part(string(req.Target))
	if !ok {
		return false
	}
	if !req.Head {
		res.Body, res.File, res.Offset, res.Length = part.Body, part.File, part.Offset, part.Length
	}
	w.fast.Add(1)
	res.Head = fmt.Appendf(res.Head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nBy: fast\r\n", part.Length)
	res.Tag = w
	return true
}

// Sent implements Handler.
func (w *world) Sent(_ *Request, res *Response, _ int64, err error) {
	if res.Tag != w {
		w.t.Error("the tag is lost")
	}
	w.errs <- err
}

func (w *world) serveSlow(rw http.ResponseWriter, r *http.Request) {
	w.slow.Add(1)
	switch r.URL.Path {
	case "/slow/hold":
		<-w.hold
	case "/slow/abort":
		panic(http.ErrAbortHandler)
	}
	body, err := io.ReadAll(r.Body)
	rw.Header().Set("By", "slow")
	if bad := BodyFault(r); err != nil && bad != nil {
		rw.Header().Set("Connection", "close")
		rw.Header().Set("Freshet-Reason", string(bad.Why))
		status := http.StatusBadRequest
		if bad.Why == RejectHeaderSize {
			status = http.StatusRequestHeaderFieldsTooLarge
		}
		http.Error(rw, bad.Text, status)
		return
	}
	if r.TLS != nil {
		rw.Header().Set("Tls", r.TLS.NegotiatedProtocol)
	}
	_, _ = fmt.Fprintf(rw, "%s %s %s %q", r.Method, r.RequestURI, r.Host, body)
}

// handovers is how many requests were handed over for this reason.
func (w *world) handovers(why string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "why" && l.GetValue() == why {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

// metric is the value of a gauge, over all its labels.
func (w *world) metric(name string) float64 {
	w.t.Helper()
	return gauge(w.t, w.metrics, name)
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			sum := 0.0
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue()
			}
			return sum
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// read reads one answer and returns its body.
func (w *world) read(br *bufio.Reader, method, by string) string {
	w.t.Helper()
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("read an answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("read a body: %v after %d bytes", err, len(body))
	}
	if got := resp.Header.Get("By"); got != by {
		w.t.Errorf("answered by %q, want %q: %s %.80q", got, by, resp.Status, body)
	}
	return string(body)
}

func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n" }

func (w *world) send(c net.Conn, s string) {
	w.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		w.t.Fatal(err)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
		<-time.After(time.Millisecond)
	}
}

// drainSoon is how long answers may take at the end of a server.
func drainSoon(context.Context) Drain { return Drain{AtMost: testDrain} }
