package scan

import (
	"context"
	"errors"
	"net/http"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/orders"
	"freshet/internal/inventory"
	"freshet/internal/inventory/manifest"
	"freshet/internal/unpack"
)

// maxManifest bounds what is read of a manifest, in bytes.
const maxManifest = 8 << 30

// Register adds to an admin listener what there is to ask and tell of scans.
func (s *Scanner) Register(desk *orders.Desk, admin func(pattern string, h http.Handler)) {
	read, write, push := control.Right(directorapi.RightRead), control.Right(directorapi.RightWrite), control.Right(directorapi.RightPush)
	admin("GET "+directorapi.ScansPath, desk.For("read-scans", read, 0, s.getScans))
	admin("POST "+directorapi.ScansPath, desk.For("scan", write, 0, s.postScan))
	admin("PUT "+directorapi.ManifestPath("{mirror}", "{project}"), desk.For("push-manifest", push, maxManifest, s.putManifest))
}

// getScans answers with what is known of the scans of mirrors that the client may touch.
func (s *Scanner) getScans(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	query := r.URL.Query()
	list := directorapi.ScanList{Scans: []directorapi.ScanStatus{}}
	for _, status := range s.Statuses(query.Get("mirror"), query.Get("project")) {
		if by.MayTouchAll() || status.Mirror != "" && by.MayTouch(status.Mirror) {
			list.Scans = append(list.Scans, status)
		}
	}
	orders.WriteJSON(w, http.StatusOK, list)
	return nil
}

// postScan hastens scans.
func (s *Scanner) postScan(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	var req directorapi.ScanRequest
	if err := orders.ReadJSON(r, &req); err != nil {
		return err
	}
	o.What = req
	if s.o.Followed {
		return followed()
	}
	if err := mayTouch(by, req.Mirror); err != nil {
		return err
	}
	why := req.Reason
	if why == "" {
		why = "asked for by " + by.Name
	}
	if !s.Hasten(req.Mirror, req.Project, why) {
		return orders.NotFound("there is nothing to scan of mirror %q and project %q: the catalogue must say inventory.how of what the mirror carries, and of the project itself", req.Mirror, req.Project)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// mayTouch is an error if the client may not give orders about a mirror, or the origin.
func mayTouch(by *orders.Giver, mirror string) error {
	if mirror == "" && !by.MayTouchAll() {
		return orders.Refuse(http.StatusForbidden, "forbidden", "%s may not touch origins", by.Name)
	}
	if mirror == "" {
		return nil
	}
	return by.Touch(mirror)
}

// putManifest takes what a mirror, or the origin, tells of its files.
func (s *Scanner) putManifest(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	k := key{r.PathValue("mirror"), r.PathValue("project")}
	if k.mirror == directorapi.ManifestOrigin {
		k.mirror = ""
	}
	if err := mayTouch(by, k.mirror); err != nil {
		return err
	}
	begun := time.Now()
	if s.o.Followed {
		return followed()
	}
	if !s.takesManifests(k) {
		return orders.NotFound(`the catalogue has no mirror %q that pushes manifests of project %q (inventory how="manifest")`, r.PathValue("mirror"), k.project)
	}
	change, err := s.take(k, r, begun)
	o.Count = change.Files
	s.pushed(r.Context(), k, begun, change, err)
	if err != nil {
		return asAnswer(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// followed is told whoever gives an order that has no effect here.
func followed() error {
	return orders.Refuse(http.StatusConflict, "followed", "this director follows the inventory of another: that is told there")
}

// takesManifests reports whether the catalogue says that somebody pushes manifests.
func (s *Scanner) takesManifests(k key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[k]
	return t != nil && t.target.pushed()
}

// take reads a manifest into the inventory. It may be compressed.
func (s *Scanner) take(k key, r *http.Request, begun time.Time) (inventory.Change, error) {
	plain, done, err := unpack.NewReader(r.Body)
	if err != nil {
		return inventory.Change{}, errors.Join(manifest.ErrFormat, err)
	}
	defer done()
	m, err := manifest.NewReader(plain)
	if err != nil {
		return inventory.Change{}, err
	}
	if m.Head.Project != k.project {
		return inventory.Change{}, orders.BadRequest("the manifest is one of project %q", m.Head.Project)
	}
	if m.Head.At.IsZero() || m.Head.At.After(begun) {
		m.Head.At = begun
	}
	h, err := s.o.Inventory.Holder(k.mirror)
	if err != nil {
		return inventory.Change{}, err
	}
	p := s.pointers(k)
	m.Seen = p.see
	change, err := m.Into(s.o.Inventory.Project(k.project), h)
	if err == nil {
		p.tell(m.Head.Base == "", m.Head.At)
	}
	return change, err
}

// pushed notes how a push went.
func (s *Scanner) pushed(ctx context.Context, k key, begun time.Time, change inventory.Change, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[k]
	if t == nil {
		s.abandon(k) // the catalogue has changed meanwhile
		return
	}
	t.begun = begun
	if err != nil {
		t.fault(time.Now(), fail(Push, err))
	} else {
		s.recovered(ctx, t)
		t.succeed(time.Now(), change.Files)
		s.told(k)
	}
	s.tell(ctx, t, change)
	s.stir()
}

// asAnswer is what a mirror is told of an error of its manifest.
func asAnswer(err error) error {
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return err
	}
	switch {
	case errors.Is(err, inventory.ErrGap):
		return orders.Refuse(http.StatusConflict, "gap", "%v", err)
	case errors.Is(err, inventory.ErrShrunk):
		return orders.Refuse(http.StatusConflict, "shrunk", "%v: pushed once more, it counts", err)
	case errors.Is(err, inventory.ErrTooMany):
		return orders.Refuse(http.StatusRequestEntityTooLarge, "too_large", "%v", err)
	case errors.Is(err, manifest.ErrFormat):
		return orders.BadRequest("%v", err)
	}
	return err
}
