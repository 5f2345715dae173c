package mirror

import (
	"context"
	"log/slog"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/presets"
	"freshet/internal/mirror/room"
	"freshet/internal/mirror/status"
)

// cleanEvery is how often it is looked for what has come to its end.
const cleanEvery = 10 * time.Minute

// clean retires generations whose grace time is over, and what else must go while the disk
// has less than its reserve, until ctx ends.
func (m *mirror) clean(ctx context.Context) {
	ticker := time.NewTicker(cleanEvery)
	defer ticker.Stop()
	for {
		m.retire(ctx)
		m.removeEnded(ctx)
		_ = m.keeper.Tidy(ctx) // it tells itself, in the log, and whoever asks for the disk
		m.site.CloseStale()
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
		p := m.store.Held(name)
		if p == nil {
			continue // it was removed meanwhile
		}
		ended, err := p.Retire(ctx, cfg.Grace)
		for _, info := range ended {
			m.log.InfoContext(ctx, "a generation is retired", slog.String("project", info.Project), slog.String("generation", info.ID))
		}
		if err != nil && ctx.Err() == nil {
			m.log.ErrorContext(ctx, "old generations stay", slog.String("project", name), slog.Any("error", err))
		}
	}
}

// newKeeper makes who keeps the disk from being filled, by the settings of the moment.
func (m *mirror) newKeeper() *room.Keeper {
	return room.New(room.Options{
		Store: m.store, Log: m.log, Gone: m.gone, Projects: m.rooms,
		Reserve: func(of int64) int64 { return m.cfg().Limits.Reserve.Of(of) },
	})
}

// rooms are the projects as who keeps the disk sees them.
func (m *mirror) rooms() []room.Project {
	var list []room.Project
	for name, cfg := range m.cfg().Projects {
		p := m.store.Held(name)
		if p == nil {
			continue // it was removed meanwhile
		}
		preset, _ := presets.Find(cfg.Preset) // known
		list = append(list, room.Project{
			Name: name, Store: p, Priority: cfg.Priority, Drain: cfg.Drain, Grace: cfg.Grace, Guess: int64(preset.Size),
			Reports:  func(limit int) ([]mirrorapi.Report, error) { return m.reports.Newest(name, limit) },
			Progress: func() mirrorapi.Progress { return m.engine.Progress(name) },
		})
	}
	return list
}

// gone takes note of what had to make room.
func (m *mirror) gone(ctx context.Context, g room.Gone) {
	attrs := []slog.Attr{slog.String("project", g.Project)}
	switch g.What {
	case room.Generation:
		attrs = append(attrs, slog.String("generation", g.Generation))
		m.log.LogAttrs(ctx, slog.LevelWarn, "a generation is dropped before its grace time is over, because the disk is full", attrs...)
	case room.Staged:
		m.log.LogAttrs(ctx, slog.LevelWarn, "what an interrupted sync has fetched is dropped, because the disk is full", attrs...)
	case room.Whole:
		m.log.LogAttrs(ctx, slog.LevelError, "a project is taken off the disk, because it is full; freshet mirror sync PROJECT has it back", attrs...)
		m.now.Load().crier.Nudge(g.Project)
	}
	m.metrics.gone.WithLabelValues(g.Project, g.What).Inc()
	m.site.CloseStale()
}

// disk tells how full the file system is, and is going to be.
func (m *mirror) disk() (mirrorapi.Disk, error) {
	d, err := m.keeper.Disk()
	if err != nil {
		return mirrorapi.Disk{}, err
	}
	out := mirrorapi.Disk{
		Size: d.Size.Bytes, Free: d.Free.Bytes, Reserve: d.Reserve.Bytes, Inodes: d.Size.Inodes, InodeFree: d.Free.Inodes, InodeReserve: d.Reserve.Inodes,
		UnderWay: d.UnderWay.Bytes, Planned: d.Planned.Bytes, ForNew: max(d.ForNew().Bytes, 0),
		Full: m.diskFull(d),
	}
	if perDay, known := status.PerDay(m.telling.disk.Samples()); known {
		out.PerDay = new(int64(perDay))
	}
	if d.Alarm != nil {
		out.Alarm = d.Alarm.Error()
	}
	return out, nil
}

// diskFull is when bytes or inodes come to the reserve, if the disk goes on to fill as it
// does; zero if that is not within a year.
func (m *mirror) diskFull(d room.Disk) time.Time {
	now := time.Now().UTC()
	// The last sample may be an hour old.
	samples := append(m.telling.disk.Samples(), status.Sample{At: now, Used: d.Size.Bytes - d.Free.Bytes, Inodes: d.Size.Inodes - d.Free.Inodes})
	full := status.Forecast(samples, now, d.Size.Bytes-d.Reserve.Bytes)
	if d.Size.Inodes == 0 {
		return full
	}
	inodes := status.Forecast(status.OfInodes(samples), now, d.Size.Inodes-d.Reserve.Inodes)
	if full.IsZero() || !inodes.IsZero() && inodes.Before(full) {
		return inodes
	}
	return full
}

// published takes note of a new generation of a project.
func (m *mirror) published(project string) {
	now := m.now.Load()
	now.crier.Nudge(project)
	for _, h := range now.heralds[project] {
		h.nudge()
	}
	m.cleanSoon()
}

// cleanSoon has clean look now.
func (m *mirror) cleanSoon() {
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// offDisk is the report of a sync of a project that was taken off the disk: only an
// operator has it back. It is false for all others.
func (m *mirror) offDisk(order mirrorapi.Order) (mirrorapi.Report, bool) {
	p := m.store.Held(order.Project)
	if p == nil || order.Cause == mirrorapi.CauseOrder || order.Cause == mirrorapi.CauseResume {
		return mirrorapi.Report{}, false
	}
	since, drained := p.Drained()
	if !drained {
		return mirrorapi.Report{}, false
	}
	now := time.Now().UTC()
	return mirrorapi.Report{
		Project: order.Project, Order: order, Began: now, Ended: now, Steps: []mirrorapi.StepTime{},
		Result: mirrorapi.Refused, Reason: mirrorapi.ReasonDrained,
		Message: "it was taken off the disk at " + since.Format(time.RFC3339) + ", because the disk was full; an order has it back: freshet mirror sync " + order.Project,
	}, true
}
