package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/hubapi"
	"freshet/internal/durable"
	"freshet/internal/pause"
)

const (
	// recheckAfter is how often an origin without an event log is asked whether
	// it has one now.
	recheckAfter = 10 * time.Minute
	// retryAfter is the pause after a failure that the client does not retry
	// itself.
	retryAfter = 5 * time.Second
	// pollWait is how long the hub may hold an answer back. It is shorter than
	// the time in which an edge on the way expects the first byte.
	pollWait = 10 * time.Second
)

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
	for first := true; ctx.Err() == nil; {
		err := e.followLog(ctx, s, log)
		void, isVoid := errors.AsType[*hubapi.CursorError](err)
		switch {
		case ctx.Err() != nil: // a clean stop
		case isVoid:
			e.setNews(ctx, s, newsCatchingUp, log)
			log.WarnContext(ctx, "event log begins anew: everything changeable is stale", slog.Any("error", err))
			if err := e.restart(s, void.Now); err != nil {
				log.ErrorContext(ctx, "cursor not kept", slog.Any("error", err))
				pause.For(ctx, retryAfter)
			}
		case errors.Is(err, hubapi.ErrNoEventLog):
			e.setNews(ctx, s, newsNone, log)
			if s.follow == followOn {
				log.WarnContext(ctx, "origin has no event log", slog.Any("error", err))
			}
			pause.For(ctx, recheckAfter)
		default:
			// A hub that starts at the same moment is no reason for a warning.
			level, wait := slog.LevelWarn, retryAfter
			if first {
				level, wait = slog.LevelInfo, time.Second
			}
			e.setNews(ctx, s, newsAway, log)
			log.Log(ctx, level, "event log not followed", slog.Any("error", err))
			pause.For(ctx, wait)
		}
		first = false
	}
	return nil
}

// followLog reads and applies the log until something breaks.
func (e *Edge) followLog(ctx context.Context, s *site, log *slog.Logger) error {
	client := hubapi.Client{Base: s.hubURL, HTTP: e.env.HTTP, RetryFor: -1} // without the token: it may be no hub
	cursor, err := e.readCursor(s)
	if err != nil {
		log.WarnContext(ctx, "cursor not readable: begin anew", slog.Any("error", err))
	}
	if cursor.Log == "" {
		// Nothing is known of what was stored before; from here on it is.
		page, err := client.Events(ctx, 0, 1, 0)
		if err != nil {
			return err
		}
		cursor = hubapi.Cursor{Log: page.Log, Serial: page.Head}
		if err := e.restart(s, cursor); err != nil {
			return err
		}
	}
	client.Token = e.hubToken
	opts := hubapi.FollowOptions{
		Wait: pollWait, Reporter: e.reporter(s),
		Trouble: func(err error, _ time.Duration) {
			if e.setNews(ctx, s, newsAway, log) && ctx.Err() == nil {
				log.WarnContext(ctx, "event log out of reach", slog.Any("error", err))
			}
		},
	}
	for batch, err := range client.FollowBatches(ctx, cursor, opts) {
		if err != nil {
			return err
		}
		s.lag.Store(max(0, batch.Head-batch.Cursor.Serial) + int64(len(batch.Events)))
		if !batch.CaughtUp() {
			e.setNews(ctx, s, newsCatchingUp, log)
		}
		s.noteReport(ctx, batch.Report, log)
		if err := e.apply(ctx, s, batch, log); err != nil {
			return err
		}
		s.lag.Store(max(0, batch.Head-batch.Cursor.Serial))
		if batch.CaughtUp() {
			e.setNews(ctx, s, newsFollowing, log)
		}
	}
	return ctx.Err()
}

// apply purges what the events of a batch changed, and moves the cursor.
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
		return fmt.Errorf("events up to %d: %w", batch.Cursor.Serial, err)
	}
	e.metrics.purged.Add(float64(n))
	for _, event := range batch.Events {
		e.metrics.events.Inc()
		log.InfoContext(ctx, "event applied", slog.Int64("serial", event.Serial), slog.String("kind", string(event.Kind)),
			slog.String("repo", event.Repo), slog.Int("changed", len(event.Changed)))
	}
	return e.writeCursor(s, batch.Cursor)
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

// restart makes everything changeable stale and sets the cursor.
func (e *Edge) restart(s *site, now hubapi.Cursor) error {
	e.purgeChangeable(s)
	return e.writeCursor(s, now)
}

// setNews notes how the site stands to its hub. It reports whether that is
// new.
func (e *Edge) setNews(ctx context.Context, s *site, state newsState, log *slog.Logger) bool {
	before := newsState(s.news.Swap(uint32(state)))
	switch {
	case before == state:
	case state == newsNone:
		log.InfoContext(ctx, "the origin has no event log: what may change is asked for again when its lifetime ends")
	default:
		log.InfoContext(ctx, "event log", slog.String("state", state.String()))
	}
	return before != state
}

// cursorFile is the name of the site's cursor.
func cursorFile(s *site) string { return s.label() + ".json" }

// storedCursor is the content of a cursor file. The hub is part of it: the
// cursor of another one means nothing.
type storedCursor struct {
	Hub string `json:"hub"`
	hubapi.Cursor
}

// cursors calls f with the folder of the cursors. It is opened each time: should
// somebody have removed it, it is made again.
func (e *Edge) cursors(f func(durable.Dir) error) error {
	dir, err := durable.Open(e.store.Path("cursors"))
	if err != nil {
		return err
	}
	return errors.Join(f(dir), dir.Root.Close())
}

func (e *Edge) readCursor(s *site) (hubapi.Cursor, error) {
	var data []byte
	err := e.cursors(func(dir durable.Dir) (err error) {
		data, err = dir.Root.ReadFile(cursorFile(s))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return hubapi.Cursor{}, nil
	}
	var stored storedCursor
	if err == nil {
		err = json.Unmarshal(data, &stored)
	}
	if err != nil {
		return hubapi.Cursor{}, fmt.Errorf("read cursor: %w", err)
	}
	if stored.Hub != s.hubURL || stored.Serial < 0 {
		return hubapi.Cursor{}, nil
	}
	return stored.Cursor, nil
}

func (e *Edge) writeCursor(s *site, cursor hubapi.Cursor) error {
	if err := e.store.Sync(); err != nil { // the purges first
		return err
	}
	data, err := json.Marshal(storedCursor{s.hubURL, cursor})
	if err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	err = e.cursors(func(dir durable.Dir) error { return dir.WriteFile(cursorFile(s), append(data, '\n'), 0o640) })
	if err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	return nil
}
