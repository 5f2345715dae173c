package share

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/orders"
	"freshet/internal/inventory"
	"freshet/internal/pause"
)

const (
	// maxWait bounds how long a request for the next edition waits.
	maxWait = 5 * time.Minute
	// gathering is for how long changes are put together: they come in flocks.
	gathering = time.Second
	// kept is how many editions are kept to tell what has changed since, and keptFor
	// how long after they were sent: who follows asks again at once.
	kept    = 4
	keptFor = 5 * time.Minute
)

// Server answers with an inventory on the admin listener.
type Server struct {
	desk      *orders.Desk
	inventory *inventory.Inventory
	process   string // names editions of this process
	end       <-chan struct{}

	mu       sync.Mutex
	editions []edition // the newest last
}

// edition is one that was sent to somebody.
type edition struct {
	inventory.Edition
	tag  string
	sent time.Time
}

// NewServer returns one. Nobody waits any more when ctx ends.
func NewServer(ctx context.Context, desk *orders.Desk, v *inventory.Inventory) *Server {
	var id [8]byte
	_, _ = rand.Read(id[:]) // it does not fail
	return &Server{desk: desk, inventory: v, process: hex.EncodeToString(id[:]), end: ctx.Done()}
}

// Register adds it to an admin listener.
func (s *Server) Register(admin func(pattern string, h http.Handler)) {
	admin("GET "+directorapi.InventoryPath, s.desk.For("read-inventory", control.Right(directorapi.RightRead), 0, s.get))
}

// get answers with the newest edition or, if the client has one and wants that, with what
// has changed since.
func (s *Server) get(w http.ResponseWriter, r *http.Request, by *orders.Giver, _ *control.Order) error {
	if !by.MayTouchAll() {
		return orders.Refuse(http.StatusForbidden, "forbidden", "%s is kept to some mirrors", by.Name)
	}
	wait, changes, err := wishes(r)
	if err != nil {
		return err
	}
	has := r.Header.Get("If-None-Match")
	base, known := s.find(has)
	next := s.newest()
	if next.tag == has && wait > 0 {
		s.await(r.Context(), next.Serial(), wait)
		next = s.newest()
	}
	w.Header().Set("ETag", next.tag)
	w.Header().Set("Cache-Control", "no-store")
	if next.tag == has {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", inventory.ContentType)
	// Who is cut off sees that the end is missing.
	if changes && known {
		_ = next.WriteSince(w, base.Edition, base.tag)
	} else {
		_ = next.Write(w)
	}
	return nil
}

// wishes reads the parameters.
func wishes(r *http.Request) (wait time.Duration, changes bool, err error) {
	query := r.URL.Query()
	if text := query.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return 0, false, orders.BadRequest("wait: %.40q is no duration", text)
		}
	}
	if text := query.Get("changes"); text != "" {
		if changes, err = strconv.ParseBool(text); err != nil {
			return 0, false, orders.BadRequest(`changes: want "true" or "false", got %.40q`, text)
		}
	}
	return min(wait, maxWait), changes, nil
}

// await waits until there is something newer, and some more for what comes with it.
func (s *Server) await(ctx context.Context, serial uint64, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	changed := s.inventory.Changed()
	if s.inventory.Serial() == serial {
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-s.end:
			return
		}
	}
	pause.Until(ctx, s.end, gathering)
}

// find returns an edition by its tag, and notes that it is in use.
func (s *Server) find(tag string) (edition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.editions, func(e edition) bool { return e.tag == tag })
	if i < 0 {
		return edition{}, false
	}
	s.editions[i].sent = time.Now()
	return s.editions[i], true
}

// newest returns the newest edition.
func (s *Server) newest() edition {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if n := len(s.editions); n > 0 && s.editions[n-1].Serial() == s.inventory.Serial() {
		s.editions[n-1].sent = now
		return s.editions[n-1]
	}
	next := edition{Edition: s.inventory.Edition(), sent: now}
	next.tag = fmt.Sprintf(`"%s-%d"`, s.process, next.Serial())
	s.editions = append(slices.DeleteFunc(s.editions, func(e edition) bool { return now.Sub(e.sent) > keptFor }), next)
	if extra := len(s.editions) - kept; extra > 0 {
		s.editions = slices.Delete(s.editions, 0, extra)
	}
	return next
}
