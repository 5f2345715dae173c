package versions

import (
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
)

// repository is one that is followed.
type repository struct {
	key
	area
	spec directorapi.Repository
	// kick asks for a look before the next is due.
	kick chan struct{}
	// told is kick by somebody who knows that there is something to see.
	told chan struct{}
	// fresh is for how long it counts what a mirror was seen with.
	fresh time.Duration
	log   *slog.Logger
	// shown is what readers see; never nil.
	shown atomic.Pointer[shown]

	mu      sync.Mutex
	history history
	seen    map[string]*sighting // by mirror
	// complete are the holders of all files of the version completeOf.
	complete   inventory.Set
	completeOf sum
	holds      int       // that no mirror is offered; see hold
	asked      time.Time // when the origin last answered
	err        error     // why it did not, or why the version is not known whole

	work work
}

// shown is what readers see of a repository. It does not change.
type shown struct {
	offered inventory.Set
	// names are what is known of the names whose content changes, in the current
	// version.
	names map[string]fact
	files int // of the current version, 0 if they are not known
}

// fact is what is known of a file.
type fact struct {
	size   int64
	sha256 [32]byte
}

// work is the state of the goroutine that follows the repository.
type work struct {
	tag string // of the pointer that was read last
	sum sum    // and its sum
	// listed is the version that the list on the disk is of, and unlisted one that
	// has none, because something in it cannot be read here.
	listed, unlisted sum
	failures         int       // to read a list, one after the other
	retry            time.Time // when to read it again
	// passed is what the last pass over the list was made with.
	passed struct {
		serial  uint64
		version sum
	}
	// taught is of which version, and to which listing of the origin, the hashes were
	// last told.
	taught struct {
		version sum
		listed  time.Time
	}
	away int // how many times the origin did not answer, one after the other
}

func newRepository(k key, spec directorapi.Repository, log *slog.Logger) *repository {
	r := &repository{key: k, area: newArea(spec), spec: spec, kick: make(chan struct{}, 1), told: make(chan struct{}, 1), fresh: hold, seen: make(map[string]*sighting)}
	r.log = log.With(slog.String("project", k.project), slog.String("repository", k.pointer))
	r.shown.Store(&shown{})
	return r
}

// hasten makes the next look come soon.
func (r *repository) hasten() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// tell makes the next look come now.
func (r *repository) tell() {
	select {
	case r.told <- struct{}{}:
	default:
	}
}

// lacks tells whether a mirror shows the current version and is not offered.
func (r *repository) lacks(inv *inventory.Inventory, mirror string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.seen[mirror]
	if m == nil {
		return false
	}
	if why, _ := m.standing(&r.history, time.Now(), r.fresh); why != Current {
		return false
	}
	h, ok := inv.Lookup(mirror)
	return ok && !r.shown.Load().offered.Has(h)
}

// find returns what readers may use of a name.
func (r *repository) find(tree *inventory.Tree, name string) inventory.File {
	s := r.shown.Load()
	if f, ok := s.names[name]; ok {
		return inventory.File{Size: f.size, SHA256: f.sha256, Holders: s.offered}
	}
	// It is no part of the version: who has it must be known in another way.
	f, ok := tree.Find(name)
	if !ok {
		return inventory.File{Size: -1}
	}
	f.Holders = f.Holders.And(s.offered)
	return f
}

// show replaces what readers see.
func (r *repository) show(change func(*shown)) {
	s := *r.shown.Load()
	change(&s)
	r.shown.Store(&s)
}

// settle makes the mirrors that are offered those that may be. Without grow none is
// added; the answer is whether one would be. The caller holds mu.
func (r *repository) settle(inv *inventory.Inventory, now time.Time, grow bool) (more bool) {
	var may []inventory.Holder
	version := r.history.current()
	if version.Serial != 0 && r.holds == 0 && r.completeOf == version.Sum && !now.Before(version.NotBefore) {
		for name, m := range r.seen {
			if why, _ := m.standing(&r.history, now, r.fresh); why != Current {
				continue
			}
			if h, ok := inv.Lookup(name); ok && r.complete.Has(h) {
				may = append(may, h)
			}
		}
	}
	set, had := inventory.SetOf(may...), r.shown.Load().offered
	if !grow {
		all := set
		set = all.And(had)
		more = set != all
	}
	if set != had {
		r.show(func(s *shown) { s.offered = set })
	}
	return more
}

// begin makes a version that was just seen the one that readers see: what is known of it
// is its pointer. The caller holds mu.
func (r *repository) begin(s sum, size int64) {
	r.show(func(now *shown) {
		*now = shown{names: map[string]fact{r.pointer: {size: size, sha256: s}}}
	})
	r.err = nil
	r.work.failures, r.work.retry = 0, time.Time{}
}

// candidates returns the mirrors that show the current version, and when they began to.
func (r *repository) candidates(now time.Time) map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := make(map[string]time.Time)
	for name, m := range r.seen {
		if why, _ := m.standing(&r.history, now, r.fresh); why == Current || why == WentBack && m.sum == r.history.current().Sum {
			found[name] = m.since
		}
	}
	return found
}

// saved is what a restart has to know.
func (r *repository) saved() savedRepository {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := savedRepository{Project: r.project, Pointer: r.pointer, history: r.history}
	s.Versions = append([]version(nil), r.history.Versions...)
	for name, m := range r.seen {
		if !m.back.IsZero() {
			if s.WentBack == nil {
				s.WentBack = make(map[string]time.Time)
			}
			s.WentBack[name] = m.back
		}
		if m.listed && m.sum != (sum{}) {
			if s.Listed == nil {
				s.Listed = make(map[string]savedListing)
			}
			s.Listed[name] = savedListing{m.sum, m.since, m.at}
		}
	}
	return s
}

// restore is the opposite.
func (r *repository) restore(s savedRepository) {
	r.history = s.history
	for name, at := range maps.All(s.WentBack) {
		r.seen[name] = &sighting{back: at}
	}
	for name, l := range s.Listed { // none, unless listings count
		if r.seen[name] == nil {
			r.seen[name] = new(sighting)
		}
		m := r.seen[name]
		m.sum, m.since, m.at, m.listed = l.Sum, l.Since, l.At, true
		m.newest = r.history.serial(l.Sum)
	}
	if current := r.history.current(); current.Serial != 0 {
		r.begin(current.Sum, -1)
	}
}
