package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/h1"
)

// seen is an answer as a client sees it.
type seen struct {
	Status  int
	Length  int64
	Header  http.Header
	Trailer http.Header
	Body    string
	Failed  bool
}

// A client cannot tell our answers of an http.Handler from those of net/http,
// nor can the handler tell the requests.
func TestLikeNetHTTP(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<html>0123456789", 5000)
	handlers := map[string]http.HandlerFunc{
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"short":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "short") },
		"html":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"long":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, long) },
		"pieces": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 1000 {
				_, _ = fmt.Fprintf(w, "%d,", i)
			}
		},
		"copy": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader(long)) },
		"typed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			_, _ = io.WriteString(w, "<html>")
		},
		"no type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		},
		"encoded": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "x")
			_, _ = io.WriteString(w, "<html>")
		},
		"length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "12345")
		},
		"bad length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "x")
			_, _ = io.WriteString(w, "12345")
		},
		"no content": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		},
		"not modified": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", `"x"`); w.WriteHeader(304) },
		"late fields": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("A", "1")
			w.WriteHeader(201)
			w.Header().Set("A", "2")
			w.Header().Set("B", "2")
			w.WriteHeader(202)
		},
		"fields": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-A"] = []string{"1", "2", ""}
			w.Header().Add("Set-Cookie", "a=b")
			w.Header().Add("Set-Cookie", "c=d")
			w.Header().Set("Date", "never")
		},
		"error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone", http.StatusGone) },
		"moved": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"file": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), strings.NewReader(long))
		},
		"abort": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"flush": func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() },
		"flush2": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "b")
		},
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "A, B")
			_, _ = io.WriteString(w, "x")
			w.Header().Set("A", "1")
			w.Header().Set(http.TrailerPrefix+"C", "3")
		},
		"connection": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Transfer-Encoding", "chunked")
			_, _ = io.WriteString(w, "x")
		},
		"request": func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintln(w, r.Method, r.URL, r.Proto, r.ProtoMajor, r.ProtoMinor, r.ContentLength, r.TransferEncoding, r.Close,
				r.RequestURI, r.TLS.NegotiatedProtocol, r.RemoteAddr != "", r.Trailer, len(body), err)
			for _, name := range slices.Sorted(maps.Keys(r.Header)) {
				_, _ = fmt.Fprintln(w, name, r.Header[name])
			}
		},
	}
	mux := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handlers[r.Header.Get("Want")](w, r) })
	theirs := httptest.NewUnstartedServer(mux)
	theirs.EnableHTTP2 = true
	theirs.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	theirs.StartTLS()
	defer theirs.Close()
	ours := serveOurs(t, mux, theirs.TLS.Certificates)
	client := theirs.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Transport.(*http.Transport).DisableCompression = true
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "DELETE"} {
			for _, target := range []string{"/", "/a%2fb;c?d=%20&e", "//x/../y"} {
				a := look(t, client, theirs.URL, method, target, name)
				b := look(t, client, ours, method, target, name)
				if diff := cmp.Diff(a, b); diff != "" {
					t.Errorf("%s %s: net/http -, we +\n%s", method, name, diff)
				}
			}
		}
	}
}

// serveOurs serves a handler by HTTP/2 and returns its URL.
func serveOurs(t *testing.T, h http.Handler, certs []tls.Certificate) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &h1.Server{H2: &Server{HTTP: h}, HTTP: &http.Server{Handler: h}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- srv.Serve(ctx, tls.NewListener(ln, &tls.Config{Certificates: certs, NextProtos: []string{"h2"}}))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "https://" + ln.Addr().String()
}

func look(t *testing.T, client *http.Client, base, method, target, want string) seen {
	t.Helper()
	var body io.Reader
	if method == "POST" {
		body = strings.NewReader(strings.Repeat("b", 100_000))
	}
	req, err := http.NewRequest(method, base+target, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Want", want)
	req.Header.Add("Cookie", "a=b; c=d")
	req.Header["X-Y"] = []string{"1", "2"}
	if want == "file" {
		req.Header.Set("Range", "bytes=100-299")
	}
	resp, err := client.Do(req)
	if err != nil {
		return seen{Failed: true}
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if want != "fields" {
		resp.Header.Del("Date")
	}
	return seen{resp.StatusCode, resp.ContentLength, resp.Header, resp.Trailer, strings.ReplaceAll(string(got), base, "BASE"), err != nil}
}
