package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/doors"
	"freshet/internal/durable"
	"freshet/internal/h1"
	"freshet/internal/mirror/budget"
	"freshet/internal/mirror/desired"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/reports"
	"freshet/internal/mirror/room"
	"freshet/internal/mirror/rsyncd"
	"freshet/internal/mirror/schedule"
	"freshet/internal/mirror/serve"
	"freshet/internal/mirror/status"
	"freshet/internal/role"
	"freshet/internal/rsync"
	"freshet/internal/telemetry"
)

// mirror is a mirror that runs.
type mirror struct {
	log   *slog.Logger
	env   role.Env
	began time.Time

	now         atomic.Pointer[settings] // not nil once it is open
	store       *generation.Store
	repairs     []string // what was damaged when the mirror started, and was mended
	state, logs durable.Dir
	reports     *reports.Log
	telling     telling // of how the mirror is
	scheduler   *schedule.Scheduler
	keeper      *room.Keeper
	engine      *engine.Engine
	site        *serve.Site
	rsyncs      *rsyncd.Server // nil: nothing is served by rsync
	planning    sync.Mutex     // one plan at a time
	changing    sync.Mutex     // of which projects there are, here and in the store
	verifying   sync.Map       // the projects whose files are being read
	damages     damages        // what that has found
	desk        *desk
	metrics     *metrics
	telemetry   *telemetry.Emitter // nil: there is no watch
	meter       meter
	smart       smart
	network     *budget.Budget    // of syncs
	disks       *budget.Budget    // of syncs and checks
	news        chan struct{}     // there is a new generation
	follower    *desired.Follower // nil: nothing is desired by others
	offers      chan offer        // of the follower
	local       Config            // that of the file; of the goroutine of follow
	wanted      Desired           // that is followed; of the goroutine of follow
	ctx         context.Context   //nolint:containedctx // that of the process, for answers that go on for long
}

// Run mirrors until ctx ends, then drains: syncs stop, and go on after the next start. A
// clean stop returns nil.
func Run(ctx context.Context, cfg Config, env role.Env) error {
	return RunReloading(ctx, cfg, env, nil)
}

// RunReloading is [Run] that also takes over settings while it serves: all but those that say
// that they need a restart. Each Config that reloads yields is the whole configuration;
// the files that it names are read anew with it. What is wrong with it is logged, and
// changes nothing.
func RunReloading(ctx context.Context, cfg Config, env role.Env, reloads <-chan Config) (err error) {
	env = env.WithDefaults()
	if err := config.Check(cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	m, err := open(ctx, cfg, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	m.metrics = m.newMetrics(env.Metrics)
	m.register(env.Admin)
	access := role.NewAccess("mirror", env.Log, env.Metrics).To(env.Access)
	m.site, err = serve.New(serve.Options{Object: m.store.Object, Asked: m.asked, HTTP: env.HTTP.Transport, Access: access, Log: m.log, Status: m.publicStatus, State: m.state})
	if err != nil {
		return err
	}
	defer m.site.Close()
	if m.telemetry, err = m.openTelemetry(); err != nil {
		return err
	}
	observing, observed := context.WithCancel(context.WithoutCancel(ctx)) // until all was served
	var telling sync.WaitGroup
	telling.Go(func() { m.telemetry.Run(observing) })
	defer func() {
		observed()
		telling.Wait()
		err = errors.Join(err, m.telemetry.Close())
	}()
	access.Each, access.Under = m.telemetry.Note, m.telemetry.Under
	m.show(m.now.Load())
	public, err := m.cfg().Open(ctx, doors.Options{Role: "mirror", Env: env, Limits: m.cfg().Clients, Released: true})
	if err != nil {
		return err
	}
	rsyncs, err := m.openRsync(ctx, env)
	if err != nil {
		return err
	}
	m.meter.sent = access.Sent
	if m.rsyncs != nil {
		m.rsyncs.Each, m.rsyncs.Under = m.telemetry.Note, m.telemetry.Under
		m.meter.sent = func() int64 { return access.Sent() + m.rsyncs.Sent() }
	}
	paceCollections()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { m.meter.run(ctx); return nil })
	hasten := context.AfterFunc(ctx, m.site.Hasten)
	defer hasten()
	var work sync.WaitGroup // whatever changes the store, or what is kept beside it
	work.Go(func() { m.scheduler.Run(ctx) })
	work.Go(func() { m.clean(ctx) })
	work.Go(func() { m.sample(ctx) })
	work.Go(func() { m.watchDisks(ctx) })
	work.Go(func() { m.follow(ctx, reloads, public.Certificates()) })
	if m.follower != nil {
		work.Go(func() { m.follower.Run(ctx) })
	}
	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	group.Go(func() error {
		<-ctx.Done()
		return m.release(ctx, stop, &work)
	})
	group.Go(func() error { return rsyncs(serving) })
	group.Go(func() error {
		env.Ready()
		return public.Serve(serving, doors.Inside{
			Ready: behind{m.site, m}, All: access.Wrap(m.public(m.site)),
			Refused: func(r *h1.Refused) { access.Note(context.WithoutCancel(ctx), r.Record()) },
		})
	})
	return group.Wait()
}

// release ends all that changes the store, and accepting clients: the latter at once when
// the mirror stops, and last when another process takes over, so that clients wait for
// that one only while it begins. Answers under way go on.
func (m *mirror) release(ctx context.Context, stop context.CancelCauseFunc, work *sync.WaitGroup) error {
	cause := context.Cause(ctx)
	if _, over := errors.AsType[role.Handover](cause); !over {
		stop(cause)
	}
	work.Wait()
	stop(cause)
	m.scheduler.Close()
	err := m.store.Release()
	m.env.Released()
	return err
}

// open opens what a mirror with a valid configuration works with.
func open(ctx context.Context, cfg Config, env role.Env) (m *mirror, err error) {
	m = &mirror{
		log: env.Log, env: env, began: time.Now().UTC(), ctx: ctx, news: make(chan struct{}, 1), offers: make(chan offer),
		network: new(budget.Budget), disks: new(budget.Budget),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.desk, err = openDesk(cfg.Control, env.Log); err != nil {
		return m, err
	}
	if m.store, err = generation.Open(ctx, cfg.Directory, generation.Options{}); err != nil {
		return m, fmt.Errorf("directory: %w", err)
	}
	if err := m.openState(cfg.Directory); err != nil {
		return m, fmt.Errorf("directory %s: %w", cfg.Directory, err)
	}
	m.keeper = m.newKeeper()
	if cfg, err = m.begin(ctx, cfg); err != nil {
		return m, err
	}
	cfg = cfg.WithDefaults()
	m.network.Set(int64(cfg.Limits.Bandwidth))
	m.disks.Set(int64(cfg.Limits.IO))
	now, err := m.settle(ctx, cfg)
	if err != nil {
		return m, err
	}
	m.now.Store(now)
	m.engine = engine.New(env.Log, slices.Collect(maps.Values(now.projects)))
	m.scheduler, err = schedule.New(schedule.Options{
		Projects: now.schedules(), Parallel: cfg.Limits.Syncs, Run: m.runSync,
		Store: schedule.File{Dir: m.state, Name: "schedule.json"}, Log: env.Log,
	})
	if err != nil {
		return m, err
	}
	if lost := m.scheduler.Lost(); lost != nil {
		m.repaired("what waited, and what was held: %v", lost)
	}
	return m, nil
}

// openState opens the folder of what is remembered besides generations.
func (m *mirror) openState(directory string) (err error) {
	if m.state, err = durable.Open(filepath.Join(directory, "state")); err != nil {
		return err
	}
	if m.logs, err = durable.Open(filepath.Join(directory, "state", "reports")); err != nil {
		return err
	}
	for _, dir := range []durable.Dir{m.state, m.logs} {
		if _, err := dir.Sweep("."); err != nil { // what a crash has left
			m.log.Error("temporary files stay", slog.Any("error", err))
		}
	}
	m.reports, m.damages.dir = reports.New(m.logs), m.state
	if m.telling.disk, err = status.OpenHistory(m.state); err != nil {
		m.repaired("how full the disk was is forgotten: %v", err)
	}
	for _, repair := range m.store.Repairs() {
		m.repaired("%s", repair)
	}
	mended, err := m.reports.Mend()
	if err != nil {
		m.log.Error("reports of syncs cannot be read", slog.Any("error", err))
	}
	for _, name := range slices.Sorted(maps.Keys(mended)) {
		m.repaired("%d reports of syncs of %s are damaged, and are removed", mended[name], name)
	}
	return nil
}

// repaired takes note of what was damaged, and is not any more, while the mirror opens.
func (m *mirror) repaired(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.repairs = append(m.repairs, text)
	m.log.Error("something was damaged", slog.String("what", text))
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

// openRsync opens the rsync server, and returns what serves there; that does nothing if
// there is none, or no rsync that may be used.
func (m *mirror) openRsync(ctx context.Context, env role.Env) (func(context.Context) error, error) {
	cfg := m.cfg()
	if cfg.Rsyncd.Listen == "" {
		return func(context.Context) error { return nil }, nil
	}
	program, err := rsync.Find(ctx, cfg.Rsync)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil: // clients of HTTP are served all the same
		env.Log.ErrorContext(ctx, "nothing is served by rsync", slog.Any("error", err))
		return func(context.Context) error { return nil }, nil
	}
	modules, err := m.now.Load().modules()
	if err != nil {
		return nil, err
	}
	if m.rsyncs, err = rsyncd.New(cfg.Rsyncd, modules, program, m.state, env); err != nil {
		return nil, err
	}
	ln, err := env.Listen(ctx, cfg.Rsyncd.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for rsync: %w", cfg.Rsyncd.Listen, err)
	}
	env.Log.InfoContext(ctx, "listening", slog.String("on", ln.Addr().String()), slog.String("protocol", "rsync"))
	return func(ctx context.Context) error { return m.rsyncs.Serve(ctx, ln) }, nil
}

// runSync runs a sync and keeps its report.
func (m *mirror) runSync(ctx context.Context, order mirrorapi.Order) mirrorapi.Report {
	if report, off := m.offDisk(order); off {
		if last, _, err := m.reports.Last(order.Project); err == nil && last.Reason == report.Reason {
			return report // once is enough in the log
		}
		return m.keepReport(ctx, report)
	}
	report, err := m.engine.Sync(ctx, order)
	report.Project, report.Order = order.Project, order
	if report.Reason == mirrorapi.ReasonNoSpace {
		m.cleanSoon()
	}
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
	giveBack(report)
	return m.keepReport(ctx, report)
}

// keepReport counts a report and adds it to the log of the project.
func (m *mirror) keepReport(ctx context.Context, report mirrorapi.Report) mirrorapi.Report {
	m.metrics.ended(report)
	defer m.telemetry.Changed()
	kept, err := m.reports.Append(report)
	if err != nil {
		m.log.ErrorContext(ctx, "the report of a sync is not written: it is lost with the next restart", slog.String("project", report.Project), slog.Any("error", err))
	}
	return kept
}
