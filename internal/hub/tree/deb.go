package tree

import (
	"bytes"
	"cmp"
	"context"
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
	"freshet/internal/rpmmd"
	"freshet/internal/unpack"
)

const aptRemedy = "push the packages with it, or make the index and its Release anew"

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

// release checks a suite.
func (c *closure) release(ctx context.Context, name string, s suite) error {
	s.dir = path.Dir(name)
	text, err := c.readRelease(name)
	if text == nil || err != nil {
		return err
	}
	release, err := apt.ParseRelease(bytes.NewReader(text))
	if err != nil {
		c.malformed(name, err, aptRemedy)
		return nil
	}
	for _, f := range release.Files {
		if !s.covers(f.Path) {
			continue
		}
		err := c.agree(name, path.Join(s.dir, f.Path), f.Size, strongest(f), aptRemedy)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return c.aptIndexes(ctx, release, s)
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
		err := c.index(ctx, name, aptRemedy, func(r io.Reader) error { return c.entries(name, read(r), s.roots) })
		if form, ok := errors.AsType[unpack.FormatError](err); ok {
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

func (c *closure) entries(by string, entries iter.Seq2[apt.IndexEntry, error], roots []string) error {
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
		c.wants(by, path.Join(roots[0], e.Path), e.Size, e.SHA256, aptRemedy)
	}
	return nil
}

// readRelease returns the text of a Release or InRelease; of one that is
// signed by one of the tree's keys, if it has any. It is nil after a finding.
func (c *closure) readRelease(name string) ([]byte, error) {
	data, err := c.readAll(name, apt.MaxReleaseSize)
	switch {
	case errors.Is(err, errTooLong):
		c.malformed(name, err, aptRemedy)
		return nil, nil
	case err != nil || c.keys == nil || c.withinSuite(path.Dir(name)):
		return data, err
	}
	if path.Base(name) == "InRelease" {
		keys, ok := c.pgpKeys(name, aptSignRemedy)
		if !ok {
			return data, nil
		}
		text, _, err := keys.VerifyClear(data)
		if err != nil {
			c.badSignature(name, err, aptSignRemedy)
			return data, nil
		}
		return text, nil
	}
	if _, ok := c.file(name + ".gpg"); ok {
		return data, c.verify(name, name+".gpg", aptSignRemedy)
	}
	if _, ok := c.file(path.Join(path.Dir(name), "InRelease")); !ok {
		c.unsigned(name, "there is neither Release.gpg nor InRelease", aptSignRemedy)
	}
	return data, nil
}

// withinSuite says whether a folder lies below that of a suite, whose Release
// vouches for the one here ("main/binary-amd64/Release").
func (c *closure) withinSuite(dir string) bool {
	archive, ok := archiveOf(dir + "/")
	if !ok {
		return false
	}
	for parent := path.Dir(dir); parent != path.Join(archive, "dists") && parent != "."; parent = path.Dir(parent) {
		for _, base := range []string{"InRelease", "Release"} {
			if _, ok := c.file(path.Join(parent, base)); ok {
				return true
			}
		}
	}
	return false
}

func strongest(f apt.File) rpmmd.Checksum {
	switch {
	case f.SHA256 != "": // known of every file, without reading it
		return rpmmd.Checksum{Type: "sha256", Value: f.SHA256}
	case f.SHA512 != "":
		return rpmmd.Checksum{Type: "sha512", Value: f.SHA512}
	case f.SHA1 != "":
		return rpmmd.Checksum{Type: "sha1", Value: f.SHA1}
	}
	return rpmmd.Checksum{Type: "md5", Value: f.MD5}
}
