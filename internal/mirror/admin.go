package mirror

import (
	"cmp"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/generation"
)

// register adds the API to the admin listener.
func (m *mirror) register(admin func(pattern string, h http.Handler)) {
	of := func(thing string) string {
		if thing != "" {
			thing = "/" + thing
		}
		return mirrorapi.ProjectsPath + "/{project}" + thing
	}
	admin("GET "+mirrorapi.StatusPath, m.desk.handle("status", mirrorapi.RightRead, m.answerStatus))
	admin("GET "+mirrorapi.DoctorPath, m.desk.handle("doctor", mirrorapi.RightRead, m.answerDoctor))
	admin("GET "+of(""), m.desk.handle("status", mirrorapi.RightRead, m.answerProject))
	admin("DELETE "+of(""), m.desk.handle("remove", mirrorapi.RightWrite, m.orderRemove))
	admin("GET "+of(mirrorapi.LogPath), m.desk.handle("log", mirrorapi.RightRead, m.answerLog))
	admin("GET "+of(mirrorapi.GenerationsPath), m.desk.handle("generations", mirrorapi.RightRead, m.answerGenerations))
	admin("GET "+of(mirrorapi.PlanPath), m.desk.handle("plan", mirrorapi.RightRead, m.answerPlan))
	admin("POST "+of(mirrorapi.SyncPath), m.desk.handle("sync", mirrorapi.RightSync, m.orderSync))
	admin("POST "+of(mirrorapi.CancelPath), m.desk.handle("cancel", mirrorapi.RightSync, m.orderCancel))
	admin("POST "+of(mirrorapi.HoldPath), m.desk.handle("hold", mirrorapi.RightWrite, m.orderHold))
	admin("POST "+of(mirrorapi.ReleasePath), m.desk.handle("release", mirrorapi.RightWrite, m.orderRelease))
	admin("POST "+of(mirrorapi.VerifyPath), m.desk.handle("verify", mirrorapi.RightSync, m.orderVerify))
	admin("POST "+of(mirrorapi.RollbackPath), m.desk.handle("rollback", mirrorapi.RightWrite, m.orderRollback))
	admin("POST "+of(mirrorapi.DropPath), m.desk.handle("drop", mirrorapi.RightWrite, m.orderDrop))
}

// known is an error if a visit is about no project of the configuration.
func (m *mirror) known(v *visit) error {
	if _, ok := m.cfg().Projects[v.project]; !ok {
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(m.cfg().Projects)), func(name string) bool { return !v.client.MayTouch(name) })
		return refuse(http.StatusNotFound, "not_found", "there is no project %q in [mirror.projects], but %s", v.project, cmp.Or(strings.Join(names, ", "), "none"))
	}
	return nil
}

func (m *mirror) answerStatus(w http.ResponseWriter, _ *http.Request, v *visit) error {
	st := mirrorapi.Status{Node: m.cfg().Node, Began: m.began, Now: time.Now().UTC(), Projects: []mirrorapi.ProjectStatus{}}
	var err error
	if st.Disk, err = m.disk(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(m.cfg().Projects)) {
		if !v.client.MayTouch(name) {
			continue
		}
		st.Projects = append(st.Projects, m.projectStatus(name))
	}
	st.Left = slices.DeleteFunc(m.left(), func(l mirrorapi.LeftProject) bool { return !v.client.MayTouch(l.Name) })
	writeJSON(w, http.StatusOK, st)
	return nil
}

func (m *mirror) answerProject(w http.ResponseWriter, _ *http.Request, v *visit) error {
	if err := m.known(v); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, m.projectStatus(v.project))
	return nil
}

// projectStatus tells what is done with a project of the configuration.
func (m *mirror) projectStatus(name string) mirrorapi.ProjectStatus {
	cfg, st := m.cfg().Projects[name], m.scheduler.Status(name)
	p := mirrorapi.ProjectStatus{
		Name: name, Kind: cfg.Kind, Schedule: cfg.Schedule, State: st.State,
		Checked: st.Good, Next: st.Next, Pending: st.Pending, Failures: st.Failures, Hold: st.Hold,
		Follows: m.now.Load().listener.Follows(name),
	}
	held := m.store.Held(name)
	if held == nil { // it was removed meanwhile
		return p
	}
	if now := held.Current(); now != nil {
		info := now.Info()
		damage, err := m.damages.left(name, now)
		if err != nil {
			m.log.Error("what is damaged of a project cannot be told", slog.String("project", name), slog.Any("error", err))
		}
		p.Damaged = damage.count()
		p.Generation, p.Published, p.Files, p.Bytes = info.Name(), info.Switched, info.Files, info.Bytes
	}
	if since, drained := held.Drained(); drained {
		p.Drained = since
	}
	p.Churn = m.keeper.Churn(name).Bytes
	if progress := m.engine.Progress(name); progress.Step != "" {
		p.Progress = &progress
	}
	last, ok, err := m.reports.Last(name)
	if err != nil {
		m.log.Error("what came of the last sync of a project cannot be told", slog.String("project", name), slog.Any("error", err))
	}
	if ok {
		p.Last = &last
	}
	return p
}

// current is the generation of a project that is served; nil if there is none.
func (m *mirror) current(name string) *generation.Generation {
	p := m.store.Held(name)
	if p == nil {
		return nil
	}
	return p.Current()
}

// Bounds of how many reports are told.
const (
	defaultLog = 20
	maxLog     = 1000
)

func (m *mirror) answerLog(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := m.known(v); err != nil {
		return err
	}
	limit := defaultLog
	if text := r.URL.Query().Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxLog {
			return refuse(http.StatusBadRequest, "bad_request", "limit: want 1 to %d, got %.20q", maxLog, text)
		}
	}
	list, err := m.reports.Newest(v.project, limit)
	if err == nil {
		writeJSON(w, http.StatusOK, mirrorapi.Log{Reports: list})
	}
	return err
}

// progressEvery is how often the progress of a sync is told.
const progressEvery = 250 * time.Millisecond

func (m *mirror) orderSync(w http.ResponseWriter, r *http.Request, v *visit) error {
	var req mirrorapi.SyncRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	v.order.What = map[string]any{"project": v.project, "force": req.Force, "rollback": req.Rollback, "shrink": req.Shrink}
	if err := m.known(v); err != nil {
		return err
	}
	if req.Rollback || req.Shrink {
		if err := v.need(mirrorapi.RightWrite); err != nil {
			return err
		}
	}
	if hold := m.scheduler.Status(v.project).Hold; hold != nil {
		return refuse(http.StatusConflict, "conflict", "%s; freshet mirror release %s ends that", heldText(v.project, *hold), v.project)
	}
	waits, err := m.scheduler.Submit(mirrorapi.Order{
		Project: v.project, Cause: mirrorapi.CauseOrder, By: v.client.Name, Force: req.Force, Rollback: req.Rollback, Shrink: req.Shrink,
	}, 0)
	if err != nil {
		return err
	}
	if !req.Wait {
		writeJSON(w, http.StatusOK, mirrorapi.SyncAnswer{State: m.scheduler.Status(v.project).State})
		return nil
	}
	out := newLines(w)
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		event := mirrorapi.SyncEvent{State: m.scheduler.Status(v.project).State}
		if progress := m.engine.Progress(v.project); progress.Step != "" {
			event.Progress = &progress
		}
		if out.send(event) != nil {
			return nil // the client has left; the sync goes on
		}
		select {
		case <-waits.Done():
			report := waits.Report()
			_ = out.send(mirrorapi.SyncEvent{Report: &report}) // the client has left, or has it
			return nil
		case <-ticker.C:
		case <-r.Context().Done():
			return nil
		case <-m.ctx.Done():
			return nil // the stream is cut, and the order is kept
		}
	}
}

func (m *mirror) orderCancel(w http.ResponseWriter, _ *http.Request, v *visit) error {
	if err := m.known(v); err != nil {
		return err
	}
	any, err := m.scheduler.Cancel(v.project)
	if err != nil {
		return err
	}
	if !any {
		return refuse(http.StatusConflict, "conflict", "no sync of %q runs or waits", v.project)
	}
	writeJSON(w, http.StatusOK, mirrorapi.SyncAnswer{State: m.scheduler.Status(v.project).State})
	return nil
}
