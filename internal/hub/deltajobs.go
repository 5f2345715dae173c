package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"freshet/api/hubapi"
	"freshet/internal/durable"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/deltas"
	"freshet/internal/hub/repository"
	"freshet/internal/ostree"
	"freshet/internal/xzrun"
)

const (
	// deltasFolder below [Config.Dir] is where deltas are made.
	deltasFolder = "deltas"
	// deltaBatch is how long a delta that is made waits for others, so that one
	// switch of the repository publishes several.
	deltaBatch = 10 * time.Second
	// retiredFile says since when deltas are retired.
	retiredFile = "retired.json"
)

// deltaMaker makes the static deltas of one repository.
type deltaMaker struct {
	*server
	repo   string
	rules  deltas.Rules
	grace  time.Duration
	engine deltas.Engine
	dir    durable.Dir // for what is being made
	// slots bounds how many deltas all repositories make at once.
	slots *semaphore.Weighted
}

// openDeltas prepares the repositories that have rules for deltas.
func (s *server) openDeltas(open *closers) error {
	slots := semaphore.NewWeighted(int64(s.cfg.DeltaWorkers))
	for name := range s.repos {
		cfg := s.cfg.Repos[name].Deltas.WithDefaults()
		rules, any := cfg.rules()
		if !any {
			continue
		}
		m := &deltaMaker{server: s, repo: name, rules: rules, grace: cfg.Grace, slots: slots}
		var err error
		if m.engine, err = newEngine(cfg.Engine); err != nil {
			return fmt.Errorf("repository %s: %w", name, err)
		}
		dir := filepath.Join(s.cfg.Dir, deltasFolder, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if m.dir, err = durable.Open(dir); err != nil {
			return err
		}
		open.add(m.dir.Root)
		if err := m.clear(); err != nil {
			return err
		}
		s.makers[name] = m
	}
	return nil
}

func newEngine(name string) (deltas.Engine, error) {
	if name == engineFlatpak {
		return deltas.FindFlatpak()
	}
	xz, err := xzrun.Find(xzrun.Balanced())
	if err != nil {
		return nil, err
	}
	return &deltas.Native{XZ: xz, Workers: 2}, nil
}

// clear removes what a former run was making.
func (m *deltaMaker) clear() error {
	entries, err := os.ReadDir(m.dir.Root.Name())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != retiredFile {
			err = errors.Join(err, m.dir.Root.RemoveAll(e.Name()))
		}
	}
	return err
}

// wantDeltas queues a job that makes what is missing, unless one waits already:
// that will see what is published when it begins. m may be nil.
func (m *deltaMaker) wantDeltas(ctx context.Context) {
	if m == nil {
		return
	}
	counts, err := m.catalog.JobCounts(ctx)
	for _, n := range counts {
		if n.Kind == hubapi.JobDeltas && n.Repo == m.repo && n.Status == hubapi.JobNew {
			return
		}
	}
	if err == nil {
		_, err = m.catalog.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobDeltas, Repo: m.repo, Contents: struct{}{}})
	}
	if err != nil {
		m.log.WarnContext(ctx, "static deltas have to wait for the next publish", slog.String("repo", m.repo), slog.Any("error", err))
	}
}

// runDeltas makes the static deltas that are missing, publishes them as they
// come, and retires what no rule asks for any more. One that cannot be made
// does not hold up the others; it is tried again after the next publish.
func (m *deltaMaker) runDeltas(ctx context.Context, job *catalog.Job) (err error) {
	ended := m.metrics.begin(job.Kind, job.Repo)
	run := deltaRun{deltaMaker: m, job: job, jobLog: m.logOf(job), repository: m.repos[m.repo]}
	run.results.Deltas, run.results.Failed = []hubapi.MadeDelta{}, map[string]string{}
	defer m.alive(ctx, job)()
	defer func() {
		run.jobLog.end(context.WithoutCancel(ctx))
		ended(m.statusOfJob(job, err))
	}()
	if err := run.all(ctx); err != nil {
		return err
	}
	run.jobLog.end(ctx)
	ctx = context.WithoutCancel(ctx)
	return m.insist(ctx, job, func() error { return m.catalog.FinishJob(ctx, job.Claim(), run.results) })
}

// deltaRun is one run of a job.
type deltaRun struct {
	*deltaMaker
	job        *catalog.Job
	jobLog     *jobLog
	repository *repository.Repository
	results    hubapi.DeltaResults

	ready []readyDelta // made, not published
	since time.Time    // when the first of them was made
}

// readyDelta is a delta that is made.
type readyDelta struct {
	new  repository.NewDelta
	made hubapi.MadeDelta
}

func (r *deltaRun) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(r.jobLog, format+"\n", args...)
}

func (r *deltaRun) all(ctx context.Context) error {
	state, err := r.state()
	if err != nil {
		return err
	}
	missing := 0
	for _, d := range state.wanted {
		if !state.listed[d.Name] {
			missing++
		}
	}
	r.printf("%d static deltas wanted, %d of them missing", len(state.wanted), missing)
	for _, d := range state.wanted {
		if state.listed[d.Name] {
			continue
		}
		if err := r.one(ctx, d, state.stored[d.Name]); err != nil {
			return err
		}
		if len(r.ready) > 0 && time.Since(r.since) > deltaBatch {
			if err := r.publish(ctx); err != nil {
				return err
			}
		}
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	return r.retire(ctx)
}

// one makes a delta, or finds it made.
func (r *deltaRun) one(ctx context.Context, d deltas.Delta, stored bool) error {
	if head, ok := r.repository.Snapshot().Get(d.Ref); !ok || head.Checksum != d.Name.To {
		return nil // published anew meanwhile; the next job sees to that
	}
	if err := r.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer r.slots.Release(1)
	made := hubapi.MadeDelta{Ref: d.Ref, From: hexOf(d.Name.From), To: d.Name.To.String()}
	if stored && r.whole(d.Name) {
		// It was published before. What has a name keeps its content.
		r.add(readyDelta{repository.NewDelta{Name: d.Name, Dir: filepath.Join(r.repoDir(r.repo), filepath.FromSlash(d.Name.Dir()))}, made})
		return nil
	}
	if stored {
		if err := r.repository.RemoveDeltas(ctx, []ostree.DeltaName{d.Name}); err != nil {
			return err
		}
	}
	dir := filepath.Join(r.dir.Root.Name(), d.Name.String())
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	begin := time.Now()
	report, err := r.engine.Make(ctx, r.repoDir(r.repo), d.Name, dir)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.failed(ctx, d.Name, d.Ref, err)
		return os.RemoveAll(dir)
	}
	made.Seconds = time.Since(begin).Seconds()
	made.Size, made.Parts, made.Singly, made.Instead = report.Size, report.Parts, report.Singly, report.Instead
	r.printf("  %s %s: %s instead of %s, in %.1f s", d.Ref, describe(d), sizeOf(report.Size), sizeOf(report.Instead), made.Seconds)
	r.add(readyDelta{repository.NewDelta{Name: d.Name, Dir: dir}, made})
	return nil
}

// whole tells whether there is more of a stored delta than a crash has left.
func (r *deltaRun) whole(name ostree.DeltaName) bool {
	_, err := os.Stat(filepath.Join(r.repoDir(r.repo), filepath.FromSlash(name.SuperblockPath())))
	return err == nil
}

func (r *deltaRun) add(d readyDelta) {
	if len(r.ready) == 0 {
		r.since = time.Now()
	}
	r.ready = append(r.ready, d)
}

func (r *deltaRun) failed(ctx context.Context, name ostree.DeltaName, ref string, err error) {
	r.results.Failed[name.Hex()] = reason(err)
	r.printf("  %s: static delta %s: %v", ref, name.Hex(), err)
	r.log.WarnContext(ctx, "cannot make a static delta", slog.String("repo", r.repo), slog.String("ref", ref),
		slog.String("delta", name.Hex()), slog.Any("error", err))
}

// publish publishes the deltas that are ready.
func (r *deltaRun) publish(ctx context.Context) error {
	if len(r.ready) == 0 {
		return nil
	}
	all := make([]repository.NewDelta, len(r.ready))
	for i, d := range r.ready {
		all[i] = d.new
	}
	result, err := r.repository.AddDeltas(ctx, all, r.jobLog, r.recorder(ctx, r.jobLog))
	if err != nil && (ctx.Err() != nil || len(result.Failed) == 0) {
		return err
	}
	for _, d := range r.ready {
		own := strings.HasPrefix(d.new.Dir, r.dir.Root.Name())
		if cause := result.Failed[d.new.Name.String()]; cause == nil {
			r.results.Deltas = append(r.results.Deltas, d.made)
			r.metrics.delta(r.repo, d.made)
		} else if !errors.Is(cause, repository.ErrDeltaStale) {
			r.failed(ctx, d.new.Name, d.made.Ref, cause)
			if !own {
				// What is stored is not whole, and was not listed.
				err = errors.Join(err, r.repository.RemoveDeltas(ctx, []ostree.DeltaName{d.new.Name}))
			}
		}
		if own {
			err = errors.Join(err, os.RemoveAll(d.new.Dir))
		}
	}
	r.ready = nil
	return err
}

// recorder returns the function by which the repository tells of a switch.
func (m *deltaMaker) recorder(ctx context.Context, log *jobLog) func(repository.Result) error {
	p := publish{server: m.server, repo: m.repo, jobs: map[string]*catalog.Job{}, log: log}
	return func(result repository.Result) error {
		result.Keys = nil // no job is ended by it
		if err := p.record(context.WithoutCancel(ctx), result, false); err != nil {
			return err
		}
		m.tellers[m.repo].published()
		return nil
	}
}

// retire takes deltas of heads that no rule asks for out of the lists, and
// removes what has been unwanted for long.
func (r *deltaRun) retire(ctx context.Context) error {
	state, err := r.state()
	if err != nil {
		return err
	}
	over := sortedNames(func(yield func(ostree.DeltaName) bool) {
		for name := range state.listed {
			if !state.wants[name] && !yield(name) {
				return
			}
		}
	})
	if len(over) > 0 {
		if _, err := r.repository.RetireDeltas(ctx, over, r.recorder(ctx, r.jobLog)); err != nil {
			return err
		}
		r.results.Retired = len(over)
		r.printf("%d static deltas retired", len(over))
	}
	return r.sweep(ctx)
}

// deltaState is what is wanted and what is there.
type deltaState struct {
	wanted []deltas.Delta
	wants  map[ostree.DeltaName]bool // the same
	listed map[ostree.DeltaName]bool // clients find them for the heads
	stored map[ostree.DeltaName]bool // files are there
}

func (m *deltaMaker) state() (*deltaState, error) {
	repo := m.repos[m.repo]
	known := repo.Snapshot()
	heads := map[string]ostree.Checksum{}
	s := &deltaState{wants: map[ostree.DeltaName]bool{}, listed: map[ostree.DeltaName]bool{}, stored: map[ostree.DeltaName]bool{}}
	for info := range known.All {
		heads[info.Ref] = info.Checksum
		for _, d := range known.Deltas(info.Checksum) {
			s.listed[ostree.DeltaName{From: d.From, To: info.Checksum}] = true
		}
	}
	names, err := repo.StoredDeltas()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s.stored[name] = true
	}
	objects, err := ostree.OpenRepo(os.DirFS(m.repoDir(m.repo)))
	if err != nil {
		return nil, err
	}
	if s.wanted, err = deltas.Wanted(objects, heads, m.rules); err != nil {
		return nil, err
	}
	for _, d := range s.wanted {
		s.wants[d.Name] = true
	}
	return s, nil
}

// sweep removes deltas that have been unwanted for long. Those to former heads
// stay in their delta index until then, for clients with an older summary.
func (m *deltaMaker) sweep(ctx context.Context) error {
	state, err := m.state()
	if err != nil {
		return err
	}
	retired := deltas.Retired{Dir: m.dir, Name: retiredFile}
	wants := func(name ostree.DeltaName) bool { return state.wants[name] }
	over, err := retired.Update(sortedNames(maps.Keys(state.stored)), wants, time.Now(), m.grace)
	if err != nil || len(over) == 0 {
		return err
	}
	m.log.InfoContext(ctx, "removing static deltas that were retired", slog.String("repo", m.repo), slog.Int("deltas", len(over)))
	if _, err := m.repos[m.repo].RetireDeltas(ctx, over, m.recorder(ctx, m.logOf())); err != nil {
		return err
	}
	if err := m.repos[m.repo].RemoveDeltas(ctx, over); err != nil {
		return err
	}
	keys := make([]catalog.DeltaKey, len(over))
	for i, name := range over {
		keys[i] = catalog.DeltaKey{From: hexOf(name.From), To: name.To.String()}
	}
	return m.catalog.ForgetDeltas(ctx, m.repo, keys)
}

// sweepDeltas is a step of the upkeep.
func (s *server) sweepDeltas(ctx context.Context) (err error) {
	for _, m := range s.makers {
		err = errors.Join(err, m.sweep(ctx))
	}
	return err
}
