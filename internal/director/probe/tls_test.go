package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/memnet"
)

// fixed is a catalogue that stays as it is.
type fixed struct{ c *directorapi.Catalogue }

func (f fixed) Current() *directorapi.Catalogue { return f.c }
func (fixed) Changed() <-chan struct{}          { return nil }

// Real servers with TLS, on both loopback addresses: one is as it should be over IPv4 and
// has a certificate that has expired over IPv6.
func TestRealTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ends := time.Now().AddDate(0, 2, 0).Truncate(time.Second)
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/p/"+canaryPath {
			http.NotFound(rw, r)
			return
		}
		serveFile(rw, r, "the canary")
	})
	// A server listens where it may; for the Prober it is at port 443 of the host.
	where := make(map[string]string)
	serve := func(network, at string, cert *tls.Certificate) {
		ln, err := net.Listen(network, at)
		if err != nil {
			t.Skipf("no %s here: %v", network, err)
		}
		srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
		go func() { _ = srv.ServeTLS(ln, "", "") }()
		t.Cleanup(func() { _ = srv.Close() })
		host, _, _ := net.SplitHostPort(at)
		where[net.JoinHostPort(host, "443")] = ln.Addr().String()
	}
	serve("tcp4", "127.0.0.1:0", ca.leaf(t, "m.test", ends))
	serve("tcp6", "[::1]:0", ca.leaf(t, "m.test", time.Now().AddDate(0, 0, -1)))

	catalogue := &directorapi.Catalogue{
		Projects: []directorapi.Project{{Name: "p", Path: "/p/", Canary: canaryPath}},
		Mirrors: []directorapi.Mirror{{Name: "m", Carries: []directorapi.Carried{{
			Project: "p", HTTPS: "https://m.test/p/", Inventory: directorapi.Source{How: directorapi.HowRsync},
		}}}},
	}
	p, err := New(Options{
		Catalogue: fixed{catalogue}, Roots: ca.pool(),
		Lookup: func(_ context.Context, network, _ string) ([]netip.Addr, error) {
			if network == "ip6" {
				return []netip.Addr{netip.IPv6Loopback()}, nil
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, where[address])
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	good, bad := Way{"m", "p", HTTPS, IPv4}, Way{"m", "p", HTTPS, IPv6}
	for {
		s := p.State()
		g, _ := s.Health(good)
		b, _ := s.Health(bad)
		if g.Looked.IsZero() || b.Looked.IsZero() {
			<-s.Changed() // within the limits of a look
			continue
		}
		if !g.Works || !g.Expires.Equal(ends) || b.Works || b.Why != CertificateExpired {
			t.Errorf("over IPv4 %+v\nover IPv6 %+v", g, b)
		}
		break
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Each look takes another address first of those that a name has, and the next one when
// nobody answers at it.
func TestAddressesInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var dialed []string
		refused := errors.New("no")
		w := &way{Way: Way{"m", "p", HTTP, IPv6}}
		l := &look{way: w, Prober: &Prober{opt: Options{
			Lookup: func(context.Context, string, string) (a []netip.Addr, err error) {
				for i := range 3 {
					a = append(a, netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1)))
				}
				return a, nil
			},
			Dial: func(_ context.Context, network, address string) (net.Conn, error) {
				dialed = append(dialed, network+" "+address)
				return nil, refused
			},
		}}}
		for w.round = range 3 {
			if _, err := l.dial(t.Context(), "tcp", "m.test:80"); reasonOf(err) != Unreachable || !errors.Is(err, refused) {
				t.Errorf("error %v", err)
			}
		}
		want := "[tcp6 [fd00::1]:80 tcp6 [fd00::2]:80 tcp6 [fd00::2]:80 tcp6 [fd00::3]:80 tcp6 [fd00::3]:80 tcp6 [fd00::1]:80]"
		if got := fmt.Sprint(dialed); got != want {
			t.Errorf("dialed\n%s, want\n%s", got, want)
		}
	})
}

// A server in the same process has no address.
func TestInMemory(t *testing.T) {
	t.Parallel()
	var n memnet.Network
	ln, err := n.Listen("mem:edge")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() { _, _ = ln.Accept() }()
	l := &look{way: &way{}, Prober: &Prober{opt: Options{Dial: n.DialContext}.withDefaults()}}
	conn, err := l.dial(t.Context(), "tcp", "edge.mem:80")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
