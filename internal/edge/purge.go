package edge

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"freshet/internal/edge/diskcache"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
)

// selection is what a purge means of one site.
type selection struct {
	site *site
	// keys are those of URLs, paths, sets and tags.
	keys []diskcache.Key
	// tags says that some are of tags: a flight that has no answer yet may
	// turn out to be meant.
	tags bool
	// prefixes begin paths; the empty one begins all.
	prefixes []string
	// missing are the URIs, by ID, that may be known as missing; without
	// onlyThese, all that are known so are asked for again.
	missing   []diskcache.ID
	onlyThese bool
}

// meansCall reports whether the selection means whatever the answer to a call
// will be.
func (sel *selection) meansCall(c *call, keys map[diskcache.Key]bool) bool {
	if c.site != sel.site {
		return false
	}
	for _, prefix := range sel.prefixes {
		if strings.HasPrefix(c.path, prefix) {
			return true
		}
	}
	for _, key := range c.keys() {
		if keys[key] {
			return true
		}
	}
	return false
}

// purgeSelected purges everything that the selections mean, all in one step:
// no request sees some of it as before and some purged, and no request joins a
// fetch from before. What is hard purged is never used again; the rest is not
// fresh, and stays for the time when the origin cannot be asked. It returns
// when this survives a crash. Its cost depends on the selections, not on what
// they mean.
func (e *Edge) purgeSelected(selections []selection, hard bool) error {
	var (
		bans   []diskcache.Ban
		keyed  = diskcache.Ban{Flags: flagPurged, Drop: hard}
		wanted = make(map[diskcache.Key]bool)
	)
	for _, sel := range selections {
		keyed.Keys = append(keyed.Keys, sel.keys...)
		for _, prefix := range sel.prefixes {
			bans = append(bans, diskcache.Ban{Site: sel.site.name, Prefix: prefix, Fixed: true, Flags: flagPurged, Drop: hard})
		}
	}
	if len(keyed.Keys) > 0 {
		bans = append(bans, keyed)
	}
	for _, key := range keyed.Keys {
		wanted[key] = true
	}
	e.purgeMu.Lock()
	e.store.Ban(bans...)
	for i := range selections {
		e.forgetMissing(&selections[i])
	}
	e.flightsMu.Lock()
	for f := range e.live {
		for i := range selections {
			f.purgeSelected(&selections[i], wanted)
		}
	}
	e.flightsMu.Unlock()
	e.purgeMu.Unlock()
	return e.store.Sync()
}

func (e *Edge) forgetMissing(sel *selection) {
	if !sel.onlyThese {
		e.negatives.clear()
	}
	for _, id := range sel.missing {
		e.negatives.drop(id)
		e.failing.drop(id)
	}
}

// purgeSelected tells a flight of a purge. What it brings is compared with the
// bans when it is there; this is about who may still join it.
func (f *flight) purgeSelected(sel *selection, wanted map[diskcache.Key]bool) {
	if sel.meansCall(&f.call, wanted) {
		f.purge()
		return
	}
	if !sel.tags || f.call.site != sel.site {
		return
	}
	if f.seal() { // who knows
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range tagKeys(f.call.site.name, f.meta.Header) {
		f.sealed = f.sealed || wanted[key]
	}
}

// purge makes what is stored of the paths stale, all in one step: no request
// sees some of them fresh and others not. The entries stay for the time when
// the origin cannot be asked. It returns when this survives a crash, and how
// many entries it met of those that it could find at once.
//
// Files that were fetched anew already, because the event was known, are shown
// by also, in the same step.
func (e *Edge) purge(s *site, paths []string, also ...func()) (int, error) {
	wanted := make(map[string]bool, len(paths))
	var entries []*diskcache.Entry
	var ban diskcache.Ban
	e.purgeMu.Lock()
	for _, show := range also {
		show()
	}
	for _, path := range paths {
		wanted[path] = true
		id := keyID(s.name, (&url.URL{Path: path}).EscapedPath(), "")
		e.negatives.drop(id)
		if !s.ruled || !layout.PolicyOf(path).Ruled() {
			// There may be any number of entries: for other queries, other ways
			// to write the path, other request fields.
			ban.Keys = append(ban.Keys, banKey(keyPath, s.name, path))
		}
		for _, id := range e.heldIDs(s, id, path) {
			e.failing.drop(id)
			if entry := e.store.Peek(id); entry != nil {
				entry.Mark(markPurged)
				entries = append(entries, entry)
			}
		}
	}
	if len(ban.Keys) > 0 {
		ban.Flags = flagPurged
		e.store.Ban(ban)
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

// seal keeps others from joining a flight that has no answer to be stored yet. It
// reports whether that is so.
func (f *flight) seal() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sealed = f.sealed || f.fill == nil
	return f.fill == nil
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

// purgeChangeable makes everything of a site stale that is not known, by its name,
// to be what it should be: what happened is not known. Files may have changed, and
// damaged ones may have been repaired. It survives a crash after the store's next
// Sync.
func (e *Edge) purgeChangeable(s *site) {
	e.purgeMu.Lock()
	e.store.Ban(
		diskcache.Ban{Site: s.name, Flags: flagPurged},
		diskcache.Ban{Keys: []diskcache.Key{banKey(keyLoose, s.name)}, Flags: flagPurged},
	)
	e.flightsMu.Lock()
	for f := range e.live {
		if f.call.site == s && (!isFixed(f.call.policy) || isLoose(f.call.policy)) {
			f.purge()
		}
	}
	e.flightsMu.Unlock()
	e.negatives.clear()
	e.purgeMu.Unlock()
}

// isFixed reports whether what the policy is of never changes.
func isFixed(p layout.Policy) bool { return p.Immutable && p.Set == (layout.Set{}) }

// isLoose reports whether what the policy is of never changes, and yet may have
// been stored with wrong bytes: those that came were not compared with the name, or
// only some of them. A repair at the origin brings others.
func isLoose(p layout.Policy) bool { return isFixed(p) && p.Digest.Kind == layout.NoDigest }

// invalidate removes what is stored of the URIs that an answered unsafe
// request may have changed (RFC 9111 §4.4).
func (e *Edge) invalidate(c *call, r *http.Request, status int, h http.Header) {
	if !httpcache.Invalidates(r.Method, status) {
		return
	}
	calls := []call{*c}
	for _, name := range [...]string{"Location", "Content-Location"} {
		if value := h.Get(name); value != "" {
			if other, ok := c.site.named(r, value); ok {
				calls = append(calls, other)
			}
		}
	}
	e.purgeMu.Lock()
	defer e.purgeMu.Unlock()
	for i := range calls {
		id := calls[i].id
		e.negatives.drop(id)
		if !e.names.complete(id) {
			if u, err := url.ParseRequestURI(calls[i].uri); err == nil {
				e.store.Ban(diskcache.Ban{Keys: []diskcache.Key{urlKey(c.site.name, u.Path, u.RawQuery)}, Drop: true})
			}
		}
		for _, id := range e.heldIDs(calls[i].site, id, calls[i].path) {
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

// named returns the call that a URI reference in an answer to r means, if it is
// of the same site.
func (s *site) named(r *http.Request, reference string) (call, bool) {
	u, err := r.URL.Parse(reference)
	if err != nil {
		return call{}, false
	}
	switch base := s.origin.Main().Base; u.Host {
	case "", r.Host:
	case base.Host: // as the origin sees itself
		below, ok := strings.CutPrefix(u.EscapedPath(), strings.TrimSuffix(base.EscapedPath(), "/"))
		if !ok || !strings.HasPrefix(below, "/") {
			return call{}, false
		}
		query := u.RawQuery
		if u, err = url.Parse(below); err != nil {
			return call{}, false
		}
		u.RawQuery = query
	default:
		return call{}, false
	}
	return s.target(&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
}
