package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go/http3"

	"freshet/internal/certs"
	"freshet/internal/certs/certstest"
	"freshet/internal/doors"
	"freshet/internal/edge/gate"
	"freshet/internal/forwarded"
	"freshet/internal/role"
)

// facade is an edge with all its listeners, on the loopback interface.
type facade struct {
	t       *testing.T
	clear   string // address
	secure  string
	log     *lockedBuffer
	metrics *prometheus.Registry
	reloads chan Config
	cfg     Config
	roots   *x509.CertPool
}

// newFacade runs an edge with the origin. listeners are used in the order they
// are asked for, new ones after them.
func newFacade(t *testing.T, cfg Config, origin http.HandlerFunc, listeners ...net.Listener) *facade {
	t.Helper()
	upstream := httptest.NewServer(origin)
	t.Cleanup(upstream.Close)
	cfg.Origin, cfg.Store, cfg.Size, cfg.Follow = upstream.URL, t.TempDir(), 64<<20, "off"
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	f := &facade{t: t, log: new(lockedBuffer), metrics: prometheus.NewRegistry(), reloads: make(chan Config), cfg: cfg}
	var mu sync.Mutex
	var addrs []string
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- RunReloading(ctx, cfg, role.Env{
			Log: slog.New(slog.NewTextHandler(f.log, nil)), Metrics: f.metrics, Ready: func() { close(ready) },
			Listen: func(ctx context.Context, addr string) (ln net.Listener, err error) {
				mu.Lock()
				defer mu.Unlock()
				if len(listeners) > 0 {
					ln, listeners = listeners[0], listeners[1:]
				} else if ln, err = role.ListenTCP(ctx, addr); err != nil {
					return nil, err
				}
				addrs = append(addrs, ln.Addr().String())
				return ln, nil
			},
		}, f.reloads)
	}()
	select {
	case <-ready:
	case err := <-ended:
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the edge:\n%s", f.log.String())
		}
	})
	f.clear = addrs[0]
	if len(addrs) > 1 {
		f.secure = addrs[1]
	}
	return f
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// client speaks the protocol with whatever the name, at the address addr.
func (f *facade) client(proto, addr string) *http.Client {
	config := &tls.Config{RootCAs: f.roots}
	if proto == "h3" {
		tr := &http3.Transport{TLSClientConfig: config}
		f.t.Cleanup(func() { _ = tr.Close() })
		return &http.Client{Transport: tr}
	}
	config.NextProtos = []string{proto}
	tr := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: proto == "h2",
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	f.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (f *facade) get(client *http.Client, url string, fields ...string) (*http.Response, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		req.Header.Add(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		f.t.Fatalf("%s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s: %v", url, err)
	}
	return resp, string(body)
}

// The same answers by HTTP/1.1, HTTP/2 and HTTP/3, hits and misses, small and
// large, with what the gate says.
func TestEveryProtocol(t *testing.T) {
	large := pattern(3 << 20)
	pair, roots := certstest.Pair(t, t.TempDir(), 1, "localhost", "dl.example")
	f := newFacade(t, Config{
		Listeners: doors.Listeners{ListenTLS: "127.0.0.1:0", TLS: certs.Config{Certificates: []certs.Pair{pair}}}, ListenH3: "127.0.0.1:0",
		Gate: gate.Config{HSTS: 24 * time.Hour, RedirectHTTPS: true},
	}, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/large") {
			_, _ = io.WriteString(w, large)
			return
		}
		_, _ = io.WriteString(w, "body of "+r.URL.Path)
	})
	f.roots = roots
	resp, _ := f.get(f.client("http/1.1", f.secure), "https://dl.example/first.rpm")
	alt := regexp.MustCompile(`^h3=":([0-9]+)"; ma=86400$`).FindStringSubmatch(resp.Header.Get("Alt-Svc"))
	if alt == nil {
		t.Fatalf("Alt-Svc is %q", resp.Header.Get("Alt-Svc"))
	}
	for _, c := range []struct{ proto, host, major string }{
		{"http/1.1", "dl.example", "HTTP/1.1"}, {"h2", "dl.example", "HTTP/2.0"}, {"h3", "localhost:" + alt[1], "HTTP/3.0"},
	} {
		client := f.client(c.proto, f.secure)
		for _, path := range []string{"/" + c.proto + "/a.rpm", "/large/" + c.proto + ".rpm"} {
			want := "body of " + path
			if strings.HasPrefix(path, "/large") {
				want = large
			}
			for try, how := range []string{"freshet; fwd=uri-miss", "freshet; hit"} {
				resp, body := f.get(client, "https://"+c.host+path)
				if resp.Proto != c.major || body != want {
					t.Errorf("%s %s: %s, %d bytes", c.proto, path, resp.Proto, len(body))
				}
				if got := resp.Header.Get("Cache-Status"); !strings.HasPrefix(got, how) {
					t.Errorf("%s %s, try %d: Cache-Status %q", c.proto, path, try, got)
				}
				if resp.Header.Get("Strict-Transport-Security") != "max-age=86400" || resp.Header.Get("Alt-Svc") != alt[0] {
					t.Errorf("%s %s, try %d: %v", c.proto, path, try, resp.Header)
				}
			}
		}
	}
	// Without TLS there is nothing but the way there, for what is stored too.
	resp, body := f.get(f.client("http/1.1", f.clear), "http://dl.example/first.rpm")
	_, port, _ := net.SplitHostPort(f.secure)
	if resp.StatusCode != 301 || resp.Header.Get("Location") != "https://dl.example:"+port+"/first.rpm" || body != "" {
		t.Errorf("without TLS: %d %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp.Header.Get("Strict-Transport-Security") != "" { // RFC 6797 §7.2
		t.Error("HSTS without TLS")
	}
	// TLS 1.2 is not spoken, and who speaks it is counted.
	conn, err := tls.Dial("tcp", f.secure, &tls.Config{RootCAs: roots, ServerName: "dl.example", MaxVersion: tls.VersionTLS12})
	if err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 was spoken")
	}
	f.eventually("tls_handshake", 1)
}

// rejections is how many connections were turned away for the reason.
func (f *facade) rejections(reason string) float64 {
	families, err := f.metrics.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "freshet_http_rejections_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == reason {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

func (f *facade) eventually(reason string, want float64) {
	f.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); f.rejections(reason) < want; {
		if time.Now().After(deadline) {
			f.t.Fatalf("%v rejections for %s, want %v", f.rejections(reason), reason, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A balancer says who the client is, by TLS and without; that address decides
// and is what the log and the origin see.
func TestBehindBalancers(t *testing.T) {
	pair, roots := certstest.Pair(t, t.TempDir(), 1, "dl.example")
	told := make(chan string, 8)
	f := newFacade(t, Config{
		Listeners: doors.Listeners{
			ListenTLS: "127.0.0.1:0", TLS: certs.Config{Certificates: []certs.Pair{pair}},
			ProxyProtocol: forwarded.Config{From: []string{"127.0.0.0/8"}},
		},
		TrustedProxies: []string{"198.51.100.0/24"},
		Gate:           gate.Config{Rules: []gate.Rule{{Action: "deny", From: []string{"203.0.113.7"}}}},
	}, func(_ http.ResponseWriter, r *http.Request) { told <- strings.Join(r.Header["X-Forwarded-For"], ",") })
	f.roots = roots
	behind := func(scheme, addr, from string) *http.Client {
		c := f.client("http/1.1", addr)
		c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			src := &net.TCPAddr{IP: net.ParseIP(from), Port: 4711}
			version := byte(1)
			if scheme == "https" {
				version = 2
			}
			_, err = proxyproto.HeaderProxyFromAddrs(version, src, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 443}).WriteTo(conn)
			return conn, err
		}
		return c
	}
	for scheme, addr := range map[string]string{"http": f.clear, "https": f.secure} {
		for _, c := range []struct {
			from   string
			fields []string
			status int
			told   string
		}{
			{"192.0.2.9", nil, 200, "192.0.2.9"},
			{"203.0.113.7", nil, 403, ""},
			{"198.51.100.1", []string{"X-Forwarded-For: 1.1.1.1, 192.0.2.10"}, 200, "192.0.2.10"},
			{"198.51.100.1", []string{"X-Forwarded-For: 203.0.113.7"}, 403, ""},
			{"192.0.2.9", []string{"X-Forwarded-For: 203.0.113.7"}, 200, "192.0.2.9"}, // not believed
		} {
			client := behind(scheme, addr, c.from)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://dl.example/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range c.fields {
				name, value, _ := strings.Cut(field, ": ")
				req.Header.Add(name, value)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("%s from %s %v: %d, want %d", scheme, c.from, c.fields, resp.StatusCode, c.status)
			}
			if c.status == 200 {
				if got := <-told; got != c.told {
					t.Errorf("%s from %s %v: the origin was told of %q, want %q", scheme, c.from, c.fields, got, c.told)
				}
			}
		}
	}
	conn, err := net.Dial("tcp", f.clear)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("a connection without the header was answered: %v", err)
	}
	f.eventually("proxy_header", 1)
}

// Rules hold for hits as for the rest, however the path is written, and new
// ones, new certificates, and no others, are taken over while serving.
func TestReloadWhileServing(t *testing.T) {
	dir := t.TempDir()
	pair, _ := certstest.Pair(t, dir, 1, "dl.example")
	f := newFacade(t, Config{
		Listeners: doors.Listeners{ListenTLS: "127.0.0.1:0", TLS: certs.Config{Certificates: []certs.Pair{pair}}},
	}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "body") })
	client := f.client("http/1.1", f.clear)
	status := func(path string) int {
		resp, _ := f.get(client, "http://dl.example"+path)
		if resp.StatusCode == 403 && resp.Header.Get(role.ReasonHeader) != gate.ReasonDenied {
			t.Errorf("%s: %v", path, resp.Header)
		}
		return resp.StatusCode
	}
	serial := func() int64 {
		conn, err := tls.Dial("tcp", f.secure, &tls.Config{InsecureSkipVerify: true, ServerName: "dl.example"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	for range 2 { // stored, and hit
		if got := status("/in/a.rpm"); got != 200 {
			t.Fatalf("before: %d", got)
		}
	}
	apply := func(cfg Config) { // the second is taken when the first was applied
		f.reloads <- cfg
		f.reloads <- cfg
	}
	certstest.Pair(t, dir, 2, "dl.example")
	denied := f.cfg
	denied.Gate = gate.Config{Rules: []gate.Rule{{Action: "deny", Paths: []string{"/in/"}}}}
	apply(denied)
	for _, path := range []string{"/in/a.rpm", "//in/a.rpm", "/./in/a.rpm", "/%69n/a.rpm", "/in//a.rpm", "/in/b"} {
		if got := status(path); got != 403 {
			t.Errorf("%s: %d, want 403", path, got)
		}
	}
	if got := status("/out.rpm"); got != 200 {
		t.Errorf("outside: %d", got)
	}
	if got := serial(); got != 2 {
		t.Errorf("certificate %d", got)
	}
	broken := f.cfg
	broken.Gate = gate.Config{Rules: []gate.Rule{{Action: "deny", From: []string{"x"}}}}
	if err := os.WriteFile(pair.Cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	apply(broken)
	if got := status("/in/a.rpm"); got != 403 {
		t.Errorf("after broken settings: %d", got)
	}
	if got := serial(); got != 2 {
		t.Errorf("after a broken certificate: %d", got)
	}
	larger := f.cfg
	larger.Size *= 2
	apply(larger)
	for _, said := range []string{"settings were not read anew", "certificate cannot be used", "at the next start only\" settings=edge.size"} {
		if !strings.Contains(f.log.String(), said) {
			t.Errorf("the log does not say %q", said)
		}
	}
	apply(f.cfg)
	if got := status("/in/a.rpm"); got != 200 {
		t.Errorf("after all: %d", got)
	}
	if n := f.gauge("freshet_edge_certificates_failing"); n != 1 {
		t.Errorf("%v certificates fail, want 1", n)
	}
}

func (f *facade) gauge(name string) float64 {
	families, err := f.metrics.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	f.t.Fatalf("no metric %s", name)
	return 0
}

// Connections of HTTP/3 have the limit of the others, and are counted like them.
func TestTooManyHTTP3(t *testing.T) {
	pair, roots := certstest.Pair(t, t.TempDir(), 1, "localhost")
	f := newFacade(t, Config{
		Listeners: doors.Listeners{ListenTLS: "127.0.0.1:0", TLS: certs.Config{Certificates: []certs.Pair{pair}}}, ListenH3: "127.0.0.1:0",
		Limits: LimitsConfig{Limits: doors.Limits{Connections: 1}},
	}, func(http.ResponseWriter, *http.Request) {})
	f.roots = roots
	tcp := f.client("http/1.1", f.secure)
	resp, _ := f.get(tcp, "https://localhost/")
	port := regexp.MustCompile(`[0-9]+`).FindString(strings.TrimPrefix(resp.Header.Get("Alt-Svc"), "h3"))
	first := f.client("h3", "")
	f.get(first, "https://localhost:"+port+"/")
	if resp, err := f.client("h3", "").Get("https://localhost:" + port + "/"); err == nil {
		_ = resp.Body.Close()
		t.Error("one connection more was served")
	}
	f.eventually("conns", 1)
	f.get(first, "https://localhost:"+port+"/") // the first is as it was
}

// What keeps a door shut is told, and the doors that were open already are
// closed again.
func TestDoorsThatStayShut(t *testing.T) {
	taken, err := role.ListenTCP(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	one, _ := certstest.Pair(t, t.TempDir(), 1, "localhost")
	other, _ := certstest.Pair(t, t.TempDir(), 2, "localhost")
	for name, test := range map[string]struct {
		cfg  Config
		want string
	}{
		"clear":    {Config{Listeners: doors.Listeners{Listen: "127.0.0.1:0," + taken.Addr().String()}}, "listen on " + taken.Addr().String() + ": "},
		"secure":   {Config{Listeners: doors.Listeners{Listen: "127.0.0.1:0", ListenTLS: taken.Addr().String(), TLS: certs.Config{Certificates: []certs.Pair{one}}}}, "listen on " + taken.Addr().String() + ": "},
		"mismatch": {Config{Listeners: doors.Listeners{Listen: "127.0.0.1:0", ListenTLS: "127.0.0.1:0", TLS: certs.Config{Certificates: []certs.Pair{{Cert: one.Cert, Key: other.Key}}}}}, "tls: "},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.Origin, test.cfg.Store, test.cfg.Follow = "http://127.0.0.1:1", t.TempDir(), "off"
			var opened []net.Listener
			err := Run(t.Context(), test.cfg, role.Env{
				Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
				Listen: func(ctx context.Context, addr string) (net.Listener, error) {
					ln, err := role.ListenTCP(ctx, addr)
					if err == nil {
						opened = append(opened, ln)
					}
					return ln, err
				},
			})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got the error %v, want %q in it", err, test.want)
			}
			for _, ln := range opened {
				if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s is still open: %v", ln.Addr(), err)
				}
			}
		})
	}
}
