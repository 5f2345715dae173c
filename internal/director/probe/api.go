package probe

import (
	"fmt"
	"net/http"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/orders"
)

// API is the health of mirrors on the admin listener.
type API struct {
	desk   *orders.Desk
	prober *Prober
}

// NewAPI returns the API of a Prober.
func NewAPI(desk *orders.Desk, prober *Prober) *API { return &API{desk, prober} }

// maxReportsBody bounds the body with reports, in bytes.
const maxReportsBody = 1 << 20

// Register adds the API to an admin listener.
func (a *API) Register(admin func(pattern string, h http.Handler)) {
	admin("POST "+directorapi.ReportsPath, a.desk.For("report", directorapi.RightReport, maxReportsBody, a.report))
	admin("GET "+directorapi.HealthPath, a.desk.For("read-health", directorapi.RightRead, 0, a.health))
}

// report takes all reports that make sense. If some do not, the answer tells the first.
func (a *API) report(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	var told directorapi.Reports
	if err := orders.ReadJSON(r, &told); err != nil {
		return err
	}
	if n := len(told.Reports); n > directorapi.MaxReports {
		return orders.BadRequest("%d reports: at most %d are taken at once", n, directorapi.MaxReports)
	}
	o.Count = 0
	var first error
	for i, one := range told.Reports {
		err := by.Touch(one.Mirror)
		if err == nil {
			if err = a.prober.Report(Reporter{Name: by.Name, Weight: 1}, one); err != nil {
				err = orders.BadRequest("reports[%d]: %v", i, err)
			}
		}
		if err == nil {
			o.Count++
		} else if first == nil {
			first = err
		}
	}
	if first != nil {
		return fmt.Errorf("%d of %d reports were taken: %w", o.Count, len(told.Reports), first)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// health answers with what is known of ways.
func (a *API) health(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	mirror, project := r.URL.Query().Get("mirror"), r.URL.Query().Get("project")
	if mirror != "" {
		if err := by.Touch(mirror); err != nil {
			return err
		}
	} else if !by.MayTouchAll() {
		return orders.Refuse(http.StatusForbidden, "forbidden", "%s is kept to some mirrors: ask for one of these", by.Name)
	}
	state := a.prober.State()
	list := directorapi.HealthList{Ways: []directorapi.WayHealth{}}
	for way, h := range state.All() {
		if mirror != "" && way.Mirror != mirror || project != "" && way.Project != project {
			continue
		}
		told := h.told(way)
		if mirror != "" {
			for _, c := range a.prober.History(way) {
				told.History = append(told.History, directorapi.WayChange{At: c.At, Works: c.Works, Why: string(c.Why), Detail: c.Detail})
			}
		}
		list.Ways = append(list.Ways, told)
	}
	for _, f := range []Family{IPv4, IPv6} {
		if state.Blind(f) {
			list.Blind = append(list.Blind, f.String())
		}
	}
	orders.WriteJSON(w, http.StatusOK, list)
	return nil
}

// told is the health of a way in words of the API.
func (h Health) told(w Way) directorapi.WayHealth {
	told := directorapi.WayHealth{
		Mirror: w.Mirror, Project: w.Project, Scheme: w.Scheme.String(), Family: w.Family.String(),
		Works: h.Works, Why: string(h.Why), Detail: h.Detail, Since: h.Since, Looked: h.Looked,
		Took: directorapi.Duration(h.Took), Expires: h.Expires,
	}
	if !h.Works {
		told.Good, told.Needed = h.Good, h.Needed
	}
	return told
}
