package events

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/api/mirrorapi"
	"freshet/internal/follow"
	"freshet/internal/pause"
)

// hub is one whose event log is followed.
type hub struct {
	l     *Listener
	root  string
	host  string
	wards []*ward
}

func (h *hub) add(w *ward) { h.wards = append(h.wards, w) }

// pollWait is how long the hub may hold an answer back: shorter than the time in which
// a cache on the way expects the first byte.
const pollWait = 10 * time.Second

func (h *hub) run(ctx context.Context) {
	log := h.l.o.Log.With(slog.String("hub", h.root))
	warned := false
	f := follow.Follower{
		Client:  hubapi.Client{Base: h.root, HTTP: h.l.o.HTTP},
		Options: hubapi.FollowOptions{Wait: pollWait},
		Cursors: h,
		Begin:   func(context.Context) error { return h.all() },
		Apply:   func(ctx context.Context, b hubapi.Batch) error { return h.apply(ctx, b, log) },
		Told: func(ctx context.Context, s follow.State, why error) {
			for _, w := range h.wards {
				w.set(stateOf(s), why)
			}
			switch lost := s == follow.Away || s == follow.NoLog; {
			case lost && !warned:
				warned = true
				log.WarnContext(ctx, "the hub does not tell of changes: its projects are synced as their schedules say", slog.Any("error", why))
			case s == follow.Following && warned:
				warned = false
				log.InfoContext(ctx, "the hub tells of changes again")
			}
		},
	}
	// Whatever a cursor stood for: somebody may have put back older files meanwhile.
	if err := h.all(); err != nil {
		log.ErrorContext(ctx, "projects are not looked at", slog.Any("error", err))
	}
	f.Run(ctx)
}

func stateOf(s follow.State) mirrorapi.FollowState {
	switch s {
	case follow.Following:
		return mirrorapi.FollowFollowing
	case follow.Away:
		return mirrorapi.FollowAway
	case follow.NoLog:
		return mirrorapi.FollowNoLog
	case follow.CatchingUp:
	}
	return mirrorapi.FollowCatchingUp
}

// all has all projects of the hub looked at.
func (h *hub) all() error {
	for _, w := range h.wards {
		if _, err := h.l.o.Sync(w.project, h.host, true); err != nil {
			return fmt.Errorf("project %s: %w", w.project, err)
		}
	}
	return nil
}

// apply has the projects synced that a batch is about, each once, and waits a little: what
// comes meanwhile is one batch.
func (h *hub) apply(ctx context.Context, b hubapi.Batch, log *slog.Logger) error {
	for _, w := range h.wards {
		for i := range b.Events {
			e := &b.Events[i]
			if !concerns(e, w.path) {
				continue
			}
			waits, err := h.l.o.Sync(w.project, h.host, false)
			if err != nil {
				return fmt.Errorf("project %s: %w", w.project, err)
			}
			w.counted()
			log.InfoContext(ctx, "the hub tells of a change", slog.String("project", w.project), slog.Int64("serial", e.Serial), slog.String("kind", string(e.Kind)))
			if waits != nil && w.wait(true) {
				h.l.running.Go(func() { h.again(ctx, w, waits) })
			}
			break
		}
		w.at(strconv.FormatInt(b.Cursor.Serial, 10), max(0, b.Head-b.Cursor.Serial))
	}
	if len(b.Events) > 0 {
		pause.For(ctx, pace)
	}
	return nil
}

// concerns reports whether an event is about what lies below a path of the hub.
func concerns(e *hubapi.Event, path string) bool {
	switch e.Kind {
	case hubapi.EventPublish, hubapi.EventTree, hubapi.EventRepair:
	default:
		return false
	}
	for _, name := range e.Changed {
		if strings.HasPrefix(e.Base+name, path) {
			return true
		}
	}
	// Of an event that names no files, everything below its base may be meant.
	return len(e.Changed) == 0 && (strings.HasPrefix(e.Base, path) || strings.HasPrefix(path, e.Base))
}

// again is when a project is looked at once more that was found unchanged: caches in front
// of a hub hear of a change at the same time as we.
const again = 2 * time.Second

// wait notes that somebody waits for the end of a sync, or does not any more. It reports
// whether that is new.
func (w *ward) wait(yes bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := w.waiting != yes
	w.waiting = yes
	return changed
}

// again looks once more if a sync found nothing of what it was told of.
func (h *hub) again(ctx context.Context, w *ward, waits Sync) {
	select {
	case <-waits.Done():
	case <-ctx.Done():
	}
	w.wait(false)
	if ctx.Err() != nil {
		return
	}
	if waits.Report().Result != mirrorapi.Unchanged || !pause.For(ctx, again) {
		return
	}
	if _, err := h.l.o.Sync(w.project, h.host, false); err != nil {
		h.l.o.Log.ErrorContext(ctx, "a project is not looked at once more", slog.String("project", w.project), slog.Any("error", err))
	}
}

// Load implements [follow.Cursors].
func (h *hub) Load() (hubapi.Cursor, error) {
	text, err := h.l.o.State.Root.ReadFile(stateFile(h.root))
	return follow.Decode(text, err, h.root)
}

// Save implements [follow.Cursors].
func (h *hub) Save(c hubapi.Cursor) error {
	text, err := follow.Encode(h.root, c)
	if err == nil {
		err = h.l.o.State.WriteFile(stateFile(h.root), text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep how far %s was followed: %w", h.root, err)
	}
	return nil
}
