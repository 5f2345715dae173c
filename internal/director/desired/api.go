package desired

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/catalogue"
	"freshet/internal/director/orders"
	"freshet/internal/sqldb"
)

// API is what is desired of mirrors, on the admin listener.
type API struct {
	desk      *orders.Desk
	store     *Store
	catalogue *catalogue.Store
	check     func(settings string) error
	end       <-chan struct{}
}

// NewAPI returns the API. Check says what is wrong with settings; nil: nothing is. Nobody waits any more
// when ctx ends.
func NewAPI(ctx context.Context, desk *orders.Desk, store *Store, c *catalogue.Store, check func(settings string) error) *API {
	if check == nil {
		check = func(string) error { return nil }
	}
	return &API{desk: desk, store: store, catalogue: c, check: check, end: ctx.Done()}
}

// maxOrder bounds the body of what mirrors and boxes send.
const maxOrder = 64 << 10

// Register adds the API to an admin listener.
func (a *API) Register(admin func(pattern string, h http.Handler)) {
	const read, write, follow = control.Right(directorapi.RightRead), control.Right(directorapi.RightWrite), control.Right(directorapi.RightFollow)
	of := directorapi.DesiredOf("{mirror}")
	admin("GET "+directorapi.DesiredPath, a.desk.For("list-desired", read, 0, a.list))
	admin("GET "+of, a.desk.For("read-desired", read, 0, a.get))
	admin("PUT "+of, a.desk.For("set-desired", write, 2*directorapi.MaxDesired, a.set))
	admin("GET "+of+directorapi.DesiredHistory, a.desk.For("read-desired", read, 0, a.history))
	admin("GET "+of+directorapi.DesiredFollow, a.desk.For("follow-desired", follow, 0, a.follow))
	admin("POST "+of+directorapi.DesiredApplied, a.desk.For("applied-desired", follow, maxOrder, a.applied))
	admin("POST "+of+directorapi.DesiredClaim, a.desk.For("claim", write, maxOrder, a.claim))
	admin("POST "+directorapi.RedeemPath, a.desk.ForAnyone("redeem", maxOrder, a.redeem))
}

// mirror is the one that the path names, which the order may be about and the catalogue has.
func (a *API) mirror(r *http.Request, by *orders.Giver, o *control.Order) (string, error) {
	name := r.PathValue("mirror")
	o.What = map[string]string{"mirror": name}
	if err := by.Touch(name); err != nil {
		return "", err
	}
	if !a.known(name) {
		return "", orders.NotFound("there is no mirror %q in the catalogue: freshet director mirror add", name)
	}
	return name, nil
}

func (a *API) known(name string) bool {
	return slices.ContainsFunc(a.catalogue.Current().Mirrors, func(m directorapi.Mirror) bool { return m.Name == name })
}

// told is an error as its giver is told of it.
func told(err error) error {
	switch {
	case errors.Is(err, ErrNone):
		return orders.NotFound("%v", ErrNone)
	case errors.Is(err, ErrVersion):
		return orders.Refuse(http.StatusConflict, "conflict", "%v", err)
	case errors.Is(err, ErrClaim):
		return orders.Refuse(http.StatusForbidden, "forbidden", "%v", ErrClaim)
	case errors.Is(err, ErrRedeemed):
		return orders.Refuse(http.StatusConflict, "redeemed", "%v", ErrRedeemed)
	case sqldb.Away(err):
		return orders.Refuse(http.StatusServiceUnavailable, "unavailable", "the database does not answer")
	}
	return err
}

func (a *API) list(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	all, err := a.store.Status(r.Context())
	if err != nil {
		return told(err)
	}
	list := directorapi.DesiredList{Key: a.store.Key(), Mirrors: []directorapi.DesiredStatus{}}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if by.MayTouch(name) {
			list.Mirrors = append(list.Mirrors, all[name])
		}
	}
	orders.WriteJSON(w, http.StatusOK, list)
	return nil
}

func (a *API) get(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	mirror, err := a.mirror(r, by, o)
	if err != nil {
		return err
	}
	version, err := number(r, "version")
	if err != nil {
		return err
	}
	d, _, err := a.store.Get(r.Context(), mirror, version)
	if err == nil {
		orders.WriteJSON(w, http.StatusOK, d)
	}
	return told(err)
}

// number is a parameter that is a number, 0 without one.
func number(r *http.Request, key string) (int64, error) {
	text := r.URL.Query().Get(key)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, orders.BadRequest("%s: %.40q is no number", key, text)
	}
	return n, nil
}

func (a *API) set(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	mirror, err := a.mirror(r, by, o)
	var change directorapi.DesiredChange
	if err == nil {
		err = orders.ReadJSON(r, &change)
	}
	if err != nil {
		return err
	}
	if len(change.Settings) > directorapi.MaxDesired {
		return orders.Refuse(http.StatusRequestEntityTooLarge, "too_large", "the settings have more than %d bytes", directorapi.MaxDesired)
	}
	if err := catalogue.CheckNote(change.Note); err != nil {
		return orders.BadRequest("%v", err)
	}
	if err := a.check(change.Settings); err != nil {
		return orders.Refuse(http.StatusUnprocessableEntity, "invalid", "nothing was changed: %v", err)
	}
	if change.Check {
		orders.WriteJSON(w, http.StatusOK, directorapi.Desired{Mirror: mirror, Settings: change.Settings})
		return nil
	}
	d, err := a.store.Set(r.Context(), mirror, change.Settings, by.Name, change.Note, change.Version)
	if err != nil {
		return told(err)
	}
	o.What = map[string]any{"mirror": mirror, "version": d.Version}
	orders.WriteJSON(w, http.StatusOK, d)
	return nil
}

func (a *API) history(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	mirror, err := a.mirror(r, by, o)
	if err != nil {
		return err
	}
	list, err := a.store.History(r.Context(), mirror)
	if err == nil {
		orders.WriteJSON(w, http.StatusOK, directorapi.DesiredVersions{Versions: list})
	}
	return told(err)
}

// Bounds of how long a mirror waits for another version. Those that another process makes in the
// same database are seen within lookEvery.
const (
	maxWait   = 5 * time.Minute
	lookEvery = 5 * time.Second
)

// follow answers with the newest version if it is newer than the mirror's, and waits for one.
func (a *API) follow(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	mirror, err := a.mirror(r, by, o)
	if err != nil {
		return err
	}
	after, err := number(r, "after")
	if err != nil {
		return err
	}
	var wait time.Duration
	if text := r.URL.Query().Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return orders.BadRequest("wait: %.40q is no duration", text)
		}
	}
	over := time.NewTimer(min(wait, maxWait))
	defer over.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		changed := a.store.Changed()
		d, signed, err := a.store.Get(r.Context(), mirror, 0)
		switch {
		case err == nil && d.Version != after:
			// A mirror that knows a newer one than there is finds out, too, and says so.
			orders.WriteJSON(w, http.StatusOK, signed)
			return nil
		case err != nil && !errors.Is(err, ErrNone):
			return told(err)
		}
		select {
		case <-changed:
		case <-look.C:
		case <-over.C:
			w.WriteHeader(http.StatusNoContent)
			return nil
		case <-r.Context().Done():
			return nil
		case <-a.end:
			return orders.Refuse(http.StatusServiceUnavailable, "unavailable", "the director ends")
		}
	}
}

func (a *API) applied(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	mirror, err := a.mirror(r, by, o)
	var said directorapi.Applied
	if err == nil {
		err = orders.ReadJSON(r, &said)
	}
	if err != nil {
		return err
	}
	if err := a.store.Apply(r.Context(), mirror, said); err != nil {
		return told(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxGood bounds how long a claim is good.
const maxGood = 30 * 24 * time.Hour

func (a *API) claim(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	mirror, err := a.mirror(r, by, o)
	var req directorapi.ClaimRequest
	if err == nil {
		err = orders.ReadJSON(r, &req)
	}
	if err != nil {
		return err
	}
	if req.Seconds < 1 || req.Seconds > int64(maxGood/time.Second) {
		return orders.BadRequest("seconds: want 1 to %d, got %d", int64(maxGood/time.Second), req.Seconds)
	}
	made, err := a.store.Claim(r.Context(), mirror, by.Name, time.Duration(req.Seconds)*time.Second)
	if err == nil {
		orders.WriteJSON(w, http.StatusOK, made)
	}
	return told(err)
}

// redeem makes the box that shows a claim the mirror of the catalogue.
func (a *API) redeem(w http.ResponseWriter, r *http.Request, _ *orders.Giver, o *control.Order) error {
	var req directorapi.Redemption
	if err := orders.ReadJSON(r, &req); err != nil {
		return err
	}
	o.What = map[string]string{"mirror": fmt.Sprintf("%.200s", req.Mirror)}
	if _, err := control.ParseHash(req.Token); err != nil {
		return orders.BadRequest("token: %v", err)
	}
	err := a.store.Check(r.Context(), req)
	if errors.Is(err, ErrRedeemed) {
		o.Client = "claim:" + req.Mirror // somebody has it, and is noted in any case
	}
	if err != nil {
		return told(err)
	}
	again := false
	_, err = a.catalogue.Update(r.Context(), catalogue.Edit{
		Actor: "mirror:" + req.Mirror, Note: "its claim was redeemed",
		Before: func(ctx context.Context, tx *sqldb.Tx) (err error) {
			again, err = a.store.Redeem(ctx, tx, req)
			return err
		},
		Change: func(c *directorapi.Catalogue) error {
			i := slices.IndexFunc(c.Mirrors, func(m directorapi.Mirror) bool { return m.Name == req.Mirror })
			switch {
			case i < 0:
				return orders.NotFound("mirror %q is not in the catalogue any more", req.Mirror)
			case again && c.Mirrors[i].Token != req.Token:
				return ErrClaim // somebody has taken the token back since
			}
			c.Mirrors[i].Token = req.Token
			return nil
		},
	})
	if err != nil {
		return told(err)
	}
	o.Client = "mirror:" + req.Mirror
	answer := directorapi.Redeemed{Mirror: req.Mirror}
	_, signed, err := a.store.Get(r.Context(), req.Mirror, 0)
	switch {
	case err == nil:
		answer.Desired = &signed
	case !errors.Is(err, ErrNone):
		return told(err)
	}
	orders.WriteJSON(w, http.StatusOK, answer)
	return nil
}
