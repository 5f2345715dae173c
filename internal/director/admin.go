package director

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/catalogue"
	"freshet/internal/director/orders"
	"freshet/internal/director/probe"
	"freshet/internal/director/redirect"
	"freshet/internal/director/scan"
)

// register adds the API to the admin listener.
func (r *redirector) register(ctx context.Context, admin func(pattern string, h http.Handler)) {
	catalogue.NewAPI(ctx, r.desk, r.catalogue).Register(admin)
	if r.prober != nil {
		probe.NewAPI(r.desk, r.prober).Register(admin)
	}
	if r.scanner != nil {
		api := &scanAPI{scanner: r.scanner}
		admin("GET "+directorapi.ScansPath, r.desk.For("read-scans", directorapi.RightRead, 0, api.list))
		admin("POST "+directorapi.ScansPath, r.desk.For("scan", directorapi.RightWrite, 0, api.order))
		admin("PUT "+directorapi.ManifestPath("{mirror}", "{project}"), r.desk.For("push-manifest", directorapi.RightPush, maxManifest, api.push))
	}
	admin("GET "+directorapi.WhyPath, r.desk.For("why", directorapi.RightRead, 0, r.why))
}

// maxManifest bounds a manifest, in bytes: it is read as it comes.
const maxManifest = 4 << 30

// scanAPI is the scanner on the admin listener.
type scanAPI struct{ scanner *scan.Scanner }

// list tells how scans have gone.
func (a *scanAPI) list(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	q := r.URL.Query()
	all := directorapi.ScanList{Scans: []directorapi.ScanStatus{}}
	for _, s := range a.scanner.Statuses(q.Get("mirror"), q.Get("project")) {
		if by.MayTouch(s.Mirror) {
			all.Scans = append(all.Scans, s)
		}
	}
	orders.WriteJSON(w, http.StatusOK, all)
	return nil
}

// order has a mirror scanned.
func (a *scanAPI) order(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	var want directorapi.ScanRequest
	if err := orders.ReadJSON(r, &want); err != nil {
		return err
	}
	if err := by.Touch(want.Mirror); err != nil {
		return err
	}
	if !a.scanner.Hasten(want.Mirror, want.Project, want.Reason) {
		return orders.NotFound("there is nothing to scan of mirror %q, project %q", want.Mirror, want.Project)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// push takes a manifest.
func (a *scanAPI) push(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	if err := by.Touch(r.PathValue("mirror")); err != nil {
		return err
	}
	a.scanner.ServeHTTP(w, r)
	return nil
}

// why explains the answer to a request.
func (r *redirector) why(w http.ResponseWriter, req *http.Request, _ *orders.Giver, _ *control.Order) error {
	q := req.URL.Query()
	client := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if text := q.Get("client"); text != "" {
		var err error
		if client, err = netip.ParseAddr(text); err != nil || client.Zone() != "" {
			return orders.BadRequest("client: %.60q is no address", text)
		}
	}
	var a redirect.Answer
	target := (&url.URL{Path: q.Get("path")}).EscapedPath()
	a.Make(r.data.Load(), &redirect.Request{Target: target + "?why=json", Client: client.Unmap(), Now: time.Now()})
	if a.Reason != "" {
		return orders.Refuse(a.Status, string(a.Reason), "%s", a.Body)
	}
	var why directorapi.Why
	if err := json.Unmarshal(a.Body, &why); err != nil {
		return err
	}
	if mirror := q.Get("mirror"); mirror != "" {
		kept := []directorapi.WhyMirror{}
		for _, m := range why.Mirrors {
			if m.Mirror == mirror {
				kept = append(kept, m)
			}
		}
		why.Mirrors = kept
	}
	orders.WriteJSON(w, http.StatusOK, why)
	return nil
}
