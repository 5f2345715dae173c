package mirror

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
	"freshet/internal/mirror/budget"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/project"
	"freshet/internal/mirror/tell"
	"freshet/internal/rsync"
)

// wire makes what syncs the projects, and who tells directors of them.
func (s *settings) wire(ctx context.Context, m *mirror) (err error) {
	w := wiring{m: m, settings: s}
	if s.cfg.needsRsync() {
		if w.rsync, err = rsync.Find(ctx, s.cfg.Rsync); err != nil {
			w.noRsync = err
			// What is here is served all the same, and what comes by other ways is synced.
			m.log.ErrorContext(ctx, "nothing can be synced by rsync", slog.Any("error", err))
		}
	}
	if s.crier, err = w.newCrier(); err != nil {
		return err
	}
	before := m.store.Names()
	defer func() {
		if err != nil {
			err = errors.Join(err, m.unmake(ctx, before))
		}
	}()
	s.projects, s.hotSets, s.shares = make(map[string]*engine.Project), make(map[string]*hotSet), make(map[string]*budget.Share)
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Projects)) {
		if s.projects[name], err = w.project(ctx, name, s.cfg.Projects[name]); err != nil {
			return fmt.Errorf("project %s: %w", name, err)
		}
	}
	return nil
}

// unmake removes the projects that were made in the store since there were these. They have
// nothing yet.
func (m *mirror) unmake(ctx context.Context, before []string) (err error) {
	for _, name := range m.store.Names() {
		if !slices.Contains(before, name) {
			err = errors.Join(err, m.store.Remove(ctx, name))
		}
	}
	return err
}

// wiring is what the projects of settings share while these are made.
type wiring struct {
	*settings
	m       *mirror
	rsync   *rsync.Program // nil: nobody needs it, or
	noRsync error          // why it cannot be used
}

func (w *wiring) project(ctx context.Context, name string, c project.Config) (*engine.Project, error) {
	keys, err := kind.LoadKeys(kind.Format(c.Kind), c.Keys, w.cfg.Keys)
	if err != nil {
		return nil, err
	}
	k, err := kind.New(c.Meaning(keys))
	if err != nil {
		return nil, err
	}
	store, err := w.m.store.Project(name, k.Format().Classify)
	if err != nil {
		return nil, err
	}
	p := &engine.Project{
		Name: name, Kind: k, Store: store, Selection: selection(c), MaxShrink: c.MaxShrink,
		Room:  func(ctx context.Context, need engine.Need) error { return w.m.keeper.Room(ctx, name, need) },
		Trace: w.cfg.Trace.of(w.cfg.Node, c.Upstreams[0]),
		Done:  func(context.Context, *generation.Generation) { w.m.published(name) },
	}
	if c.HotSet > 0 {
		hot, err := w.hotSet(ctx, name, k, store)
		if err != nil {
			return nil, err
		}
		w.hotSets[name] = hot
		p.Popular = hot.ranked
		p.Done = func(ctx context.Context, _ *generation.Generation) {
			hot.learn(ctx)
			w.m.published(name)
		}
	}
	options := w.options(c)
	w.shares[name] = options.Network
	for _, u := range c.Upstreams {
		s, err := fetch.Open(u, options)
		if errors.Is(err, rsync.ErrAbsent) {
			p.Upstream.Unusable = fmt.Errorf("%s: %w", u, w.noRsync)
			continue
		}
		if err != nil {
			return nil, err
		}
		p.Upstream.Sources = append(p.Upstream.Sources, s)
	}
	var siblings []fetch.Source
	for _, u := range c.Siblings {
		s, err := fetch.OpenSibling(u, options)
		if err != nil {
			return nil, err
		}
		siblings = append(siblings, s)
	}
	p.Upstream.Siblings = fetch.NewFleet(w.cfg.URL, siblings...)
	return p, nil
}

// of is what is told of a mirror with a name, besides what comes of a sync.
func (c TraceConfig) of(node, upstream string) kind.Trace {
	machine, _ := os.Hostname() // without one it is the name of the mirror
	software := "freshet"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		software += " " + info.Main.Version
	}
	return kind.Trace{
		Host: cmp.Or(c.Host, node), Machine: machine, Software: software, Upstream: hostOf(upstream), Rsync: strings.HasPrefix(upstream, "rsync:"),
		Maintainer: c.Maintainer, Sponsor: c.Sponsor, Country: c.Country, Location: c.Location, Throughput: c.Throughput,
	}
}

func (w *wiring) options(c project.Config) fetch.Options {
	network, disk := w.m.network.Share(c.Priority), w.m.disks.Share(c.Priority)
	network.Limit(int64(c.Limit))
	network.Through(disk) // what comes in is written
	return fetch.Options{
		Token: tokenOf(c.TokenFile), Rsync: w.rsync, Network: network, Disk: disk, DSCP: int(w.cfg.Limits.DSCP),
		Connections: w.cfg.Limits.Connections, IdleDisk: true,
	}
}

// tokenOf reads the token in a file, nil if there is none.
func tokenOf(file string) func() (string, error) {
	if file == "" {
		return nil
	}
	return func() (string, error) {
		text, err := os.ReadFile(file)
		return strings.TrimSpace(string(text)), err
	}
}

// hostOf is the host of a URL.
func hostOf(text string) string {
	_, plain := fetch.Split(text)
	u, err := url.Parse(plain)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// needsRsync reports whether any upstream speaks rsync.
func (c *Config) needsRsync() bool {
	for _, p := range c.Projects {
		if slices.ContainsFunc(p.Upstreams, func(u string) bool { return strings.HasPrefix(u, "rsync:") }) {
			return true
		}
	}
	return false
}

// selection describes what is wanted of a project: another one is not comparable.
func selection(c project.Config) string {
	wanted := c.Meaning(kind.Keys{})
	wanted.Probe, wanted.Stamps = nil, nil
	text, _ := json.Marshal(wanted) // strings, numbers and lists of them
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// newCrier makes who tells directors.
func (w *wiring) newCrier() (*tell.Crier, error) {
	o := tell.Options{Current: w.current, State: w.m.state, Log: w.m.log}
	if capacity := w.cfg.Capacity; capacity > 0 {
		o.Load = func() (float64, bool) { return w.m.meter.load(capacity) }
	}
	for _, name := range slices.Sorted(maps.Keys(w.cfg.Directors)) {
		c := w.cfg.Directors[name]
		token, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("directors.%s: %w", name, err)
		}
		client, err := Trusting(w.m.env.HTTP, c.CA)
		if err != nil {
			return nil, fmt.Errorf("directors.%s: %w", name, err)
		}
		d := tell.Director{
			Name: name, Mirror: cmp.Or(c.Mirror, w.cfg.Node), Projects: make(map[string]string),
			API: &directorapi.Client{Base: c.URL, Token: strings.TrimSpace(string(token)), HTTP: client},
		}
		for projectName, p := range w.cfg.Projects {
			if p.Directors == nil || slices.Contains(p.Directors, name) {
				d.Projects[projectName] = ""
			}
		}
		o.Directors = append(o.Directors, d)
	}
	return tell.New(o), nil
}

func (w *wiring) current(name string) tell.Generation {
	if p := w.m.store.Held(name); p != nil {
		if g := p.Current(); g != nil {
			return told{g, p}
		}
		if _, drained := p.Drained(); drained {
			return nothing{}
		}
	}
	return nil
}

// nothing is what directors are told of a project that was taken off the disk: the mirror
// has none of its files.
type nothing struct{}

func (nothing) Name() string { return "drained" }

func (nothing) Entries() iter.Seq2[inventory.Entry, error] {
	return func(func(inventory.Entry, error) bool) {}
}

func (nothing) Since(string) (iter.Seq2[inventory.Entry, error], bool) { return nil, false }

// told is a generation as directors are told of it: clients are sent to files, not to links.
type told struct {
	*generation.Generation
	p *generation.Project
}

func (t told) Name() string { return t.Info().Name() }

func (t told) Entries() iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		for f, err := range t.Files() {
			if err == nil && f.IsLink() {
				continue
			}
			if !yield(entryOf(f), err) {
				return
			}
		}
	}
}

func (t told) Since(name string) (iter.Seq2[inventory.Entry, error], bool) {
	all := t.p.Generations()
	i := slices.IndexFunc(all, func(g *generation.Generation) bool { return g.Info().Name() == name })
	if i < 0 {
		return nil, false
	}
	return func(yield func(inventory.Entry, error) bool) {
		for c, err := range generation.Changes(all[i], t.Generation) {
			var e inventory.Entry
			switch {
			case err != nil:
			case c.Right != nil && !c.Right.IsLink():
				e = entryOf(*c.Right)
			case c.Left != nil && !c.Left.IsLink():
				e = inventory.Entry{Path: c.Path, Gone: true}
			default:
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}, true
}

func entryOf(f generation.File) inventory.Entry {
	return inventory.Entry{Path: f.Path, Size: f.Size, ModTime: f.ModTime, SHA256: f.SHA256}
}
