package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/orders"
	"freshet/internal/sqldb"
)

// API is the catalogue on the admin listener.
type API struct {
	desk   *orders.Desk
	source Source
	store  *Store // nil: it is followed
	end    <-chan struct{}
}

// NewAPI returns the API of a catalogue; one that is followed is only read. Nobody waits
// any more when ctx ends.
func NewAPI(ctx context.Context, desk *orders.Desk, source Source) *API {
	store, _ := source.(*Store)
	return &API{desk: desk, source: source, store: store, end: ctx.Done()}
}

// Register adds the API to an admin listener.
func (a *API) Register(admin func(pattern string, h http.Handler)) {
	item := directorapi.ItemPath("{items}", "{name}")
	read, write := control.Right(directorapi.RightRead), control.Right(directorapi.RightWrite)
	admin("GET "+directorapi.CataloguePath, a.desk.For("read-catalogue", read, 0, a.get))
	admin("PUT "+directorapi.CataloguePath, a.desk.For("replace-catalogue", write, 0, a.replace))
	admin("GET "+item, a.desk.For("read-item", read, 0, a.getItem))
	admin("PUT "+item, a.desk.For("put-item", write, 0, a.putItem))
	admin("DELETE "+item, a.desk.For("delete-item", write, 0, a.deleteItem))
	admin("GET "+directorapi.HistoryPath, a.desk.For("read-history", read, 0, a.history))
}

// maxWait bounds how long a request for the next catalogue waits.
const maxWait = 5 * time.Minute

// get answers with the catalogue. With the parameter wait, one that the client has is not
// answered before there is another, or the time is over.
func (a *API) get(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	if !by.MayTouchAll() {
		return orders.Refuse(http.StatusForbidden, "forbidden", "%s is kept to some mirrors: ask for these", by.Name)
	}
	changed := a.source.Changed()
	c := a.source.Current()
	if text := r.URL.Query().Get("wait"); text != "" && has(r, c) {
		wait, err := time.ParseDuration(text)
		if err != nil || wait < 0 {
			return orders.BadRequest("wait: %.40q is no duration", text)
		}
		timer := time.NewTimer(min(wait, maxWait))
		defer timer.Stop()
		select {
		case <-changed:
			c = a.source.Current()
		case <-timer.C:
		case <-r.Context().Done():
		case <-a.end:
		}
	}
	if etag := c.ETag(); etag != "" {
		w.Header().Set("ETag", etag)
	}
	if has(r, c) {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	orders.WriteJSON(w, http.StatusOK, c)
	return nil
}

// has reports whether the client has the catalogue.
func has(r *http.Request, c *directorapi.Catalogue) bool {
	return c.ETag() != "" && r.Header.Get("If-None-Match") == c.ETag()
}

func (a *API) replace(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	if !by.MayTouchAll() {
		return orders.Refuse(http.StatusForbidden, "forbidden", "%s is kept to some mirrors", by.Name)
	}
	var next directorapi.Catalogue
	if err := orders.ReadJSON(r, &next); err != nil {
		return err
	}
	return a.update(w, r, by, o, func(c *directorapi.Catalogue) error {
		*c = next
		return nil
	})
}

// item finds what the path names.
func item(r *http.Request) (kind, itemKey, error) {
	key := itemKey{directorapi.Items(r.PathValue("items")), r.PathValue("name")}
	k, ok := kindOf(key.items)
	if !ok {
		return nil, key, orders.NotFound("there is no list %.40q: want projects, sites or mirrors", key.items)
	}
	return k, key, nil
}

// touch is an error if the order may not be about the item.
func touch(by *orders.Giver, key itemKey) error {
	if key.items == directorapi.Mirrors {
		return by.Touch(key.name)
	}
	if !by.MayTouchAll() {
		return orders.Refuse(http.StatusForbidden, "forbidden", "%s may touch mirrors only", by.Name)
	}
	return nil
}

func (a *API) getItem(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	k, key, err := item(r)
	if err == nil {
		err = touch(by, key)
	}
	if err != nil {
		return err
	}
	c := a.source.Current()
	var found any
	k.all(c, func(name string, item any) {
		if name == key.name {
			found = item
		}
	})
	if found == nil {
		return missing(key)
	}
	if etag := c.ETag(); etag != "" {
		w.Header().Set("ETag", etag)
	}
	orders.WriteJSON(w, http.StatusOK, found)
	return nil
}

func missing(key itemKey) error {
	return orders.NotFound("there is no %s %q", strings.TrimSuffix(string(key.items), "s"), key.name)
}

func exists(key itemKey) error {
	return orders.Refuse(http.StatusPreconditionFailed, "exists", "%s %q exists", strings.TrimSuffix(string(key.items), "s"), key.name)
}

// in reports whether the catalogue has the item.
func (key itemKey) in(c *directorapi.Catalogue) (found bool) {
	k, _ := kindOf(key.items)
	k.all(c, func(name string, _ any) { found = found || name == key.name })
	return found
}

func (a *API) putItem(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	k, key, err := item(r)
	if err == nil {
		err = touch(by, key)
	}
	if err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			return err
		}
		return orders.BadRequest("body: %v", err)
	}
	return a.update(w, r, by, o, func(c *directorapi.Catalogue) error {
		if r.Header.Get("If-None-Match") == "*" && key.in(c) {
			return exists(key)
		}
		if err := k.put(c, key.name, body); err != nil {
			return orders.BadRequest("body: %v", err)
		}
		return nil
	})
}

func (a *API) deleteItem(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order) error {
	k, key, err := item(r)
	if err == nil {
		err = touch(by, key)
	}
	if err != nil {
		return err
	}
	return a.update(w, r, by, o, func(c *directorapi.Catalogue) error {
		if !k.remove(c, key.name) {
			return missing(key)
		}
		return nil
	})
}

// update makes a change as the parameters dry-run and note, and If-Match, say, and answers
// with what it changed.
func (a *API) update(w http.ResponseWriter, r *http.Request, by *orders.Giver, o *control.Order, change func(*directorapi.Catalogue) error) error {
	if a.store == nil {
		return orders.Refuse(http.StatusConflict, "followed", "this director follows the catalogue of another: it is changed there")
	}
	query := r.URL.Query()
	edit := Edit{Actor: by.Name, Note: query.Get("note"), IfMatch: r.Header.Get("If-Match"), Change: change}
	var err error
	if edit.DryRun, err = boolean(query, "dry-run"); err != nil {
		return err
	}
	if err := checkLine("note", edit.Note, maxNote); err != nil {
		return orders.BadRequest("%v", err)
	}
	done, err := a.store.Update(r.Context(), edit)
	if err != nil {
		return told(err)
	}
	o.Count, o.What = len(done.Items), summary(done)
	if !edit.DryRun {
		w.Header().Set("ETag", (&directorapi.Catalogue{ID: a.source.Current().ID, Serial: done.Serial}).ETag())
	}
	orders.WriteJSON(w, http.StatusOK, done)
	return nil
}

// summary is a change without what stands in the history.
func summary(c directorapi.Change) directorapi.Change {
	const most = 20
	items := make([]directorapi.ItemChange, 0, min(len(c.Items), most))
	for _, i := range c.Items[:cap(items)] {
		i.Before, i.After = nil, nil
		items = append(items, i)
	}
	c.Items = items
	return c
}

// told is an error of a change as its giver is told of it.
func told(err error) error {
	if e, ok := errors.AsType[*InvalidError](err); ok {
		problems := "1 problem"
		if n := len(e.Problems); n > 1 {
			problems = fmt.Sprintf("%d problems", n)
		}
		return &directorapi.Error{
			Status: http.StatusUnprocessableEntity, Reason: "invalid",
			Message: "nothing was changed: the catalogue would have " + problems, Problems: e.Problems,
		}
	}
	switch {
	case errors.Is(err, ErrConflict):
		return orders.Refuse(http.StatusPreconditionFailed, "conflict", "%v: read it again", ErrConflict)
	case sqldb.Away(err):
		return orders.Refuse(http.StatusServiceUnavailable, "unavailable", "the database of the catalogue does not answer")
	}
	return err
}

// boolean reads a parameter that may be given without a value.
func boolean(query url.Values, key string) (bool, error) {
	if !query.Has(key) || query.Get(key) == "" {
		return query.Has(key), nil
	}
	v, err := strconv.ParseBool(query.Get(key))
	if err != nil {
		return false, orders.BadRequest(`%s: want "true" or "false", got %.40q`, key, query.Get(key))
	}
	return v, nil
}

// Parts of the history that are answered at once.
const (
	historyPage = 50
	historyMost = 500
)

func (a *API) history(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	if a.store == nil {
		return orders.Refuse(http.StatusConflict, "followed", "this director follows the catalogue of another: its history is there")
	}
	query := r.URL.Query()
	q := HistoryQuery{Items: directorapi.Items(query.Get("kind")), Name: query.Get("name"), Limit: historyPage}
	if err := touch(by, itemKey{q.Items, q.Name}); err != nil {
		return err
	}
	if _, ok := kindOf(q.Items); !ok && q.Items != "" {
		return orders.BadRequest("kind: want projects, sites or mirrors, got %.40q", q.Items)
	}
	var err error
	if text := query.Get("before"); text != "" {
		if q.Before, err = strconv.ParseInt(text, 10, 64); err != nil || q.Before < 1 {
			return orders.BadRequest("before: %.40q is no serial", text)
		}
	}
	if text := query.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 {
			return orders.BadRequest("limit: %.40q makes no sense", text)
		}
		q.Limit = min(q.Limit, historyMost)
	}
	h, err := a.store.History(r.Context(), q)
	if err != nil {
		return told(err)
	}
	orders.WriteJSON(w, http.StatusOK, h)
	return nil
}
