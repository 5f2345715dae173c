package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
	"freshet/internal/roots"
)

const (
	// maxPrepared bounds the files that are fetched before a generation is
	// shown, preparedAtOnce those at the same time.
	maxPrepared    = 2000
	preparedAtOnce = 8
	// prepareWithin bounds the time for them. Clients have the old generation
	// meanwhile, or wait if they may not.
	prepareWithin = 20 * time.Second
)

// memberCall is a request for a file that a root lists with its digest: it is
// kept under the digest, so that each generation finds its own. ok is false for
// one without a digest worth the name.
func memberCall(s *set, m roots.Member) (c call, ok bool) {
	c = s.site.call(m.Path)
	if c.policy.Digest.Kind != layout.NoDigest {
		return c, true // the name has it
	}
	if m.Digest.Kind == layout.NoDigest {
		return c, false
	}
	c.id = keyID(s.site.name, c.uri, "digest "+m.Digest.Value())
	c.policy = c.policy.Listed(m.Digest)
	return c, true
}

// twinCall is a request for the same bytes by the name that has their digest.
func twinCall(s *set, m roots.Member) call {
	c := s.site.call(m.Twin)
	c.policy = c.policy.Listed(m.Digest)
	return c
}

// held returns what is stored of a member, nil if nothing is.
func (e *Edge) held(s *set, m roots.Member) *diskcache.Entry {
	if m.Twin != "" {
		c := twinCall(s, m)
		if entry := e.store.Peek(c.id); entry != nil {
			return entry
		}
	}
	if c, ok := memberCall(s, m); ok || m.Digest.Kind == layout.NoDigest {
		return e.store.Peek(c.id)
	}
	return nil
}

// prepare fetches what clients will ask for once the generation is shown: what
// is stored of the members of the old one. An error keeps the old one.
func (t *candidate) prepare() error {
	if t.gen == nil || t.same() {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.e.ctx, prepareWithin)
	defer cancel()
	if err := t.indexSignature(ctx); err != nil {
		return err
	}
	if t.old == nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(preparedAtOnce)
	before := t.old.list(t.e, t.set)
	n := 0
	for name, m := range t.gen.listing.Load().Members {
		was, known := before.Members[name]
		if !known || name == roots.IndexSignature || was.Path == m.Path && was.Digest == m.Digest || n >= maxPrepared {
			continue
		}
		if m.Delta != nil {
			if delta := m.Delta(was.Digest); delta != "" && t.e.held(t.set, was) != nil {
				n++
				group.Go(func() error { t.fetchOptional(ctx, delta); return nil })
			}
		}
		if t.e.held(t.set, was) == nil {
			continue
		}
		n++
		group.Go(func() error { return t.fetchMember(ctx, m) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("fetch what the new generation lists: %w", err)
	}
	t.e.beforeShown(t)
	return nil
}

// indexSignature fetches and compares the signature of a summary.idx, which has
// a name of its own for each.
func (t *candidate) indexSignature(ctx context.Context) error {
	m, ok := t.gen.listing.Load().Members[roots.IndexSignature]
	keys := t.set.site.keys
	if !ok {
		return nil
	}
	used := false
	if t.old != nil {
		if was, ok := t.old.list(t.e, t.set).Members[roots.IndexSignature]; ok {
			used = t.e.held(t.set, was) != nil
		}
	}
	if keys == nil && !used {
		return nil
	}
	c := t.set.site.call(m.Path)
	entry, err := t.e.obtain(ctx, c)
	if err != nil && !errors.Is(err, errMissing) {
		return err
	}
	files := map[string]*diskcache.Entry{"index": t.entries[t.set.key.Root+"summary.idx"]}
	if entry != nil {
		files["signature"] = entry
	}
	open, done, err := rootFiles(files)
	if err != nil {
		return &upstream.Error{Reason: upstream.StoreFull, Err: err}
	}
	defer done()
	if entry == nil && keys == nil {
		return &upstream.Error{Reason: upstream.GenerationConflict, Err: fmt.Errorf("%w: %s is missing", roots.ErrMismatch, m.Path)}
	}
	if _, err := roots.CheckIndex(open["index"], open["signature"], keys); err != nil {
		return notOneSet(err)
	}
	return nil
}

// fetchMember brings a listed file into the store.
func (t *candidate) fetchMember(ctx context.Context, m roots.Member) error {
	if m.Twin != "" {
		if _, err := t.e.obtain(ctx, twinCall(t.set, m)); err == nil {
			return nil
		}
	}
	c, ok := memberCall(t.set, m)
	if !ok {
		return nil // had when it is asked for
	}
	_, err := t.e.obtain(ctx, c)
	if errors.Is(err, errMissing) || upstream.ReasonOf(err) == upstream.VerifyMismatch && err != nil {
		return &upstream.Error{Reason: upstream.GenerationConflict, Err: fmt.Errorf("%w: %s: %w", roots.ErrMismatch, m.Path, err)}
	}
	return err
}

// newlyListed are the IDs under which files that the old generation does not list,
// or lists otherwise, may be known as missing.
func (t *candidate) newlyListed() (ids []diskcache.ID) {
	before := t.old.list(t.e, t.set).Members
	for name, m := range t.gen.list(t.e, t.set).Members {
		if was, known := before[name]; known && was.Path == m.Path && was.Digest == m.Digest {
			continue
		}
		ids = append(ids, t.set.site.call(m.Path).id)
		if c, ok := memberCall(t.set, m); ok && c.id != ids[len(ids)-1] {
			ids = append(ids, c.id)
		}
		if m.Twin != "" {
			ids = append(ids, twinCall(t.set, m).id)
		}
	}
	return ids
}

// overtakeLocked has what was learned before this generation not be told of what
// it lists, fetches under way included. purgeMu is held.
func (t *candidate) overtakeLocked() {
	e, s := t.e, t.set
	e.negatives.drop(t.listed...)
	listed := make(map[diskcache.ID]bool, len(t.listed))
	for _, id := range t.listed {
		listed[id] = true
	}
	e.flightsMu.Lock()
	defer e.flightsMu.Unlock()
	for f := range e.live {
		switch {
		case f.call.site != s.site || f.call.candidate:
		case f.call.policy.Set == s.key: // had like any other
			f.purge()
		case listed[f.call.id]:
			f.seal()
		}
	}
}

// fetchOptional brings a file into the store if there is one.
func (t *candidate) fetchOptional(ctx context.Context, path string) {
	_, _ = t.e.obtain(ctx, t.set.site.call(path)) // clients do without it
}

var (
	errMissing  = errors.New("file does not exist")
	errNotKept  = &upstream.Error{Reason: upstream.StoreFull, Err: errors.New("answer not stored")}
	errNotReady = &upstream.Error{Reason: upstream.FirstByteTimeout, Err: errors.New("not there in time")}
)

// obtain brings the answer to a call that is fixed by its name into the store,
// unless it is there.
func (e *Edge) obtain(ctx context.Context, c call) (*diskcache.Entry, error) {
	for range maxTurns {
		if entry := e.store.Peek(c.id); entry != nil && entry.State().Flags&flagPurged == 0 {
			return entry, nil
		}
		if _, missing := e.absent(c.id, time.Now()); missing {
			e.negatives.drop(c.id) // a moment ago is too long ago
		}
		old := e.store.Peek(c.id)
		var seen diskcache.State
		if old != nil {
			seen = old.State()
		}
		f, _ := e.join(&c, &http.Request{Header: http.Header{}}, c.id, old, seen, true)
		if f == nil {
			continue
		}
		select {
		case <-f.landed:
		case <-ctx.Done():
			return nil, errNotReady
		}
		switch f.verdict {
		case verdictFill:
			if err := f.fill.failure(); err != nil {
				return nil, err
			}
			if f.kept != nil {
				return f.kept, nil
			}
		case verdictEntry:
			if f.entry != nil {
				return f.entry, nil
			}
		case verdictMemory:
			return nil, errMissing
		case verdictError:
			return nil, f.err
		case verdictAlone:
			return nil, errNotKept
		}
	}
	return nil, errNotKept
}

// fromMember answers a request for a file of a set that is none of its roots:
// with the bytes that the root of its generation lists. It reports false if no
// root lists the file.
func (rp *reply) fromMember(s *set) bool {
	e, c, r := rp.e, rp.c, rp.r
	for range maxTurns {
		at := e.readers.look(r.RemoteAddr, s, c.path, rp.now())
		g := at.g
		if g == nil && rp.firstRoot(s) {
			g = s.current.Load()
		}
		m, ok := memberAt(s.key, g.list(e, s), c.path)
		if ok && !at.middle {
			usable, err := rp.usableRoot(s, g)
			if err != nil {
				rp.fwd = "stale"
				rp.failed(err, nil)
				return true
			}
			if usable != g {
				g = usable
				m, ok = memberAt(s.key, g.list(e, s), c.path)
			}
		}
		if !ok {
			return false
		}
		mine, ok := memberCall(s, m)
		if !ok {
			return false
		}
		if m.Twin != "" && e.store.Peek(mine.id) == nil && rp.twin(s, m) {
			mine = twinCall(s, m)
		}
		if !e.readers.note(r.RemoteAddr, s, g, c.path, at, rp.now()) {
			rp.begun2 = time.Now()
			continue
		}
		mine.head = c.head
		rp.c = &mine
		rp.serve()
		rp.touch(s)
		if rp.outcome == outcomeError && rp.reason == upstream.VerifyMismatch {
			e.refresh(s, "") // the origin has gone on
		}
		return true
	}
	return false
}

// firstRoot waits for the first generation of a set, if it is on its way: what it
// lists is to be of it. It reports whether there may be one.
func (rp *reply) firstRoot(s *set) bool {
	s.mu.Lock()
	t := s.task
	s.mu.Unlock()
	if t == nil {
		return false
	}
	patience := time.NewTimer(streamAfter) // as for the roots
	defer patience.Stop()
	select {
	case <-t.done:
	case <-patience.C:
	case <-rp.r.Context().Done():
	}
	rp.begun2 = time.Now()
	return true
}

// memberAt finds a listed file by its path.
func memberAt(key layout.Set, l *roots.Listing, path string) (roots.Member, bool) {
	if m, ok := l.Members[path]; ok || key.Kind == "release" { // of which there are many
		return m, ok
	}
	for _, m := range l.Members {
		if m.Path == path {
			return m, true
		}
	}
	return roots.Member{}, false
}

// usableRoot returns the generation if it may still be used, else a newer one, nil
// if there is none any more. If none is to be had, what is held is used as long as
// its root would be.
func (rp *reply) usableRoot(s *set, g *generation) (*generation, error) {
	e := rp.e
	path, entry := g.root(e, s)
	if entry == nil {
		return g, nil
	}
	c := s.site.call(path)
	fresh, st := e.freshnessOf(&c, entry, rp.now())
	fresh = g.bound(fresh, rp.now(), c.policy.Fresh)
	why, failing := s.failing(rp.now())
	switch fresh.Decide(c.req) {
	case httpcache.Fresh:
		return g, nil
	case httpcache.Stale:
		if !failing {
			e.refresh(s, "")
		}
		return g, nil
	case httpcache.Validate:
	}
	if failing && rp.usableOn(why, fresh, st) {
		return g, nil
	}
	t := e.refresh(s, "")
	select {
	case <-t.done:
	case <-rp.r.Context().Done():
		return nil, &upstream.Error{Reason: upstream.ClientGone, Err: context.Cause(rp.r.Context())}
	}
	rp.begun2 = time.Now()
	switch {
	case t.err == nil && !t.plain:
		return t.gen, nil // it was asked for since, whatever was purged meanwhile
	case t.err != nil && !rp.usableOn(t.err, fresh, st):
		return nil, t.err
	}
	return g, nil
}

// root returns the first root file that is there.
func (g *generation) root(e *Edge, s *set) (string, *diskcache.Entry) {
	for _, group := range roots.Groups(s.key) {
		if id, ok := g.files[group.File]; ok {
			return group.File, e.store.Peek(id)
		}
	}
	return "", nil
}

// twin reports whether the file can be had by the name that has its digest.
func (rp *reply) twin(s *set, m roots.Member) bool {
	e := rp.e
	c := twinCall(s, m)
	if strings.Contains(m.Twin, "//") {
		return false
	}
	if e.store.Peek(c.id) != nil {
		return true
	}
	if _, missing := e.absent(c.id, rp.now()); missing {
		return false
	}
	f, _ := e.join(&c, &http.Request{Header: http.Header{}}, c.id, nil, diskcache.State{}, true)
	if f == nil {
		return e.store.Peek(c.id) != nil
	}
	select {
	case <-f.ready:
	case <-rp.r.Context().Done():
		return false
	}
	return f.verdict == verdictFill || f.verdict == verdictEntry
}
