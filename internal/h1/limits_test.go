package h1

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/h1/h1test"
	"freshet/internal/memnet"
)

// limited is a listener whose connections say that they come from somewhere.
type limited struct {
	net.Listener
	from chan net.Addr
}

type comes struct {
	net.Conn
	from net.Addr
}

func (c comes) RemoteAddr() net.Addr { return c.from }

func (l limited) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return comes{c, <-l.from}, nil
}

// rejected is how often a reason was counted.
func rejected(t *testing.T, reg *prometheus.Registry, why Rejection) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "freshet_http_rejections_total" && l.GetValue() == string(why) {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

// visited is a server in memory, and the clients that ask it from somewhere.
type visited struct {
	t       *testing.T
	srv     *Server
	metrics *prometheus.Registry
	network *memnet.Network
	ln      limited
	open    []net.Conn // to be closed by the test
	stop    func()     // waits for the end
}

func newVisited(t *testing.T, hs *http.Server, limits Limits) *visited {
	t.Helper()
	network := new(memnet.Network)
	inner, err := network.Listen("mem:s")
	if err != nil {
		t.Fatal(err)
	}
	v := &visited{t: t, metrics: prometheus.NewRegistry(), network: network, ln: limited{inner, make(chan net.Addr, 1)}}
	v.srv = &Server{Handler: constant{make([]byte, 1000)}, HTTP: hs, Metrics: NewMetrics("test", v.metrics), Limits: limits}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.srv.Serve(ctx, v.ln) }()
	v.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return v
}

// ask sends a request from an address, and reports whether it was answered. It
// stays connected.
func (v *visited) ask(from, request string) bool {
	v.t.Helper()
	v.ln.from <- net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))
	c, err := v.network.DialContext(v.t.Context(), "tcp", "s")
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		_ = c.Close()
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		v.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	v.open = append(v.open, c)
	return true
}

// leave closes all connections, and waits until the server has seen it.
func (v *visited) leave() {
	for _, c := range v.open {
		_ = c.Close()
	}
	synctest.Wait()
}

// More connections than allowed are closed unanswered, over all and from one
// address; there is room again when others have ended.
func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisited(t, &http.Server{}, Limits{Conns: 5, ConnsPerIP: 2})
		for i, c := range []struct {
			from string
			ok   bool
		}{
			{"192.0.2.1:1", true},
			{"192.0.2.1:2", true},
			{"192.0.2.1:3", false},
			{"[::ffff:192.0.2.1]:4", false},
			{"[2001:db8::1]:1", true},
			{"[2001:db8::2]:1", true},
			{"[2001:db8::3]:1", false},
			{"[2001:db8:0:1::3]:1", true},
			{"192.0.2.9:1", false},
		} {
			if got := v.ask(c.from, get("/")); got != c.ok {
				t.Errorf("%d, from %s: %v", i, c.from, got)
			}
		}
		if a, b := rejected(t, v.metrics, RejectConnsPerIP), rejected(t, v.metrics, RejectConns); a != 3 || b != 1 {
			t.Errorf("counted %v and %v", a, b)
		}
		_ = v.open[0].Close()
		synctest.Wait()
		if !v.ask("192.0.2.1:5", get("/")) || v.ask("192.0.2.7:1", get("/")) {
			t.Error("the count is wrong when one has ended")
		}
		v.leave()
		for range 3 { // those of this machine are not counted by address
			if !v.ask("127.0.0.1:1", get("/")) {
				t.Error("from this machine")
			}
		}
		if len(v.srv.sources) != 0 {
			t.Errorf("%v are left", v.srv.sources)
		}
		v.stop()
		v.leave()
	})
}

// Handshakes end in their time, also those that wait for their turn, and are
// counted by what went wrong.
func TestHandshakeLimits(t *testing.T) {
	donor := httptest.NewTLSServer(nil) // for its certificate
	config := &tls.Config{Certificates: donor.TLS.Certificates}
	pool := donor.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	donor.Close()
	synctest.Test(t, func(t *testing.T) {
		network := new(memnet.Network)
		inner, err := network.Listen("mem:s")
		if err != nil {
			t.Fatal(err)
		}
		reg := prometheus.NewRegistry()
		srv := &Server{
			Handler: constant{make([]byte, 1000)}, HTTP: &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}, Drain: func(context.Context) Drain { return Drain{AtMost: time.Minute} },
			Metrics: NewMetrics("test", reg), Limits: Limits{Handshakes: 2},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(ctx, tls.NewListener(inner, config)) }()
		dial := func() net.Conn {
			t.Helper()
			c, err := network.DialContext(t.Context(), "tcp", "s")
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		begun := time.Now()
		silent := []net.Conn{dial(), dial()} // they take both places
		time.Sleep(time.Second)
		good := tls.Client(dial(), &tls.Config{RootCAs: pool, ServerName: "example.com", Time: func() time.Time { return donorTime(config) }})
		if err := good.Handshake(); err != nil || time.Since(begun) != 5*time.Second {
			t.Errorf("who waits for a place: %v after %v", err, time.Since(begun))
		}
		synctest.Wait()
		go func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }(good)
		if n := rejected(t, reg, RejectHandshakeT); n != 2 {
			t.Errorf("%v were counted", n)
		}
		bad := dial()
		_, _ = io.WriteString(bad, get("/"))
		go func() { _, _ = io.Copy(io.Discard, bad) }()
		synctest.Wait()
		if n := rejected(t, reg, RejectHandshake); n != 1 {
			t.Errorf("%v were counted", n)
		}
		cancel()
		for _, c := range append(silent, good, bad) {
			_ = c.Close()
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// donorTime is a time at which the certificate is good.
func donorTime(config *tls.Config) time.Time {
	return config.Certificates[0].Leaf.NotBefore.Add(time.Hour)
}

// A client that takes its answer drop by drop is cut, though it never stops, by
// whatever it is answered.
func TestMinRate(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"hit":              "GET /file/0/3000000 HTTP/1.1\r\nHost: h\r\n",
		"memory":           "GET /slow/memory HTTP/1.1\r\nHost: h\r\n",
		"file":             "GET /slow/file HTTP/1.1\r\nHost: h\r\n",
		"memory of a gift": "GET /slow/memory HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n",
		"file of a gift":   "GET /slow/file HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			content := h1test.NewContent(t)
			w := newWorldOf(t, false, nil, func(s *Server) {
				s.Stall, s.Limits.MinRate = 50*time.Millisecond, 1<<30
				s.HTTP.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					const times = 20
					rw.Header()["Content-Length"] = []string{strconv.Itoa(times * h1test.Len)}
					for range times {
						if r.URL.Path == "/slow/memory" {
							_, _ = rw.Write(content.Bytes)
						} else {
							_, _ = content.File.Seek(0, io.SeekStart)
							_, _ = io.CopyN(rw, content.File, h1test.Len)
						}
					}
					close(over)
				})
			})
			c := w.dial()
			w.send(c, strings.Repeat(request+"\r\n", 20))
			buf := make([]byte, 64<<10)
			for tick := time.Tick(5 * time.Millisecond); ; <-tick {
				if _, err := io.ReadFull(c, buf); err != nil {
					break
				}
			}
			waitFor(t, func() bool { return rejected(t, w.metrics, RejectSlow) >= 1 })
			if name != "hit" {
				<-over
			}
			waitFor(t, func() bool { return w.metric("freshet_http_connections") == 0 })
			if n := rejected(t, w.metrics, RejectSlow); n != 1 {
				t.Errorf("%v were counted", n)
			}
		})
	}
}
