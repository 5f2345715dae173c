package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/durable"
	"freshet/internal/hub/tree"
	"freshet/internal/pause"
)

const (
	// forwardedBy names the hub that passed a request on. It is not passed on twice.
	forwardedBy = "Freshet-Forwarded-By"

	instancesFolder = "instances"
	startFile       = "start"
	startPoll       = 50 * time.Millisecond
)

// lockShared takes the lock of the directory beside other hubs, and that of the own
// name alone.
func (s *server) lockShared(dir durable.Dir) (io.Closer, error) {
	if err := dir.MkdirAll(instancesFolder, 0o755); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", s.cfg.Dir, err)
	}
	var locks closers
	for _, take := range []func() (io.Closer, error){
		func() (io.Closer, error) { return dir.LockShared(lockFile) },
		func() (io.Closer, error) { return dir.Lock(filepath.Join(instancesFolder, s.cfg.Shared.Instance)) },
	} {
		lock, err := take()
		if err != nil {
			_ = locks.close() // the first error is the one to tell
			return nil, fmt.Errorf("lock %s: %w", s.cfg.Dir, err)
		}
		locks.add(lock)
	}
	return closeFunc(locks.close), nil
}

// startAlone keeps the other hubs from starting at the same time, until done is
// called: what a first start makes is made once.
func (s *server) startAlone(ctx context.Context) (done func(), err error) {
	if !s.cfg.isShared() {
		return func() {}, nil
	}
	dir, err := durable.Open(s.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	defer func() { _ = dir.Root.Close() }()
	for {
		lock, err := dir.Lock(filepath.Join(instancesFolder, "."+startFile))
		if err == nil {
			return sync.OnceFunc(func() { _ = lock.Close() }), nil // nothing was written
		}
		if !errors.Is(err, durable.ErrInUse) {
			return nil, fmt.Errorf("wait for other hubs to start: %w", err)
		}
		if !pause.For(ctx, startPoll) {
			return nil, context.Cause(ctx)
		}
	}
}

// ledOnly is a handler for what only the hub can do that publishes. The others pass
// requests on to it.
func (s *server) ledOnly(able func() bool, next http.Handler) http.Handler {
	if !s.cfg.isShared() {
		return next
	}
	return handler(func(w http.ResponseWriter, r *http.Request) error {
		now := s.fleet.leader.Load()
		switch {
		case now != nil && now.self && able():
			next.ServeHTTP(w, s.ofClient(r))
			return nil
		case now == nil || now.self:
			w.Header().Set("Retry-After", "5")
			return problem(hubapi.ErrUnavailable, "another hub is about to take over")
		case r.Header.Get(forwardedBy) != "":
			w.Header().Set("Retry-After", "1")
			return problem(hubapi.ErrUnavailable, "this hub does not publish any more; %s does", now.name)
		}
		return s.forward(w, r, now)
	})
}

// treesNow returns the trees, nil in a hub that has not opened them.
func (s *server) treesNow() *tree.Trees {
	if s.cfg.isShared() && !s.fleet.treesOpen.Load() {
		return nil
	}
	return s.trees.Load()
}

// forward passes a request on to the hub that publishes.
func (s *server) forward(w http.ResponseWriter, r *http.Request, to *leader) error {
	target, err := url.Parse(to.address)
	if err != nil {
		return fmt.Errorf("address of hub %s: %w", to.name, err)
	}
	var failed error
	proxy := httputil.ReverseProxy{
		Transport: s.fleet.direct,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.SetXForwarded()
			p.Out.Host = p.In.Host
			p.Out.Header.Set(forwardedBy, s.cfg.Shared.Instance)
			s.sayClient(p.Out, p.In)
		},
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ErrorHandler:  func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	proxy.ServeHTTP(w, r)
	if failed != nil {
		s.log.WarnContext(r.Context(), "cannot pass a request on", slog.String("hub", to.name), slog.Any("error", failed))
		w.Header().Set("Retry-After", "5")
		return problem(hubapi.ErrUnavailable, "the hub that publishes does not answer")
	}
	return nil
}
