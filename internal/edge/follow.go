package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/hubapi"
	"freshet/internal/durable"
	"freshet/internal/follow"
)

// pollWait is how long the hub may hold an answer back. It is shorter than the time in
// which an edge on the way expects the first byte.
const pollWait = 10 * time.Second

// Follow applies the events of the sites' hubs until ctx ends.
//
// The cursor of each site is on disk, in the store's folder cursors. It is
// written after what it stands for is applied and on disk, so that an event
// may be applied twice but never not at all.
func (e *Edge) Follow(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range e.all {
		if s.follow != followOff {
			group.Go(func() error { return e.followSite(ctx, s) })
		}
	}
	return group.Wait()
}

func (e *Edge) followSite(ctx context.Context, s *site) error {
	log := e.log.With(slog.String("site", s.label()), slog.String("hub", s.hubURL))
	var told telling
	f := follow.Follower{
		Client:  hubapi.Client{Base: s.hubURL, HTTP: e.env.HTTP, Token: e.hubToken},
		Options: hubapi.FollowOptions{Wait: pollWait, Reporter: e.reporter(s)},
		Cursors: siteCursor{e, s},
		// Nothing is known of what was stored before; from here on it is.
		Begin: func(context.Context) error { e.purgeChangeable(s); return nil },
		Apply: func(ctx context.Context, b hubapi.Batch) error {
			s.lag.Store(max(0, b.Head-b.Cursor.Serial) + int64(len(b.Events)))
			s.noteReport(ctx, b.Report, log)
			if err := e.apply(ctx, s, b, log); err != nil {
				return err
			}
			s.lag.Store(max(0, b.Head-b.Cursor.Serial))
			return nil
		},
		Told: func(ctx context.Context, state follow.State, why error) {
			e.told(ctx, s, state, why, &told, log)
		},
	}
	f.Run(ctx)
	return nil
}

// telling is what was logged of how a site stands to its hub.
type telling struct {
	begun  bool // anything was told
	warned bool // that the hub is away
}

// told notes how the site stands to its hub, and logs what is new about it.
func (e *Edge) told(ctx context.Context, s *site, state follow.State, why error, t *telling, log *slog.Logger) {
	// A hub that starts at the same moment is no reason for a warning.
	first := !t.begun
	t.begun = true
	switch state {
	case follow.CatchingUp:
		e.setNews(ctx, s, newsCatchingUp, log)
		if why != nil {
			log.WarnContext(ctx, "everything changeable is stale", slog.Any("error", why))
		}
	case follow.Following:
		e.setNews(ctx, s, newsFollowing, log)
		t.warned = false
	case follow.NoLog:
		e.setNews(ctx, s, newsNone, log)
		if s.follow == followOn {
			log.WarnContext(ctx, "origin has no event log", slog.Any("error", why))
		}
	case follow.Away:
		e.setNews(ctx, s, newsAway, log)
		if !first && !t.warned {
			t.warned = true
			log.WarnContext(ctx, "event log out of reach", slog.Any("error", why))
		}
	}
}

// apply purges what the events of a batch changed.
func (e *Edge) apply(ctx context.Context, s *site, batch hubapi.Batch, log *slog.Logger) error {
	if len(batch.Events) == 0 {
		return nil
	}
	var paths []string
	for _, event := range batch.Events {
		paths = append(paths, s.paths(event)...)
	}
	n, err := e.renew(ctx, s, paths)
	if err != nil {
		return err
	}
	e.metrics.purged.Add(float64(n))
	for _, event := range batch.Events {
		e.metrics.events.Inc()
		log.InfoContext(ctx, "event applied", slog.Int64("serial", event.Serial), slog.String("kind", string(event.Kind)),
			slog.String("repo", event.Repo), slog.Int("changed", len(event.Changed)))
	}
	return nil
}

// paths maps the files an event names to paths of the site. Those outside of
// the origin's folder are left out.
func (s *site) paths(event hubapi.Event) []string {
	paths := make([]string, 0, len(event.Changed))
	prefix := strings.TrimSuffix(s.origin.Main().Base.Path, "/")
	for _, name := range event.Changed {
		if p, ok := strings.CutPrefix(event.Base+name, prefix); ok && strings.HasPrefix(p, "/") {
			paths = append(paths, p)
		}
	}
	return paths
}

// setNews notes how the site stands to its hub.
func (e *Edge) setNews(ctx context.Context, s *site, state newsState, log *slog.Logger) {
	before := newsState(s.news.Swap(uint32(state)))
	switch {
	case before == state:
	case state == newsNone:
		log.InfoContext(ctx, "the origin has no event log: what may change is asked for again when its lifetime ends")
	default:
		log.InfoContext(ctx, "event log", slog.String("state", state.String()))
	}
}

// cursorFile is the name of the site's cursor.
func cursorFile(s *site) string { return s.label() + ".json" }

// cursors calls f with the folder of the cursors. It is opened each time: should
// somebody have removed it, it is made again.
func (e *Edge) cursors(f func(durable.Dir) error) error {
	dir, err := durable.Open(e.store.Path("cursors"))
	if err != nil {
		return err
	}
	return errors.Join(f(dir), dir.Root.Close())
}

// siteCursor keeps the cursor of a site.
type siteCursor struct {
	e *Edge
	s *site
}

// Load implements [follow.Cursors].
func (c siteCursor) Load() (hubapi.Cursor, error) {
	var text []byte
	err := c.e.cursors(func(dir durable.Dir) (err error) {
		text, err = dir.Root.ReadFile(cursorFile(c.s))
		return err
	})
	return follow.Decode(text, err, c.s.hubURL)
}

// Save implements [follow.Cursors].
func (c siteCursor) Save(now hubapi.Cursor) error {
	if err := c.e.store.Sync(); err != nil { // the purges first
		return err
	}
	text, err := follow.Encode(c.s.hubURL, now)
	if err == nil {
		err = c.e.cursors(func(dir durable.Dir) error { return dir.WriteFile(cursorFile(c.s), text, 0o640) })
	}
	if err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	return nil
}
