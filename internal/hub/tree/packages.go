package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"

	"freshet/api/hubapi"
	"freshet/internal/apt"
	"freshet/internal/rpmmd"
)

// Limits of what is told to people.
const (
	maxWrong = 3   // packages in one refusal
	maxNotes = 3   // indexes in one note
	maxShown = 200 // bytes of a path
)

// Remedies for packages that are missing or different.
const (
	rpmRemedy = "push the packages with it, or make the metadata anew with createrepo_c"
	aptRemedy = "push the packages with it, or make the index and its Release anew"
)

// suite is the place of a Release file.
type suite struct {
	dir string
	// roots are the folders that Filename may be relative to. In a flat
	// repository that is the URL in sources.list, which is the folder of the
	// Release file or one around it; there, the first package decides.
	roots []string
	// flat: only what lies beside the Release belongs to it.
	flat bool
}

// archiveOf returns the root of the archive that the folder of a suite, which
// ends with "/", belongs to.
func archiveOf(dir string) (string, bool) {
	i := strings.LastIndex("/"+dir, "/dists/")
	if i < 0 {
		return "", false
	}
	return path.Clean(dir[:i]), true
}

// parents returns a folder and those around it.
func parents(dir string) []string {
	all := []string{dir}
	for dir != "." {
		dir = path.Dir(dir)
		all = append(all, dir)
	}
	return all
}

// isFlat says whether there is an index of packages in the folder, which is ""
// or ends with "/".
func (c *closure) isFlat(dir string) bool {
	for _, stem := range []string{"Packages", "Sources"} {
		for _, form := range [...]string{"", ".gz", ".zst", ".bz2", ".xz", ".lzma", ".lz4"} {
			if _, ok := c.file(dir + stem + form); ok {
				return true
			}
		}
	}
	return false
}

// covers says whether the suite's files must agree with what its Release says
// of the path. Of itself it can say nothing true, but apt-ftparchive does when
// it writes into the folder that it reads.
func (s *suite) covers(name string) bool {
	switch name {
	case "Release", "InRelease", "Release.gpg":
		return false
	}
	_, _, index := indexForm(name)
	return !s.flat || index && !strings.Contains(name, "/")
}

// indexForm tells whether a path is an index of packages: its path without
// compression, and the rank of the compression, of which the lowest is the
// cheapest to read. Those from unreadable on are not.
func indexForm(name string) (stem string, rank int, ok bool) {
	const unreadable = 4
	stem = name
	switch ext := path.Ext(name); ext {
	case ".gz":
		rank = 1
	case ".zst":
		rank = 2
	case ".bz2":
		rank = 3
	case ".xz", ".lzma", ".lz4":
		rank = unreadable
	}
	if rank > 0 {
		stem = strings.TrimSuffix(name, path.Ext(name))
	}
	base := path.Base(stem)
	return stem, rank, base == "Packages" || base == "Sources"
}

// primary checks the packages of an rpm repository, whose hrefs are relative
// to top.
func (c *closure) primary(ctx context.Context, top string, names []string) error {
	for _, name := range names {
		err := c.index(ctx, name, rpmRemedy, func(r io.Reader, w *wrong) error {
			for p, err := range rpmmd.Packages(r) {
				if err != nil {
					return err
				}
				if p.Base != "" || strings.Contains(p.Href, "://") {
					continue // somewhere else
				}
				if path.IsAbs(p.Href) {
					w.add("%s is no relative path", shown(p.Href))
					continue
				}
				sum := ""
				if p.Checksum.Type == "sha256" {
					sum = p.Checksum.Value
				}
				c.wants(w, path.Join(top, p.Href), p.Size, sum)
			}
			return nil
		})
		if form, ok := errors.AsType[compressionError](err); ok {
			c.note("the packages that %s names are not checked, because %s; createrepo_c writes gz by default", name, form)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// aptIndexes checks the packages of the indexes that a Release names, of each
// in one form.
func (c *closure) aptIndexes(ctx context.Context, release *apt.Release, s suite) error {
	forms := make(map[string][]apt.File)
	for _, f := range release.Files {
		if stem, _, ok := indexForm(f.Path); ok && s.covers(f.Path) {
			forms[stem] = append(forms[stem], f)
		}
	}
	for _, stem := range slices.Sorted(maps.Keys(forms)) {
		slices.SortStableFunc(forms[stem], func(a, b apt.File) int {
			_, x, _ := indexForm(a.Path)
			_, y, _ := indexForm(b.Path)
			return cmp.Compare(x, y)
		})
		if err := c.aptIndex(ctx, stem, forms[stem], s); err != nil {
			return err
		}
	}
	return nil
}

// aptIndex checks the first form of an index that is in the tree and can be
// read.
func (c *closure) aptIndex(ctx context.Context, stem string, forms []apt.File, s suite) error {
	read := apt.Packages
	if path.Base(stem) == "Sources" {
		read = apt.Sources
	}
	var unread []string
	for _, f := range forms {
		name, ok := c.offered(s.dir, f)
		if !ok {
			continue
		}
		if c.checked[name] {
			return nil // by the InRelease beside the Release
		}
		c.checked[name] = true
		err := c.index(ctx, name, aptRemedy, func(r io.Reader, w *wrong) error { return c.entries(w, read(r), s.roots) })
		if form, ok := errors.AsType[compressionError](err); ok {
			unread = append(unread, fmt.Sprintf("the packages that %s names are not checked, because %s; offer %s.gz too", name, form, path.Base(stem)))
			continue
		}
		return err
	}
	if len(unread) > 0 {
		c.note("%s", unread[0])
	}
	return nil
}

// offered returns where an index is found: under its name, or by its checksum
// alone.
func (c *closure) offered(dir string, f apt.File) (string, bool) {
	name := path.Join(dir, f.Path)
	if _, ok := c.file(name); ok {
		return name, true
	}
	byHash := path.Join(path.Dir(name), "by-hash/SHA256", f.SHA256)
	if there, ok := c.file(byHash); ok && there.SHA256 == f.SHA256 {
		return byHash, true
	}
	return "", false
}

func (c *closure) entries(w *wrong, entries iter.Seq2[apt.IndexEntry, error], roots []string) error {
	for e, err := range entries {
		if err != nil {
			return err
		}
		if len(roots) > 1 {
			i := slices.IndexFunc(roots, func(root string) bool {
				_, ok := c.named(path.Join(root, e.Path))
				return ok
			})
			roots = roots[max(i, 0):][:1]
		}
		c.wants(w, path.Join(roots[0], e.Path), e.Size, e.SHA256)
	}
	return nil
}

// index reads an index of packages and refuses it for what walk finds wrong.
// When it cannot be read here, the error is a [compressionError].
func (c *closure) index(ctx context.Context, name, remedy string, walk func(io.Reader, *wrong) error) error {
	var w wrong
	src := &source{check: ctx.Err}
	err := c.read(name, func(r io.Reader) error {
		src.r = r
		plain, done, err := unpack(src)
		if err != nil {
			return err
		}
		defer done()
		return walk(plain, &w)
	})
	if src.err != nil {
		return fmt.Errorf("%s: %w", name, src.err)
	}
	if _, unreadable := errors.AsType[compressionError](err); err != nil && !unreadable {
		err = fmt.Errorf("%w: %s: %w", ErrRefused, name, err)
	}
	if err != nil {
		return err
	}
	return w.refusal(name, remedy)
}

// wants checks a package against what an index says of it. A size of -1 and an
// empty checksum agree with everything.
func (c *closure) wants(w *wrong, name string, size int64, sum string) {
	if !fs.ValidPath(name) {
		w.add("%s is outside the tree", shown(name))
		return
	}
	f, ok := c.named(name)
	switch {
	case !ok:
		w.add("%s is not in the tree", shown(name))
	case size >= 0 && f.Size != size:
		w.add("%s has %d bytes in the tree, but %d in the index", shown(name), f.Size, size)
	case sum != "" && f.SHA256 != sum:
		w.add("%s has the sha256 %s in the tree, but %.64s in the index", shown(name), f.SHA256, sum)
	}
}

// named returns the file that an index calls by this name. Whether a "%" in a
// name stands for itself depends on who wrote it and who reads it.
func (c *closure) named(name string) (*hubapi.TreeFile, bool) {
	f, ok := c.file(name)
	if !ok && strings.Contains(name, "%") {
		if plain, err := url.PathUnescape(name); err == nil {
			return c.file(plain)
		}
	}
	return f, ok
}

// file returns what is read at a path, which may lead through links.
func (c *closure) file(name string) (*hubapi.TreeFile, bool) {
	v := viewer{files: c.files}
	for range 40 { // path_resolution(7): the limit of Linux
		f, ok := find(c.files, name)
		switch {
		case ok && f.Link == "":
			return f, true
		case !c.links:
			return nil, false
		case ok:
			name = path.Join(path.Dir(name), f.Link)
		default:
			if name, ok = v.step(name); !ok {
				return nil, false
			}
		}
	}
	return nil, false
}

// wrong gathers what is wrong with the packages of an index.
type wrong struct {
	first []string
	count int
}

func (w *wrong) add(format string, args ...any) {
	if w.count++; w.count <= maxWrong {
		w.first = append(w.first, fmt.Sprintf(format, args...))
	}
}

func (w *wrong) refusal(name, remedy string) error {
	if w.count == 0 {
		return nil
	}
	more := ""
	if rest := w.count - len(w.first); rest > 0 {
		more = fmt.Sprintf(", and %d more are wrong", rest)
	}
	return fmt.Errorf("%w: %s names packages that clients could not get: %s%s; %s", ErrRefused, name, strings.Join(w.first, ", "), more, remedy)
}

func (c *closure) note(format string, args ...any) {
	if c.noted++; c.noted <= maxNotes {
		c.notes = append(c.notes, fmt.Sprintf(format, args...))
	}
}

func (c *closure) allNotes() string {
	all := strings.Join(c.notes, "; ")
	if more := c.noted - len(c.notes); more > 0 {
		all += fmt.Sprintf("; and so for %d more indexes", more)
	}
	return all
}

// shown is a path as a message may hold it.
func shown(name string) string {
	cut := name
	if len(cut) > maxShown {
		cut = cut[:maxShown] + "…"
	}
	if strings.ContainsFunc(cut, func(r rune) bool { return !unicode.IsPrint(r) || r == '"' }) {
		return fmt.Sprintf("%q", cut)
	}
	return cut
}
