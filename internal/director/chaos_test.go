package director_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/directorapi"
	"freshet/internal/director"
	"freshet/internal/doors"
	"freshet/internal/memnet"
	"freshet/internal/role"
)

// The bounds that docs/director.md states.
const (
	scanEvery = 5 * time.Minute
	// outWithin is how long clients may be sent to a mirror that has stopped working.
	outWithin = 2 * time.Minute
	// lackWithin is how long to one that has lost a file: until it was listed again.
	lackWithin = scanEvery + time.Minute
)

// chaos is an origin, twenty mirrors that fail in all ways, clients, and a director in
// the middle, in a bubble of its own time.
type chaos struct {
	t       *testing.T
	network network
	origin  *simMirror
	mirrors map[string]*simMirror // by host
	client  *http.Client          // of the network; does not follow redirects

	mu      sync.Mutex
	chance  *rand.Rand
	release *release
	counts  map[string]int
	latest  map[string]time.Duration // the latest redirect after a failure, by its kind
}

// Twenty mirrors are killed, frozen, corrupted, lose files, are synced well and badly, and
// revived, for two hours, while clients install packages: nobody is sent to a mirror that
// does not have the file for longer than is stated, nobody gets an error or an older
// version, and most are sent to mirrors.
func TestChaos(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FRESHET_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("FRESHET_SEED=%d", seed)
	hours := 2
	if h, err := strconv.Atoi(os.Getenv("FRESHET_CHAOS_HOURS")); err == nil {
		hours = h
	}
	synctest.Test(t, func(t *testing.T) {
		letLive(newChaos(t, seed, new(memnet.Network)), seed, 5*time.Minute, time.Duration(hours)*time.Hour)
	})
}

// The same on ports of this machine, for as long as is asked for, since its time is not
// made.
func TestChaosOnPorts(t *testing.T) {
	during, err := time.ParseDuration(os.Getenv("FRESHET_CHAOS_ON_PORTS"))
	if err != nil {
		t.Skip("FRESHET_CHAOS_ON_PORTS says for how long, 20m for instance")
	}
	letLive(newChaos(t, 1, new(ports)), 1, 7*time.Minute, during)
}

// letLive lets all live, at first without clients, until the director has looked at
// everything.
func letLive(c *chaos, seed uint64, before, during time.Duration) {
	ctx, stop := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	c.direct(ctx, c.t.TempDir(), &running)
	running.Go(func() { c.publish(ctx) })
	for host, m := range c.mirrors {
		chance := rand.New(rand.NewPCG(seed, uint64(len(host))<<32|uint64(host[len(host)-1])<<8|uint64(host[len(host)-2])))
		running.Go(func() { c.torment(ctx, m, chance) })
	}
	time.Sleep(before)
	for i := range 12 {
		running.Go(func() { c.install(ctx, i) })
	}
	time.Sleep(during)
	stop()
	running.Wait()
	for _, m := range c.mirrors {
		_ = m.be(killed)
	}
	_ = c.origin.be(killed)
	c.client.CloseIdleConnections()
	c.t.Log(c.counts, c.latest)
	if all := c.counts["to a mirror"] + c.counts["to the origin"]; c.counts["to a mirror"] < all*3/5 {
		c.t.Errorf("of %d requests for files, %d led to a mirror", all, c.counts["to a mirror"])
	}
}

func newChaos(t *testing.T, seed uint64, on network) *chaos {
	t.Helper()
	c := &chaos{
		t: t, network: on, mirrors: make(map[string]*simMirror), chance: rand.New(rand.NewPCG(seed, 1)),
		counts: make(map[string]int), latest: make(map[string]time.Duration),
	}
	c.release = newRelease(nil, c.chance)
	c.origin = newSimMirror(c.network, "o0")
	c.origin.hold(c.release.files)
	c.be(c.origin, sound)
	for i := range 20 {
		m := newSimMirror(c.network, fmt.Sprintf("m%d", i+1))
		m.hold(c.release.files)
		c.be(m, sound)
		c.mirrors[fmt.Sprintf("10.0.0.%d", i+1)] = m
	}
	c.client = &http.Client{
		Transport:     &http.Transport{DialContext: c.dial, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4},
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

func (c *chaos) be(m *simMirror, next mood) {
	if err := m.be(next); err != nil {
		c.t.Error(err)
	}
}

// dial connects to the addresses of mirrors, of which the last number says which.
func (c *chaos) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	name := "director"
	if i, ok := strings.CutPrefix(host, "10.0.0."); ok {
		name = "m" + i
	} else if host == "10.0.1.1" {
		name = "o0"
	}
	return c.network.DialContext(ctx, network, name)
}

// direct runs a director.
func (c *chaos) direct(ctx context.Context, state string, running *sync.WaitGroup) {
	catalogue := directorapi.Catalogue{
		Serial: 1, Changed: time.Now(),
		Projects: []directorapi.Project{{
			Name: "distro", Path: "/distro/", Origins: []string{"http://10.0.1.1/distro/"},
			Inventory:    directorapi.Source{How: directorapi.HowHTTP, Every: directorapi.Duration(time.Minute)},
			Repositories: []directorapi.Repository{{Path: "os/", Kind: directorapi.KindRPM}},
		}},
		Sites: []directorapi.Site{{Name: "lab", Country: "DE"}},
	}
	for host, m := range c.mirrors {
		catalogue.Mirrors = append(catalogue.Mirrors, directorapi.Mirror{Name: m.name, Site: "lab", Carries: []directorapi.Carried{{
			Project: "distro", HTTP: "http://" + host + "/distro/", Inventory: directorapi.Source{How: directorapi.HowHTTP, Every: directorapi.Duration(scanEvery)},
		}}})
	}
	text, err := json.Marshal(&catalogue)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(state, "catalogue.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	ready := make(chan struct{})
	running.Go(func() {
		err := director.Run(ctx, director.Config{Listeners: doors.Listeners{Listen: "mem:director"}, State: filepath.Join(state, "state"), Catalogue: file}, role.Env{
			Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Ready: func() { close(ready) },
			HTTP:   &http.Client{Transport: &http.Transport{DialContext: c.dial, IdleConnTimeout: time.Minute}},
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return c.network.Listen(addr) },
		})
		if err != nil {
			c.t.Error(err)
		}
	})
	<-ready
}

// publish makes the origin go on about every ten minutes, and not just when it is asked.
func (c *chaos) publish(ctx context.Context) {
	chance := rand.New(rand.NewPCG(c.chance.Uint64(), 2))
	for sleep(ctx, 9*time.Minute+time.Duration(chance.Int64N(int64(2*time.Minute)))) {
		c.mu.Lock()
		c.release = newRelease(c.release, c.chance)
		c.origin.hold(c.release.files)
		c.mu.Unlock()
	}
}

// now is the origin's state.
func (c *chaos) now() *release {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.release
}

// torment lets a mirror live.
func (c *chaos) torment(ctx context.Context, m *simMirror, chance *rand.Rand) {
	for sleep(ctx, time.Duration(30+chance.IntN(300))*time.Second) {
		if m.mood != sound {
			c.be(m, sound)
			continue
		}
		switch chance.IntN(12) {
		case 0, 1, 2, 3:
			m.hold(c.now().files)
		case 4: // the pointer comes first, the packages much later
			r := c.now()
			files := maps.Clone(m.files)
			files[pointer], files[r.primary] = r.files[pointer], r.files[r.primary]
			m.hold(files)
			if sleep(ctx, 3*time.Minute) {
				m.hold(r.files)
			}
		case 5:
			m.hold(c.now().without(chance, 0.3))
		default:
			c.be(m, mood(1+chance.IntN(int(moods)-1)))
		}
	}
}

// install is a client that reads the repository and then gets packages, again and again.
func (c *chaos) install(ctx context.Context, number int) {
	seen := 0
	for sleep(ctx, time.Duration(20+number)*time.Second) {
		r := c.now()
		body := c.fetch(ctx, number, pointer)
		revision := revisionOf(body)
		switch {
		case ctx.Err() != nil:
			return
		case body != nil && revision < seen:
			c.t.Errorf("client %d is sent back from version %d to %d", number, seen, revision)
		}
		seen = max(seen, revision)
		c.ask(ctx, number, r.primary)
		for i := range 6 {
			c.ask(ctx, number, r.packages[(number*7+i*5)%len(r.packages)])
		}
	}
}

// fetch asks for a file and gets it from where it is sent to; nil if that fails, as may be
// for a while after a mirror has failed.
func (c *chaos) fetch(ctx context.Context, number int, path string) []byte {
	at := c.ask(ctx, number, path)
	if at == "" {
		return nil
	}
	resp := c.get(ctx, number, at)
	if resp == nil {
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || revisionOf(body) == 0 {
		return nil
	}
	return body
}

func (c *chaos) get(ctx context.Context, number int, at string) *http.Response {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		c.t.Error(err)
		return nil
	}
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", 1+number))
	resp, err := c.client.Do(req)
	if err != nil {
		return nil
	}
	return resp
}

// ask asks the director for a file, checks where it sends to, and returns that.
func (c *chaos) ask(ctx context.Context, number int, path string) (location string) {
	resp := c.get(ctx, number, "http://director/distro/"+path)
	if resp == nil {
		if ctx.Err() == nil {
			c.t.Error("the director does not answer")
		}
		return ""
	}
	_ = resp.Body.Close()
	location = resp.Header.Get("Location")
	r := c.now()
	want, exists := r.files[path]
	if resp.StatusCode != http.StatusFound {
		if exists {
			c.t.Errorf("%s is answered with %s", path, resp.Status)
		}
		return ""
	}
	at, err := url.Parse(location)
	if err != nil {
		c.t.Error(err)
		return ""
	}
	m, isMirror := c.mirrors[at.Hostname()]
	if !isMirror {
		c.note("to the origin", "", 0)
		return location
	}
	c.note("to a mirror", "", 0)
	ok, how, since := m.gives(path, want)
	if path == pointer && how == lacks {
		return location // it has another version, which is for the client to find
	}
	if !ok && exists {
		late := time.Since(since)
		c.note("in vain", how, late)
		bound := outWithin
		if how == lacks {
			bound = lackWithin
		}
		if since.IsZero() || late > bound {
			c.t.Errorf("%v after it began, a client is sent to %s for %s, which is %s", late, m.name, path, how)
		}
	}
	return location
}

func (c *chaos) note(what, how string, late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
	if how != "" {
		c.latest[how] = max(c.latest[how], late)
	}
}

// revisionOf is the number of the release that a pointer is of, 0 for none.
func revisionOf(body []byte) int {
	m := regexp.MustCompile(`<revision>(\d+)<`).FindSubmatch(body)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// sleep waits, and reports false when that is over because ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
