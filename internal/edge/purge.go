package edge

import (
	"errors"
	"net/http"
	"net/url"

	"freshet/internal/edge/diskcache"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
)

// purge makes what is stored of the paths stale, all in one step: no request
// sees some of them fresh and others not. The entries stay for the time when
// the origin cannot be asked. It returns when this survives a crash, and how
// many entries it met.
func (e *Edge) purge(s *site, paths []string) (int, error) {
	wanted := make(map[string]bool, len(paths))
	var entries []*diskcache.Entry
	e.purgeMu.Lock()
	for _, path := range paths {
		wanted[path] = true
		id := keyID(s.name, (&url.URL{Path: path}).EscapedPath(), "")
		e.negatives.drop(id)
		for _, id := range e.names.of(id) {
			e.failing.drop(id)
			if entry := e.store.Peek(id); entry != nil {
				entry.Mark(markPurged)
				entries = append(entries, entry)
			}
		}
	}
	e.flightsMu.Lock()
	for f := range e.live {
		if f.call.site == s && wanted[f.call.path] {
			f.purge()
		}
	}
	e.flightsMu.Unlock()
	e.purgeMu.Unlock()
	return len(entries), save(entries)
}

func (f *flight) purge() {
	f.mu.Lock()
	f.purged = true
	f.mu.Unlock()
}

func markPurged(st *diskcache.State) { st.Flags |= flagPurged }

func save(entries []*diskcache.Entry) error {
	var errs []error
	for _, entry := range entries {
		errs = append(errs, entry.Save())
	}
	return errors.Join(errs...)
}

// purgeSet makes the other members of the call's set stale.
func (e *Edge) purgeSet(c *call, except diskcache.ID) {
	e.purgeMu.Lock()
	defer e.purgeMu.Unlock()
	for _, id := range e.names.members(c.site.name, c.policy.Set) {
		if id == except {
			continue
		}
		if entry := e.store.Peek(id); entry != nil {
			entry.Mark(markPurged) // not saved: after a start they are old anyway
		}
	}
	e.flightsMu.Lock()
	for f := range e.live {
		if f.call.site == c.site && f.call.policy.Set == c.policy.Set && f.call.id != c.id {
			f.purge()
		}
	}
	e.flightsMu.Unlock()
}

// purgeChangeable makes everything of a site stale that is not bound to its
// name for good: what happened is not known. It survives a crash after the
// store's next Sync.
func (e *Edge) purgeChangeable(s *site) {
	e.purgeMu.Lock()
	e.store.Ban(diskcache.Ban{Site: s.name, Flags: flagPurged})
	e.flightsMu.Lock()
	for f := range e.live {
		if f.call.site == s && !isFixed(f.call.policy) {
			f.purge()
		}
	}
	e.flightsMu.Unlock()
	e.negatives.clear()
	e.purgeMu.Unlock()
}

// isFixed reports whether what the policy is of never changes.
func isFixed(p layout.Policy) bool { return p.Immutable && p.Set == (layout.Set{}) }

// invalidate removes what is stored of the URIs that an answered unsafe
// request may have changed (RFC 9111 §4.4).
func (e *Edge) invalidate(c *call, r *http.Request, status int, h http.Header) {
	if !httpcache.Invalidates(r.Method, status) {
		return
	}
	uris := []string{c.uri}
	for _, name := range [...]string{"Location", "Content-Location"} {
		u, err := r.URL.Parse(h.Get(name))
		if err == nil && h.Get(name) != "" && (u.Host == "" || u.Host == r.Host || u.Host == c.site.origin.Base.Host) {
			uris = append(uris, u.RequestURI())
		}
	}
	e.purgeMu.Lock()
	defer e.purgeMu.Unlock()
	for _, uri := range uris {
		id := keyID(c.site.name, uri, "")
		e.negatives.drop(id)
		for _, id := range e.names.of(id) {
			if entry := e.store.Peek(id); entry != nil {
				e.store.Delete(entry)
			}
		}
		e.flightsMu.Lock()
		for f := range e.live {
			if f.call.id == id {
				f.purge()
			}
		}
		e.flightsMu.Unlock()
	}
}
