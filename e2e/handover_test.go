package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// service is a role in the process that serves now: another one after each hand-over.
type service struct {
	t                                *testing.T
	role                             string
	dir, program, config, token      string
	listen, listenTLS, rsyncd, admin string
	whole                            []byte // of the file "large"
	part                             []byte // of the file "small"

	mu   sync.Mutex
	pid  int
	pids []int // all there were
}

// startService starts a mirror that holds a project "p" with two files.
func startService(t *testing.T, large int, more string) *service {
	t.Helper()
	peertest.Require(t, "rsync", "openssl")
	dir := t.TempDir()
	s := &service{
		t: t, role: "mirror", dir: dir, program: filepath.Join(dir, "freshet"), config: filepath.Join(dir, "mirror.toml"), token: filepath.Join(dir, "token"),
		listen: freeAddr(t), listenTLS: freeAddr(t), rsyncd: freeAddr(t), admin: freeAddr(t),
		whole: make([]byte, large), part: make([]byte, 200<<10),
	}
	s.install(freshet(t))
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(s.whole)
	_, _ = random.Read(s.part)
	tree := filepath.Join(dir, "tree")
	for name, data := range map[string][]byte{"large": s.whole, "small": s.part} {
		if err := errors.Join(os.MkdirAll(tree, 0o755), os.WriteFile(filepath.Join(tree, name), data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	s.certify()
	text := fmt.Sprintf(`[handover]
drain = "10m"
%s
[admin]
listen = %q
[mirror]
directory = %q
listen = %q
listen-tls = %q
[[mirror.tls.certificates]]
cert = %q
key = %q
[mirror.rsync]
any-version = true
[mirror.limits]
reserve = "1MB"
[mirror.rsyncd]
listen = %q
[mirror.projects.p]
kind = "plain"
upstreams = [%q]
schedule = "never"
%s`, more, s.admin, filepath.Join(dir, "data"), s.listen, s.listenTLS, dir+"/cert.pem", dir+"/key.pem", s.rsyncd, rsynctest.Serve(t, tree), run(t, "mirror", "token", "ops", "--out", s.token))
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	if out, errOut, err := tryRun(t, "mirror", "sync", "p", "--admin", s.admin, "--token-file", s.token); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, errOut)
	}
	return s
}

// certify makes a certificate.
func (s *service) certify() {
	s.t.Helper()
	if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=localhost", "-keyout", s.dir+"/key.pem", "-out", s.dir+"/cert.pem").CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}

// install puts a program where the service is started from, as a package manager does.
func (s *service) install(program string) {
	s.t.Helper()
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(s.program+".new", data, 0o755)
	}
	if err = errors.Join(err, os.Rename(s.program+".new", s.program)); err != nil {
		s.t.Fatal(err)
	}
}

// start starts the first process. The others are children of this one here as well.
func (s *service) start() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(s.program, s.role, "-c", s.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.is(cmd.Process.Pid)
	s.t.Cleanup(func() {
		for _, pid := range s.pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			reap(pid)
		}
		if s.t.Failed() {
			out, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Logf("log:\n%s", out[max(0, len(out)-6000):])
		}
	})
	eventually(s.t, "the service is ready", patience, func() error { return s.ready() })
}

func (s *service) ready() error {
	resp, err := http.Get("http://" + s.admin + "/-/ready")
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// is notes which process serves.
func (s *service) is(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = pid
	s.pids = append(s.pids, pid)
}

// reap waits for the end of a process.
func reap(pid int) { _, _ = syscall.Wait4(pid, nil, 0, nil) }

// gone reports whether a process has ended, and reaps it.
func gone(pid int) bool {
	got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return got == pid || errors.Is(err, syscall.ECHILD)
}

var (
	servesPattern = regexp.MustCompile(`process (\d+) serves`)
	readsPattern  = regexp.MustCompile(`process (\d+) reads`)
)

// handOver has the service handed over, and returns what the command says.
func (s *service) handOver() (string, error) {
	out, errOut, err := tryRun(s.t, "handover", strconv.Itoa(s.pid))
	if m := servesPattern.FindStringSubmatch(out); m != nil && err == nil {
		pid, _ := strconv.Atoi(m[1])
		s.is(pid)
	}
	return out + errOut, err
}

// slowly returns a client that takes what it reads in small pieces.
func slowly() *http.Client {
	dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) })
	}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
}

// readSlowly compares a body with what it should be, piece by piece.
func readSlowly(body io.Reader, want []byte, pace time.Duration) error {
	buf := make([]byte, 64<<10)
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for off := 0; ; <-ticker.C {
		n, err := io.ReadFull(body, buf)
		if off+n > len(want) || !bytes.Equal(buf[:n], want[off:off+n]) {
			return fmt.Errorf("other bytes at %d", off)
		}
		off += n
		switch {
		case err != nil && off == len(want):
			return nil
		case err != nil:
			return fmt.Errorf("cut at %d: %w", off, err)
		}
	}
}

// fetchFrom gets a file, from an offset on.
func fetchFrom(c *http.Client, url, version string, from int) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		req.Header.Set("If-Range", version)
		want = http.StatusPartialContent
	}
	resp, err := c.Do(req)
	if err == nil && resp.StatusCode != want {
		_ = resp.Body.Close()
		err = errors.New(resp.Status)
	}
	return resp, err
}

// Upgrades in a row while many download, by all ways there are: nobody is refused, no
// transfer is cut, every byte is right, and of the old processes nothing is left. In the
// acceptance of mirrors they are hundreds.
func TestHandover(t *testing.T) {
	parallel(t)
	rounds, few := 2, 10
	if os.Getenv("FRESHET_FIGURES") != "" {
		rounds, few = 5, 1
	}
	s := startService(t, 6<<20, "")
	url := "http://" + s.listen + "/p/"
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var users sync.WaitGroup
	var transfers, failures atomic.Int64
	fail := func(who string, err error) {
		if failures.Add(1) < 20 {
			t.Errorf("%s: %v", who, err)
		}
	}
	// again runs one transfer after the other, until ctx ends.
	again := func(who string, users *sync.WaitGroup, n int, transfer func(c *http.Client) error, c func() *http.Client) {
		for range max(n/few, 1) {
			users.Go(func() {
				c := c()
				defer c.CloseIdleConnections()
				for ctx.Err() == nil {
					if err := transfer(c); err != nil {
						fail(who, err)
						return
					}
					transfers.Add(1)
				}
			})
		}
	}
	small := func(from string) func(c *http.Client) error {
		return func(c *http.Client) error {
			resp, err := fetchFrom(c, from+"small", "", 0)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err == nil && !bytes.Equal(got, s.part) {
				err = errors.New("other bytes")
			}
			return err
		}
	}
	insecure := &tls.Config{InsecureSkipVerify: true}
	again("slow", &users, 120, func(c *http.Client) error {
		resp, err := fetchFrom(c, url+"large", "", 0)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return readSlowly(resp.Body, s.whole, 40*time.Millisecond)
	}, slowly)
	again("new connections", &users, 20, small(url), func() *http.Client {
		return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	})
	again("kept connections", &users, 10, small(url), func() *http.Client { return &http.Client{Transport: new(http.Transport)} })
	again("TLS", &users, 10, small("https://"+s.listenTLS+"/p/"), func() *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: insecure.Clone(), DisableKeepAlives: true}}
	})
	again("HTTP/2", &users, 10, small("https://"+s.listenTLS+"/p/"), func() *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true}}
	})
	again("HTTP/2, slow", &users, 10, func(c *http.Client) error {
		resp, err := fetchFrom(c, "https://"+s.listenTLS+"/p/large", "", 0)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return readSlowly(resp.Body, s.whole, 20*time.Millisecond)
	}, func() *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true}}
	})
	again("ranges", &users, 10, func(c *http.Client) error {
		resp, err := fetchFrom(c, url+"large", "", 0)
		if err != nil {
			return err
		}
		half := len(s.whole) / 2
		got := make([]byte, half)
		_, err = io.ReadFull(resp.Body, got)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		if resp, err = fetchFrom(c, url+"large", resp.Header.Get("ETag"), half); err != nil {
			return err
		}
		defer resp.Body.Close()
		rest, err := io.ReadAll(resp.Body)
		if err == nil && !bytes.Equal(append(got, rest...), s.whole) {
			err = errors.New("other bytes")
		}
		return err
	}, func() *http.Client { return &http.Client{Transport: new(http.Transport)} })
	for i := range max(4/few, 1) {
		users.Go(func() {
			for ctx.Err() == nil {
				to := filepath.Join(s.dir, fmt.Sprintf("got%d", i))
				_ = os.RemoveAll(to)
				if out, err := exec.Command("rsync", "-a", "--bwlimit=4M", "rsync://"+s.rsyncd+"/p/", to).CombinedOutput(); err != nil {
					fail("rsync", fmt.Errorf("%w\n%s", err, out))
					return
				}
				if got, err := os.ReadFile(filepath.Join(to, "large")); err != nil || !bytes.Equal(got, s.whole) {
					fail("rsync", fmt.Errorf("other bytes: %w", err))
					return
				}
				transfers.Add(1)
			}
		})
	}
	for range rounds {
		before := transfers.Load()
		eventually(t, "transfers take place", patience, func() error {
			if failures.Load() == 0 && transfers.Load() < before+60/int64(few) {
				return errors.New("too few")
			}
			return nil
		})
		s.install(freshet(t))
		out, err := s.handOver()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Log(out)
	}
	stop()
	users.Wait()
	t.Logf("%d transfers, %d failures", transfers.Load(), failures.Load())
	for _, pid := range s.pids[:len(s.pids)-1] {
		eventually(t, "an old process ends", patience, func() error {
			if !gone(pid) {
				return fmt.Errorf("%d is still there", pid)
			}
			return nil
		})
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil || len(fds) > 100 {
		t.Errorf("the process that serves has %d descriptors open: %v", len(fds), err)
	}
}

// Whatever fails while a mirror is handed over, it is served from: by the old process, or
// the new one.
func TestHandoverFails(t *testing.T) {
	onlyInAcceptance(t)
	parallel(t)
	s := startService(t, 16<<20, `start = "5s"`)
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what, why string) {
		t.Helper()
		pid := s.pid
		out, err := s.handOver()
		if err == nil || !strings.Contains(out, why) {
			t.Errorf("%s: %v, want a word of %q:\n%s", what, err, why, out)
		}
		if s.pid != pid {
			t.Errorf("%s: process %d serves, and not %d", what, s.pid, pid)
		}
		s.serves(what)
	}
	slow := s.download()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(string(good) + "\n[mirror.nothing]\n")
	refused("a wrong setting", "nothing")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	write(strings.ReplaceAll(string(good), s.listenTLS, taken.Addr().String()))
	refused("an address that is taken", "address already in use")
	write(string(good))
	for what, script := range map[string]string{"it crashes": "#!/bin/sh\nkill -9 $$\n", "it is silent": "#!/bin/sh\nexec sleep 600\n", "it is none": "not a program"} {
		path := filepath.Join(s.dir, "broken")
		if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		s.install(path)
		why := map[string]string{"it crashes": "ended before", "it is silent": `did not say "prepared"`, "it is none": "exec format"}[what]
		refused(what, why)
	}
	s.install(freshet(t))
	slow.is("through failures", nil)

	slow = s.download()
	old := s.pid
	if out, err := s.handOver(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if gone(old) {
		t.Fatal("the old process did not wait for a transfer")
	}
	_ = syscall.Kill(old, syscall.SIGKILL)
	reap(old)
	if err := <-slow.done; err == nil {
		t.Error("a transfer outlived its process")
	}
	s.serves("the old process was killed")

	// Two at once: one is done, the other is told, or done after it.
	var both sync.WaitGroup
	var done, told atomic.Int64
	for range 2 {
		pid := s.pid
		both.Go(func() {
			out, errOut, err := tryRun(t, "handover", strconv.Itoa(pid))
			switch m := servesPattern.FindStringSubmatch(out); {
			case err == nil && m != nil:
				done.Add(1)
				next, _ := strconv.Atoi(m[1])
				s.is(next)
			case strings.Contains(errOut, "under way") || strings.Contains(errOut, "takes no orders"):
				told.Add(1)
			default:
				t.Errorf("%v\n%s%s", err, out, errOut)
			}
		})
	}
	both.Wait()
	if done.Load() != 1 || told.Load() != 1 {
		t.Errorf("two orders at once: %d done, %d refused", done.Load(), told.Load())
	}
	s.serves("two at once")
}

// A process that could not hand over goes on with the newest configuration that works, and
// not with one that it has only read.
func TestHandoverFailsAfterReload(t *testing.T) {
	parallel(t)
	s := startService(t, 64<<10, "")
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "photos"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	more := string(good) + "[mirror.projects.q]\nkind = \"plain\"\nupstreams = [\"http://127.0.0.1:1/\"]\nschedule = \"never\"\n"
	for _, read := range []struct{ text, says string }{
		{more, "settings were read anew"},
		{strings.ReplaceAll(more, filepath.Join(s.dir, "data"), other), "taken over at the next start only"},
	} {
		if err := os.WriteFile(s.config, []byte(read.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(s.pid, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, read.says, patience, func() error {
			log, err := os.ReadFile(filepath.Join(s.dir, "log"))
			if err == nil && !bytes.Contains(log, []byte(read.says)) {
				err = errors.New("the log does not say so")
			}
			return err
		})
	}
	pid := s.pid
	if out, err := s.handOver(); err == nil || s.pid != pid {
		t.Fatalf("it is handed over: %v\n%s", err, out)
	}
	s.serves("a folder of somebody else, read at SIGHUP")
	get(t, "http://"+s.listen+"/q/", http.StatusServiceUnavailable) // of the one before that
}

// The new process is killed at any moment, and then the old one.
func TestHandoverKilled(t *testing.T) {
	onlyInAcceptance(t)
	parallel(t)
	s := startService(t, 1<<20, "")
	random := rand.New(rand.NewPCG(1, 2))
	survived := 0
	for i := range 12 {
		victim := i%4 == 3 // the old one
		cmd := exec.Command(freshet(t), "handover", strconv.Itoa(s.pid))
		var out bytes.Buffer
		cmd.Stdout = &out
		errs, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 256)
		n, _ := errs.Read(buf)
		m := readsPattern.FindSubmatch(buf[:n])
		if m == nil {
			t.Fatalf("the command said %q", buf[:n])
		}
		heir, _ := strconv.Atoi(string(m[1]))
		<-time.After(time.Duration(random.IntN(120)) * time.Millisecond)
		old := s.pid
		if victim {
			_ = syscall.Kill(old, syscall.SIGKILL)
			s.is(heir)
			go func() { _, _ = io.Copy(io.Discard, errs) }()
			_ = cmd.Wait()
			reap(old)
			s.serves("the old process was killed")
			eventually(t, "the new process takes orders", patience, func() error {
				_, err := net.Dial("unix", fmt.Sprintf("@freshet/%d", heir))
				return err
			})
			continue
		}
		_ = syscall.Kill(heir, syscall.SIGKILL)
		_, _ = io.Copy(&out, errs)
		if err := cmd.Wait(); err == nil {
			// It had taken over before: nobody is left, as after any kill.
			reap(heir)
			eventually(t, "the old process ends", patience, func() error {
				if !gone(old) {
					return errors.New("it is there")
				}
				return nil
			})
			s.start()
		} else {
			survived++
			reap(heir)
			s.serves("the new process was killed: " + out.String())
		}
	}
	t.Logf("%d kills of the new process that the old one outlived", survived)
	if survived == 0 {
		t.Error("no kill came in time")
	}
}

// serves checks that the project is served, over a new connection.
func (s *service) serves(after string) {
	s.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := fetchFrom(c, "http://"+s.listen+"/p/large", "", 0)
	if err != nil {
		s.t.Fatalf("%s: %v", after, err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, s.whole) {
		s.t.Fatalf("%s: other bytes, %v", after, err)
	}
}

// slowDownload is a download that goes on for a while.
type slowDownload struct {
	t    *testing.T
	done chan error
}

// download begins a download, and has its first bytes.
func (s *service) download() *slowDownload {
	s.t.Helper()
	resp, err := fetchFrom(slowly(), "http://"+s.listen+"/p/large", "", 0)
	if err != nil {
		s.t.Fatal(err)
	}
	d := &slowDownload{s.t, make(chan error, 1)}
	go func() {
		defer resp.Body.Close()
		head := make([]byte, 1000)
		_, err := io.ReadFull(resp.Body, head)
		if err != nil || !bytes.Equal(head, s.whole[:1000]) {
			d.done <- fmt.Errorf("the beginning: %w", err)
			return
		}
		<-time.After(3 * time.Second)
		d.done <- readSlowly(resp.Body, s.whole[1000:], time.Millisecond)
	}()
	return d
}

// is checks how the download ends.
func (d *slowDownload) is(what string, want error) {
	d.t.Helper()
	if err := <-d.done; !errors.Is(err, want) {
		d.t.Errorf("%s: %v", what, err)
	}
}
