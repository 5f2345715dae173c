package tell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"freshet/internal/durable"
	"freshet/internal/pause"
)

// Options are what a Crier works with. Log and Every may be left out.
type Options struct {
	Directors []Director
	// Current is the generation of a project that is served; nil: none yet.
	Current func(project string) Generation
	// State is the folder for what directors have acknowledged, a file for each.
	State durable.Dir
	// Load is how busy the mirror is, from 0 to 1; false: it is not known. Directors are
	// told every half minute. Nil: they are not.
	Load func() (float64, bool)
	Log  *slog.Logger
	// Every is how long a director hears nothing when nothing changes; 0: ten minutes.
	Every time.Duration
	// Timeout is how long one manifest may take; 0: ten minutes.
	Timeout time.Duration
}

// Crier keeps directors up to date. It is made by [New], and its methods may be called by
// several goroutines at once.
type Crier struct {
	o     Options
	wards []*ward
}

// New returns a Crier that tells nothing before Run.
func New(o Options) *Crier {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every == 0 {
		o.Every = 10 * time.Minute
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Minute
	}
	c := &Crier{o: o}
	for i := range o.Directors {
		c.wards = append(c.wards, &ward{
			o: &c.o, director: &c.o.Directors[i], news: make(chan struct{}, 1),
			known: make(map[string]string), failures: make(map[string]int), errs: make(map[string]error),
		})
	}
	return c
}

// Nudge says that a project has another generation than before, so that its directors
// hear of it at once.
func (c *Crier) Nudge(project string) {
	for _, w := range c.wards {
		if _, ok := w.director.Projects[project]; ok {
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
	}
}

// Run tells until ctx ends.
func (c *Crier) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range c.wards {
		all.Go(func() { w.run(ctx) })
		if c.o.Load != nil {
			all.Go(func() { w.runLoads(ctx) })
		}
	}
	all.Wait()
}

// Standing is what a director knows of a project.
type Standing struct {
	Director, Project string
	// Generation is the Name of what it has acknowledged; empty: nothing.
	Generation string
	// Failures is how often in a row it has not taken what it was told, Err why.
	Failures int
	Err      error
}

// Standings returns what every director knows.
func (c *Crier) Standings() []Standing {
	var list []Standing
	for _, w := range c.wards {
		list = append(list, w.standings()...)
	}
	return list
}

// ward is one director that is looked after.
type ward struct {
	o        *Options
	director *Director
	news     chan struct{}

	mu       sync.Mutex
	known    map[string]string // Name of the generation, by project
	failures map[string]int
	errs     map[string]error
}

// Waits after failures.
const (
	firstWait = 5 * time.Second
	maxWait   = 5 * time.Minute
)

func (w *ward) run(ctx context.Context) {
	w.load()
	for {
		wait := w.o.Every
		for _, project := range w.projects() {
			if ctx.Err() != nil {
				return
			}
			if failures := w.one(ctx, project); failures > 0 {
				wait = min(wait, min(firstWait<<min(failures-1, 10), maxWait))
			}
		}
		if !pause.Until(ctx, w.news, wait) {
			return
		}
	}
}

func (w *ward) projects() []string {
	names := make([]string, 0, len(w.director.Projects))
	for name := range w.director.Projects {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// one brings the director to the current generation of a project, and returns how often
// in a row that has failed.
func (w *ward) one(ctx context.Context, project string) (failures int) {
	now := w.o.Current(project)
	if now == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, w.o.Timeout)
	defer cancel()
	before := w.generation(project)
	err := w.director.tell(ctx, project, now, before)
	if err == nil && before != now.Name() {
		err = w.note(project, now.Name())
	}
	return w.end(project, err)
}

func (w *ward) generation(project string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[project]
}

// end notes how it went.
func (w *ward) end(project string, err error) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		if w.failures[project] > 0 {
			w.o.Log.Info("the director is up to date again", slog.String("director", w.director.Name), slog.String("project", project))
		}
		delete(w.failures, project)
		delete(w.errs, project)
		return 0
	}
	w.failures[project]++
	w.errs[project] = err
	if w.failures[project] == 1 && !errors.Is(err, context.Canceled) {
		w.o.Log.Warn("a director does not take what it is told: it sends clients here for what it knew before",
			slog.String("director", w.director.Name), slog.String("project", project), slog.Any("error", err))
	}
	return w.failures[project]
}

func (w *ward) standings() []Standing {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]Standing, 0, len(w.director.Projects))
	for _, project := range w.projects() {
		list = append(list, Standing{
			Director: w.director.Name, Project: project,
			Generation: w.known[project], Failures: w.failures[project], Err: w.errs[project],
		})
	}
	return list
}

// file is where it stands what the director knows: JSON, names of generations by project.
func (w *ward) file() string { return "told-" + w.director.Name + ".json" }

// load reads what the director knew. Without it, it is told everything.
func (w *ward) load() {
	text, err := w.o.State.Root.ReadFile(w.file())
	known := make(map[string]string)
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil && known == nil {
		err = errors.New("null in it")
	}
	if err != nil {
		w.o.Log.Warn("it is not known what a director knows: it is told everything", slog.String("director", w.director.Name), slog.Any("error", err))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = known
}

// note keeps what the director has acknowledged.
func (w *ward) note(project, name string) error {
	w.mu.Lock()
	w.known[project] = name
	text, err := json.Marshal(w.known)
	w.mu.Unlock()
	if err == nil {
		err = w.o.State.WriteFile(w.file(), text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep what director %s knows: %w", w.director.Name, err)
	}
	return nil
}
