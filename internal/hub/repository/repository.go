package repository

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"freshet/internal/flatpak"
	"freshet/internal/keyfile"
	"freshet/internal/ostree"
	"freshet/internal/store"
)

// Repository is an open repository. Its methods may be called concurrently; one
// Publish runs at a time, the next waits.
type Repository struct {
	opt     Options
	log     *slog.Logger
	store   *store.Store
	root    *os.Root
	objects *ostree.Repo

	// publishing is held by whoever changes the repository and what is known of it.
	publishing chan struct{}
	index      flatpak.Index
	unsaved    map[string]bool // refs that the Cache does not know as they are

	after uint64 // a number below that of the next publish

	owed []owed // publishes that commit functions did not take

	stale atomic.Pointer[staleness] // nil: it is up to date with the options

	known atomic.Pointer[flatpak.Snapshot] // what index knows of what is published, for others

	buildsMu sync.Mutex
	builds   map[int64]*Build
	temps    atomic.Uint64 // names given to temporary files of builds
	stamped  atomic.Int64  // how many objects the builds remember

	maxStamps int64 // how many they may
}

// owed is a publish that the caller was told of in vain; the next one tells it
// once more.
type owed struct {
	changed, removed []string
	done             func() error
}

// Pending is a publish that was completed without anybody knowing: the process
// ended between the change of the files and the end of the commit function, or
// Open found the files half changed and completed them, or Open itself brought the
// summaries up to date.
type Pending struct {
	Result

	confirm func() error
}

// Confirm forgets the publish. It is called when what the commit function would
// have done is done.
func (p Pending) Confirm() error { return p.confirm() }

// Open opens the repository, or creates an empty one. It removes what a killed
// process left behind, completes publishes that had begun to change the
// pointers, reads the commits that the cache does not know, and brings summaries
// and catalogue up to date with the refs and the options. Commits and summaries
// that were signed with other keys get signatures of the present ones. Another
// collection id than that of the commits is ErrCollection. The pending publishes
// are in the order in which they happened.
//
// With [Options.Instance] several processes have the repository open. All serve it
// and take builds for it; before one publishes, it calls Lead. Open then repairs
// nothing, and there is nothing pending. One that is not there yet is opened by one
// process at a time.
func Open(ctx context.Context, opt Options, cache Cache) (*Repository, []Pending, error) {
	r, pending, err := open(ctx, opt, cache)
	if err != nil {
		return nil, nil, fmt.Errorf("open repository %s: %w", opt.Name, err)
	}
	return r, pending, nil
}

func open(ctx context.Context, opt Options, cache Cache) (_ *Repository, _ []Pending, err error) {
	if err := opt.validate(); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(opt.BuildsDir, 0o755); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(filepath.Dir(opt.Dir), 0o755); err != nil {
		return nil, nil, err
	}
	r := &Repository{
		opt:        opt,
		log:        opt.Log,
		after:      opt.AfterSerial,
		publishing: make(chan struct{}, 1),
		unsaved:    map[string]bool{},
		builds:     map[int64]*Build{},
		maxStamps:  maxStamps,
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.log = r.log.With(slog.String("repository", opt.Name))
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	reconfigured, err := r.openFiles(ctx)
	if err != nil {
		return nil, nil, err
	}
	if r.objects, err = openArchive(opt.Dir); err != nil {
		return nil, nil, err
	}
	if err := r.opt.adopt(r.objects.Config()); err != nil {
		return nil, nil, fmt.Errorf("config: %w", err)
	}
	if err := r.sweepBuilds(); err != nil {
		return nil, nil, err
	}
	if opt.Instance == "" {
		pending, err := r.begun(ctx, cache, reconfigured)
		return r, pending, err
	}
	return r, nil, r.follow(ctx, cache)
}

// pending decodes what the store has not seen confirmed.
func (r *Repository) pending() ([]Pending, error) {
	var all []Pending
	for _, intent := range r.store.Pending() {
		if len(intent.Note) == 0 { // only the config
			if err := r.store.Done(intent.ID); err != nil {
				return nil, err
			}
			continue
		}
		p := Pending{confirm: func() error { return r.store.Done(intent.ID) }}
		if err := json.Unmarshal(intent.Note, &p.Result); err != nil {
			return nil, fmt.Errorf("note of an unconfirmed publish: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// Close waits for a running publish and frees the files. Nothing may be
// called afterwards.
func (r *Repository) Close() error {
	r.publishing <- struct{}{}
	var err error
	if r.root != nil {
		err = r.root.Close()
	}
	if r.store == nil {
		return err
	}
	return errors.Join(err, r.store.Close())
}

// OpenFile opens a file of the repository by its slash-separated path. Pointers
// are switched all at once: of two calls, the second never sees an older publish
// than the first. An absent file, a folder and a path that leads elsewhere
// are fs.ErrNotExist.
func (r *Repository) OpenFile(path string) (*os.File, error) {
	if hidden(path) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	f, err := r.store.Open(path)
	if err != nil {
		return nil, absent(path, err)
	}
	return f, nil
}

// Heads returns the number of refs, appstream branches included.
func (r *Repository) Heads() int { return r.known.Load().Len() }

// Index walks over what is published: every ref by name with what the summaries
// say of its commit. All of it is of one moment, and a running publish does not
// hold it up. What it yields must not be changed.
func (r *Repository) Index(yield func(flatpak.CommitInfo) bool) { r.known.Load().All(yield) }

// Snapshot returns the refs and the static deltas that are published now.
func (r *Repository) Snapshot() *flatpak.Snapshot { return r.known.Load() }

// acquire waits for a running publish.
func (r *Repository) acquire(ctx context.Context) (release func(), err error) {
	select {
	case r.publishing <- struct{}{}:
		return func() { <-r.publishing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// sweepBuilds removes unfinished uploads from the builds of this repository.
// Other folders may be builds of others, in use.
func (r *Repository) sweepBuilds() error {
	dir, err := filepath.Abs(r.opt.Dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(r.opt.BuildsDir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		build := filepath.Join(r.opt.BuildsDir, entry.Name())
		data, err := os.ReadFile(filepath.Join(build, configFile))
		if err != nil {
			continue // not a build, or one that is on its way
		}
		config, err := keyfile.Parse(data)
		if err != nil {
			continue
		}
		if parent, _ := config.Get(groupCore, "parent"); parent != dir {
			continue
		}
		if err := sweep(build, r.opt.uploadPrefix()); err != nil {
			return fmt.Errorf("sweep build %s: %w", entry.Name(), err)
		}
	}
	return nil
}

// MissingError says that an object that a ref needs is neither in the build nor
// in the repository.
type MissingError struct {
	Ref  string
	Path string // in the tree of the ref, folders with a slash at the end; empty for the commit itself
	Name ostree.ObjectName
}

func (e *MissingError) Error() string {
	where := e.Ref
	if e.Path != "" {
		where += ": " + e.Path
	}
	return where + ": object " + e.Name.String() + " is missing"
}

// DamagedError says that an object that a ref needs is not what its name says.
// Uploading it anew repairs it, in the repository too.
type DamagedError struct {
	Ref  string
	Path string // as in MissingError
	Name ostree.ObjectName
	Err  error
}

func (e *DamagedError) Error() string {
	where := e.Ref
	if e.Path != "" {
		where += ": " + e.Path
	}
	return where + ": object " + e.Name.String() + " is damaged: " + e.Err.Error()
}

// Unwrap returns what is wrong with the object.
func (e *DamagedError) Unwrap() error { return e.Err }

// hidden tells whether a path is nobody's business: lock and temporary files.
func hidden(path string) bool {
	top, _, _ := strings.Cut(path, "/")
	return top == "" || top[0] == '.' || top == tempDir || top == "state"
}

// absent turns errors about paths that cannot be into one of absence.
func absent(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) || isBadPath(err) {
		return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return err
}
