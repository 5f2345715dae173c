package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"

	"freshet/internal/flatpak"
	"freshet/internal/hub/repolock"
	"freshet/internal/layout"
	"freshet/internal/ostree"
)

// NewDelta is a static delta to be published, in a folder of its own: the files
// superblock, 0, 1 …, which nobody writes to any more. On the file system of the
// repository they are linked, else copied.
type NewDelta struct {
	Name ostree.DeltaName
	Dir  string
}

// Errors about a static delta that is not published.
var (
	// ErrDeltaStale says that no ref has the commit to which a delta leads.
	ErrDeltaStale = errors.New("no ref has the commit to which it leads")
	// ErrDeltaThere says that a file of the delta is published already and has other
	// bytes: what has a name keeps its content, since caches hold it for long.
	ErrDeltaThere = errors.New("another delta is published under its name")
)

// AddDeltas publishes static deltas: their files, then the delta indexes and the
// summaries that name them. It reads the superblocks and verifies the checksums
// of the parts, but not that the parts make the objects of the commits. A delta
// that cannot be published is in Result.Failed by its String and does not hold up
// the others; the keys of the others are in Result.Keys. Log and commit are
// as for Publish; commit is called when at least one delta is left, even if
// it was published before.
func (r *Repository) AddDeltas(ctx context.Context, all []NewDelta, log io.Writer, commit func(Result) error) (Result, error) {
	p := r.begin(ctx, newJournal(log))
	failed := map[string]error{}
	p.result.Failed = failed
	err := p.changeDeltas(commit, func() error {
		for _, delta := range all {
			switch err := p.addDelta(delta); {
			case err == nil:
				p.result.Keys = append(p.result.Keys, delta.Name.String())
			case p.mayBeOneOf(err):
				failed[delta.Name.String()] = err
				p.log.printf("  static delta %s cannot be published: %v", delta.Name.Hex(), err)
			default:
				return err
			}
		}
		return nil
	})
	if err != nil {
		return p.result, fmt.Errorf("publish static deltas of %s: %w", r.opt.Name, err)
	}
	return p.result, nil
}

// RetireDeltas takes static deltas out of the delta indexes and the summaries, so
// that clients no longer choose them. The files stay for those that have chosen
// already, until RemoveDeltas. Those that nothing names are passed over.
func (r *Repository) RetireDeltas(ctx context.Context, all []ostree.DeltaName, commit func(Result) error) (Result, error) {
	p := r.begin(ctx, newJournal(nil))
	err := p.changeDeltas(commit, func() error {
		for _, name := range all {
			listed := p.listed(name.To)
			left := slices.DeleteFunc(slices.Clone(listed), func(d flatpak.Delta) bool { return d.From == name.From })
			if len(left) < len(listed) {
				p.result.Keys = append(p.result.Keys, name.String())
				p.setDeltas(name.To, left)
			}
		}
		return nil
	})
	if err != nil {
		return p.result, fmt.Errorf("retire static deltas of %s: %w", r.opt.Name, err)
	}
	return p.result, nil
}

// RemoveDeltas deletes the files of static deltas, of which none may be named by a
// delta index any more. Those that are not there are passed over.
func (r *Repository) RemoveDeltas(ctx context.Context, all []ostree.DeltaName) error {
	p := r.begin(ctx, newJournal(nil))
	err := p.alone(repolock.Exclusive, func() error {
		for _, name := range all {
			if slices.ContainsFunc(p.listed(name.To), func(d flatpak.Delta) bool { return d.From == name.From }) {
				return fmt.Errorf("static delta %s is still listed", name.Hex())
			}
		}
		return p.removeDeltas(all)
	})
	if err != nil {
		return fmt.Errorf("remove static deltas of %s: %w", r.opt.Name, err)
	}
	return nil
}

// StoredDeltas lists the static deltas of which files are there, whether clients
// find them or not, sorted.
func (r *Repository) StoredDeltas() ([]ostree.DeltaName, error) {
	names, err := ostree.ListDeltas(r.root.FS(), "deltas")
	if err != nil {
		return nil, fmt.Errorf("list static deltas of %s: %w", r.opt.Name, err)
	}
	return names, nil
}

// Signatures returns the detached metadata of a published commit, a{sv} with its
// signatures, as the file objects/….commitmeta has it; nil when it has none.
func (r *Repository) Signatures(commit ostree.Checksum) ([]byte, error) {
	data, err := r.root.ReadFile(commitMetaName(commit).Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signatures of commit %s: %w", commit, err)
	}
	return data, nil
}

// changeDeltas switches over to what stage stages, and the summaries with it. It
// calls commit when Result.Keys names at least one delta, before the next publish
// may begin: what is told of two changes has their order.
func (p *publication) changeDeltas(commit func(Result) error, stage func() error) error {
	return p.alone(repolock.Shared, func() error {
		err := p.change(func() (*flatpak.Files, error) {
			if err := stage(); err != nil {
				return nil, err
			}
			return p.summarize()
		})
		if err != nil || len(p.result.Keys) == 0 {
			return err
		}
		return p.tell(commit)
	})
}

// alone runs fn while no publish runs, under a lock against other programs.
func (p *publication) alone(take func(context.Context, *os.Root) (*repolock.Lock, error), fn func() error) error {
	release, err := p.r.acquire(p.ctx)
	if err != nil {
		return err
	}
	defer release()
	lock, err := take(p.ctx, p.r.root)
	if err != nil {
		return err
	}
	defer lock.Release() //nolint:errcheck // nothing was written to it
	return fn()
}

// summarize stages summaries when static deltas changed.
func (p *publication) summarize() (*flatpak.Files, error) {
	if len(p.led) == 0 {
		return nil, nil
	}
	files, err := p.buildSummaries()
	if err != nil {
		return nil, err
	}
	return files, p.stageSummaries(files)
}

// listed are the static deltas to a commit that its delta index names. The index
// in memory knows those of heads.
func (p *publication) listed(to ostree.Checksum) []flatpak.Delta {
	if known := p.r.index.Deltas(to); len(known) > 0 {
		return known
	}
	if _, ok := p.led[to]; ok {
		return nil
	}
	var all []flatpak.Delta
	for name, sum := range readDeltaIndex(p.r.root.FS(), to) {
		all = append(all, flatpak.Delta{From: name.From, Superblock: sum})
	}
	return all
}

// addDelta stages a static delta and takes it into the index.
func (p *publication) addDelta(delta NewDelta) (err error) {
	if !p.isHead(delta.Name.To) {
		return ErrDeltaStale
	}
	dir, err := os.OpenRoot(delta.Dir)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	data, err := readBoundedFile(dir, path.Base(delta.Name.SuperblockPath()))
	if err != nil {
		return err
	}
	block, err := ostree.ParseSuperblock(data)
	if err != nil {
		return err
	}
	if block.Name != delta.Name {
		return fmt.Errorf("%w: the superblock is that of delta %s", ostree.ErrMalformed, block.Name.Hex())
	}
	superblock := delta.Name.SuperblockPath()
	there, err := p.r.root.ReadFile(superblock)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && !slices.Equal(there, data) {
		return ErrDeltaThere
	}
	parts, err := p.newParts(block, dir)
	if err != nil {
		return err
	}
	// Nothing of a delta that is refused is staged.
	for _, part := range parts {
		file := delta.Name.PartPath(part)
		p.paths[file] = layout.Payload
		if err := p.tx.Link(layout.Payload, file, dir, strconv.Itoa(part)); err != nil {
			return err
		}
	}
	if there == nil {
		if err := p.put(superblock, data); err != nil {
			return err
		}
	}
	p.takeDelta(delta.Name, ostree.ChecksumOf(data))
	p.log.printf("  static delta %s: %s", delta.Name.Hex(), count(len(block.Parts), "part"))
	return nil
}

// takeDelta takes a static delta into the index, in the place of another one of
// the same name.
func (p *publication) takeDelta(name ostree.DeltaName, superblock ostree.Checksum) {
	added := flatpak.Delta{From: name.From, Superblock: superblock}
	before := p.listed(name.To)
	if slices.Contains(before, added) {
		return
	}
	after := slices.DeleteFunc(slices.Clone(before), func(d flatpak.Delta) bool { return d.From == name.From })
	p.setDeltas(name.To, append(after, added))
}

// newParts verifies the parts of a static delta and returns those that are neither
// inline nor published. One that is published has to be the same.
func (p *publication) newParts(block *ostree.Superblock, dir *os.Root) ([]int, error) {
	var parts []int
	for part := range block.Parts {
		file := block.Name.PartPath(part)
		if block.Metadata.Has(file) {
			continue
		}
		if err := verifyPart(block, part, dir, strconv.Itoa(part)); err != nil {
			return nil, fmt.Errorf("part %d: %w", part, err)
		}
		switch err := verifyPart(block, part, p.r.root, file); {
		case errors.Is(err, fs.ErrNotExist):
			parts = append(parts, part)
		case err != nil:
			return nil, fmt.Errorf("part %d: %w: %w", part, ErrDeltaThere, err)
		}
	}
	return parts, nil
}

func verifyPart(block *ostree.Superblock, part int, dir *os.Root, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(block.VerifyPart(part, f), f.Close())
}

// isHead tells whether a ref has a commit.
func (p *publication) isHead(sum ostree.Checksum) bool {
	for _, head := range p.r.index.Refs() {
		if head == sum {
			return true
		}
	}
	return false
}

// removeDeltas deletes the files of static deltas, of each the superblock first:
// without it there is no delta.
func (p *publication) removeDeltas(all []ostree.DeltaName) error {
	p.tx = p.r.store.Begin()
	for _, name := range all {
		entries, err := fs.ReadDir(p.r.root.FS(), name.Dir())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = p.tx.Remove(layout.Payload, name.SuperblockPath())
		}
		for _, entry := range entries {
			if err == nil && entry.Name() != path.Base(name.SuperblockPath()) {
				err = p.tx.Remove(layout.Payload, path.Join(name.Dir(), entry.Name()))
			}
		}
		if err != nil {
			return errors.Join(err, p.tx.Abort())
		}
	}
	if err := p.tx.Commit(p.ctx, []byte("{}")); err != nil {
		return err
	}
	for _, name := range all {
		_ = p.r.root.Remove(name.Dir()) // an empty folder does no harm
	}
	return p.tx.Done()
}

// readBoundedFile reads a metadata file.
func readBoundedFile(dir *os.Root, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, ostree.MaxMetadataSize+1))
	if err = errors.Join(err, f.Close()); err == nil && len(data) > ostree.MaxMetadataSize {
		err = fmt.Errorf("%s: %w", name, ostree.ErrTooLarge)
	}
	return data, err
}
