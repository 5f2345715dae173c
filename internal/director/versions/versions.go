package versions

import (
	"context"
	"log/slog"
	"sync"

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
	news  chan struct{} // the catalogue has changed
	dirty chan struct{} // there is something to save

	mu sync.Mutex
}

// Open returns Versions that remember what is in the folder.
func Open(opt Options) (*Versions, error) {
	return &Versions{opt: opt, news: make(chan struct{}, 1), dirty: make(chan struct{}, 1)}, nil
}

// SetCatalogue says which repositories there are. What is known of one that stays is
// kept.
func (v *Versions) SetCatalogue(c *directorapi.Catalogue) {}

// Run follows the origins until ctx ends. It is called once.
func (v *Versions) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
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
	return inventory.File{}, false
}

// Current returns the SHA-256 of the pointer that the origin shows, as far as that is
// followed: of the version that mirrors should have.
func (v *Versions) Current(project, repository string) (sum [32]byte, known bool) {
	return sum, false
}

// Saw tells which pointer a mirror showed. The zero sum: none, or not the same everywhere.
func (v *Versions) Saw(mirror, project, repository string, sum [32]byte, at time.Time) {}

// Hasten says that a project has changed at the origin, or what is known of its mirrors:
// repositories with the path in their folder are looked at now. Empty: all.
func (v *Versions) Hasten(project, path string) {}

// Behind tells why a mirror is not offered for a repository, [Current] if it is, and
// since when it is so: for a mirror that shows an older version, since when there is a
// newer one. The time is zero if it is not known.
func (v *Versions) Behind(mirror, project, repository string) (why Reason, since time.Time) {
	return Unseen, time.Time{}
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
	// Settling: the origin's own version is in doubt, or has not been read yet.
	Settling Reason = "settling"
)
