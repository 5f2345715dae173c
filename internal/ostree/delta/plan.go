package delta

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta/bsdiff"
)

// plan says what becomes of each object.
type plan struct {
	parts     [][]*object
	fallbacks []*object
}

func (g *generator) plan(ctx context.Context) (*plan, error) {
	to, err := readTree(ctx, g.repo, g.req.To)
	if err != nil {
		return nil, err
	}
	from, err := readTree(ctx, g.repo, g.req.From)
	if err != nil {
		return nil, err
	}
	objects := fresh(from, to)
	err = g.each(ctx, objects, func(_ context.Context, o *object) error { return o.inspect(g.repo) })
	if err != nil {
		return nil, err
	}
	if err := g.findRecipes(ctx, from, objects); err != nil {
		return nil, err
	}
	p := &plan{}
	var inside []*object
	for _, o := range objects {
		if o.name.Type == ostree.TypeFile && o.recipe == nil && o.size > uint64(g.opt.Fallback) && !o.header.IsSymlink() {
			p.fallbacks = append(p.fallbacks, o)
			continue
		}
		inside = append(inside, o)
	}
	slices.SortFunc(p.fallbacks, func(a, b *object) int { return a.name.Compare(b.name) })
	slices.SortFunc(inside, compareObjects)
	p.parts = pack(inside, uint64(g.opt.MaxPart))
	return p, nil
}

// each calls f for all objects, several at once.
func (g *generator) each(ctx context.Context, objects []*object, f func(context.Context, *object) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(g.opt.Workers)
	const batch = 32
	for some := range slices.Chunk(objects, batch) {
		group.Go(func() error {
			for _, o := range some {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := f(ctx, o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// pair is a comparison to make.
type pair struct {
	o      *object
	source ostree.Checksum
	size   uint64
}

// findRecipes compares new files with what they came from.
func (g *generator) findRecipes(ctx context.Context, from *tree, objects []*object) error {
	if len(from.files) == 0 {
		return nil
	}
	known := newCandidates(g.repo, from)
	var pairs []pair
	for _, o := range objects {
		if o.name.Type != ostree.TypeFile {
			continue
		}
		source, size, ok, err := known.of(o)
		if err != nil {
			return err
		}
		if ok {
			pairs = append(pairs, pair{o, source, size})
		}
	}
	// The largest first, so that none is left to the end.
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(b.o.size+b.size, a.o.size+a.size) })
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan pair)
	group.Go(func() error {
		defer close(next)
		for _, p := range pairs {
			select {
			case next <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range g.opt.Workers {
		group.Go(func() error {
			var m bsdiff.Matcher
			for p := range next {
				if err := g.compare(ctx, &m, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// compare sets the recipe of an object.
func (g *generator) compare(ctx context.Context, m *bsdiff.Matcher, p pair) error {
	return g.withMemory(ctx, g.windows.memory(p.size, p.o.size), func() (err error) {
		old, err := openContent(g.repo, p.source)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, old.Close()) }()
		new, err := openContent(g.repo, p.o.name.Checksum)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, new.Close()) }()
		c := comparison{size: p.o.size, stored: p.o.stored}
		before, after := slider{content: old, pool: &g.buffers}, slider{content: new, pool: &g.buffers}
		defer before.release()
		defer after.release()
		if err := g.windows.compare(m, &before, &after, p.size, p.o.size, &c); err != nil {
			return err
		}
		if p.o.recipe = c.best(p.source, p.size); p.o.recipe != nil {
			p.o.kind, p.o.group = kindPlain, " recipe"
		}
		return nil
	})
}

// withMemory calls f when so many bytes may be held.
func (g *generator) withMemory(ctx context.Context, bytes uint64, f func() error) error {
	n := int64(min(bytes, uint64(g.budget)))
	if err := g.memory.Acquire(ctx, n); err != nil {
		return err
	}
	defer g.memory.Release(n)
	return f()
}

// compareObjects is the order of objects in a delta: by kind, then so that
// neighbours are alike.
func compareObjects(a, b *object) int {
	return cmp.Or(
		cmp.Compare(a.kind, b.kind),
		cmp.Compare(b.name.Type, a.name.Type), // metadata, then files
		strings.Compare(a.group, b.group),
		strings.Compare(path.Base(a.path), path.Base(b.path)),
		strings.Compare(a.path, b.path),
		a.name.Compare(b.name),
	)
}

// pack distributes objects to parts of about limit bytes of payload, in their
// order and evenly, so that parts written at once end at once.
func pack(objects []*object, limit uint64) [][]*object {
	var total uint64
	for _, o := range objects {
		total += o.predict()
	}
	if total > limit {
		limit = total/((total+limit-1)/limit) + 1
	}
	var parts [][]*object
	var size uint64
	for i, o := range objects {
		if i == 0 || size > 0 && size+o.predict() > limit {
			parts = append(parts, nil)
			size = 0
		}
		size += o.predict()
		parts[len(parts)-1] = append(parts[len(parts)-1], o)
	}
	return parts
}
