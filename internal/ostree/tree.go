package ostree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Sink takes new objects. Put writes one: it calls write once, with a writer
// for the object as it is stored. What write returns as an error, Put returns,
// and then nothing is stored. Objects come in the order of their dependence:
// when one is put, those it names are already there. Putting an object that is
// there must do no harm; Has spares the work.
type Sink interface {
	Has(name ObjectName) (bool, error)
	Put(name ObjectName, write func(io.Writer) error) error
}

// treeReader is what a [Tree] needs of a repository.
type treeReader interface {
	DirTree(c Checksum) (*DirTree, error)
}

// Tree is a directory that can be changed: a new one, or that of a commit of
// which only the parts that are changed are read. The zero value is an empty
// directory. Directories are made with the metadata of [CanonicalDirMeta];
// those that were loaded keep theirs. A Tree is not safe for concurrent use.
type Tree struct {
	files map[string]Checksum
	dirs  map[string]*Tree

	meta   Checksum // zero: canonical
	src    treeReader
	loaded Checksum // dirtree to read before use; zero when that was done
}

// LoadTree returns a directory with the content of a dirtree and the metadata
// of a dirmeta of src (a [Repo]), which it reads when needed.
func LoadTree(src treeReader, tree, meta Checksum) *Tree {
	return &Tree{src: src, loaded: tree, meta: meta}
}

// expand reads the content of a directory that was only named until now.
func (t *Tree) expand() error {
	if !t.loaded.IsZero() {
		d, err := t.src.DirTree(t.loaded)
		if err != nil {
			return err
		}
		t.files = make(map[string]Checksum, len(d.Files))
		for _, f := range d.Files {
			t.files[f.Name] = f.File
		}
		t.dirs = make(map[string]*Tree, len(d.Dirs))
		for _, s := range d.Dirs {
			t.dirs[s.Name] = LoadTree(t.src, s.Tree, s.Meta)
		}
		t.loaded = Checksum{}
	}
	if t.files == nil {
		t.files = map[string]Checksum{}
	}
	if t.dirs == nil {
		t.dirs = map[string]*Tree{}
	}
	return nil
}

// walkTo returns the directory at path; with create, it makes what is missing.
// nil means that it is not there.
func (t *Tree) walkTo(path string, create bool) (*Tree, error) {
	if !fs.ValidPath(path) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
	}
	if err := t.expand(); err != nil || path == "." {
		return t, err
	}
	for name := range strings.SplitSeq(path, "/") {
		next := t.dirs[name]
		if next == nil {
			if !create {
				return nil, nil //nolint:nilnil // documented above
			}
			if err := ValidateFileName(name); err != nil {
				return nil, err
			}
			if _, ok := t.files[name]; ok {
				return nil, &fs.PathError{Op: "mkdir", Path: path, Err: errors.New("a file is in the way")}
			}
			next = &Tree{}
			t.dirs[name] = next
		}
		if err := next.expand(); err != nil {
			return nil, err
		}
		t = next
	}
	return t, nil
}

// split parts a path into its directory and its last element.
func split(path string) (dir, name string, err error) {
	if !fs.ValidPath(path) || path == "." {
		return "", "", &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
	}
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	} else {
		dir, name = ".", path
	}
	return dir, name, ValidateFileName(name)
}

// SetFile puts a file object, be it a file or a symlink, at a path, and makes
// the directories above. What was there is replaced. Paths are relative, with
// slashes, as [fs.ValidPath] has them.
func (t *Tree) SetFile(path string, file Checksum) error {
	dir, name, err := split(path)
	if err != nil {
		return err
	}
	parent, err := t.walkTo(dir, true)
	if err != nil {
		return err
	}
	delete(parent.dirs, name)
	parent.files[name] = file
	return nil
}

// MakeDir makes a directory and those above, and returns it; one that is there
// is kept as it is.
func (t *Tree) MakeDir(path string) (*Tree, error) { return t.walkTo(path, true) }

// Remove removes what is at a path, directories with all below. That there is
// nothing is no error.
func (t *Tree) Remove(path string) error {
	dir, name, err := split(path)
	if err != nil {
		return err
	}
	parent, err := t.walkTo(dir, false)
	if err != nil || parent == nil {
		return err
	}
	delete(parent.files, name)
	delete(parent.dirs, name)
	return nil
}

// File returns the file object at a path, and false when there is none.
func (t *Tree) File(path string) (Checksum, bool, error) {
	dir, name, err := split(path)
	if err != nil {
		return Checksum{}, false, err
	}
	parent, err := t.walkTo(dir, false)
	if err != nil || parent == nil {
		return Checksum{}, false, err
	}
	c, ok := parent.files[name]
	return c, ok, nil
}

// Dir returns the directory at a path, and false when there is none; "." is t.
func (t *Tree) Dir(path string) (*Tree, bool, error) {
	d, err := t.walkTo(path, false)
	return d, d != nil && err == nil, err
}

// Names returns the sorted names of the files and of the directories in t.
func (t *Tree) Names() (files, dirs []string, err error) {
	if err := t.expand(); err != nil {
		return nil, nil, err
	}
	return slices.Sorted(maps.Keys(t.files)), slices.Sorted(maps.Keys(t.dirs)), nil
}

// Write gives the dirtrees and dirmetas of t to the sink and returns the
// checksums of the root. Directories that were never read are taken as they
// are: the sink has their objects, or gets them by other means.
func (t *Tree) Write(sink Sink) (tree, meta Checksum, err error) {
	if meta = t.meta; meta.IsZero() {
		canonical := CanonicalDirMeta()
		if meta, err = putMetadata(sink, TypeDirMeta, canonical.Encode()); err != nil {
			return Checksum{}, Checksum{}, err
		}
	}
	if !t.loaded.IsZero() {
		return t.loaded, meta, nil
	}
	var d DirTree
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		d.Files = append(d.Files, TreeFile{Name: name, File: t.files[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(t.dirs)) {
		s := TreeDir{Name: name}
		if s.Tree, s.Meta, err = t.dirs[name].Write(sink); err != nil {
			return Checksum{}, Checksum{}, err
		}
		d.Dirs = append(d.Dirs, s)
	}
	tree, err = putMetadata(sink, TypeDirTree, d.Encode())
	return tree, meta, err
}

// WriteCommit gives a commit to the sink and returns its checksum.
func WriteCommit(sink Sink, c *Commit) (Checksum, error) {
	return putMetadata(sink, TypeCommit, c.Encode())
}

// WriteDetached gives the detached metadata of a commit to the sink, also when
// there is some already: it is the one object that changes.
func WriteDetached(sink Sink, commit Checksum, data []byte) error {
	name := ObjectName{commit, TypeCommitMeta}
	return put(sink, name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteSymlink gives a symlink to the sink and returns its checksum.
func WriteSymlink(sink Sink, target string) (Checksum, error) {
	return WriteFile(sink, SymlinkTo(target), nil)
}

// WriteBytes gives a regular file to the sink and returns its checksum.
func WriteBytes(sink Sink, content []byte, executable bool) (Checksum, error) {
	return WriteFile(sink, RegularFile(executable), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
}

// WriteFile gives a file or symlink to the sink and returns its checksum. The
// content is read once to learn its checksum, and, only when the sink does not
// have the object, a second time to write it; so it is never held in memory.
// open is not called for symlinks.
func WriteFile(sink Sink, h FileHeader, open func() (io.ReadCloser, error)) (Checksum, error) {
	sum, size, err := hashOpened(h, open)
	if err != nil {
		return Checksum{}, err
	}
	name := ObjectName{sum, TypeFile}
	if ok, err := sink.Has(name); err != nil || ok {
		return sum, err
	}
	err = put(sink, name, func(w io.Writer) error {
		var content io.ReadCloser
		if !h.IsSymlink() {
			var err error
			if content, err = open(); err != nil {
				return err
			}
			defer func() { _ = content.Close() }() // it was only read
		}
		written, err := WriteFilez(w, h, size, content, DefaultCompression)
		if err == nil && written.Checksum != sum {
			err = errors.New("content changed while it was read")
		}
		return err
	})
	return sum, err
}

func hashOpened(h FileHeader, open func() (io.ReadCloser, error)) (Checksum, uint64, error) {
	if h.IsSymlink() {
		return HashFile(h, nil)
	}
	content, err := open()
	if err != nil {
		return Checksum{}, 0, err
	}
	defer func() { _ = content.Close() }() // it was only read
	return HashFile(h, content)
}

func putMetadata(sink Sink, t ObjectType, data []byte) (Checksum, error) {
	if len(data) > MaxMetadataSize {
		return Checksum{}, fmt.Errorf("put %s: %w: %d bytes", t, ErrTooLarge, len(data))
	}
	name := ObjectName{ChecksumOf(data), t}
	if ok, err := sink.Has(name); err != nil || ok {
		return name.Checksum, err
	}
	return name.Checksum, put(sink, name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func put(sink Sink, name ObjectName, write func(io.Writer) error) error {
	if err := sink.Put(name, write); err != nil {
		return &ObjectError{Name: name, Err: err}
	}
	return nil
}
