package mirror

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/memnet"
)

// A client that sends a body a byte at a time, or none of it, does not keep its connection.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"that is read":     func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
		"that is not read": func(http.ResponseWriter, *http.Request) {},
	} {
		for _, drips := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { slowBody(t, handler, drips) })
			})
		}
	}
}

func slowBody(t *testing.T, handler http.Handler, drips bool) {
	t.Helper()
	var network memnet.Network
	ln, err := network.Listen("mem:mirror")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: bounded(handler)}
	go func() { _ = server.Serve(ln) }()
	defer server.Close()
	conn, err := network.DialContext(t.Context(), "tcp", "mirror.mem:80")
	if err != nil {
		t.Fatal(err)
	}
	var dripping sync.WaitGroup
	defer dripping.Wait()
	defer conn.Close()
	begun := time.Now()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if drips {
		dripping.Go(func() {
			for {
				time.Sleep(time.Second)
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
			}
		})
	}
	_ = conn.SetReadDeadline(begun.Add(time.Hour))
	_, _ = io.Copy(io.Discard, conn)
	if took := time.Since(begun); took < bodyTime || took > bodyTime+10*time.Second {
		t.Errorf("the connection is closed after %v", took)
	}
}
