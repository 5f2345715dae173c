// Package closure tells which files a version of a repository of packages consists of:
// all that its pointer names, through every index, down to the packages.
//
//	rpm     repodata/repomd.xml → primary.xml, filelists.xml, … → packages
//	deb     InRelease or Release → Packages, Sources, … → packages and sources
//	arch    NAME.db → packages and their signatures
//	alpine  APKINDEX.tar.gz → packages
//
// Whoever has all of them, and the pointer with these bytes, can serve a client from the
// first request to the last.
//
// It gets at files through a function of the caller, by HTTP as well as from a folder.
// What it reads is checked against what names it, never kept, and may be anybody's: all
// is read as it comes in, and the memory is that of one file of the list and the
// windows of the decoders. No signature is checked, but whether it is all there.
//
// Delta packages of rpm (prestodelta) are not in the list: clients do without them.
package closure

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"

	"freshet/internal/layout"
)

// maxFiles is the longest list; Debian's main archive has some 700,000 in a suite of
// all architectures.
const maxFiles = 20_000_000

// ErrInconsistent is what the error is, among others, when the files of a repository do
// not agree: one that is named is not there, or is not the one that is named. That is so
// for a moment wherever files are published one after the other.
var ErrInconsistent = errors.New("the repository's files do not agree")

// FileError tells which file of the tree an error is about.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// Disagree is an error that is [ErrInconsistent], about a file.
func Disagree(path, format string, args ...any) error {
	return &FileError{path, fmt.Errorf("%w: %w", ErrInconsistent, fmt.Errorf(format, args...))}
}

// Open opens a file of the tree for reading. A file that is not there is
// [fs.ErrNotExist]; every other error ends the walk. Names are relative to the root of
// the tree, clean, and stay inside it.
type Open func(ctx context.Context, name string) (io.ReadCloser, error)

// Kind is the format of a repository.
type Kind uint8

// The formats. Alpine is that of apk-tools 2, which those of version 3 read too.
const (
	RPM Kind = iota
	Deb
	Arch
	Alpine
)

// Repository says where in a tree a repository is.
type Repository struct {
	Kind Kind
	// Root is the folder that it is in, relative to the root of the tree; "" or "."
	// is that.
	Root string
	// Pointer is the file in which readers begin, relative to Root. Empty: that of
	// its kind, which deb and arch do not have: there it is, for instance,
	// "dists/sid/InRelease" and "core.db". Beside a pointer of deb that is not below
	// a folder "dists" lie the indexes of a flat repository, whose packages are named
	// relative to Root.
	Pointer string
	// Index says of an index of deb, by its path as the Release names it, whether it
	// belongs to the list, with all that it names. nil: all do.
	Index func(name string) bool
	// Strict says of deb that an index of packages which is there in no form is
	// [ErrInconsistent]; else it is taken for one that the origin does not offer.
	Strict bool
}

// File is one of a repository.
type File struct {
	// Path is relative to the root of the tree, clean, and inside it. It is as
	// written in the index: tools differ on whether a "%2B" in it stands for itself.
	Path string
	// Size in bytes, or -1 if it is not told.
	Size int64
	// Sum is the strongest checksum that is told of it.
	Sum Sum
	// Class is what part it plays. There is one [layout.Pointer] that is not optional:
	// the pointer itself, the last of the list, with the size and SHA-256 of what was
	// read.
	Class layout.Class
	// Optional files may be missing at the origin, and clients do without: other
	// forms of an index, and signatures.
	Optional bool
}

// Sum is a checksum. The zero Sum is none.
type Sum struct {
	Hash crypto.Hash
	// Control says that it is not that of the file, but of its control stream, as
	// indexes of Alpine have it (see internal/apkindex).
	Control bool
	// Value has the bytes, not in hex.
	Value string
}

// SHA256 returns the SHA-256 of the file, if that is what the checksum is.
func (s Sum) SHA256() (sum [32]byte, ok bool) {
	if s.Hash != crypto.SHA256 || s.Control || len(s.Value) != len(sum) {
		return sum, false
	}
	copy(sum[:], s.Value)
	return sum, true
}

// Files reads the repository's metadata and yields its files as it comes to them; one
// that several indexes name comes several times. The list is complete, and true, only
// if no error ends it; the error names the file. It is [ErrInconsistent] when it can be
// another in a moment, has an [unpack.FormatError] in it for an index that nobody can
// read here, and [fs.ErrNotExist] when there is no pointer.
func (r Repository) Files(ctx context.Context, open Open) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		w := walker{ctx: ctx, open: open, yield: yield}
		if err := w.run(r); err != nil && !w.stopped {
			yield(File{}, err)
		}
	}
}

// PointerPath is the path of the pointer in the tree, and "" if it is not told.
func (r Repository) PointerPath() string {
	pointer := r.Pointer
	switch {
	case pointer != "":
	case r.Kind == RPM:
		pointer = "repodata/repomd.xml"
	case r.Kind == Alpine:
		pointer = "APKINDEX.tar.gz"
	default:
		return ""
	}
	return path.Join(r.Root, pointer)
}

// walker goes through one repository.
type walker struct {
	ctx     context.Context //nolint:containedctx // it lives as long as one call
	open    Open
	yield   func(File, error) bool
	count   int
	stopped bool
}

var errStopped = errors.New("stopped")

func (w *walker) run(r Repository) error {
	pointer := r.PointerPath()
	if pointer == "" || !fs.ValidPath(pointer) {
		return fmt.Errorf("%q is no path of a pointer", r.Pointer)
	}
	switch r.Kind {
	case RPM:
		return w.rpm(path.Clean(r.Root), pointer)
	case Deb:
		return w.deb(r, pointer)
	case Arch:
		return w.arch(pointer)
	case Alpine:
		return w.alpine(pointer)
	}
	return fmt.Errorf("a repository of kind %d", r.Kind)
}

// emit yields a file whose path leads somewhere inside the tree.
func (w *walker) emit(f File) error {
	if !fs.ValidPath(f.Path) || f.Path == "." || strings.ContainsRune(f.Path, 0) {
		return outside(f.Path)
	}
	if w.count++; w.count > maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	if !w.yield(f, nil) {
		w.stopped = true
		return errStopped
	}
	return nil
}

// below is the path of a name relative to a folder.
func below(folder, name string) (string, error) {
	if path.IsAbs(name) {
		return "", outside(name)
	}
	return path.Join(folder, name), nil
}

func outside(name string) error { return fmt.Errorf("%.300q is outside of the tree", name) }
