package ostree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"freshet/internal/gvariant"
	"freshet/internal/keyfile"
)

const maxConfigSize = 1 << 20

// Repo reads an archive repository. It caches nothing, so it sees what others
// write meanwhile, and may be used by several goroutines at once if its file
// system may.
type Repo struct {
	fsys   fs.FS
	config *keyfile.File
}

// OpenRepo opens the repository that has its root in fsys. It reads the config
// and demands the mode archive-z2 (or archive, its newer name), otherwise the
// error wraps [ErrUnsupported].
func OpenRepo(fsys fs.FS) (*Repo, error) {
	data, err := readFile(fsys, "config", maxConfigSize)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	config, err := keyfile.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("open repository: config: %w", err)
	}
	if version, ok := config.Get("core", "repo_version"); !ok || version != "1" {
		return nil, fmt.Errorf("open repository: %w: repo_version %q", ErrUnsupported, version)
	}
	switch mode, _ := config.Get("core", "mode"); mode {
	case "archive-z2", "archive":
	default:
		return nil, fmt.Errorf("open repository: %w: mode %q is not archive-z2", ErrUnsupported, mode)
	}
	return &Repo{fsys: fsys, config: config}, nil
}

// FS returns the file system of the repository.
func (r *Repo) FS() fs.FS { return r.fsys }

// Config returns the config as it was when the repository was opened. It must
// not be changed.
func (r *Repo) Config() *keyfile.File { return r.config }

// CollectionID returns the repository's collection ID, or "".
func (r *Repo) CollectionID() string {
	id, _ := r.config.Get("core", "collection-id")
	return id
}

// ResolveRef returns the commit of a ref in refs/heads. When there is no such
// ref, the error wraps [fs.ErrNotExist].
func (r *Repo) ResolveRef(ref string) (Checksum, error) {
	if err := ValidateRef(ref); err != nil {
		return Checksum{}, err
	}
	return r.readRef(RefPath(ref))
}

// ResolveMirrorRef returns the commit of a ref of another collection, in
// refs/mirrors.
func (r *Repo) ResolveMirrorRef(collection, ref string) (Checksum, error) {
	if err := ValidateCollectionID(collection); err != nil {
		return Checksum{}, err
	}
	if err := ValidateRef(ref); err != nil {
		return Checksum{}, err
	}
	return r.readRef(MirrorRefPath(collection, ref))
}

func (r *Repo) readRef(path string) (Checksum, error) {
	data, err := readFile(r.fsys, path, 4096)
	if err != nil {
		return Checksum{}, fmt.Errorf("read ref: %w", err)
	}
	c, err := ParseRefFile(data)
	if err != nil {
		return Checksum{}, fmt.Errorf("read ref %s: %w: %w", path, ErrMalformed, err)
	}
	return c, nil
}

// ListRefs returns the refs in refs/heads with their commits. Files whose names
// are no refs, such as temporary ones, are passed over.
func (r *Repo) ListRefs() (map[string]Checksum, error) {
	return r.listRefs("refs/heads")
}

// ListMirrorRefs returns the refs of another collection, in refs/mirrors.
func (r *Repo) ListMirrorRefs(collection string) (map[string]Checksum, error) {
	if err := ValidateCollectionID(collection); err != nil {
		return nil, err
	}
	return r.listRefs("refs/mirrors/" + collection)
}

// ListMirrors returns the IDs of the collections in refs/mirrors, sorted.
func (r *Repo) ListMirrors() ([]string, error) {
	entries, err := fs.ReadDir(r.fsys, "refs/mirrors")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list collections: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && ValidateCollectionID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

func (r *Repo) listRefs(root string) (map[string]Checksum, error) {
	refs := map[string]Checksum{}
	err := fs.WalkDir(r.fsys, root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // not there at all, or removed meanwhile
		case err != nil:
			return err
		case path == root || e.IsDir():
			return nil
		}
		ref := strings.TrimPrefix(path, root+"/")
		if ValidateRef(ref) != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // documented: other files are passed over
		}
		c, err := r.readRef(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		refs[ref] = c
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	return refs, nil
}

// Has tells whether an object is there.
func (r *Repo) Has(name ObjectName) (bool, error) {
	_, err := fs.Stat(r.fsys, name.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, &ObjectError{Name: name, Err: err}
	}
	return true, nil
}

// StoredSize returns the bytes that an object takes in the repository.
func (r *Repo) StoredSize(name ObjectName) (int64, error) {
	info, err := fs.Stat(r.fsys, name.Path())
	if err != nil {
		return 0, &ObjectError{Name: name, Err: err}
	}
	return info.Size(), nil
}

// Open opens an object as it is stored.
func (r *Repo) Open(name ObjectName) (fs.File, error) {
	f, err := r.fsys.Open(name.Path())
	if err != nil {
		return nil, &ObjectError{Name: name, Err: err}
	}
	return f, nil
}

// metadata reads an object that is no file, and checks it against its name.
func (r *Repo) metadata(name ObjectName) (Info, []byte, error) {
	data, err := readFile(r.fsys, name.Path(), MaxMetadataSize)
	if err != nil {
		return Info{}, nil, &ObjectError{Name: name, Err: err}
	}
	info, err := checkMetadata(name, data)
	if err != nil {
		return Info{}, nil, nameObject(name, err)
	}
	return info, data, nil
}

// Commit reads a commit. As for all metadata that Repo reads, the checksum is
// verified.
func (r *Repo) Commit(c Checksum) (*Commit, error) {
	commit, _, err := r.CommitData(c)
	return commit, err
}

// CommitData is [Repo.Commit] that also returns the bytes, which are what
// signatures cover.
func (r *Repo) CommitData(c Checksum) (*Commit, []byte, error) {
	info, data, err := r.metadata(ObjectName{c, TypeCommit})
	return info.Commit, data, err
}

// DirTree reads a dirtree.
func (r *Repo) DirTree(c Checksum) (*DirTree, error) {
	info, _, err := r.metadata(ObjectName{c, TypeDirTree})
	return info.DirTree, err
}

// DirMeta reads a dirmeta.
func (r *Repo) DirMeta(c Checksum) (*DirMeta, error) {
	info, _, err := r.metadata(ObjectName{c, TypeDirMeta})
	return info.DirMeta, err
}

// DetachedMeta reads the detached metadata of a commit. A commit without any
// has an empty dictionary.
func (r *Repo) DetachedMeta(commit Checksum) (gvariant.Dict, error) {
	name := ObjectName{commit, TypeCommitMeta}
	data, err := readFile(r.fsys, name.Path(), MaxMetadataSize)
	if errors.Is(err, fs.ErrNotExist) {
		return gvariant.Dict{}, nil
	}
	if err != nil {
		return gvariant.Dict{}, &ObjectError{Name: name, Err: err}
	}
	d, err := ParseDetached(data)
	if err != nil {
		return gvariant.Dict{}, &ObjectError{Name: name, Err: err}
	}
	return d, nil
}

// File is an open file object; Read gives its content. Unlike metadata, it is
// not verified against its name, see [VerifyObject].
type File struct {
	*FilezReader

	stored fs.File
}

// Close closes the file.
func (f *File) Close() error {
	return errors.Join(f.FilezReader.Close(), f.stored.Close())
}

// StoredSize returns the bytes of the whole object as it is stored, whatever was read
// of it.
func (f *File) StoredSize() (int64, error) {
	info, err := f.stored.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// OpenFile opens the content of a file object.
func (r *Repo) OpenFile(c Checksum) (*File, error) {
	name := ObjectName{c, TypeFile}
	stored, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	z, err := NewFilezReader(stored)
	if err != nil {
		return nil, errors.Join(&ObjectError{Name: name, Err: err}, stored.Close())
	}
	return &File{FilezReader: z, stored: stored}, nil
}

// StatFile returns the header and the sizes of a file object, without reading its
// content.
func (r *Repo) StatFile(c Checksum) (info Info, err error) {
	f, err := r.OpenFile(c)
	if err != nil {
		return Info{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stored, err := f.StoredSize()
	if err != nil {
		return Info{}, &ObjectError{Name: ObjectName{c, TypeFile}, Err: err}
	}
	header := *f.Header()
	return Info{Stored: stored, Size: f.Size(), Header: &header}, nil
}

// ReadContent returns the content of a file object, of which there may be at
// most limit bytes.
func (r *Repo) ReadContent(c Checksum, limit int64) (content []byte, err error) {
	f, err := r.OpenFile(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	content, err = readBounded(f, limit)
	if err != nil {
		return nil, &ObjectError{Name: ObjectName{c, TypeFile}, Err: err}
	}
	return content, nil
}

// readFile reads a file of at most limit bytes.
func readFile(fsys fs.FS, path string, limit int64) (data []byte, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size > limit {
		return nil, fmt.Errorf("%s: %w: %d bytes", path, ErrTooLarge, size)
	}
	var b bytes.Buffer
	b.Grow(int(size) + bytes.MinRead)
	n, err := b.ReadFrom(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if n > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", path, ErrTooLarge, limit)
	}
	return b.Bytes(), nil
}
