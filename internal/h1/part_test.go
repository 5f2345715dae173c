package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Requests that came behind the last one that is answered when serving ends cost its
// client nothing of the answer, which it takes slowly.
func TestDrainOfPipelines(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/memory/3000000", "/file/0/3000000"} {
		w := newWorld(t, false, nil)
		dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
		}}
		c, err := dialer.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		w.send(c, strings.Repeat(get(target), 3))
		br := bufio.NewReader(c)
		stopped := make(chan error, 1)
		for n := 0; ; n++ {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatalf("%s: answer %d: %v", target, n, err)
			}
			if n == 0 {
				go func() { stopped <- w.stop() }()
			}
			var got []byte
			piece := make([]byte, 16<<10)
			for err == nil {
				if len(got)%(64<<10) == 0 {
					_, _ = io.WriteString(c, get(target)) // it may be gone
				}
				n, err = resp.Body.Read(piece)
				got = append(got, piece[:n]...)
				time.Sleep(100 * time.Microsecond)
			}
			if !errors.Is(err, io.EOF) || !bytes.Equal(got, w.content.Bytes[:len(got)]) {
				t.Errorf("%s: answer %d: %d bytes, %v", target, n, len(got), err)
			}
			if resp.Close {
				break
			}
		}
		_ = c.Close()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}

// While another process takes over, connections have one more request, and are told that it
// is the last; those that are idle for long are closed.
func TestDrainWithIdle(t *testing.T) {
	const idleTime = 8 * time.Second
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, true, nil, func(s *Server) {
			s.Drain = func(context.Context) Drain { return Drain{AtMost: time.Hour, Idle: idleTime} }
		})
		used, idle, fresh, between := w.dial(), w.dial(), w.dial(), w.dial()
		for _, c := range []net.Conn{used, idle} {
			w.send(c, get("/memory/1"))
			w.read(bufio.NewReader(c), "GET", "fast")
		}
		w.send(between, get("/slow/hold"))
		synctest.Wait()
		begun := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- w.stop() }()
		time.Sleep(idleTime - time.Second)
		for _, c := range []net.Conn{used, fresh} {
			w.send(c, get("/memory/4"))
			wantLast(t, c, string(w.content.Bytes[:4]))
		}
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(begun) != idleTime {
			t.Errorf("the idle connection: %v after %v", err, time.Since(begun))
		}
		time.Sleep(time.Minute)
		w.hold <- struct{}{}
		wantLast(t, between, `GET /slow/hold h ""`)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
