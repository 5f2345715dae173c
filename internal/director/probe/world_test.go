package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/memnet"
)

const (
	canaryPath  = "canary.bin"
	pointerPath = "repo/repodata/repomd.xml"
)

// world is a network of mirrors in memory, all of which carry the project "p", and what a
// Prober asks of the director. It belongs to one synctest bubble.
type world struct {
	t       *testing.T
	net     memnet.Network
	ca      *authority
	end     chan struct{} // closed when the test ends
	options Options
	prober  *Prober

	mu        sync.Mutex
	hosts     map[string]*host
	addresses map[netip.Addr]*host
	silent    map[Family]bool // nobody is reached
	catalogue *directorapi.Catalogue
	changed   chan struct{}
	files     map[string]string   // of the origin
	samples   map[string][]string // by mirror
	missing   []string            // "MIRROR PATH"
	hastened  []string            // "MIRROR WHY"
	scanned   map[string]time.Time
	saw       []string // "MIRROR SUM", the first four bytes of it
}

// host is a server with an address of each family, for http and https.
type host struct {
	world     *world
	name      string
	addresses map[Family]netip.Addr

	mu    sync.Mutex
	lies  map[string]lie // by way, such as "http ipv4"
	files map[string]string
	cert  *tls.Certificate
	looks int // at the canary
}

// lie is what a server does instead of answering.
type lie struct {
	each   func() lie // makes one for each way
	dial   func(ctx context.Context) error
	conn   func(c net.Conn, end <-chan struct{}) // has the connection, and closes it
	answer func(w http.ResponseWriter, r *http.Request, file string)
}

// inWorld runs a test in a bubble.
func inWorld(t *testing.T, mirrors []string, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		test(t, newWorld(t, mirrors...))
	})
}

func newWorld(t *testing.T, mirrors ...string) *world {
	t.Helper()
	w := &world{
		t: t, ca: newAuthority(t), hosts: make(map[string]*host), addresses: make(map[netip.Addr]*host),
		silent: make(map[Family]bool), end: make(chan struct{}), changed: make(chan struct{}),
		files:   map[string]string{canaryPath: strings.Repeat("canary ", 1000)},
		samples: make(map[string][]string), scanned: make(map[string]time.Time),
	}
	t.Cleanup(func() { close(w.end) })
	w.catalogue = &directorapi.Catalogue{Projects: []directorapi.Project{{
		Name: "p", Path: "/p/", Canary: canaryPath, Origins: []string{"http://origin.test/p/"},
	}}}
	w.addHost("origin")
	for _, name := range mirrors {
		w.addHost(name)
		w.catalogue.Mirrors = append(w.catalogue.Mirrors, carrying(name))
	}
	w.options = Options{
		Catalogue: w, Inventory: w, Scans: w, Versions: versions{w}, Lookup: w.lookup, Dial: w.dial, Roots: w.ca.pool(),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	return w
}

// carrying is a mirror that carries "p".
func carrying(name string) directorapi.Mirror {
	return directorapi.Mirror{Name: name, Carries: []directorapi.Carried{{
		Project: "p", HTTP: "http://" + name + ".test/p/", HTTPS: "https://" + name + ".test/p/",
		Inventory: directorapi.Source{How: directorapi.HowRsync},
	}}}
}

// run makes the Prober and lets it look until stop is called or the test ends.
func (w *world) run() (stop func()) {
	w.t.Helper()
	p, err := New(w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.prober = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	w.t.Cleanup(stop)
	return stop
}

// addHost makes a server that has the origin's files at "/p/".
func (w *world) addHost(name string) *host {
	n := byte(len(w.hosts) + 1)
	h := &host{
		world: w, name: name, lies: make(map[string]lie), files: make(map[string]string),
		addresses: map[Family]netip.Addr{IPv4: netip.AddrFrom4([4]byte{10, 0, 0, n}), IPv6: netip.AddrFrom16([16]byte{0: 0xfd, 15: n})},
		cert:      w.ca.leaf(w.t, name+".test", time.Now().AddDate(0, 3, 0)),
	}
	w.hosts[name] = h
	for family, address := range h.addresses {
		w.addresses[address] = h
		for _, scheme := range []Scheme{HTTP, HTTPS} {
			way := scheme.String() + " " + family.String()
			ln, err := w.net.Listen(name + " " + way)
			if err != nil {
				w.t.Fatal(err)
			}
			if scheme == HTTPS {
				ln = tls.NewListener(ln, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
					h.mu.Lock()
					defer h.mu.Unlock()
					return h.cert, nil
				}})
			}
			srv := &http.Server{
				Handler:  http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { h.serve(rw, r, way) }),
				ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo), ReadHeaderTimeout: time.Hour,
			}
			go func() { _ = srv.Serve(ln) }()
			w.t.Cleanup(func() { _ = srv.Close() })
		}
	}
	return h
}

func (h *host) serve(rw http.ResponseWriter, r *http.Request, way string) {
	file := strings.TrimPrefix(r.URL.Path, "/p/")
	h.mu.Lock()
	if file == canaryPath {
		h.looks++
	}
	answer := h.lies[way].answer
	body, ok := h.files[file]
	h.mu.Unlock()
	if !ok {
		h.world.mu.Lock()
		body, ok = h.world.files[file]
		h.world.mu.Unlock()
	}
	switch {
	case answer != nil:
		answer(rw, r, body)
	case !ok || body == "":
		http.NotFound(rw, r)
	default:
		serveFile(rw, r, body)
	}
}

func serveFile(rw http.ResponseWriter, r *http.Request, body string) {
	rw.Header().Set("Etag", `"`+short(sha256.Sum256([]byte(body)))+`"`)
	rw.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(body))
}

// lie makes the server lie on these ways; without any, on all.
func (h *host) lie(l lie, ways ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(ways) == 0 {
		ways = []string{"http ipv4", "http ipv6", "https ipv4", "https ipv6"}
	}
	for _, way := range ways {
		h.lies[way] = l
		if l.each != nil {
			h.lies[way] = l.each()
		}
	}
}

// looked is how often the canary was asked for.
func (h *host) looked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.looks
}

// have makes the server have this content in a file, other than the origin; empty: none.
func (h *host) have(name, content string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[name] = content
}

func (w *world) lookup(_ context.Context, network, name string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	family := IPv4
	if network == "ip6" {
		family = IPv6
	}
	if h := w.hosts[strings.TrimSuffix(name, ".test")]; h != nil && h.addresses[family].IsValid() {
		return []netip.Addr{h.addresses[family]}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	to := netip.MustParseAddrPort(address)
	family, scheme := IPv4, HTTP
	if to.Addr().Is6() {
		family = IPv6
	}
	if to.Port() == 443 {
		scheme = HTTPS
	}
	if want := map[Family]string{IPv4: "tcp4", IPv6: "tcp6"}[family]; network != want {
		w.t.Errorf("%s is dialed with %s", address, network)
	}
	w.mu.Lock()
	h, silent := w.addresses[to.Addr()], w.silent[family]
	w.mu.Unlock()
	if silent {
		return nil, blackHole(ctx)
	}
	way := scheme.String() + " " + family.String()
	h.mu.Lock()
	l := h.lies[way]
	h.mu.Unlock()
	switch {
	case l.dial != nil:
		return nil, l.dial(ctx)
	case l.conn != nil:
		client, server := net.Pipe()
		go l.conn(server, w.end)
		return client, nil
	}
	return w.net.DialContext(ctx, network, h.name+" "+way)
}

// silence makes everybody unreachable over a family, or reachable.
func (w *world) silence(f Family, silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent[f] = silent
}

// Catalogue.

func (w *world) Current() *directorapi.Catalogue {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.catalogue
}

func (w *world) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// edit changes a copy of the catalogue.
func (w *world) edit(change func(c *directorapi.Catalogue)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := *w.catalogue
	c.Projects, c.Mirrors = slices.Clone(c.Projects), slices.Clone(c.Mirrors)
	change(&c)
	w.catalogue = &c
	close(w.changed)
	w.changed = make(chan struct{})
}

// Inventory.

func (w *world) Origin(_, path string) (File, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	content, ok := w.files[path]
	return File{Path: path, Size: int64(len(content)), SHA256: sha256.Sum256([]byte(content)), HasSHA256: true}, ok
}

func (w *world) Sample(mirror, project string, n uint64) (File, bool) {
	w.mu.Lock()
	samples := w.samples[mirror]
	w.mu.Unlock()
	if len(samples) == 0 {
		return File{}, false
	}
	return w.Origin(project, samples[n%uint64(len(samples))])
}

func (w *world) Missing(mirror, _, path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missing = append(w.missing, mirror+" "+path)
}

// Scans.

func (w *world) Hasten(mirror, _, why string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hastened = append(w.hastened, mirror+" "+why)
	return true
}

func (w *world) Updated(mirror, _ string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.scanned[mirror]
}

func (w *world) scan(mirror string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scanned[mirror] = time.Now()
}

// Versions.

type versions struct{ *world }

func (w *world) current(pointer string) (sum, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	content, ok := w.files[pointer]
	return sha256.Sum256([]byte(content)), ok
}

func (v versions) Current(_, repository string) (sum, bool) { return v.current(repository) }

func (v versions) Saw(mirror, _, _ string, s sum, _ time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.saw = append(v.saw, mirror+" "+short(s))
}

func shortOf(content string) string { return short(sha256.Sum256([]byte(content))) }

func short(s sum) string { return hex.EncodeToString(s[:4]) }

// usable reports whether the mirror's way can be used, and why not.
func (w *world) usable(mirror string, way Way) (bool, Reason) {
	ok, why, _ := w.prober.State().Usable(mirror, "p", way.Scheme, way.Family)
	return ok, why
}

func allWays() []Way {
	return []Way{{Scheme: HTTP, Family: IPv4}, {Scheme: HTTP, Family: IPv6}, {Scheme: HTTPS, Family: IPv4}, {Scheme: HTTPS, Family: IPv6}}
}

// waitUntil lets time pass, at most as long as given, until all ways of the mirror are
// usable, or none of them is. It returns how long that took.
func (w *world) waitUntil(mirror string, usable bool, atMost time.Duration, ways ...Way) time.Duration {
	w.t.Helper()
	if len(ways) == 0 {
		ways = allWays()
	}
	begin := time.Now()
	for {
		synctest.Wait()
		state, left := w.prober.State(), 0
		for _, way := range ways {
			if ok, _, _ := state.Usable(mirror, "p", way.Scheme, way.Family); ok != usable {
				left++
			}
		}
		took := time.Since(begin)
		if left == 0 {
			return took
		}
		if took >= atMost {
			for way, h := range state.All() {
				w.t.Logf("%s: %+v", way, h)
			}
			w.t.Fatalf("after %v %d ways of %s are not yet usable=%v", took, left, mirror, usable)
		}
		timer := time.NewTimer(atMost - took)
		select {
		case <-state.Changed():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// blackHole is a connection that is never made.
func blackHole(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func refuse(context.Context) error { return syscall.ECONNREFUSED }

// authority vouches for certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// leaf is a certificate for the name.
func (a *authority) leaf(t *testing.T, name string, end time.Time) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}
