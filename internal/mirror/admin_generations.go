package mirror

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/generation"
)

// held is the project of a visit in the store.
func (m *mirror) held(v *visit) (*generation.Project, error) {
	if err := m.known(v); err != nil {
		return nil, err
	}
	p := m.store.Held(v.project)
	if p == nil {
		return nil, refuse(http.StatusNotFound, "not_found", "project %q was removed just now", v.project)
	}
	return p, nil
}

func (m *mirror) answerGenerations(w http.ResponseWriter, r *http.Request, v *visit) error {
	p, err := m.held(v)
	if err != nil {
		return err
	}
	return m.tellGenerations(r.Context(), w, p)
}

// tellGenerations answers with those of a project.
func (m *mirror) tellGenerations(ctx context.Context, w http.ResponseWriter, p *generation.Project) error {
	grace, current := m.cfg().Projects[p.Name()].Grace, p.Current()
	list := mirrorapi.Generations{Project: p.Name(), Generations: []mirrorapi.Generation{}, Hold: m.scheduler.Status(p.Name()).Hold}
	for _, g := range p.Generations() {
		info := g.Info()
		told := mirrorapi.Generation{
			ID: info.ID, Made: info.Switched, Current: g == current, Retired: info.Superseded,
			Files: info.Files, Bytes: info.Bytes, Cause: mirrorapi.Cause(info.Reason),
		}
		if !info.Superseded.IsZero() {
			told.Until = info.Superseded.Add(grace)
			freed, err := p.Freed(ctx, info.ID)
			if err != nil && !errors.Is(err, generation.ErrUnknown) { // dropped meanwhile
				return err
			}
			told.Frees = freed.Bytes
		}
		list.Generations = append(list.Generations, told)
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (m *mirror) orderRollback(w http.ResponseWriter, r *http.Request, v *visit) error {
	p, req, err := m.generationOrder(r, v)
	if err != nil {
		return err
	}
	if req.ID == "" {
		before := p.Generations()
		if len(before) < 2 {
			return refuse(http.StatusConflict, "conflict", "there is no generation of %q before the current one", v.project)
		}
		req.ID = before[1].ID()
	}
	if _, err := p.Generation(req.ID); err != nil {
		return err
	}
	// The next sync would take it back at once. What runs is ended first: it might switch
	// after the rollback.
	ctx := context.WithoutCancel(r.Context()) // what is begun is ended
	if err := m.hold(ctx, v, mirrorapi.Hold{Reason: req.Reason, Generation: req.ID}); err != nil {
		return err
	}
	if _, err := p.Rollback(ctx, req.ID); err != nil {
		return err // it is held all the same: nobody wanted what is served
	}
	return m.tellGenerations(ctx, w, p)
}

func (m *mirror) orderDrop(w http.ResponseWriter, r *http.Request, v *visit) error {
	p, req, err := m.generationOrder(r, v)
	if err != nil {
		return err
	}
	if req.ID == "" {
		return refuse(http.StatusBadRequest, "bad_request", "id: which generation?")
	}
	// It is out of service at once; what it alone has may take a while to remove, and the
	// client need not stay for that.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), dropTime)
	defer cancel()
	if err := p.Drop(ctx, req.ID); err != nil {
		return err
	}
	return m.tellGenerations(r.Context(), w, p)
}

// dropTime bounds how long a request removes files; what is left is removed by the next sync.
const dropTime = 10 * time.Minute

func (m *mirror) generationOrder(r *http.Request, v *visit) (p *generation.Project, req mirrorapi.GenerationRequest, err error) {
	if p, err = m.held(v); err != nil {
		return nil, req, err
	}
	err = readJSON(r, &req)
	req.ID = wholeID(req.ID)
	v.order.What = map[string]string{"project": v.project, "generation": req.ID}
	if req.Reason != "" {
		v.order.What = map[string]string{"project": v.project, "generation": req.ID, "reason": req.Reason}
	}
	return p, req, err
}

// wholeID is the ID of a generation of which the leading zeros may be left out.
func wholeID(text string) string {
	const digits = 6
	if text == "" || len(text) >= digits || strings.Trim(text, "0123456789") != "" {
		return text
	}
	return strings.Repeat("0", digits-len(text)) + text
}
