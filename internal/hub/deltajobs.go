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

	"freshet/api/hubapi"
	"freshet/internal/durable"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/deltas"
	"freshet/internal/hub/repository"
	"freshet/internal/ostree"
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
	engine string        // its name
	maker  deltas.Engine // nil: the hub makes none itself
	source deltas.Source // what is published
	dir    durable.Dir   // for what is being made
	again  chan struct{} // something was published
	// waitFor are patterns of ids whose publishes wait for their deltas, waitMost for
	// so long.
	waitFor  []string
	waitMost time.Duration
}

// openDeltas prepares the repositories that have rules for deltas.
func (s *server) openDeltas(open *closers) error {
	for name := range s.repos {
		cfg := s.cfg.Repos[name].Deltas.WithDefaults()
		rules, any := cfg.rules()
		if !any {
			continue
		}
		m := &deltaMaker{server: s, repo: name, rules: rules, grace: cfg.Grace, engine: cfg.Engine, again: make(chan struct{}, 1), waitFor: cfg.WaitFor, waitMost: cfg.WaitAtMost}
		var err error
		if s.cfg.DeltaWorkers > 0 {
			if m.maker, err = deltas.OpenEngine(cfg.Engine); err != nil {
				return fmt.Errorf("repository %s: %w", name, err)
			}
		}
		if m.source, err = deltas.OpenSource(s.repoDir(name)); err != nil {
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
		s.makers[name] = m
	}
	return nil
}

// clearDeltas removes what a former run was making.
func (s *server) clearDeltas() (err error) {
	for _, m := range s.makers {
		err = errors.Join(err, m.clear())
	}
	return err
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
	select {
	case m.again <- struct{}{}: // the job under way, if there is one, looks again
	default:
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
// does not hold up the others; it is tried again after the next publish, or as soon as
// there may be room if the disk was full.
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

	asked    map[ostree.DeltaName]bool // what was queued or published by this run
	pending  int                       // what is queued or being made
	outcomes chan deltas.Outcome
	ready    []readyDelta // made, not published
	noRoom   error        // why some could not be made: the disk was full
	since    time.Time    // when the first of them was made
}

// readyDelta is a delta that is made.
type readyDelta struct {
	new  repository.NewDelta
	made hubapi.MadeDelta
}

func (r *deltaRun) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(r.jobLog, format+"\n", args...)
}

// all queues what is missing, and publishes it as it comes.
func (r *deltaRun) all(ctx context.Context) error {
	ctx, withdraw := context.WithCancel(ctx)
	defer withdraw()
	r.asked, r.outcomes = map[ostree.DeltaName]bool{}, make(chan deltas.Outcome)
	if err := r.ask(ctx); err != nil {
		return err
	}
	for r.pending > 0 {
		var full <-chan time.Time
		if len(r.ready) > 0 {
			full = time.After(time.Until(r.since.Add(deltaBatch)))
		}
		var err error
		select {
		case outcome := <-r.outcomes:
			r.pending--
			r.take(ctx, outcome)
		case <-r.again:
			err = r.ask(ctx)
		case <-full:
			err = r.publish(ctx)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	if err := r.retire(ctx); err != nil {
		return err
	}
	return r.noRoom
}

// ask queues what is missing and was not asked for yet.
func (r *deltaRun) ask(ctx context.Context) error {
	state, err := r.state()
	if err != nil {
		return err
	}
	removed, err := r.retired().Removed(time.Now())
	if err != nil {
		return err
	}
	var missing []deltas.Delta
	for _, d := range state.wanted {
		switch {
		case state.listed[d.Name] || r.asked[d.Name]:
		case removed[d.Name] && !state.stored[d.Name]:
			r.asked[d.Name] = true
			r.printf("  %s: static delta %s was removed not long ago; it is not made again while caches may have its files", d.Ref, d.Name.Hex())
		default:
			missing = append(missing, d)
		}
	}
	if len(missing) > 0 || len(r.asked) == 0 {
		r.printf("%d static deltas wanted, %d of them missing", len(state.wanted), len(missing))
	}
	for _, d := range missing {
		r.asked[d.Name] = true
		if state.stored[d.Name] {
			if r.whole(d.Name) {
				// It was published before. What has a name keeps its content.
				dir := filepath.Join(r.repoDir(r.repo), filepath.FromSlash(d.Name.Dir()))
				r.add(readyDelta{repository.NewDelta{Name: d.Name, Dir: dir}, r.madeOf(deltas.Outcome{Task: r.task(d)})})
				continue
			}
			if err := r.repository.RemoveDeltas(ctx, []ostree.DeltaName{d.Name}); err != nil {
				return err
			}
		}
		r.pending++
		r.deltas.Submit(ctx, r.task(d), func(o deltas.Outcome) {
			select {
			case r.outcomes <- o:
			case <-ctx.Done():
			}
		})
	}
	return nil
}

// task is a delta of what is published. Once the ref was published anew, nobody
// wants it: what takes its place is asked for then.
func (m *deltaMaker) task(d deltas.Delta) deltas.Task {
	return deltas.Task{Delta: d, Repo: m.repo, Engine: m.engine, Stale: func() bool {
		head, ok := m.repos[m.repo].Snapshot().Get(d.Ref)
		return !ok || head.Checksum != d.Name.To
	}}
}

// madeOf is a delta as the results of a job list it.
func (m *deltaMaker) madeOf(o deltas.Outcome) hubapi.MadeDelta {
	d, report := o.Task.Delta, o.Made.Report
	return hubapi.MadeDelta{
		Ref: d.Ref, From: hexOf(d.Name.From), To: d.Name.To.String(), Size: report.Size, Parts: report.Parts, Singly: report.Singly,
		Instead: report.Instead, Seconds: o.Made.Seconds, Worker: o.Made.Worker,
	}
}

// take takes what became of a task.
func (r *deltaRun) take(ctx context.Context, o deltas.Outcome) {
	d := o.Task.Delta
	switch {
	case errors.Is(o.Err, deltas.ErrStale):
		return
	case o.Err != nil:
		r.failed(ctx, d.Name, d.Ref, o.Err)
		return
	}
	made := r.madeOf(o)
	r.printf("%s", madeLine(d, made))
	r.add(readyDelta{repository.NewDelta{Name: d.Name, Dir: o.Made.Dir}, made})
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
	if noSpace(err) {
		r.noRoom = fmt.Errorf("static delta %s: %w", name.Hex(), err)
	}
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
	if s.wanted, err = deltas.Wanted(m.source.Objects, heads, m.rules); err != nil {
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
	wants := func(name ostree.DeltaName) bool { return state.wants[name] }
	over, err := m.retired().Update(sortedNames(maps.Keys(state.stored)), wants, time.Now(), m.grace)
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

// retired knows since when deltas are retired, and which were removed.
func (m *deltaMaker) retired() deltas.Retired { return deltas.Retired{Dir: m.dir, Name: retiredFile} }

// sweepDeltas is a step of the upkeep.
func (s *server) sweepDeltas(ctx context.Context) (err error) {
	for _, m := range s.makers {
		err = errors.Join(err, m.sweep(ctx))
	}
	return err
}
