package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"freshet/internal/durable"
	"freshet/internal/hub/quarantine"
	"freshet/internal/hub/repolock"
	"freshet/internal/ostree"
)

// overlay is the file system in which a file is that of the first folder that
// has it.
type overlay []fs.FS

// Open implements fs.FS.
func (o overlay) Open(name string) (file fs.File, err error) {
	for _, fsys := range o {
		if file, err = fsys.Open(name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return file, err
}

// Stat implements fs.StatFS.
func (o overlay) Stat(name string) (info fs.FileInfo, err error) {
	for _, fsys := range o {
		if info, err = fs.Stat(fsys, name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return info, err
}

// openArchive opens archive repositories as one; the first one's objects count.
// The paths of objects are made of checked names and need no os.Root, which
// would cost a system call for every folder on the way.
func openArchive(dirs ...string) (*ostree.Repo, error) {
	layers := make(overlay, len(dirs))
	for i, dir := range dirs {
		layers[i] = os.DirFS(dir)
	}
	var fsys fs.FS = layers
	if len(layers) == 1 {
		fsys = layers[0]
	}
	repo, err := ostree.OpenRepo(fsys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dirs[0], err)
	}
	return repo, nil
}

// probe looks whether an object is there and can be what its name says: for
// metadata, which is small, by its checksum, for files by their header and size.
// The error is fs.ErrNotExist when there is none; any other tells the damage.
func probe(in *ostree.Repo, name ostree.ObjectName) (found object, err error) {
	if name.Type != ostree.TypeFile {
		f, err := in.Open(name)
		if err != nil {
			return object{}, err
		}
		info, err := ostree.VerifyObject(name, f)
		return object{stored: info.Stored}, errors.Join(err, f.Close())
	}
	f, err := in.OpenFile(name.Checksum)
	if err != nil {
		return object{}, err
	}
	symlink, header, content := f.Header().IsSymlink(), f.Stored(), f.Size()
	stored, err := f.StoredSize()
	if err = errors.Join(err, f.Close()); err != nil {
		return object{}, err
	}
	if most := uint64(max(0, stored-header)); most < content/maxInflation {
		return object{}, &ostree.ObjectError{Name: name, Err: fmt.Errorf("%w: %d bytes cannot hold %d", ostree.ErrMalformed, most, content)}
	}
	if content > 0 && stored <= header {
		return object{}, &ostree.ObjectError{Name: name, Err: fmt.Errorf("%w: its content is missing", ostree.ErrMalformed)}
	}
	return object{stored: stored, symlink: symlink}, nil
}

// maxInflation bounds how many bytes deflate makes of one (1032, of which runs of
// 258 bytes take two bits).
const maxInflation = 1032

// apart tells whether an object is in quarantine. It is asked for every object that is
// uploaded, and makes one system call if it is not.
func (r *Repository) apart(name ostree.ObjectName) bool {
	if _, err := os.Lstat(filepath.Join(r.opt.Dir, filepath.FromSlash(quarantine.Path(name)))); err != nil {
		return false
	}
	there, err := r.objects.Has(name)
	return err == nil && !there
}

// Quarantined tells whether the file at a path of the repository is not there because
// it is in quarantine.
func (r *Repository) Quarantined(path string) bool {
	name, err := ostree.ParseObjectPath(path)
	return err == nil && r.apart(name)
}

// replace gives the place of a damaged object of the repository to an upload that
// was verified; if it is in quarantine, that ends. It is the only case in which a
// published object is rewritten.
func (r *Repository) replace(ctx context.Context, name ostree.ObjectName, temp string) error {
	if err := syncPath(temp); err != nil {
		return err
	}
	if err := r.replaceLocked(ctx, name, temp); err != nil {
		return err
	}
	r.log.WarnContext(ctx, "a damaged object was replaced by an upload", slog.String("object", name.String()))
	if r.opt.Repaired != nil {
		r.opt.Repaired()
	}
	return nil
}

func (r *Repository) replaceLocked(ctx context.Context, name ostree.ObjectName, temp string) error {
	lock, err := repolock.Shared(ctx, r.root)
	if err != nil {
		return err
	}
	defer lock.Release() //nolint:errcheck // nothing was written
	if err := r.overwriteCopy(ctx, name, temp); err != nil {
		return err
	}
	dir := durable.Dir{Root: r.root}
	if err := quarantine.Repaired(dir, name.Path()); err != nil {
		return err
	}
	target := filepath.Join(r.opt.Dir, filepath.FromSlash(name.Path()))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := os.Rename(temp, target); err != nil {
		return err
	}
	if err := syncPath(filepath.Dir(target)); err != nil {
		return err
	}
	return quarantine.Drop(dir, name)
}

// overwriteCopy makes an upload the content of the object in the copy of the
// repository, if there is one.
func (r *Repository) overwriteCopy(ctx context.Context, name ostree.ObjectName, temp string) (err error) {
	f, err := os.Open(temp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return r.store.Overwrite(ctx, name.Path(), f)
}

// syncPath forces a file or folder to the disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func commitName(sum ostree.Checksum) ostree.ObjectName {
	return ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}
}

func commitMetaName(sum ostree.Checksum) ostree.ObjectName {
	return ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommitMeta}
}
