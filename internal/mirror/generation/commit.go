package generation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"freshet/internal/durable"
)

// Commit makes what is staged durable and switches to it. If there is an error and no
// generation, nothing has changed, and the staging has ended as by Close. If there
// are both, the switch has happened, and the error is of what is tidied up behind it,
// which is done again later.
func (st *Staging) Commit(ctx context.Context, meta Meta) (*Generation, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return nil, ErrEnded
	}
	var g *Generation
	err := st.end(func() (err error) {
		if g, err = st.commit(ctx, meta); g == nil {
			return err
		}
		if err := errors.Join(err, st.settle(ctx)); err != nil {
			return err // the next staging goes on with that
		}
		return st.leave()
	})
	if err != nil {
		err = fmt.Errorf("commit of %s: %w", st.p.name, err)
	}
	return g, err
}

func (st *Staging) commit(ctx context.Context, meta Meta) (*Generation, error) {
	p := st.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := st.journal.flush(); err != nil { // for settleFormer
		return nil, err
	}
	id, err := p.nextID()
	if err != nil {
		return nil, err
	}
	info := Info{
		Project: p.name, ID: id, Begun: st.begun, Folders: st.next.made + 1,
		AddedFiles: st.fetched, AddedBytes: st.bytes, Meta: meta,
	}
	if err := st.writeManifest(ctx, &info); err != nil {
		return nil, err
	}
	info.Switched = p.now()
	data, err := info.encode()
	if err != nil {
		return nil, err
	}
	if err := create(p.dir, st.dir+"/"+infoName, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	}); err != nil {
		return nil, err
	}
	if err := p.dir.Syncfs(); err != nil {
		return nil, err
	}
	if _, drained := p.Drained(); drained {
		// Or a loss of power could leave the note and the generation, which would go then.
		if err := errors.Join(p.dir.Remove(drainedName), p.dir.SyncDir(".")); err != nil {
			return nil, err
		}
	}
	if err := p.dir.Rename(st.dir, generationsName+"/"+id); err != nil {
		return nil, err
	}
	g, err := st.show(id)
	if g == nil {
		err = errors.Join(err, p.discard(id))
	}
	return g, err
}

// show switches to a generation that is whole and has its name.
func (st *Staging) show(id string) (*Generation, error) {
	if err := st.p.dir.SyncDir(generationsName); err != nil {
		return nil, err
	}
	g, err := openGeneration(st.p, id)
	if err != nil {
		return nil, err
	}
	return st.p.switchTo(g)
}

func (st *Staging) writeManifest(ctx context.Context, info *Info) error {
	return create(st.p.dir, st.dir+"/"+manifestName, func(f *os.File) error {
		w, err := newManifestWriter(f, info.Project, info.ID)
		if err != nil {
			return err
		}
		for file, err := range lastOfEach(st.records.All()) {
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := w.add(file.File); err != nil {
				return err
			}
			if file.IsLink() {
				info.Links++
			} else {
				info.Files++
				info.Bytes += file.Size
			}
		}
		sum, err := w.close()
		info.Manifest = hex.EncodeToString(sum)
		return err
	})
}

// create writes a file that is not there yet. The disk is not waited for.
func create(d durable.Dir, name string, write func(*os.File) error) error {
	if err := d.Remove(name); err != nil { // from a commit that failed
		return err
	}
	f, err := d.Create(name, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// settle makes what was fetched known to all projects by its content, now that it is
// on the disk. A next staging goes on where this ends.
func (st *Staging) settle(ctx context.Context) error {
	for r, err := range lastOfEach(st.records.All()) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && r.fetched {
			err = st.p.adopt(st.next, r.File)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Project) adopt(t *tree, f File) error {
	in, name, err := t.at(f.Path, false)
	if err == nil {
		err = p.store.objects.adopt(f.SHA256, in, name)
	}
	return err
}

// settleFormer is settle for a staging that was committed and not settled, because the
// program ended: its journal tells of files in the newest generation.
func (p *Project) settleFormer(ctx context.Context, j *journal) error {
	var newest *Generation
	for _, g := range *p.kept.Load() {
		if newest == nil || number(g.info.ID) > number(newest.info.ID) {
			newest = g
		}
	}
	if newest == nil {
		return nil
	}
	t, err := openTree(p.dir, generationsName+"/"+newest.info.ID+"/"+treeName)
	if err != nil {
		return err
	}
	defer t.close() //nolint:errcheck // opened for reading
	for f, err := range newest.Files() {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && j.has(f.Path) {
			err = p.adopt(t, f)
		}
		if errors.Is(err, ErrManifest) {
			return nil // then they are known by their paths alone
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
