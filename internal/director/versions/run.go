package versions

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"freshet/internal/pause"
)

// Run follows the origins until ctx ends. It is called once.
func (v *Versions) Run(ctx context.Context) error {
	f := followers{stop: make(map[*repository]context.CancelFunc), slots: make(map[string]chan struct{})}
	f.all.Go(func() { v.keepSaved(ctx) })
	for {
		v.follows(ctx, &f)
		select {
		case <-v.news:
			continue
		case <-ctx.Done():
		}
		f.all.Wait()
		return v.saveNow()
	}
}

// followers are the goroutines that follow repositories.
type followers struct {
	all   sync.WaitGroup
	stop  map[*repository]context.CancelFunc
	slots map[string]chan struct{} // by project: origins that hang hold up their own
}

// follows makes the followers those of the repositories in the catalogue.
func (v *Versions) follows(ctx context.Context, f *followers) {
	v.mu.Lock()
	repos := slices.Collect(maps.Values(v.repos))
	v.mu.Unlock()
	for r, stop := range f.stop {
		if !slices.Contains(repos, r) {
			stop()
			delete(f.stop, r)
		}
	}
	for _, r := range repos {
		if f.stop[r] != nil {
			continue
		}
		slots := f.slots[r.project]
		if slots == nil {
			slots = make(chan struct{}, parallel)
			f.slots[r.project] = slots
		}
		own, stop := context.WithCancel(ctx)
		f.stop[r] = stop
		f.all.Go(func() { v.follow(own, r, slots) })
	}
	v.sweep(repos)
}

// sweep removes the lists of repositories that are not there any more, once there are
// any at all.
func (v *Versions) sweep(repos []*repository) {
	if len(repos) == 0 {
		return
	}
	wanted := make(map[string]bool)
	for _, r := range repos {
		wanted[listName(r.key)] = true
	}
	folder, err := v.opt.Dir.Root.Open(".")
	if err != nil {
		return
	}
	defer func() { _ = folder.Close() }()
	names, _ := folder.Readdirnames(-1)
	for _, name := range names {
		if strings.HasSuffix(name, ".list") && !wanted[name] {
			_ = v.opt.Dir.Root.Remove(name)
		}
	}
}

// scan asks for one.
func (v *Versions) scan(mirror, project, why string) {
	if v.opt.Hasten != nil {
		v.opt.Hasten(mirror, project, why)
	}
}

// save asks for the state to be saved.
func (v *Versions) save() {
	select {
	case v.dirty <- struct{}{}:
	default:
	}
}

// keepSaved saves what has changed, at most once a second.
func (v *Versions) keepSaved(ctx context.Context) {
	for {
		select {
		case <-v.dirty:
		case <-ctx.Done():
			return
		}
		if err := v.saveNow(); err != nil {
			v.opt.Log.ErrorContext(ctx, "versions of repositories cannot be saved", slog.Any("error", err))
		}
		if !pause.For(ctx, time.Second) {
			return
		}
	}
}

func (v *Versions) saveNow() error {
	v.mu.Lock()
	var all []savedRepository
	for _, r := range v.repos {
		all = append(all, r.saved())
	}
	for k, r := range v.former {
		if n := len(r.Versions); n == 0 || time.Since(r.Versions[n-1].Since) > watch {
			delete(v.former, k)
			continue
		}
		all = append(all, r)
	}
	v.mu.Unlock()
	return saveState(v.opt.Dir, all)
}
