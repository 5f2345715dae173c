package scan

import (
	"context"
	"errors"
	"iter"

	"freshet/internal/inventory"
	"freshet/internal/rsync"
)

// listRsync lists an rsync server.
func (s *Scanner) listRsync(ctx context.Context, t target, m *memo) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		if err := s.walkRsync(ctx, t, m, yield); err != nil {
			yield(inventory.Entry{}, err)
		}
	}
}

func (s *Scanner) walkRsync(ctx context.Context, t target, m *memo, yield func(inventory.Entry, error) bool) error {
	program, err := rsync.Find(ctx, s.o.Rsync)
	if err != nil {
		return fail(Setup, err)
	}
	g := newGather(m.links, yield)
	for e, err := range program.List(ctx, rsync.Listing{URL: t.source, Excludes: []string{".~tmp~/", ".snapshot/"}}) {
		if partial, ok := errors.AsType[*rsync.PartialError](err); ok {
			m.remark = partial.Error()
			break
		}
		if err != nil {
			return asRsync(err)
		}
		if !takeRsync(g, &e) {
			return nil
		}
	}
	m.links, err = g.end()
	return err
}

// takeRsync hands on an entry of a listing. It is false when no more are wanted.
func takeRsync(g *gather, e *rsync.Entry) bool {
	switch e.Type {
	case rsync.Folder:
		if !e.Public() && e.Name != "." {
			g.hide(e.Name)
		}
	case rsync.Link:
		g.link(e.Name, e.Target)
	case rsync.File:
		if e.Public() {
			return g.file(inventory.Entry{Path: e.Name, Size: e.Size, ModTime: e.ModTime})
		}
	default:
	}
	return true
}

// asRsync gives an error of a listing its reason.
func asRsync(err error) error {
	exit, ok := errors.AsType[*rsync.ExitError](err)
	if !ok {
		return fail(BadListing, err)
	}
	switch exit.Code {
	case 10:
		return fail(Unreachable, err)
	case 30, 35:
		return fail(Silent, err)
	case 5, 23:
		return fail(Refused, err)
	}
	return fail(BadListing, err)
}
