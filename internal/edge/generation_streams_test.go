package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"freshet/internal/certs"
	"freshet/internal/certs/certstest"
	"freshet/internal/doors"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/role"
)

// streams is an edge behind all its doors.
type streams struct {
	e     *Edge
	roots *x509.CertPool
	addr  map[string]string // by protocol
}

func newStreams(t *testing.T, origin http.HandlerFunc) *streams {
	t.Helper()
	upstream := httptest.NewServer(origin)
	t.Cleanup(upstream.Close)
	pair, roots := certstest.Pair(t, t.TempDir(), 1, "localhost")
	e, err := New(t.Context(), Config{
		Origin: upstream.URL, Store: t.TempDir(), Size: 64 << 20, Follow: followOff,
		Listeners: doors.Listeners{Listen: "127.0.0.1:0", ListenTLS: "127.0.0.1:0", TLS: certs.Config{Certificates: []certs.Pair{pair}}}, ListenH3: "127.0.0.1:0",
	}, role.Env{}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.setGates(e.cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	open, err := e.openDoors(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tcp, udp := open.Addrs()
	s := &streams{e: e, roots: roots, addr: map[string]string{
		"h1": "http://" + tcp[0].String(), "h2": "https://localhost:" + portText(tcp[1]), "h3": "https://localhost:" + portText(udp[0]),
	}}
	served := make(chan error, 1)
	go func() { served <- e.serve(ctx, open, e.newAccess()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func portText(addr net.Addr) string {
	return strconv.Itoa(int(netip.MustParseAddrPort(addr.String()).Port()))
}

// client speaks the protocol over connections of its own.
func (s *streams) client(proto string) (client *http.Client, leave func()) {
	switch proto {
	case "h3":
		tr := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, DisableCompression: true}
		return &http.Client{Transport: tr}, func() { _ = tr.Close() }
	case "h2":
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, ForceAttemptHTTP2: true, DisableCompression: true, MaxConnsPerHost: 1}
		return &http.Client{Transport: tr}, tr.CloseIdleConnections
	}
	tr := role.NewTransport(new(net.Dialer).DialContext)
	return &http.Client{Transport: tr}, tr.CloseIdleConnections
}

// indexKind is a summary.idx and what its text names; what the last one named
// is gone as soon as there is another.
func indexKind() kindOfSet {
	byIndex := new(sync.Map) // files by path, by the text of the index
	named := func(index string) map[string]string {
		files, _ := byIndex.Load(index)
		m, _ := files.(map[string]string)
		return m
	}
	return kindOfSet{
		name: "summary-index",
		publish: func(t *testing.T, s *signer, n int) [][2]string {
			text := fmt.Sprintf("generation %d. subsummary", n)
			sum := ostree.ChecksumOf([]byte(text))
			x := ostree.SummaryIndex{Subsummaries: []ostree.Subsummary{{Name: "x86_64", Checksum: sum, Metadata: gvariant.Dict{}}}}
			index := string(x.Encode())
			sub := [2]string{"/repo/" + ostree.SubsummaryPath(sum), gzipped(t, text)}
			sig := [2]string{"/repo/" + ostree.SummaryIndexSignaturePath(ostree.ChecksumOf([]byte(index))), s.ostree(t, index)}
			byIndex.Store(index, map[string]string{sub[0]: sub[1], sig[0]: sig[1]})
			return [][2]string{sub, sig, {"/repo/summary.idx", index}}
		},
		pair: []string{"/repo/summary.idx"},
		named: func(read map[string]string) (paths []string) {
			for path := range named(read["/repo/summary.idx"]) {
				paths = append(paths, path)
			}
			return paths
		},
		fits: func(read map[string]string) bool {
			files := named(read["/repo/summary.idx"])
			for path, body := range files {
				if read[path] != body {
					return false
				}
			}
			return len(files) == 2
		},
	}
}

// Whichever protocol a client speaks, and also when it asks for several files at
// the same time over one connection: it never gets files of two publishes.
// Publishers, purges and lifetimes are as fast as they can be.
func TestSetsSwitchTogetherInStreams(t *testing.T) {
	for _, proto := range []string{"h1", "h2", "h3"} {
		for _, kind := range append(kindsOfSets(), indexKind()) {
			t.Run(kind.name+"/"+proto, func(t *testing.T) {
				t.Parallel()
				switchInStreams(t, kind, proto)
			})
		}
	}
}

func switchInStreams(t *testing.T, kind kindOfSet, proto string) {
	key := newSigner(t)
	files := newStatic(make(map[string]string))
	last := kind.publish(t, key, 0)
	for _, f := range last {
		files.set(f[0], f[1])
	}
	s := newStreams(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=1")
		files.serve(w, r)
	})
	// What is asked for before its root is had like any other file.
	first, leave := s.client(proto)
	roots := kind
	roots.rest, roots.named = nil, nil
	for _, step := range []kindOfSet{roots, kind} {
		if _, _, ok := readSet(t, first, s.addr[proto], false, step); !ok {
			t.Error("the first reading is refused")
		}
	}
	leave()
	const publishes, clients, enough = 40, 12, 100
	var over atomic.Bool
	var reads, moved, refused, mixed atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		defer over.Store(true)
		// A busy machine takes its time for the readings, not fewer of them.
		late := time.Now().Add(2 * time.Minute)
		for n := 1; n <= publishes || reads.Load() < enough && time.Now().Before(late); n++ {
			next := kind.publish(t, key, n)
			for _, f := range next {
				files.set(f[0], f[1])
				<-time.After(rand.N(8 * time.Millisecond))
			}
			for i, f := range last {
				if f[0] != next[i][0] {
					files.remove(f[0])
				}
			}
			last = next
			if _, err := s.e.purge(s.e.rest, kind.pair); err != nil {
				t.Error(err)
			}
		}
	})
	for range clients {
		wg.Go(func() {
			for !over.Load() {
				client, leave := s.client(proto)
				for whole := true; whole && !over.Load(); {
					read, conns, ok := readSet(t, client, s.addr[proto], proto != "h1", kind)
					if conns > 1 { // for the edge that is more than one client
						moved.Add(1)
						break
					}
					reads.Add(1)
					switch whole = ok; {
					case !whole:
						refused.Add(1)
					case !kind.fits(read):
						mixed.Add(1)
					}
				}
				leave()
			}
		})
	}
	wg.Wait()
	t.Logf("%d readings over one connection, %d over several, %d refused, %d mixed", reads.Load(), moved.Load(), refused.Load(), mixed.Load())
	if mixed.Load() > 0 || refused.Load() > reads.Load()/20 || reads.Load() < enough {
		t.Errorf("%d readings, %d refused, %d mixed", reads.Load(), refused.Load(), mixed.Load())
	}
}

// readSet reads all files of a set, those of one step at the same time or one
// after the other, and counts the connections that net/http took for that. ok says
// whether all of them could be had.
func readSet(t *testing.T, client *http.Client, base string, together bool, kind kindOfSet) (read map[string]string, conns int, ok bool) {
	t.Helper()
	read = make(map[string]string)
	var mu sync.Mutex
	whole, used := true, make(map[string]bool)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		mu.Lock()
		used[got.Conn.LocalAddr().String()] = true
		mu.Unlock()
	}})
	get := func(path string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		mu.Lock()
		read[path], whole = string(body), whole && resp.StatusCode == http.StatusOK
		mu.Unlock()
	}
	all := func(paths []string) {
		rand.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
		var wg sync.WaitGroup
		for _, path := range paths {
			if !together {
				get(path)
				continue
			}
			wg.Go(func() { get(path) })
		}
		wg.Wait()
	}
	all(slices.Concat(kind.pair, kind.rest))
	if whole && kind.named != nil {
		all(kind.named(read))
	}
	return read, len(used), whole
}
