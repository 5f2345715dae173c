package edge

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/role"
)

// told is what a client of HTTP/2 sees of an answer, and what is told of it.
type told struct {
	Status  int
	Length  int64
	Header  http.Header
	Body    string
	Log     string
	Metrics map[string]float64
}

// Clients of HTTP/2, records and metrics cannot tell a hit that internal/h2
// answers by itself from one that net/http answers.
func TestHTTP2IsAsNetHTTP(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(http.HandlerFunc(variety))
	defer origin.Close()
	donor := httptest.NewTLSServer(nil) // for its certificate
	defer donor.Close()
	e, err := New(t.Context(), Config{Origin: origin.URL, Store: t.TempDir(), Size: 64 << 20, Follow: followOff}, role.Env{})
	if err != nil {
		t.Fatal(err)
	}
	w := &twoWays{t: t, e: e, edge: prometheus.NewRegistry(), ways: make(map[string]*way), counted: make(map[*prometheus.Registry]map[string]float64)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	urls := make(map[string]string)
	for _, name := range []string{"loop", "plain"} {
		v := &way{access: prometheus.NewRegistry()}
		w.ways[name] = v
		access := role.NewAccess("edge", slog.New(slog.NewTextHandler(&v.log, nil)), v.access)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls[name] = "https://" + ln.Addr().String()
		if name == "loop" {
			v.loop = prometheus.NewRegistry()
			ln = tls.NewListener(ln, &tls.Config{Certificates: donor.TLS.Certificates, NextProtos: []string{"h2"}})
			door := doorAt(t, ln, v.loop)
			go func() { ended <- e.serve(ctx, door, access) }()
			continue
		}
		srv := role.NewServer(ctx, access.Wrap(e), e.log)
		srv.TLSConfig = &tls.Config{Certificates: donor.TLS.Certificates}
		go func() { _ = srv.ServeTLS(ln, "", ""); ended <- nil }()
		defer srv.Close()
	}
	transport := donor.Client().Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2, transport.DisableCompression = true, true
	client := &http.Client{Transport: transport}
	defer func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()

	ask := func(name, method, path string, fields ...string) (a told, byLoop bool) {
		t.Helper()
		v := w.ways[name]
		v.log.mu.Lock()
		v.log.b.Reset()
		v.log.mu.Unlock()
		w.changes(v) // of before
		req, err := http.NewRequest(method, urls[name]+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "h"
		for _, f := range fields {
			key, value, _ := strings.Cut(f, ": ")
			req.Header.Add(key, value)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%s: %s %v", path, resp.Proto, err)
		}
		a = told{Status: resp.StatusCode, Length: resp.ContentLength, Header: resp.Header, Body: string(body)}
		for end := time.Now().Add(2 * time.Minute); a.Log == ""; { // the record comes after the answer
			v.log.mu.Lock()
			a.Log = v.log.b.String()
			v.log.mu.Unlock()
			if time.Now().After(end) {
				t.Fatal("no record")
			}
		}
		a.Log = strings.Join(slices.DeleteFunc(strings.Fields(a.Log), func(s string) bool {
			return strings.HasPrefix(s, "time=") || strings.HasPrefix(s, "took=") || strings.HasPrefix(s, "ttfb=")
		}), " ")
		a.Metrics = w.changes(v)
		byLoop = v.loop != nil
		for key, n := range a.Metrics {
			if strings.HasPrefix(key, "freshet_http_handovers_total") && n > 0 {
				byLoop = false
			}
			if n = math.Round(n); n == 0 || strings.Contains(key, "seconds") || strings.Contains(key, "handovers") {
				delete(a.Metrics, key)
			}
		}
		return a, byLoop
	}

	hits := 0
	object := "/repo/objects/0a/" + strings.Repeat("0a", 31) + ".filez"
	for _, path := range []string{object, "/repo/summary", "/a.rpm", "/untyped.rpm", "/large.rpm", "/empty.rpm", "/zipped.rpm", "/behind.rpm", "/missing.rpm", "/a%2fb.rpm"} {
		ask("plain", "GET", path)
		for _, method := range []string{"GET", "HEAD"} {
			for _, field := range []string{
				"User-Agent: x", "If-None-Match: \"" + path + "\"", "If-None-Match: W/\"x\", *", "Range: bytes=0-0", "Range: bytes=-7", "Range: bytes=0-1,3-4",
				"Range: bytes=9999999-", "If-Modified-Since: " + time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), "Cache-Control: no-cache", "Referer: https://x/",
			} {
				for try := 0; ; try++ { // Age and ttl change when a second does
					plain, _ := ask("plain", method, path, field)
					loop, byLoop := ask("loop", method, path, field)
					diff := ""
					if byLoop {
						diff = cmp.Diff(plain, loop)
					}
					if diff != "" && try < 30 { // on a busy machine again and again
						continue
					}
					if diff != "" {
						t.Errorf("%s %s %s: net/http (-), internal/h2 (+):\n%s", method, path, field, diff)
					}
					if byLoop {
						hits++
					}
					break
				}
			}
		}
	}
	if hits < 100 {
		t.Errorf("internal/h2 answered %d by itself", hits)
	}
	var wg sync.WaitGroup // many at once
	for range 20 {
		wg.Go(func() {
			for range 10 {
				resp, err := client.Get(urls["loop"] + "/large.rpm")
				if err != nil {
					t.Error(err)
					return
				}
				n, err := io.Copy(io.Discard, resp.Body)
				if err != nil || n != resp.ContentLength {
					t.Errorf("%d bytes, %v", n, err)
				}
				_ = resp.Body.Close()
			}
		})
	}
	wg.Wait()
}
