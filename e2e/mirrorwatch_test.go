package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
	"freshet/internal/sqldb"
	"freshet/internal/telemetry/collect"
)

// collector is the receiving half of a watch, on SQLite, that can be away.
type collector struct {
	t    *testing.T
	addr string
	db   *sqldb.DB
	srv  *http.Server
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Config{Default: filepath.Join(t.TempDir(), "watch.db"), Schema: collect.Schema()})
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, addr: freeAddr(t), db: db}
	c.up()
	t.Cleanup(func() {
		c.down()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *collector) up() {
	c.t.Helper()
	ln, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.srv = &http.Server{Handler: &collect.Handler{Ledger: collect.Ledger{DB: c.db}, Node: func(r *http.Request) (string, bool) {
		node, err := os.Hostname() // as the mirror calls itself
		return node, err == nil && r.Header.Get("Authorization") == "Bearer secret"
	}}}
	go func(srv *http.Server) { _ = srv.Serve(ln) }(c.srv)
}

func (c *collector) down() { _ = c.srv.Close() }

// bytes are those of the project that the watch knows of, by protocol, and all series.
func (c *collector) bytes() (http, rsync int64, series int) {
	c.t.Helper()
	err := c.db.Read(c.t.Context(), func(tx *sqldb.Tx) error {
		sum := func(proto string, into *int64) error {
			return tx.QueryRow(c.t.Context(), "SELECT COALESCE(SUM(bytes), 0) FROM telemetry_counts WHERE cube = 'b' AND labels LIKE ?", `["p",%"`+proto+`",%`).Scan(into)
		}
		if err := sum("h1", &http); err != nil {
			return err
		}
		if err := sum("rsync", &rsync); err != nil {
			return err
		}
		return tx.QueryRow(c.t.Context(), "SELECT COUNT(*) FROM (SELECT DISTINCT cube, labels FROM telemetry_counts WHERE cube <> 'hot') s").Scan(&series)
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return http, rsync, series
}

// countingTap counts what passes from a server to its clients.
func countingTap(t *testing.T, target string) (addr string, passed *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	passed = new(atomic.Int64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				up, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer up.Close()
				go func() { _, _ = io.Copy(up, c); _ = up.(*net.TCPConn).CloseWrite() }()
				buffer := make([]byte, 64<<10)
				for {
					n, err := up.Read(buffer)
					passed.Add(int64(n))
					if _, failed := c.Write(buffer[:n]); failed != nil || err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String(), passed
}

// The watch is away for a while, the mirror is killed meanwhile, and clients are hostile: the
// watch comes to know each byte that clients got by HTTP and rsync, once.
func TestMirrorTellsWatch(t *testing.T) {
	parallel(t)
	peertest.Require(t, "rsync")
	tree := t.TempDir()
	r := rand.New(rand.NewPCG(1, 16))
	var names []string
	for i := range 30 {
		name := fmt.Sprintf("%d.iso", i)
		body := make([]byte, 1+r.IntN(1<<20))
		if err := os.WriteFile(filepath.Join(tree, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	watch := startCollector(t)
	token, lines := filepath.Join(t.TempDir(), "token"), filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rsyncAddr := freeAddr(t)
	b := startBox(t, "plain", rsynctest.Serve(t, tree), fmt.Sprintf(`
[mirror.rsyncd]
listen = %q
[mirror.watch]
url = "http://%s"
token-file = %q
every = "1s"
[log.access]
to = %q
format = "combined"
`, rsyncAddr, watch.addr, token, lines))
	b.mustSync("published", "")
	rsyncTap, rsyncGot := countingTap(t, rsyncAddr)
	var httpGot int64
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	fetch := func(path string, header http.Header) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+b.listen+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(path, "/p/") {
			httpGot += n // pages of errors too
		}
	}
	serve := func() {
		t.Helper()
		for range 60 {
			header := http.Header{"User-Agent": {"libdnf (Fedora Linux 43)"}}
			if r.IntN(3) == 0 {
				header.Set("Range", fmt.Sprintf("bytes=%d-", r.IntN(1000)))
			}
			fetch("/p/"+names[r.IntN(len(names))], header)
		}
		if out, err := peertest.Try(t, t.TempDir(), nil, "rsync", "-a", "rsync://"+rsyncTap+"/p/", "."); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		fetch("/p/nothing-"+strconv.Itoa(r.Int()), http.Header{"User-Agent": {`ev"il\` + strings.Repeat(`\"x`, 5000)}})
		for range 50 { // no word of theirs becomes a label
			fetch(fmt.Sprintf("/p/%x/%x", r.Uint64(), r.Uint64()), http.Header{"User-Agent": {fmt.Sprintf("%x/%d", r.Uint64(), r.Int())}})
			fetch(fmt.Sprintf("/%x/?%x", r.Uint64(), r.Uint64()), http.Header{"User-Agent": {strconv.Itoa(r.Int())}})
		}
		huge(t, b.listen)
	}
	// settled waits until nothing is in memory only: one batch of a second later.
	settled := func() { time.Sleep(2500 * time.Millisecond) }
	rounds, away := 2, 3*time.Second
	if os.Getenv(figuresEnv) != "" {
		rounds, away = 6, 30*time.Second
	}
	serve()
	settled()
	watch.down()
	for range rounds {
		serve()
		settled()
		b.kill() // what was served is on the disk
		b.start()
		serve()
		time.Sleep(away)
	}
	watch.up()
	serve()
	exact := func() error {
		http, rsync, _ := watch.bytes()
		if off := http - httpGot; off != 0 {
			return fmt.Errorf("HTTP: the watch knows of %d bytes, clients got %d", http, httpGot)
		}
		if off := rsync - rsyncGot.Load(); max(off, -off)*1000 > rsyncGot.Load() {
			return fmt.Errorf("rsync: the watch knows of %d bytes, clients got %d", rsync, rsyncGot.Load())
		}
		return nil
	}
	eventually(t, "the watch knows all", 3*time.Minute, exact)
	settled()
	if err := exact(); err != nil {
		t.Error(err) // something was counted twice
	}
	http, rsync, series := watch.bytes()
	t.Attr("bytes-http", fmt.Sprintf("%d of %d", http, httpGot))
	t.Attr("bytes-rsync", fmt.Sprintf("%d of %d", rsync, rsyncGot.Load()))
	t.Attr("series", strconv.Itoa(series))
	if series > 10_000 || series == 0 {
		t.Errorf("%d series", series)
	}
	text, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(`"ev\x22il\x5C\x5C\x22x`)); n != 2*rounds+2 {
		t.Errorf("%d lines of the odd program in the access log", n)
	}
	if bytes.Contains(text, []byte("\n\n")) || !bytes.HasSuffix(text, []byte("\n")) {
		t.Error("the access log is torn")
	}
}

// huge sends a program's name of a megabyte, which is refused.
func huge(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, "GET /p/ HTTP/1.1\r\nHost: x\r\nUser-Agent: "+strings.Repeat(`\"`, 1<<19)+"\r\n\r\n") // it may be refused before its end
	answer := make([]byte, 64)
	if n, _ := conn.Read(answer); n > 0 && !bytes.Contains(answer[:n], []byte(" 431 ")) && !bytes.Contains(answer[:n], []byte(" 400 ")) {
		t.Errorf("a name of a megabyte is answered with %q", answer[:n])
	}
}
