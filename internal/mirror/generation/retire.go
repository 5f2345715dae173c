package generation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"freshet/internal/durable"
	"freshet/internal/pause"
)

// Retire ends the generations that were superseded longer than grace ago, and removes
// what they alone have, no faster than the store is told, so that serving does not
// suffer. It goes on with what another call, or a former process, has not finished.
// It returns the generations that it ended.
func (p *Project) Retire(ctx context.Context, grace time.Duration) ([]Info, error) {
	var ended []Info
	now := time.Now()
	for _, g := range p.Generations() {
		if s := g.info.Superseded; s.IsZero() || now.Sub(s) <= grace {
			continue
		}
		if err := p.end(g.info.ID); err != nil {
			if errors.Is(err, ErrUnknown) || errors.Is(err, ErrCurrent) {
				continue // somebody else was faster
			}
			return ended, err
		}
		ended = append(ended, g.info)
	}
	return ended, p.EmptyTrash(ctx)
}

// Drop ends a generation whatever its age, and removes what it alone has. The error
// is [ErrCurrent] for the current one, and [ErrUnknown].
func (p *Project) Drop(ctx context.Context, id string) error {
	if err := p.end(id); err != nil {
		return err
	}
	return p.EmptyTrash(ctx)
}

// end takes a generation out of service.
func (p *Project) end(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, err := p.Generation(id)
	if err != nil {
		return err
	}
	if g == p.Current() {
		return fmt.Errorf("generation %s of %s: %w", id, p.name, ErrCurrent)
	}
	if err := p.discard(id); err != nil {
		return err
	}
	// Readers that have begun hold what they have opened; others find nothing there
	// any more, and look in the next one.
	kept := slices.DeleteFunc(p.Generations(), func(other *Generation) bool { return other == g })
	p.kept.Store(&kept)
	return errors.Join(g.tree.Close(), g.dir.Close())
}

// discard moves the folder of a generation to the trash. A rename needs no room: it
// works when the disk is full, which is when it is needed most.
func (p *Project) discard(id string) error {
	return p.throwAway(generationsName+"/"+id, id)
}

// throwAway moves a folder to the trash, under a name that begins with prefix.
func (p *Project) throwAway(folder, prefix string) error {
	if err := p.dir.MkdirAll(trashName, 0o700); err != nil {
		return err
	}
	return p.dir.Rename(folder, trashName+"/"+prefix+"-"+strings.TrimPrefix(durable.TempName(), durable.TempPrefix))
}

// trashedID is the number of the generation whose folder in the trash has this name; 0 if
// it was none.
func trashedID(name string) int {
	id, _, _ := strings.Cut(name, "-")
	return number(id)
}

// EmptyTrash removes what generations that have ended leave, at the pace of the
// store, until all is gone or ctx ends.
func (p *Project) EmptyTrash(ctx context.Context) error {
	p.emptyMu.Lock()
	defer p.emptyMu.Unlock()
	names, err := list(p.dir, trashName)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.remove(ctx, trashName+"/"+name); err != nil {
			return fmt.Errorf("remove an old generation of %s: %w", p.name, err)
		}
	}
	return nil
}

// remove removes a generation in the trash by its manifest, since that knows the
// names of the contents, and then what else there is. After an interruption it
// begins anew: what is gone costs little.
func (p *Project) remove(ctx context.Context, dir string) error {
	pace := newPace(p.store.opts.UnlinksPerSecond)
	err := p.removeListed(ctx, dir, pace)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrManifest) {
		err = nil // it was removed by somebody, or damaged; its objects stay
	}
	if err != nil {
		return err
	}
	if err := p.dir.RemoveAll(dir + "/" + treeName); err != nil {
		return err
	}
	// Until here the folder's name tells of the ID. To note it needs room on the disk, which
	// there is now.
	if id := trashedID(path.Base(dir)); id > 0 {
		if err := p.noteSerial(id); err != nil {
			return err
		}
	}
	return p.dir.RemoveAll(dir)
}

func (p *Project) removeListed(ctx context.Context, dir string, pace *pace) error {
	manifest, err := p.dir.Root.Open(dir + "/" + manifestName)
	if err != nil {
		return err
	}
	defer manifest.Close() //nolint:errcheck // opened for reading
	t, err := openTree(p.dir, dir+"/"+treeName)
	if err != nil {
		return err
	}
	defer t.close() //nolint:errcheck // opened for reading
	for f, err := range readManifest(manifest) {
		if err != nil {
			return err
		}
		removed, err := p.removeFile(t, f)
		if err != nil {
			return err
		}
		if err := pace.take(ctx, removed); err != nil {
			return err
		}
	}
	return nil
}

// removeFile removes a file, with its object if that is unused then, and returns how many
// names went.
func (p *Project) removeFile(t *tree, f File) (names int, err error) {
	in, name, err := t.at(f.Path, false)
	if err == nil {
		_, err = in.Lstat(name)
	}
	if err == nil {
		names, err = 1, in.Remove(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if f.IsLink() {
		return names, nil
	}
	freed, err := p.store.objects.removeUnused(f.SHA256)
	if freed > 0 {
		names++
	}
	return names, err
}

// pace bounds how often something is done.
type pace struct {
	every time.Duration // for each
	free  time.Time     // when the next one is due
}

const defaultUnlinks = 1000

func newPace(perSecond int) *pace {
	if perSecond <= 0 {
		perSecond = defaultUnlinks
	}
	return &pace{every: time.Second / time.Duration(perSecond), free: time.Now()}
}

// take waits until n more may be done. It waits for a few at once: timers are not much
// finer.
func (p *pace) take(ctx context.Context, n int) error {
	p.free = p.free.Add(p.every * time.Duration(n))
	ahead := time.Until(p.free)
	if ahead < -100*time.Millisecond { // what was missed is not caught up
		p.free = time.Now()
	}
	if ahead > 2*time.Millisecond {
		pause.For(ctx, ahead)
	}
	return ctx.Err()
}
