package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/role"
	"freshet/internal/sign"
)

// signer makes OpenPGP signatures with a key of its own.
type signer struct {
	ring *sign.Keyring
	file string // its secret key, which has the public one
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.asc")
	if _, err := sign.Generate(file, "Test <test@example.org>"); err != nil {
		t.Fatal(err)
	}
	ring, err := sign.Open(sign.KeyFile{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	return &signer{ring, file}
}

// detached is a binary signature.
func (s *signer) detached(t *testing.T, data string) string {
	t.Helper()
	list, err := s.ring.Sign(t.Context(), []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return string(list[0])
}

// ostree is what a summary.sig holds.
func (s *signer) ostree(t *testing.T, data string) string {
	t.Helper()
	var d gvariant.Dict
	ostree.SetGPGSignatures(&d, [][]byte{[]byte(s.detached(t, data))})
	return string(ostree.EncodeDetached(d))
}

func sha(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

// kindOfSet is a set as a publisher makes it and a client reads it.
type kindOfSet struct {
	name string
	// publish makes the files of a generation, in the order in which they are
	// written, as name and content.
	publish func(t *testing.T, s *signer, n int) [][2]string
	// pair is read in either order, then rest.
	pair, rest []string
	// named are the paths that what was read names; may be nil.
	named func(read map[string]string) []string
	// fits says whether what was read belongs together.
	fits func(read map[string]string) bool
}

func number(text string) string {
	_, n, _ := strings.Cut(text, "generation ")
	n, _, _ = strings.Cut(n, ".")
	return n
}

func kindsOfSets() []kindOfSet {
	names := func(paths ...string) func(map[string]string) bool {
		return func(read map[string]string) bool {
			first := number(read[paths[0]])
			for _, p := range paths {
				if number(read[p]) != first {
					return false
				}
			}
			return first != ""
		}
	}
	sigs := new(sync.Map) // content of a signature → content signed
	signed := func(file, sig string) func(map[string]string) bool {
		return func(read map[string]string) bool {
			data, ok := sigs.Load(read[sig])
			return ok && data == read[file]
		}
	}
	note := func(sig, data string) string {
		sigs.Store(sig, data)
		return sig
	}
	repomd := func(primary string) string {
		return `<repomd><revision>generation ` + number(primary) + `.</revision><data type="primary"><checksum type="sha256">` + sha(primary) +
			`</checksum><location href="repodata/primary.xml"/></data></repomd>`
	}
	release := func(packages string) string {
		return "Origin: generation " + number(packages) + ".\nDate: Sat, 01 Jan 2000 00:00:00 UTC\nSHA256:\n " + sha(packages) + fmt.Sprintf(" %d", len(packages)) + " main/binary-amd64/Packages\n"
	}
	return []kindOfSet{
		{
			"summary",
			func(t *testing.T, s *signer, n int) [][2]string {
				data := fmt.Sprintf("generation %d. %s", n, strings.Repeat("x", 5000))
				return [][2]string{{"/repo/summary", data}, {"/repo/summary.sig", note(s.ostree(t, data), data)}}
			},
			[]string{"/repo/summary", "/repo/summary.sig"},
			nil, nil,
			signed("/repo/summary", "/repo/summary.sig"),
		},
		{
			"repomd",
			func(t *testing.T, s *signer, n int) [][2]string {
				primary := fmt.Sprintf("generation %d. primary", n)
				md := repomd(primary)
				return [][2]string{
					{"/rpm/repodata/primary.xml", primary}, {"/rpm/repodata/repomd.xml", md}, {"/rpm/repodata/repomd.xml.asc", note(s.detached(t, md), md)},
				}
			},
			[]string{"/rpm/repodata/repomd.xml", "/rpm/repodata/repomd.xml.asc"},
			[]string{"/rpm/repodata/primary.xml"},
			nil,
			func(read map[string]string) bool {
				return signed("/rpm/repodata/repomd.xml", "/rpm/repodata/repomd.xml.asc")(read) && names("/rpm/repodata/repomd.xml", "/rpm/repodata/primary.xml")(read)
			},
		},
		{
			"release",
			func(_ *testing.T, _ *signer, n int) [][2]string {
				packages := fmt.Sprintf("generation %d. packages", n)
				return [][2]string{{"/dists/s/main/binary-amd64/Packages", packages}, {"/dists/s/InRelease", release(packages)}}
			},
			[]string{"/dists/s/InRelease"},
			[]string{"/dists/s/main/binary-amd64/Packages"},
			nil,
			names("/dists/s/InRelease", "/dists/s/main/binary-amd64/Packages"),
		},
		{
			"pacman",
			func(t *testing.T, s *signer, n int) [][2]string {
				data := fmt.Sprintf("generation %d. db", n)
				return [][2]string{{"/core/core.db", data}, {"/core/core.db.sig", note(s.detached(t, data), data)}}
			},
			[]string{"/core/core.db", "/core/core.db.sig"},
			nil, nil,
			signed("/core/core.db", "/core/core.db.sig"),
		},
	}
}

// reader is a client with one connection at a time. net/http keeps it if it can;
// moved says that it could not, and that the last file came over a new one.
type reader struct {
	client *http.Client
	moved  bool
}

func (r *reader) get(t *testing.T, base, path string) (string, int) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { r.moved = !got.Reused },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return "", 0
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return string(body), resp.StatusCode
}

// A publisher replaces the files of a set one after the other, with pauses, two
// hundred times; fifty clients read them all the time, in either order. None
// sees files of two publishes, and all see the new ones.
func TestSetsSwitchTogether(t *testing.T) {
	for _, kind := range kindsOfSets() {
		for _, keyed := range []bool{false, true} {
			if keyed && kind.name != "summary" {
				continue // one will do
			}
			t.Run(fmt.Sprintf("%s/keyed=%v", kind.name, keyed), func(t *testing.T) {
				bubble(t, func(t *testing.T) { switchTogether(t, kind, newSigner(t), keyed) })
			})
		}
	}
}

func switchTogether(t *testing.T, kind kindOfSet, key *signer, keyed bool) {
	publishes, clients := 200, 50
	if testing.Short() {
		publishes = 30
	}
	files := newStatic(make(map[string]string))
	for _, f := range kind.publish(t, key, 0) {
		files.set(f[0], f[1])
	}
	cfg := Config{}
	if keyed {
		cfg.Keys = []string{key.file}
	}
	w := newWorld(t, cfg, func(rw http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		rw.Header().Set("Cache-Control", "max-age=1")
		files.serve(rw, r)
	})
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(over)
		for n := 1; n <= publishes; n++ {
			list := kind.publish(t, key, n)
			if rand.IntN(4) == 0 { // some publish the signature first
				last := len(list) - 1
				list[last], list[last-1] = list[last-1], list[last]
			}
			for _, f := range list {
				files.set(f[0], f[1])
				time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
			}
			time.Sleep(time.Duration(rand.IntN(int(4 * time.Second))))
		}
		time.Sleep(3 * time.Minute)
	})
	var mu sync.Mutex
	reads, refused, mixed := 0, 0, 0
	last := ""
	for range clients {
		wg.Go(func() {
			transport := role.NewTransport(w.net.DialContext)
			defer transport.CloseIdleConnections()
			r := &reader{client: &http.Client{Transport: transport}}
			for {
				select {
				case <-over:
					return
				case <-time.After(time.Duration(rand.IntN(int(12 * time.Second)))):
				}
				paths := append([]string(nil), kind.pair...)
				rand.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
				read := make(map[string]string)
				whole := true
				for _, path := range append(paths, kind.rest...) {
					body, status := r.get(t, "http://edge.mem", path)
					if status != http.StatusOK {
						whole = false
						break
					}
					read[path] = body
					time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
				}
				mu.Lock()
				if reads++; !whole {
					refused++
				} else if last = read[kind.pair[0]]; !kind.fits(read) {
					mixed++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	synctest.Wait()
	shown := w.metric("freshet_edge_generations_total", "shown")
	t.Logf("%d readings, %d refused, %d mixed; %v generations shown, %v conflicts", reads, refused, mixed, shown,
		w.metric("freshet_edge_generations_total", "generation_conflict"))
	if mixed > 0 {
		t.Errorf("%d of %d readings had files of two publishes", mixed, reads)
	}
	if refused > reads/50 {
		t.Errorf("%d of %d readings were refused", refused, reads)
	}
	if shown < float64(publishes)/3 || number(last) != fmt.Sprint(publishes) {
		t.Errorf("%v generations were shown, the last read is %s", shown, number(last))
	}
}
