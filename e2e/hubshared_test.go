package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/sqldb/sqldbtest"
)

// handOver is how long it may take until another hub publishes.
const handOver = patience

// sharingHub is one of several hubs that share a directory and a database.
type sharingHub struct {
	*hubServer
	name  string
	flags []string
}

func startSharing(t *testing.T, dir, dsn, name string, flags ...string) *sharingHub {
	t.Helper()
	flags = append([]string{"--database", dsn, "--instance", name}, flags...)
	return &sharingHub{startHub(t, dir, "", "", flags...), name, flags}
}

// again starts the hub anew, at its address.
func (h *sharingHub) again() {
	h.t.Helper()
	base := strings.TrimPrefix(h.url, "http://")
	h.hubServer = startHub(h.t, h.dir, base, "", h.flags...)
}

func (h *sharingHub) signal(sig syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
}

// leads tells whether the hub publishes.
func (h *sharingHub) leads() bool {
	resp, err := http.Get("http://" + h.admin + "/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return err == nil && strings.Contains(string(body), "\nfreshet_hub_leads 1\n")
}

func (h *sharingHub) waitLeads(want bool) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("%s leads: %v", h.name, want), handOver, func() error {
		if h.leads() != want {
			return errors.New("not yet")
		}
		return nil
	})
}

// pushing pushes an application and a tree to a hub.
type pushing struct {
	t                    *testing.T
	tokenFile, app, tree string
	version              int
}

func (p *pushing) write(version int) {
	p.version = version
	writeApp(p.t, p.app, version)
	writeKilledTree(p.t, p.tree, version)
}

func (p *pushing) to(hub *sharingHub, what ...string) error {
	args := append([]string{"push", "--hub", hub.url, "--token-file", p.tokenFile}, what...)
	if out, errOut, err := tryRun(p.t, args...); err != nil {
		return fmt.Errorf("push to %s: %w\n%s%s", hub.name, err, out, errOut)
	}
	return nil
}

func (p *pushing) appTo(hub *sharingHub) error { return p.to(hub, "--repo", "stable", p.app) }
func (p *pushing) treeTo(hub *sharingHub) error {
	return p.to(hub, "--tree", "files", p.tree)
}

// published demands the version from each of the hubs.
func (p *pushing) published(tree bool, hubs ...*sharingHub) {
	p.t.Helper()
	for _, hub := range hubs {
		if got, err := readVersion(p.t.Context(), hub.url); err != nil || got != p.version {
			p.t.Fatalf("%s serves version %d, want %d: %v", hub.name, got, p.version, err)
		}
		if tree {
			if body := string(get(p.t, hub.url+"/tree/files/index", 200)); body != fmt.Sprintf("data-%d\n", p.version) {
				p.t.Fatalf("%s serves the tree index %q, want version %d", hub.name, body, p.version)
			}
		}
	}
}

// startTwo starts two hubs that share dir and a database, of which the first one leads,
// and prepares to push to them.
func startTwo(t *testing.T, dsn string) (dir string, one, other *sharingHub, p *pushing) {
	t.Helper()
	work := t.TempDir()
	dir = filepath.Join(work, "hub")
	one = startSharing(t, dir, dsn, "one")
	one.waitLeads(true)
	other = startSharing(t, dir, dsn, "other")
	p = &pushing{t: t, tokenFile: filepath.Join(work, "token"), app: filepath.Join(work, "app"), tree: filepath.Join(work, "tree")}
	if err := os.WriteFile(p.tokenFile, []byte(one.token), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, one, other, p
}

// Two hubs share a directory and a PostgreSQL database. Builds come through
// either. The one that publishes is killed, or stopped and waked up later, at random
// moments of a publish: the other publishes within 30 seconds, nothing is lost, and
// what was stopped changes nothing any more. Most of the time goes into waiting until
// a hub is taken for dead: several pairs do so at once.
func TestSharedHubs(t *testing.T) {
	parallel(t)
	peertest.Require(t, "ostree")
	pairs := uint64(3)
	if testing.Short() {
		pairs = 1
	}
	var all sync.WaitGroup
	for pair := range pairs {
		all.Go(func() { // t.Parallel would take the places of other tests for the wait
			t.Run(fmt.Sprintf("pair %d", pair), func(t *testing.T) { shareAndEnd(t, rand.New(rand.NewPCG(4, pair))) })
		})
	}
	all.Wait()
}

// shareAndEnd has the one of two hubs that publishes killed and, when the other does,
// stopped, and at last told to end.
func shareAndEnd(t *testing.T, random *rand.Rand) {
	t.Helper()
	dsn := sqldbtest.PostgreSQL(t)
	dir, one, other, p := startTwo(t, dsn)
	user := newClient(t)
	fsck := func() {
		t.Helper()
		user.run("ostree", "fsck", "--quiet", "--repo="+filepath.Join(dir, "repos", "stable"))
	}

	// The hub that does not publish takes everything all the same.
	p.write(1)
	begin := time.Now()
	if err := p.appTo(other); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	if err := p.treeTo(other); err != nil {
		t.Fatal(err)
	}
	p.published(true, one, other)
	if !strings.Contains(string(get(t, other.url+"/status", 200)), "hub one publishes") {
		t.Error("the status does not say who publishes")
	}

	leads, rests := one, other
	for i, paused := range []bool{false, true} {
		p.write(i + 2)
		pushed := make(chan error, 1)
		go func() { pushed <- p.appTo(rests) }()
		<-time.After(time.Duration(random.Int64N(int64(took) * 5 / 4)))
		stopped := time.Now()
		if paused {
			leads.signal(syscall.SIGSTOP)
		} else {
			leads.kill()
		}
		rests.waitLeads(true)
		handed := time.Since(stopped)
		if err := <-pushed; err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		t.Logf("round %d: paused %v, handed over after %v, published after %v", i, paused, handed.Round(100*time.Millisecond), time.Since(stopped).Round(100*time.Millisecond))
		fsck()
		p.published(false, rests)

		if paused {
			// It wakes up while the other one publishes.
			p.write(100 + i)
			go func() { pushed <- p.appTo(rests) }()
			<-time.After(time.Duration(random.Int64N(int64(took))))
			leads.signal(syscall.SIGCONT)
			if err := <-pushed; err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
			leads.waitLeads(false)
		} else {
			leads.again()
		}
		fsck()
		// Both are there: pushes through the one that does not lead any more.
		leads, rests = rests, leads
		p.write(200 + i)
		eventually(t, "the tree comes through", handOver, func() error { return p.treeTo(rests) })
		if err := p.appTo(rests); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		p.published(true, leads, rests)
		fsck()
	}

	// A clean stop hands over at once.
	leads.stop(syscall.SIGTERM)
	begin = time.Now()
	rests.waitLeads(true)
	if took := time.Since(begin); took > promised(8*time.Second) {
		t.Errorf("after a clean stop it took %v", took)
	}
	rests.stop(syscall.SIGTERM)
	noTemporaryFiles(t, dir)
}

// cutDatabase is a PostgreSQL server that can be cut off.
type cutDatabase struct {
	socket string // of the server

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// cuttable returns a DSN that leads to the database through something that can be
// cut.
func cuttable(t *testing.T, dsn string) (*cutDatabase, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	const name = ".s.PGSQL.5432"
	c := &cutDatabase{socket: filepath.Join(query.Get("host"), name), conns: make(map[net.Conn]bool)}
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // the names of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.pass(conn)
		}
	}()
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	return c, u.String()
}

func (c *cutDatabase) pass(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	server, err := net.Dial("unix", c.socket)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	c.mu.Lock()
	cut := c.cut
	c.conns[conn], c.conns[server] = true, true
	c.mu.Unlock()
	if cut {
		return
	}
	go func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	}()
	_, _ = io.Copy(conn, server)
}

// set cuts the database off, or lets it come back.
func (c *cutDatabase) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	if cut {
		for conn := range c.conns {
			_ = conn.Close()
		}
		clear(c.conns)
	}
}

// The database goes away while builds come and are published, for longer than a hub
// may be silent: meanwhile the hubs serve, and say what they wait for. When it is
// back everything goes on, and nothing is lost.
func TestSharedHubsWithoutDatabase(t *testing.T) {
	parallel(t)
	peertest.Require(t, "ostree")
	database, dsn := cuttable(t, sqldbtest.PostgreSQL(t))
	dir, one, other, p := startTwo(t, dsn)
	p.write(1)
	begin := time.Now()
	if err := p.appTo(other); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	random := rand.New(rand.NewPCG(6, 7))
	for i, away := range []time.Duration{time.Second, 20 * time.Second} {
		p.write(i + 2)
		pushed := make(chan error, 1)
		go func() { pushed <- p.appTo(other) }()
		<-time.After(time.Duration(random.Int64N(int64(took))))
		database.set(true)
		gone := time.Now()
		for _, hub := range []*sharingHub{one, other} {
			eventually(t, hub.name+" says what it waits for", patience, func() error {
				if status := string(get(t, hub.url+"/status", 200)); !strings.Contains(status, "The hub waits for database: ") {
					return fmt.Errorf("the status is %s", status)
				}
				return nil
			})
			if _, err := readVersion(t.Context(), hub.url); err != nil {
				t.Errorf("%s does not serve: %v", hub.name, err)
			}
		}
		get(t, one.url+"/api/v1/events?after=0", http.StatusServiceUnavailable)
		<-time.After(away - time.Since(gone))
		database.set(false)
		if err := <-pushed; err != nil {
			t.Logf("%v", err) // it may have given up; a repetition must do
		}
		eventually(t, "the push comes through", patience, func() error { return p.appTo(other) })
		p.published(false, one, other)
		newClient(t).run("ostree", "fsck", "--quiet", "--repo="+filepath.Join(dir, "repos", "stable"))
		eventually(t, "one of them leads", handOver, func() error {
			if a, b := one.leads(), other.leads(); a == b {
				return fmt.Errorf("leads: %v and %v", a, b)
			}
			return nil
		})
	}
}
