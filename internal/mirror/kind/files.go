package kind

import (
	"context"
	"errors"
	"io"
	"iter"
	"path"
	"strings"

	"freshet/internal/closure"
	"freshet/internal/glob"
	"freshet/internal/layout"
)

// Files are the files of a repository, as its metadata name them. What several indexes
// name comes several times; the pointer is the last. The list is complete, and true, only
// if no error ends it; see [Reason]. What the filters leave out is added to left, which
// may be nil.
//
// What is not [layout.Payload] may be read through tree.Open on the way, and is read from
// its beginning each time.
func (k *Kind) Files(ctx context.Context, tree Tree, r Repository, left *Left) iter.Seq2[File, error] {
	switch r.Format {
	case RPM, Deb, Arch, Alpine:
		return k.packages(ctx, tree, r, left)
	case Images:
		return k.images(ctx, tree, r, left)
	case OSTree:
		return k.ostree(ctx, tree, r, left)
	case Plain:
	}
	return func(func(File, error) bool) {}
}

// packages are the files of a repository of packages.
func (k *Kind) packages(ctx context.Context, tree Tree, r Repository, left *Left) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		c := closureOf(r)
		err := k.besidePackages(ctx, tree.Open, r, &c, func(f File) bool { return yield(f, nil) })
		if errors.Is(err, errStopped) {
			return
		}
		if err != nil {
			yield(File{}, err)
			return
		}
		for f, err := range c.Files(ctx, readers(tree.Open)) {
			if err == nil && !k.wantsFile(r.Format, f, left) {
				continue
			}
			if !yield(File{File: f}, err) || err != nil {
				return
			}
		}
	}
}

// besidePackages yields what clients may ask for besides indexes and packages, and says to
// the closure which indexes are wanted.
func (k *Kind) besidePackages(ctx context.Context, open Open, r Repository, c *closure.Repository, yield func(File) bool) error {
	switch r.Format {
	case Deb:
		indexes, err := k.debIndexes(ctx, open, r)
		if err != nil {
			return err
		}
		c.Index, c.Strict = indexes.has, true
		return k.besidesIndexes(ctx, open, r, indexes, yield)
	case RPM:
		return k.treeinfo(ctx, open, r, yield)
	case Arch, Alpine, Images, OSTree, Plain:
	}
	return nil
}

// closureOf is how the files of a repository of packages are found.
func closureOf(r Repository) closure.Repository {
	c := closure.Repository{Root: r.Root, Pointer: r.Pointer}
	switch r.Format {
	case Deb:
		c.Kind = closure.Deb
	case Arch:
		c.Kind = closure.Arch
	case Alpine:
		c.Kind = closure.Alpine
	case RPM, Images, OSTree, Plain:
		c.Kind = closure.RPM
	}
	if r.Root != "." {
		c.Pointer = strings.TrimPrefix(r.Pointer, r.Root+"/")
	}
	return c
}

// readers is open as package closure knows it.
func readers(open Open) closure.Open {
	return func(ctx context.Context, name string) (io.ReadCloser, error) { return open(ctx, name) }
}

// wantsFile tells whether a file that metadata name is wanted.
func (k *Kind) wantsFile(format Format, f closure.File, left *Left) bool {
	switch {
	case f.Class == layout.Payload:
		if (format == RPM && !k.wantsRPM(path.Base(f.Path))) || glob.MatchAny(k.config.Exclude, f.Path) {
			left.add(f.Size)
			return false
		}
	case format == Deb && (strings.Contains(f.Path, "/by-hash/MD5Sum/") || strings.Contains(f.Path, "/by-hash/SHA1/")):
		// No client asks for them where better ones are.
		return false
	case f.Optional:
		return !glob.MatchAny(k.config.Exclude, f.Path)
	}
	return true
}

// wantsRPM tells whether a package is wanted by the name of its file,
// NAME-VERSION-RELEASE.ARCH.rpm.
func (k *Kind) wantsRPM(base string) bool {
	stem, isRPM := strings.CutSuffix(base, ".rpm")
	if !isRPM {
		return true
	}
	if !k.config.Debug && (strings.Contains(stem, "-debuginfo-") || strings.Contains(stem, "-debugsource-")) {
		return false
	}
	switch arch := strings.TrimPrefix(path.Ext(stem), "."); arch {
	case "src", "nosrc":
		return k.config.Source
	default:
		// What is not known as an architecture is a part of a name.
		return family(arch) == "" || k.arches.hasPackage(arch)
	}
}
