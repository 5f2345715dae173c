package mirror

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"freshet/api/watchapi"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/label"
	"freshet/internal/telemetry"
)

// spoolFolder is that of telemetry, in the folder of the state.
const spoolFolder = "telemetry"

// openTelemetry makes who tells the watch; nil if there is none.
func (m *mirror) openTelemetry() (*telemetry.Emitter, error) {
	cfg := m.cfg()
	if cfg.Watch.URL == "" {
		return nil, nil //nolint:nilnil // a nil Emitter counts nothing
	}
	watch := cfg.Watch
	watch.Spool = cmp.Or(watch.Spool, filepath.Join(cfg.Directory, "state", spoolFolder))
	e, err := telemetry.Open(telemetry.Options{
		Config: watch, Node: cfg.Node, Role: "mirror", Place: m.placer(), Project: m.isProject, State: m.holdings,
		HTTP: m.env.HTTP, Log: m.log, Metrics: m.env.Metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return e, nil
}

func (m *mirror) isProject(name string) bool {
	_, ok := m.cfg().Projects[name]
	return ok
}

// placer says what paths are, for one goroutine. What it knows of a project is made anew
// when that has another generation or other settings.
func (m *mirror) placer() func(project, path string) telemetry.Place {
	type known struct {
		generation string
		settings   *settings
		*label.Project
	}
	projects := make(map[string]known)
	return func(project, path string) telemetry.Place {
		if project == "" {
			return telemetry.Place{Class: label.Own}
		}
		now := m.now.Load()
		cfg, ok := now.cfg.Projects[project]
		if !ok {
			return telemetry.Place{}
		}
		p := label.Project{Format: kind.Format(cfg.Kind), Releases: cfg.Releases, Architectures: cfg.Architectures}
		generation := ""
		if g := m.current(project); g != nil {
			generation = g.ID()
			for _, r := range g.Info().Repositories {
				p.Repositories = append(p.Repositories, r.Path)
			}
		}
		k := projects[project]
		if k.Project == nil || k.generation != generation || k.settings != now {
			k = known{generation, now, label.New(p)}
			projects[project] = k
		}
		return k.Place(path)
	}
}

// holdings are what the watch is told of projects and of the disk.
func (m *mirror) holdings() []watchapi.Line {
	if m.ctx.Err() != nil {
		return nil // another process may have more by now
	}
	var lines []watchapi.Line
	at := time.Now().UTC()
	for _, name := range slices.Sorted(maps.Keys(m.cfg().Projects)) {
		st := m.projectStatus(name)
		p := &watchapi.Project{
			Name: name, At: at, Generation: st.Generation, Published: st.Published, Files: st.Files, Bytes: st.Bytes, Checked: st.Checked, Failures: st.Failures,
		}
		if st.Last != nil {
			p.Result, p.Reason = string(st.Last.Result), string(st.Last.Reason)
		}
		lines = append(lines, watchapi.Line{Project: p})
	}
	if disk, err := m.disk(); err == nil {
		lines = append(lines, watchapi.Line{Disk: &watchapi.Disk{At: at, Size: disk.Size, Free: disk.Free, Inodes: disk.Inodes, InodesFree: disk.InodeFree}})
	}
	return lines
}
