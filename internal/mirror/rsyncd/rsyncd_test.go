package rsyncd_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/durable"
	"freshet/internal/mirror/rsyncd"
	"freshet/internal/peertest"
	"freshet/internal/ramtest"
	"freshet/internal/role"
	"freshet/internal/rsync"
)

func TestMain(m *testing.M) { os.Exit(ramtest.Run(m)) }

// serve serves a tree with two generations, and returns the URL of its module, the link
// that says which is current, and the metrics.
func serve(t *testing.T, cfg rsyncd.Config) (url, current string, metrics *prometheus.Registry) {
	t.Helper()
	peertest.Require(t, "rsync")
	program, err := rsync.Find(t.Context(), rsync.Options{AnyVersion: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for dir := dir; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755) // rsync is nobody when we are root
	}
	for path, text := range map[string]string{
		"1/tree/old": "old", "1/tree/a:b %#? \n\xff": "odd", "1/tree/sub/x.iso": strings.Repeat("x", 100_000), "1/tree/sub/y.rpm": "y",
		"2/tree/new": "new",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "1/tree/out")); err != nil {
		t.Fatal(err)
	}
	current = filepath.Join(dir, "current")
	if err := os.Symlink("1", current); err != nil {
		t.Fatal(err)
	}
	state, err := durable.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = state.Root.Close() })
	metrics = prometheus.NewRegistry()
	env := role.Env{Log: slog.New(slog.DiscardHandler), Metrics: metrics}.WithDefaults()
	s, err := rsyncd.New(cfg, []rsyncd.Module{{Name: "epel", Path: current + "/tree"}}, program, state, env)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "rsync://" + ln.Addr().String() + "/", current, metrics
}

func TestClients(t *testing.T) {
	url, current, metrics := serve(t, rsyncd.Config{Message: "hello"})
	run := func(args ...string) string {
		t.Helper()
		out, err := peertest.Try(t, t.TempDir(), nil, "rsync", args...)
		if err != nil {
			t.Errorf("rsync %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := run(url); !strings.Contains(out, "epel") || !strings.Contains(out, "hello") {
		t.Errorf("list of modules: %s", out)
	}
	if out := run("--list-only", "-r", url+"epel/"); !strings.Contains(out, "sub/x.iso") || strings.Contains(out, "passwd") {
		t.Errorf("listing: %s", out)
	}
	got := t.TempDir()
	run("-aH", "--delay-updates", "--delete-delay", "--exclude=*.iso", url+"epel/", got)
	for name, there := range map[string]bool{"old": true, "sub/y.rpm": true, "sub/x.iso": false, "a:b %#? \n\xff": true} {
		if _, err := os.Stat(filepath.Join(got, name)); (err == nil) != there {
			t.Errorf("%q: %v, want it there: %v", name, err, there)
		}
	}
	run("-an", url+"epel/", got)
	run("-az", url+"epel/", t.TempDir())
	if out, err := peertest.Try(t, got, nil, "rsync", "-ac", url+"epel/", "."); err == nil || !strings.Contains(err.Error(), "refuse --checksum") {
		t.Errorf("checksums: %v\n%s", err, out)
	}
	if out, err := peertest.Try(t, got, nil, "rsync", "-a", url+"none/", "."); err == nil {
		t.Errorf("a module that is none: %s", out)
	}
	if out, err := peertest.Try(t, got, nil, "rsync", "-a", "old", url+"epel/"); err == nil {
		t.Errorf("it was written to: %s", out)
	}
	if out, err := peertest.Try(t, got, nil, "rsync", "-a", url+"epel/out/passwd", "."); err == nil {
		t.Errorf("a link leads out: %s", out)
	}
	if err := os.Remove(current); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("2", current); err != nil {
		t.Fatal(err)
	}
	run("-a", "--delete", url+"epel/", got)
	if _, err := os.Stat(filepath.Join(got, "new")); err != nil {
		t.Error(err)
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "freshet_mirror_rsync_bytes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if label := m.GetLabel(); label[0].GetValue() == "sent" && label[1].GetValue() == "epel" && m.GetCounter().GetValue() < 1000 {
				t.Errorf("%v bytes sent", m.GetCounter().GetValue())
			}
		}
	}
}

// A client that comes when there are too many is told so by rsync's own means.
func TestTooMany(t *testing.T) {
	url, _, _ := serve(t, rsyncd.Config{Connections: 1})
	addr := strings.TrimSuffix(strings.TrimPrefix(url, "rsync://"), "/")
	held, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	if _, err := held.Read(buf); err != nil || string(buf) != "@RSYNCD:" {
		t.Fatalf("%q, %v", buf, err)
	}
	out, err := peertest.Try(t, t.TempDir(), nil, "rsync", url)
	if err == nil || !strings.Contains(err.Error(), "max connections (1") {
		t.Errorf("%v\n%s", err, out)
	}
	_ = held.Close()
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]rsyncd.Config{
		"address": {Listen: "nowhere"}, "number": {Connections: -1}, "message": {Message: "\x1b[0m"},
	} {
		if len(c.Validate()) != 1 {
			t.Errorf("%s: %v", name, c.Validate())
		}
	}
	if p := (rsyncd.Config{Listen: ":873"}).Validate(); p != nil {
		t.Error(p)
	}
}
