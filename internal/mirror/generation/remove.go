package generation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// Remove removes a project with all its generations, at once for readers and at the
// pace of the store on the disk. A project with an open staging is [ErrBusy]. It is
// to be called again if it is interrupted. The [Project] must not be used any more.
func (s *Store) Remove(ctx context.Context, name string) error {
	s.mu.Lock()
	p := s.projects[name]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	if _, err := p.Drain(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.removeFolder(); err != nil {
		return fmt.Errorf("remove project %s: %w", name, err)
	}
	delete(s.projects, name)
	return p.close()
}

// removeFolder removes the folder of a project that is drained. The note of that goes last:
// while there is one, a crash leaves a project that is to be removed.
func (p *Project) removeFolder() error {
	names, err := list(p.dir, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == drainedName {
			continue
		}
		if err := p.dir.RemoveAll(name); err != nil {
			return err
		}
	}
	if err := p.store.dir.RemoveAll(projectsName + "/" + p.name); err != nil {
		return err
	}
	return p.store.dir.SyncDir(projectsName)
}

// Drain takes a project off the disk, at once for readers and at the pace of the store on
// the disk, and notes that: [Project.Drained]. It needs no room on the disk, and is
// completed after a crash. It returns the generations that there were. A project with an
// open staging is [ErrBusy].
func (p *Project) Drain(ctx context.Context) ([]Info, error) {
	ended, err := p.End()
	if err == nil {
		err = errors.Join(p.dir.RemoveAll(upstreamName), p.EmptyTrash(ctx))
	}
	if err != nil {
		err = fmt.Errorf("drain project %s: %w", p.name, err)
	}
	return ended, err
}

// Drained says whether the project was taken off the disk, and since when. It ends with
// the next generation.
func (p *Project) Drained() (since time.Time, drained bool) {
	info, err := p.dir.Root.Lstat(drainedName)
	if err != nil {
		return time.Time{}, false
	}
	return changed(info), true
}

// changed is when the inode was changed last, by a rename for instance.
func changed(info os.FileInfo) time.Time {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Ctim.Unix()).UTC()
	}
	return info.ModTime().UTC()
}

// End is the first part of [Project.Drain]: all is out of service, and nothing is removed
// yet. From its first step on it will happen, also after a crash: the link to the current
// generation becomes the note that there is none. A project without one is drained as well.
func (p *Project) End() (ended []Info, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.staged.Load() != nil {
		return nil, fmt.Errorf("project %s: %w", p.name, ErrBusy)
	}
	err = p.dir.Rename(currentName, drainedName)
	if errors.Is(err, fs.ErrNotExist) {
		if _, drained := p.Drained(); !drained {
			err = p.dir.Symlink(generationsName, drainedName)
		} else {
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	if err := p.dir.SyncDir("."); err != nil {
		return nil, err
	}
	all := p.kept.Swap(new([]*Generation))
	p.changed()
	for _, g := range slices.Backward(*all) {
		ended = append(ended, g.info)
		err = errors.Join(err, p.discard(g.info.ID), g.tree.Close(), g.dir.Close())
	}
	if _, staged := p.dir.Root.Lstat(stagingName); staged == nil {
		err = errors.Join(err, p.throwAway(stagingName, stagingName))
	}
	return ended, err
}

// DropStaged removes what an interrupted sync has fetched and the next one would use, and
// reports whether there was anything. A staging that is open is left alone.
func (p *Project) DropStaged(ctx context.Context) (bool, error) {
	dropped, err := p.throwAwayStaged()
	if err == nil && dropped {
		err = p.EmptyTrash(ctx)
	}
	return dropped, err
}

func (p *Project) throwAwayStaged() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.staged.Load() != nil {
		return false, nil
	}
	names, err := list(p.dir, stagingName)
	if err != nil || !slices.ContainsFunc(names, func(n string) bool { return n != placedName }) {
		return false, err
	}
	last, err := p.lastSession()
	if err != nil || last.number > 0 && !slices.Contains(names, fmt.Sprint(last.number)) {
		return false, err // it was committed, and the next staging tidies up behind it
	}
	return true, p.throwAway(stagingName, stagingName)
}

// lastSession reads which session was begun last.
func (p *Project) lastSession() (session, error) {
	f, err := p.dir.Root.Open(staged(placedName))
	if errors.Is(err, fs.ErrNotExist) {
		return session{}, nil
	}
	if err != nil {
		return session{}, err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	j, _, err := readJournal(f)
	if err != nil {
		return session{}, err
	}
	return j.last(), nil
}
