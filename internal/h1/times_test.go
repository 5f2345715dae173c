package h1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// In fake time: how long a connection may do nothing.
func TestTimeLimits(t *testing.T) {
	const gift = "/p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
	for _, c := range []struct {
		name     string
		send     []string // each answered before the next
		drip     string   // then, a byte a second
		min, max time.Duration
	}{
		{"nothing at all", nil, "", testHeader, testHeader},
		{"slow-loris", nil, get("/memory/" + strings.Repeat("1", 100)), testHeader, testHeader},
		{"slow-loris later", []string{"/memory/1"}, get("/memory/" + strings.Repeat("1", 100)), testHeader, testHeader + slack},
		{"idle", []string{"/memory/1", "/memory/2"}, "", testIdle, testIdle + slack},
		{"idle after another", []string{"/memory/1", "/a"}, "", testIdle, testIdle + slack},
		{"idle after a gift", []string{gift}, "", testIdle, testIdle},
		{"slow-loris after a gift", []string{gift}, get("/memory/" + strings.Repeat("1", 300)), testHeader, testHeader},
		{"slow-loris after gifts", []string{gift, gift}, "\r\n" + get("/memory/"+strings.Repeat("1", 300)), testHeader, testHeader},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, true, nil)
			conn := w.dial()
			br := bufio.NewReader(conn)
			for _, target := range c.send {
				if !strings.Contains(target, " ") {
					target = get(target)
				} else {
					target = "GET " + target
				}
				w.send(conn, target)
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				time.Sleep(3 * time.Second)
			}
			begun := time.Now()
			if len(c.send) > 0 {
				begun = begun.Add(-3 * time.Second)
				if c.drip != "" {
					begun = begun.Add(3 * time.Second)
				}
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range c.drip {
					if _, err := io.WriteString(conn, c.drip[i:i+1]); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
			if _, err := br.ReadByte(); err == nil {
				t.Errorf("%s: got an answer", c.name)
			}
			if took := time.Since(begun); took < c.min || took > c.max {
				t.Errorf("%s: cut after %v, want %v to %v", c.name, took, c.min, c.max)
			}
			_ = conn.Close()
			wg.Wait()
		})
	}
}

// Ten thousand clients that never end their header take nothing from the others,
// and are gone when their time is over.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 10000
		if testing.Short() {
			n = 1000
		}
		w := newWorld(t, true, nil)
		for i := range n {
			c := w.dial()
			if i%2 == 0 {
				w.send(c, get("/memory/1")[:1+i%30])
			}
		}
		begun := time.Now()
		good := w.dial()
		w.send(good, get("/memory/9"))
		br := bufio.NewReader(good)
		w.read(br, "GET", "fast")
		if took := time.Since(begun); took > 0 {
			t.Errorf("answered after %v", took)
		}
		if got := w.metric("freshet_http_connections"); got != float64(n+1) {
			t.Errorf("%v connections are open, want %d", got, n+1)
		}
		time.Sleep(testHeader)
		synctest.Wait()
		if got := w.metric("freshet_http_connections"); got != 1 {
			t.Errorf("%v connections are open after the time for a header, want the good one", got)
		}
		w.send(good, get("/memory/9"))
		w.read(br, "GET", "fast")
	})
}

// Each header has its time, also one that came in part with the request before
// it.
func TestTimeOfEachHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, nil)
		c := w.dial()
		br := bufio.NewReader(c)
		request := get("/memory/7")
		w.send(c, request[:5])
		for range 5 {
			time.Sleep(testHeader - time.Second)
			go func() { _, _ = io.WriteString(c, request[5:]+request[:5]) }()
			w.read(br, "GET", "fast")
		}
	})
}

// A client that takes nothing is cut.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, nil)
		c := w.dial()
		w.send(c, get("/file/0/3000000"))
		begun := time.Now()
		if err := <-w.errs; err == nil {
			t.Error("the answer was sent to nobody")
		}
		if took := time.Since(begun); took < defaultStall || took > defaultStall+slack {
			t.Errorf("cut after %v", took)
		}
	})
}

// So is one of the standard server; its handler's own deadline holds instead, if
// it has one.
func TestStallOfGiven(t *testing.T) {
	for name, within := range map[string]time.Duration{"/": defaultStall, "/own": 10 * defaultStall} {
		synctest.Test(t, func(t *testing.T) {
			over := make(chan error, 1)
			w := newWorldOf(t, true, nil, func(s *Server) {
				s.HTTP.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(3 * defaultStall) // which is no fault of the client
					if r.URL.Path == "/own" {
						if err := http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(within)); err != nil {
							t.Error(err)
						}
					}
					_, err := rw.Write(make([]byte, contentLen))
					over <- err
				})
			})
			c := w.dial()
			br := bufio.NewReader(c)
			const post = "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
			w.send(c, fmt.Sprintf(post, "/"))
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); n != contentLen || err != nil || <-over != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			w.send(c, fmt.Sprintf(post, name))
			time.Sleep(3 * defaultStall)
			begun := time.Now()
			if err := <-over; err == nil {
				t.Error("the answer was sent to nobody")
			}
			if took := time.Since(begun); took < within || took > within+slack {
				t.Errorf("%s: cut after %v, want %v", name, took, within)
			}
		})
	}
}

// When serving ends, idle connections are closed at once, what is in flight is
// answered and told that it is the last, and new connections are refused. One that
// was accepted and has sent nothing yet has a moment for its request.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, nil)
		fresh, late, idle, partial, slow, stuck := w.dial(), w.dial(), w.dial(), w.dial(), w.dial(), w.dial()
		idleR := bufio.NewReader(idle)
		w.send(idle, get("/memory/1"))
		w.read(idleR, "GET", "fast")
		w.send(partial, get("/memory/5")[:20])
		w.send(slow, get("/slow/hold"))
		w.send(stuck, get("/memory/3000000"))
		synctest.Wait()
		ended := make(chan error, 1)
		begun := time.Now()
		go func() { ended <- w.stop() }()
		synctest.Wait()
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(begun) > 0 {
			t.Errorf("the idle connection: %v after %v", err, time.Since(begun))
		}
		w.send(late, get("/memory/4"))
		wantLast(t, late, string(w.content.Bytes[:4]))
		if _, err := w.network.DialContext(t.Context(), "tcp", w.addr); err == nil {
			t.Error("a new connection was taken")
		}
		time.Sleep(time.Second)
		w.send(partial, get("/memory/5")[20:])
		wantLast(t, partial, string(w.content.Bytes[:5]))
		w.hold <- struct{}{}
		wantLast(t, slow, `GET /slow/hold h ""`)
		if _, err := fresh.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(begun) != lastCall {
			t.Errorf("the connection without a request: %v after %v", err, time.Since(begun))
		}
		if err := <-ended; err != nil || time.Since(begun) != testDrain {
			t.Errorf("%v after %v, want the drain time: one client takes nothing", err, time.Since(begun))
		}
	})
}

func wantLast(t *testing.T, c net.Conn, want string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != want || !resp.Close {
		t.Errorf("%q, %v, Connection: close is %v; want %q", body, err, resp.Close, want)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection was left open: %v", err)
	}
}

// Serving ends while hundreds of clients ask: each gets a whole answer or none.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	var wg sync.WaitGroup
	var answered atomic.Int64
	for i := range 64 {
		wg.Go(func() {
			c, err := net.Dial("tcp", w.addr)
			if err != nil {
				return
			}
			defer c.Close()
			br := bufio.NewReader(c)
			for n := i; ; n++ {
				target := []string{"/memory/4000", "/file/1/200000", "/a"}[n%3]
				if _, err := io.WriteString(c, get(target)); err != nil {
					return
				}
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Errorf("%s: cut in the middle: %v", target, err)
				}
				answered.Add(1)
				if resp.Close {
					return
				}
			}
		})
	}
	waitFor(t, func() bool { return answered.Load() > 500 })
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}
