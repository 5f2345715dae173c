// Package hubs follows the event logs of the hubs that publish what projects' origins
// serve, so that a new version is looked at as soon as it is there.
//
// Events are hints: a director that misses some, or cannot reach the hub, sees a new
// version when it looks at the origin the next time anyway.
package hubs

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"freshet/api/directorapi"
	"freshet/api/hubapi"
	"freshet/internal/follow"
)

// Catalogue is what operators say of projects.
type Catalogue interface {
	// Current returns the catalogue, which nobody changes.
	Current() *directorapi.Catalogue
	// Changed returns a channel that is closed when there is a newer one than Current
	// returns.
	Changed() <-chan struct{}
}

// Follower follows the hubs of a catalogue. Catalogue and Hasten are needed.
type Follower struct {
	// Catalogue says which hubs there are.
	Catalogue Catalogue
	// Hasten has a project's origin looked at, where a file has changed that is named by
	// its path in the project; empty: anything may have. It must not wait.
	Hasten func(project, path string)
	// HTTP makes the requests; nil stands for http.DefaultClient.
	HTTP *http.Client
	// Log is told when a hub is away. Nil: nobody is.
	Log *slog.Logger
}

// again is when an origin is looked at once more after an event: the caches in front of a
// hub hear of it at the same time as we.
const again = 1500 * time.Millisecond

// Run follows until ctx ends. It is called once.
func (f *Follower) Run(ctx context.Context) {
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	var all sync.WaitGroup
	defer all.Wait()
	following := make(map[string]context.CancelFunc)
	for {
		changed := f.Catalogue.Changed()
		wanted := hubsOf(f.Catalogue.Current())
		for hub, stop := range following {
			if !wanted[hub] {
				stop()
				delete(following, hub)
			}
		}
		for hub := range wanted {
			if following[hub] == nil {
				own, stop := context.WithCancel(ctx)
				following[hub] = stop
				all.Go(func() { f.follow(own, hub) })
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// hubsOf are the roots of the hubs of all projects.
func hubsOf(c *directorapi.Catalogue) map[string]bool {
	hubs := make(map[string]bool)
	for i := range c.Projects {
		if root, _, ok := split(&c.Projects[i]); ok {
			hubs[root] = true
		}
	}
	return hubs
}

// split returns the root of a project's hub, and the path of the project there.
func split(p *directorapi.Project) (root, path string, ok bool) {
	u, err := url.Parse(p.Hub)
	if err != nil || u.Host == "" || p.Disabled {
		return "", "", false
	}
	return u.Scheme + "://" + u.Host, u.Path, true
}

// follow follows one hub until ctx ends.
func (f *Follower) follow(ctx context.Context, hub string) {
	log := f.Log.With(slog.String("hub", hub))
	away := false
	one := follow.Follower{
		Client: hubapi.Client{Base: hub, HTTP: f.HTTP},
		Begin:  func(context.Context) error { f.all(hub); return nil },
		Apply: func(_ context.Context, b hubapi.Batch) error {
			for i := range b.Events {
				f.event(hub, &b.Events[i])
			}
			return nil
		},
		Told: func(ctx context.Context, s follow.State, why error) {
			switch lost := s == follow.Away || s == follow.NoLog; {
			case lost && !away:
				away = true
				log.WarnContext(ctx, "the hub does not tell of new versions: origins are looked at once a minute", slog.Any("error", why))
			case s == follow.Following && away:
				away = false
				log.InfoContext(ctx, "the hub tells of new versions again")
			}
		},
	}
	one.Run(ctx)
}

// all has all projects of a hub looked at.
func (f *Follower) all(hub string) {
	c := f.Catalogue.Current()
	for i := range c.Projects {
		if root, _, ok := split(&c.Projects[i]); ok && root == hub {
			f.Hasten(c.Projects[i].Name, "")
		}
	}
}

// event has looked at what an event tells of.
func (f *Follower) event(hub string, e *hubapi.Event) {
	c := f.Catalogue.Current()
	for i := range c.Projects {
		root, base, ok := split(&c.Projects[i])
		if !ok || root != hub {
			continue
		}
		project := c.Projects[i].Name
		for _, name := range e.Changed {
			if path, ok := strings.CutPrefix(e.Base+name, base); ok {
				f.Hasten(project, path)
				time.AfterFunc(again, func() { f.Hasten(project, path) })
			}
		}
	}
}
