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
	"sync/atomic"
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
	type load struct {
		perSecond int
		url       func(i int) string
		size      int64
	}
	// check has all loads at once.
	check := func(what string, loads ...load) {
		before, begun := b.cpu(), time.Now()
		var requests, sent atomic.Int64
		var all sync.WaitGroup
		for _, l := range loads {
			all.Go(func() {
				n := paced(t, l.perSecond, 32, lasts, func(i int) error {
					_, err := readWhole(client, l.url(i), l.size)
					return err
				})
				requests.Add(int64(n))
				sent.Add(int64(n) * l.size)
			})
		}
		all.Wait()
		took, used := time.Since(begun), b.cpu()-before
		cores := used.Seconds() / took.Seconds()
		t.Attr(strings.ReplaceAll(what, " ", "-"), fmt.Sprintf("%d requests in %.1f s, %.2f cores, %.2f ns of CPU per byte", requests.Load(), took.Seconds(), cores, float64(used)/float64(sent.Load())))
		if os.Getenv(figuresEnv) != "" && (cores > 1 || took > lasts*5/4) {
			t.Errorf("%s: %.2f cores, in %v", what, cores, took)
		}
	}
	large := func(scheme, addr string) func(int) string {
		return func(i int) string { return fmt.Sprintf("%s://%s/p/large/%02d.rpm", scheme, addr, i%largeFiles) }
	}
	gigabit := load{125, large("https", b.https), largeSize}
	small := load{1000, func(i int) string {
		return fmt.Sprintf("https://%s/p/small/%d/%04d.rpm", b.https, i%smallFiles%20, i%smallFiles)
	}, smallSize}
	check("1 Gbit/s over TLS", gigabit)
	check("1 Gbit/s over HTTP", load{125, large("http", b.http), largeSize})
	check("1000 small requests a second over TLS", small)
	check("1 Gbit/s and 1000 small requests a second over TLS", gigabit, small)
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
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < uint64(n)+200 {
		t.Fatalf("%d files may be open, and %d connections are to be: %v", limit.Cur, n, err)
	}
	before, buffer := b.resident(), make([]byte, 8<<10)
	held := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
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
	if _, err := readWhole(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+b.http+"/p/small/0/0000.rpm", smallSize); err != nil {
		t.Errorf("beside them: %v", err)
	}
	for _, i := range []int{0, n / 2, n - 1} { // they were not closed to make room
		if _, err := fmt.Fprintf(held[i], "GET /p/small/0/0000.rpm HTTP/1.1\r\nHost: m\r\n\r\n"); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		if got, err := held[i].Read(buffer); err != nil || !bytes.HasPrefix(buffer[:got], []byte("HTTP/1.1 200")) {
			t.Errorf("connection %d, asked again: %q, %v", i, buffer[:got], err)
		}
	}
	after := b.resident()
	t.Attr("idle-connections", fmt.Sprintf("%d, with %d MB resident (%d before)", n, after>>20, before>>20))
	if after > 300<<20 {
		t.Errorf("%d connections: %d MB", n, after>>20)
	}
}

// listing is a client of rsync that lists all there is, again and again, until there is the
// file $2, and says so with a dot each time, and with a file in the folder $3.
const listing = `while [ ! -e "$2" ]; do
	case $(rsync -r --list-only "$1") in *large/31.rpm*) printf . ;; *) exit 1 ;; esac
	[ -e "$3/$$" ] || : >"$3/$$"
done`

// A hundred clients of rsync that list all there is do not keep those of HTTP waiting.
// Elsewhere they run on a hundred machines, and take nothing from the mirror: here they
// run when nobody else wants the processor, and are looked at when each has begun.
func TestMirrorRsyncLists(t *testing.T) {
	peertest.Require(t, "rsync", "chrt")
	b := startServing(t)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	lasts, clients := 5*time.Second, 100
	if testing.Short() || os.Getenv(figuresEnv) == "" {
		lasts, clients = time.Second, 10 // they are slow where others want the processor
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
	enough, listed := filepath.Join(t.TempDir(), "enough"), t.TempDir()
	var lists sync.WaitGroup
	var all atomic.Int64
	for range clients {
		lists.Go(func() {
			out, err := peertest.Try(t, "/", nil, "chrt", "--idle", "0", "sh", "-c", listing, "sh", "rsync://"+b.rsync+"/p/", enough, listed)
			if err != nil {
				t.Errorf("list: %v", err)
			}
			all.Add(int64(len(out)))
		})
	}
	eventually(t, "each client lists", 2*time.Minute, func() error {
		names, err := os.ReadDir(listed)
		if err == nil && len(names) < clients {
			err = fmt.Errorf("%d of %d have", len(names), clients)
		}
		return err
	})
	busy := p99()
	if err := os.WriteFile(enough, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lists.Wait()
	again := p99()
	t.Attr("p99-of-http", fmt.Sprintf("%v, and %v beside %d clients with %d lists, and %v after them", idle, busy, clients, all.Load(), again))
	if most := max(2*idle, 2*again, 5*time.Millisecond); os.Getenv(figuresEnv) != "" && busy > most {
		t.Errorf("p99 %v beside lists, %v and %v without", busy, idle, again)
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
	for _, program := range programs {
		version, _, _ := strings.Cut(string(peertest.Run(t, "", nil, program, "--version")), "\n")
		t.Attr("client", version)
		t.Run(version, func(t *testing.T) { rsyncClient(t, b, program) })
		for _, protocol := range []string{"31", "30"} { // which rsync 3.1 and 3.0 speak
			t.Run(version+" as "+protocol, func(t *testing.T) { rsyncClient(t, b, program, "--protocol="+protocol) })
		}
	}
}

// rsyncClient does what people do with rsync.
func rsyncClient(t *testing.T, b *servingBox, program string, always ...string) {
	from := "rsync://" + b.rsync + "/p/"
	do := func(args ...string) string {
		t.Helper()
		out, err := peertest.Try(t, t.TempDir(), nil, program, append(slices.Clone(always), args...)...)
		if err != nil {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := do("-r", "--list-only", from); !strings.Contains(out, "large/31.rpm") || !strings.Contains(out, "x.iso") {
		t.Errorf("list: %.500s", out)
	}
	copied := t.TempDir()
	do("-aH", "--exclude=*.iso", "--delay-updates", "--delete-delay", from, copied)
	tree := filepath.Join(b.data, "projects/p/current/tree")
	if out, err := peertest.Try(t, copied, nil, "diff", "-r", "--no-dereference", "--exclude=x.iso", ".", tree); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(copied, "odd/x.iso")); err == nil {
		t.Error("what is excluded came as well")
	}
	if out := do("-aHn", "--itemize-changes", "--exclude=*.iso", "--delete", from, copied); strings.TrimSpace(out) != "" {
		t.Errorf("a copy that is whole differs: %.500s", out)
	}
	if out := do("-aHn", "--itemize-changes", from, copied); !strings.Contains(out, "x.iso") {
		t.Errorf("what would be copied: %.500s", out)
	}
	list, some := filepath.Join(t.TempDir(), "list"), t.TempDir()
	writeTree(t, list, []byte("large/03.rpm\x00odd/a:b % #?\n é.txt\x00"))
	do("-a", "--from0", "--files-from="+list, from, some)
	if found := filesOf(t, some); len(found) != 2 {
		t.Errorf("%d files of a list of 2", len(found))
	}
}
