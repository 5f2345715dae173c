package serve

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"freshet/internal/durable"
	"freshet/internal/h1"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/status"
	"freshet/internal/page"
	"freshet/internal/role"
	"freshet/web"
)

// Base is the path below which a mirror serves what is of its own. No project can have
// this name.
const Base = "/.freshet"

// Options are what a site is told.
type Options struct {
	// Object opens a file by its SHA-256, see [generation.Store.Object]. Nil: no file is
	// served by its hash.
	Object func(sum [32]byte) (*os.File, error)
	// Asked is told of each request for a file of a project, by its path in the project,
	// whether there is such a file or not. It is called by many goroutines, and returns at
	// once. Nil: nobody is told.
	Asked func(project, path string)
	// HTTP asks for files that are passed on, see [Site.Show]; nil: the default transport.
	HTTP http.RoundTripper
	// Status tells how the mirror is, for everybody; nil, or if it returns nil: that is not
	// told. It returns soon, and what it returns is not changed.
	Status func() *status.Status
	// State is a folder in which it is noted for some minutes what clients read, with their
	// addresses, so that who goes on after a restart or a kill goes on with the same
	// generation. The zero value: nothing is noted.
	State durable.Dir
	// MaxOpen is how many files are kept open; 0: 4,096.
	MaxOpen int
	// Memory is how many bytes of files that are asked for often are kept in memory; 0:
	// 32 MiB.
	Memory int64
	// MaxListings is how many bytes of long listings are on their way at once; 0: 256 MiB.
	MaxListings int64
	// Access records the requests that are answered at once. It must also be wrapped
	// around [Site.ServeHTTP], by whoever serves.
	Access *role.Access
	// Log is told of what is wrong on this side. Nil: nothing.
	Log *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Site serves the projects of a mirror. It is an [http.Handler] and, for requests whose
// answer is at hand, an [h1.Watcher].
type Site struct {
	opts     Options
	projects atomic.Pointer[map[string]*generation.Project]
	open     *openFiles
	settled  settlement
	listings chan struct{}       // one for each that is being made
	sending  *semaphore.Weighted // bytes of long listings that are on their way
	waiting  chan struct{}       // one for each answer that is held back
	closing  chan struct{}       // closed when nothing is held back any more
	deltas   *deltas
	hasten   sync.Once
	pages    *page.Set
	through  atomic.Pointer[map[string]http.Handler]
	date     date
	records  sync.Pool // of *accesslog.Record
}

var (
	_ http.Handler = (*Site)(nil)
	_ h1.Watcher   = (*Site)(nil)
)

// maxListings is how many listings are made at once. A folder may have a hundred
// thousand files.
const maxListings = 4

// New prepares a site without projects.
func New(opts Options) (*Site, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	pages, err := page.Open(web.Files(), "mirror", Base, opts.Now)
	if err != nil {
		return nil, fmt.Errorf("mirror's pages: %w", err)
	}
	s := &Site{
		opts: opts, open: newOpenFiles(opts.MaxOpen, opts.Memory), pages: pages,
		listings: make(chan struct{}, maxListings), sending: semaphore.NewWeighted(cmp.Or(opts.MaxListings, defaultMaxListings)), waiting: make(chan struct{}, maxWaiting), closing: make(chan struct{}),
		deltas: newDeltas(),
	}
	s.Show(nil, nil)
	if opts.State.Root != nil {
		if err := s.settled.recall(opts.State, opts.Now()); err != nil {
			opts.Log.Error("what clients were reading is not known: some may begin anew", slog.Any("error", err))
		}
		s.settled.noted = openReaders(opts.State, opts.Now())
	}
	return s, nil
}

// Show serves these projects from now on, each below its name. Through are the URLs by
// which the files of a project, by its name, are had that it does not hold: payload of a
// hot set.
func (s *Site) Show(projects []*generation.Project, through map[string]*url.URL) {
	handlers := make(map[string]http.Handler, len(through))
	for project, to := range through {
		handlers[project] = s.newThrough(project, to, s.opts.HTTP)
	}
	s.through.Store(&handlers)
	byName := make(map[string]*generation.Project, len(projects))
	for _, p := range projects {
		byName[p.Name()] = p
	}
	s.projects.Store(&byName)
	s.open.clear() // of a project that is gone
}

// Hasten answers those who wait for a switch, now and from now on at once: the process is
// about to end.
func (s *Site) Hasten() { s.hasten.Do(func() { close(s.closing) }) }

// CloseStale closes files of older generations that are kept open. The disk has the room
// of a file that was removed when nobody has it open any more.
func (s *Site) CloseStale() { s.open.closeStale() }

// Forget closes the files that are kept open: one of them may have been taken out of
// service though its generation is still current.
func (s *Site) Forget() { s.open.clear() }

// Close closes the files that are kept open, and ends the notes. Nothing is served any more.
func (s *Site) Close() {
	s.open.clear()
	if s.settled.noted != nil {
		s.settled.noted.close()
	}
}
