package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"freshet/internal/ostree"
)

// maxTreeDepth bounds how deep folders nest.
const maxTreeDepth = 1024

// checkRefs checks that everything is there that refs need, the parents of their
// commits included as far as there are any.
func (c *checker) checkRefs(ctx context.Context) error {
	heads, err := c.heads()
	if err != nil {
		return err
	}
	c.report.Refs = len(heads)
	for i, ref := range slices.Sorted(maps.Keys(heads)) {
		if err := c.checkRef(ctx, ref, heads[ref]); err != nil {
			return err
		}
		c.progress("refs", int64(i+1), int64(len(heads)))
	}
	return nil
}

// heads are the commits of all refs, those of other collections by their paths.
func (c *checker) heads() (map[string]ostree.Checksum, error) {
	heads, err := c.repo.ListRefs()
	if errors.Is(err, ostree.ErrMalformed) {
		return c.soundHeads()
	}
	if err != nil {
		return nil, err
	}
	collections, err := c.repo.ListMirrors()
	if err != nil {
		return nil, err
	}
	for _, collection := range collections {
		mirrored, err := c.repo.ListMirrorRefs(collection)
		if err != nil {
			return nil, err
		}
		for ref, sum := range mirrored {
			heads[ostree.MirrorRefPath(collection, ref)] = sum
		}
	}
	return heads, nil
}

// soundHeads reads the refs one by one and tells of those that are damaged.
func (c *checker) soundHeads() (map[string]ostree.Checksum, error) {
	heads := map[string]ostree.Checksum{}
	err := fs.WalkDir(c.repo.FS(), "refs/heads", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		ref := path[len("refs/heads/"):]
		switch sum, err := c.repo.ResolveRef(ref); {
		case errors.Is(err, ostree.ErrMalformed):
			if !c.told(path) { // refs are read several times
				c.found(Problem{Kind: KindRef, Path: path, Ref: ref, Error: strings.TrimPrefix(err.Error(), "read ref "+path+": ")})
			}
		case err == nil:
			heads[ref] = sum
		}
		return nil
	})
	return heads, err
}

// checkRef checks the commits of a ref, the oldest first: what a commit shares
// with one that was checked is not looked at again.
func (c *checker) checkRef(ctx context.Context, ref string, head ostree.Checksum) error {
	var chain []ostree.Checksum
	for sum := head; !sum.IsZero(); {
		name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}
		if !c.reached.Add(name) {
			break
		}
		commit, err := c.repo.Commit(sum)
		if err != nil && sum != head && errors.Is(err, fs.ErrNotExist) {
			break // pruned
		}
		if err != nil && errors.Is(err, fs.ErrNotExist) && c.moved(ref, head) {
			return nil
		}
		if err != nil && c.bad(ctx, name, err, ref, "") {
			commit, err = c.repo.Commit(sum)
		}
		if err != nil {
			break // told
		}
		c.sound.Add(name)
		chain = append(chain, sum)
		sum = commit.Parent
	}
	for _, sum := range slices.Backward(chain) {
		if err := c.checkCommit(ctx, ref, sum); err != nil {
			return err
		}
	}
	if len(chain) > 0 && chain[0] == head && !c.before.commits[head] {
		c.checkCommitSignature(ref, head)
	}
	return nil
}

// moved tells whether a ref has another commit than it had.
func (c *checker) moved(ref string, was ostree.Checksum) bool {
	heads, err := c.heads()
	return err == nil && heads[ref] != was
}

func (c *checker) checkCommit(ctx context.Context, ref string, sum ostree.Checksum) error {
	c.report.Commits++
	c.seen.addCommit(sum)
	if c.before.commits[sum] {
		return nil
	}
	commit, err := c.repo.Commit(sum)
	if err != nil {
		return nil //nolint:nilerr // it was there a moment ago: pruned
	}
	var base ostree.Checksum
	if c.before.commits[commit.Parent] {
		if parent, err := c.repo.Commit(commit.Parent); err == nil {
			base = parent.Tree
		}
	}
	w := walk{checker: c, ref: ref, commit: sum}
	w.need(ctx, ostree.ObjectName{Checksum: commit.TreeMeta, Type: ostree.TypeDirMeta}, "/")
	return w.tree(ctx, commit.Tree, base, "", 0)
}

// walk goes over what a commit needs.
type walk struct {
	*checker
	ref    string
	commit ostree.Checksum
}

// need checks an object once, and reports whether it is sound.
func (w *walk) need(ctx context.Context, name ostree.ObjectName, in string) bool {
	w.reached.Add(name)
	if w.sound.Has(name) {
		return true
	}
	cause, known := w.broken[name]
	if known && cause == nil {
		return false // told
	}
	if !known {
		if cause = w.verify(name); cause == nil {
			return true
		}
	}
	if there, err := w.repo.Has(ostree.ObjectName{Checksum: w.commit, Type: ostree.TypeCommit}); err == nil && !there {
		return false // the commit is being pruned
	}
	return w.bad(ctx, name, cause, w.ref, in)
}

// tree goes over a folder. What is the same in the folder before, which was
// checked by an earlier check, is left out.
func (w *walk) tree(ctx context.Context, sum, before ostree.Checksum, in string, depth int) error {
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirTree}
	if sum == before || w.reached.Has(name) {
		return nil
	}
	if depth > maxTreeDepth {
		return fmt.Errorf("%s: folders nest deeper than %d", w.ref, maxTreeDepth)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if !w.need(ctx, name, in+"/") {
		return nil
	}
	tree, err := w.repo.DirTree(sum)
	if err != nil {
		return nil //nolint:nilerr // it was sound a moment ago: pruned
	}
	base := &ostree.DirTree{}
	if !before.IsZero() {
		if known, err := w.repo.DirTree(before); err == nil {
			base = known
		}
	}
	for _, file := range tree.Files {
		if known, ok := base.File(file.Name); !ok || known != file {
			w.need(ctx, ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile}, in+"/"+file.Name)
		}
	}
	for _, dir := range tree.Dirs {
		known, ok := base.Dir(dir.Name)
		below := in + "/" + dir.Name
		if !ok || known.Meta != dir.Meta {
			w.need(ctx, ostree.ObjectName{Checksum: dir.Meta, Type: ostree.TypeDirMeta}, below+"/")
		}
		if err := w.tree(ctx, dir.Tree, known.Tree, below, depth+1); err != nil {
			return err
		}
	}
	return nil
}
