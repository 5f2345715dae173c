package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// rsyncClientsEnv lists programs of rsync, with colons between them, that are run as clients
// of a mirror beside the system's.
const rsyncClientsEnv = "FRESHET_RSYNC_CLIENTS"

// servingBox is a mirror that serves a project over HTTP, HTTPS and rsync.
type servingBox struct {
	*process
	http, https, rsync string // addresses
	data               string
}

const (
	largeFiles, largeSize = 32, 1 << 20
	smallFiles, smallSize = 2000, 2000
)

func startServing(t *testing.T) *servingBox {
	t.Helper()
	dir := t.TempDir()
	up := filepath.Join(dir, "up")
	for i := range largeFiles {
		writeTree(t, filepath.Join(up, fmt.Sprintf("large/%02d.rpm", i)), bytes.Repeat([]byte{byte(i), 1, 2, 3}, largeSize/4))
	}
	for i := range smallFiles {
		writeTree(t, filepath.Join(up, fmt.Sprintf("small/%d/%04d.rpm", i%20, i)), bytes.Repeat([]byte{byte(i)}, smallSize))
	}
	writeTree(t, filepath.Join(up, "odd/a:b % #?\n é.txt"), []byte("odd"))
	writeTree(t, filepath.Join(up, "odd/.~tmp~/half"), []byte("half"))
	writeTree(t, filepath.Join(up, "odd/x.iso"), []byte("iso"))
	for name, to := range map[string]string{"latest": "large", "dangling": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(up, name)); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := writeServingPair(t, dir)
	b := &servingBox{http: freeAddr(t), https: freeAddr(t), rsync: freeAddr(t), data: filepath.Join(dir, "data")}
	admin, config, token := freeAddr(t), filepath.Join(dir, "mirror.toml"), filepath.Join(dir, "token")
	clients := run(t, "mirror", "token", "ops", "--out", token)
	text := fmt.Sprintf(`[mirror]
directory = %q
listen = %q
listen-tls = %q
[[mirror.tls.certificates]]
cert = %q
key = %q
[mirror.rsync]
any-version = true
[mirror.rsyncd]
listen = %q
connections = 200
connections-per-address = 200
[mirror.limits]
reserve = "1MB"
[mirror.projects.p]
kind = "plain"
upstreams = [%q]
schedule = "never"
%s`, b.data, b.http, b.https, cert, key, b.rsync, rsynctest.Serve(t, up), clients)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // rsync becomes nobody
		for top := dir; len(top) > len(os.TempDir()); top = filepath.Dir(top) {
			_ = os.Chmod(top, 0o755)
		}
	}
	b.process = start(t, "mirror", "-c", config, "--admin", admin)
	b.waitReady(admin)
	run(t, "mirror", "sync", "p", "--admin", admin, "--token-file", token)
	return b
}

func writeTree(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeServingPair writes a certificate for 127.0.0.1 that nobody has signed.
func writeServingPair(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mirror"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, dir, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: secret})
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// cpu is the processor time that the process has taken.
func (b *servingBox) cpu() time.Duration {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks int64
	for _, field := range strings.Fields(rest)[11:13] { // utime, stime; proc_pid_stat(5)
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // of USER_HZ, which is 100
}

// resident is the memory of the process in bytes.
func (b *servingBox) resident() int64 {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return n << 10
}

// readWhole reads a file and returns how long it took.
func readWhole(client *http.Client, url string, size int64) (time.Duration, error) {
	begun := time.Now()
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err == nil && (n != size || resp.StatusCode != http.StatusOK) {
		err = fmt.Errorf("%s: %s with %d bytes, want %d", url, resp.Status, n, size)
	}
	return time.Since(begun), err
}

// paced calls do so many times a second, from as many goroutines, until the time is over,
// and returns how often it did.
func paced(t *testing.T, perSecond, workers int, lasts time.Duration, do func(i int) error) int {
	t.Helper()
	var clients sync.WaitGroup
	n := int(lasts.Seconds() * float64(perSecond))
	next := make(chan int)
	errs := make(chan error, workers)
	for range workers {
		clients.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					errs <- err
					for range next { // so that who hands them out goes on
					}
				}
			}
		})
	}
	begun := time.Now()
	for i := range n {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		next <- i
	}
	close(next)
	clients.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	return n
}

// What serving costs: 1 Gbit/s of files of 1 MB over TLS, a thousand small requests a second,
// files over HTTP by sendfile, and connections that do nothing.
func TestMirrorServingCost(t *testing.T) {
	peertest.Require(t, "rsync", "strace")
	b := startServing(t)
	lasts := 10 * time.Second
	if testing.Short() || os.Getenv(figuresEnv) == "" {
		lasts = time.Second
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 64,
		DisableCompression: true,
	}}
	defer client.CloseIdleConnections()
	check := func(what string, perSecond int, url func(i int) string, size int64) {
		before, begun := b.cpu(), time.Now()
		n := paced(t, perSecond, 32, lasts, func(i int) error {
			_, err := readWhole(client, url(i), size)
			return err
		})
		took, used := time.Since(begun), b.cpu()-before
		cores := used.Seconds() / took.Seconds()
		t.Attr(strings.ReplaceAll(what, " ", "-"), fmt.Sprintf("%d requests in %.1f s, %.2f cores, %.2f ns of CPU per byte", n, took.Seconds(), cores, float64(used)/float64(int64(n)*size)))
		if os.Getenv(figuresEnv) != "" && (cores > 1 || took > lasts*5/4) {
			t.Errorf("%s: %.2f cores, in %v", what, cores, took)
		}
	}
	large := func(scheme, addr string) func(int) string {
		return func(i int) string { return fmt.Sprintf("%s://%s/p/large/%02d.rpm", scheme, addr, i%largeFiles) }
	}
	check("1 Gbit/s over TLS", 125, large("https", b.https), largeSize)
	check("1 Gbit/s over HTTP", 125, large("http", b.http), largeSize)
	check("1000 small requests a second over TLS", 1000, func(i int) string {
		return fmt.Sprintf("https://%s/p/small/%d/%04d.rpm", b.https, i%smallFiles%20, i%smallFiles)
	}, smallSize)
	sendfile(t, b, large("http", b.http), client)
	idleConnections(t, b)
}

// sendfile looks which system calls move the bytes of files over HTTP.
func sendfile(t *testing.T, b *servingBox, url func(int) string, client *http.Client) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	trace := exec.CommandContext(t.Context(), "strace", "-f", "-q", "-e", "trace=sendfile,write", "-o", log, "-p", strconv.Itoa(b.cmd.Process.Pid))
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "strace does not attach", patience, func() error {
		if _, err := readWhole(client, url(0), largeSize); err != nil {
			return err
		}
		if text, err := os.ReadFile(log); err != nil || len(text) == 0 {
			return fmt.Errorf("nothing is traced: %w", err)
		}
		return nil
	})
	for i := range 8 {
		if _, err := readWhole(client, url(i), largeSize); err != nil {
			t.Fatal(err)
		}
	}
	_ = trace.Process.Signal(syscall.SIGINT)
	_ = trace.Wait() // ended by the signal
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	moved := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		for _, call := range []string{"sendfile", "write"} {
			if !strings.Contains(line, call+"(") && !strings.Contains(line, call+" resumed") {
				continue
			}
			_, result, _ := strings.Cut(line, ") = ")
			if n, err := strconv.ParseInt(strings.Fields(result + " x")[0], 10, 64); err == nil && n > 0 {
				moved[call] += n
			}
		}
	}
	t.Attr("moved-over-http", fmt.Sprintf("%d bytes by sendfile, %d by write", moved["sendfile"], moved["write"]))
	if moved["sendfile"] < 8*largeSize || moved["write"] > largeSize {
		t.Errorf("8 files of %d bytes: %v", largeSize, moved)
	}
}

// idleConnections holds connections that have been answered once.
func idleConnections(t *testing.T, b *servingBox) {
	t.Helper()
	n := 10_000
	if testing.Short() || os.Getenv(figuresEnv) == "" {
		n = 500
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Max < uint64(n)+100 {
		n = max(int(limit.Max)-200, 100)
	}
	held := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	before, buffer := b.resident(), make([]byte, 8<<10)
	for i := range n {
		c, err := net.Dial("tcp", b.http)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		held = append(held, c)
		if _, err := fmt.Fprintf(c, "GET /p/small/0/0000.rpm HTTP/1.1\r\nHost: m\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(buffer); err != nil || !bytes.HasPrefix(buffer[:got], []byte("HTTP/1.1 200")) {
			t.Fatalf("connection %d: %q, %v", i, buffer[:got], err)
		}
	}
	after := b.resident()
	t.Attr("idle-connections", fmt.Sprintf("%d, with %d MB resident (%d before)", n, after>>20, before>>20))
	if after > 300<<20 {
		t.Errorf("%d connections: %d MB", n, after>>20)
	}
}

// A hundred clients of rsync that list all there is do not keep those of HTTP waiting.
// Elsewhere they run on a hundred machines, and take nothing from the mirror: here they
// are as nice as the processes that serve them.
func TestMirrorRsyncLists(t *testing.T) {
	peertest.Require(t, "rsync")
	b := startServing(t)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	lasts := 5 * time.Second
	if testing.Short() || os.Getenv(figuresEnv) == "" {
		lasts = time.Second
	}
	p99 := func() time.Duration {
		var mu sync.Mutex
		var times []time.Duration
		paced(t, 200, 8, lasts, func(i int) error {
			took, err := readWhole(client, fmt.Sprintf("http://%s/p/small/%d/%04d.rpm", b.http, i%smallFiles%20, i%smallFiles), smallSize)
			mu.Lock()
			defer mu.Unlock()
			times = append(times, took)
			return err
		})
		slices.Sort(times)
		if len(times) == 0 {
			return 0
		}
		return times[len(times)*99/100]
	}
	p99() // the files are at hand from now on
	idle := p99()
	done := make(chan struct{})
	var lists sync.WaitGroup
	counts := make(chan int, 100)
	for range 100 {
		lists.Go(func() {
			n := 0
			for ; ; n++ {
				out, err := peertest.Try(t, t.TempDir(), nil, "nice", "-n", "19", "rsync", "-r", "--list-only", "rsync://"+b.rsync+"/p/")
				if err != nil || !bytes.Contains(out, []byte("large/31.rpm")) {
					t.Errorf("list: %v", err)
					break
				}
				select {
				case <-done:
					counts <- n + 1
					return
				default:
				}
			}
			counts <- n
		})
	}
	busy := p99()
	close(done)
	lists.Wait()
	all := 0
	for range 100 {
		all += <-counts
	}
	t.Attr("p99-of-http", fmt.Sprintf("%v, and %v beside 100 clients with %d lists", idle, busy, all))
	if os.Getenv(figuresEnv) != "" && busy > max(2*idle, 20*time.Millisecond) {
		t.Errorf("p99 %v beside lists, %v without", busy, idle)
	}
}

// Clients of rsync, old and new ones, with the options that people use.
func TestMirrorRsyncClients(t *testing.T) {
	peertest.Require(t, "rsync")
	b := startServing(t)
	programs := []string{"rsync"}
	if more := os.Getenv(rsyncClientsEnv); more != "" {
		programs = append(programs, strings.Split(more, ":")...)
	}
	from := "rsync://" + b.rsync + "/p/"
	for _, program := range programs {
		version, _, _ := strings.Cut(string(peertest.Run(t, "", nil, program, "--version")), "\n")
		t.Attr("client", version)
		do := func(args ...string) string {
			t.Helper()
			out, err := peertest.Try(t, t.TempDir(), nil, program, args...)
			if err != nil {
				t.Errorf("%s %q: %v\n%s", version, args, err, out)
			}
			return string(out)
		}
		if out := do("-r", "--list-only", from); !strings.Contains(out, "large/31.rpm") {
			t.Errorf("%s: list: %.500s", version, out)
		}
		copied := t.TempDir()
		do("-aH", "--exclude=*.iso", "--delay-updates", "--delete-delay", from, copied)
		if out, err := peertest.Try(t, copied, nil, "diff", "-r", "--no-dereference", "--exclude=x.iso", ".", filepath.Join(b.data, "projects/p/current/tree")); err != nil {
			t.Errorf("%s: %v\n%s", version, err, out)
		}
		if out := do("-aHn", "--itemize-changes", "--exclude=*.iso", "--delete", from, copied); strings.TrimSpace(out) != "" {
			t.Errorf("%s: a copy that is whole differs: %.500s", version, out)
		}
		list, some := filepath.Join(t.TempDir(), "list"), t.TempDir()
		writeTree(t, list, []byte("large/03.rpm\x00odd/a:b % #?\n é.txt\x00"))
		do("-a", "--from0", "--files-from="+list, from, some)
		found := 0
		_ = filepath.WalkDir(some, func(_ string, d os.DirEntry, _ error) error {
			if d != nil && !d.IsDir() {
				found++
			}
			return nil
		})
		if found != 2 {
			t.Errorf("%s: %d files of a list of 2", version, found)
		}
	}
}
