package deltaworker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/hubapi"
	"freshet/internal/durable"
	"freshet/internal/hub/deltas"
	"freshet/internal/pause"
	"freshet/internal/role"
)

// Config says for which hub a worker works, and how.
type Config struct {
	// Client speaks with the hub. Its token has the sub "delta" and the scope
	// "generate".
	Client *hubapi.Client
	// Name is how the hub calls the worker, below the name of its token.
	Name string
	// Dir is the worker's folder; it is made when it is not there.
	Dir string
	// Jobs is how many deltas are made at once; default 1.
	Jobs int
	// CacheSize is about how many bytes of objects are kept for the next deltas.
	CacheSize int64
	// Engines make deltas, by the names that the hub uses; at least one.
	Engines map[string]deltas.Engine
	// Once ends the worker when there is nothing to make.
	Once bool
}

const (
	// pollWait is how long the hub is asked to wait for a delta.
	pollWait = 50 * time.Second
	// minPause is the time after the first of several failures; it doubles each time
	// up to maxPause.
	minPause = time.Second
	maxPause = 5 * time.Minute
	// onceConnects is how long a worker that works once tries to reach the hub.
	onceConnects = 30 * time.Second
	// keepMade is how long a delta is kept that the hub has not taken.
	keepMade = 24 * time.Hour
)

// Run makes deltas until ctx ends; what is under way then is given back. The error is
// not nil when the hub refuses the worker, or its folder cannot be used.
func Run(ctx context.Context, cfg Config, env role.Env) (err error) {
	env = env.WithDefaults()
	cfg.Client = telling(ctx, cfg.Client, env.Log)
	if cfg.Once {
		cfg.Client.ConnectFor = onceConnects
	}
	w := &worker{cfg: cfg, log: env.Log, metrics: newMetrics(env.Metrics)}
	unlock, err := w.open(env.HTTP)
	if err != nil {
		return fmt.Errorf("delta worker: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	w.log.InfoContext(ctx, "delta worker asks for work", slog.String("hub", cfg.Client.Base), slog.String("name", cfg.Name),
		slog.String("dir", cfg.Dir), slog.Any("engines", w.engines()))
	env.Ready()
	group, ctx := errgroup.WithContext(ctx)
	for range max(1, cfg.Jobs) {
		group.Go(func() error { return w.work(ctx) })
	}
	return group.Wait()
}

// telling returns the client with a log of what it tries again: a hub that is away,
// or that was never there, is not met with silence.
func telling(ctx context.Context, client *hubapi.Client, log *slog.Logger) *hubapi.Client {
	told, also := *client, client.Retrying
	told.Retrying = func(r hubapi.Retry) {
		log.WarnContext(ctx, "the hub does not answer; trying again", slog.Any("error", r.Err), slog.Duration("pause", r.Pause))
		if also != nil {
			also(r)
		}
	}
	return &told
}

// worker is a running worker.
type worker struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	cache   *cache
	id      string // of the folder
	run     string // of this process

	mu    sync.Mutex
	tries int // failures in a row
}

// open makes the folders, and clears what a former run was making.
func (w *worker) open(client *http.Client) (unlock func() error, err error) {
	if err := os.MkdirAll(w.cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	dir, err := durable.Open(w.cfg.Dir)
	if err != nil {
		return nil, err
	}
	lock, err := dir.Lock("lock")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", w.cfg.Dir, err), dir.Root.Close())
	}
	unlock = func() error { return errors.Join(lock.Close(), dir.Root.Close()) }
	w.run = rand.Text()
	if w.id, err = folderID(dir); err == nil {
		err = w.prepare(client)
	}
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// folderID is the name of a folder, which it gets at its first use.
func folderID(dir durable.Dir) (string, error) {
	id, err := dir.Root.ReadFile("id")
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(id) == 0 {
		id = []byte(rand.Text())
		err = dir.WriteFile("id", id, 0o644)
	}
	return string(id), err
}

func (w *worker) prepare(client *http.Client) (err error) {
	if err := os.RemoveAll(w.path("work")); err != nil {
		return err
	}
	for _, sub := range [...]string{"work", "made"} {
		if err := os.MkdirAll(w.path(sub), 0o755); err != nil {
			return err
		}
	}
	if err := w.clearMade(); err != nil {
		return err
	}
	if w.cache, err = openCache(w.path("repo")); err != nil {
		return err
	}
	w.cache.http, w.cache.limit = client, w.cfg.CacheSize
	w.cache.base, w.cache.token = w.cfg.Client.Base, w.cfg.Client.Token
	w.cache.fetched = func(n int64) { w.metrics.fetched.Add(float64(n)) }
	return w.cache.shrink()
}

// clearMade removes what was made and not asked for again: when a hub is killed, nobody
// hears that a delta was taken.
func (w *worker) clearMade() error {
	old, err := os.ReadDir(w.path("made"))
	for _, entry := range old {
		if info, infoErr := entry.Info(); infoErr == nil && time.Since(info.ModTime()) > keepMade {
			err = errors.Join(err, os.RemoveAll(w.path("made", entry.Name())))
		}
	}
	return err
}

func (w *worker) path(elements ...string) string {
	return filepath.Join(append([]string{w.cfg.Dir}, elements...)...)
}

func (w *worker) engines() []string {
	var names []string
	for name := range w.cfg.Engines {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// work makes one delta after the other.
func (w *worker) work(ctx context.Context) error {
	request := hubapi.DeltaLeaseRequest{Worker: w.cfg.Name, ID: w.id, Run: w.run, Engines: w.engines(), Wait: int(pollWait.Seconds())}
	if w.cfg.Once {
		request.Wait = 0
	}
	for ctx.Err() == nil {
		lease, err := w.cfg.Client.LeaseDelta(ctx, request)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // asked to end
		case err != nil && (w.cfg.Once || !hubapi.Retryable(err)):
			return explain(err)
		case err != nil:
			w.log.WarnContext(ctx, "the hub has no answer; asking again", slog.Any("error", err))
		case lease == nil && w.cfg.Once:
			return nil
		case lease == nil:
			if err := w.clearMade(); err != nil {
				w.log.WarnContext(ctx, "files of deltas remain", slog.Any("error", err))
			}
			continue
		default:
			if err = w.serve(ctx, lease); err == nil {
				w.succeeded()
				continue
			}
		}
		pause.For(ctx, w.failed())
	}
	return nil
}

// explain says what to do about a refusal.
func explain(err error) error {
	e, ok := errors.AsType[*hubapi.Error](err)
	switch {
	case !ok:
		return err
	case e.Kind == hubapi.ErrNotFound:
		return fmt.Errorf("the hub knows nothing of delta workers; it is too old, or --hub is not its URL: %w", err)
	case e.Kind == hubapi.ErrInsufficient, e.Kind == hubapi.ErrInvalidToken:
		return fmt.Errorf("the hub refuses the token (freshet token create --sub delta --scope generate makes one): %w", err)
	}
	return err
}

func (w *worker) succeeded() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tries = 0
}

// failed returns how long to wait after a failure: longer each time, and not the same
// time for all workers of a hub that went down.
func (w *worker) failed() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := min(minPause<<min(w.tries, 16), maxPause)
	w.tries++
	return d/2 + mathrand.N(d/2+1)
}

// noFolder passes over that a folder is not there.
func noFolder(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
