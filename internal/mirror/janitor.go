package mirror

import (
	"context"
	"log/slog"
	"time"

	"freshet/internal/mirror/generation"
)

// cleanEvery is how often it is looked for what has come to its end.
const cleanEvery = 10 * time.Minute

// clean retires generations whose grace time is over, and others before that while the disk
// has less than its reserve, until ctx ends.
func (m *mirror) clean(ctx context.Context) {
	ticker := time.NewTicker(cleanEvery)
	defer ticker.Stop()
	for {
		m.retire(ctx)
		m.reclaim(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-m.news:
		}
	}
}

// retire ends what is older than the grace time of its project.
func (m *mirror) retire(ctx context.Context) {
	for name, cfg := range m.cfg().Projects {
		p, err := m.store.Project(name, nil)
		if err == nil {
			var ended []generation.Info
			ended, err = p.Retire(ctx, cfg.Grace)
			m.tellEnded(ctx, "a generation is retired", ended)
		}
		if err != nil && ctx.Err() == nil {
			m.log.ErrorContext(ctx, "old generations stay", slog.String("project", name), slog.Any("error", err))
		}
	}
}

// reclaim drops old generations before their time while the disk is too full, those of the
// projects with the lowest priority first.
func (m *mirror) reclaim(ctx context.Context) {
	dropped, err := m.store.Reclaim(ctx, m.drain(), func(s generation.Space) bool {
		return int64(s.FreeBytes) >= m.cfg().Limits.Reserve.Of(int64(s.Bytes))
	})
	m.tellEnded(ctx, "a generation is dropped before its grace time is over, because the disk is full", dropped)
	if err != nil && ctx.Err() == nil {
		m.log.ErrorContext(ctx, "the disk stays full", slog.Any("error", err))
	}
}

func (m *mirror) tellEnded(ctx context.Context, message string, ended []generation.Info) {
	for _, info := range ended {
		m.log.InfoContext(ctx, message, slog.String("project", info.Project), slog.String("generation", info.ID)) //nolint:sloglint // one of two constants
	}
}

// published takes note of a new generation of a project.
func (m *mirror) published(project string) {
	now := m.now.Load()
	now.crier.Nudge(project)
	for _, h := range now.heralds[project] {
		h.nudge()
	}
	select {
	case m.news <- struct{}{}:
	default:
	}
}
