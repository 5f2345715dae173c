package generation

import (
	"context"
	"errors"
	"fmt"
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
	if err := p.endAll(ctx); err != nil {
		return fmt.Errorf("remove project %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.projects, name)
	if err := p.close(); err != nil {
		return err
	}
	return s.dir.RemoveAll(projectsName + "/" + name)
}

// endAll ends all generations and what was staged.
func (p *Project) endAll(ctx context.Context) error {
	st, err := p.Stage(ctx) // nobody else can stage any more
	if err != nil {
		return err
	}
	if err := p.dir.Remove(currentName); err != nil {
		return err
	}
	p.mu.Lock()
	all := p.kept.Swap(new([]*Generation))
	for _, g := range *all {
		err = errors.Join(err, p.discard(g.info.ID), g.tree.Close(), g.dir.Close())
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if err := p.EmptyTrash(ctx); err != nil {
		return err
	}
	return st.Abandon(ctx)
}
