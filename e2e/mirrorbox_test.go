package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/mirrorapi"
)

// fullSize says whether a check is to be as large as it is promised: in make
// mirror-acceptance without QUICK.
func fullSize() bool { return os.Getenv(figuresEnv) != "" && !testing.Short() }

// tap stands between a mirror and its upstream, and does something when so many bytes have
// passed.
type tap struct {
	ln     net.Listener
	target string
	passed atomic.Int64
	at     atomic.Int64 // 0: never
	hit    func()
	mood   atomic.Int32
}

// What a tap does with what comes.
const (
	tapOpen   = iota
	tapCut    // every connection ends
	tapFrozen // nothing is passed on, and nothing said
)

func startTap(t *testing.T, target string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{ln: ln, target: target}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.relay(c)
		}
	}()
	return p
}

func (p *tap) relay(c net.Conn) {
	defer c.Close()
	if p.mood.Load() == tapCut {
		return
	}
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	buffer := make([]byte, 4<<10)
	for {
		n, err := up.Read(buffer)
		if at := p.at.Load(); at > 0 && p.passed.Add(int64(n)) >= at && p.at.CompareAndSwap(at, 0) {
			p.hit()
		}
		for p.mood.Load() == tapFrozen {
			<-time.After(20 * time.Millisecond)
		}
		if p.mood.Load() == tapCut {
			return
		}
		if _, failed := c.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}

// boxed is a mirror that is killed and started again.
type boxed struct {
	t                        *testing.T
	config, token, data      string
	listen, listenTLS, admin string

	mu    sync.Mutex
	p     *process
	epoch int // odd: it serves; it rises whenever that begins or ends
}

// startBox starts a mirror of one project, p.
func startBox(t *testing.T, kind, upstream, more string) *boxed {
	t.Helper()
	return startBoxes(t, t.TempDir(), fmt.Sprintf("[mirror.projects.p]\nkind = %q\nupstreams = [%q]\nschedule = \"never\"\n%s\n", kind, upstream, more), "")
}

// startBoxes starts a mirror on a disk, with the tables of its projects, and what else
// stands in its own.
func startBoxes(t *testing.T, disk, projects, own string) *boxed {
	t.Helper()
	dir := t.TempDir()
	b := &boxed{t: t, config: filepath.Join(dir, "mirror.toml"), token: filepath.Join(dir, "token"), data: filepath.Join(disk, "data"), listen: freeAddr(t), admin: freeAddr(t)}
	clients := run(t, "mirror", "token", "ops", "--out", b.token)
	text := fmt.Sprintf("[mirror]\ndirectory = %q\n%s\n[mirror.rsync]\nany-version = true\n[mirror.limits]\nreserve = \"1MB\"\nsyncs = 8\n%s\n%s", b.data, own, projects, clients)
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *boxed) start() {
	b.t.Helper()
	p := start(b.t, "mirror", "-c", b.config, "--listen", b.listen, "--admin", b.admin, "--log-level", "warn")
	p.waitReady(b.admin)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.p = p
	b.epoch++
}

// kill ends the process as a power cut does, unless it has ended.
func (b *boxed) kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.p == nil {
		return
	}
	b.epoch++ // before it ends: a client may notice at once
	b.p.kill()
	b.p = nil
}

// generation is the one of a project that is served.
func (b *boxed) generation(project string) string {
	id, _ := os.Readlink(filepath.Join(b.data, "projects", project, "current"))
	return id
}

// served is the generation of a project that clients are served, which the disk has a moment
// before; empty if nobody answers.
func (b *boxed) served(project string) string {
	body, err := fetchBody("http://" + b.listen + mirrorapi.GenerationsPrefix + project)
	var head mirrorapi.Head
	if err == nil {
		err = json.Unmarshal(body, &head)
	}
	if err != nil {
		return ""
	}
	return head.Generation
}

func (b *boxed) now() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.epoch
}

// api speaks with the mirror as its operator.
func (b *boxed) api() *mirrorapi.Client {
	b.t.Helper()
	token, err := os.ReadFile(b.token)
	if err != nil {
		b.t.Fatal(err)
	}
	return &mirrorapi.Client{Base: "http://" + b.admin, Token: strings.TrimSpace(string(token))}
}

// mirrored is the part of a report that is looked at.
type mirrored struct {
	Report struct {
		Result, Reason, Message, Generation string
		Warnings                            []string
		Repositories                        []struct {
			Pointer, Reason, Message string
			Held                     bool
		}
	}
}

// sync syncs the project, and returns the report, the zero one if the mirror ended
// before.
func (b *boxed) sync(flags ...string) (m mirrored, err error) {
	b.t.Helper()
	out, errOut, err := tryRun(b.t, append([]string{"mirror", "sync", "p", "--json", "--admin", b.admin, "--token-file", b.token}, flags...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if failed := json.Unmarshal([]byte(lines[len(lines)-1]), &m); failed != nil && err == nil {
		err = fmt.Errorf("%w in %q", failed, out)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errOut)
	}
	return m, err
}

// mustSync is sync with a result.
func (b *boxed) mustSync(result, reason string, flags ...string) mirrored {
	b.t.Helper()
	m, err := b.sync(flags...)
	if m.Report.Result != result || m.Report.Reason != reason {
		b.t.Fatalf("the sync ended with %+v, want %s %s; %v", m.Report, result, reason, err)
	}
	return m
}
