package forwarded

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"freshet/internal/networks"
)

func TestClient(t *testing.T) {
	trusted, err := networks.ParseAll([]string{"10.0.0.0/8", "2001:db8::/32"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		peer, xff, forwarded, want string
	}{
		{"192.0.2.1", "198.51.100.9", "", "192.0.2.1"}, // not trusted
		{"10.0.0.1", "", "", "10.0.0.1"},
		{"10.0.0.1", "198.51.100.9", "", "198.51.100.9"},
		{"10.0.0.1", "1.1.1.1, 198.51.100.9, 10.0.0.2", "", "198.51.100.9"}, // what is before it anybody may have written
		{"10.0.0.1", "10.0.0.3, 10.0.0.2", "", "10.0.0.3"},
		{"10.0.0.1", "198.51.100.9:4711", "", "198.51.100.9"},
		{"10.0.0.1", "[2001:db9::1]:4711", "", "2001:db9::1"},
		{"10.0.0.1", "unknown", "", "10.0.0.1"},
		{"10.0.0.1", "1.1.1.1, garbage, 10.0.0.2", "", "10.0.0.2"},
		{"10.0.0.1", "::ffff:198.51.100.9", "", "198.51.100.9"},
		{"10.0.0.1", "", `for=198.51.100.9;proto=https, For="[2001:db8::7]:80"`, "198.51.100.9"},
		{"10.0.0.1", "", `for=_hidden`, "10.0.0.1"},
		{"10.0.0.1", "198.51.100.1", `for=198.51.100.2`, "198.51.100.1"},
	} {
		h := make(http.Header)
		if c.xff != "" {
			h.Set("X-Forwarded-For", c.xff)
		}
		if c.forwarded != "" {
			h.Set("Forwarded", c.forwarded)
		}
		if got := Client(netip.MustParseAddr(c.peer), h, trusted); got.String() != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func FuzzClient(f *testing.F) {
	f.Add("1.1.1.1, 10.0.0.1", `for="[::1]:1";by=x`)
	f.Add("", `for=;for="`)
	trusted := networks.Set{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, xff, forwarded string) {
		h := http.Header{"X-Forwarded-For": {xff}}
		if xff == "" {
			h = http.Header{"Forwarded": {forwarded}}
		}
		if got := Client(netip.MustParseAddr("10.0.0.9"), h, trusted); !got.IsValid() {
			t.Errorf("no client for %q %q", xff, forwarded)
		}
	})
}

// open returns a listener behind a balancer at 127.0.0.1, and counts what it
// turns away.
func open(t *testing.T, cfg Config) (net.Listener, *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rejected := new(atomic.Int64)
	behind, err := cfg.Listen(ln, func(Reason) { rejected.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = behind.Close() })
	return behind, rejected
}

func dial(t *testing.T, ln net.Listener, send string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestProxyProtocol(t *testing.T) {
	v2, err := proxyproto.HeaderProxyFromAddrs(2,
		&net.TCPAddr{IP: net.ParseIP("2001:db8::5"), Port: 1234}, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 443}).Format()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ header, want string }{
		{"PROXY TCP4 198.51.100.9 192.0.2.1 5678 80\r\n", "198.51.100.9:5678"},
		{string(v2), "[2001:db8::5]:1234"},
	} {
		ln, _ := open(t, Config{From: []string{"127.0.0.0/8"}})
		// One that says nothing keeps nobody waiting.
		dial(t, ln, "")
		dial(t, ln, c.header+"hello\n")
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if conn.RemoteAddr().String() != c.want || line != "hello\n" || err != nil {
			t.Errorf("%v said %q, %v; want %s", conn.RemoteAddr(), line, err, c.want)
		}
		_ = conn.Close()
	}
}

// Without its header, or with a bad one, or too late: closed, and counted.
func TestProxyProtocolRefused(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		send string
	}{
		"none":     {Config{From: []string{"127.0.0.1"}}, "GET / HTTP/1.1\r\n\r\n"},
		"bad":      {Config{From: []string{"127.0.0.1"}}, "PROXY TCP4 nobody nowhere 1 2\r\n"},
		"late":     {Config{From: []string{"127.0.0.1"}, Timeout: 20 * time.Millisecond}, "PROXY"},
		"stranger": {Config{From: []string{"192.0.2.1"}, Others: "refuse"}, "PROXY TCP4 198.51.100.9 192.0.2.1 5678 80\r\n"},
	} {
		ln, rejected := open(t, c.cfg)
		conn := dial(t, ln, c.send)
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%s: got %d bytes, %v", name, n, err)
		}
		if rejected.Load() != 1 {
			t.Errorf("%s: %d counted", name, rejected.Load())
		}
	}
}

// Who is not listed is not believed: its header is bytes like others.
func TestProxyProtocolOfStrangers(t *testing.T) {
	ln, _ := open(t, Config{From: []string{"192.0.2.1"}})
	peer := dial(t, ln, "PROXY TCP4 198.51.100.9 192.0.2.1 5678 80\r\n")
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if conn.RemoteAddr().String() != peer.LocalAddr().String() || line[:5] != "PROXY" || err != nil {
		t.Errorf("%v said %q, %v", conn.RemoteAddr(), line, err)
	}
}

// What was accepted when the listener is closed is given out, also when its header comes
// afterwards.
func TestCloseGivesOutWhatWasAccepted(t *testing.T) {
	ln, rejected := open(t, Config{From: []string{"127.0.0.0/8"}})
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
	early, late, never := dial(t, ln, header), dial(t, ln, header[:3]), dial(t, ln, "")
	for len(ln.(*listener).pending) < 3 {
		runtime.Gosched()
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(late, header[3:]); err != nil {
		t.Fatal(err)
	}
	_ = never.Close()
	for range 2 {
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.RemoteAddr().String(); got != "192.0.2.1:1" {
			t.Errorf("from %s", got)
		}
		if _, err := io.WriteString(conn, "here"); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	}
	for _, c := range []net.Conn{early, late} {
		if got, err := io.ReadAll(c); err != nil || string(got) != "here" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("at the end: %v", err)
	}
	if n := rejected.Load(); n != 1 {
		t.Errorf("%d were rejected", n)
	}
}
