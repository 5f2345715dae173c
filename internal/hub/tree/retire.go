package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"
)

// Retired counts what [Trees.Retire] removed.
type Retired struct {
	Generations, Pushes, Blobs int
	// Bytes is the size of the blobs.
	Bytes int64
}

// Retire removes generations whose grace time is over, pushes of which nothing
// was heard for long, and contents that nothing needs any more. The hub calls
// it now and then. The first call after Open, and one after an error, also
// looks for contents that were left behind, which reads the names of all.
func (t *Trees) Retire(ctx context.Context) (Retired, error) {
	var r Retired
	t.mu.Lock()
	sweep := t.sweepDue
	t.sweepDue = false
	t.mu.Unlock()
	err := errors.Join(t.retirePushes(&r), t.each(ctx, func(s *state) error { return t.retireTree(ctx, s, &r) }))
	if err == nil && sweep {
		err = t.sweepBlobs(ctx, &r)
	}
	if err != nil {
		// What was left undone here, only a look at all contents finds.
		t.mu.Lock()
		t.sweepDue = true
		t.mu.Unlock()
		return r, fmt.Errorf("retire: %w", err)
	}
	return r, nil
}

func (t *Trees) retirePushes(r *Retired) error {
	var old []*push
	t.mu.Lock()
	for _, p := range t.pushes {
		if !p.publishing && time.Since(p.touched) >= t.opts.PushTTL {
			p.publishing = true // by nobody: it cannot be published any more
			old = append(old, p)
		}
	}
	t.mu.Unlock()
	for _, p := range old {
		if err := t.drop(p); err != nil {
			return err
		}
		r.Pushes++
	}
	return nil
}

func (t *Trees) retireTree(ctx context.Context, s *state, r *Retired) error {
	// While a switch is pending, its intent is what a crash starts from.
	switch {
	case s.pending != nil:
		return nil
	case s.broken != nil:
		return s.broken
	}
	var keep, gone []*generation
	var records []record
	for _, g := range s.generations {
		if g.Retires != nil && !g.Retires.After(time.Now()) {
			gone = append(gone, g)
		} else {
			keep = append(keep, g)
			records = append(records, g.record)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := t.writeState(s, records); err != nil {
		return err
	}
	s.mu.Lock()
	s.generations = keep
	s.mu.Unlock()
	for _, g := range gone {
		m, err := t.readManifest(s.manifest(g.ID))
		if err != nil {
			return err
		}
		if err := errors.Join(g.root.Close(), t.dir.RemoveAll(s.generationDir(g.ID)), t.dir.RemoveAll(s.manifest(g.ID))); err != nil {
			return err
		}
		r.Generations++
		for i := range m.Files {
			if m.Files[i].Link != "" {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.retireBlob(m.Files[i].SHA256, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Trees) retireBlob(sum string, r *Retired) error {
	n, size, err := t.removeUnused(sum)
	r.Blobs += n
	r.Bytes += size
	return err
}

// sweepBlobs removes what no generation has a link to and no push wants.
func (t *Trees) sweepBlobs(ctx context.Context, r *Retired) error {
	fsys := t.dir.Root.FS()
	folders, err := fs.ReadDir(fsys, "blobs")
	if err != nil {
		return err
	}
	places := []string{t.incomingName()}
	for _, folder := range folders {
		places = append(places, path.Join("blobs", folder.Name()))
	}
	for _, place := range places {
		entries, err := fs.ReadDir(fsys, place)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if isSHA256(e.Name()) {
				if err := t.retireBlob(e.Name(), r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
