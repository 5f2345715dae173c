package rsync

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// greeter is a server that greets, and then returns what it hears.
func greeter(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(conn, "@RSYNCD\n")
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// Nobody but its rsync gets through a gate, and that nowhere else.
func TestGateIsForOne(t *testing.T) {
	t.Parallel()
	addr := greeter(t)
	g, err := openGate(t.Context(), "rsync://"+addr+"/m/", new(net.Dialer).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	pass := func(secret string) string {
		return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("rsync:"+secret)) + "\r\n"
	}
	for name, tt := range map[string]struct {
		request string
		status  int
	}{
		"its own":       {"CONNECT " + addr + " HTTP/1.0\r\n" + pass(g.secret) + "\r\n", 200},
		"no password":   {"CONNECT " + addr + " HTTP/1.0\r\n\r\n", 403},
		"another one":   {"CONNECT " + addr + " HTTP/1.0\r\n" + pass("guess") + "\r\n", 403},
		"another place": {"CONNECT 127.0.0.1:1 HTTP/1.0\r\n" + pass(g.secret) + "\r\n", 403},
		"no tunnel":     {"GET / HTTP/1.0\r\n" + pass(g.secret) + "\r\n", 403},
		"endless":       {"CONNECT " + addr + " HTTP/1.0\r\nX: " + strings.Repeat("x", 2*maxRequest), 403},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", g.listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			go func() { _, _ = io.WriteString(conn, tt.request) }()
			r := bufio.NewReader(conn)
			res, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
			if err != nil || res.StatusCode != tt.status {
				t.Fatalf("%v, %v, want status %d", res, err, tt.status)
			}
			if tt.status != 200 {
				return
			}
			// Both ways, and the end of one is that of the other.
			fmt.Fprint(conn, "hello")
			_ = conn.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(r); string(got) != "@RSYNCD\nhello" || err != nil {
				t.Errorf("through the gate came %q, %v", got, err)
			}
		})
	}
}

// What passes ends with the context and with the gate, also while nothing moves.
func TestGateEnds(t *testing.T) {
	t.Parallel()
	addr := greeter(t)
	ctx, cancel := context.WithCancel(t.Context())
	g, err := openGate(ctx, "rsync://"+addr+"/m/", new(net.Dialer).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", g.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.0\r\nProxy-Authorization: Basic %s\r\n\r\n", addr, base64.StdEncoding.EncodeToString([]byte("rsync:"+g.secret)))
	r := bufio.NewReader(conn)
	if res, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect}); err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	cancel()
	_, _ = io.ReadAll(r) // returns
	g.close()            // returns
}

// FuzzComplaints: whatever a server says is taken in, in pieces of any size.
func FuzzComplaints(f *testing.F) {
	f.Add("rsync: [sender] link_stat \"/a/b\" (in m) failed: No such file or directory (2)\nrsync error: x (code 23)\n", 7)
	f.Add("file has vanished: \"/a \\#012\" (in m)\n", 1)
	f.Add("\" (in m)\n\"\" (in (2)\n", 100)
	f.Fuzz(func(t *testing.T, said string, piece int) {
		c := newComplaints("rsync://h/m/a/")
		for piece = max(1, piece); len(said) > 0; {
			n := min(piece, len(said))
			_, _ = c.Write([]byte(said[:n]))
			said = said[n:]
		}
		for _, file := range c.files {
			if file.Err == nil {
				t.Fatalf("nothing is wrong with %q", file.Name)
			}
		}
		if len(c.odd.kept) > maxHead {
			t.Fatal("too much is kept")
		}
	})
}
