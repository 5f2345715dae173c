package mirror_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/mirrorapi"
	"freshet/internal/control"
	"freshet/internal/memnet"
	"freshet/internal/mirror"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/mirror/project"
	"freshet/internal/peertest"
	"freshet/internal/ramtest"
	"freshet/internal/repotest"
	"freshet/internal/role"
	"freshet/internal/rsync/rsynctest"
)

func TestMain(m *testing.M) { os.Exit(ramtest.Run(m)) }

// world is a mirror, and the upstream of its project "p".
type world struct {
	t   *testing.T
	up  string // the upstream's folder
	cfg mirror.Config

	network memnet.Network
	admin   *httptest.Server
	// patterns are those of the admin listener.
	patterns []string
	metrics  *prometheus.Registry
	client   *mirrorapi.Client
	public   *mirrorapi.Client
	addr     string // where it listens, if that is not inside the process
	reloads  chan mirror.Config
	stop     func()
	end      func(cause error) // stop, for this reason
	written  time.Time         // the time of the newest file of writeOld
}

// newWorld makes an upstream in a folder, served by a real rsync daemon, and a mirror of
// it, which does not run yet.
func newWorld(t *testing.T, p project.Config) *world {
	t.Helper()
	top := t.TempDir()
	w := &world{t: t, up: filepath.Join(top, "up")}
	if err := os.Mkdir(w.up, 0o755); err != nil {
		t.Fatal(err)
	}
	p.Upstreams = []string{rsynctest.Serve(t, w.up)}
	token, hash := control.NewToken("fw_")
	w.cfg = mirror.Config{
		Directory: filepath.Join(top, "mirror"), Node: "box", Projects: map[string]project.Config{"p": p},
		Control: mirror.ControlConfig{Clients: map[string]mirror.ClientConfig{"ops": {Token: hash}}},
	}
	w.cfg.Listen = "mem:mirror"
	if err := w.cfg.Limits.Reserve.UnmarshalText([]byte("1MB")); err != nil {
		t.Fatal(err)
	}
	w.cfg.Rsync.AnyVersion = true
	w.written = time.Now().Add(-time.Hour).Truncate(time.Second)
	w.client = &mirrorapi.Client{Token: token}
	w.public = &mirrorapi.Client{Base: "http://mirror.mem", HTTP: &http.Client{Transport: role.NewTransport(w.network.DialContext)}}
	return w
}

// start runs the mirror until w.stop is called, or the test ends.
func (w *world) start() {
	w.t.Helper()
	mux := http.NewServeMux()
	ctx, cancel := context.WithCancelCause(w.t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	w.metrics = prometheus.NewRegistry()
	env := role.Env{
		Metrics: w.metrics, Ready: func() { close(ready) },
		Admin: func(pattern string, h http.Handler) {
			w.patterns = append(w.patterns, pattern)
			mux.Handle(pattern, h)
		},
		Listen: func(ctx context.Context, addr string) (net.Listener, error) {
			if strings.HasPrefix(addr, memnet.Scheme) {
				return w.network.Listen(addr)
			}
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
			if err == nil {
				w.addr = ln.Addr().String()
			}
			return ln, err
		},
	}
	w.reloads = make(chan mirror.Config)
	go func() { ended <- mirror.RunReloading(ctx, w.cfg, env, w.reloads) }()
	select {
	case <-ready:
	case err := <-ended:
		w.t.Fatal(err)
	}
	w.admin = httptest.NewServer(mux)
	w.client.Base = w.admin.URL
	stopped := false
	w.stop = func() { w.end(nil) }
	w.end = func(cause error) {
		if stopped {
			return
		}
		stopped = true
		cancel(cause)
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		w.admin.Close()
	}
	w.t.Cleanup(w.stop)
}

// sync syncs p and returns the report, and the steps that were seen on the way.
func (w *world) sync(req mirrorapi.SyncRequest) (report mirrorapi.Report) {
	w.t.Helper()
	for event, err := range w.client.SyncWaiting(w.t.Context(), "p", req) {
		if err != nil {
			w.t.Fatal(err)
		}
		if event.Report != nil {
			report = *event.Report
		}
	}
	return report
}

// await waits until the project's status is as ok wants it.
func (w *world) await(what string, ok func(mirrorapi.ProjectStatus) bool) {
	w.t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for ticker := time.NewTicker(10 * time.Millisecond); ; <-ticker.C {
		st, err := w.client.Project(w.t.Context(), "p")
		if err == nil && ok(st) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %+v, %v", what, st, err)
		}
	}
}

func (w *world) write(name, content string) {
	w.t.Helper()
	name = filepath.Join(w.up, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

// A plan tells what a sync then does: the files and bytes of a repository, and afterwards
// that nothing is left to fetch.
func TestPlan(t *testing.T) {
	peertest.Require(t, "rpmbuild", "createrepo_c")
	w := newWorld(t, project.Config{Kind: "rpm", Repositories: []string{"a", "b"}, Schedule: "never"})
	for _, repo := range []string{"a", "b"} {
		repotest.RPM(t, filepath.Join(w.up, repo), "one"+repo, "1")
		repotest.RPM(t, filepath.Join(w.up, repo), "two"+repo, "1")
		peertest.Run(t, w.up, nil, "createrepo_c", "--quiet", repo)
	}
	w.start()
	before, err := w.client.Plan(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	if before.Held.Files != 0 || before.Fetch.Files != before.Files || len(before.Repositories) != 2 || !before.Fits || before.Metadata.Files == 0 {
		t.Errorf("before: %+v", before)
	}
	r := w.sync(mirrorapi.SyncRequest{})
	if r.Result != mirrorapi.Published {
		t.Fatalf("%+v", r)
	}
	after, err := w.client.Plan(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	if after.Held.Files != r.Files || after.Files != r.Files || after.Bytes != r.Bytes || after.Fetch.Bytes != 0 {
		t.Errorf("after: %+v, and the sync has %d files with %d bytes", after, r.Files, r.Bytes)
	}
	if before.Bytes != r.Bytes {
		t.Errorf("the plan has %d bytes, the sync %d", before.Bytes, r.Bytes)
	}
	if left, err := os.ReadDir(filepath.Join(w.cfg.Directory, "state", "plan")); err == nil {
		t.Errorf("the plan leaves %v", left)
	}
}

// Of what a mirror has, a plan fetches nothing, whatever the kind; of a newer version what the sync
// then fetches.
func TestPlanOfWhatIsHere(t *testing.T) {
	for _, up := range kindtest.Upstreams() {
		t.Run(up.Name, func(t *testing.T) {
			t.Parallel()
			peertest.Require(t, up.Needs...)
			w := newWorld(t, project.Config{Kind: string(up.Config.Format), Repositories: up.Config.Repositories, Schedule: "never"})
			up.Publish(t, w.up, 1)
			w.start()
			r := w.sync(mirrorapi.SyncRequest{})
			if r.Result != mirrorapi.Published {
				t.Fatalf("%+v", r)
			}
			plan := func() mirrorapi.Plan {
				t.Helper()
				p, err := w.client.Plan(t.Context(), "p")
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			if p := plan(); p.Fetch != (mirrorapi.Amount{}) || p.Held.Files != r.Files || p.Held.Bytes != r.Bytes || p.Files != r.Files || p.Unsized != 0 {
				t.Errorf("of what is here: %+v", p)
			}
			up.Publish(t, w.up, 2)
			p := plan()
			r = w.sync(mirrorapi.SyncRequest{})
			whole := p.Files == r.Files && p.Bytes == r.Bytes || p.Files < r.Files && strings.Contains(strings.Join(p.Notes, "\n"), "are not counted")
			if r.Result != mirrorapi.Published || !whole || p.Fetch.Files == 0 || p.Held.Files == 0 {
				t.Errorf("of a newer version: %+v\nthe sync: %+v", p, r)
			}
		})
	}
}

// What a hot set is going to have depends on what clients will ask for: a plan says so.
func TestPlanOfHotSet(t *testing.T) {
	peertest.Require(t, "ostree")
	w := newWorld(t, project.Config{Kind: "ostree", HotSet: 5e9, Schedule: "never"})
	for _, args := range [][]string{{"init", "--mode=archive"}, {"commit", "-b", "one", "--tree=dir=" + t.TempDir()}, {"summary", "-u"}} {
		peertest.Run(t, w.up, nil, "ostree", append(args, "--repo=.")...)
	}
	w.start()
	if p, err := w.client.Plan(t.Context(), "p"); err != nil || !strings.Contains(strings.Join(p.Notes, "\n"), "up to 5GB") {
		t.Errorf("%+v, %v", p, err)
	}
}

// A trigger is acted on once, and only if a key of the project signed it for this host.
func TestTriggers(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := mirrorapi.TriggerKey{Name: "master", Public: public}
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never", Triggers: []string{key.String()}})
	w.write("a", "first")
	w.start()
	good := mirrorapi.Trigger{Project: "p", Sent: time.Now(), Host: "mirror.mem"}
	send := func(trigger mirrorapi.Trigger, key ed25519.PrivateKey) (mirrorapi.TriggerAnswer, error) {
		t.Helper()
		signed, err := trigger.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		return w.public.Trigger(t.Context(), signed)
	}
	refused := func(what, reason string, trigger mirrorapi.Trigger, key ed25519.PrivateKey) {
		t.Helper()
		_, err := send(trigger, key)
		if e, ok := errors.AsType[*mirrorapi.Error](err); !ok || e.Reason != reason {
			t.Errorf("%s: %v, want %s", what, err, reason)
		}
	}
	refused("a stranger's", "forbidden", good, stranger)
	other := good
	other.Project = "q"
	refused("of another project", "forbidden", other, private)
	other = good
	other.Host = "elsewhere.example"
	refused("for another host", "forbidden", other, private)
	other = good
	other.Sent = time.Now().Add(24 * time.Hour)
	refused("of tomorrow", "bad_request", other, private)
	other = good
	other.Spread = mirrorapi.MaxSpread + 1
	refused("with too much time", "bad_request", other, private)

	if a, err := send(good, private); err != nil || a.Known {
		t.Fatalf("%+v, %v", a, err)
	}
	w.await("published", func(st mirrorapi.ProjectStatus) bool {
		return st.Last != nil && st.Last.Result == mirrorapi.Published && st.Last.Order.By == "master"
	})
	if a, err := send(good, private); err != nil || !a.Known {
		t.Errorf("again: %+v, %v", a, err)
	}
	w.stop()
	w.start()
	if a, err := send(good, private); err != nil || !a.Known {
		t.Errorf("again after a restart: %+v, %v", a, err)
	}
	good.Sent = good.Sent.Add(time.Second)
	if a, err := send(good, private); err != nil || a.Known {
		t.Errorf("the next: %+v, %v", a, err)
	}
	w.await("looked again", func(st mirrorapi.ProjectStatus) bool { return st.Last.Serial == 2 && st.State == mirrorapi.Idle })
}

// A mirror downstream hears at once of what is new here, and after it was away.
func TestDownstream(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	key := mirrorapi.TriggerKey{Name: "above", Public: public}
	told := make(chan mirrorapi.Trigger, 10)
	away := true
	below := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var signed mirrorapi.SignedTrigger
		if err := json.NewDecoder(r.Body).Decode(&signed); err != nil {
			t.Error(err)
		}
		trigger, err := signed.Open([]mirrorapi.TriggerKey{key})
		if err != nil || r.URL.Path != mirrorapi.TriggerPath || trigger.Host != r.Host {
			t.Errorf("%s %s: %+v, %v", r.Host, r.URL, trigger, err)
		}
		if away { // it is asked by one connection at a time
			away = false
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		told <- trigger
		_, _ = io.WriteString(w, `{"state": "waiting"}`)
	}))
	defer below.Close()
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never", Downstream: []string{below.URL}})
	w.cfg.TriggerKey = file
	w.write("a", "first")
	w.start()
	first := <-told // after a start, whatever there is
	if r := w.sync(mirrorapi.SyncRequest{}); r.Result != mirrorapi.Published {
		t.Fatalf("%+v", r)
	}
	if second := <-told; second.Project != "p" || second.Key != "above" || !second.Sent.After(first.Sent) {
		t.Errorf("%+v after %+v", second, first)
	}
}

// What is told to a mirror while it stops is done after the next start, and what was
// served is served again.
func TestRestart(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	w.write("a", "first")
	w.start()
	if r := w.sync(mirrorapi.SyncRequest{}); r.Result != mirrorapi.Published || r.Serial != 1 {
		t.Fatalf("%+v", r)
	}
	w.write("b", "second")
	if _, err := w.client.Sync(t.Context(), "p", mirrorapi.SyncRequest{}); err != nil {
		t.Fatal(err)
	}
	w.stop() // in the middle of it, or before, or after
	w.start()
	if text := w.get("/p/a"); text != "first" {
		t.Errorf("after the restart: %q", text)
	}
	w.await("done", func(st mirrorapi.ProjectStatus) bool {
		return st.State == mirrorapi.Idle && st.Last != nil && st.Last.Result != mirrorapi.Canceled && st.Files == 2
	})
	if text := w.get("/p/b"); text != "second" {
		t.Errorf("in the end: %q", text)
	}
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[string]float64)
	for _, f := range families {
		told[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if told["freshet_mirror_files"] != 2 || told["freshet_mirror_checked_timestamp_seconds"] == 0 || told["freshet_mirror_published_timestamp_seconds"] == 0 {
		t.Errorf("metrics: %v", told)
	}
}

// get reads a path of the public listener.
func (w *world) get(path string) string {
	w.t.Helper()
	resp, err := w.public.HTTP.Get(w.public.Base + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return strings.TrimSpace(string(text))
}

// A mirror whose rsync is not there serves what it has, and its doctor says what is wrong.
func TestWithoutRsync(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	w.write("a", "first")
	w.cfg.Rsyncd.Listen = "127.0.0.1:0" // without which HTTP goes on, too
	w.start()
	w.sync(mirrorapi.SyncRequest{})
	w.stop()
	w.cfg.Rsync.Path = "/no/rsync"
	w.start()
	if text := w.get("/p/a"); text != "first" {
		t.Errorf("%q", text)
	}
	if r := w.sync(mirrorapi.SyncRequest{}); r.Result != mirrorapi.Failed || r.Reason != mirrorapi.ReasonProgram || r.Message == "" {
		t.Errorf("%+v", r)
	}
	d, err := w.client.Doctor(t.Context())
	if err != nil || d.Findings[0].Level != mirrorapi.LevelError || d.Findings[0].About != "rsync" && d.Findings[1].About != "rsync" {
		t.Errorf("%+v, %v", d, err)
	}
}
