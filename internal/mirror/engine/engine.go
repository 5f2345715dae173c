package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
)

// Project is what is synced.
type Project struct {
	Name string
	Kind *kind.Kind
	// Upstream is where its files come from.
	Upstream Upstream
	// Store has its generations.
	Store *generation.Project
	// Selection describes what is wanted of the upstream. When it is another one than
	// that of the generation that is served, the probe is left out, and nothing counts
	// as lost.
	Selection string
	// MaxShrink is how many percent of its files, and of its bytes, the project and each
	// of its repositories may lose at once without an operator's word; 0: 40.
	MaxShrink int
	// Rounds is how often a repository whose files do not agree is listed, in one
	// sync; 0: three times. Pause is how long to wait between two; 0: ten seconds, and
	// twice as long each time.
	Rounds int
	Pause  time.Duration
	// Room makes room on the disk for what is going to be written, if it can. The error
	// says why it does not fit, and is one of a full disk ([durable.IsNoSpace]) then; nil:
	// everything fits.
	Room func(ctx context.Context, need Need) error
	// Trace says who syncs, for the files by which the project judges its mirrors: what is
	// known before a sync. Without Host none is written.
	Trace kind.Trace
	// Popular returns the refs of OSTree that clients ask for, the one that is most asked
	// for first: what a hot set consists of. nil: nothing is known of it.
	Popular func() []string
	// Done, if not nil, is called after a switch: others are told.
	Done func(ctx context.Context, g *generation.Generation)

	traced traced // of the sync that runs
}

// Need is what a sync is going to write.
type Need struct {
	// Files are to be fetched, with so many Bytes, into a tree that has so many Folders.
	Files, Bytes, Folders int64
	// First: it is the first generation of what is wanted, and not a newer one of what is
	// served.
	First bool
}

// maxShrink is the part of what there was that may be gone, in percent.
func (p *Project) maxShrink() int64 { return int64(cmp.Or(p.MaxShrink, 40)) }

// Engine syncs projects. It is made by [New]; its methods may be called by several
// goroutines at once, but each project is synced by one at a time.
type Engine struct {
	log *slog.Logger

	mu       sync.Mutex
	projects map[string]*Project
	running  map[string]*progress
}

// New returns the engine of these projects, which must not be changed any more. A nil log
// stands for none.
func New(log *slog.Logger, projects []*Project) *Engine {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{log: log, running: make(map[string]*progress)}
	e.Set(projects)
	return e
}

// Set exchanges the projects. A sync that runs goes on with the project that it began with.
func (e *Engine) Set(projects []*Project) {
	byName := make(map[string]*Project, len(projects))
	for _, p := range projects {
		byName[p.Name] = p
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.projects = byName
}

// project is the one of that name, or nil.
func (e *Engine) project(name string) *Project {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.projects[name]
}

// Sync brings a project to what its upstream has. The report is complete but for its
// serial number, whatever comes of it; the error says more of why nothing was published,
// and is nil with [mirrorapi.Published] and [mirrorapi.Unchanged]. When ctx ends it
// returns soon, and keeps what it has fetched for the next sync.
func (e *Engine) Sync(ctx context.Context, order mirrorapi.Order) (mirrorapi.Report, error) {
	p := e.project(order.Project)
	if p == nil { // it was taken out of the configuration when the sync was to begin
		err := fmt.Errorf("project %q is not in the configuration any more", order.Project)
		now := time.Now().UTC()
		return mirrorapi.Report{
			Project: order.Project, Order: order, Began: now, Ended: now,
			Result: mirrorapi.Canceled, Reason: mirrorapi.ReasonCanceled, Message: err.Error(),
		}, err
	}
	r := newRun(e.log.With(slog.String("project", p.Name)), p, order)
	e.mu.Lock()
	e.running[p.Name] = &r.progress
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.running, p.Name)
		e.mu.Unlock()
	}()
	err := r.sync(ctx)
	r.finish(ctx, err)
	if r.report.Result == mirrorapi.Published || r.report.Result == mirrorapi.Unchanged {
		err = nil
	}
	return r.report, err
}

// Progress tells how far the sync of a project is, the zero value if none runs.
func (e *Engine) Progress(project string) mirrorapi.Progress {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.running[project]; p != nil {
		return p.now()
	}
	return mirrorapi.Progress{}
}
