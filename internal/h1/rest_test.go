package h1

import (
	"bufio"
	"bytes"
	"io"
	"runtime"
	"testing"
)

// Connections that were answered, by either handler, and are idle now, wait in
// goroutines that did nothing before, so that their stacks are small.
func TestRestsInNewGoroutine(t *testing.T) {
	const conns = 40
	for name, target := range map[string]string{"fast": "/memory/9", "slow": "/slow/x"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, false, nil)
			for range conns {
				c := w.dial()
				w.send(c, get(target))
				w.read(bufio.NewReader(c), "GET", name)
			}
			stacks := make([]byte, 1<<20)
			waitFor(t, func() bool {
				all := stacks[:runtime.Stack(stacks, true)]
				return bytes.Count(all, []byte("h1.(*conn).rest(")) == conns
			})
		})
	}
}

// A connection that rested is answered as before, as often as it likes; it ends
// when its client leaves, and when serving does.
func TestRest(t *testing.T) {
	t.Parallel()
	var srv *Server
	w := newWorldOf(t, false, nil, func(s *Server) { srv = s })
	resting := func() bool {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		for c := range srv.conns {
			if c.state.Load() != connIdle {
				return false
			}
		}
		return true
	}
	for _, leaves := range [...]bool{true, false} {
		c := w.dial()
		br := bufio.NewReader(c)
		for range 3 {
			w.send(c, get("/slow/x"))
			w.read(br, "GET", "slow")
			waitFor(t, resting)
			w.send(c, get("/memory/9")+get("/memory/9"))
			w.read(br, "GET", "fast")
			w.read(br, "GET", "fast")
			waitFor(t, resting)
		}
		if leaves {
			_ = c.Close()
			waitFor(t, func() bool { return w.metric("freshet_http_connections") == 0 })
			continue
		}
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		if _, err := br.ReadByte(); err != io.EOF {
			t.Errorf("got %v, want the end of the connection", err)
		}
	}
}
