// Package orders lets those through to the director's API on the admin listener who may
// be, and notes what they order.
//
// A client of the configuration has rights, and may be kept to some mirrors. A mirror has
// the token of the catalogue, by which it pushes its manifests and tells of itself.
// Everybody else is refused.
package orders

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/role"
)

// Desk takes orders. Safe for concurrent use.
type Desk struct {
	catalogue func() *directorapi.Catalogue
	clients   atomic.Pointer[control.Clients]
	audit     *control.Audit
}

// Open returns a desk for the clients of a configuration that was validated, and the
// mirrors of the catalogue as it is each time; nil: there are no mirrors.
func Open(cfg Config, catalogue func() *directorapi.Catalogue, log *slog.Logger) (*Desk, error) {
	d := &Desk{catalogue: catalogue}
	if err := d.Reload(cfg); err != nil {
		return nil, err
	}
	var err error
	d.audit, err = control.OpenAudit(cfg.AuditFile, log)
	return d, err
}

// Reload takes over other clients. The audit stays where it is.
func (d *Desk) Reload(cfg Config) error {
	clients, err := control.NewClients(known, cfg.entries())
	if err == nil {
		d.clients.Store(clients)
	}
	return err
}

// known tells those who are not known what to do.
const known = "those who may give orders stand in [director.control.clients], with what freshet director token prints; mirrors in the catalogue"

// Close closes the audit.
func (d *Desk) Close() error { return d.audit.Close() }

// Giver is who gives an order.
type Giver struct {
	// Name is that of the client, or "mirror:" and that of the mirror.
	Name string

	client *control.Client
	mirror string
}

// MayTouch reports whether the order may be about this mirror.
func (g *Giver) MayTouch(mirror string) bool {
	if g.client == nil {
		return g.mirror == mirror
	}
	return g.client.MayTouch(mirror)
}

// MayTouchAll reports whether the order may be about anything.
func (g *Giver) MayTouchAll() bool { return g.client != nil && g.client.MayTouchAll() }

// Touch is an error if the order may not be about this mirror.
func (g *Giver) Touch(mirror string) error {
	if g.MayTouch(mirror) {
		return nil
	}
	return Refuse(http.StatusForbidden, "forbidden", "%s may not touch mirror %q", g.Name, mirror)
}

// Handler carries out an order that its giver has the right to give, if they may touch
// what it is about. It answers, or returns an error and has sent nothing: a
// [directorapi.Error] comes out as it is, everything else as an internal one. It fills in
// what the audit shall say.
type Handler func(w http.ResponseWriter, r *http.Request, by *Giver, o *control.Order) error

// maxBody bounds the body of an order, in bytes. Handlers of longer ones read by streams.
const maxBody = 64 << 20

// For returns a handler for orders that need the right. The body may be of 64 MiB, unless
// limit says otherwise. Reads that are carried out are not noted.
func (d *Desk) For(action string, right control.Right, limit int64, carryOut Handler) http.Handler {
	if limit == 0 {
		limit = maxBody
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := control.Order{From: r.RemoteAddr, Via: "admin", Action: action, Result: control.Done, Count: -1}
		by, err := d.giver(r, right)
		if err == nil {
			o.Client = by.Name
			r.Body = http.MaxBytesReader(w, r.Body, limit)
			err = carryOut(w, r, by, &o)
		}
		if err != nil {
			refused := refusal(err)
			o.Result, o.Detail = refused.Reason, err.Error()
			answer(w, refused)
		}
		if err != nil || right != directorapi.RightRead && right != directorapi.RightFollow {
			d.audit.Note(context.WithoutCancel(r.Context()), o)
		}
	})
}

// ForAnyone returns a handler for orders that need no right: what is in the order must prove
// that it may be given. Its body may be of limit bytes, and its giver is nil.
func (d *Desk) ForAnyone(action string, limit int64, carryOut Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := control.Order{From: r.RemoteAddr, Via: "admin", Action: action, Result: control.Done, Count: -1}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		if err := carryOut(w, r, nil, &o); err != nil {
			refused := refusal(err)
			o.Result, o.Detail = refused.Reason, err.Error()
			answer(w, refused)
		}
		d.audit.Note(context.WithoutCancel(r.Context()), o)
	})
}

// giver finds out who gives an order, and whether they have the right.
func (d *Desk) giver(r *http.Request, right control.Right) (*Giver, error) {
	client, err := d.clients.Load().Of(r)
	if err != nil {
		if mirror := d.mirrorOf(r); mirror != "" && slices.Contains([]control.Right{directorapi.RightPush, directorapi.RightReport, directorapi.RightFollow}, right) {
			return &Giver{Name: "mirror:" + mirror, mirror: mirror}, nil
		} else if mirror != "" {
			return nil, Refuse(http.StatusForbidden, "forbidden", "mirror %q may not %s", mirror, right)
		}
		return nil, err
	}
	if !client.May(right) {
		return nil, Refuse(http.StatusForbidden, "forbidden", "client %q may not %s", client.Name, right)
	}
	return &Giver{Name: client.Name, client: client}, nil
}

// mirrorOf is the name of the mirror whose token a request has; "" if none has it.
func (d *Desk) mirrorOf(r *http.Request) (name string) {
	token := control.TokenOf(r.Header)
	if token == "" || d.catalogue == nil {
		return ""
	}
	hash := []byte(control.Hash(token))
	for i, mirrors := 0, d.catalogue().Mirrors; i < len(mirrors); i++ {
		if subtle.ConstantTimeCompare(hash, []byte(mirrors[i].Token)) == 1 {
			name = mirrors[i].Name
		}
	}
	return name
}

// Refuse is an error that the giver of an order is told.
func Refuse(status int, reason, format string, args ...any) error {
	return &directorapi.Error{Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// BadRequest is an error of an order that makes no sense.
func BadRequest(format string, args ...any) error {
	return Refuse(http.StatusBadRequest, "bad_request", format, args...)
}

// NotFound is an error of an order for something that does not exist.
func NotFound(format string, args ...any) error {
	return Refuse(http.StatusNotFound, "not_found", format, args...)
}

// refusal is what the giver of an order is told of an error.
func refusal(err error) *directorapi.Error {
	if refused, ok := errors.AsType[*directorapi.Error](err); ok {
		return refused
	}
	refused := &directorapi.Error{Status: http.StatusInternalServerError, Reason: "internal", Message: "internal error; the director's log has the cause"}
	if errors.Is(err, control.ErrUnknown) {
		refused = &directorapi.Error{Status: http.StatusUnauthorized, Reason: "unauthorized", Message: err.Error()}
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		refused = &directorapi.Error{
			Status: http.StatusRequestEntityTooLarge, Reason: "too_large", Message: fmt.Sprintf("the body has more than %d bytes", e.Limit),
		}
	}
	return refused
}

// answer sends a refusal.
func answer(w http.ResponseWriter, refused *directorapi.Error) {
	switch refused.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="freshet director"`) // RFC 9110, section 15.5.2
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Del("ETag")
	w.Header().Set(role.ReasonHeader, refused.Reason)
	WriteJSON(w, refused.Status, refused)
}

// ReadJSON decodes the body of an order. Keys that are not known are refused, so that a
// misspelt one is not taken for one that was left out.
func ReadJSON(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong || err == nil {
		return err
	}
	return BadRequest("body: %v", err)
}

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has left, or has it
}
