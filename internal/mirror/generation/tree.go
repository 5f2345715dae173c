package generation

import (
	"errors"
	"io/fs"

	"freshet/internal/durable"
)

// maxOpenFolders bounds the folders that a tree keeps open, beside those of one path.
const maxOpenFolders = 128

// tree works on the names below a folder by the folders that they are in, each of
// which is resolved once while paths come in order. It follows no symbolic links. It
// is not safe for concurrent use.
type tree struct {
	root *durable.Folder
	open map[string]*durable.Folder
	made int64 // folders
}

func openTree(d durable.Dir, name string) (*tree, error) {
	root, err := d.Folder(name)
	if err != nil {
		return nil, err
	}
	return &tree{root: root, open: make(map[string]*durable.Folder)}, nil
}

// close closes all folders.
func (t *tree) close() error { return errors.Join(t.reset(), t.root.Close()) }

func (t *tree) reset() error {
	var err error
	for _, f := range t.open {
		err = errors.Join(err, f.Close())
	}
	clear(t.open)
	return err
}

// folder returns the folder of this path, "" for the root. It is the tree's, and
// valid until the next call. One that is missing is made if create is set.
func (t *tree) folder(dir string, create bool) (*durable.Folder, error) {
	if f := t.open[dir]; f != nil {
		return f, nil
	}
	if len(t.open) > maxOpenFolders {
		if err := t.reset(); err != nil {
			return nil, err
		}
	}
	return t.descend(dir, create)
}

func (t *tree) descend(dir string, create bool) (*durable.Folder, error) {
	if dir == "" {
		return t.root, nil
	}
	if f := t.open[dir]; f != nil {
		return f, nil
	}
	parent, name := split(dir)
	up, err := t.descend(parent, create)
	if err != nil {
		return nil, err
	}
	f, err := up.Sub(name)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := up.Mkdir(name, 0o755); err != nil {
			return nil, err
		}
		t.made++
		f, err = up.Sub(name)
	}
	if err != nil {
		return nil, err
	}
	t.open[dir] = f
	return f, nil
}

// at returns the folder of a path, and the name in it.
func (t *tree) at(path string, create bool) (*durable.Folder, string, error) {
	dir, name := split(path)
	f, err := t.folder(dir, create)
	return f, name, err
}

// lstat tells of what is at a path, if there is anything.
func (t *tree) lstat(path string) (info durable.Info, ok bool, err error) {
	in, name, err := t.at(path, false)
	if err == nil {
		info, err = in.Lstat(name)
	}
	return info, err == nil, ignoreAbsent(err)
}
