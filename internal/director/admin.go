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
	"freshet/internal/director/desired"
	"freshet/internal/director/orders"
	"freshet/internal/director/probe"
	"freshet/internal/director/redirect"
	"freshet/internal/director/share"
)

// register adds the API to the admin listener.
func (r *redirector) register(ctx context.Context, admin func(pattern string, h http.Handler)) {
	catalogue.NewAPI(ctx, r.desk, r.catalogue).Register(admin)
	if r.prober != nil {
		probe.NewAPI(r.desk, r.prober).Register(admin)
	}
	r.scanner.Register(r.desk, admin)
	if r.desired != nil {
		store, _ := r.catalogue.(*catalogue.Store)
		desired.NewAPI(ctx, r.desk, r.desired, store, r.checkDesired).Register(admin)
	}
	share.NewServer(ctx, r.desk, r.inventory).Register(admin)
	admin("GET "+directorapi.WhyPath, r.desk.For("why", directorapi.RightRead, 0, r.why))
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
