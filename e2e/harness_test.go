// Package e2e runs the built binary with the real clients: flatpak, ostree and
// dnf, as a user has them, through kill -9 and bad input.
package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
)

// patience bounds every wait for something that should happen soon, on a machine that
// does much else too.
const patience = 3 * time.Minute

// buildPatience bounds a build of the binary, from nothing.
const buildPatience = 10 * time.Minute

// figuresEnv, when set, has times compared with the figures that are promised. It
// is for a machine that does nothing else (make edge-acceptance); on a busy one
// the same tests ask only that it happens.
const figuresEnv = "FRESHET_FIGURES"

// promised is how long something may take whose figure is promised.
func promised(figure time.Duration) time.Duration {
	if os.Getenv(figuresEnv) == "" {
		return patience
	}
	return figure
}

// freshet returns the path of the binary, built once.
func freshet(t testing.TB) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildOnce builds the binary as it is released: static, without cgo.
var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "freshet-e2e-")
	if err != nil {
		return "", err
	}
	binDir = dir
	path := filepath.Join(dir, "freshet")
	ctx, cancel := context.WithTimeout(context.Background(), buildPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "freshet/cmd/freshet")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// binDir is removed by TestMain.
var binDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if binDir != "" {
		_ = os.RemoveAll(binDir)
	}
	os.Exit(code)
}

// process is a running freshet.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; read after done

	mu    sync.Mutex
	lines []string // of standard output and standard error
	grew  chan struct{}
}

// start runs freshet with the arguments. It is killed when the test ends.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(freshet(t), args...), done: make(chan struct{}), grew: make(chan struct{}, 1)}
	pr, pw := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = pw, pw
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(pr)
	go func() {
		p.err = p.cmd.Wait()
		_ = pw.Close()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of freshet %s:\n%s", strings.Join(args, " "), p.tail(60))
		}
	})
	return p
}

func (p *process) read(r io.Reader) {
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scan.Text())
		p.mu.Unlock()
		select {
		case p.grew <- struct{}{}:
		default:
		}
	}
}

// all is what it has said so far, line by line.
func (p *process) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

func (p *process) tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(0, len(p.lines)-n):], "\n")
}

// waitLine waits for a line for which ok is true.
func (p *process) waitLine(what string, ok func(line string) bool) string {
	p.t.Helper()
	timeout := time.After(patience)
	seen := 0
	for {
		p.mu.Lock()
		fresh := p.lines[seen:]
		seen = len(p.lines)
		p.mu.Unlock()
		for _, line := range fresh {
			if ok(line) {
				return line
			}
		}
		select {
		case <-p.grew:
		case <-p.done:
			p.t.Fatalf("ended while waiting for %s: %v\n%s", what, p.err, p.tail(30))
		case <-timeout:
			p.t.Fatalf("no %s after %v:\n%s", what, patience, p.tail(30))
		}
	}
}

// kill ends the process as a power cut does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process as an operator does, and checks that it ends cleanly.
func (p *process) stop(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("still running %v after %v:\n%s", patience, sig, p.tail(30))
	}
	if p.err != nil {
		p.t.Errorf("stopped by %v with %v:\n%s", sig, p.err, p.tail(30))
	}
}

// run runs freshet to its end and returns what it printed on standard output.
func run(t testing.TB, args ...string) string {
	t.Helper()
	out, errOut, err := tryRun(t, args...)
	if err != nil {
		t.Fatalf("freshet %s: %v\n%s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}

func tryRun(t testing.TB, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, freshet(t), args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// parallel lets a test run beside others, unless times are compared with figures.
func parallel(t *testing.T) {
	t.Helper()
	if os.Getenv(figuresEnv) == "" {
		t.Parallel()
	}
}

// freeAddr is where a program can be told to listen.
func freeAddr(t testing.TB) string {
	t.Helper()
	return peertest.FreeAddr(t)
}

// waitReady waits until the admin listener says that all roles serve.
func (p *process) waitReady(admin string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		resp, err := http.Get("http://" + admin + "/-/ready")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-p.done:
			p.t.Fatalf("ended before it was ready: %v\n%s", p.err, p.tail(30))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not ready after %v:\n%s", patience, p.tail(30))
		}
	}
}

// hubServer is a running hub.
type hubServer struct {
	*process
	dir, url, admin, token string
}

// startHub starts a hub on dir, at addr or anywhere when that is empty, with
// extra flags.
func startHub(t testing.TB, dir, addr, baseURL string, flags ...string) *hubServer {
	t.Helper()
	if addr == "" {
		addr = freeAddr(t)
	}
	h := &hubServer{dir: dir, url: "http://" + addr, admin: freeAddr(t)}
	if baseURL == "" {
		baseURL = h.url
	}
	args := append([]string{"hub", "--dir", dir, "--listen", addr, "--base-url", baseURL, "--admin", h.admin, "--log-level", "warn"}, flags...)
	h.process = start(t, args...)
	h.waitReady(h.admin)
	h.token = strings.TrimSpace(run(t, "token", "create", "--dir", dir, "--name", "e2e"))
	return h
}

// edgeServer is a running edge.
type edgeServer struct {
	*process
	url, admin string
}

func startEdge(t testing.TB, store, addr, origin string, flags ...string) *edgeServer {
	t.Helper()
	if addr == "" {
		addr = freeAddr(t)
	}
	e := &edgeServer{url: "http://" + addr, admin: freeAddr(t)}
	args := append([]string{"edge", "--origin", origin, "--store", store, "--listen", addr, "--admin", e.admin, "--log-level", "warn"}, flags...)
	e.process = start(t, args...)
	e.waitReady(e.admin)
	return e
}

// get fetches a URL and returns its body, which must come with the status.
func get(t testing.TB, url string, status int) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	if resp.StatusCode != status {
		t.Fatalf("GET %s: status %d, want %d: %s", url, resp.StatusCode, status, body)
	}
	return body
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// eventually calls try until it returns nil.
func eventually(t testing.TB, what string, limit time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// client is a command run in a home of its own.
type client struct {
	t    testing.TB
	home string
	env  []string
	// limit is how long a program may take before it is killed; 0: some
	// minutes.
	limit time.Duration
}

// newClient returns a user with an empty home: no session bus, no system
// flatpak installation.
func newClient(t testing.TB) *client {
	t.Helper()
	home := t.TempDir()
	runtimeDir := filepath.Join(home, "run")
	if err := os.Mkdir(runtimeDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, home: home, env: []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + home,
		"XDG_DATA_HOME=" + home + "/data", "XDG_CACHE_HOME=" + home + "/cache",
		"XDG_CONFIG_HOME=" + home + "/config", "XDG_RUNTIME_DIR=" + runtimeDir,
		"FLATPAK_USER_DIR=" + home + "/flatpak", "FLATPAK_SYSTEM_DIR=" + home + "/system",
	}}
}

// run runs a program to its end; it must succeed.
func (c *client) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// try is run for a program that may fail. What it says goes to a file: through a pipe
// the test would wait for everything that the program has left behind with it.
func (c *client) try(name string, args ...string) (string, error) {
	said, err := os.CreateTemp(c.t.TempDir(), "said")
	if err != nil {
		return "", err
	}
	defer said.Close()
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(c.limit, 5*time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = c.env, c.home
	cmd.Stdout, cmd.Stderr = said, said
	err = cmd.Run()
	out, readErr := os.ReadFile(said.Name())
	return string(out), errors.Join(err, readErr)
}

// onlyInAcceptance leaves out what takes minutes, or a machine of its own, unless figures
// are wanted, as "make mirror-acceptance" and "make mirror-soak" want them.
func onlyInAcceptance(t *testing.T) {
	t.Helper()
	if os.Getenv("FRESHET_FIGURES") == "" && os.Getenv("FRESHET_MIRROR_SOAK") == "" {
		t.Skip("FRESHET_FIGURES=1 runs it")
	}
}
