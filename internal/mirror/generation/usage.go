package generation

import (
	"context"
	"errors"
	"io/fs"
	"slices"
)

// Freed is what the file system would have again without some generations.
type Freed struct {
	Bytes  int64 // of contents that no other generation of any project has
	Files  int64 // how many they are
	Inodes int64 // they, folders, and the files beside the tree
}

// Freed says what would be free at least if these generations of the project were dropped
// together: what the current one has at the same path counts as staying, though there may
// be two copies of it. Time and memory are in proportion to what they have that the
// current one has not.
func (p *Project) Freed(ctx context.Context, ids ...string) (Freed, error) {
	c := counter{objects: p.store.objects, only: make(map[uint64]*inode)}
	if current := p.Current(); !slices.Contains(ids, current.ID()) {
		c.stays = current
	}
	var sum Freed
	for _, id := range ids {
		g, err := p.Generation(id)
		if err != nil {
			return sum, err
		}
		if err := c.count(ctx, p, g); err != nil {
			return sum, err
		}
		sum.Inodes += g.info.Folders + 3 // the folder of the generation, and two files in it
	}
	for _, n := range c.only {
		if n.names == n.links {
			sum.Files++
			sum.Inodes++
			sum.Bytes += n.size
		}
	}
	return sum, nil
}

// counter counts the names that files have in some generations.
type counter struct {
	objects *objects
	stays   *Generation // whose files are not counted; may be nil
	only    map[uint64]*inode
}

type inode struct {
	size         int64
	names, links uint64 // that were met; that there are
}

func (c *counter) count(ctx context.Context, p *Project, g *Generation) error {
	t, err := openTree(p.dir, generationsName+"/"+g.info.ID+"/"+treeName)
	if err != nil {
		return err
	}
	defer t.close() //nolint:errcheck // opened for reading
	for change, err := range Changes(c.stays, g) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if f := change.Right; f != nil && !f.IsLink() {
			if err := c.add(t, *f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// add counts a name of a file, and that of its object with the first of them.
func (c *counter) add(t *tree, f File) error {
	in, name, err := t.at(f.Path, false)
	if err != nil {
		return err
	}
	info, err := in.Lstat(name)
	if err != nil {
		return err
	}
	n := c.only[info.Inode]
	if n == nil {
		n = &inode{size: info.Size, links: info.Links}
		c.only[info.Inode] = n
		isObject, err := c.objects.isFile(f.SHA256, info.Inode)
		if err != nil {
			return err
		}
		if isObject {
			n.names++
		}
	}
	n.names++
	return nil
}
