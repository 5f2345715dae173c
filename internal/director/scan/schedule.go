package scan

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
)

// errOther ends a scan whose target the catalogue has changed or removed.
var errOther = errors.New("the catalogue has changed")

// adopt takes over a catalogue: what it does not want scanned is forgotten.
func (s *Scanner) adopt(ctx context.Context, c *directorapi.Catalogue) {
	want := targets(c)
	if len(want) == 0 && len(c.Projects) == 0 && len(s.tasks) == 0 {
		return // there is none yet: what was known before it comes is not forgotten
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	moved := make(map[key]bool) // what is known of these is of elsewhere
	for k, t := range s.tasks {
		next, ok := want[k]
		moved[k] = true
		switch {
		case ok && t.target.same(next):
			t.target = next
			continue
		case t.running():
			t.cancel(errOther)
		}
		delete(s.tasks, k)
	}
	if !s.o.Followed {
		s.forget(want)
	}
	for k, target := range want {
		if s.tasks[k] != nil {
			continue
		}
		t := &task{target: target, memo: new(memo)}
		if known := s.standing(k).Updated; !known.IsZero() {
			t.begun = known
			if !moved[k] {
				t.due = known.Add(jitter(target.every))
			}
		}
		s.tasks[k] = t
	}
	s.o.Log.DebugContext(ctx, "the catalogue tells what to scan", slog.Int("scans", len(s.tasks)))
}

// forget drops from the inventory what is no task: what is not wanted, or is to be had
// elsewhere now.
func (s *Scanner) forget(want map[key]target) {
	for _, project := range s.o.Inventory.Projects() {
		if _, ok := want[key{project: project}]; !ok {
			s.o.Inventory.DropProject(project)
			continue
		}
		tree := s.o.Inventory.Project(project)
		for h, standing := range tree.View().Standings() {
			k := key{s.o.Inventory.Name(h), project}
			_, ok := want[k]
			if h != inventory.Origin && !ok && !standing.Updated.IsZero() {
				tree.Drop(h)
			}
		}
	}
}

// work drops what is too old, starts what is due, and returns when to look again.
func (s *Scanner) work(ctx context.Context) time.Time {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	next := now.Add(time.Hour)
	later := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	var due []*task
	free := s.o.AtOnce
	busy := make(map[string]bool)
	for _, t := range s.tasks {
		if end := s.expire(ctx, t, now); !end.IsZero() {
			later(end)
		}
		switch {
		case t.running():
			free--
			busy[t.target.mirror] = true
		case t.target.pushed() || s.o.PushedOnly || s.o.Followed:
		case t.due.After(now):
			later(t.due)
		default:
			due = append(due, t)
		}
	}
	slices.SortFunc(due, before)
	for _, t := range due {
		if free <= 0 {
			break // whoever ends stirs
		}
		if !t.target.origin() && (busy[t.target.mirror] || s.standing(key{project: t.target.project}).Updated.IsZero()) {
			continue
		}
		busy[t.target.mirror] = true
		free--
		s.start(ctx, t, now)
	}
	return next
}

// before orders what is due: origins first, since by them the others are read.
func before(a, b *task) int {
	if a.target.origin() != b.target.origin() {
		if a.target.origin() {
			return -1
		}
		return 1
	}
	return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.target.mirror, b.target.mirror), cmp.Compare(a.target.project, b.target.project))
}

// expire drops what is known of a mirror if it is too old, or returns when it will be.
func (s *Scanner) expire(ctx context.Context, t *task, now time.Time) time.Time {
	updated := s.standing(t.target.key).Updated
	if t.target.origin() || updated.IsZero() {
		return time.Time{}
	}
	end := updated.Add(max(s.o.MaxAge, 3*t.target.every))
	if end.After(now) {
		return end
	}
	if h, ok := s.o.Inventory.Lookup(t.target.mirror); ok {
		s.o.Inventory.Project(t.target.project).Drop(h)
		s.metrics.expired.Inc()
		s.o.Log.WarnContext(ctx, "what is known of the mirror is too old to be used",
			slog.String("mirror", t.target.mirror), slog.String("project", t.target.project), slog.Time("of", updated))
	}
	return time.Time{}
}

// start starts a scan. s.mu is held.
func (s *Scanner) start(ctx context.Context, t *task, now time.Time) {
	ctx, cancel := context.WithCancelCause(ctx)
	t.memo.fresh = t.asked != ""
	t.begun, t.cancel, t.why, t.asked = now, cancel, t.asked, ""
	target, m := t.target, t.memo
	s.scans.Go(func() {
		defer cancel(nil)
		change, err := s.scan(ctx, target, m)
		s.finish(ctx, t, change, err)
		s.stir()
		if err == nil && target.how == directorapi.HowFolder {
			s.hash(ctx, target)
		}
	})
}

// finish notes how a scan went.
func (s *Scanner) finish(ctx context.Context, t *task, change inventory.Change, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	t.cancel = nil
	t.remark = t.memo.remark
	switch {
	case errors.Is(context.Cause(ctx), errOther):
		s.abandon(t.target.key)
		return
	case ctx.Err() != nil:
		return
	case err != nil:
		t.fault(now, err)
	default:
		s.recovered(ctx, t)
		t.succeed(now, change.Files)
		s.told(t.target.key)
	}
	s.tell(ctx, t, change)
}

// told passes on that a listing or a manifest counted.
func (s *Scanner) told(k key) {
	if s.o.Told != nil {
		s.o.Told.Heard(k.mirror, k.project)
	}
}

// abandon forgets what a scan may have found that is not wanted any more.
func (s *Scanner) abandon(k key) {
	if h, ok := s.o.Inventory.Lookup(k.mirror); ok && s.tasks[k] == nil {
		s.o.Inventory.Project(k.project).Drop(h)
	}
}

func (s *Scanner) recovered(ctx context.Context, t *task) {
	if t.err != nil {
		s.o.Log.InfoContext(ctx, "the mirror can be scanned again", slog.String("mirror", t.target.mirror),
			slog.String("project", t.target.project), slog.Int("failures", t.failures))
	}
}

// tell tells of a scan that has ended.
func (s *Scanner) tell(ctx context.Context, t *task, change inventory.Change) {
	took := t.good.Sub(t.begun)
	log := s.o.Log.With(slog.String("mirror", t.target.mirror), slog.String("project", t.target.project), slog.String("how", string(t.target.how)))
	if t.err == nil {
		s.metrics.ended(t.target.how, "ok", took)
		log.DebugContext(ctx, "scanned", slog.Duration("took", took), slog.Int("files", change.Files),
			slog.Int("added", change.Added), slog.Int("removed", change.Removed), slog.Int("ignored", change.Ignored))
		return
	}
	reason := reasonOf(t.err)
	s.metrics.ended(t.target.how, string(reason), t.failed.Sub(t.begun))
	level := slog.LevelDebug // it has been told
	if t.failures == 1 {
		level = slog.LevelWarn
	}
	log.Log(ctx, level, "a scan failed", slog.String("reason", string(reason)), slog.Any("error", t.err), slog.Time("next", t.due))
}
