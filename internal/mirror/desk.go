package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"sync/atomic"

	"freshet/api/mirrorapi"
	"freshet/internal/control"
	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/schedule"
	"freshet/internal/role"
)

// desk lets those through to the API on the admin listener who may be, and notes what they
// order.
type desk struct {
	clients atomic.Pointer[control.Clients]
	audit   *control.Audit
	log     *slog.Logger
}

func openDesk(cfg ControlConfig, log *slog.Logger) (*desk, error) {
	clients, err := cfg.clients()
	if err != nil {
		return nil, err
	}
	audit, err := control.OpenAudit(cfg.AuditFile, log)
	if err != nil {
		return nil, err
	}
	d := &desk{audit: audit, log: log}
	d.clients.Store(clients)
	return d, nil
}

// visit is a request of a client that may make it.
type visit struct {
	client  *control.Client
	project string // that of the path, "" if it has none
	order   *control.Order
}

// handler carries out an order. It answers, or returns an error and has sent nothing.
type handler func(w http.ResponseWriter, r *http.Request, v *visit) error

// maxOrder bounds the body of an order, in bytes.
const maxOrder = 64 << 10

// handle returns a handler for orders that need the right. Reads that are carried out are
// not noted.
func (d *desk) handle(action string, right control.Right, carryOut handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{project: r.PathValue("project")}
		v.order = &control.Order{From: r.RemoteAddr, Via: "admin", Action: action, Result: control.Done, Count: -1}
		if v.project != "" {
			v.order.What = map[string]string{"project": v.project}
		}
		err := d.admit(r, right, v)
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxOrder)
			err = carryOut(w, r, v)
		}
		if err != nil {
			refused := refusal(err)
			v.order.Result, v.order.Detail = refused.Reason, err.Error()
			if refused.Reason == "internal" {
				d.log.ErrorContext(r.Context(), "order failed", slog.String("action", action), slog.Any("error", err))
			}
			w.Header().Set(role.ReasonHeader, refused.Reason)
			writeJSON(w, refused.Status, refused)
		}
		if err != nil || right != mirrorapi.RightRead {
			d.audit.Note(context.WithoutCancel(r.Context()), *v.order)
		}
	})
}

// admit finds out who gives an order, and whether they may.
func (d *desk) admit(r *http.Request, right control.Right, v *visit) (err error) {
	if v.client, err = d.clients.Load().Of(r); err != nil {
		return err
	}
	v.order.Client = v.client.Name
	return v.need(right)
}

// need is an error if the client has not the right, or not for the project.
func (v *visit) need(right control.Right) error {
	if !v.client.May(right) {
		return refuse(http.StatusForbidden, "forbidden", "client %q may not %s", v.client.Name, right)
	}
	if v.project != "" && !v.client.MayTouch(v.project) {
		return refuse(http.StatusForbidden, "forbidden", "client %q may not touch project %q", v.client.Name, v.project)
	}
	return nil
}

// refuse is an error that the giver of an order is told.
func refuse(status int, reason, format string, args ...any) error {
	return &mirrorapi.Error{Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// unkept is an error of an order that cannot be noted for a restart: what says what that
// means.
func unkept(what string, err error) error {
	switch {
	case durable.IsNoSpace(err):
		return full(what)
	case errors.Is(err, schedule.ErrUnknown):
		return err // it was taken out of the configuration just now
	}
	return refuse(http.StatusServiceUnavailable, "unavailable", "%s: %v", what, err)
}

func full(what string) *mirrorapi.Error {
	return &mirrorapi.Error{
		Status: http.StatusInsufficientStorage, Reason: string(mirrorapi.ReasonNoSpace),
		Message: what + ": the mirror's disk is full; make room, by freshet mirror drop PROJECT GENERATION for instance, and give the order again",
	}
}

// refusal is what the giver of an order is told of an error.
func refusal(err error) *mirrorapi.Error {
	if refused, ok := errors.AsType[*mirrorapi.Error](err); ok {
		return refused
	}
	tooLong, _ := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, control.ErrUnknown):
		return &mirrorapi.Error{Status: http.StatusUnauthorized, Reason: "unauthorized", Message: err.Error()}
	case errors.Is(err, schedule.ErrUnknown), errors.Is(err, generation.ErrUnknown), errors.Is(err, fs.ErrNotExist):
		return &mirrorapi.Error{Status: http.StatusNotFound, Reason: "not_found", Message: err.Error()}
	case errors.Is(err, generation.ErrCurrent):
		return &mirrorapi.Error{Status: http.StatusConflict, Reason: "conflict", Message: err.Error()}
	case durable.IsNoSpace(err):
		return full("what is ordered cannot be kept")
	case tooLong != nil:
		return &mirrorapi.Error{
			Status: http.StatusRequestEntityTooLarge, Reason: "too_large", Message: fmt.Sprintf("the body has more than %d bytes", tooLong.Limit),
		}
	}
	return &mirrorapi.Error{Status: http.StatusInternalServerError, Reason: "internal", Message: "internal error; the mirror's log has the cause"}
}

// readJSON decodes the body of an order; nothing at all is the zero value. Keys that are
// not known are refused, so that a misspelt one is not taken for one that was left out.
func readJSON(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong || err == nil {
		return err
	}
	return refuse(http.StatusBadRequest, "bad_request", "body: %v", err)
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has left, or has it
}

// lines answers with JSON objects, one a line, each sent at once.
type lines struct {
	w   http.ResponseWriter
	enc *json.Encoder
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	return &lines{w: w, enc: json.NewEncoder(w)}
}

// send sends a line. After an error the client has left.
func (l *lines) send(v any) error {
	if err := l.enc.Encode(v); err != nil {
		return err
	}
	return http.NewResponseController(l.w).Flush()
}
