package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// Repo is what Generate reads: a repository in archive mode, such as
// [*ostree.Repo]. It is used by several goroutines at once.
type Repo interface {
	CommitData(c ostree.Checksum) (*ostree.Commit, []byte, error)
	DetachedMeta(commit ostree.Checksum) (gvariant.Dict, error)
	DirTree(c ostree.Checksum) (*ostree.DirTree, error)
	Open(name ostree.ObjectName) (fs.File, error) // as stored
}

// tree is what a commit consists of.
type tree struct {
	metadata []ostree.ObjectName // each once, the way down
	files    []treeFile
	has      map[ostree.ObjectName]struct{}
}

// treeFile is a file at a path. Not all paths of a file are listed, when there
// are too many.
type treeFile struct {
	path string
	sum  ostree.Checksum
}

// maxPaths is how many files a tree has at least when a directory that comes
// once more is passed over.
const maxPaths = 1 << 19

// readTree walks the tree of a commit; without one, the tree is empty.
func readTree(ctx context.Context, repo Repo, commit ostree.Checksum) (*tree, error) {
	t := &tree{has: map[ostree.ObjectName]struct{}{}}
	if commit.IsZero() {
		return t, nil
	}
	c, _, err := repo.CommitData(commit)
	if err != nil {
		return nil, err
	}
	t.add(ostree.ObjectName{Checksum: c.TreeMeta, Type: ostree.TypeDirMeta})
	if err := t.walk(ctx, repo, c.Tree, ""); err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit, err)
	}
	return t, nil
}

func (t *tree) walk(ctx context.Context, repo Repo, sum ostree.Checksum, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	first := t.add(ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirTree})
	if !first && len(t.files) > maxPaths {
		return nil // trees of few objects can have any number of paths
	}
	d, err := repo.DirTree(sum)
	if err != nil {
		return err
	}
	for _, f := range d.Files {
		t.has[ostree.ObjectName{Checksum: f.File, Type: ostree.TypeFile}] = struct{}{}
		t.files = append(t.files, treeFile{path.Join(dir, f.Name), f.File})
	}
	for _, s := range d.Dirs {
		t.add(ostree.ObjectName{Checksum: s.Meta, Type: ostree.TypeDirMeta})
		if err := t.walk(ctx, repo, s.Tree, path.Join(dir, s.Name)); err != nil {
			return err
		}
	}
	return nil
}

// add notes a metadata object and tells whether it is the first time.
func (t *tree) add(n ostree.ObjectName) bool {
	if _, ok := t.has[n]; ok {
		return false
	}
	t.has[n] = struct{}{}
	t.metadata = append(t.metadata, n)
	return true
}

// object is something that the delta brings.
type object struct {
	name   ostree.ObjectName
	path   string             // of a file
	header *ostree.FileHeader // of a file
	size   uint64             // of the content, or of metadata
	stored uint64             // of the file in the repository
	kind   kind
	group  string // files of a group are alike
	recipe *recipe
}

// fresh lists what is in to and not in from.
func fresh(from, to *tree) []*object {
	var objects []*object
	for _, n := range to.metadata {
		if _, ok := from.has[n]; !ok {
			objects = append(objects, &object{name: n})
		}
	}
	seen := map[ostree.Checksum]struct{}{}
	for _, f := range to.files {
		n := ostree.ObjectName{Checksum: f.sum, Type: ostree.TypeFile}
		if _, ok := from.has[n]; ok {
			continue
		}
		if _, ok := seen[f.sum]; !ok {
			seen[f.sum] = struct{}{}
			objects = append(objects, &object{name: n, path: f.path})
		}
	}
	return objects
}

// inspect fills in what must be known of an object to plan.
func (o *object) inspect(repo Repo) (err error) {
	stored, err := repo.Open(o.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	info, err := stored.Stat()
	if err != nil {
		return err
	}
	o.stored = uint64(info.Size())
	if o.name.Type != ostree.TypeFile {
		o.size, o.kind = o.stored, kindPlain
		return nil
	}
	z, err := ostree.NewFilezReader(stored)
	if err != nil {
		return &ostree.ObjectError{Name: o.name, Err: err}
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	header := *z.Header()
	o.header, o.size = &header, z.Size()
	if header.IsSymlink() {
		o.size = uint64(len(header.Symlink))
	}
	var magic [1024]byte
	n, err := io.ReadFull(z, magic[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return &ostree.ObjectError{Name: o.name, Err: err}
	}
	o.classify(magic[:n])
	return nil
}
