package mirror

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"freshet/api/mirrorapi"
)

// maxHoldReason bounds the words of a hold, in bytes.
const maxHoldReason = 1000

// hold has the project of a visit stay as it is, and returns when no sync of it runs any
// more.
func (m *mirror) hold(ctx context.Context, v *visit, hold mirrorapi.Hold) error {
	if len(hold.Reason) > maxHoldReason {
		return refuse(http.StatusBadRequest, "bad_request", "reason: want %d bytes at most, got %d", maxHoldReason, len(hold.Reason))
	}
	hold.Since, hold.By = time.Now().UTC().Truncate(time.Second), v.client.Name
	running, err := m.scheduler.Hold(v.project, hold)
	if err != nil {
		return unkept("the hold cannot be kept", err)
	}
	if running == nil {
		return nil
	}
	select {
	case <-running.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.ctx.Done():
		return refuse(http.StatusServiceUnavailable, "unavailable", "the mirror stops; the project is held")
	}
}

func (m *mirror) orderHold(w http.ResponseWriter, r *http.Request, v *visit) error {
	var req mirrorapi.HoldRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	v.order.What = map[string]string{"project": v.project, "reason": req.Reason}
	if err := m.known(v); err != nil {
		return err
	}
	if err := m.hold(r.Context(), v, mirrorapi.Hold{Reason: req.Reason}); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, mirrorapi.SyncAnswer{State: m.scheduler.Status(v.project).State})
	return nil
}

func (m *mirror) orderRelease(w http.ResponseWriter, _ *http.Request, v *visit) error {
	if err := m.known(v); err != nil {
		return err
	}
	held, err := m.scheduler.Release(v.project)
	if err != nil {
		return unkept("it is released, and would be held again after a restart", err)
	}
	if !held {
		return refuse(http.StatusConflict, "conflict", "%q is not held", v.project)
	}
	writeJSON(w, http.StatusOK, mirrorapi.SyncAnswer{State: m.scheduler.Status(v.project).State})
	return nil
}

// heldText says why a project is not synced.
func heldText(project string, h mirrorapi.Hold) string {
	text := fmt.Sprintf("%s is held since %s", project, h.Since.Format(time.RFC3339))
	if h.By != "" {
		text += " by " + h.By
	}
	if h.Generation != "" {
		text += ", rolled back to " + h.Generation
	}
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	return text
}
