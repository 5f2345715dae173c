package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
	"freshet/internal/rsync"
	"freshet/internal/rsync/rsynctest"
)

// world is an upstream behind a real server, and a mirror of it.
type world struct {
	*testing.T
	up      string // the upstream's folder
	config  kind.Config
	project engine.Project
	store   *generation.Store

	mu sync.Mutex
	// hook is called before a file is asked for.
	hook func(name string)
	// fetched is called when files were fetched.
	fetched func()
	// asked are the paths that were asked for.
	asked []string
}

// watched is a source of which it is known what it is asked for.
type watched struct {
	fetch.Source
	w *world
}

func (s watched) Read(ctx context.Context, name string, limit int64, v fetch.Validator) (fetch.File, error) {
	s.w.note(name)
	return s.Source.Read(ctx, name, limit, v)
}

func (s watched) Fetch(ctx context.Context, o fetch.Order, report func(fetch.Result)) error {
	for _, want := range o.Wants {
		s.w.note(want.Path)
	}
	err := s.Source.Fetch(ctx, o, report)
	s.w.mu.Lock()
	fetched := s.w.fetched
	s.w.mu.Unlock()
	if fetched != nil {
		fetched()
	}
	return err
}

func (w *world) note(name string) {
	w.mu.Lock()
	w.asked = append(w.asked, name)
	hook := w.hook
	w.mu.Unlock()
	if hook != nil {
		hook(name)
	}
}

func newWorld(t *testing.T, c kind.Config) *world {
	w := &world{T: t, up: t.TempDir(), config: c}
	store, err := generation.Open(t.Context(), filepath.Join(t.TempDir(), "store"), generation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	w.store = store
	p, err := store.Project("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.project = engine.Project{Name: "p", Store: p, Pause: time.Millisecond}
	w.serveRsync()
	return w
}

// serveRsync has the upstream's folder behind a real rsync daemon.
func (w *world) serveRsync() {
	w.Helper()
	program, err := rsync.Find(w.Context(), rsync.Options{AnyVersion: true})
	if err != nil {
		w.Skip(err)
	}
	w.upstreamIs(rsynctest.Serve(w.T, w.up), fetch.Options{Rsync: program})
}

func (w *world) upstreamIs(url string, o fetch.Options) {
	w.Helper()
	s, err := fetch.Open(url, o)
	if err != nil {
		w.Fatal(err)
	}
	w.project.Upstream.Sources = []fetch.Source{watched{s, w}}
}

func (w *world) onRequest(hook func(name string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = hook
}

// requests returns what was asked for since it was called the last time.
func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	return asked
}

func (w *world) path(name string) string { return filepath.Join(w.up, name) }

func (w *world) remove(name string) {
	w.Helper()
	if err := os.RemoveAll(w.path(name)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) run(name string, args ...string) {
	w.Helper()
	if out, err := exec.CommandContext(w.Context(), name, args...).CombinedOutput(); err != nil {
		w.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// rpm adds a package to a repository below the upstream.
func (w *world) rpm(repo, name, version string) {
	w.Helper()
	repotest.RPM(w, w.path(repo+"/Packages"), name, version)
}

// createrepo publishes a repository with a revision.
func (w *world) createrepo(repo string, revision int) {
	w.Helper()
	w.run("createrepo_c", "--quiet", fmt.Sprintf("--revision=%d", revision), w.path(repo))
}

// sync syncs once, with the order as it is but for the project.
func (w *world) sync(order mirrorapi.Order) mirrorapi.Report {
	w.Helper()
	report, _ := w.trySync(w.Context(), order)
	return report
}

func (w *world) trySync(ctx context.Context, order mirrorapi.Order) (mirrorapi.Report, error) {
	w.Helper()
	k, err := kind.New(w.config)
	if err != nil {
		w.Fatal(err)
	}
	p := w.project
	p.Kind = k
	order.Project = p.Name
	log := slog.New(slog.NewTextHandler(w.Output(), nil))
	return engine.New(log, []*engine.Project{&p}).Sync(ctx, order)
}

// want checks how a sync ended.
func (w *world) want(r mirrorapi.Report, result mirrorapi.Result, reason mirrorapi.Reason) {
	w.Helper()
	if r.Result != result || r.Reason != reason {
		w.Fatalf("the sync ended with %s %s (%s), want %s %s\n%+v", r.Result, r.Reason, r.Message, result, reason, r)
	}
}

// has reports whether a path is served, be it from an older generation.
func (w *world) has(name string) bool {
	f, _, _, err := w.project.Store.Open(name)
	if err == nil {
		_ = f.Close()
	}
	return err == nil
}

// check walks a repository as a client does: all that its pointer names must be there,
// with the size and checksum that is named.
func (w *world) check(r closure.Repository) {
	w.Helper()
	if err := walk(w.Context(), r, func(_ context.Context, name string) (io.ReadCloser, error) {
		f, _, _, err := w.project.Store.Open(name)
		return f, err
	}); err != nil {
		w.Errorf("a client of %s: %v", r.PointerPath(), err)
	}
}

// walk is what a client does.
func walk(ctx context.Context, r closure.Repository, open closure.Open) error {
	for f, err := range r.Files(ctx, open) {
		if err != nil {
			return err
		}
		in, err := open(ctx, f.Path)
		if errors.Is(err, fs.ErrNotExist) && f.Optional {
			continue
		}
		if err != nil {
			return err
		}
		err = kind.Verify(kind.File{File: f}, in)
		_ = in.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		peertest.Require(t, p)
	}
}
