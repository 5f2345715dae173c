package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"freshet/internal/ostree"
)

// checkObjects verifies all objects in the order in which they lie in their
// folders, whether something needs them or not. Damage is told later, when it is
// known who needs it.
func (c *checker) checkObjects(ctx context.Context) error {
	if c.report.Incremental {
		return nil
	}
	folders, err := objectFolders(c.repo.FS())
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.opt.Workers)
	var done atomic.Int64
	for _, folder := range folders {
		group.Go(func() error {
			err := c.checkFolder(ctx, folder)
			c.progress("objects", done.Add(1), int64(len(folders)))
			return err
		})
	}
	return group.Wait()
}

func (c *checker) checkFolder(ctx context.Context, folder string) error {
	return eachObject(c.repo.FS(), folder, func(name ostree.ObjectName, _ fs.DirEntry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if name == (ostree.ObjectName{}) {
			c.mu.Lock()
			c.report.Strangers++
			c.mu.Unlock()
			return nil
		}
		if err := c.verify(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.mu.Lock()
			c.broken[name] = err
			c.mu.Unlock()
		}
		return nil
	})
}

// reportBroken tells of damaged objects that nothing was seen to need.
func (c *checker) reportBroken(ctx context.Context) error {
	for _, name := range sortedKeys(c.broken, ostree.ObjectName.Compare) {
		if err := c.broken[name]; err != nil {
			c.bad(ctx, name, err, "", "")
		}
	}
	return context.Cause(ctx)
}

// countOrphans counts the objects that nothing needs. Those of a publish that is
// under way may be among them.
func (c *checker) countOrphans(ctx context.Context) error {
	if c.report.Incremental {
		return nil
	}
	folders, err := objectFolders(c.repo.FS())
	if err != nil {
		return err
	}
	for _, folder := range folders {
		err := eachObject(c.repo.FS(), folder, func(name ostree.ObjectName, entry fs.DirEntry) error {
			needed := name
			if name.Type == ostree.TypeCommitMeta {
				needed.Type = ostree.TypeCommit
			}
			if name == (ostree.ObjectName{}) || c.reached.Has(needed) {
				return context.Cause(ctx)
			}
			if info, err := entry.Info(); err == nil {
				c.report.Orphans++
				c.report.OrphanBytes += info.Size()
			}
			return context.Cause(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// objectFolders lists the folders of objects.
func objectFolders(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, "objects")
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	var folders []string
	for _, entry := range entries {
		if entry.IsDir() && len(entry.Name()) == 2 {
			folders = append(folders, "objects/"+entry.Name())
		}
	}
	return folders, nil
}

// eachObject calls fn for the files of a folder of objects: with the zero name for
// those that are no objects.
func eachObject(fsys fs.FS, folder string, fn func(ostree.ObjectName, fs.DirEntry) error) error {
	entries, err := fs.ReadDir(fsys, folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list objects: %w", err)
	}
	for _, entry := range entries {
		name, err := ostree.ParseObjectPath(folder + "/" + entry.Name())
		if err != nil || !entry.Type().IsRegular() {
			name = ostree.ObjectName{}
		}
		if err := fn(name, entry); err != nil {
			return err
		}
	}
	return nil
}
