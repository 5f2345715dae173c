package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/h1"
	"freshet/internal/h1/h1test"
	"freshet/internal/memnet"
)

const (
	testHeader = 10 * time.Second
	testIdle   = 100 * time.Second
	testStall  = 60 * time.Second
	contentLen = h1test.Len
)

// world is a server and what it was asked.
type world struct {
	t       *testing.T
	addr    string
	url     string
	network *memnet.Network // nil: TCP with TLS
	metrics *prometheus.Registry
	server  *Server
	stop    func() error // once; waits for the end
	client  *http.Client // by HTTP/2, with TLS

	fast, slow atomic.Int64 // requests answered by either
	sent       chan sent
	content    h1test.Content
	hold       chan struct{} // what /slow/hold waits for
	gone       chan error    // why it ended early
}

// sent is a call of Sent.
type sent struct {
	target string
	bytes  int64
	err    error
}

// newWorld begins to serve: in memory without TLS, or on TCP with it.
func newWorld(tb testing.TB, mem bool) *world {
	tb.Helper()
	w := &world{sent: make(chan sent, 1<<16), hold: make(chan struct{}), gone: make(chan error, 1000)}
	w.t, _ = tb.(*testing.T)
	w.content = h1test.NewContent(tb)
	w.metrics = prometheus.NewRegistry()
	metrics := h1.NewMetrics("test", w.metrics)
	slow := http.HandlerFunc(w.serveSlow)
	w.server = &Server{
		Handler: w, HTTP: slow, Metrics: metrics,
		HeaderTime: testHeader, Idle: testIdle, Stall: testStall,
	}
	if mem {
		w.serveMemory(tb)
	} else {
		w.serveTLS(tb, metrics, slow)
	}
	tb.Cleanup(func() {
		if err := w.stop(); err != nil {
			tb.Errorf("stop: %v", err)
		}
	})
	return w
}

func (w *world) serveMemory(tb testing.TB) {
	tb.Helper()
	w.network = new(memnet.Network)
	ln, err := w.network.Listen("mem:s")
	if err != nil {
		tb.Fatal(err)
	}
	w.addr = "s"
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { w.server.ServeClear(context.Background(), c) })
		}
	})
	w.stop = sync.OnceValue(func() error {
		err := ln.Close()
		w.server.Drain(h1.Drain{})
		conns.Wait()
		return err
	})
}

func (w *world) serveTLS(tb testing.TB, metrics *h1.Metrics, slow http.Handler) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	w.addr = ln.Addr().String()
	w.url = "https://" + w.addr
	donor := httptest.NewTLSServer(nil) // for its certificate
	config := &tls.Config{Certificates: donor.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	transport := donor.Client().Transport.(*http.Transport).Clone()
	donor.Close()
	transport.ForceAttemptHTTP2 = true
	transport.DisableCompression = true
	w.client = &http.Client{Transport: transport}
	srv := &h1.Server{
		Handler: w, H2: w.server, Drain: func(context.Context) h1.Drain { return h1.Drain{AtMost: time.Minute, Idle: 10 * time.Second} }, Metrics: metrics,
		HTTP: &http.Server{Handler: slow, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, tls.NewListener(ln, config)) }()
	w.stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		transport.CloseIdleConnections()
		return err
	})
}

// Answer implements h1.Handler: /memory/N, /file/OFF/N and /short have answers.
func (w *world) Answer(req *h1.Request, res *h1.Response) bool {
	part, ok := w.content.Part(string(req.Target))
	if !ok {
		return false
	}
	if !req.Head {
		res.Body, res.File, res.Offset, res.Length = part.Body, part.File, part.Offset, part.Length
	}
	w.fast.Add(1)
	if req.H2 {
		res.Head = AppendStatus(res.Head, 200)
		res.Head = AppendNumber(res.Head, "content-length", part.Length)
		res.Head = AppendField(res.Head, "by", "fast")
	} else {
		res.Head = fmt.Appendf(res.Head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nBy: fast\r\n", part.Length)
	}
	res.Tag = w
	return true
}

// Sent implements h1.Handler.
func (w *world) Sent(req *h1.Request, res *h1.Response, n int64, err error) {
	if res.Tag != w {
		panic("the tag is lost")
	}
	select {
	case w.sent <- sent{string(req.Target), n, err}:
	default: // a benchmark
	}
}

func (w *world) serveSlow(rw http.ResponseWriter, r *http.Request) {
	w.slow.Add(1)
	rw.Header().Set("By", "slow")
	switch r.URL.Path {
	case "/slow/hold":
		select {
		case <-w.hold:
		case <-r.Context().Done():
			w.gone <- context.Cause(r.Context())
		}
	case "/slow/leave": // while somebody reads the body
		go func() {
			_, err := r.Body.Read(make([]byte, 1))
			w.gone <- err
		}()
		time.Sleep(time.Second) // of a bubble: it waits by then
		return
	case "/slow/abort":
		panic(http.ErrAbortHandler)
	case "/slow/part":
		_, _ = rw.Write(w.content.Bytes[:1000])
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	case "/slow/much":
		_, err := rw.Write(w.content.Bytes)
		if err != nil {
			w.gone <- err
		}
		return
	case "/slow/file":
		_, _ = io.Copy(rw, bytes.NewReader(w.content.Bytes))
		return
	case "/slow/echo":
		_, _ = io.Copy(rw, r.Body)
		return
	case "/slow/small":
		rw.Header()["Content-Length"] = []string{"1000"}
		_, _ = rw.Write(w.content.Bytes[:1000])
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.gone <- err
	}
	_, _ = fmt.Fprintf(rw, "%s %s %s %q", r.Method, r.RequestURI, r.Host, body)
}

// rejections is how often this reason was counted.
func (w *world) rejections(why h1.Rejection) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "freshet_http_rejections_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" && l.GetValue() == string(why) {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}
