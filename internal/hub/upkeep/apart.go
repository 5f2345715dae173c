package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"syscall"
	"time"

	"freshet/internal/hub/nameset"
	"freshet/internal/hub/quarantine"
	"freshet/internal/ostree"
)

// isWrong tells bytes that are not what they should be from bytes that could not be
// read.
func isWrong(err error) bool {
	if _, ok := errors.AsType[*ostree.MismatchError](err); ok {
		return true
	}
	return errors.Is(err, ostree.ErrMalformed) || errors.Is(err, ostree.ErrTooLarge) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isDamage tells what is wrong with an object from what is wrong with reading it.
func isDamage(err error) bool {
	return isWrong(err) || errors.Is(err, syscall.EIO) // the disk cannot read it
}

// setApart moves an object into quarantine, unless a second look, which is not
// answered from memory, finds it sound. What cannot be read stays: nobody is served
// anything wrong, and disks sometimes come back.
func (c *checker) setApart(ctx context.Context, name ostree.ObjectName, p *Problem) (sound bool, err error) {
	if !quarantine.Keeps(name) {
		return false, nil
	}
	f, err := c.dir.Root.Open(name.Path())
	if err != nil {
		return false, ignoreGone(err)
	}
	info, err := f.Stat()
	var cause error
	if err == nil {
		dropCache(f)
		_, cause = ostree.VerifyObject(name, f)
	}
	if err = errors.Join(err, f.Close()); err != nil || !isWrong(cause) {
		return cause == nil && err == nil, err
	}
	err = quarantine.Put(ctx, c.dir, name, info, quarantine.Note{Error: ostree.Reason(cause), Since: time.Now().UTC().Truncate(time.Second)})
	if errors.Is(err, quarantine.ErrMoved) {
		return c.verify(name) == nil, nil // somebody was faster
	}
	if err != nil {
		return false, fmt.Errorf("quarantine: %w", err)
	}
	p.Apart = true
	return false, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// checkApart finds which refs need what is in quarantine, and writes that down. A
// check that did not come by these objects tells of those that are needed.
func (c *checker) checkApart(ctx context.Context) error {
	items, err := quarantine.List(c.dir.Root)
	if err != nil || len(items) == 0 {
		return err
	}
	hurt, err := c.whoNeeds(ctx, items, context.Cause)
	if err != nil {
		return err
	}
	for _, item := range items {
		refs := hurt[item.Name]
		if _, told := c.broken[item.Name]; !told && c.retry(ctx, item.Name, refs) {
			continue
		}
		if err := c.note(item, refs); err != nil {
			return err
		}
		c.report.Apart++
		if c.opt.Kept != nil {
			item.Needed(refs, time.Now())
			c.opt.Kept(item)
		}
	}
	return context.Cause(ctx)
}

// retry tries again to repair an object in quarantine. One that is left is a problem if
// refs need it.
func (c *checker) retry(ctx context.Context, name ostree.ObjectName, refs []string) (repaired bool) {
	if len(refs) > 0 {
		return c.bad(ctx, name, fs.ErrNotExist, refs[0], "")
	}
	p := Problem{Kind: KindApart, Path: name.Path(), Error: "it is in quarantine"}
	if err := c.mend(ctx, name, &p); err != nil {
		return false
	}
	p.Repaired = true
	c.found(p)
	return true
}

// whoNeeds tells which heads need what is in quarantine; step is called now and then.
func (c *checker) whoNeeds(ctx context.Context, items []quarantine.Item, step func(context.Context) error) (map[ostree.ObjectName][]string, error) {
	heads, err := c.heads()
	if err != nil {
		return nil, err
	}
	names := make([]ostree.ObjectName, len(items))
	for i, item := range items {
		names[i] = item.Name
	}
	return findHurt(ctx, c.repo, heads, names, step)
}

// note writes down which refs need an object in quarantine, if that is news.
func (c *checker) note(item quarantine.Item, refs []string) error {
	if c.opt.DryRun || !item.Counted.IsZero() && item.More == 0 && slices.Equal(refs, item.Refs) {
		return nil
	}
	item.Needed(refs, time.Now().UTC().Truncate(time.Second))
	return quarantine.Write(c.dir, item.Name, item.Note)
}

// hurting looks for the refs that need certain objects.
type hurting struct {
	repo  *ostree.Repo
	step  func(context.Context) error // before each folder
	names map[ostree.ObjectName]bool
	clean nameset.Set // folders that need none of them
	hurt  map[ostree.Checksum][]ostree.ObjectName
}

// findHurt tells which heads need which of the objects; the refs of each are sorted. It
// reads every folder of every head once, and calls step before.
func findHurt(ctx context.Context, repo *ostree.Repo, heads map[string]ostree.Checksum, names []ostree.ObjectName, step func(context.Context) error,
) (map[ostree.ObjectName][]string, error) {
	h := hurting{repo: repo, step: step, names: map[ostree.ObjectName]bool{}, hurt: map[ostree.Checksum][]ostree.ObjectName{}}
	for _, name := range names {
		h.names[name] = true
	}
	found := map[ostree.ObjectName][]string{}
	for _, ref := range slices.Sorted(maps.Keys(heads)) {
		needs, err := h.commit(ctx, heads[ref])
		if err != nil {
			return nil, err
		}
		for _, name := range needs {
			found[name] = append(found[name], ref)
		}
	}
	return found, nil
}

// commit lists those of the objects that a commit needs.
func (h *hurting) commit(ctx context.Context, sum ostree.Checksum) (needs []ostree.ObjectName, err error) {
	if needs = h.one(nil, ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}); len(needs) > 0 {
		return needs, nil
	}
	commit, err := h.repo.Commit(sum)
	if err != nil {
		return nil, nil //nolint:nilerr // the affair of the check
	}
	needs = h.one(needs, ostree.ObjectName{Checksum: commit.TreeMeta, Type: ostree.TypeDirMeta})
	below, err := h.tree(ctx, commit.Tree, 0)
	return unique(append(needs, below...)), err
}

// one adds an object, if it is one of them.
func (h *hurting) one(needs []ostree.ObjectName, name ostree.ObjectName) []ostree.ObjectName {
	if h.names[name] {
		needs = append(needs, name)
	}
	return needs
}

// tree lists those of the objects that a folder needs.
func (h *hurting) tree(ctx context.Context, sum ostree.Checksum, depth int) (needs []ostree.ObjectName, err error) {
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirTree}
	if known, ok := h.hurt[sum]; ok || depth > maxTreeDepth || h.clean.Has(name) {
		return known, nil
	}
	if err := h.step(ctx); err != nil {
		return nil, err
	}
	needs = h.one(nil, name)
	if tree, err := h.repo.DirTree(sum); err == nil {
		for _, file := range tree.Files {
			needs = h.one(needs, ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile})
		}
		for _, dir := range tree.Dirs {
			needs = h.one(needs, ostree.ObjectName{Checksum: dir.Meta, Type: ostree.TypeDirMeta})
			below, err := h.tree(ctx, dir.Tree, depth+1)
			if err != nil {
				return nil, err
			}
			needs = append(needs, below...)
		}
	}
	if needs = unique(needs); len(needs) > 0 {
		h.hurt[sum] = needs
	} else {
		h.clean.Add(name)
	}
	return needs, context.Cause(ctx)
}

func unique(names []ostree.ObjectName) []ostree.ObjectName {
	slices.SortFunc(names, ostree.ObjectName.Compare)
	return slices.Compact(names)
}
