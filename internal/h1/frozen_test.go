package h1

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"testing"
	"time"
)

// What came in time is read although nobody could look until the time was over:
// the process, or its machine, had stood still. Nothing else is forgiven.
func TestFrozen(t *testing.T) {
	t.Parallel()
	donor := httptest.NewTLSServer(nil) // for its certificate
	defer donor.Close()
	var srv *Server
	w := newWorldOf(t, false, nil, func(s *Server) { srv = s })
	early := w.dial() // once it is answered, the server is ready; the channel shows it to the race detector
	w.send(early, get("/memory/9"))
	w.read(bufio.NewReader(early), "GET", "fast")
	if err := <-w.errs; err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	connect := func(secure bool) (client net.Conn, c *conn) {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = client.Close(), server.Close() })
		if secure {
			theirs := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
			client, server = theirs, tls.Server(server, &tls.Config{Certificates: donor.TLS.Certificates})
			go func() { _ = theirs.Handshake() }() // the server tells
			if err := server.(*tls.Conn).Handshake(); err != nil {
				t.Fatal(err)
			}
		}
		c = newConn(srv, server)
		c.setRead(time.Unix(1, 0))
		c.strict = true
		return client, c
	}
	send := func(client net.Conn, c *conn, s string) {
		w.send(client, s)
		for !waits(c.rwc) {
			runtime.Gosched()
		}
	}
	for _, secure := range []bool{false, true} {
		for _, first := range []bool{true, false} { // its first request, or one that ends an idle time
			client, c := connect(secure)
			c.first = first
			send(client, c, get("/memory/9"))
			ended := make(chan turn, 1)
			go func() { ended <- c.turns() }()
			w.read(bufio.NewReader(client), "GET", "fast")
			_ = client.Close()
			<-ended
		}
		client, c := connect(secure)
		before := rejected(t, w.metrics, RejectHeaderTime)
		if c.turns() != turnEnd || rejected(t, w.metrics, RejectHeaderTime) != before+1 {
			t.Error("who has sent nothing is waited for")
		}
		send(client, c, "GET /")
		if !c.frozen(os.ErrDeadlineExceeded) || c.frozen(os.ErrDeadlineExceeded) {
			t.Error("who has sent a part is not looked at, or more than once")
		}
		c.setRead(time.Unix(1, 0))
		c.state.Store(connWoken)
		if !c.frozen(os.ErrDeadlineExceeded) || c.frozen(os.ErrDeadlineExceeded) {
			t.Error("what came before a wait was ended is not looked at, or more than once")
		}
	}
}
