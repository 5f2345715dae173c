package hub

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"freshet/internal/hub/deltas"
)

// makeDeltas makes deltas of the queue, one after the other, until stop ends.
func (s *server) makeDeltas(stop context.Context) {
	for {
		lease, err := s.deltas.Take(stop, deltas.Worker{})
		if err != nil {
			return // the hub stops
		}
		s.makeDelta(lease) //nolint:contextcheck // the lease has the context
	}
}

// makeDelta does the task of a lease in the hub itself.
func (s *server) makeDelta(lease *deltas.Lease) {
	m := s.makers[lease.Task.Repo]
	dir, err := m.folder(lease)
	if err == nil {
		var made deltas.Made
		if made, err = m.make(lease, dir); err == nil {
			err = lease.Done(made)
		}
	}
	if err == nil {
		return
	}
	_ = os.RemoveAll(dir)      // the next start removes what is left
	_ = lease.Fail(err, false) // no matter if nobody wants it any more
}

// folder makes the folder in which the delta of a lease is laid down. It is removed
// by whoever holds the lease, unless the delta is made.
func (m *deltaMaker) folder(lease *deltas.Lease) (string, error) {
	dir := m.folderOf(lease)
	return dir, os.Mkdir(dir, 0o755)
}

func (m *deltaMaker) folderOf(lease *deltas.Lease) string {
	return filepath.Join(m.dir.Root.Name(), lease.Task.Name.String()+"."+lease.ID)
}

// sourceOf is the repository that has the commits of a task.
func (m *deltaMaker) sourceOf(t deltas.Task) (deltas.Source, error) {
	if t.Build == 0 {
		return m.source, nil
	}
	build, err := m.repos[m.repo].Build(t.Build)
	if err != nil {
		return deltas.Source{}, err
	}
	return deltas.Source{Objects: build.Objects(), Dir: m.buildDir(t.Build), Parent: m.source.Dir}, nil
}

func (m *deltaMaker) make(lease *deltas.Lease, dir string) (made deltas.Made, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			m.log.ErrorContext(lease.Context(), "making a static delta panicked", slog.String("repo", m.repo), slog.String("delta", lease.Task.Name.Hex()),
				slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("internal error: %v", cause)
		}
	}()
	source, err := m.sourceOf(lease.Task)
	if err != nil {
		return made, err
	}
	begin := time.Now()
	report, err := m.maker.Make(lease.Context(), source, lease.Task.Name, dir)
	return deltas.Made{Dir: dir, Report: report, Seconds: time.Since(begin).Seconds()}, err
}
