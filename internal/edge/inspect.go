package edge

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/httpcache"
)

// Inspection is the store of an edge that does not run. It is not safe for
// concurrent use.
type Inspection struct {
	store *diskcache.Inspection
	sites map[string]*site // by name; those of no configuration come as they are met
	size  int64
}

// OpenStore opens the store cfg.Store for inspection, with all that a start
// repairs; see [diskcache.Inspect]. Nothing else of cfg need be set; its sites
// say which of them have rules ([SiteConfig].Rules), which all others have, and
// Size is the limit that [Inspection.Stat] tells.
func OpenStore(ctx context.Context, cfg Config, log *slog.Logger) (*Inspection, error) {
	size := int64(cfg.Size)
	cfg = cfg.WithDefaults()
	i := &Inspection{size: size, sites: map[string]*site{"": {ruled: cfg.Rules != rulesNone}}}
	for name, site := range cfg.Sites {
		i.site(name).ruled = site.Rules != rulesNone
	}
	keys := func(m *diskcache.Meta) []diskcache.Key {
		if _, generation := strings.CutSuffix(m.Site, generationSite); generation {
			return nil
		}
		return i.site(m.Site).keysOf(m)
	}
	var err error
	i.store, err = diskcache.Inspect(ctx, cfg.Store, keys, log)
	return i, err
}

// Close gives the store up.
func (i *Inspection) Close() error { return i.store.Close() }

func (i *Inspection) site(name string) *site {
	s := i.sites[name]
	if s == nil {
		s = &site{name: name, ruled: true}
		i.sites[name] = s
	}
	return s
}

// Answer is a stored answer.
type Answer struct {
	// Site is the name of its site, "default" for the one without.
	Site string `json:"site"`
	// URI is path and query as they are sent to the origin. Of one URI there
	// may be several answers, for different request fields or, where files
	// change together, of different ages.
	URI string `json:"uri"`
	// Set is the root file of a record that says which files of a set are
	// shown, which has no URI.
	Set string `json:"set,omitempty"`
	// Status is the HTTP status, Size the length of the body in bytes.
	Status int   `json:"status"`
	Size   int64 `json:"size"`
	// Class is "fixed" if the name binds the bytes, else "changeable".
	Class string `json:"class"`
	// InFile says that the body has a file of its own.
	InFile bool `json:"in_file"`
	// Validated is when it arrived or was last confirmed by the origin.
	Validated time.Time `json:"validated"`
	// State is "fresh", "stale", "purged" (asked for again before its next use)
	// or "unknown" (as purged, for its state was damaged or lost), by the
	// lifetimes that hold while no event log of a hub is followed. The record
	// of a set has none.
	State string `json:"state,omitempty"`
	// Age and Remaining are in whole seconds; Remaining is until it is stale,
	// 0 if it is not fresh.
	Age       int64 `json:"age"`
	Remaining int64 `json:"remaining"`
}

// States of an [Answer].
const (
	StateFresh   = "fresh"
	StateStale   = "stale"
	StatePurged  = "purged"
	StateUnknown = "unknown"
)

// Classes of an [Answer].
const (
	ClassFixed      = "fixed"
	ClassChangeable = "changeable"
)

// Selected says which answers are meant.
type Selected struct {
	// Site is the name of one, "default" for the one without; empty: all.
	Site string
	// URIs and Prefixes are of URIs as [Answer] has them; neither: all answers.
	URIs, Prefixes []string
}

func (s *Selected) means(site string, m *diskcache.Meta) bool {
	if s.Site != "" && s.Site != site {
		return false
	}
	return len(s.URIs)+len(s.Prefixes) == 0 || slices.Contains(s.URIs, m.URI) ||
		slices.ContainsFunc(s.Prefixes, func(prefix string) bool { return m.URI != "" && strings.HasPrefix(m.URI, prefix) })
}

// Answers yields the stored answers that are meant, in the order in which they
// lie on the disk. What was purged for good is not among them. When ctx ends,
// the rest is left out.
func (i *Inspection) Answers(ctx context.Context, sel Selected) iter.Seq[Answer] {
	return func(yield func(Answer) bool) {
		for a := range i.answers(ctx, sel) {
			if !yield(a) {
				return
			}
		}
	}
}

func (i *Inspection) answers(ctx context.Context, sel Selected) iter.Seq2[Answer, *diskcache.Entry] {
	return func(yield func(Answer, *diskcache.Entry) bool) {
		now := time.Now()
		for entry := range i.store.Entries(ctx) {
			m := entry.Meta()
			name, generation := strings.CutSuffix(m.Site, generationSite)
			s := i.site(name)
			if sel.means(s.label(), m) && !yield(i.answer(s, entry, generation, now), entry) {
				return
			}
		}
	}
}

func (i *Inspection) answer(s *site, entry *diskcache.Entry, generation bool, now time.Time) Answer {
	m, st := entry.Meta(), entry.State()
	a := Answer{
		// The strings of a Meta hold the whole of it in memory.
		Site: s.label(), URI: strings.Clone(m.URI), Status: m.Status, Size: entry.Size(),
		Class: ClassChangeable, InFile: entry.InFile(), Validated: st.Validated, State: StateFresh,
	}
	if m.Fixed {
		a.Class = ClassFixed
	}
	if !st.Validated.IsZero() {
		a.Age = int64(st.Age(now) / time.Second)
	}
	if st.Flags == ^uint32(0) {
		a.State = StateUnknown
		return a
	}
	if generation {
		a.Set, a.State = strings.Clone(m.Path), ""
		return a
	}
	c := s.stored(m)
	fresh := c.freshness(st, httpcache.Freshness{Age: st.Age(now)})
	switch {
	case st.Flags&flagPurged != 0:
		a.State = StatePurged
	case fresh.NoCache || fresh.Lifetime <= fresh.Age:
		a.State = StateStale
	default:
		a.Remaining = int64((fresh.Lifetime - fresh.Age) / time.Second)
	}
	return a
}

// Remove removes the answers that are meant, durably, and calls each with
// every one of them. With dry it removes nothing. When ctx ends, it returns
// its error, and what was removed stays so.
func (i *Inspection) Remove(ctx context.Context, sel Selected, dry bool, each func(Answer) error) error {
	for a, entry := range i.answers(ctx, sel) {
		if err := each(a); err != nil {
			return err
		}
		if !dry {
			i.store.Delete(entry)
		}
	}
	if !dry {
		if err := i.store.Sync(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Extent is how many bytes [Inspection.Check] is going to read, about.
func (i *Inspection) Extent() int64 { return i.store.Extent() }

// Check compares all checksums; see [diskcache.Inspection.Check].
func (i *Inspection) Check(ctx context.Context, step func(int64), report func(diskcache.Damage)) (diskcache.Checked, error) {
	return i.store.Check(ctx, step, report)
}

// Part is how many answers there are of a kind, and the bytes of their bodies.
type Part struct {
	Answers int   `json:"answers"`
	Bytes   int64 `json:"bytes"`
}

// StoreStat is what a store holds.
type StoreStat struct {
	// Answers can be read; Gone are other entries, which were purged for good
	// or are damaged, and go when room is needed.
	Answers int `json:"answers"`
	Gone    int `json:"gone"`
	// Bodies are the bytes of the answers' bodies, Disk what all files take,
	// Limit what they may take by the configuration, 0 if it is not known.
	Bodies int64 `json:"bodies"`
	Disk   int64 `json:"disk"`
	Limit  int64 `json:"limit,omitempty"`
	// Sites, Classes, Statuses and States have parts of Answers.
	Sites    map[string]Part `json:"sites"`
	Classes  map[string]Part `json:"classes"`
	Statuses map[int]Part    `json:"statuses"`
	States   map[string]Part `json:"states"`
	// Oldest and Newest are when an answer was last confirmed by its origin;
	// zero if nothing is known of any.
	Oldest time.Time `json:"oldest,omitzero"`
	Newest time.Time `json:"newest,omitzero"`
	// Bans are purges that are still to be compared with answers, Memory what
	// the index takes of it, in bytes.
	Bans   int   `json:"bans"`
	Memory int64 `json:"memory"`
	// Segments is the number of files with short answers, Files that of long
	// bodies, and what these take on the disk.
	Segments   int   `json:"segments"`
	Files      int   `json:"files"`
	FilesBytes int64 `json:"files_bytes"`
}

// Stat reads every answer and counts. When ctx ends, it returns its error.
func (i *Inspection) Stat(ctx context.Context) (StoreStat, error) {
	was := i.store.Stat()
	st := StoreStat{
		Disk: was.Used, Limit: i.size, Bans: i.store.Bans(), Memory: was.Memory, Segments: was.Segments,
		Sites: make(map[string]Part), Classes: make(map[string]Part), Statuses: make(map[int]Part), States: make(map[string]Part),
	}
	st.Files, st.FilesBytes = i.store.Large()
	for a := range i.Answers(ctx, Selected{}) {
		st.Answers++
		st.Bodies += a.Size
		add(st.Sites, a.Site, a.Size)
		add(st.Classes, a.Class, a.Size)
		add(st.Statuses, a.Status, a.Size)
		if a.State != "" {
			add(st.States, a.State, a.Size)
		}
		if a.Validated.IsZero() {
			continue
		}
		if st.Oldest.IsZero() || a.Validated.Before(st.Oldest) {
			st.Oldest = a.Validated
		}
		if a.Validated.After(st.Newest) {
			st.Newest = a.Validated
		}
	}
	st.Gone = was.Entries - st.Answers
	return st, ctx.Err()
}

func add[K comparable](parts map[K]Part, key K, size int64) {
	p := parts[key]
	p.Answers++
	p.Bytes += size
	parts[key] = p
}
