package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"freshet/api/edgeapi"
	"freshet/internal/control"
	"freshet/internal/role"
)

// registerAdmin adds the edge's API to the admin listener.
func (e *Edge) registerAdmin() {
	e.env.Admin("POST "+edgeapi.PurgePath, e.order("purge", rightPurge, e.adminPurge))
	e.env.Admin("POST "+edgeapi.WarmPath, e.order("warm", rightWarm, e.adminWarm))
}

// orderer carries out an order that its giver may give. It fills in what the
// audit shall say. If it returns an error, nothing was sent.
type orderer func(w http.ResponseWriter, r *http.Request, client *control.Client, o *control.Order) error

// maxOrder bounds the body of an order.
const maxOrder = 8 << 20

// order lets through those who have the right, and notes every order.
func (e *Edge) order(action string, right control.Right, carryOut orderer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := control.Order{From: r.RemoteAddr, Via: "admin", Action: action, Result: control.Done, Count: -1}
		client, err := e.clients.Load().Of(r)
		if err == nil {
			o.Client = client.Name
			if !client.May(right) {
				err = refusal(http.StatusForbidden, "forbidden", "client %q may not %s", client.Name, right)
			}
		}
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxOrder)
			err = carryOut(w, r, client, &o)
		}
		if err != nil {
			refused := refusalOf(err)
			o.Result, o.Detail = refused.Reason, refused.Message
			if refused.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="freshet edge"`)
			}
			w.Header().Set(role.ReasonHeader, refused.Reason)
			writeJSON(w, refused.Status, refused)
		}
		e.audit.Note(r.Context(), o)
	})
}

// refusal is an error that the giver of an order is told.
func refusal(status int, reason, format string, args ...any) error {
	return &edgeapi.Error{Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func badOrder(format string, args ...any) error {
	return refusal(http.StatusBadRequest, "bad_request", format, args...)
}

func refusalOf(err error) *edgeapi.Error {
	if refused, ok := errors.AsType[*edgeapi.Error](err); ok {
		return refused
	}
	if errors.Is(err, control.ErrUnknown) {
		return &edgeapi.Error{Status: http.StatusUnauthorized, Reason: "unauthorized", Message: err.Error()}
	}
	return &edgeapi.Error{Status: http.StatusInternalServerError, Reason: "internal", Message: err.Error()}
}

// readOrder decodes the body of an order; keys that are not known are refused,
// so that a misspelt one does not purge something else.
func readOrder(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return badOrder("body: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badOrder("body: more than one object")
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has left, or has it
}

// sitesFor are the sites that an order without a host is for: the named one, or
// all that the client may touch.
func (e *Edge) sitesFor(name string, client *control.Client) ([]*site, error) {
	var sites []*site
	for _, s := range e.all {
		if (name == "" || name == s.label()) && client.MayTouch(s.label()) {
			sites = append(sites, s)
		}
	}
	switch {
	case len(sites) > 0:
		return sites, nil
	case name != "" && e.labelled(name) == nil:
		return nil, badOrder("there is no site %q", name)
	case name != "":
		return nil, refusal(http.StatusForbidden, "forbidden", "client %q may not touch site %q", client.Name, name)
	}
	return nil, refusal(http.StatusForbidden, "forbidden", "client %q may not touch any site", client.Name)
}

func (e *Edge) labelled(name string) *site {
	for _, s := range e.all {
		if s.label() == name {
			return s
		}
	}
	return nil
}

// adminPurge answers POST /edge/v1/purge.
func (e *Edge) adminPurge(w http.ResponseWriter, r *http.Request, client *control.Client, o *control.Order) error {
	var req edgeapi.PurgeRequest
	if err := readOrder(r, &req); err != nil {
		return err
	}
	o.What = req
	selections, err := e.selectFor(&req, client)
	if err != nil {
		return err
	}
	result := edgeapi.PurgeResult{Mode: "soft", Entries: -1}
	for i := range selections {
		result.Sites = append(result.Sites, selections[i].site.label())
	}
	if req.DryRun || req.Count {
		sample := 0
		if req.DryRun {
			sample = maxSample
		}
		result.Entries, result.Sample = e.count(r.Context(), selections, sample)
		o.Count = result.Entries
	}
	switch {
	case req.DryRun:
		result.Mode = "dry-run"
	case req.Hard:
		result.Mode = "hard"
	}
	if !req.DryRun {
		if err := e.purgeSelected(selections, req.Hard); err != nil {
			// It holds, as long as the edge runs.
			e.log.ErrorContext(r.Context(), "purge not durable", slog.Any("error", err))
			return refusal(http.StatusInsufficientStorage, "store_full", "purged, but a crash may undo it: %v", err)
		}
		e.metrics.orders.WithLabelValues(result.Mode).Inc()
	}
	writeJSON(w, http.StatusOK, result)
	return nil
}
