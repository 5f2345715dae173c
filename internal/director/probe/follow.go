package probe

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/pause"
)

// way is a Way that is followed. What stands below is of the goroutine that does so.
type way struct {
	Way
	base    *url.URL // of the project's root there, ending in a slash
	project *directorapi.Project
	renews  bool          // its inventory can be asked for anew
	nudge   chan struct{} // look soon

	judge    judge
	round    uint64 // looks made
	pointers map[string]*pointer
}

// same reports whether the way is to be followed as it was.
func (w *way) same(o *way) bool {
	return *w.base == *o.base && w.renews == o.renews && w.project.Canary == o.project.Canary &&
		slices.Equal(w.project.Repositories, o.project.Repositories)
}

// plan lists the ways of a catalogue.
func plan(c *directorapi.Catalogue) map[Way]*way {
	ways := make(map[Way]*way)
	add := func(mirror string, project *directorapi.Project, base string, how directorapi.How) {
		u, err := url.Parse(base)
		if base == "" || err != nil {
			return // the catalogue says what is wrong with it
		}
		w := Way{Mirror: mirror, Project: project.Name}
		if u.Scheme == HTTPS.String() {
			w.Scheme = HTTPS
		}
		for _, w.Family = range []Family{IPv4, IPv6} {
			ways[w] = &way{
				Way: w, base: u, project: project, renews: how != directorapi.HowNone && how != directorapi.HowManifest,
				nudge: make(chan struct{}, 1), pointers: make(map[string]*pointer),
			}
		}
	}
	projects := make(map[string]*directorapi.Project)
	for i := range c.Projects {
		project := &c.Projects[i]
		if project.Disabled {
			continue
		}
		projects[project.Name] = project
		for j, origin := range project.Origins {
			add(Origin(j), project, origin, directorapi.HowNone)
		}
	}
	for i := range c.Mirrors {
		m := &c.Mirrors[i]
		for j := range m.Carries {
			carried := &m.Carries[j]
			if project := projects[carried.Project]; project != nil && !m.Disabled {
				add(m.Name, project, carried.HTTP, carried.Inventory.How)
				add(m.Name, project, carried.HTTPS, carried.Inventory.How)
			}
		}
	}
	return ways
}

// running is a way with the goroutine that follows it.
type running struct {
	*way
	cancel context.CancelFunc
	done   chan struct{}
}

// adopt follows the ways of the catalogue as it is now, and returns them. What is known
// of those that stay is kept.
func (p *Prober) adopt(ctx context.Context, before map[Way]*running) map[Way]*running {
	planned := plan(p.opt.Catalogue.Current())
	stays := func(r *running) bool { next := planned[r.Way]; return next != nil && next.same(r.way) }
	for _, r := range before {
		if !stays(r) {
			r.cancel()
		}
	}
	for _, r := range before {
		if !stays(r) {
			<-r.done
		}
	}
	after := make(map[Way]*running, len(planned))
	for w, next := range planned {
		r := before[w]
		switch {
		case r != nil && stays(r):
			after[w] = r
			continue
		case r != nil:
			next.judge, next.round = r.judge, r.round
		default:
			next.judge = p.history.judge(w)
		}
		after[w] = &running{way: next, done: make(chan struct{})}
	}
	p.take(after)
	for w, r := range after {
		if r != before[w] {
			r.start(ctx, p)
		}
	}
	return after
}

// take makes the state one of these ways.
func (p *Prober) take(followed map[Way]*running) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ways = make(map[Way]*way, len(followed))
	for w, r := range followed {
		p.ways[w] = r.way
		if _, known := p.health[w]; !known {
			p.health[w] = r.judge.Health
		}
	}
	for w := range p.health {
		if p.ways[w] == nil {
			delete(p.health, w)
		}
	}
	for r, all := range p.shown {
		for w := range all {
			if p.ways[w] == nil {
				delete(all, w)
			}
		}
		if len(all) == 0 {
			delete(p.shown, r)
		}
	}
	p.publish(true)
}

func (r *running) start(ctx context.Context, p *Prober) {
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		defer close(r.done)
		p.follow(ctx, r.way)
	}()
}

// spread is within which time all ways are looked at for the first time.
const spread = 2 * time.Second

// follow looks again and again, until ctx ends.
func (p *Prober) follow(ctx context.Context, w *way) {
	wait := rand.N(spread)
	for pause.Until(ctx, w.nudge, wait) {
		// A nudge is no reason to look without a pause.
		if !pause.For(ctx, min(time.Until(w.judge.Looked.Add(everyDoubt*4/5)), everyDoubt)) {
			return
		}
		o, ok := p.lookNow(ctx, w)
		if !ok {
			return
		}
		p.judged(ctx, w, o)
		wait = w.judge.every(w.isOrigin(), w.behind(o.ended))
		wait -= rand.N(wait / 5)
	}
}

// lookNow looks when there is room for it. It returns false if ctx has ended.
func (p *Prober) lookNow(ctx context.Context, w *way) (o outcome, ok bool) {
	if p.slots.Acquire(ctx, 1) != nil {
		return o, false
	}
	defer p.slots.Release(1)
	w.round++
	o.begun, o.reached = time.Now(), time.Unix(0, p.reached.Load())
	expires, err := p.look(ctx, w)
	if ctx.Err() != nil {
		return o, false
	}
	o.ended, o.expires, o.why = time.Now(), expires, reasonOf(err)
	if err != nil {
		o.detail = err.Error()
	}
	if !o.why.couldBeUs() && o.why != NothingToCheck {
		p.reached.Store(o.ended.UnixNano())
	}
	if o.renews = w.renews; o.renews {
		o.inventory = p.opt.Scans.Updated(w.Mirror, w.Project)
	}
	return o, true
}

// judged makes the verdict known that a look has led to.
func (p *Prober) judged(ctx context.Context, w *way, o outcome) {
	p.metrics.looked(o)
	worked := w.judge.Works
	changed := w.judge.look(o)
	returns := !w.judge.Works && w.judge.Good == 1
	if returns && w.renews {
		p.opt.Scans.Hasten(w.Mirror, w.Project, "the mirror works again")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if returns || worked && w.judge.bad == 1 {
		p.nudge(holding{w.Mirror, w.Project}) // its other ways may have the same fate
	}
	before := p.health[w.Way]
	p.health[w.Way] = w.judge.Health
	if changed || before.Looked.IsZero() || o.ended.Sub(p.state.Load().made) >= time.Second {
		p.publish(w.judge.Works != worked || before.Looked.IsZero())
	}
	p.warnOfCertificate(ctx, w, o.ended)
	if w.judge.Works != worked || before.Looked.IsZero() && changed {
		c := Change{At: o.ended, Works: w.judge.Works, Why: w.judge.Why}
		if !c.Works {
			c.Detail = o.detail
		}
		p.keepHistory(ctx, func() error { return p.history.add(w.Way, c) })
		p.logChange(ctx, w, c)
	}
}

func (p *Prober) logChange(ctx context.Context, w *way, c Change) {
	about := []slog.Attr{
		slog.String("mirror", w.Mirror), slog.String("project", w.Project),
		slog.String("scheme", w.Scheme.String()), slog.String("family", w.Family.String()),
	}
	switch {
	case c.Works:
		p.opt.Log.LogAttrs(ctx, slog.LevelInfo, "the mirror works", about...)
	case c.Why == NoAddress && !w.judge.seen:
		// Many have none of the newer family, and that is nobody's trouble.
	default:
		about = append(about, slog.String("reason", string(c.Why)), slog.String("detail", c.Detail))
		p.opt.Log.LogAttrs(ctx, slog.LevelWarn, "the mirror does not work", about...)
	}
}

const (
	// warnBefore is how long before the end of a certificate it is warned of that, once
	// every warnEvery.
	warnBefore = 14 * 24 * time.Hour
	warnEvery  = 24 * time.Hour
)

// warnOfCertificate tells of a certificate that ends soon, once a day for a mirror.
func (p *Prober) warnOfCertificate(ctx context.Context, w *way, now time.Time) {
	expires := w.judge.Expires
	key := Way{Mirror: w.server()}
	if expires.IsZero() || expires.Sub(now) > warnBefore || now.Sub(p.warned[key]) < warnEvery {
		return
	}
	p.warned[key] = now
	p.opt.Log.LogAttrs(ctx, slog.LevelWarn, "the mirror's certificate ends soon",
		slog.String("mirror", w.Mirror), slog.String("url", w.base.Redacted()),
		slog.Time("expires", expires), slog.Int("days", int(expires.Sub(now).Hours()/24)))
}
