package edge

import (
	"context"
	"time"

	"freshet/internal/layout"
	"freshet/internal/roots"
)

// renewWithin is how long clients are shown what they had while what an event
// tells of is fetched; then they wait for it.
const renewWithin = time.Second

// renew fetches the root files that an event names of sets in use, and shows
// them in the one step in which everything else that it names becomes stale.
// What cannot be had in time becomes stale with the rest. It returns how many
// stored answers that were, when this survives a crash.
func (e *Edge) renew(ctx context.Context, s *site, paths []string) (int, error) {
	tasks, rest := e.renewals(s, paths)
	if len(tasks) == 0 {
		return e.purge(s, paths)
	}
	late := time.NewTimer(renewWithin + s.prefill.within)
	defer late.Stop()
	var shows []func()
	for _, t := range tasks {
		ready := false
		select {
		case <-t.ready:
			ready = t.record() == nil
		case <-t.done:
		case <-late.C:
			late.Reset(0) // for the others as well
		case <-ctx.Done():
		}
		if !ready {
			rest = append(rest, t.rootPaths()...)
			continue
		}
		shows = append(shows, func() {
			t.showLocked()
			t.showed = true
		})
	}
	n, err := e.purge(s, rest, shows...)
	for _, t := range tasks {
		close(t.held)
	}
	return n + len(shows), err
}

// renewals begins the candidates of the sets in use whose roots are among the
// paths; rest are the other paths.
func (e *Edge) renewals(s *site, paths []string) (tasks []*candidate, rest []string) {
	begun := make(map[layout.Set]bool)
	for _, path := range paths {
		key := layout.PolicyOf(path).Set
		if !s.ruled || key == (layout.Set{}) || !roots.IsRoot(key, path) {
			rest = append(rest, path)
			continue
		}
		if begun[key] {
			continue
		}
		of := e.setOf(s, key)
		if of.current.Load() == nil {
			rest = append(rest, path)
			continue
		}
		begun[key] = true
		of.mu.Lock()
		tasks = append(tasks, of.beginLocked(&candidate{
			e: e, set: of, after: of.task, force: true,
			done: make(chan struct{}), held: make(chan struct{}), ready: make(chan struct{}),
		}))
		of.mu.Unlock()
	}
	return tasks, rest
}

// rootPaths are the root files of the candidate's set.
func (t *candidate) rootPaths() []string {
	var paths []string
	for _, g := range roots.Groups(t.set.key) {
		paths = append(paths, g.File)
		if g.Signature != "" {
			paths = append(paths, g.Signature)
		}
	}
	return paths
}
