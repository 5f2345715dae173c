package h1

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client that says with its last request that there will be no more is seen to
// have left, also when it was busy: then nobody looks after each answer.
func TestBusyClientLeaves(t *testing.T) {
	for name, requests := range map[string]int{"at once": 1, "busy": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, false, nil)
			c := w.dial().(*net.TCPConn)
			br := bufio.NewReader(c)
			for range requests - 1 {
				w.send(c, get("/memory/9"))
				w.read(br, "GET", "fast")
			}
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var failed error
			if err := raw.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) // request and end are one segment
			}); err != nil || failed != nil {
				t.Fatal(err, failed)
			}
			w.send(c, get("/memory/9"))
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			w.read(br, "GET", "fast")
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("got %v, want the end of the connection", err)
			}
		})
	}
}

// A busy connection that has nothing to say for a while is not closed for that.
func TestBusyThenIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	c := w.dial()
	br := bufio.NewReader(c)
	for range 5 {
		w.send(c, get("/memory/9"))
		w.read(br, "GET", "fast")
	}
	if err := c.SetReadDeadline(time.Now().Add(3 * lookAfter)); err != nil {
		t.Fatal(err)
	}
	if _, err := br.ReadByte(); err == nil || err == io.EOF {
		t.Fatalf("got %v, want nothing", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	w.send(c, get("/memory/9"))
	w.read(br, "GET", "fast")
}
