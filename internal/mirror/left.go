package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/room"
	"freshet/internal/page"
)

// left are the projects on the disk that are not in the configuration, by name.
func (m *mirror) left() []mirrorapi.LeftProject {
	m.changing.Lock()
	defer m.changing.Unlock()
	var list []mirrorapi.LeftProject
	for _, name := range m.store.Names() {
		if _, ok := m.cfg().Projects[name]; ok {
			continue
		}
		p := m.store.Held(name)
		if p == nil {
			continue // it was removed meanwhile
		}
		l := mirrorapi.LeftProject{Name: name}
		for _, g := range p.Generations() {
			info := g.Info()
			l.Generations++
			l.Files, l.Bytes = max(l.Files, info.Files), max(l.Bytes, info.Bytes)
		}
		_, l.Removing = p.Drained()
		list = append(list, l)
	}
	return list
}

func leftFinding(l mirrorapi.LeftProject) mirrorapi.Finding {
	f := mirrorapi.Finding{Level: mirrorapi.LevelWarning, About: "project " + l.Name}
	if l.Removing {
		f.Level, f.Message = mirrorapi.LevelOK, "it is being removed from the disk"
		return f
	}
	f.Message = fmt.Sprintf("it is on the disk (%s in %s), and in no configuration", room.Size(l.Bytes), page.Plural(l.Generations, "generation", "generations"))
	f.Do = "freshet mirror drop " + l.Name + " --all, unless it is to come back"
	return f
}

// orderRemove removes a project that is not configured.
func (m *mirror) orderRemove(w http.ResponseWriter, r *http.Request, v *visit) error {
	p, err := m.end(v.project)
	if err != nil {
		return err
	}
	// As in orderDrop; what is left then is removed by clean.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), dropTime)
	defer cancel()
	err = m.removeWhole(ctx, p)
	answer := mirrorapi.Removal{Project: v.project, Removing: errors.Is(err, context.DeadlineExceeded)}
	if err != nil && !answer.Removing {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// end takes a project that is not configured out of the store. It is gone for good then, and its files
// are still on the disk.
func (m *mirror) end(name string) (*generation.Project, error) {
	m.changing.Lock()
	defer m.changing.Unlock()
	if _, ok := m.cfg().Projects[name]; ok {
		return nil, refuse(http.StatusConflict, "conflict",
			"project %q is configured: take it out of the configuration, and have that read (systemctl reload freshet-mirror, or SIGHUP), then again", name)
	}
	p := m.store.Held(name)
	if p == nil {
		return nil, refuse(http.StatusNotFound, "not_found", "there is no project %q on the disk", name)
	}
	if _, busy := m.verifying.Load(name); busy {
		return nil, refuse(http.StatusConflict, "conflict", "the files of %q are being read: again when that has ended", name)
	}
	_, err := p.End()
	if errors.Is(err, generation.ErrBusy) {
		return nil, refuse(http.StatusConflict, "conflict", "a sync of %q is just ending: again in a moment", name)
	}
	return p, err
}

// removeWhole removes the files of a project that has ended, and what is remembered of it.
// Unless it is configured again meanwhile: then it stays, and has nothing.
func (m *mirror) removeWhole(ctx context.Context, p *generation.Project) error {
	if err := p.EmptyTrash(ctx); err != nil && !errors.Is(err, fs.ErrClosed) { // somebody else was faster
		return err
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	name := p.Name()
	_, configured := m.cfg().Projects[name]
	if configured || m.store.Held(name) == nil {
		return nil
	}
	for _, file := range []string{verifyFile(name), popularFile(name)} {
		if err := m.state.Remove(file); err != nil {
			return err
		}
	}
	if err := m.damages.forget(name); err != nil {
		return err
	}
	if err := m.reports.Forget(name); err != nil {
		return err
	}
	if err := m.store.Remove(ctx, name); err != nil {
		return err
	}
	m.scheduler.Forget(name)
	m.telling.forget(name)
	m.log.InfoContext(ctx, "a project is removed from the disk", slog.String("project", name))
	return nil
}

// removeEnded goes on with the removal of projects that was not finished.
func (m *mirror) removeEnded(ctx context.Context) {
	for _, l := range m.left() {
		if !l.Removing {
			continue
		}
		p := m.store.Held(l.Name)
		if p == nil {
			continue // somebody else was faster
		}
		if err := m.removeWhole(ctx, p); err != nil && ctx.Err() == nil {
			m.log.ErrorContext(ctx, "a project stays on the disk that is to be removed", slog.String("project", l.Name), slog.Any("error", err))
		}
	}
}
