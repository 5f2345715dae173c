package versions

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/durable"
	"freshet/internal/inventory"
)

// Options are what versions are known by. Inventory, Origin and Dir are needed.
type Options struct {
	// Inventory knows what mirrors have.
	Inventory *inventory.Inventory
	// Origin is where the files of projects are read.
	Origin Origin
	// Dir is a folder for what is remembered, used by nobody else.
	Dir durable.Dir
	// Trust takes the word of listings for what pointers mirrors show, see
	// [Versions.Listed], and is for how long one counts. 0: only what was seen counts.
	Trust time.Duration
	// Every is how often the origin is asked for each pointer; 0: every minute.
	Every time.Duration
	// Hasten asks for a scan soon, of a mirror or, by the empty name, of the origin;
	// why is a word for the log. It must not wait. Nil: nobody is asked.
	Hasten func(mirror, project, why string)
	// Log receives what changes. Nil: discarded.
	Log *slog.Logger
}

// Versions follows the repositories of a catalogue. Make it with [Open]. Any goroutine
// may call its methods, of which none but Run waits for anything.
//
// A repository of a project is called by the path of its pointer there
// ([directorapi.Repository.PointerPath]).
type Versions struct {
	opt   Options
	view  atomic.Pointer[view]
	news  chan struct{} // the catalogue has changed
	dirty chan struct{} // there is something to save

	mu     sync.Mutex
	repos  map[key]*repository
	former map[key]savedRepository // of repositories that are not in the catalogue
}

// key names a repository.
type key struct{ project, pointer string }

// view finds the repositories that a path may be of: by project, and by the folder that
// the names of a repository are below. It does not change.
type view map[string]map[string][]*repository

// Open returns Versions that remember what is in the folder. If that cannot be made sense
// of, nothing is remembered, and the log says so.
func Open(opt Options) (*Versions, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	v := &Versions{opt: opt, news: make(chan struct{}, 1), dirty: make(chan struct{}, 1), repos: make(map[key]*repository)}
	v.view.Store(&view{})
	if _, err := opt.Dir.Sweep("."); err != nil {
		return nil, fmt.Errorf("versions of repositories: %w", err)
	}
	saved, err := loadState(opt.Dir, time.Now())
	if _, foreign := errors.AsType[*fs.PathError](err); foreign {
		return nil, fmt.Errorf("versions of repositories: %w", err)
	}
	if err != nil {
		opt.Log.Error("what was known of versions of repositories cannot be read, and is forgotten", slog.Any("error", err))
	}
	if v.former = saved; v.former == nil {
		v.former = make(map[key]savedRepository)
	}
	return v, nil
}

// SetCatalogue says which repositories there are. What is known of one that stays is
// kept.
func (v *Versions) SetCatalogue(c *directorapi.Catalogue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	repos := make(map[key]*repository)
	byFolder := make(view)
	for _, p := range c.Projects {
		if p.Disabled {
			continue
		}
		for _, spec := range p.Repositories {
			k := key{p.Name, spec.PointerPath()}
			if k.pointer == "" || repos[k] != nil {
				continue // the catalogue's check has said so
			}
			r := v.repos[k]
			if r == nil || r.spec != spec {
				r = v.newRepository(k, spec)
			}
			repos[k] = r
			if byFolder[p.Name] == nil {
				byFolder[p.Name] = make(map[string][]*repository)
			}
			byFolder[p.Name][r.folder] = append(byFolder[p.Name][r.folder], r)
		}
	}
	for k, r := range v.repos {
		if repos[k] == nil {
			v.former[k] = r.saved()
		}
	}
	v.repos = repos
	v.view.Store(&byFolder)
	select {
	case v.news <- struct{}{}:
	default:
	}
}

// newRepository makes one, with what is known of it. The caller holds mu.
func (v *Versions) newRepository(k key, spec directorapi.Repository) *repository {
	r := newRepository(k, spec, v.opt.Log)
	if v.opt.Trust > 0 {
		r.fresh = v.opt.Trust
	}
	if was := v.repos[k]; was != nil { // its kind or folder is another one
		r.restore(was.saved())
	} else if was, ok := v.former[k]; ok {
		r.restore(was)
	}
	delete(v.former, k)
	return r
}

// Allowed returns the mirrors that a client may be sent to for a path of a project.
// Mutable says that the path is a name of a repository whose content changes with its
// versions; then no other mirror may be used, and if there is none in the set, the
// origin. For every other path who has the file according to the inventory may be used,
// and the set is empty.
func (v *Versions) Allowed(project, path string) (set inventory.Set, mutable bool) {
	f, mutable := v.Find(project, path)
	return f.Holders, mutable
}

// Find is Allowed, with what is known of the file in the current version: its Size is -1
// and its SHA256 zero if it is not known.
func (v *Versions) Find(project, path string) (f inventory.File, mutable bool) {
	byFolder := (*v.view.Load())[project]
	if byFolder == nil {
		return f, false
	}
	for i := strings.LastIndexByte(path, '/'); ; i = strings.LastIndexByte(path[:max(i, 0)], '/') {
		for _, r := range byFolder[path[:i+1]] {
			if r.has(path) {
				return r.find(v.opt.Inventory.Project(project), path), true
			}
		}
		if i < 0 {
			return f, false
		}
	}
}

// get returns a repository, nil if there is none.
func (v *Versions) get(project, pointer string) *repository {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.repos[key{project, pointer}]
}

// Current returns the SHA-256 of the pointer that the origin shows, as far as that is
// followed: of the version that mirrors should have.
func (v *Versions) Current(project, repository string) (sum [32]byte, known bool) {
	r := v.get(project, repository)
	if r == nil {
		return sum, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	current := r.history.current()
	return current.Sum, current.Serial != 0
}

// Saw tells which pointer a mirror showed. The zero sum: none, or not the same everywhere.
func (v *Versions) Saw(mirror, project, repository string, sum [32]byte, at time.Time) {
	r := v.get(project, repository)
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.seen[mirror]
	if m == nil {
		m = &sighting{}
		r.seen[mirror] = m
	}
	if m.saw(&r.history, sum, at) {
		r.log.Info("a mirror went back to an older version of a repository", slog.String("mirror", mirror))
		v.save()
	}
	// It may have to be added, or is ahead of what is known of the origin.
	news := sum != [32]byte{} && m.since.Equal(at)
	h, ok := v.opt.Inventory.Lookup(mirror)
	had := ok && r.shown.Load().offered.Has(h)
	if r.settle(v.opt.Inventory, time.Now(), false) || news {
		r.hasten()
	}
	if had && !r.shown.Load().offered.Has(h) {
		r.hold()
	}
}

// Hasten says that a project has changed at the origin: repositories whose folder the path
// is in are looked at now, within half a second. Empty: all.
func (v *Versions) Hasten(project, path string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for k, r := range v.repos {
		if k.project == project && (path == "" || strings.HasPrefix(path, r.spec.Path)) {
			r.tell()
		}
	}
}

// Heard says that it is known anew which files of a project a mirror has: repositories for
// which it may be offered by that are looked at now.
func (v *Versions) Heard(mirror, project string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for k, r := range v.repos {
		if k.project == project && r.lacks(v.opt.Inventory, mirror) {
			r.tell()
		}
	}
}

// Behind tells why a mirror is not offered for a repository, [Current] if it is, and
// since when it is so: for a mirror that shows an older version, since when there is a
// newer one. The time is zero if it is not known.
func (v *Versions) Behind(mirror, project, repository string) (why Reason, since time.Time) {
	r := v.get(project, repository)
	if r == nil {
		return Unseen, time.Time{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.seen[mirror]
	if m == nil {
		return Unseen, time.Time{}
	}
	now, version := time.Now(), r.history.current()
	if why, since = m.standing(&r.history, now, r.fresh); why != Current {
		return why, since
	}
	h, ok := v.opt.Inventory.Lookup(mirror)
	switch {
	case ok && r.shown.Load().offered.Has(h):
		return Current, since
	case r.completeOf != version.Sum || now.Before(version.NotBefore) || ok && r.complete.Has(h):
		return Settling, version.Since
	}
	return Incomplete, version.Since
}

// Status is what is known of a repository.
type Status struct {
	Project, Repository string
	// Version is the SHA-256 of the pointer, and Since since when it is the current
	// one. Zero: the origin was never seen with one.
	Version [32]byte
	Since   time.Time
	// Asked is when the origin last showed its pointer, since the start.
	Asked time.Time
	// Files is how many the version has, 0 if they are not known.
	Files int
	// Offered are the mirrors.
	Offered inventory.Set
	// Err is why the origin's pointer, or the version, could not be read, nil if they
	// were.
	Err error
}

// Status returns what is known of all repositories, sorted.
func (v *Versions) Status() []Status {
	v.mu.Lock()
	repos := slices.Collect(maps.Values(v.repos))
	v.mu.Unlock()
	all := make([]Status, 0, len(repos))
	for _, r := range repos {
		r.mu.Lock()
		current, shown := r.history.current(), r.shown.Load()
		all = append(all, Status{
			Project: r.project, Repository: r.pointer, Version: current.Sum, Since: current.Since,
			Asked: r.asked, Files: shown.files, Offered: shown.offered, Err: r.err,
		})
		r.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Repository, b.Repository))
	})
	return all
}

// Reason is why a mirror is not offered for a repository.
type Reason string

// The reasons.
const (
	// Current: it is offered.
	Current Reason = "current"
	// Unseen: it was not seen with a pointer in the last hour.
	Unseen Reason = "unseen"
	// Older: it shows a version that was superseded.
	Older Reason = "older"
	// Unknown: it shows a pointer that the origin was never seen with, or none.
	Unknown Reason = "unknown"
	// Incomplete: it shows the current version, and does not have all of it.
	Incomplete Reason = "incomplete"
	// WentBack: it was seen to go back to an older version, and has not shown the
	// current one for long enough.
	WentBack Reason = "went-back"
	// Settling: it is not known yet who has all of the current version, or nobody may
	// be sent to it yet.
	Settling Reason = "settling"
)
