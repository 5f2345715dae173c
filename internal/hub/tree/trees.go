package tree

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/durable"
)

// The errors that a caller may want to tell apart. A full disk is recognised
// by [durable.IsNoSpace].
var (
	// ErrNotFound: there is no such tree, push, generation or file. It is
	// fs.ErrNotExist as well.
	ErrNotFound = fmt.Errorf("not found: %w", fs.ErrNotExist)
	// ErrRefused: what was sent is not acceptable; the message says what and
	// why, for the person who sent it.
	ErrRefused = errors.New("refused")
	// ErrBusy: the push is being published.
	ErrBusy = errors.New("being published")
	// ErrBroken: after an error that could not be taken back, the tree is not
	// changed any more until it is opened again, which repairs it. It is
	// served on.
	ErrBroken = errors.New("tree is inconsistent until it is opened again")
)

// Options are settings of [Open]. The zero value has the defaults.
type Options struct {
	// Grace is how long an old generation of the tree stays readable.
	// Default: 24 hours for each.
	Grace func(tree string) time.Duration
	// Keys are the keys by one of which the metadata of the tree must be
	// signed. When it is nil, or returns nil, signatures are not checked.
	Keys func(tree string) *Keys
	// PushTTL is how long a push is kept to which nothing is uploaded.
	// Default 7 days.
	PushTTL time.Duration
}

// Trees are the plain trees of a hub, opened by the one process that may
// change them. All methods may be called concurrently.
type Trees struct {
	opts     Options
	dir      durable.Dir
	blobs    durable.Dir // blobs/
	incoming durable.Dir // incoming/<this boot>/
	lock     io.Closer

	mu       sync.Mutex
	trees    map[string]*state
	pushes   map[string]*push
	wanted   map[string]int // pushes that name the content, by its SHA256
	sweepDue bool           // a crash may have left blobs that nobody counts
}

// state is one tree.
type state struct {
	name string
	// busy is full while the tree is being changed.
	busy chan struct{}
	// pending and broken belong to the holder of busy.
	pending *Switch
	broken  error

	mu          sync.RWMutex
	generations []*generation // oldest first; the last is the current one
}

// generation is a complete state of a tree, as long as it is readable.
type generation struct {
	record
	root *os.Root
	// sums are the SHA256 of the files at mutable paths; read when first
	// asked for.
	sums func() (map[string]string, error)
}

// record is what state.json says of a generation.
type record struct {
	hubapi.Generation
	// Push is the id of the push it came from.
	Push string `json:"push"`
	// Repeats are the ids of the latest pushes that brought the same again.
	Repeats []string `json:"repeats,omitempty"`
	// Keys is the id of the [Keys] by which its signatures were checked.
	Keys string `json:"keys,omitempty"`
}

// Switch is the change of a tree to a new generation.
type Switch struct {
	// Key names this switch and no other, in this tree or another, for ever.
	Key  string `json:"key"`
	Tree string `json:"tree"`
	// Generation is the one that readers see; its Note says what of it could
	// not be checked.
	Generation hubapi.Generation `json:"generation"`
	// Unchanged says that there was no switch, because the push brought what
	// the current generation holds: Generation is that one, and Key and Changed
	// are empty. [Commit] never gets it.
	Unchanged bool `json:"-"`
	// Changed are the paths that a cache has to ask for again: mutable files
	// whose content changed or which are gone, pointers that are new, and
	// packages that were replaced under their name.
	Changed []string `json:"changed"`
	Push    string   `json:"push"`
	// Keys is the id of the keys by which signatures were checked; empty if
	// they were not.
	Keys string `json:"keys,omitempty"`
}

// Commit makes the caller's own state agree with a switch that readers already
// see, and returns the serial of the event that tells of it. It may be called
// again with the same switch, after a crash or an error, and does the same
// once.
type Commit func(ctx context.Context, s Switch) (serial int64, err error)

// stateFile is state.json.
type stateFile struct {
	Version     int      `json:"version"`
	Tree        string   `json:"tree"`
	Generations []record `json:"generations"`
}

// intentFile is intent.json.
type intentFile struct {
	Version int `json:"version"`
	Switch
}

const version = 1

// Open opens the trees at dir, which is created when it is not there (its
// parent must exist), and repairs what a crash left. When another process has
// them open, the error is [durable.ErrInUse].
func Open(dir string, opts Options) (*Trees, error) { return open(dir, opts, nil) }

func open(dir string, opts Options, fault func(step, name string) error) (_ *Trees, err error) {
	opts.PushTTL = cmp.Or(opts.PushTTL, 7*24*time.Hour)
	if opts.Grace == nil {
		opts.Grace = func(string) time.Duration { return 24 * time.Hour }
	}
	if opts.Keys == nil {
		opts.Keys = func(string) *Keys { return nil }
	}
	t := &Trees{
		opts:     opts,
		trees:    make(map[string]*state),
		pushes:   make(map[string]*push),
		wanted:   make(map[string]int),
		sweepDue: true,
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open trees %s: %w", dir, err)
			_ = t.Close() // the first error is the one to tell
		}
	}()
	if t.dir, err = durable.Open(dir); err != nil {
		return nil, err
	}
	t.dir.Fault = fault
	if t.lock, err = t.dir.Lock("lock"); err != nil {
		return nil, err
	}
	if err := t.openBlobs(); err != nil {
		return nil, err
	}
	if err := t.openTrees(); err != nil {
		return nil, err
	}
	if err := t.openPushes(); err != nil {
		return nil, err
	}
	return t, nil
}

// Close gives the trees back. Files that readers have open stay readable.
func (t *Trees) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, s := range t.trees {
		s.mu.Lock()
		for _, g := range s.generations {
			errs = append(errs, g.root.Close())
		}
		s.generations = nil
		s.mu.Unlock()
	}
	clear(t.trees)
	for _, c := range []io.Closer{t.incoming.Root, t.blobs.Root, t.lock, t.dir.Root} {
		if c != nil && c != io.Closer((*os.Root)(nil)) {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Names returns the names of the trees that have a generation, sorted.
func (t *Trees) Names() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := slices.Sorted(maps.Keys(t.trees))
	return slices.DeleteFunc(names, func(name string) bool { return t.trees[name].current() == nil })
}

// Info describes a tree.
func (t *Trees) Info(name string) (hubapi.TreeInfo, error) {
	s := t.lookup(name)
	if s == nil {
		return hubapi.TreeInfo{}, fmt.Errorf("tree %q: %w", name, ErrNotFound)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.generations) == 0 {
		return hubapi.TreeInfo{}, fmt.Errorf("tree %q: %w", name, ErrNotFound)
	}
	info := hubapi.TreeInfo{Name: name}
	for _, g := range slices.Backward(s.generations) {
		if info.Current == 0 {
			info.Current = g.ID
		} else if g.Retires != nil && !g.Retires.After(time.Now()) {
			continue
		}
		info.Generations = append(info.Generations, g.Generation)
	}
	return info, nil
}

// Pending returns the switches that readers see and whose commit has not been
// done, by tree. See [Trees.Recover].
func (t *Trees) Pending(ctx context.Context) ([]Switch, error) {
	var all []Switch
	err := t.each(ctx, func(s *state) error {
		if s.pending != nil {
			all = append(all, *s.pending)
		}
		return nil
	})
	return all, err
}

// Recover calls commit for each switch that is pending, and confirms it. The
// hub does this at its start, before it serves.
func (t *Trees) Recover(ctx context.Context, commit Commit) error {
	return t.each(ctx, func(s *state) error { return t.confirm(ctx, s, commit) })
}

// each calls fn for every tree, sorted by name, with the tree held.
func (t *Trees) each(ctx context.Context, fn func(*state) error) error {
	t.mu.Lock()
	names := slices.Sorted(maps.Keys(t.trees))
	t.mu.Unlock()
	var errs []error
	for _, name := range names {
		s := t.lookup(name)
		if s == nil {
			continue
		}
		if err := s.hold(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, fn(s))
		s.release()
	}
	return errors.Join(errs...)
}

func (t *Trees) lookup(name string) *state {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trees[name]
}

// obtain returns the tree, which need not have a generation yet.
func (t *Trees) obtain(name string) *state {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.trees[name]
	if s == nil {
		s = newState(name)
		t.trees[name] = s
	}
	return s
}

func newState(name string) *state { return &state{name: name, busy: make(chan struct{}, 1)} }

// hold waits until nobody else changes the tree.
func (s *state) hold(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for tree %s: %w", s.name, ctx.Err())
	}
}

func (s *state) release() { <-s.busy }

// current is the current generation, or nil.
func (s *state) current() *generation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.generations) == 0 {
		return nil
	}
	return s.generations[len(s.generations)-1]
}

func (s *state) folder() string         { return path.Join("trees", s.name) }
func (s *state) generationsDir() string { return path.Join("trees", s.name, "generations") }
func (s *state) generationDir(id int64) string {
	return path.Join(s.generationsDir(), strconv.FormatInt(id, 10))
}
func (s *state) manifest(id int64) string { return s.generationDir(id) + ".json" }
func (s *state) intent() string           { return path.Join("trees", s.name, "intent.json") }

// checkName checks the name of a tree: up to 64 lower-case letters, digits,
// ".", "_" and "-", beginning with a letter or digit.
func checkName(name string) error {
	ok := name != "" && len(name) <= 64 && !strings.ContainsAny(name[:1], "._-")
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%w: %q is no name for a tree", ErrRefused, name)
	}
	return nil
}

// openTrees reads the trees and completes switches that were decided.
func (t *Trees) openTrees() error {
	if err := t.dir.MkdirAll("trees", 0o755); err != nil {
		return err
	}
	entries, err := fs.ReadDir(t.dir.Root.FS(), "trees")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || checkName(e.Name()) != nil {
			continue
		}
		s := newState(e.Name())
		if err := t.openTree(s); err != nil {
			return fmt.Errorf("tree %s: %w", s.name, err)
		}
		t.trees[s.name] = s
	}
	return nil
}

func (t *Trees) openTree(s *state) error {
	if _, err := t.dir.Sweep(s.folder()); err != nil {
		return err
	}
	var file stateFile
	if err := t.readJSON(path.Join(s.folder(), "state.json"), &file, &file.Version); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var intent intentFile
	err := t.readJSON(s.intent(), &intent, &intent.Version)
	switch {
	case err == nil:
		s.pending = &intent.Switch
		if n := len(file.Generations); n == 0 || file.Generations[n-1].ID != intent.Generation.ID {
			file.Generations = t.succeed(s.name, file.Generations, intent.Switch)
		}
		if err := t.writeSwitch(s, file.Generations); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, r := range file.Generations {
		g, err := t.openGeneration(s, r)
		if err != nil {
			return err
		}
		s.generations = append(s.generations, g)
	}
	return t.removeUnknown(s)
}

// removeUnknown removes generations that state.json does not name: those that
// were not finished, and those that were retired.
func (t *Trees) removeUnknown(s *state) error {
	known := make(map[string]bool)
	for _, g := range s.generations {
		id := strconv.FormatInt(g.ID, 10)
		known[id], known[id+".json"] = true, true
	}
	entries, err := fs.ReadDir(t.dir.Root.FS(), s.generationsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !known[e.Name()] {
			if err := t.dir.RemoveAll(path.Join(s.generationsDir(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Trees) openGeneration(s *state, r record) (*generation, error) {
	root, err := t.dir.Root.OpenRoot(s.generationDir(r.ID))
	if err != nil {
		return nil, err
	}
	return &generation{record: r, root: root, sums: sync.OnceValues(func() (map[string]string, error) {
		m, err := t.readManifest(s.manifest(r.ID))
		if err != nil {
			return nil, err
		}
		return mutableSums(m.Files), nil
	})}, nil
}

func (t *Trees) readJSON(name string, v any, got *int) error {
	data, err := t.dir.Root.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if *got != version {
		return fmt.Errorf("%s: version %d is not known to this program", name, *got)
	}
	return nil
}

func (t *Trees) writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return t.dir.WriteFile(name, append(data, '\n'), 0o644)
}
