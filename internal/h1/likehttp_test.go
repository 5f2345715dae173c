package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/memnet"
)

// nothing has no answers at hand.
type nothing struct{}

func (nothing) Answer(*Request, *Response) bool        { return false }
func (nothing) Sent(*Request, *Response, int64, error) {}
func quiet() *http.Server {
	return &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
}
func fields(w http.ResponseWriter, name string, vals ...string) { w.Header()[name] = vals }

// serveBoth serves h by net/http and by this package.
func serveBoth(t *testing.T, h http.Handler) (theirs, ours string) {
	t.Helper()
	var at [2]string
	for i := range at {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at[i] = ln.Addr().String()
		hs := quiet()
		hs.Handler = h
		if i == 0 {
			go func() { _ = hs.Serve(ln) }() // until it is closed
			t.Cleanup(func() { _ = hs.Close() })
			continue
		}
		srv := &Server{Handler: nothing{}, HTTP: hs, Drain: drainSoon}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(ctx, ln) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return at[0], at[1]
}

// manners are handlers that do all that handlers may do.
func manners(file string) map[string]http.HandlerFunc {
	type rw = http.ResponseWriter
	type rq = *http.Request
	long := bytes.Repeat([]byte("<html>0123456789"), 9000)
	write := func(w rw, p []byte) { _, _ = w.Write(p) }
	return map[string]http.HandlerFunc{
		"nothing":    func(rw, rq) {},
		"status":     func(w rw, _ rq) { w.WriteHeader(404) },
		"odd-status": func(w rw, _ rq) { w.WriteHeader(799) },
		"bad-status": func(w rw, _ rq) { w.WriteHeader(99) },
		"short":      func(w rw, _ rq) { write(w, []byte("short")) },
		"string":     func(w rw, _ rq) { _, _ = io.WriteString(w, "<html>") },
		"empty":      func(w rw, _ rq) { write(w, nil) },
		"2048":       func(w rw, _ rq) { write(w, long[:2048]) },
		"2049":       func(w rw, _ rq) { write(w, long[:2049]) },
		"long":       func(w rw, _ rq) { write(w, long) },
		"pieces": func(w rw, _ rq) {
			for i := range 3000 {
				_, _ = fmt.Fprintf(w, "%d,", i)
			}
		},
		"large-pieces": func(w rw, _ rq) {
			for i := range 9 {
				write(w, long[:1500*i])
			}
		},
		"typed":       func(w rw, _ rq) { fields(w, "Content-Type", "a/b"); write(w, []byte("<html>")) },
		"no-type":     func(w rw, _ rq) { fields(w, "Content-Type"); write(w, []byte("<html>")) },
		"encoded":     func(w rw, _ rq) { fields(w, "Content-Encoding", "x"); write(w, []byte("<html>")) },
		"length":      func(w rw, _ rq) { fields(w, "Content-Length", "5"); write(w, []byte("12345")) },
		"long-length": func(w rw, _ rq) { fields(w, "Content-Length", "144000"); write(w, long) },
		"bad-length":  func(w rw, _ rq) { fields(w, "Content-Length", "-5"); write(w, []byte("12345")) },
		"too-short":   func(w rw, _ rq) { fields(w, "Content-Length", "9"); write(w, []byte("12345")) },
		"too-long": func(w rw, _ rq) {
			fields(w, "Content-Length", "3")
			write(w, []byte("123"))
			if _, err := w.Write([]byte("4")); !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		},
		"204":        func(w rw, _ rq) { fields(w, "Content-Length", "5"); w.WriteHeader(204); write(w, []byte("x")) },
		"204-simple": func(w rw, _ rq) { w.WriteHeader(204) },
		"304": func(w rw, _ rq) {
			fields(w, "Etag", `"x"`)
			fields(w, "Content-Type", "a/b")
			fields(w, "Content-Length", "7")
			w.WriteHeader(304)
		},
		"late": func(w rw, _ rq) {
			fields(w, "A", "1")
			w.WriteHeader(201)
			fields(w, "A", "2")
			fields(w, "B", "2")
			w.WriteHeader(202)
		},
		"fields": func(w rw, _ rq) {
			fields(w, "X-A", "1", "2", "", " padded\t", "two\r\nlines")
			fields(w, "lower-case", "x")
			fields(w, "not a name", "x")
			fields(w, "Set-Cookie", "a=b", "c=d")
			fields(w, "Date", "never")
			fields(w, "X-None")
		},
		"no-date":     func(w rw, _ rq) { fields(w, "Date") },
		"error":       func(w rw, _ rq) { http.Error(w, "gone", http.StatusGone) },
		"moved":       func(w rw, r rq) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"close":       func(w rw, _ rq) { fields(w, "Connection", "close"); write(w, []byte("x")) },
		"Close":       func(w rw, _ rq) { fields(w, "Connection", "Close, x"); write(w, []byte("x")) },
		"keep":        func(w rw, _ rq) { fields(w, "Connection", "keep-alive"); write(w, []byte("x")) },
		"te-chunked":  func(w rw, _ rq) { fields(w, "Transfer-Encoding", "chunked"); write(w, []byte("x")) },
		"te-identity": func(w rw, _ rq) { fields(w, "Transfer-Encoding", "identity"); write(w, []byte("x")) },
		"te-gzip":     func(w rw, _ rq) { fields(w, "Transfer-Encoding", "gzip"); write(w, []byte("x")) },
		"te-length": func(w rw, _ rq) {
			fields(w, "Transfer-Encoding", "chunked")
			fields(w, "Content-Length", "1")
			write(w, []byte("x"))
		},
		"abort":        func(rw, rq) { panic(http.ErrAbortHandler) },
		"panic":        func(w rw, _ rq) { write(w, []byte("held back")); panic("x") },
		"cut":          func(w rw, _ rq) { write(w, long[:5000]); panic(http.ErrAbortHandler) },
		"flush":        func(w rw, _ rq) { _ = http.NewResponseController(w).Flush() },
		"flush-length": func(w rw, _ rq) { fields(w, "Content-Length", "2"); w.(http.Flusher).Flush(); write(w, []byte("ab")) },
		"flushes": func(w rw, _ rq) {
			write(w, []byte("a"))
			w.(http.Flusher).Flush()
			write(w, []byte("b"))
			w.(http.Flusher).Flush()
			w.(http.Flusher).Flush()
		},
		"flushed-cut": func(w rw, _ rq) { write(w, []byte("a")); w.(http.Flusher).Flush(); panic(http.ErrAbortHandler) },
		"hints": func(w rw, _ rq) {
			fields(w, "Link", "</a>")
			fields(w, "Content-Length", "1")
			w.WriteHeader(103)
			w.WriteHeader(103)
			w.WriteHeader(200)
			write(w, []byte("x"))
		},
		"trailers": func(w rw, _ rq) {
			fields(w, "Trailer", "A, B", "Content-Length")
			write(w, []byte("x"))
			fields(w, "A", "1")
			fields(w, http.TrailerPrefix+"C", "3")
		},
		"sudden-trailer": func(w rw, _ rq) { write(w, long[:3000]); fields(w, http.TrailerPrefix+"C", "3") },
		"early-trailer":  func(w rw, _ rq) { fields(w, http.TrailerPrefix+"C", "3"); write(w, []byte("x")) },
		"file":           func(w rw, r rq) { http.ServeFile(w, r, file) },
		"copied-file": func(w rw, _ rq) {
			f, _ := os.Open(file)
			defer f.Close()
			_, _ = f.Seek(7, io.SeekStart)
			fields(w, "Content-Length", "200002")
			write(w, []byte("a"))
			n, err := io.Copy(w, io.LimitReader(f, 200_000))
			at, _ := f.Seek(0, io.SeekCurrent)
			if n != 200_000 || err != nil || at != 200_007 {
				panic(fmt.Sprint(n, err, at))
			}
			write(w, []byte("z"))
		},
		"short-file": func(w rw, _ rq) {
			f, _ := os.Open(file)
			defer f.Close()
			fields(w, "Content-Length", "400000")
			n, err := io.Copy(w, io.LimitReader(f, 400_000))
			if n != 300_000 || err != nil {
				panic(fmt.Sprint(n, err))
			}
		},
		"request": func(w rw, r rq) {
			body, err := io.ReadAll(r.Body)
			_, local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			_, server := r.Context().Value(http.ServerContextKey).(*http.Server)
			_, _ = fmt.Fprintf(w, "%s %#v %s %d.%d %d %v %v %q %v %v %d %v %v %v\n", r.Method, r.URL, r.Proto, r.ProtoMajor, r.ProtoMinor, r.ContentLength,
				r.TransferEncoding, r.Close, r.RequestURI, r.TLS, r.Trailer, len(body), err, local, server)
			for _, name := range slices.Sorted(maps.Keys(r.Header)) {
				_, _ = fmt.Fprintf(w, "%s %q\n", name, r.Header[name])
			}
		},
	}
}

// A client cannot tell by a byte which of the two answers, nor can the handler
// tell the requests.
func TestLikeNetHTTP(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, bytes.Repeat([]byte("<html>0123"), 30_000), 0o600); err != nil {
		t.Fatal(err)
	}
	all := manners(file)
	theirs, ours := serveBoth(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all[strings.Split(r.URL.Path, "/")[1]](w, r)
	}))
	date := regexp.MustCompile(`Date: \w{3}, [^\r]* GMT`)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, method := range []string{"GET", "HEAD"} {
			for _, more := range []string{
				"", "Connection: close\r\n", "connection: Keep-Alive\r\npragma: no-cache\r\nX-y: 1\r\nx-Y:\t2 \r\nfoo: \r\n",
				"Range: bytes=100-150000\r\nCookie: a=b\r\ncookie: c=d\r\n",
			} {
				// A second request shows whether the connection goes on.
				in := method + " /" + name + "/x/..//%2f?a=%20&b;c HTTP/1.1\r\nHost: h:80\r\n" + more + "\r\n" +
					"GET /short HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
				want := date.ReplaceAllString(converse(t, theirs, in), "Date: now")
				got := date.ReplaceAllString(converse(t, ours, in), "Date: now")
				if got != want && !sameChunks(got, want) {
					t.Errorf("%s: net/http -, we +\n%s", in, cmp.Diff(shorten(want), shorten(got)))
				}
			}
		}
	}
}

// converse sends in and returns all that comes back.
func converse(t *testing.T, addr, in string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, in); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q: no end", in)
	}
	return string(out)
}

// sameChunks compares two answers but for the sizes of their chunks.
func sameChunks(a, b string) bool {
	var heads, bodies [2]string
	for i, s := range []string{a, b} {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(s)), nil)
		if err != nil || len(resp.TransferEncoding) != 1 {
			return false
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return false
		}
		heads[i], _, _ = strings.Cut(s, "\r\n\r\n")
		_, after, _ := strings.Cut(s, "\r\n0\r\n")
		bodies[i] = string(body) + after
	}
	return heads[0] == heads[1] && bodies[0] == bodies[1]
}

func shorten(s string) string {
	if len(s) > 3000 {
		return s[:1500] + fmt.Sprintf("...%d...", len(s)) + s[len(s)-1500:]
	}
	return s
}

// inMemory serves h in memory and returns how to connect.
func inMemory(t *testing.T, h http.HandlerFunc) func() net.Conn {
	t.Helper()
	network := new(memnet.Network)
	ln, err := network.Listen("mem:s")
	if err != nil {
		t.Fatal(err)
	}
	hs := quiet()
	hs.Handler, hs.IdleTimeout, hs.ReadHeaderTimeout = h, testIdle, testHeader
	srv := &Server{Handler: nothing{}, HTTP: hs, Drain: drainSoon}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		c, err := network.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// A handler learns that the client has left, and that it is done itself.
func TestHandlerLearnsOfLeaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		learned := make(chan time.Duration, 1)
		dial := inMemory(t, func(_ http.ResponseWriter, r *http.Request) {
			begun := time.Now()
			<-r.Context().Done()
			learned <- time.Since(begun)
		})
		for _, after := range []time.Duration{0, watchAfter / 2, time.Hour} {
			c := dial()
			if _, err := io.WriteString(c, get("/")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(after)
			_ = c.Close()
			if took := <-learned; took != max(after, watchAfter) {
				t.Errorf("gone after %v, learned after %v", after, took)
			}
		}
	})
}

// A handler that takes its time does not lose what the client sends meanwhile,
// and no deadline of an idle connection ends the one that waits for it.
func TestNextDuringWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var done <-chan struct{}
		dial := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			if d, err := time.ParseDuration(r.URL.Path[1:]); err == nil {
				time.Sleep(d)
			}
			if err := r.Context().Err(); err != nil {
				t.Error(err)
			}
			done = r.Context().Done()
			_, _ = io.WriteString(w, r.URL.Path)
		})
		c := dial()
		defer c.Close()
		br := bufio.NewReader(c)
		targets := []string{"/0s", "/1h", "/49ms", "/50ms", "/51ms", "/1h", "/1s"}
		for _, between := range []time.Duration{0, 30 * time.Millisecond, time.Second, time.Minute} {
			go func() {
				for _, target := range targets {
					if _, err := io.WriteString(c, get(target)); err != nil {
						t.Error(err)
					}
					time.Sleep(between)
				}
			}()
			for _, target := range targets {
				readBody(t, br, target)
			}
			time.Sleep(61 * time.Second) // the last pause is over
			synctest.Wait()
		}
		synctest.Wait()
		<-done // the context of an answered request ends
		time.Sleep(testIdle + slack + time.Second)
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("an idle connection: %d bytes, %v", n, err)
		}
	})
}

func readBody(t *testing.T, br *bufio.Reader, want string) {
	t.Helper()
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != want {
		t.Fatalf("got %q, %v, want %q", body, err, want)
	}
}

// A client that takes nothing of what a handler writes is cut, and the handler
// is told.
func TestStallOfHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		dial := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			begun := time.Now()
			for {
				if _, err := w.Write(make([]byte, 100_000)); err != nil {
					if took := time.Since(begun); took < defaultStall || took > defaultStall+slack || r.Context().Err() == nil {
						err = fmt.Errorf("after %v, context %w", took, r.Context().Err())
					}
					failed <- err
					return
				}
			}
		})
		c := dial()
		defer c.Close()
		if _, err := io.WriteString(c, get("/")); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}
