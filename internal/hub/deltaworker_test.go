package hub_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
	"freshet/internal/hub/deltas"
	"freshet/internal/hub/deltaworker"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
	"freshet/internal/role"
)

// deltaClaims are those of a worker's token.
func deltaClaims() auth.Claims {
	return auth.Claims{
		Sub: "delta", Name: "farm", Scope: []auth.Scope{auth.ScopeGenerate}, Repos: []string{"stable"},
		Expires: time.Now().Add(time.Hour).Unix(),
	}
}

// remoteHub is a hub that leaves its deltas to workers.
func remoteHub(t *testing.T, depth int) *runningHub {
	t.Helper()
	return startHub(t, hub.Config{DeltaWorkers: -1, Repos: map[string]hub.RepoConfig{"stable": {Deltas: hub.DeltasConfig{
		AppstreamDepth: -1, Rules: []hub.DeltaRule{{Depth: depth}},
	}}}})
}

// worker is a worker of the hub in a folder, with the engine or the native one.
func (h *runningHub) worker(dir string, engine deltas.Engine) func(ctx context.Context) error {
	h.t.Helper()
	if engine == nil {
		var err error
		if engine, err = deltas.OpenEngine(deltas.EngineNative); err != nil {
			h.t.Fatal(err)
		}
	}
	cfg := deltaworker.Config{
		Client: &hubapi.Client{Base: h.base, Token: h.token(deltaClaims()), HTTP: h.client, RetryFor: -1},
		Name:   "one", Dir: dir, Engines: map[string]deltas.Engine{deltas.EngineNative: engine}, CacheSize: 1 << 30,
	}
	env := role.Env{HTTP: h.client, Log: slog.New(slog.NewTextHandler(h.t.Output(), nil))}
	return func(ctx context.Context) error { return deltaworker.Run(ctx, cfg, env) }
}

// background runs a worker until the result is called.
func (h *runningHub) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("worker: %v", err)
		}
		ended <- nil
	}
	h.t.Cleanup(stop)
	return stop
}

// queue is what is to be made.
func (h *runningHub) queue() []hubapi.QueuedDelta {
	h.t.Helper()
	list, err := h.api().DeltaQueue(h.t.Context(), 100)
	if err != nil {
		h.t.Fatal(err)
	}
	return list.Deltas
}

func (h *runningHub) workerAPI() *hubapi.Client {
	return &hubapi.Client{Base: h.base, Token: h.token(deltaClaims()), HTTP: h.client, RetryFor: -1}
}

const helloRef = "app/org.test.Hello/x86_64/stable"

// A worker elsewhere makes what the hub leaves to it, and fetches of the next version
// only what is new.
func TestDeltaWorker(t *testing.T) {
	peertest.Require(t, "xz")
	h := remoteHub(t, 2)
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	v1 := h.head(helloRef)
	h.eventually("the queue", func() bool { return len(h.queue()) == 1 })
	if q := h.queue()[0]; q.Ref != helloRef || q.To != v1 || q.Making || q.From != "" {
		t.Errorf("queue %+v", q)
	}
	h.background(h.worker(t.TempDir(), nil))
	results, log := h.lastDeltas(1)
	if len(results.Deltas) != 1 || results.Deltas[0].Worker != "farm/one" || results.Deltas[0].Size == 0 || results.Deltas[0].Instead == 0 ||
		!strings.Contains(log, "by farm/one") {
		t.Errorf("results %+v\n%s", results, log)
	}
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v1)})
	h.publishAll("stable", app(t, "org.test.Hello", "v2"))
	v2 := h.head(helloRef)
	h.eventually("deltas to v2", func() bool { return len(h.deltasTo(v2)) == 2 })
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v2)})
	h.verifyDelta(ostree.DeltaName{From: commitOf(t, v1), To: commitOf(t, v2)})
}

// An engine that others stop.
type heldEngine struct {
	deltas.Engine

	began chan struct{}
	goOn  chan struct{}
	calls atomic.Int32
}

func newHeldEngine(t *testing.T) *heldEngine {
	t.Helper()
	native, err := deltas.OpenEngine(deltas.EngineNative)
	if err != nil {
		t.Fatal(err)
	}
	return &heldEngine{Engine: native, began: make(chan struct{}, 10), goOn: make(chan struct{}, 10)}
}

func (e *heldEngine) Make(ctx context.Context, repo deltas.Source, name ostree.DeltaName, dir string) (deltas.Report, error) {
	e.calls.Add(1)
	e.began <- struct{}{}
	select {
	case <-e.goOn:
	case <-ctx.Done():
		return deltas.Report{}, ctx.Err()
	}
	return e.Engine.Make(ctx, repo, name, dir)
}

// The hub is restarted while a worker makes a delta: the lease is gone, and the delta
// that is made nevertheless is handed in for the next one, without being made again.
func TestDeltaWorkerOutlivesHub(t *testing.T) {
	peertest.Require(t, "xz")
	h := remoteHub(t, 1)
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	v1 := h.head(helloRef)
	h.eventually("the queue", func() bool { return len(h.queue()) == 1 })
	dir := t.TempDir()
	// A lease of which nobody hears any more, and what its worker had made.
	lease, err := h.workerAPI().LeaseDelta(t.Context(), hubapi.DeltaLeaseRequest{Worker: "late"})
	if err != nil || lease == nil {
		t.Fatal(lease, err)
	}
	kept := filepath.Join(dir, "made", "stable."+ostree.DeltaName{To: commitOf(t, v1)}.String())
	if err := os.MkdirAll(kept, 0o755); err != nil {
		t.Fatal(err)
	}
	source, err := deltas.OpenSource(filepath.Join(h.cfg.Dir, "repos", "stable"))
	if err != nil {
		t.Fatal(err)
	}
	native, err := deltas.OpenEngine(deltas.EngineNative)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := native.Make(t.Context(), source, ostree.DeltaName{To: commitOf(t, v1)}, kept); err != nil {
		t.Fatal(err)
	}
	h.restart()
	for what, err := range map[string]error{
		"extend": second(h.workerAPI().ExtendDelta(t.Context(), lease.Lease, hubapi.DeltaProgress{})),
		"finish": h.workerAPI().FinishDelta(t.Context(), lease.Lease, hubapi.DeltaFinished{}),
		"back":   h.workerAPI().GiveBackDelta(t.Context(), lease.Lease, hubapi.DeltaGivenBack{}),
	} {
		if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Kind != hubapi.ErrNotFound {
			t.Errorf("%s after the restart: %v", what, err)
		}
	}
	engine := newHeldEngine(t)
	h.background(h.worker(dir, engine))
	h.eventually("the delta", func() bool { return h.deltasTo(v1)[""] })
	if n := engine.calls.Load(); n != 0 {
		t.Errorf("made %d times", n)
	}
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v1)})
	h.eventually("cleared", func() bool { return len(entries(t, filepath.Join(dir, "made"))) == 0 })
}

func second[T any](_ T, err error) error { return err }

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A worker that ends gives back what it was making, and counts for nothing; another
// one has it at once.
func TestDeltaWorkerEnds(t *testing.T) {
	peertest.Require(t, "xz")
	h := remoteHub(t, 1)
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	v1 := h.head(helloRef)
	engine := newHeldEngine(t)
	stop := h.background(h.worker(t.TempDir(), engine))
	<-engine.began
	stop()
	if q := h.queue(); len(q) != 1 || q[0].Making || q[0].Attempt != 0 {
		t.Errorf("queue %+v", q)
	}
	if left := entries(t, filepath.Join(h.cfg.Dir, "deltas", "stable")); len(left) > 0 {
		t.Errorf("left in the hub: %v", left)
	}
	h.background(h.worker(t.TempDir(), nil))
	h.eventually("the delta", func() bool { return h.deltasTo(v1)[""] })
}

// deltaParts are the files of a delta as parts of an upload.
func deltaParts(t *testing.T, name ostree.DeltaName, dir string) []hubapi.Part {
	t.Helper()
	var parts []hubapi.Part
	for _, entry := range entries(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, hubapi.Part{
			Name: name.String() + "." + entry.Name() + ".delta", Size: int64(len(data)),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		})
	}
	return parts
}

// What is not the delta is refused and never published, the lease is over then, and
// after some attempts the delta has failed.
func TestDeltaRefused(t *testing.T) {
	peertest.Require(t, "xz")
	h := remoteHub(t, 1)
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	v1 := h.head(helloRef)
	name := ostree.DeltaName{To: commitOf(t, v1)}
	api := h.workerAPI()
	source, err := deltas.OpenSource(filepath.Join(h.cfg.Dir, "repos", "stable"))
	if err != nil {
		t.Fatal(err)
	}
	native, err := deltas.OpenEngine(deltas.EngineNative)
	if err != nil {
		t.Fatal(err)
	}
	good := t.TempDir()
	if _, err := native.Make(t.Context(), source, name, good); err != nil {
		t.Fatal(err)
	}
	damages := []struct {
		what, want string
		damage     func(dir string)
	}{
		{"no head", "not complete", func(dir string) { _ = os.Remove(filepath.Join(dir, "superblock")) }},
		{"a part of zeros", "size is not", func(dir string) { _ = os.WriteFile(filepath.Join(dir, "0"), make([]byte, 100), 0o600) }},
		{"objects that are not in it", "is not in it", func(dir string) {
			data, _ := os.ReadFile(filepath.Join(dir, "superblock"))
			block, err := ostree.ParseSuperblock(data)
			if err != nil {
				t.Fatal(err)
			}
			block.Parts = nil
			_ = os.WriteFile(filepath.Join(dir, "superblock"), block.Encode(), 0o600)
		}},
	}
	for i, c := range damages {
		lease, err := api.LeaseDelta(t.Context(), hubapi.DeltaLeaseRequest{Wait: 20})
		if err != nil || lease == nil || lease.Attempt != i+1 {
			t.Fatal(c.what, lease, err)
		}
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
			t.Fatal(err)
		}
		c.damage(dir)
		if err := api.UploadDelta(t.Context(), lease.Lease, deltaParts(t, name, dir)); err != nil {
			t.Fatal(c.what, err)
		}
		for range 2 { // the verdict is kept
			err := api.FinishDelta(t.Context(), lease.Lease, hubapi.DeltaFinished{})
			if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Status != http.StatusBadRequest || !strings.Contains(e.Message, c.want) {
				t.Errorf("%s: %v", c.what, err)
			}
		}
		err = api.UploadDelta(t.Context(), lease.Lease, deltaParts(t, name, good))
		if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Kind != hubapi.ErrNotFound {
			t.Errorf("%s: upload after the end: %v", c.what, err)
		}
	}
	results, log := h.lastDeltas(1)
	if cause := results.Failed[v1]; !strings.Contains(cause, "is not in it") || !strings.Contains(cause, "3 attempts") || len(h.deltasTo(v1)) != 0 {
		t.Errorf("failed: %v\n%s", results.Failed, log)
	}
	if left := entries(t, filepath.Join(h.cfg.Dir, "deltas", "stable")); len(left) > 1 {
		t.Errorf("left in the hub: %v", left)
	}
}

// Only what a lease is for is taken, and only from those who may.
func TestDeltaLeaseRights(t *testing.T) {
	peertest.Require(t, "xz")
	h := remoteHub(t, 1)
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	h.eventually("the queue", func() bool { return len(h.queue()) == 1 })
	other := deltaClaims()
	other.Repos = []string{"beta"}
	if lease, err := (&hubapi.Client{Base: h.base, Token: h.token(other), HTTP: h.client, RetryFor: -1}).LeaseDelta(t.Context(), hubapi.DeltaLeaseRequest{}); err != nil || lease != nil {
		t.Errorf("for another repository: %+v %v", lease, err)
	}
	h.json(http.MethodPost, hubapi.DeltaLeasePath, h.token(everything()), struct{}{}).problem(t, http.StatusForbidden, hubapi.ErrInsufficient)
	h.json(http.MethodPost, hubapi.DeltaLeasePath, "", struct{}{}).problem(t, http.StatusUnauthorized, hubapi.ErrInvalidToken)
	if lease, err := h.workerAPI().LeaseDelta(t.Context(), hubapi.DeltaLeaseRequest{Engines: []string{"flatpak"}}); err != nil || lease != nil {
		t.Errorf("for another engine: %+v %v", lease, err)
	}
	lease, err := h.workerAPI().LeaseDelta(t.Context(), hubapi.DeltaLeaseRequest{})
	if err != nil || lease == nil || lease.Path != "/repo/stable/" {
		t.Fatal(lease, err)
	}
	h.json(http.MethodPost, hubapi.DeltaLeasePathOf(lease.Lease), h.token(other), struct{}{}).problem(t, http.StatusForbidden, hubapi.ErrInsufficient)
	for _, name := range []string{"x", "../0", ostree.DeltaName{To: ostree.Checksum{1}}.String() + ".0.delta", lease.To + ".commit"} {
		a := h.upload(hubapi.DeltaLeasePathOf(lease.Lease, "upload"), h.token(deltaClaims()), "mixed", part{name, []byte("x")})
		a.problem(t, http.StatusBadRequest, hubapi.ErrGeneric)
	}
	if q := h.queue(); len(q) != 1 || !q[0].Making || q[0].Worker != "farm/" && q[0].Worker != "farm" {
		t.Errorf("queue %+v", q)
	}
	a := h.json(http.MethodPost, hubapi.DeltaLeasePathOf(lease.Lease), h.token(deltaClaims()), hubapi.DeltaProgress{Step: "thinking"})
	if e := decode[hubapi.DeltaExtended](t, a); e.Expires != 60 || h.queue()[0].Step != "thinking" {
		t.Errorf("extended %s", a.body)
	}
}

// A worker may fetch what others need a token for, of what it makes a delta of, as
// long as it does.
func TestDeltaWorkerPassesTheGate(t *testing.T) {
	peertest.Require(t, "xz")
	secret := filepath.Join(t.TempDir(), "repo-secret") // that of downloads is another one
	if err := os.WriteFile(secret, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, hub.Config{DeltaWorkers: -1, RepoSecretFile: secret, Repos: map[string]hub.RepoConfig{"stable": {
		RequireAuthForTokenTypes: []int32{0}, Deltas: hub.DeltasConfig{AppstreamDepth: -1, Rules: []hub.DeltaRule{{Depth: 1}}},
	}}})
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	commit := "/repo/stable/" + ostree.ObjectName{Checksum: commitOf(t, h.head(helloRef)), Type: ostree.TypeCommit}.Path()
	h.eventually("the queue", func() bool { return len(h.queue()) == 1 })
	worker := []string{"Authorization", "Bearer " + h.token(deltaClaims())}
	if a := h.get(commit, worker...); a.status == http.StatusOK {
		t.Error("a worker without a lease gets the commit")
	}
	h.background(h.worker(t.TempDir(), nil))
	if results, log := h.lastDeltas(1); len(results.Deltas) != 1 {
		t.Errorf("results %+v\n%s", results, log)
	}
	if a := h.get(commit, worker...); a.status == http.StatusOK {
		t.Error("a worker without a lease gets the commit")
	}
}
