package role_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/memnet"
	"freshet/internal/role"

	"github.com/prometheus/client_golang/prometheus"
)

// A request in flight when the stop comes is answered whole; new ones are
// refused; Serve returns nil.
func TestServeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network memnet.Network
		ln, err := network.Listen("mem:r")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(role.DrainTimeout / 2)
			_, _ = io.WriteString(w, "whole")
		})
		served := make(chan error, 1)
		go func() { served <- role.Serve(ctx, ln, slow, slog.New(slog.DiscardHandler)) }()
		tr := &http.Transport{DialContext: network.DialContext}
		client := &http.Client{Transport: tr}
		got := make(chan string, 1)
		go func() {
			resp, err := client.Get("http://r.mem/")
			if err != nil {
				got <- err.Error()
				return
			}
			defer func() { _ = resp.Body.Close() }()
			body, _ := io.ReadAll(resp.Body)
			got <- string(body)
		}()
		time.Sleep(time.Second)
		stop()
		synctest.Wait()
		if _, err := client.Get("http://r.mem/second"); err == nil {
			t.Error("a draining server took a new connection")
		}
		if body := <-got; body != "whole" {
			t.Errorf("the request in flight got %q", body)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		tr.CloseIdleConnections()
	})
}

// What outlives the drain time is cut.
func TestServeCutsAfterDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network memnet.Network
		ln, err := network.Listen("mem:r")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		endless := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		go func() { served <- role.Serve(ctx, ln, endless, slog.New(slog.DiscardHandler)) }()
		go func() {
			tr := &http.Transport{DialContext: network.DialContext}
			if resp, err := (&http.Client{Transport: tr}).Get("http://r.mem/"); err == nil {
				_ = resp.Body.Close()
				t.Error("an endless request ended well")
			}
		}()
		synctest.Wait()
		begin := time.Now()
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if took := time.Since(begin); took != role.DrainTimeout {
			t.Errorf("drained for %v", took)
		}
	})
}

func TestAccessRecord(t *testing.T) {
	var out bytes.Buffer
	reg := prometheus.NewRegistry()
	access := role.NewAccess("test", slog.New(slog.NewTextHandler(&out, nil)), reg)
	h := access.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		role.Annotate(r, slog.String("cache", "hit"))
		if r.URL.Path == "/bad" {
			role.SetReason(w, r, "short_body", "got 3 of 5 bytes")
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.Copy(w, strings.NewReader("hello"))
	}))
	get := func(path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		defer func() { _ = recover() }()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		return rec
	}
	get("/ok")
	if line := out.String(); !strings.Contains(line, "path=/ok status=200 bytes=5") || !strings.Contains(line, "cache=hit") || strings.Contains(line, "reason") {
		t.Errorf("record of a success: %s", line)
	}
	out.Reset()
	if rec := get("/bad"); rec.Header().Get(role.ReasonHeader) != "short_body" {
		t.Errorf("header %v", rec.Header())
	}
	if line := out.String(); !strings.Contains(line, "reason=short_body") || !strings.Contains(line, `error="got 3 of 5 bytes"`) {
		t.Errorf("record of a failure: %s", line)
	}
	out.Reset()
	get("/abort")
	if line := out.String(); !strings.Contains(line, "reason=aborted") {
		t.Errorf("record of an abort: %s", line)
	}

	admin := httptest.NewRecorder()
	role.Admin(new(role.Health), reg).ServeHTTP(admin, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`freshet_http_requests_total{code="200",reason="",role="test"} 1`,
		`freshet_http_requests_total{code="502",reason="short_body",role="test"} 1`,
		`freshet_http_response_bytes_total{role="test"} 5`,
	} {
		if !strings.Contains(admin.Body.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// A file body still reaches the connection's own ReadFrom (sendfile).
func TestRecordKeepsReadFrom(t *testing.T) {
	access := role.NewAccess("test", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	w := &readFromRecorder{ResponseRecorder: httptest.NewRecorder()}
	access.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, io.LimitReader(strings.NewReader("hello"), 4))
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if !w.used {
		t.Error("io.Copy did not reach ReadFrom")
	}
}

type readFromRecorder struct {
	*httptest.ResponseRecorder
	used bool
}

func (w *readFromRecorder) ReadFrom(r io.Reader) (int64, error) {
	w.used = true
	return io.Copy(struct{ io.Writer }{w.ResponseRecorder}, r)
}

func TestAdminHealth(t *testing.T) {
	var health role.Health
	h := role.Admin(&health, prometheus.NewRegistry())
	status := func(path string) int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		return rec.Code
	}
	ready := health.Starting("hub")
	if got := status("/-/ready"); got != http.StatusServiceUnavailable {
		t.Errorf("ready while starting: %d", got)
	}
	if got := status("/-/healthy"); got != http.StatusOK {
		t.Errorf("healthy: %d", got)
	}
	ready()
	if got := status("/-/ready"); got != http.StatusOK {
		t.Errorf("ready: %d", got)
	}
	if got, other := status("/"), status("/other"); got != http.StatusOK || other != http.StatusNotFound {
		t.Errorf("the list of what there is: %d, something else: %d", got, other)
	}
	if got := status("/debug/pprof/cmdline"); got != http.StatusOK {
		t.Errorf("pprof: %d", got)
	}
}

func TestEnvDefaultsServeOnTCP(t *testing.T) {
	env := role.Env{}.WithDefaults()
	ln, err := env.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := ln.Addr().(*net.TCPAddr); !ok {
		t.Errorf("listening on %T", ln.Addr())
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- role.Serve(ctx, ln, http.NotFoundHandler(), env.Log) }()
	resp, err := env.HTTP.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
