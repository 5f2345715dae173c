package rsyncd_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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
	_, url, current, metrics = serveModule(t, cfg, nil)
	return url, current, metrics
}

// serveModule is serve with what tells whether the project is away, and returns the server.
func serveModule(t *testing.T, cfg rsyncd.Config, away func() rsyncd.Absence) (s *rsyncd.Server, url, current string, metrics *prometheus.Registry) {
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
	s, err = rsyncd.New(cfg, []rsyncd.Module{{Name: "epel", Path: current + "/tree", Away: away}}, program, state, env)
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
	return s, "rsync://" + ln.Addr().String() + "/", current, metrics
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
	s, url, _, _ := serveModule(t, rsyncd.Config{Connections: 1}, nil)
	s.Yields(time.Hour)
	held := silent(t, url)
	out, err := peertest.Try(t, t.TempDir(), nil, "rsync", url)
	if err == nil || !strings.Contains(err.Error(), "max connections (1") {
		t.Errorf("%v\n%s", err, out)
	}
	_ = held.Close()
}

// silent connects, and says nothing.
func silent(t *testing.T, url string) net.Conn {
	t.Helper()
	held, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "rsync://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })
	buf := make([]byte, 8)
	if _, err := held.Read(buf); err != nil || string(buf) != "@RSYNCD:" {
		t.Fatalf("%q, %v", buf, err)
	}
	return held
}

// A client that says nothing keeps nobody else out. What serves it leaves the processor to
// everybody else.
func TestSilent(t *testing.T) {
	s, url, _, metrics := serveModule(t, rsyncd.Config{Connections: 1}, nil)
	s.Yields(0)
	held := silent(t, url)
	const idle = "5" // SCHED_IDLE
	for deadline := time.Now().Add(time.Minute); policies(t) != idle; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("rsync runs with the policies %q", policies(t))
		}
	}
	out, err := peertest.Try(t, t.TempDir(), nil, "rsync", "-r", "--list-only", url+"epel/")
	if err != nil || !strings.Contains(string(out), "sub/x.iso") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := io.Copy(io.Discard, held); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	for deadline := time.Now().Add(time.Minute); sessions(t, metrics, "silent") != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not counted as silent")
		}
	}
}

// policies are how the children of this process are scheduled.
func policies(t *testing.T) string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may have ended
		for child := range strings.FieldsSeq(string(text)) {
			stat, _ := os.ReadFile("/proc/" + child + "/stat")
			if _, fields, ok := strings.Cut(string(stat), ") "); ok {
				found = append(found, strings.Fields(fields)[41-3]) // proc(5): policy is the 41st, the state the third
			}
		}
	}
	return strings.Join(found, " ")
}

// sessions is how many of them ended for a reason.
func sessions(t *testing.T, metrics *prometheus.Registry, reason string) (n float64) {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "freshet_mirror_rsync_sessions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" && l.GetValue() == reason {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// A project that is not there yet is said to be so, and is there as soon as it is.
func TestAway(t *testing.T) {
	var there atomic.Bool
	_, url, _, metrics := serveModule(t, rsyncd.Config{}, func() rsyncd.Absence {
		if there.Load() {
			return rsyncd.Absence{}
		}
		return rsyncd.Absence{Reason: "not-synced", Why: "not here yet"}
	})
	if out, err := peertest.Try(t, t.TempDir(), nil, "rsync", url); err != nil || !strings.Contains(string(out), "not here yet") {
		t.Errorf("the list of modules: %v\n%s", err, out)
	}
	out, err := peertest.Try(t, t.TempDir(), nil, "rsync", "-r", url+"epel/")
	if err == nil || !strings.Contains(err.Error(), "try again later") {
		t.Errorf("%v\n%s", err, out)
	}
	for deadline := time.Now().Add(time.Minute); sessions(t, metrics, "not-synced") != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not counted")
		}
	}
	there.Store(true)
	if out, err := peertest.Try(t, t.TempDir(), nil, "rsync", "-r", "--list-only", url+"epel/"); err != nil || !strings.Contains(string(out), "sub/x.iso") {
		t.Errorf("afterwards: %v\n%s", err, out)
	}
	if out, err := peertest.Try(t, t.TempDir(), nil, "rsync", url); err != nil || strings.Contains(string(out), "not here yet") {
		t.Errorf("the list of modules afterwards: %v\n%s", err, out)
	}
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
