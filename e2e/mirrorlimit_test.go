package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/nginxtest"
	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// meter stands between mirrors and an upstream, and counts what goes to the mirrors.
type meter struct {
	addr string
	sent atomic.Int64
}

func startMeter(t *testing.T, target string) *meter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	m := &meter{addr: ln.Addr().String()}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go m.relay(c, target)
		}
	}()
	return m
}

func (m *meter) relay(c net.Conn, target string) {
	defer c.Close()
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer up.Close()
	if tcp, ok := c.(*net.TCPConn); ok { // what is under way, and counted, is little
		_ = tcp.SetWriteBuffer(32 << 10)
	}
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(counted{c, &m.sent}, struct{ io.Reader }{up})
}

// counted counts what is written.
type counted struct {
	to io.Writer
	n  *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// Ten projects, half of them from an rsync server and half from nginx, together receive what
// one limit says, on the wire; what is served meanwhile is not bounded by it.
func TestMirrorLimit(t *testing.T) {
	parallel(t)
	peertest.Require(t, "rsync", "nginx")
	const limit = 8 << 20 // bytes per second
	window := time.Minute
	if testing.Short() || os.Getenv(figuresEnv) == "" {
		window = 5 * time.Second
	}
	seconds := int64(window / time.Second)
	up := filepath.Join(t.TempDir(), "up")
	// Enough for the window and what is before it, whoever gets how much of it.
	writeLimitTree(t, up, limit*(seconds+10)/5)
	small := filepath.Join(t.TempDir(), "small")
	writeLimitTree(t, small, 16<<20)
	rsync := startMeter(t, strings.TrimSuffix(strings.TrimPrefix(rsynctest.Serve(t, up), "rsync://"), "/m/"))
	web := startMeter(t, strings.TrimSuffix(strings.TrimPrefix(nginxtest.Serve(t, up), "http://"), "/"))

	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	clients := run(t, "mirror", "token", "ops", "--out", token)
	text := fmt.Sprintf("[mirror]\ndirectory = %q\n[mirror.rsync]\nany-version = true\n[mirror.limits]\nreserve = \"1MB\"\nsyncs = 10\nbandwidth = \"%dB/s\"\n%s\n",
		filepath.Join(dir, "data"), limit, clients)
	project := func(name, url string) {
		text += fmt.Sprintf("[mirror.projects.%s]\nkind = \"plain\"\nschedule = \"never\"\nupstreams = [%q]\n", name, url)
	}
	project("served", rsynctest.Serve(t, small))
	for i := range 10 {
		url := "rsync://" + rsync.addr + "/m/"
		if i%2 == 1 {
			url = "http://" + web.addr + "/"
		}
		project(fmt.Sprintf("p%d", i), url)
	}
	file := filepath.Join(dir, "mirror.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listen, admin := freeAddr(t), freeAddr(t)
	p := start(t, "mirror", "-c", file, "--listen", listen, "--admin", admin)
	p.waitReady(admin)
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	api := mirrorapi.Client{Base: "http://" + admin, Token: strings.TrimSpace(string(secret))}
	order := func(ctx context.Context, name string) {
		for e, err := range api.SyncWaiting(ctx, name, mirrorapi.SyncRequest{}) {
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case e.Report != nil && ctx.Err() == nil && e.Report.Result != mirrorapi.Published:
				t.Errorf("%s: %s, %s", name, e.Report.Result, e.Report.Message)
			}
		}
	}
	order(t.Context(), "served")
	ctx, cancel := context.WithCancel(t.Context())
	var syncs sync.WaitGroup
	defer syncs.Wait()
	defer cancel()
	for i := range 10 {
		syncs.Go(func() { order(ctx, fmt.Sprintf("p%d", i)) })
	}
	var served atomic.Int64
	syncs.Go(func() { download(ctx, t, "http://"+listen+"/served/0.bin", &served) })
	for rsync.sent.Load() < limit || web.sent.Load() < limit { // all are at it
		time.Sleep(10 * time.Millisecond)
	}
	fromRsync, fromWeb, toClients, began := rsync.sent.Load(), web.sent.Load(), served.Load(), time.Now()
	time.Sleep(window)
	fromRsync, fromWeb, toClients = rsync.sent.Load()-fromRsync, web.sent.Load()-fromWeb, served.Load()-toClients
	took := time.Since(began)
	cancel()
	share := float64(fromRsync+fromWeb) / took.Seconds() / limit
	t.Attr("limit", fmt.Sprintf("%.3f of it over %.0f s: %d MB by rsync, %d MB by HTTP; %d MB were served", share, took.Seconds(), fromRsync/1e6, fromWeb/1e6, toClients/1e6))
	switch {
	case os.Getenv(figuresEnv) == "":
		if share > 1.25 { // a busy machine only makes it slower
			t.Errorf("they have received %.3f of the limit", share)
		}
	case share < 0.95 || share > 1.05:
		t.Errorf("they have received %.3f of the limit", share)
	case float64(toClients)/took.Seconds() < 2*limit:
		t.Errorf("a client has got %d bytes in %v, as if there was a limit for it", toClients, took)
	}
}

// writeLimitTree writes files of a megabyte, so many bytes in all.
func writeLimitTree(t *testing.T, dir string, bytes int64) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{1})
	old := time.Unix(1_700_000_000, 0)
	for i := range bytes >> 20 {
		_, _ = random.Read(data)
		name := filepath.Join(dir, fmt.Sprintf("%d.bin", i))
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// download fetches a file again and again, and counts its bytes.
func download(ctx context.Context, t *testing.T, url string, n *atomic.Int64) {
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		_, _ = io.Copy(counted{io.Discard, n}, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, resp.Status)
			return
		}
	}
}
