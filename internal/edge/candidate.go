package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/layout"
	"freshet/internal/pause"
	"freshet/internal/roots"
)

// candidate is the fetch of the root files of a set. If they belong together,
// and what they list and clients use is there, they are shown from then on:
// that is one step for all of them. If not, what was shown stays.
type candidate struct {
	e     *Edge
	set   *set
	old   *generation
	after *candidate // what has to end before
	// force: somebody told that there is something new. What is older than what
	// is held is taken as well.
	force bool
	begun time.Time
	done  chan struct{}

	mu      sync.Mutex
	flights []*flight
	led     bool // somebody waits for it, who is its leader

	// held, if not nil, is closed by who shows the candidate, or lets it show
	// itself; ready when it is whole.
	held, ready chan struct{}
	showed      bool

	// What follows is written before done is closed.
	gen     *generation // nil with err, and if there are no such files
	entries map[string]*diskcache.Entry
	status  map[string]int     // of the origin, by path
	times   map[string]*asking // of the requests to it
	missing map[string]*memory // files that do not exist
	err     error
	wrong   bool    // err is about what the origins of the last round sent
	memory  *memory // the origin's own error
	plain   bool    // the files cannot be kept, or not shared
	changed bool    // something new is shown
	// listed is what the old generation does not list; see [candidate.record].
	listed []diskcache.ID
}

const (
	// coldPatience is how long who asks for a set that is not there waits for
	// files that belong together, warmPatience who refreshes one that is.
	coldPatience = 10 * time.Second
	warmPatience = 2 * time.Second
	// conflictPause is how long the origin is left alone after files that did not
	// belong together, at first and at most.
	conflictPause    = time.Second
	maxConflictPause = 30 * time.Second
	// plainFor is how long files that cannot be kept are had like any other.
	plainFor = time.Minute
)

// refresh begins a candidate for the set, or returns the one under way, unless
// that began before a purge. path is the root file that is asked for, "" for
// none.
func (e *Edge) refresh(s *set, path string) *candidate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path != "" {
		s.asked[path] = true
	}
	if s.task != nil && !s.task.isPurged() {
		return s.task
	}
	return s.beginLocked(&candidate{e: e, set: s, after: s.task, done: make(chan struct{})})
}

// beginLocked begins a candidate that comes after all others. mu is held.
func (s *set) beginLocked(t *candidate) *candidate {
	t.begun, s.task = time.Now(), t
	t.e.wg.Go(t.run)
	return t
}

// isPurged reports whether a purge overtook the candidate.
func (t *candidate) isPurged() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.flights {
		if f.isPurged() {
			return true
		}
	}
	return false
}

// run fetches, compares and shows.
func (t *candidate) run() {
	if t.after != nil {
		<-t.after.done
		t.after = nil
	}
	t.old = t.set.current.Load()
	err := t.fetchUntilWhole()
	if err == nil && t.gen != nil {
		err = t.prepare()
	}
	if err == nil {
		t.show()
	}
	if err != nil {
		t.gen, t.err = nil, err
		if t.withoutSet(err) {
			t.e.log.WarnContext(t.e.ctx, "root files are passed on as they are", slog.String("site", t.set.site.label()),
				slog.String("set", t.set.key.Root+" "+t.set.key.Kind), slog.Any("error", err))
			t.plain, t.err = true, nil
		}
	}
	t.tidy()
	t.account()
	close(t.done)
}

// fetchUntilWhole fetches the root files until they belong together.
func (t *candidate) fetchUntilWhole() error {
	patience := warmPatience
	if t.old == nil {
		patience = coldPatience
	}
	for round := 0; ; round++ {
		err := t.round(round)
		if round < maxTries && t.disbelieved(err) {
			continue
		}
		wait := min(50*time.Millisecond<<round, time.Second)
		if !errors.Is(err, roots.ErrMismatch) || errors.Is(err, roots.ErrUnreadable) && round > 0 || time.Since(t.begun)+wait > patience {
			return err
		}
		pause.For(t.e.ctx, wait)
	}
}

// round fetches the root files once and compares them.
func (t *candidate) round(n int) error {
	s := t.set
	s.mu.Lock()
	paths := roots.Wanted(s.key, func(path string) bool { return s.asked[path] })
	s.mu.Unlock()
	before := t.entries
	t.entries, t.status, t.missing, t.times = make(map[string]*diskcache.Entry), make(map[string]int), make(map[string]*memory), make(map[string]*asking)
	flights := make([]*flight, len(paths))
	for i, path := range paths {
		flights[i] = t.fly(path, n, t.known(before, path))
	}
	var failure error
	for i, f := range flights {
		<-f.landed
		if err := t.take(paths[i], f); err != nil && failure == nil {
			failure, t.memory = err, f.memory
		}
	}
	if failure != nil || t.plain {
		return failure
	}
	return t.compare()
}

// known is what the origin is asked to confirm.
func (t *candidate) known(before map[string]*diskcache.Entry, path string) *diskcache.Entry {
	if entry := before[path]; entry != nil {
		return entry
	}
	if t.old == nil {
		return nil
	}
	id, ok := t.old.files[path]
	if !ok {
		return nil
	}
	return t.e.store.Peek(id)
}

// fly asks for one root file. Purges know of the flight until the candidate is
// shown.
func (t *candidate) fly(path string, n int, old *diskcache.Entry) *flight {
	e, s := t.e, t.set
	c := s.site.call(path)
	c.candidate, c.set = true, s.id
	c.id = keyID(s.site.name, c.uri, "generation "+strconv.FormatInt(t.begun.UnixNano(), 36)+"."+strconv.Itoa(n)+strconv.FormatUint(rand.Uint64(), 36))
	f := &flight{
		call: c, id: c.id, old: old, begun: time.Now(), epoch: e.store.Epoch(), background: true, leaderGone: true, lent: true,
		ready: make(chan struct{}), landed: make(chan struct{}),
	}
	f.client = http.Header{}
	f.request = e.fetchHeader(&c, f.client)
	t.mu.Lock()
	t.flights = append(t.flights, f)
	t.mu.Unlock()
	e.enlive(f)
	e.launch(f)
	return f
}

// take notes what a flight brought.
func (t *candidate) take(path string, f *flight) error {
	t.status[path], t.times[path] = f.status, &f.times
	entry := f.entry
	switch f.verdict {
	case verdictFill:
		if entry = f.kept; entry == nil {
			switch err := f.fill.failure(); {
			case errors.Is(err, errRefused):
				t.plain = true
				return nil
			case err != nil:
				return err
			}
			return notOneSet(fmt.Errorf("%w: %s was purged while it came", roots.ErrMismatch, path))
		}
	case verdictEntry:
	case verdictMemory:
		t.missing[path] = f.memory
		return nil
	case verdictAlone:
		// Servers that do not tell what they have answer 403 for what is
		// missing.
		if f.status/100 != 4 || !t.isSignature(path) {
			t.plain = true
		}
		return nil
	case verdictError:
		return f.err
	}
	if f.old != nil && !entry.Is(f.old) && sameBody(entry, f.old) && f.old.State().Flags&flagPurged == 0 {
		t.e.store.Delete(entry) // of a server without validators
		entry = f.old
	}
	t.entries[path] = entry
	return nil
}

func (t *candidate) isSignature(path string) bool {
	for _, g := range roots.Groups(t.set.key) {
		if path == g.Signature {
			return true
		}
	}
	return false
}

// compare says whether the files belong together, and makes a generation of
// them.
func (t *candidate) compare() error {
	if len(t.entries) == 0 {
		return nil // there is no such set (any more)
	}
	files, done, err := rootFiles(t.entries)
	if err != nil {
		return &upstream.Error{Reason: upstream.StoreFull, Err: err} // the store lost them
	}
	defer done()
	g := &generation{files: make(map[string]diskcache.ID, len(t.entries)), missing: t.missing}
	for path, entry := range t.entries {
		g.files[path] = entry.ID()
	}
	if first := t.entries[roots.Groups(t.set.key)[0].File]; first != nil {
		g.modified, _ = http.ParseTime(first.Meta().Header.Get("Last-Modified"))
	}
	if t.wrong = t.isOlder(g); t.wrong {
		return &upstream.Error{Reason: upstream.GenerationConflict, Err: errOlder}
	}
	proof, err := roots.Check(t.set.key, files, t.set.site.keys)
	if errors.Is(err, roots.ErrMismatch) && t.set.doubted(validators(t.entries)) >= believedAfter &&
		t.set.site.keys == nil && !errors.Is(err, roots.ErrUnreadable) {
		proof, err = roots.Single, nil // nobody will mend them
	}
	t.wrong = err != nil
	if err == nil && proof == roots.Unproven {
		err = t.confirmFirst()
	}
	if err == nil && (proof == roots.Unproven || proof == roots.Single) {
		err = t.plausible(g)
	}
	if err == nil {
		var l *roots.Listing
		l, err = roots.List(t.set.key, files)
		t.wrong = err != nil
		g.listing.Store(l)
		g.validUntil = l.ValidUntil
	}
	if err != nil {
		return notOneSet(err)
	}
	t.gen = g
	return nil
}

// show makes the generation the one that is shown, in one step, and durable.
func (t *candidate) show() {
	e := t.e
	if t.plain {
		return
	}
	t.changed = !t.same()
	if t.held != nil {
		close(t.ready)
		<-t.held
	}
	if t.showed {
		return
	}
	if err := t.record(); err != nil {
		e.log.WarnContext(e.ctx, "generation not recorded", slog.Any("error", err))
		t.plain = true
		return
	}
	e.purgeMu.Lock()
	t.showLocked()
	e.purgeMu.Unlock()
}

// record writes to the store what will be shown. From here on a restart finds
// it; it is whole.
func (t *candidate) record() error {
	if t.gen == nil || !t.changed {
		return nil
	}
	t.listed = t.newlyListed()
	return t.e.saveGeneration(t.set, t.gen)
}

// same reports whether what was fetched is what is shown.
func (t *candidate) same() bool {
	if t.old == nil || t.gen == nil || len(t.old.files) != len(t.gen.files) {
		return t.old == nil && t.gen == nil
	}
	for path, id := range t.gen.files {
		if t.old.files[path] != id {
			return false
		}
	}
	return true
}

// showLocked does what show does in memory. purgeMu is held.
func (t *candidate) showLocked() {
	e, s := t.e, t.set
	t.align()
	if !t.isPurged() {
		for path, m := range t.missing {
			c := s.site.call(path)
			e.rememberAbsent(&c, m, m.arrived, c.policy.Negative)
		}
	}
	if !t.changed {
		if t.gen != nil {
			t.gen = t.old
		}
		return
	}
	s.current.Store(t.gen)
	if t.gen == nil {
		if entry := e.store.Peek(s.id); entry != nil {
			e.store.Delete(entry)
		}
	}
	// What is had like any other is not that of the new generation.
	for _, id := range e.names.members(s.site.name, s.key) {
		if entry := e.store.Peek(id); entry != nil {
			entry.Mark(markPurged)
		}
	}
	t.overtakeLocked()
}

// align gives all files the state by which they become stale in the same
// moment.
func (t *candidate) align() {
	purged := t.isPurged()
	var all diskcache.State
	for _, entry := range t.entries {
		st := entry.State()
		if all.Validated.IsZero() {
			all = st
			continue
		}
		if st.Validated.Before(all.Validated) {
			all.Validated = st.Validated
		}
		all.InitialAge, all.Lifetime = max(all.InitialAge, st.InitialAge), lifetime(all, st)
		all.Flags |= st.Flags
	}
	for _, entry := range t.entries {
		entry.Mark(func(st *diskcache.State) {
			st.Validated, st.InitialAge, st.Lifetime = all.Validated, all.InitialAge, all.Lifetime
			st.Flags |= all.Flags & (flagExplicit | flagViaCache | flagPurged)
			if purged {
				st.Flags |= flagPurged
			}
		})
	}
}

// lifetime is the shorter of those that were said.
func lifetime(a, b diskcache.State) time.Duration {
	switch {
	case a.Flags&flagExplicit == 0:
		return b.Lifetime
	case b.Flags&flagExplicit == 0:
		return a.Lifetime
	}
	return min(a.Lifetime, b.Lifetime)
}

// tidy drops what was fetched in vain and lets purges forget the flights.
func (t *candidate) tidy() {
	e := t.e
	shown := make(map[diskcache.ID]bool)
	for _, g := range [...]*generation{t.old, t.set.current.Load()} {
		if g == nil {
			continue
		}
		for _, id := range g.files {
			shown[id] = true
		}
	}
	t.mu.Lock()
	flights := t.flights
	t.flights = nil
	t.mu.Unlock()
	for _, f := range flights {
		if f.kept != nil && !shown[f.kept.ID()] {
			e.store.Delete(f.kept)
		}
		e.retire(f)
	}
}

// account notes how it went, for those who come next, the log and the metrics.
func (t *candidate) account() {
	e, s := t.e, t.set
	now := time.Now()
	reason := upstream.ReasonOf(t.err)
	s.mu.Lock()
	if s.task == t {
		s.task = nil
	}
	switch {
	case t.err == nil:
		s.err, s.wait = nil, 0
	case reason == upstream.GenerationConflict || reason == upstream.VerifyMismatch:
		s.wait = min(max(2*s.wait, conflictPause), maxConflictPause)
		s.err, s.until = t.err, now.Add(s.wait)
	default: // as for any other file whose origin fails
		s.err, s.until = t.err, now.Add(failingFor-time.Duration(rand.Int64N(int64(time.Second))))
	}
	if t.plain {
		s.plain = now.Add(plainFor)
	}
	s.mu.Unlock()
	name := strings.TrimSuffix(s.key.Root, "/") + " " + s.key.Kind
	switch {
	case t.err != nil:
		e.metrics.generations.WithLabelValues(s.key.Kind, string(reason)).Inc()
		level := slog.LevelWarn
		if t.old == nil && reason != upstream.GenerationConflict && reason != upstream.VerifyMismatch {
			level = slog.LevelDebug // as for any other file that cannot be had
		}
		e.log.Log(e.ctx, level, "new generation refused", slog.String("site", s.site.label()), slog.String("set", name), slog.Any("error", t.err))
	case t.gen != nil && t.changed:
		e.metrics.generations.WithLabelValues(s.key.Kind, "shown").Inc()
		e.log.InfoContext(e.ctx, "new generation", slog.String("site", s.site.label()), slog.String("set", name), slog.Int("files", len(t.gen.files)),
			slog.Duration("took", now.Sub(t.begun)))
	}
}

// call is what a request for the path would be; the path is clean, and a rule
// applies to it.
func (s *site) call(path string) call {
	c := call{site: s, path: path, uri: (&url.URL{Path: path}).EscapedPath(), policy: layout.PolicyOf(path)}
	c.id = keyID(s.name, c.uri, "")
	return c
}
