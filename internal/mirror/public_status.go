package mirror

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/schedule"
	"freshet/internal/mirror/status"
)

// telling is what the public status is made of, and the last one.
type telling struct {
	disk *status.History

	mu   sync.Mutex
	last *status.Status // not changed
	// weeks are the reports of the last week by project, and the serial of the last of them:
	// they are read anew when there is another one.
	weeks map[string]week
}

type week struct {
	serial  int64
	reports []mirrorapi.Report // newest first
}

const (
	// tellEvery is how old a public status may be.
	tellEvery = 10 * time.Second
	// maxWeek bounds the reports of a week.
	maxWeek = 4096
	// sampleEvery is how often it is looked whether a sample of the disk is due.
	sampleEvery = time.Minute
)

// sample notes how full the disk is, again and again, until ctx ends.
func (m *mirror) sample(ctx context.Context) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		disk, err := m.disk()
		if err == nil {
			err = m.telling.disk.Add(time.Now(), disk.Size-disk.Free, disk.Inodes-disk.InodeFree)
		}
		if err != nil {
			m.log.WarnContext(ctx, "how full the disk is was not noted", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// publicStatus is what everybody may know; nil if the configuration hides it, or it cannot be
// found out.
func (m *mirror) publicStatus() *status.Status {
	if m.cfg().HideStatus {
		return nil
	}
	t := &m.telling
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now().UTC()
	if t.last != nil && now.Sub(t.last.Made).Abs() < tellEvery {
		return t.last
	}
	st, err := m.makeStatus(now)
	switch {
	case err != nil && m.ctx.Err() != nil:
		return t.last // another process has the store
	case err != nil:
		m.log.Error("how the mirror is cannot be told", slog.Any("error", err))
		return nil
	}
	t.last = st
	return st
}

func (m *mirror) makeStatus(now time.Time) (*status.Status, error) {
	disk, err := m.disk()
	if err != nil {
		return nil, err
	}
	cfg := m.cfg()
	st := &status.Status{
		Made: now.Truncate(time.Second), Node: cfg.Node, Projects: []status.Project{}, History: m.telling.disk.Samples(),
		Disk: status.Disk{Size: disk.Size, Free: disk.Free, Reserve: disk.Reserve},
	}
	st.Disk.Full = disk.Full
	for _, name := range slices.Sorted(maps.Keys(cfg.Projects)) {
		p, err := m.publicProject(name, now)
		if err != nil {
			return nil, err
		}
		st.Projects = append(st.Projects, p)
	}
	return st, nil
}

func (m *mirror) publicProject(name string, now time.Time) (status.Project, error) {
	known := m.projectStatus(name)
	p := status.Project{
		Name: name, Kind: known.Kind, State: cmp.Or(known.State, mirrorapi.Idle), Generation: known.Generation, Switched: known.Published,
		Files: known.Files, Bytes: known.Bytes, Checked: known.Checked, Next: known.Next,
	}
	if known.Hold != nil {
		p.Held = known.Hold.Since
	}
	if g := m.current(name); g != nil {
		for _, r := range g.Info().Repositories {
			if r.Pointer == "" {
				continue // a tree without any
			}
			p.Repositories = append(p.Repositories, r)
			if r.Time.After(p.Version) {
				p.Version = r.Time
			}
		}
	}
	limit := freshFor(known.Schedule)
	p.Stale = status.IsStale(p.Checked, now, limit)
	if known.Last == nil {
		return p, nil
	}
	p.Last = &status.Sync{Began: known.Last.Began, Ended: known.Last.Ended, Result: known.Last.Result, Reason: known.Last.Reason}
	list, err := m.telling.week(m, name, known.Last.Serial)
	if err != nil {
		return p, err
	}
	if known.Failures > 0 {
		p.Failing = &status.Failing{Since: known.Last.Began, Syncs: known.Failures, Reason: known.Last.Trouble()}
	}
	var good []time.Time
	failing := p.Failing != nil
	for _, r := range list {
		ok := (r.Result == mirrorapi.Published || r.Result == mirrorapi.Unchanged) && len(r.HeldBack()) == 0
		if ok {
			good = append(good, r.Ended)
		}
		if failing = failing && !ok; failing {
			p.Failing.Since = r.Began
		}
	}
	slices.Reverse(good)
	p.Week = status.Freshness(good, now.Truncate(time.Second), limit)
	return p, nil
}

// freshFor is for how long what was found up to date is taken to be so; 0: for good, since
// nobody looks by himself.
func freshFor(text string) time.Duration {
	times, err := schedule.Parse(text)
	if err != nil || times.Never() {
		return 0
	}
	return 3*times.Every() + time.Hour
}

// forget forgets a project.
func (t *telling) forget(project string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.weeks, project)
}

// week returns the reports of a project in the last week, and the one before them, newest
// first. It is called with mu.
func (t *telling) week(m *mirror, project string, serial int64) ([]mirrorapi.Report, error) {
	if w, ok := t.weeks[project]; ok && w.serial == serial {
		return w.reports, nil
	}
	list, err := m.reports.Newest(project, maxWeek)
	if err != nil {
		return nil, err
	}
	begin := time.Now().Add(-status.Week)
	if i := slices.IndexFunc(list, func(r mirrorapi.Report) bool {
		return r.Ended.Before(begin) && (r.Result == mirrorapi.Published || r.Result == mirrorapi.Unchanged)
	}); i >= 0 {
		list = list[:i+1]
	}
	for i := range list { // of which no more is needed
		r := &list[i]
		list[i] = mirrorapi.Report{Serial: r.Serial, Began: r.Began, Ended: r.Ended, Result: r.Result, Reason: r.Reason}
	}
	if t.weeks == nil {
		t.weeks = make(map[string]week)
	}
	t.weeks[project] = week{serial, list}
	return list, nil
}
