package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/sqldb/sqldbtest"
	"freshet/internal/store/storetest"
)

// way is the way to an S3 server, on which things happen.
type way struct {
	url    string
	faults atomic.Pointer[func(http.ResponseWriter, *http.Request) (handled bool)]
}

// newWay returns the way to a server, on which nothing happens yet.
func newWay(t *testing.T, server *storetest.Server) *way {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	w := &way{}
	listener := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if fault := w.faults.Load(); fault != nil && (*fault)(rw, r) {
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(listener.Close)
	w.url = listener.URL
	return w
}

// happens has a fault happen to requests; nil for none.
func (w *way) happens(fault func(http.ResponseWriter, *http.Request) bool) {
	if fault == nil {
		w.faults.Store(nil)
		return
	}
	w.faults.Store(&fault)
}

// isAway answers as an overloaded server.
func isAway(rw http.ResponseWriter, _ *http.Request) bool {
	rw.WriteHeader(http.StatusServiceUnavailable)
	return true
}

// now and then something else happens.
func unreliable(seed uint64) func(http.ResponseWriter, *http.Request) bool {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 7))
	return func(rw http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		dice := random.IntN(40)
		mu.Unlock()
		switch dice {
		case 0:
			rw.WriteHeader(http.StatusInternalServerError)
		case 1:
			rw.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			panic(http.ErrAbortHandler) // the connection is cut
		case 3: // slow
			select {
			case <-time.After(200 * time.Millisecond):
			case <-r.Context().Done():
			}
			return false
		default:
			return false
		}
		return true
	}
}

// stored is a hub whose repositories are in a bucket.
type stored struct {
	*hubServer
	t              *testing.T
	way            *way
	config         string
	bucket         string // URL under which the bucket itself is served
	data           string // folder with the objects of the bucket
	app, tokenFile string
	adminFile      string // a token that may prune
}

func startStored(t *testing.T) *stored {
	t.Helper()
	s, work := newStored(t)
	s.hubServer = startHub(t, filepath.Join(work, "hub"), freeAddr(t), "", "--config", s.config)
	s.writeTokens(work)
	return s
}

// newStored makes the bucket and the configuration.
func newStored(t *testing.T) (s *stored, work string) {
	t.Helper()
	server := storetest.Real(t)
	way := newWay(t, server)
	const prune = `
[hub.repos.stable.prune]
grace = "1ms"
rules = [{ref = "*"}]
`
	s, work = storedOn(t, server, way.url, prune)
	s.way = way
	return s, work
}

// storedOn makes the configuration of a hub on a server, which it reaches at a URL.
func storedOn(t *testing.T, server *storetest.Server, endpoint, repos string) (s *stored, work string) {
	t.Helper()
	work = t.TempDir()
	s = &stored{
		t: t, config: filepath.Join(work, "freshet.toml"),
		app: filepath.Join(work, "app"), tokenFile: filepath.Join(work, "token"), data: server.Data,
	}
	text := fmt.Sprintf(`[hub.storage]
endpoint = %q
bucket = %q
prefix = "flatpak"
path-style = true
credentials-file = %q
ca-file = %q
timeout = "5s"
%s`, endpoint, storetest.Bucket, server.Credentials, server.CA, repos)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir(filepath.Join(server.Data, "flatpak")))
	public := httptest.NewServer(http.StripPrefix("/repo", files))
	t.Cleanup(public.Close)
	s.bucket = public.URL
	return s, work
}

func (s *stored) writeTokens(work string) {
	t := s.t
	t.Helper()
	if err := os.WriteFile(s.tokenFile, []byte(s.token), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := run(t, "token", "create", "--dir", s.dir, "--name", "admin", "--scope", "tokenmanagement,jobs")
	s.adminFile = filepath.Join(work, "admin")
	if err := os.WriteFile(s.adminFile, []byte(admin), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *stored) again() {
	s.t.Helper()
	s.hubServer = startHub(s.t, s.dir, strings.TrimPrefix(s.url, "http://"), "", "--config", s.config)
}

func (s *stored) push() error {
	out, errOut, err := tryRun(s.t, "push", "--hub", s.url, "--token-file", s.tokenFile, "--repo", "stable", s.app)
	if err != nil {
		return fmt.Errorf("%w\n%s%s", err, out, errOut)
	}
	return nil
}

func (s *stored) publish(version int) {
	s.t.Helper()
	writeApp(s.t, s.app, version)
	if err := s.push(); err != nil {
		s.t.Fatalf("version %d: %v", version, err)
	}
	s.serves(version)
}

// serves demands a version of the hub, and of the bucket itself.
func (s *stored) serves(version int) {
	s.t.Helper()
	for _, base := range []string{s.url, s.bucket} {
		if got, err := readVersion(s.t.Context(), base); err != nil || got != version {
			s.t.Fatalf("%s has version %d, want %d: %v", base, got, version, err)
		}
	}
}

// sound checks the directory, and what comes from the bucket, with ostree.
func (s *stored) sound(user *client) {
	s.t.Helper()
	user.run("ostree", "fsck", "--quiet", "--repo="+filepath.Join(s.dir, "repos", "stable"))
	mirror := filepath.Join(s.t.TempDir(), "mirror")
	user.run("ostree", "init", "--repo="+mirror, "--mode=archive")
	user.run("ostree", "remote", "add", "--repo="+mirror, "--no-gpg-verify", "bucket", s.bucket+"/repo/stable")
	user.run("ostree", "pull", "--repo="+mirror, "--mirror", "bucket")
	user.run("ostree", "fsck", "--quiet", "--repo="+mirror)
}

// flatpak installs and updates from a hub whose repository is in a bucket; the disk of
// the hub is lost, and comes back from the bucket.
func TestStorage(t *testing.T) {
	peertest.Require(t, "ostree", "flatpak")
	hub := startStored(t)
	hub.publish(1)
	user := newClient(t)
	user.run("flatpak", "--user", "remote-add", "hub", hub.url+"/repo/stable/stable.flatpakrepo")
	user.run("flatpak", "--user", "install", "-y", "--noninteractive", "--no-deps", "hub", killedApp)
	installed := func(version int) {
		t.Helper()
		location := strings.TrimSpace(user.run("flatpak", "--user", "info", "--show-location", killedApp))
		text, err := os.ReadFile(filepath.Join(location, "files", "data", "0"))
		if want := fmt.Sprintf("version %d ", version); err != nil || !strings.HasPrefix(string(text), want) {
			t.Fatalf("installed is %.20q, want %q: %v", text, want, err)
		}
	}
	installed(1)
	hub.publish(2)
	user.run("flatpak", "--user", "update", "-y", "--noninteractive", "--no-deps")
	installed(2)
	hub.sound(user)

	// The disk is lost, but for the keys and the database.
	hub.stop(syscall.SIGTERM)
	if err := os.RemoveAll(filepath.Join(hub.dir, "repos")); err != nil {
		t.Fatal(err)
	}
	hub.again()
	hub.serves(2)
	hub.sound(user)
	hub.publish(3)
	user.run("flatpak", "--user", "update", "-y", "--noninteractive", "--no-deps")
	installed(3)

	// Old versions are pruned, there too.
	hub.pruned(2 * 20)
	hub.serves(3)
	hub.sound(user)
	hub.mends(3)

	// Without the bucket the hub does not touch what belongs to it.
	hub.stop(syscall.SIGTERM)
	if err := os.WriteFile(hub.config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, errOut, err := tryRun(t, "hub", "--dir", hub.dir, "--listen", freeAddr(t), "--config", hub.config)
	if err == nil || !strings.Contains(errOut, "copy in a bucket") {
		t.Errorf("a hub without the bucket: %v\n%s", err, errOut)
	}
}

// mends has somebody remove files of the bucket, which a check beside the hub puts back.
func (s *stored) mends(version int) {
	t := s.t
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(s.data, "flatpak", "stable", "objects", "*", "*.filez"))
	if err != nil || len(objects) == 0 {
		t.Fatalf("no objects: %v", err)
	}
	for _, path := range []string{objects[0], filepath.Join(s.data, "flatpak", "stable", "summary.idx")} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	fsck := []string{"hub", "fsck", filepath.Join(s.dir, "repos", "stable"), "--config", s.config}
	out, _, err := tryRun(t, fsck...)
	if err == nil || strings.Count(out, "it is not in the bucket") != 2 {
		t.Errorf("files of the bucket are away: %v\n%s", err, out)
	}
	if out := run(t, append(fsck, "--repair-bucket")...); !strings.Contains(out, "2 problems, repaired: sound") {
		t.Errorf("they are put back: %s", out)
	}
	s.serves(version)
}

// objects counts the objects of the repository in the bucket.
func (s *stored) objects() (n int) {
	s.t.Helper()
	for folder := range strings.SplitSeq(string(get(s.t, s.bucket+"/repo/stable/objects/", 200)), "href=") {
		if len(folder) < 5 || folder[3] != '/' {
			continue
		}
		n += strings.Count(string(get(s.t, s.bucket+"/repo/stable/objects/"+folder[1:4], 200)), "href=")
	}
	return n
}

// The hub is killed at random moments of publishes, while the S3 server fails, cuts
// connections and is slow. What the hub and the bucket serve fits together all the
// time, and a repeated push succeeds.
func TestKillStoredHub(t *testing.T) {
	peertest.Require(t, "ostree")
	hub := startStored(t)
	writeApp(t, hub.app, 1)
	begin := time.Now()
	if err := hub.push(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	problems := make(chan error, 100)
	readers.Go(func() {
		for ctx.Err() == nil {
			_, err := readVersion(ctx, hub.bucket)
			if wrong, ok := errors.AsType[*inconsistent](err); ok {
				select {
				case problems <- wrong:
				default:
				}
			}
		}
	})
	user := newClient(t)
	random := rand.New(rand.NewPCG(5, 6))
	rounds := max(3, kills(t)/3)
	for i := range rounds {
		version := i + 2
		writeApp(t, hub.app, version)
		hub.way.happens(unreliable(uint64(i)))
		pushed := make(chan error, 1)
		go func() { pushed <- hub.push() }()
		<-time.After(time.Duration(random.Int64N(int64(took) * 5 / 4)))
		hub.kill()
		if i%3 == 2 {
			if err := os.RemoveAll(filepath.Join(hub.dir, "repos")); err != nil {
				t.Fatal(err)
			}
		}
		hub.again()
		if err := <-pushed; err != nil {
			if err = hub.push(); err != nil {
				t.Fatalf("kill %d: %v", i, err)
			}
		}
		hub.way.happens(nil)
		hub.serves(version)
		hub.sound(user)
	}
	cancel()
	readers.Wait()
	close(problems)
	for err := range problems {
		t.Error(err)
	}
}

// While the S3 server is away, publishes wait, the state says for what, and the hub
// serves. When it is back they are published.
func TestStorageAway(t *testing.T) {
	hub := startStored(t)
	hub.publish(1)
	hub.way.happens(isAway)
	writeApp(t, hub.app, 2)
	pushed := make(chan error, 1)
	go func() { pushed <- hub.push() }()
	eventually(t, "the queue waits for the storage", patience, func() error {
		if text := string(get(t, "http://"+hub.admin+"/metrics", 200)); !strings.Contains(text, `freshet_hub_repo_waiting{reason="storage",repo="stable"} 1`) {
			return errors.New("not yet")
		}
		return nil
	})
	if got, err := readVersion(t.Context(), hub.url); err != nil || got != 1 {
		t.Errorf("meanwhile the hub has version %d: %v", got, err)
	}
	hub.way.happens(nil)
	if err := <-pushed; err != nil {
		t.Fatal(err)
	}
	hub.serves(2)
}

// Two hubs share a directory, a database and a bucket. The one that publishes is
// killed, or stopped and waked up later, in the middle of publishes.
func TestSharedStoredHubs(t *testing.T) {
	peertest.Require(t, "ostree")
	s, work := newStored(t)
	dsn := sqldbtest.PostgreSQL(t)
	one := startSharing(t, filepath.Join(work, "hub"), dsn, "one", "--config", s.config)
	one.waitLeads(true)
	other := startSharing(t, one.dir, dsn, "other", "--config", s.config)
	s.hubServer = one.hubServer
	s.writeTokens(work)
	p := &pushing{t: t, tokenFile: s.tokenFile, app: s.app, tree: filepath.Join(work, "tree")}
	p.write(1)
	begin := time.Now()
	if err := p.appTo(other); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	p.published(false, one, other)
	leads, rests := one, other
	user := newClient(t)
	random := rand.New(rand.NewPCG(8, 9))
	for i := range 3 {
		paused := i%2 == 1
		p.write(i + 2)
		pushed := make(chan error, 1)
		go func() { pushed <- p.appTo(rests) }()
		<-time.After(time.Duration(random.Int64N(int64(took))))
		if paused {
			leads.signal(syscall.SIGSTOP)
		} else {
			leads.kill()
		}
		rests.waitLeads(true)
		if err := <-pushed; err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		p.published(false, rests)
		if paused {
			leads.signal(syscall.SIGCONT)
			leads.waitLeads(false)
		} else {
			leads.again()
		}
		leads, rests = rests, leads
		p.write(100 + i)
		if err := p.appTo(rests); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		p.published(false, leads, rests)
		s.hubServer = leads.hubServer
		s.serves(p.version)
		s.sound(user)
	}
}
