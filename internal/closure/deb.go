package closure

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"freshet/internal/apt"
	"freshet/internal/layout"
	"freshet/internal/roots"
	"freshet/internal/unpack"
)

// suite is what a Release file is about.
type suite struct {
	name string // of the Release file
	dir  string // where it is
	root string // what names of packages are relative to
	flat bool   // only what lies beside the Release belongs to it
	// byHash: indexes are also found by their checksum.
	byHash bool
	strict bool // as in Repository
}

func (w *walker) deb(r Repository, name string) error {
	text, pointer, err := w.readPointer(name, apt.MaxReleaseSize)
	if err != nil {
		return err
	}
	release, err := apt.ParseRelease(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := roots.Whole(text); err != nil {
		return Disagree(name, "%s: %w", name, err)
	}
	s := suite{name: name, dir: path.Dir(name), root: path.Clean(r.Root), flat: true, byHash: release.ByHash, strict: r.Strict}
	if i := strings.LastIndex("/"+s.dir+"/", "/dists/"); i >= 0 {
		s.root, s.flat = path.Clean(s.dir[:max(i-1, 0)]), false
	}
	forms := make(map[string][]apt.File) // by name without compression
	for _, f := range release.Files {
		stem, _, index := indexForm(f.Path)
		if !s.covers(f.Path, index) || r.Index != nil && !r.Index(f.Path) {
			continue
		}
		if index {
			forms[stem] = append(forms[stem], f)
		}
		if err := w.debIndex(s, f); err != nil {
			return err
		}
	}
	for _, stem := range slices.Sorted(maps.Keys(forms)) {
		if err := w.debPackages(s, stem, forms[stem]); err != nil {
			return err
		}
	}
	for _, beside := range []string{"InRelease", "Release", "Release.gpg"} {
		if beside == path.Base(name) {
			continue
		}
		if err := w.companion(path.Join(s.dir, beside)); err != nil {
			return err
		}
	}
	return w.emit(pointer)
}

// covers says whether a file that a Release names belongs to it. Of itself it can say
// nothing true, but apt-ftparchive does when it writes into the folder that it reads.
func (s *suite) covers(name string, index bool) bool {
	switch name {
	case "Release", "InRelease", "Release.gpg":
		return false
	}
	return !s.flat || index && !strings.Contains(name, "/")
}

// debIndex yields an index, under its name and under its checksums. All of them are
// optional: many are only named, such as those that are not compressed.
func (w *walker) debIndex(s suite, f apt.File) error {
	sum, err := strongest(f)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	file := File{Path: path.Join(s.dir, f.Path), Size: f.Size, Sum: sum, Class: layout.Index, Optional: true}
	if err := w.emit(file); err != nil || !s.byHash {
		return err
	}
	folder := path.Join(path.Dir(file.Path), "by-hash")
	for _, sum := range [...]struct{ folder, value string }{{"MD5Sum", f.MD5}, {"SHA1", f.SHA1}, {"SHA256", f.SHA256}, {"SHA512", f.SHA512}} {
		if sum.value == "" {
			continue
		}
		file.Path = path.Join(folder, sum.folder, sum.value)
		if err := w.emit(file); err != nil {
			return err
		}
	}
	return nil
}

// strongest returns the checksum that inventories know, or else the strongest there is.
func strongest(f apt.File) (Sum, error) {
	switch {
	case f.SHA256 != "":
		return sumOf("sha256", f.SHA256)
	case f.SHA512 != "":
		return sumOf("sha512", f.SHA512)
	case f.SHA1 != "":
		return sumOf("sha1", f.SHA1)
	}
	return sumOf("md5", f.MD5)
}

// debPackages yields the packages of an index, from the first of its forms that is
// there and can be read. One that is in no form there is not offered by the origin.
func (w *walker) debPackages(s suite, stem string, forms []apt.File) error {
	if slices.ContainsFunc(forms, func(f apt.File) bool { return f.Path == stem && f.Size == 0 }) {
		return nil
	}
	slices.SortStableFunc(forms, func(a, b apt.File) int {
		_, x, _ := indexForm(a.Path)
		_, y, _ := indexForm(b.Path)
		return cmp.Compare(x, y)
	})
	var unreadable error
	for _, f := range forms {
		err := w.debForm(s, stem, f)
		if _, ok := errors.AsType[unpack.FormatError](err); ok {
			if unreadable == nil {
				unreadable = err
			}
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if unreadable == nil && s.strict {
		return Disagree(path.Join(s.dir, stem), "%s names %s, which is there in no form", s.name, stem)
	}
	return unreadable
}

func (w *walker) debForm(s suite, stem string, f apt.File) error {
	read := apt.Packages
	if path.Base(stem) == "Sources" {
		read = apt.Sources
	}
	sum, err := strongest(f)
	if err != nil {
		return err
	}
	walk := func(r io.Reader) error { return w.entries(s, read(r)) }
	name := path.Join(s.dir, f.Path)
	if s.byHash && f.SHA256 != "" {
		err := w.walkIndex(s.name, path.Join(path.Dir(name), "by-hash/SHA256", f.SHA256), f.Size, sum, walk)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return w.walkIndex(s.name, name, f.Size, sum, walk)
}

func (w *walker) entries(s suite, entries iter.Seq2[apt.IndexEntry, error]) error {
	for e, err := range entries {
		if err != nil {
			return err
		}
		sum, err := sumOf("sha256", e.SHA256)
		if err != nil {
			return err
		}
		if err := w.emit(File{Path: path.Join(s.root, e.Path), Size: e.Size, Sum: sum}); err != nil {
			return err
		}
	}
	return nil
}

// indexForm tells whether a path is an index of packages: its path without
// compression, and the rank of the compression, the lowest first to be tried: those
// that are cheap to read, and that archives of today have.
func indexForm(name string) (stem string, rank int, ok bool) {
	ext := path.Ext(name)
	rank = slices.Index([]string{".gz", ".zst", ".xz", ".bz2", "", ".lzma", ".lz4"}, ext)
	switch {
	case ext == "":
		stem = name
	case rank < 0:
		return name, 0, false
	default:
		stem = strings.TrimSuffix(name, ext)
	}
	base := path.Base(stem)
	return stem, rank, base == "Packages" || base == "Sources"
}
