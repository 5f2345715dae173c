package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A piece of a body is sent as it is, also when it begins like what net/http
// says to what it refuses.
func TestBodyLikeARefusal(t *testing.T) {
	t.Parallel()
	const piece = 128 << 10
	body := bytes.Repeat([]byte("x"), 2*piece)
	copy(body[piece:], "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request")
	w := newWorldOf(t, false, nil, func(s *Server) {
		s.HTTP.Handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header()["Content-Length"] = []string{"262144"}
			_, _ = rw.Write(body[:piece])
			_, _ = rw.Write(body[piece:])
		})
	})
	c := w.dial()
	br := bufio.NewReader(c)
	for range 2 { // the second one is asked on a connection that was answered
		w.send(c, "GET /p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes, %v; the second piece begins %.80q", len(got), err, got[min(len(got), piece):])
		}
	}
	if n := rejected(t, w.metrics, RejectMessage); n != 0 {
		t.Errorf("%v messages were counted as refused", n)
	}
}

// A connection of the standard server keeps its place within the limits and in
// the metrics until it ends, whoever ends it.
func TestGivenKeepsItsPlace(t *testing.T) {
	const gift = "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
	synctest.Test(t, func(t *testing.T) {
		taken := make(chan net.Conn, 1)
		hs := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/hijack" {
				return
			}
			c, _, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			taken <- c
		})}
		v := newVisited(t, hs, Limits{Conns: 3, ConnsPerIP: 2})
		const here, there = "192.0.2.1:1", "192.0.2.2:1"
		if !v.ask(here, fmt.Sprintf(gift, "/")) || !v.ask(here, fmt.Sprintf(gift, "/hijack")) {
			t.Fatal("not let in")
		}
		if v.ask(here, get("/")) {
			t.Error("there are more from an address than may be: those that were left to the standard server do not count")
		}
		if !v.ask(there, get("/")) || v.ask(there, get("/")) {
			t.Error("there are more in all than may be")
		}
		if n := gauge(t, v.metrics, "freshet_http_connections"); n != 3 {
			t.Errorf("%v connections are open, want 3", n)
		}
		_ = v.open[0].Close() // by the client
		c := <-taken
		_ = c.Close() // by a handler
		_ = c.Close()
		synctest.Wait()
		if n := gauge(t, v.metrics, "freshet_http_connections"); n != 1 {
			t.Errorf("%v connections are open, want 1", n)
		}
		if !v.ask(here, fmt.Sprintf(gift, "/")) || !v.ask(here, get("/")) || v.ask(there, get("/")) {
			t.Error("their places are not free, or more than these")
		}
		v.leave()
		if n := gauge(t, v.metrics, "freshet_http_connections"); n != 0 || len(v.srv.sources) != 0 || v.srv.given.Load() != 0 {
			t.Errorf("%v connections are open, from %v, %d left to the standard server", n, v.srv.sources, v.srv.given.Load())
		}
		v.stop()
	})
}

// What of a header came before the last answer was over gives its client no more
// time than others have, and takes none from the answer.
func TestNextHeaderOfGivenDuringAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, nil)
		c := w.dial()
		br := bufio.NewReader(c)
		w.send(c, "POST /slow/hold HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\nGET /s")
		time.Sleep(2 * testIdle)
		w.hold <- struct{}{}
		w.read(br, "POST", "slow")
		begun := time.Now()
		if _, err := br.ReadByte(); err == nil || time.Since(begun) != testHeader {
			t.Errorf("%v after %v, want the time for a header", err, time.Since(begun))
		}
		if n := rejected(t, w.metrics, RejectHeaderTime); n != 1 {
			t.Errorf("%v were counted", n)
		}
	})
}

// A body that nobody wants and that does not come ends in its time, whoever
// waits for it; a handler that takes longer is not disturbed by that.
func TestBodyThatDoesNotCome(t *testing.T) {
	for _, c := range []struct {
		name, send string
		within     time.Duration
	}{
		{"unread", "POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", defaultStall + slack},
		{"unread chunks", "POST /unread HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", defaultStall + slack},
		{"of nobody", "OPTIONS * HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", defaultStall + slack},
		{"unexpected", "POST / HTTP/1.1\r\nHost: h\r\nExpect: much\r\nContent-Length: 9\r\n\r\n", defaultStall + slack},
		{"read", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", defaultStall + slack},
		{"own time", "POST /own HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 10 * defaultStall},
		{"long answer", "POST /long HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n012345678", testIdle + slack},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorldOf(t, true, nil, func(s *Server) {
				s.HTTP.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/own":
						if err := http.NewResponseController(rw).SetReadDeadline(time.Now().Add(10 * defaultStall)); err != nil {
							t.Error(err)
						}
						fallthrough
					case "/read":
						_, _ = io.Copy(io.Discard, r.Body)
					case "/long":
						_, _ = io.Copy(io.Discard, r.Body)
						select {
						case <-r.Context().Done():
							t.Error("the request is given up")
						case <-time.After(5 * defaultStall):
						}
					}
				})
			})
			conn := w.dial()
			w.send(conn, c.send)
			begun := time.Now()
			if c.name == "long answer" {
				begun = begun.Add(5 * defaultStall)
			}
			_, _ = io.Copy(io.Discard, conn)
			if took := time.Since(begun); took > c.within || took < c.within-slack {
				t.Errorf("%s: ended after %v, want %v", c.name, took, c.within)
			}
		})
	}
}

// All requests of a connection tell the same end of it, by its pointer, and those of another
// one another, whoever serves them.
func TestEndOfConnection(t *testing.T) {
	ends := make(chan any, 16)
	w := newWorldOf(t, false, nil, func(s *Server) {
		next := s.HTTP.Handler
		s.HTTP.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			end, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
			ends <- end
			next.ServeHTTP(rw, r)
		})
	})
	var known []any
	for range 2 {
		c := w.dial()
		br := bufio.NewReader(c)
		for i, what := range []string{get("/slow"), "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", get("/slow")} {
			w.send(c, what)
			w.read(br, what[:strings.Index(what, " ")], "slow")
			end := <-ends
			if i == 0 {
				if end == (*net.TCPAddr)(nil) || slices.Contains(known, end) {
					t.Errorf("the end of a connection is %p, of those before %v", end, known)
				}
				known = append(known, end)
			}
			if end != known[len(known)-1] {
				t.Errorf("request %d has another end", i)
			}
		}
	}
}
