package delta

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"freshet/internal/ostree"
	"freshet/internal/xz"
)

// Request is which delta to generate.
type Request struct {
	From      ostree.Checksum // zero: from nothing
	To        ostree.Checksum
	Timestamp uint64 // for the superblock, seconds since 1970
}

// Files takes the parts of a delta.
type Files interface {
	// Create begins the file of a part. Several are written at once. Close is
	// called at the end, also after an error.
	Create(part int) (io.WriteCloser, error)
}

// Options tells how to generate. The zero value of each field stands for its
// default.
type Options struct {
	// Compress gives the method for a block of so many bytes; x86 asks for the
	// filter. Default: blocks are stored.
	Compress func(ctx context.Context, size uint64, x86 bool) xz.Method
	// Workers is how many parts are written, or files compared, at once.
	// Default 1.
	Workers int
	// MaxPart is the payload of a part in bytes; only one file that is larger
	// makes a larger part. Default 32 MiB, as in libostree.
	MaxPart int
	// Fallback is the size above which a file is left out, to be fetched as it
	// is, unless it is made of an earlier one. Default MaxPart.
	Fallback int
	// Window is the size, in bytes, up to which versions of a file are compared
	// as a whole, and larger ones window by window. A comparison holds at most
	// two of it. Default 4 MiB.
	Window int
	// Memory bounds the versions of files that are held at once, in bytes; one
	// comparison is always allowed. Default twice Window.
	Memory int
}

func (o Options) withDefaults() Options {
	or := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	or(&o.Workers, 1)
	or(&o.MaxPart, 32<<20)
	or(&o.Fallback, o.MaxPart)
	or(&o.Window, 4<<20)
	or(&o.Memory, 2*o.Window)
	if o.Compress == nil {
		o.Compress = func(context.Context, uint64, bool) xz.Method { return xz.Stored() }
	}
	return o
}

// Stats tells what a delta consists of. Sizes are in bytes.
type Stats struct {
	Objects       int    // in parts
	Content       uint64 // of the objects in parts, uncompressed
	Stored        uint64 // of the same objects in the repository: what loose fetches would take
	Parts         uint64 // files of the parts
	Patched       int    // files that are patched from an earlier one
	Copied        int    // files that are put together of pieces of an earlier one
	Fallbacks     int    // files that are fetched singly
	FallbackBytes uint64 // of those, in the repository
}

// Generate writes the parts of a delta to files and returns its superblock,
// which the caller stores after them. The same request gives the same delta,
// as long as the compressor does.
//
// Everything that is read is verified; a damaged object ends it with an error
// that names the object. Both commits must be complete in the repository.
func Generate(ctx context.Context, repo Repo, req Request, files Files, opt Options) (*ostree.Superblock, Stats, error) {
	name := ostree.DeltaName{From: req.From, To: req.To}
	g := &generator{repo: repo, req: req, files: files, opt: opt.withDefaults()}
	g.windows = newWindowSizes(g.opt.Window)
	g.budget = int64(g.opt.Memory)
	g.memory = semaphore.NewWeighted(g.budget)
	block, err := g.run(ctx)
	if err != nil {
		return nil, Stats{}, fmt.Errorf("generate delta %s: %w", name.Hex(), err)
	}
	return block, g.stats, nil
}

type generator struct {
	repo    Repo
	req     Request
	files   Files
	opt     Options
	windows windowSizes
	memory  *semaphore.Weighted // of budget bytes
	budget  int64
	buffers buffers
	stats   Stats
}

func (g *generator) run(ctx context.Context) (*ostree.Superblock, error) {
	commit, _, err := g.repo.CommitData(g.req.To)
	if err != nil {
		return nil, err
	}
	block := ostree.NewSuperblock(g.req.From, commit, g.req.Timestamp)
	detached, err := g.repo.DetachedMeta(g.req.To)
	if err != nil {
		return nil, err
	}
	if detached.Len() > 0 {
		block.Metadata.Set(block.Name.Dir()+"/commitmeta", detached.Value())
	}
	p, err := g.plan(ctx)
	if err != nil {
		return nil, err
	}
	block.Parts = make([]ostree.DeltaPart, len(p.parts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(g.opt.Workers)
	for i, objects := range p.parts {
		group.Go(func() (err error) {
			block.Parts[i], err = g.writePart(ctx, i, objects)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, o := range p.fallbacks {
		block.Fallbacks = append(block.Fallbacks, ostree.DeltaFallback{Object: o.name, Size: o.stored, USize: o.size})
	}
	g.count(p, block)
	return block, nil
}

func (g *generator) count(p *plan, block *ostree.Superblock) {
	s := &g.stats
	for _, objects := range p.parts {
		s.Objects += len(objects)
		for _, o := range objects {
			s.Content += o.size
			s.Stored += o.stored
			switch {
			case o.recipe == nil:
			case o.recipe.patch:
				s.Patched++
			default:
				s.Copied++
			}
		}
	}
	for _, part := range block.Parts {
		s.Parts += part.Size
	}
	for _, f := range block.Fallbacks {
		s.Fallbacks++
		s.FallbackBytes += f.Size
	}
}

// writePart writes the file of a part.
func (g *generator) writePart(ctx context.Context, number int, objects []*object) (part ostree.DeltaPart, err error) {
	file, err := g.files.Create(number)
	if err != nil {
		return part, err
	}
	defer func() {
		if cerr := file.Close(); err == nil {
			err = cerr
		}
	}()
	out := &measured{w: file, sum: sha256.New()}
	w := partWriter{g: g}
	if err := w.write(ctx, out, objects); err != nil {
		return part, fmt.Errorf("part %d: %w", number, err)
	}
	part.Size = out.n
	part.Checksum = ostree.Checksum(out.sum.Sum(nil))
	for _, o := range objects {
		part.Objects = append(part.Objects, o.name)
		part.USize += o.size
	}
	return part, nil
}
