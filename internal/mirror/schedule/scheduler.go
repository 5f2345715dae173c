package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"freshet/api/mirrorapi"
)

// Project is what a scheduler knows of a project.
type Project struct {
	Name  string
	Times Times
	// Jitter is the time within which a mirror has its own offset to Times.
	Jitter time.Duration
	// Priority says who is first of those that wait: the highest.
	Priority int
	// Timeout ends a sync; 0: nothing does.
	Timeout time.Duration
	// Settings stand for all that decides what a sync brings. With others a sync that runs
	// begins anew, and a project that is synced by itself is synced soon.
	Settings string
}

// Options are those of a [Scheduler].
type Options struct {
	Projects []Project
	// Parallel is how many syncs run at once, at least 1.
	Parallel int
	// Run runs one sync and returns what came of it. When ctx ends, it returns soon.
	Run func(ctx context.Context, order mirrorapi.Order) mirrorapi.Report
	// Store keeps the state over restarts. A state that is [ErrDamaged] is as none, see
	// [Scheduler.Lost]; one that cannot be saved is told, and not needed.
	Store interface {
		Load() (State, error)
		Save(state State) error
	}
	// Log takes what goes wrong with the state; nil: nothing.
	Log *slog.Logger
}

// Scheduler decides when what is synced. Safe for concurrent use.
type Scheduler struct {
	opt Options

	mu       sync.Mutex
	seed     uint64
	projects map[string]*entry
	other    map[string]Record // of projects that are not configured now
	running  int
	lost     error // why nothing is remembered; not changed
	saved    error // of the last change of the state
	closed   bool
	wake     chan struct{}
}

// Sync is a sync that waits, runs or has ended.
type Sync struct {
	order  mirrorapi.Order
	due    time.Time
	cancel context.CancelCauseFunc // while it runs
	ended  error                   // why it was, perhaps before it had a context
	done   chan struct{}
	report mirrorapi.Report
}

// end ends a sync that runs.
func (s *Sync) end(why error) {
	s.ended = why
	if s.cancel != nil {
		s.cancel(why)
	}
}

// Done is closed when the sync has ended, or was taken back before it began.
func (s *Sync) Done() <-chan struct{} { return s.done }

// Report is what came of the sync. It is called after Done.
func (s *Sync) Report() mirrorapi.Report { return s.report }

// New returns a scheduler that remembers what the store has.
func New(opt Options) (*Scheduler, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.Parallel = max(opt.Parallel, 1)
	state, err := opt.Store.Load()
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	s := &Scheduler{opt: opt, lost: err, seed: state.Seed, projects: make(map[string]*entry), other: make(map[string]Record), wake: make(chan struct{}, 1)}
	if s.seed == 0 {
		s.seed = 1 | rand.Uint64()
	}
	maps.Copy(s.other, state.Projects)
	now := time.Now()
	for _, p := range opt.Projects {
		s.projects[p.Name] = newEntry(p, s.other[p.Name], s.seed, now)
		delete(s.other, p.Name)
	}
	// A mirror whose disk is full, or cannot be written, serves all the same.
	_ = s.keep()
	return s, nil
}

// Lost is why what was remembered before was lost, [ErrDamaged]; nil if it was not.
func (s *Scheduler) Lost() error { return s.lost }

// Unsaved is why the state was not saved when that was tried last; nil if it was.
func (s *Scheduler) Unsaved() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

// ErrUnknown says that there is no such project.
var ErrUnknown = errors.New("no such project")

// Submit has a project synced. It becomes part of the sync that waits, if one does. Within
// is the time in which it may begin, at a moment of the mirror's own. The order is kept
// over restarts, unless the state cannot be saved: see [Scheduler.Unsaved]. That is tried
// again each minute.
func (s *Scheduler) Submit(order mirrorapi.Order, within time.Duration) (*Sync, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(order.Project)
	if e == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, order.Project)
	}
	waits, _ := s.submit(e, order, within) // what is not saved is noted
	return waits, nil
}

func (s *Scheduler) submit(e *entry, order mirrorapi.Order, within time.Duration) (*Sync, error) {
	waits := e.add(order, time.Now(), within)
	s.poke()
	return waits, s.keep()
}

// Trigger has a project synced because of a trigger, made at sent by whoever has the key
// of this name, unless one of this key that is as new came before: then the result is nil.
func (s *Scheduler) Trigger(order mirrorapi.Order, key string, sent time.Time, within time.Duration) (*Sync, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(order.Project)
	if e == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, order.Project)
	}
	before := e.triggers[key]
	if !sent.After(before) {
		return nil, nil //nolint:nilnil // as documented
	}
	e.triggers[key] = sent
	waits, err := s.submit(e, order, within)
	if err != nil {
		e.triggers[key] = before // whoever sends it again is not told that it is known
	}
	return waits, err
}

// Cancel ends the sync of a project that runs, and takes back one that waits. It reports
// whether there was any.
func (s *Scheduler) Cancel(project string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(project)
	if e == nil {
		return false, fmt.Errorf("%w: %q", ErrUnknown, project)
	}
	any := e.running != nil || e.pending != nil
	if e.running != nil {
		e.running.end(errCanceled)
	}
	if e.pending != nil {
		now := time.Now()
		e.takeBack(now)
		e.next = e.times.After(now)
	}
	return any, s.keep()
}

// Hold has a project synced no more until [Scheduler.Release]; an earlier hold is replaced.
// A sync of it that runs is ended, and returned; it waits again when it has ended. What is ordered
// meanwhile waits, too, and is kept over restarts, as the hold is. After an error
// nothing is held that was not before.
func (s *Scheduler) Hold(project string, hold mirrorapi.Hold) (running *Sync, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(project)
	if e == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, project)
	}
	before := e.hold
	e.hold = &hold
	if err := s.save(); err != nil {
		e.hold = before
		return nil, err
	}
	if e.running != nil {
		e.running.end(errHeld)
	}
	return e.running, nil
}

// Release ends the hold of a project: what waits, or was to begin meanwhile, begins. It
// reports whether there was one.
func (s *Scheduler) Release(project string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(project)
	if e == nil {
		return false, fmt.Errorf("%w: %q", ErrUnknown, project)
	}
	held := e.hold != nil
	e.hold = nil
	e.due(time.Now()) // what was to begin meanwhile waits from now on
	s.poke()
	return held, s.keep()
}

// ending is why a sync is ended. Whoever runs into it finds a [context.Canceled].
type ending string

const (
	errHeld     ending = "an operator holds the project: it goes on when it is released"
	errCanceled ending = "canceled by an operator"
	errRemoved  ending = "the project is not in the configuration any more"
	errChanged  ending = "the settings of the project have changed: it begins anew"
)

func (e ending) Error() string { return string(e) }

// Is implements the interface of [errors.Is].
func (e ending) Is(target error) bool { return target == context.Canceled }

// Set has s work with these projects from now on, and with so many syncs at once. Syncs of
// projects that are not among them any more are ended, and those that wait are taken back;
// what is remembered of the projects is kept until they come again. The state is what was set also
// if it could not be saved, which is the error.
func (s *Scheduler) Set(projects []Project, parallel int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.opt.Parallel = max(parallel, 1)
	wanted := make(map[string]bool, len(projects))
	for _, p := range projects {
		wanted[p.Name] = true
		if e := s.projects[p.Name]; e != nil {
			e.set(p, now)
			continue
		}
		s.projects[p.Name] = newEntry(p, s.other[p.Name], s.seed, now)
		delete(s.other, p.Name)
	}
	for name, e := range s.projects {
		if !wanted[name] {
			s.remove(e, now)
		}
	}
	s.poke()
	return s.keep()
}

// Forget forgets what is remembered of a project that is not configured: that it is held,
// too. It does nothing to one that is.
func (s *Scheduler) Forget(project string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.other[project]; known {
		delete(s.other, project)
		_ = s.keep()
	}
}

// remove ends what is done with e, which is forgotten at the end of a sync that runs.
func (s *Scheduler) remove(e *entry, now time.Time) {
	e.gone = true
	if e.pending != nil {
		e.takeBack(now)
	}
	if e.running != nil {
		e.running.end(errRemoved)
		return
	}
	delete(s.projects, e.Name)
	rec := e.record()
	rec.Settings = settingsGone
	s.other[e.Name] = rec
}

// settingsGone are the settings of a project that is not configured: when it comes back, it
// has others.
const settingsGone = "-"

// entry is a project that is configured, or nil.
func (s *Scheduler) entry(project string) *entry {
	if e := s.projects[project]; e != nil && !e.gone {
		return e
	}
	return nil
}

// Status is what a scheduler does with a project.
type Status struct {
	State    mirrorapi.State
	Next     time.Time // zero: never by itself
	Pending  *mirrorapi.Order
	Good     time.Time
	Failures int
	// Hold is set while the project is held. It is not to be changed.
	Hold *mirrorapi.Hold
}

// Status tells what is done with a project; the zero value for one that is not known.
func (s *Scheduler) Status(project string) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(project)
	if e == nil {
		return Status{}
	}
	return e.status()
}

// Run begins syncs when it is time until ctx ends; then it ends those that run, and
// returns when they have. They go on after the next start.
func (s *Scheduler) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		begin, wait := s.choose(time.Now())
		for _, e := range begin {
			running.Go(func() { s.run(ctx, e) })
		}
		timer.Reset(wait)
	}
}

// maxWait bounds how long it is not looked at the clock, which may be set meanwhile.
const maxWait = time.Minute

// choose returns those that begin now, marked as running, and for how long there is
// nothing to do afterwards.
func (s *Scheduler) choose(now time.Time) (begin []*entry, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ready []*entry
	wait = maxWait
	for _, e := range s.projects {
		switch at := e.due(now); {
		case at.IsZero():
		case at.After(now):
			wait = min(wait, at.Sub(now))
		default:
			ready = append(ready, e)
		}
	}
	slices.SortFunc(ready, compareEntries)
	begin = ready[:max(0, min(len(ready), s.opt.Parallel-s.running))] // fewer than run may be allowed now
	for _, e := range begin {
		e.begin(now)
	}
	s.running += len(begin)
	if len(ready) > 0 || s.saved != nil { // there may be room on the disk by now
		_ = s.keep()
	}
	return begin, wait
}

// run runs the sync of e that was marked as running.
func (s *Scheduler) run(ctx context.Context, e *entry) {
	sync := e.running
	within, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	timeout := e.Timeout
	if sync.cancel = cancel; sync.ended != nil {
		cancel(sync.ended)
	}
	s.mu.Unlock()
	defer cancel(nil)
	if timeout > 0 {
		var stop context.CancelFunc
		within, stop = context.WithTimeoutCause(within, timeout, fmt.Errorf("took longer than %v: %w", timeout, context.DeadlineExceeded))
		defer stop()
	}
	report := s.opt.Run(within, sync.order)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.end(report, time.Now(), ctx.Err() != nil)
	s.running--
	if e.gone {
		s.remove(e, time.Now())
	}
	_ = s.keep()
	s.poke()
}

// keep saves the state, or notes that it is to be saved later.
func (s *Scheduler) keep() error {
	err := s.save()
	s.note(err)
	return err
}

// note tells of a state that could not be saved.
func (s *Scheduler) note(err error) {
	if (err == nil) != (s.saved == nil) {
		if err == nil {
			s.opt.Log.Info("the state of the schedule is saved again")
		} else {
			s.opt.Log.Error("the state of the schedule is not saved: a restart would forget what waits", slog.Any("error", err))
		}
	}
	s.saved = err
}

// poke has Run look again.
func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ErrClosed says that the scheduler keeps no orders any more.
var ErrClosed = errors.New("another process schedules now")

// Close leaves the state to another scheduler: this one does not change it any more, and
// takes no orders. It is called after Run has returned.
func (s *Scheduler) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// save saves the state.
func (s *Scheduler) save() error {
	if s.closed {
		return ErrClosed
	}
	state := State{Seed: s.seed, Projects: maps.Clone(s.other)}
	for name, e := range s.projects {
		state.Projects[name] = e.record()
	}
	return s.opt.Store.Save(state)
}
