package probe

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Prober looks at mirrors. Make it with [New]. Any goroutine may call its methods.
type Prober struct {
	opt     Options
	slots   *semaphore.Weighted
	metrics *metrics
	state   atomic.Pointer[State]
	reached atomic.Int64 // when somebody was last reached, in nanoseconds since 1970

	mu       sync.Mutex
	ways     map[Way]*way // that are followed
	health   map[Way]Health
	newer    chan struct{} // of the state
	history  *history
	shown    map[repository]map[Way]sum
	learned  map[canary]File
	suspects map[holding]*suspicion
	loads    map[string]load   // by mirror
	warned   map[Way]time.Time // of certificates
}

// repository is one on a mirror.
type repository struct{ mirror, project, pointer string }

// canary is one that is known from the origin only.
type canary struct{ project, path string }

// New returns a Prober that knows what the history tells. It looks at nothing before Run.
func New(opt Options) (*Prober, error) {
	opt = opt.withDefaults()
	history, err := openHistory(opt.Folder, time.Now())
	if err != nil {
		return nil, err
	}
	p := &Prober{
		opt: opt, slots: semaphore.NewWeighted(int64(opt.Parallel)),
		health: make(map[Way]Health), newer: make(chan struct{}), history: history,
		shown: make(map[repository]map[Way]sum), learned: make(map[canary]File),
		suspects: make(map[holding]*suspicion), loads: make(map[string]load), warned: make(map[Way]time.Time),
	}
	if history.unwritten != nil {
		opt.Log.Error("the history of mirrors cannot be written, and is kept in memory until it can", slog.Any("error", history.unwritten))
	}
	for w := range plan(opt.Catalogue.Current()) {
		p.health[w] = history.judge(w).Health
	}
	p.publish(false)
	p.metrics = newMetrics(opt.Metrics, p)
	return p, nil
}

// State is what is known now.
func (p *Prober) State() *State { return p.state.Load() }

// History returns what changed on a way, oldest first: at most the last 64 changes.
func (p *Prober) History(w Way) []Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.history.changes[w])
}

// Run looks until ctx ends. It is called once.
func (p *Prober) Run(ctx context.Context) error {
	upkeep := time.NewTicker(time.Minute)
	defer upkeep.Stop()
	var running map[Way]*running
	defer func() {
		for _, r := range running {
			r.cancel()
		}
		for _, r := range running {
			<-r.done
		}
		p.keepHistory(ctx, func() error { return errors.Join(p.history.alive(time.Now()), p.history.close()) })
	}()
	for {
		changed := p.opt.Catalogue.Changed()
		running = p.adopt(ctx, running)
		for same := true; same; {
			select {
			case <-changed:
				same = false
			case now := <-upkeep.C:
				p.upkeep(ctx, now)
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// upkeep forgets what is not told any more.
func (p *Prober) upkeep(ctx context.Context, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetSuspects(now)
	p.publish(p.forgetLoads(now))
	p.keepHistory(ctx, func() error { return p.history.alive(now) })
}

// keepHistory does something to the history's file. When that fails the looks go on.
func (p *Prober) keepHistory(ctx context.Context, do func() error) {
	if err := do(); err != nil {
		p.opt.Log.ErrorContext(ctx, "the history of mirrors is not kept", slog.Any("error", err))
	}
}

// publish makes a state of what is known. Changed says that it differs in what is usable
// or in loads. It is called with mu held, or by New.
func (p *Prober) publish(changed bool) {
	next := newState(time.Now(), p.health, p.currentLoads())
	before := p.state.Load()
	if changed = changed || before != nil && before.blind != next.blind; changed {
		defer close(p.newer)
		p.newer = make(chan struct{})
	}
	next.newer = p.newer
	p.state.Store(next)
}

// expected is a canary as it must be, as far as that is known.
func (p *Prober) expected(project, name string) (File, bool) {
	if f, ok := p.opt.Inventory.Origin(project, name); ok && f.HasSHA256 {
		return f, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.learned[canary{project, name}]
	return f, ok
}

// learn takes a canary as the origin has it.
func (p *Prober) learn(project string, f File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learned[canary{project, f.Path}] = f
}

// shows takes which pointer a way shows, and tells what all ways show by which the
// mirror works.
func (p *Prober) shows(w *way, name string, shown sum, at time.Time) {
	r := repository{w.Mirror, w.Project, name}
	p.mu.Lock()
	all := p.shown[r]
	if all == nil {
		all = make(map[Way]sum)
		p.shown[r] = all
	}
	all[w.Way] = shown
	for other, s := range all {
		if s != shown && p.health[other].Works {
			shown = sum{}
		}
	}
	p.mu.Unlock()
	p.opt.Versions.Saw(w.Mirror, w.Project, name, shown, at)
}
