package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/doors"
	"freshet/internal/durable"
	"freshet/internal/h1"
	"freshet/internal/mirror/budget"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/reports"
	"freshet/internal/mirror/rsyncd"
	"freshet/internal/mirror/schedule"
	"freshet/internal/mirror/serve"
	"freshet/internal/mirror/tell"
	"freshet/internal/role"
	"freshet/internal/rsync"
)

// mirror is a mirror that runs.
type mirror struct {
	cfg   Config
	log   *slog.Logger
	began time.Time

	store       *generation.Store
	state, logs durable.Dir
	hotSets     map[string]*hotSet // by project, those that keep one; not changed while serving
	reports     *reports.Log
	scheduler   *schedule.Scheduler
	engine      Engine
	projects    map[string]*engine.Project
	planning    sync.Mutex // one plan at a time
	crier       *tell.Crier
	desk        *desk
	metrics     *metrics
	triggerKeys map[string][]mirrorapi.TriggerKey
	heralds     map[string][]*herald
	disks       *budget.Budget  // of syncs and checks
	news        chan struct{}   // there is a new generation
	ctx         context.Context //nolint:containedctx // that of the process, for answers that go on for long
}

// Run mirrors until ctx ends, then drains: syncs stop, and go on after the next start. A
// clean stop returns nil.
func Run(ctx context.Context, cfg Config, env role.Env) (err error) {
	env = env.WithDefaults()
	if err := config.Check(cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	m, err := open(ctx, cfg.WithDefaults(), env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	m.metrics = m.newMetrics(env.Metrics)
	m.register(env.Admin)
	access := role.NewAccess("mirror", env.Log, env.Metrics).To(env.Access)
	site, err := m.site(access, env)
	if err != nil {
		return err
	}
	defer site.Close()
	public, err := m.cfg.Open(ctx, doors.Options{Role: "mirror", Env: env, Limits: m.cfg.Clients})
	if err != nil {
		return err
	}
	rsyncs, err := m.openRsync(ctx, env)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return rsyncs(ctx) })
	group.Go(func() error { m.scheduler.Run(ctx); return nil })
	group.Go(func() error { m.crier.Run(ctx); return nil })
	group.Go(func() error { m.clean(ctx); return nil })
	group.Go(func() error { m.cry(ctx); return nil })
	group.Go(func() error {
		env.Ready()
		return public.Serve(ctx, doors.Inside{
			Ready: site, All: access.Wrap(m.public(site)),
			Refused: func(r *h1.Refused) { access.Note(context.WithoutCancel(ctx), r.Record()) },
		})
	})
	return group.Wait()
}

// open opens what a mirror with a whole configuration works with.
func open(ctx context.Context, cfg Config, env role.Env) (m *mirror, err error) {
	m = &mirror{cfg: cfg, log: env.Log, began: time.Now().UTC(), ctx: ctx, news: make(chan struct{}, 1), disks: budget.New(int64(cfg.Limits.IO))}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.cfg.Node == "" {
		if m.cfg.Node, err = os.Hostname(); err != nil {
			return m, fmt.Errorf("node: %w; say in [mirror] what the name is", err)
		}
	}
	if m.triggerKeys, err = triggerKeys(cfg); err != nil {
		return m, err
	}
	if m.heralds, err = newHeralds(cfg, env.HTTP, env.Log); err != nil {
		return m, err
	}
	if m.desk, err = openDesk(cfg.Control, env.Log); err != nil {
		return m, err
	}
	if m.store, err = generation.Open(ctx, cfg.Directory, generation.Options{}); err != nil {
		return m, fmt.Errorf("directory: %w", err)
	}
	if err := m.openState(); err != nil {
		return m, fmt.Errorf("directory %s: %w", cfg.Directory, err)
	}
	if m.engine, err = newEngine(ctx, m, env); err != nil {
		return m, err
	}
	m.scheduler, err = schedule.New(schedule.Options{
		Projects: m.schedules(), Parallel: cfg.Limits.Syncs, Run: m.runSync,
		Store: schedule.File{Dir: m.state, Name: "schedule.json"}, Log: env.Log,
	})
	return m, err
}

// openState opens the folder of what is remembered besides generations.
func (m *mirror) openState() (err error) {
	if m.state, err = durable.Open(filepath.Join(m.cfg.Directory, "state")); err != nil {
		return err
	}
	if m.logs, err = durable.Open(filepath.Join(m.cfg.Directory, "state", "reports")); err != nil {
		return err
	}
	m.reports = reports.New(m.logs)
	return nil
}

// schedules are what the scheduler is told of the projects, which were validated.
func (m *mirror) schedules() []schedule.Project {
	var list []schedule.Project
	for name, p := range m.cfg.Projects {
		times, _ := schedule.Parse(p.Schedule)
		list = append(list, schedule.Project{
			Name: name, Times: times, Jitter: cmp.Or(p.Jitter, times.Jitter()), Priority: p.Priority, Timeout: p.Timeout,
		})
	}
	return list
}

// close gives back what open has opened so far.
func (m *mirror) close() error {
	var err error
	if m.store != nil {
		err = m.store.Close()
	}
	for _, dir := range []durable.Dir{m.state, m.logs} {
		if dir.Root != nil {
			err = errors.Join(err, dir.Root.Close())
		}
	}
	if m.desk != nil {
		err = errors.Join(err, m.desk.audit.Close())
	}
	return err
}

// site serves the projects of the configuration.
func (m *mirror) site(access *role.Access, env role.Env) (*serve.Site, error) {
	through := make(map[string]*url.URL)
	for name, p := range m.cfg.Projects {
		if p.Through != "" {
			to, err := url.Parse(p.Through)
			if err != nil {
				return nil, fmt.Errorf("project %s: through: %w", name, err)
			}
			through[name] = to
		}
	}
	site, err := serve.New(serve.Options{
		Object: m.store.Object, Asked: m.asked, Through: through, HTTP: env.HTTP.Transport, Access: access, Log: m.log,
	})
	if err != nil {
		return nil, err
	}
	projects := make([]*generation.Project, 0, len(m.cfg.Projects))
	for name := range m.cfg.Projects {
		p, err := m.store.Project(name, nil)
		if err != nil {
			return nil, fmt.Errorf("project %s: %w", name, err)
		}
		projects = append(projects, p)
	}
	site.Show(projects)
	return site, nil
}

// openRsync opens the rsync server, and returns what serves there; that does nothing if
// there is none.
func (m *mirror) openRsync(ctx context.Context, env role.Env) (func(context.Context) error, error) {
	if m.cfg.Rsyncd.Listen == "" {
		return func(context.Context) error { return nil }, nil
	}
	program, err := rsync.Find(ctx, m.cfg.Rsync)
	if err != nil {
		return nil, err
	}
	var modules []rsyncd.Module
	for _, name := range slices.Sorted(maps.Keys(m.cfg.Projects)) {
		p, err := m.store.Project(name, nil)
		if err != nil {
			return nil, fmt.Errorf("project %s: %w", name, err)
		}
		path, err := filepath.Abs(p.TreePath())
		if err != nil {
			return nil, err
		}
		modules = append(modules, rsyncd.Module{Name: name, Path: path})
	}
	s, err := rsyncd.New(m.cfg.Rsyncd, modules, program, m.state, env)
	if err != nil {
		return nil, err
	}
	ln, err := env.Listen(ctx, m.cfg.Rsyncd.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for rsync: %w", m.cfg.Rsyncd.Listen, err)
	}
	env.Log.InfoContext(ctx, "listening", slog.String("on", ln.Addr().String()), slog.String("protocol", "rsync"))
	return func(ctx context.Context) error { return s.Serve(ctx, ln) }, nil
}

// public is the handler of the public listener. Paths come as they are: no multiplexer
// cleans them on the way.
func (m *mirror) public(site http.Handler) http.Handler {
	triggers := m.triggers()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == mirrorapi.TriggerPath {
			triggers.ServeHTTP(w, r)
			return
		}
		site.ServeHTTP(w, r)
	})
}

// runSync runs a sync and keeps its report.
func (m *mirror) runSync(ctx context.Context, order mirrorapi.Order) mirrorapi.Report {
	report, err := m.engine.Sync(ctx, order)
	report.Project, report.Order = order.Project, order
	attrs := []slog.Attr{
		slog.String("project", order.Project), slog.String("cause", string(order.Cause)), slog.String("result", string(report.Result)),
		slog.Duration("took", report.Ended.Sub(report.Began)),
	}
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("reason", string(report.Reason)), slog.Any("error", err))
	}
	m.log.LogAttrs(ctx, level, "sync ended", attrs...)
	m.metrics.ended(report)
	kept, err := m.reports.Append(report)
	if err != nil {
		m.log.ErrorContext(ctx, "the report of a sync is lost", slog.String("project", order.Project), slog.Any("error", err))
	}
	return kept
}
