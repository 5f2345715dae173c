package generation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"freshet/internal/durable"
	"freshet/internal/layout"

	"golang.org/x/sys/unix"
)

// The names in the folder of a store.
const (
	lockName     = "lock"
	objectsName  = "objects"
	projectsName = "projects"
)

// Options are what a store is told; the zero value works.
type Options struct {
	// UnlinksPerSecond bounds how fast retired generations are removed, so that
	// serving does not suffer; 0: 1,000.
	UnlinksPerSecond int
	// Fault is called before each step that changes something: see [durable.Dir].
	// For tests.
	Fault func(step, name string) error
}

// Store is all projects of a mirror on one file system. It is safe for concurrent
// use.
type Store struct {
	dir     durable.Dir
	lock    io.Closer
	objects *objects
	opts    Options
	boot    string

	released atomic.Bool

	mu       sync.Mutex
	projects map[string]*Project
	repairs  []string
}

// Open opens the store in the folder dir, which is created if it is not there, and
// repairs what a crash has left. One process at a time can have it open:
// [durable.ErrInUse]. A folder that holds something else is refused.
func Open(ctx context.Context, dir string, opts Options) (*Store, error) {
	if err := durable.CheckFolder(dir, lockName, objectsName, projectsName); err != nil {
		return nil, err
	}
	d, err := durable.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{projects: make(map[string]*Project)}
	fault := opts.Fault
	opts.Fault = func(step, name string) error {
		switch {
		case s.released.Load():
			return ErrReleased
		case fault != nil:
			return fault(step, name)
		}
		return nil
	}
	d.Fault = opts.Fault
	s.dir, s.opts = d, opts
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("mirror store %s: %w", dir, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if s.lock, err = s.dir.Lock(lockName); err != nil {
		return err
	}
	if s.boot, err = bootID(); err != nil {
		return err
	}
	for _, name := range []string{objectsName, projectsName} {
		if err := s.dir.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	if s.objects, err = openObjects(s.dir, objectsName); err != nil {
		return err
	}
	names, err := list(s.dir, projectsName)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if checkName(name) != nil {
			continue // not ours
		}
		if s.projects[name], err = openProject(s, name); err != nil {
			return fmt.Errorf("project %s: %w", name, err)
		}
	}
	return nil
}

// ErrReleased is the error of whatever would change a store that is released.
var ErrReleased = errors.New("the store is another process's now")

// Release lets another process open the store. It is read as before, as long as that one
// keeps what is there; nothing can be changed any more. Nobody changes it meanwhile.
func (s *Store) Release() error {
	s.released.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.lock = nil
	return err
}

// Close gives the store back. Nothing of it may be in use any more, except files
// that were opened.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, p := range s.projects {
		if p != nil {
			err = errors.Join(err, p.close())
		}
	}
	if s.objects != nil {
		err = errors.Join(err, s.objects.close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return errors.Join(err, s.dir.Root.Close())
}

// Project returns the project with this name, which is made on first use. Names are
// of ASCII letters, digits, ".", "_" and "-", up to 64, and begin with a letter or
// digit. classify says what the paths of the project are, until another call says
// otherwise; nil: what the last one said, or [layout.Tree].
func (s *Store) Project(name string, classify func(path string) layout.Kind) (*Project, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.projects[name]
	if p == nil {
		if err := s.dir.MkdirAll(projectsName+"/"+name+"/"+generationsName, 0o755); err != nil {
			return nil, err
		}
		var err error
		if p, err = openProject(s, name); err != nil {
			return nil, fmt.Errorf("project %s: %w", name, err)
		}
		s.projects[name] = p
	}
	if classify != nil {
		p.classify.Store(&classify)
	}
	return p, nil
}

// Held returns the project with this name if it is on the disk; nil: it is not.
func (s *Store) Held(name string) *Project {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.projects[name]
}

// Repairs says, in a line each, what [Open] found damaged and has mended or removed. What
// a crash or a loss of power leaves is no damage.
func (s *Store) Repairs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.repairs)
}

// repaired is called while the store is opened, or with mu.
func (s *Store) repaired(what string) { s.repairs = append(s.repairs, what) }

// Names returns the names of the projects on the disk, sorted.
func (s *Store) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.projects))
	for name := range s.projects {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Object opens the file with this content, whatever project has it, or a staging that
// is not committed yet has fetched it: that may not be on the disk. It is
// [fs.ErrNotExist] if there is none.
func (s *Store) Object(sum [32]byte) (*os.File, error) {
	for _, st := range s.stagings() {
		f, err := st.object(sum)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return s.objects.open(sum) // last: what was staged may have become one meanwhile
}

// stagings are those that are open.
func (s *Store) stagings() (open []*Staging) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.projects {
		if p == nil {
			continue
		}
		if st := p.staged.Load(); st != nil {
			open = append(open, st)
		}
	}
	return open
}

// Space is what a file system has.
type Space struct {
	Bytes, FreeBytes   uint64 // free: for users that are not root
	Inodes, FreeInodes uint64 // 0 of both: it does not count them
}

// Space tells of the file system that the store is on.
func (s *Store) Space() (Space, error) {
	f, err := s.dir.Root.Open(".")
	if err != nil {
		return Space{}, err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	size := uint64(st.Bsize)
	return Space{Bytes: st.Blocks * size, FreeBytes: st.Bavail * size, Inodes: st.Files, FreeInodes: st.Ffree}, nil
}

func checkName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if name == "" || len(name) > 64 || strings.IndexByte(letters, name[0]) < 0 || strings.Trim(name, letters+"._-") != "" {
		return fmt.Errorf("%.80q is no name of a project: letters, digits, \".\", \"_\" and \"-\", up to 64, a letter or digit first", name)
	}
	return nil
}

// list returns the names in a folder, sorted; none if there is no such folder.
func list(d durable.Dir, name string) ([]string, error) {
	f, err := d.Root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, f.Close())
}

// bootID names the time since the machine was started: what was written in another
// one may have been lost with the power.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("learn whether the machine was restarted: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
