package generation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/durable"
	"freshet/internal/layout"
)

// The names in the folder of a project.
const (
	currentName     = "current"
	drainedName     = "drained" // what current was when all generations were taken off the disk
	generationsName = "generations"
	stagingName     = "staging"
	trashName       = "trash"
	serialName      = "serial"   // the highest ID of a generation that has ended and is gone
	upstreamName    = "upstream" // manifests of other mirrors
)

var (
	// ErrUnknown says that there is no such generation.
	ErrUnknown = errors.New("there is no such generation")
	// ErrCurrent says that the current generation cannot be removed.
	ErrCurrent = errors.New("it is the current generation")
	// ErrBusy says that a staging of the project is open already.
	ErrBusy = errors.New("another sync of the project is under way")
)

// Project is a tree of files with its generations. It is safe for concurrent use.
type Project struct {
	store    *Store
	name     string
	dir      durable.Dir // of the project
	classify atomic.Pointer[func(string) layout.Kind]

	// kept is what readers see: the current generation, then the others, from the
	// one that was switched to last. It is replaced, never changed.
	kept atomic.Pointer[[]*Generation]

	mu      sync.Mutex              // changes kept and the files behind it
	staged  atomic.Pointer[Staging] // that is open; changed under mu
	emptyMu sync.Mutex              // removes what is in the trash

	changeMu sync.Mutex
	change   chan struct{} // closed by the next switch; nil: nobody waits for it
}

// Name is the project's.
func (p *Project) Name() string { return p.name }

// TreePath is the path of the folder that is the tree of the current generation, for
// other programs that serve it. There is none before the first generation.
func (p *Project) TreePath() string {
	return path.Join(p.dir.Root.Name(), currentName, treeName)
}

// Current returns the current generation; nil if there is none yet.
func (p *Project) Current() *Generation {
	if kept := *p.kept.Load(); len(kept) > 0 {
		return kept[0]
	}
	return nil
}

// Changed returns a channel that is closed when another generation is current than the one
// that Current returns after this call, or none any more.
func (p *Project) Changed() <-chan struct{} {
	p.changeMu.Lock()
	defer p.changeMu.Unlock()
	if p.change == nil {
		p.change = make(chan struct{})
	}
	return p.change
}

// changed tells those who wait for a switch.
func (p *Project) changed() {
	p.changeMu.Lock()
	defer p.changeMu.Unlock()
	if p.change != nil {
		close(p.change)
		p.change = nil
	}
}

// Generations returns the current generation and the ones that are kept beside it,
// from the one that was current last. The slice is the caller's.
func (p *Project) Generations() []*Generation { return slices.Clone(*p.kept.Load()) }

// Generation returns the one with this ID; the error is [ErrUnknown].
func (p *Project) Generation(id string) (*Generation, error) {
	for _, g := range *p.kept.Load() {
		if g.info.ID == id {
			return g, nil
		}
	}
	return nil, fmt.Errorf("generation %q of %s: %w", id, p.name, ErrUnknown)
}

// Open opens the file or folder at a path of the current generation, through symbolic
// links that stay in the tree. A file that is not there is taken from the newest
// older generation that has it, unless its path is that of a pointer or of an index
// that changes. It returns the generation that it is from. The path is clean, or "."
// for the root; the error is [fs.ErrNotExist] if there is no such file. No lock is
// taken.
func (p *Project) Open(path string) (*os.File, fs.FileInfo, *Generation, error) {
	for {
		kept := p.kept.Load()
		for i, g := range *kept {
			if i > 0 && (path == "." || p.Mutable(path)) {
				break
			}
			f, info, err := g.openFor(path, i > 0)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrClosed) {
				continue
			}
			if err != nil {
				return nil, nil, nil, fmt.Errorf("generation %s of %s: %w", g.info.ID, p.name, err)
			}
			return f, info, g, nil
		}
		if p.kept.Load() == kept { // or a generation may have ended meanwhile
			return nil, nil, nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
	}
}

// openFor opens a path; of an old generation files alone.
func (g *Generation) openFor(path string, old bool) (*os.File, fs.FileInfo, error) {
	f, err := g.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && old && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		_ = f.Close() // opened for reading
		return nil, nil, err
	}
	return f, info, nil
}

// Mutable says whether later generations rightly have another content at the path: that
// is so for pointers, and for indexes whose name says nothing of their content.
func (p *Project) Mutable(path string) bool { return p.Kind(path).Mutable() }

// Kind says what a path of the project is.
func (p *Project) Kind(path string) layout.Kind {
	if c := p.classify.Load(); c != nil {
		return (*c)(path)
	}
	return layout.Tree(path)
}

func openProject(s *Store, name string) (*Project, error) {
	root, err := s.dir.Root.OpenRoot(projectsName + "/" + name)
	if err != nil {
		return nil, err
	}
	p := &Project{store: s, name: name, dir: durable.Dir{Root: root, Fault: s.opts.Fault}}
	p.kept.Store(new([]*Generation))
	if err := p.load(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *Project) close() error {
	var err error
	for _, g := range *p.kept.Load() {
		err = errors.Join(err, g.tree.Close(), g.dir.Close())
	}
	return errors.Join(err, p.dir.Root.Close())
}

// load reads what is on the disk, and completes what a crash has interrupted.
func (p *Project) load() error {
	for _, name := range []string{".", generationsName, trashName} { // which is there before the disk is full
		if err := p.dir.MkdirAll(name, 0o755); err != nil {
			return err
		}
		if name == trashName {
			break
		}
		if _, err := p.dir.Sweep(name); err != nil {
			return err
		}
	}
	if _, err := p.dir.Sweep(upstreamName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ids, err := list(p.dir, generationsName)
	if err != nil {
		return err
	}
	var kept []*Generation
	_, drained := p.Drained()
	for _, id := range ids {
		if number(id) == 0 {
			continue // not ours
		}
		if drained {
			if err := p.discard(id); err != nil {
				return err
			}
			continue
		}
		if _, err := p.dir.Sweep(generationsName + "/" + id); err != nil {
			return err
		}
		g, err := openGeneration(p, id)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errBroken) {
			// They come whole: somebody, or a disk, has taken a part away.
			p.store.repaired(fmt.Sprintf("generation %s of %s is damaged, and is removed: %v", id, p.name, err))
			err = p.discard(id)
		}
		if err != nil {
			return err
		}
		if g != nil {
			kept = append(kept, g)
		}
	}
	slices.SortFunc(kept, newestFirst)
	p.kept.Store(&kept)
	if len(kept) == 0 {
		return nil
	}
	return p.settleCurrent(kept)
}

// newestFirst sorts generations by when they were current last. The one that was
// switched to last is the current one, also if the switch was interrupted: when its
// time is written, it is whole and on the disk.
func newestFirst(a, b *Generation) int {
	if c := b.info.Switched.Compare(a.info.Switched); c != 0 {
		return c
	}
	return number(b.info.ID) - number(a.info.ID)
}

// settleCurrent makes the link and the times say what the order of the generations
// says. On a full disk that is left to the next start: readers of the store do not need it.
func (p *Project) settleCurrent(kept []*Generation) error {
	target := generationsName + "/" + kept[0].info.ID
	if got, err := p.dir.Root.Readlink(currentName); err != nil || got != target {
		if err := p.point(kept[0].info.ID); err != nil && !durable.IsNoSpace(err) {
			return err
		}
	}
	for i, g := range kept {
		superseded := g.info.Superseded
		switch {
		case i == 0:
			superseded = time.Time{}
		case superseded.IsZero():
			superseded = kept[i-1].info.Switched
		}
		if superseded.Equal(g.info.Superseded) {
			continue
		}
		info := g.info
		info.Superseded = superseded
		if err := p.writeInfo(info); err != nil && !durable.IsNoSpace(err) {
			return err
		}
		kept[i] = g.with(info)
	}
	return nil
}

// with returns the generation with another Info.
func (g *Generation) with(info Info) *Generation {
	return &Generation{info: info, dir: g.dir, tree: g.tree}
}

// point makes a generation that is on the disk the one that readers of the disk see.
func (p *Project) point(id string) error {
	if err := p.dir.Symlink(generationsName+"/"+id, currentName); err != nil {
		return err
	}
	return p.dir.SyncDir(".")
}

func (p *Project) writeInfo(info Info) error {
	data, err := info.encode()
	if err != nil {
		return err
	}
	return p.dir.WriteFile(generationsName+"/"+info.ID+"/"+infoName, data, 0o644)
}

// number is that of an ID; 0 if it is none.
func number(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil || n <= 0 || formatID(n) != id {
		return 0
	}
	return n
}

func formatID(n int) string { return fmt.Sprintf("%06d", n) }

// nextID returns an ID that was never given before. It is called with mu.
func (p *Project) nextID() (string, error) {
	last := 0
	for _, g := range *p.kept.Load() {
		last = max(last, number(g.info.ID))
	}
	trashed, err := list(p.dir, trashName)
	if err != nil {
		return "", err
	}
	for _, name := range trashed {
		last = max(last, trashedID(name))
	}
	serial, err := p.serial()
	return formatID(max(last, serial) + 1), err
}

// serial is the highest ID of a generation that has ended.
func (p *Project) serial() (int, error) {
	text, err := p.dir.Root.ReadFile(serialName)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return number(strings.TrimSpace(string(text))), err
}

// noteSerial notes that a generation has ended, and nothing else tells of its ID any more.
func (p *Project) noteSerial(id int) error {
	last, err := p.serial()
	if err != nil || last >= id {
		return err
	}
	return p.dir.WriteFile(serialName, []byte(formatID(id)+"\n"), 0o644)
}

// Rollback makes an older generation the current one, at once for all readers, and
// returns it. The one that was current is kept as one that was superseded now.
func (p *Project) Rollback(ctx context.Context, id string) (*Generation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, err := p.Generation(id)
	if err != nil {
		return nil, err
	}
	if g == p.Current() {
		return g, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info := g.info
	info.Switched, info.Superseded = p.now(), time.Time{}
	if err := p.writeInfo(info); err != nil {
		return nil, err
	}
	shown, err := p.switchTo(g.with(info))
	if shown == nil {
		err = errors.Join(err, p.writeInfo(g.info)) // or the next start would switch
	}
	return shown, err
}

// now is a time behind that of the last switch, whatever the clock says: the order
// of switches decides which generation is current.
func (p *Project) now() time.Time {
	now := time.Now().UTC().Truncate(time.Millisecond)
	if g := p.Current(); g != nil && !now.After(g.info.Switched) {
		return g.info.Switched.Add(time.Millisecond)
	}
	return now
}

// switchTo makes a generation, whose Info with the time of the switch is on the disk,
// the current one. It is called with mu. After an error it may be the current one
// nevertheless: then it is returned as well.
func (p *Project) switchTo(g *Generation) (*Generation, error) {
	if err := p.point(g.info.ID); err != nil {
		return nil, err
	}
	var err error
	kept := []*Generation{g}
	for _, old := range *p.kept.Load() {
		if old.info.ID == g.info.ID {
			continue
		}
		if old.info.Superseded.IsZero() {
			info := old.info
			info.Superseded = g.info.Switched
			err = errors.Join(err, p.writeInfo(info)) // load would write it as well
			old = old.with(info)
		}
		kept = append(kept, old)
	}
	p.kept.Store(&kept)
	p.changed()
	return g, err
}
