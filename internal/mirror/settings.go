package mirror

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/budget"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/events"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/project"
	"freshet/internal/mirror/rsyncd"
	"freshet/internal/mirror/schedule"
	"freshet/internal/mirror/serve"
	"freshet/internal/mirror/tell"
	"freshet/internal/networks"
)

// settings are a configuration and what is made of it. When the configuration changes they
// are replaced as a whole, by [mirror.apply]; they are not changed.
type settings struct {
	cfg         Config // with its defaults
	projects    map[string]*engine.Project
	digests     map[string]string        // by project, of all that decides what a sync brings
	hotSets     map[string]*hotSet       // by project, those that keep one
	shares      map[string]*budget.Share // by project, of the network
	through     map[string]*url.URL      // by project, those that have it
	triggerKeys map[string][]mirrorapi.TriggerKey
	heralds     map[string][]*herald
	crier       *tell.Crier
	listener    *events.Listener
	trusted     networks.Set // proxies
}

// cfg is the configuration that the mirror works by. It is not changed.
func (m *mirror) cfg() *Config { return &m.now.Load().cfg }

// settle makes ready what a configuration, with its defaults, says. Nothing of it runs yet.
func (m *mirror) settle(ctx context.Context, cfg Config) (_ *settings, err error) {
	if cfg.Node == "" {
		if cfg.Node, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("node: %w; say in [mirror] what the name is", err)
		}
	}
	s := &settings{cfg: cfg, through: make(map[string]*url.URL), digests: make(map[string]string)}
	if s.triggerKeys, err = triggerKeys(cfg); err != nil {
		return nil, err
	}
	if s.trusted, err = networks.ParseAll(cfg.TrustedProxies); err != nil {
		return nil, fmt.Errorf("trusted-proxies: %w", err)
	}
	if s.heralds, err = newHeralds(cfg, m.env.HTTP, m.log); err != nil {
		return nil, err
	}
	s.listener = m.newListener(cfg)
	for name, p := range cfg.Projects {
		if s.digests[name], err = digest(p, cfg.Keys); err != nil {
			return nil, fmt.Errorf("project %s: %w", name, err)
		}
		if p.Through == "" {
			continue
		}
		if s.through[name], err = url.Parse(p.Through); err != nil {
			return nil, fmt.Errorf("project %s: through: %w", name, err)
		}
	}
	return s, s.wire(ctx, m)
}

// digest stands for all settings of a project that decide what a sync brings, with the keys
// that they name.
func digest(p project.Config, texts map[string]string) (string, error) {
	h := sha256.New()
	about := []any{selection(p), p.Upstreams, p.HotSet}
	for _, file := range p.Keys {
		key, err := kind.ReadKey(file, texts)
		if err != nil {
			return "", err
		}
		about = append(about, sha256.Sum256(key))
	}
	err := json.NewEncoder(h).Encode(about)
	return hex.EncodeToString(h.Sum(nil)[:8]), err
}

// schedules are what the scheduler is told of the projects, which were validated.
func (s *settings) schedules() []schedule.Project {
	var list []schedule.Project
	for name, p := range s.cfg.Projects {
		times, _ := schedule.Parse(p.Schedule)
		list = append(list, schedule.Project{
			Name: name, Times: times, Jitter: cmp.Or(p.Jitter, times.Jitter()), Priority: p.Priority, Timeout: p.Timeout,
			Settings: s.digests[name],
		})
	}
	return list
}

// modules are what rsync serves.
func (s *settings) modules() ([]rsyncd.Module, error) {
	var list []rsyncd.Module
	for _, name := range slices.Sorted(maps.Keys(s.projects)) {
		path, err := filepath.Abs(s.projects[name].Store.TreePath())
		if err != nil {
			return nil, err
		}
		store := s.projects[name].Store
		list = append(list, rsyncd.Module{Name: name, Path: path, Away: func() rsyncd.Absence { return absence(store) }})
	}
	return list, nil
}

// absence is why a project is not there.
func absence(p *generation.Project) rsyncd.Absence {
	if p.Current() != nil {
		return rsyncd.Absence{}
	}
	if _, drained := p.Drained(); drained {
		return rsyncd.Absence{Reason: string(serve.Drained), Why: "not here: it had to make room for others"}
	}
	return rsyncd.Absence{Reason: string(serve.NotSynced), Why: "not here yet: it is being fetched for the first time"}
}

// show serves the projects of settings over HTTP.
func (m *mirror) show(s *settings) {
	projects := make([]*generation.Project, 0, len(s.projects))
	for _, p := range s.projects {
		projects = append(projects, p.Store)
	}
	m.site.Show(projects, s.through)
	m.telemetry.Changed()
}
