package mirror

import (
	"maps"
	"slices"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/mirror/events"
	"freshet/internal/mirror/schedule"
)

// wide is how many times longer the time is within which projects are looked at of which
// it is not known whether there is anything new.
const wide = 10

// newListener makes who follows the upstreams of all projects.
func (m *mirror) newListener(cfg Config) *events.Listener {
	o := events.Options{Sync: m.heard, State: m.state, HTTP: m.env.HTTP, Log: m.log}
	for _, name := range slices.Sorted(maps.Keys(cfg.Projects)) {
		o.Projects = append(o.Projects, events.Project{Name: name, Upstreams: cfg.Projects[name].Upstreams})
	}
	return events.New(o)
}

// heard has a project synced of which an upstream has told that there is, or perhaps is,
// something new. What is never synced by itself is first synced when an operator says so.
func (m *mirror) heard(project, by string, perhaps bool) (events.Sync, error) {
	cfg := m.cfg().Projects[project]
	if times, _ := schedule.Parse(cfg.Schedule); times.Never() {
		if p := m.store.Held(project); p == nil || p.Current() == nil {
			return nil, nil //nolint:nilnil // as documented
		}
	}
	within := cfg.Spread
	if perhaps {
		within *= wide
	}
	waits, err := m.scheduler.Submit(mirrorapi.Order{Project: project, Cause: mirrorapi.CauseEvent, By: by}, within)
	if err != nil {
		return nil, err
	}
	return waits, nil
}

// lost is for how long an upstream may not be followed before somebody should look.
const lost = 5 * time.Minute

// followFindings judges how the upstreams of a project are followed.
func followFindings(about string, follows []mirrorapi.Followed, now time.Time) []mirrorapi.Finding {
	var found []mirrorapi.Finding
	for _, f := range follows {
		since := config.FormatDuration(now.Sub(f.Since).Truncate(time.Second))
		finding := mirrorapi.Finding{Level: mirrorapi.LevelWarning, About: about}
		switch {
		case f.State == mirrorapi.FollowFollowing || now.Sub(f.Since) < lost:
			continue
		case f.State == mirrorapi.FollowNoLog:
			finding.Message = "for " + since + " " + f.Upstream + " tells nobody of changes: " + f.Error
			finding.Do = "see whether it is what stands before the + in its URL; without hub+ or mirror+ it is synced by its schedule alone"
		default:
			finding.Message = "for " + since + " it is not known what " + f.Upstream + " has told: " + f.Error
			finding.Do = "see whether it can be reached from here; until then the project is synced by its schedule alone"
		}
		found = append(found, finding)
	}
	return found
}
