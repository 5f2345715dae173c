package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/control"
	"freshet/internal/role"
)

// triggers is the handler of [mirrorapi.TriggerPath] on the public listener.
func (m *mirror) triggers() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := control.Order{From: r.RemoteAddr, Via: "public", Action: "trigger", Result: control.Done, Count: -1}
		answer, err := m.trigger(w, r, &o)
		if err != nil {
			refused := refusal(err)
			o.Result, o.Detail = refused.Reason, err.Error()
			w.Header().Set(role.ReasonHeader, refused.Reason)
			writeJSON(w, refused.Status, refused)
		} else {
			writeJSON(w, http.StatusOK, answer)
		}
		if o.Client != "" { // what nobody has signed is nothing to note
			m.desk.audit.Note(context.WithoutCancel(r.Context()), o)
		}
	})
}

func (m *mirror) trigger(w http.ResponseWriter, r *http.Request, o *control.Order) (answer mirrorapi.TriggerAnswer, err error) {
	t, err := m.openTrigger(w, r)
	if err != nil {
		return answer, err
	}
	o.Client, o.What = t.Key, map[string]any{"project": t.Project, "sent": t.Sent}
	switch {
	case t.Host != "" && !strings.EqualFold(t.Host, r.Host):
		return answer, refuse(http.StatusForbidden, "forbidden", "the trigger is for %q, and came to %q", t.Host, r.Host)
	case time.Until(t.Sent) > mirrorapi.TriggerAhead:
		return answer, refuse(http.StatusBadRequest, "bad_request", "the trigger is of %v, which is to come: set the clocks of sender and mirror", t.Sent)
	case t.Spread < 0 || t.Spread > mirrorapi.MaxSpread:
		return answer, refuse(http.StatusBadRequest, "bad_request", "spread: want 0 to %d seconds, got %d", mirrorapi.MaxSpread, t.Spread)
	}
	waits, err := m.scheduler.Trigger(
		mirrorapi.Order{Project: t.Project, Cause: mirrorapi.CauseTrigger, By: t.Key}, t.Key, t.Sent, time.Duration(t.Spread)*time.Second)
	if err != nil {
		return answer, unkept("the trigger cannot be kept", err)
	}
	return mirrorapi.TriggerAnswer{Known: waits == nil, State: m.scheduler.Status(t.Project).State}, nil
}

// openTrigger reads a trigger that a key of its project has signed.
func (m *mirror) openTrigger(w http.ResponseWriter, r *http.Request) (t mirrorapi.Trigger, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mirrorapi.MaxTrigger))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return t, err
	}
	if err != nil {
		return t, refuse(http.StatusBadRequest, "bad_request", "body: %v", err)
	}
	var signed mirrorapi.SignedTrigger
	if err := json.Unmarshal(body, &signed); err != nil {
		return t, refuse(http.StatusBadRequest, "bad_request", "body: %v", err)
	}
	// Which keys are to be tried is the one thing that is taken from a text that nobody
	// may have signed.
	var claimed mirrorapi.Trigger
	if json.Unmarshal([]byte(signed.Text), &claimed) != nil {
		return t, refuse(http.StatusBadRequest, "bad_request", "text: want a trigger in JSON")
	}
	t, err = signed.Open(m.now.Load().triggerKeys[claimed.Project])
	switch {
	case errors.Is(err, mirrorapi.ErrTriggerSignature):
		return t, refuse(http.StatusForbidden, "forbidden", "project %.80q: %v", claimed.Project, err)
	case err != nil:
		return t, refuse(http.StatusBadRequest, "bad_request", "%v", err)
	}
	return t, nil
}

// triggerKeys reads those of all projects.
func triggerKeys(cfg Config) (map[string][]mirrorapi.TriggerKey, error) {
	keys := make(map[string][]mirrorapi.TriggerKey)
	for name, p := range cfg.Projects {
		for _, text := range p.Triggers {
			key, err := mirrorapi.ParseTriggerKey(text)
			if err != nil {
				return nil, fmt.Errorf("triggers of project %s: %w", name, err)
			}
			keys[name] = append(keys[name], key)
		}
	}
	return keys, nil
}
