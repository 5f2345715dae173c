package tree

import (
	"context"
	"crypto/md5"  //nolint:gosec // not for security: old metadata name it
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"freshet/api/hubapi"
	"freshet/internal/apt"
	"freshet/internal/rpmmd"
)

// closure checks that the metadata of a tree agree with its files, because a
// client that is sent from one to the other believes the checksum and gives up.
type closure struct {
	root    *os.Root
	files   []hubapi.TreeFile
	links   bool            // some of the files are links
	checked map[string]bool // indexes of packages
	notes   []string
	noted   int
}

// checkClosure checks each repomd.xml, whose files must all be there, and each
// Release below dists or beside an index of packages, whose files must agree
// where they are there: apt names forms of an index that nobody needs to offer.
// The packages that these indexes name must be there. It returns a note of what
// could not be checked, "" if all was.
func checkClosure(ctx context.Context, root *os.Root, files []hubapi.TreeFile) (note string, err error) {
	c := closure{
		root: root, files: files, checked: make(map[string]bool),
		links: slices.ContainsFunc(files, func(f hubapi.TreeFile) bool { return f.Link != "" }),
	}
	for i := range files {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if err := c.check(ctx, files[i].Path); err != nil {
			return "", err
		}
	}
	return c.allNotes(), nil
}

func (c *closure) check(ctx context.Context, name string) error {
	dir, base := path.Split(name)
	switch {
	case base == "repomd.xml" && path.Base(dir) == "repodata":
		return c.repomd(ctx, name)
	case base != "Release" && base != "InRelease":
		return nil
	}
	if archive, ok := archiveOf(dir); ok {
		return c.release(ctx, name, suite{roots: []string{archive}})
	}
	if c.isFlat(dir) {
		return c.release(ctx, name, suite{flat: true, roots: parents(path.Clean(dir))})
	}
	return nil
}

func (c *closure) repomd(ctx context.Context, name string) error {
	var repomd *rpmmd.Repomd
	err := c.read(name, func(r io.Reader) (err error) {
		repomd, err = rpmmd.ParseRepomd(r)
		return err
	})
	if errors.Is(err, rpmmd.ErrMalformed) {
		return fmt.Errorf("%w: %s: %w", ErrRefused, name, err)
	}
	if err != nil {
		return err
	}
	top := path.Dir(path.Dir(name))
	primary := make(map[string][]string) // by type
	for _, d := range repomd.Data {
		if d.Base != "" {
			continue // somewhere else
		}
		target := path.Join(top, d.Href)
		if path.IsAbs(d.Href) || !fs.ValidPath(target) {
			return fmt.Errorf("%w: %s names %q, which is outside the tree", ErrRefused, name, d.Href)
		}
		err := c.agree(name, target, d.Size, d.Checksum)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s names %s, which is not in the tree", ErrRefused, name, target)
		}
		if err != nil {
			return err
		}
		primary[d.Type] = append(primary[d.Type], target)
	}
	// The second has the same content as the first, for clients that know it.
	for _, kind := range []string{"primary", "primary_zck"} {
		if len(primary[kind]) > 0 {
			return c.primary(ctx, top, primary[kind])
		}
	}
	return nil
}

func (c *closure) release(ctx context.Context, name string, s suite) error {
	var release *apt.Release
	err := c.read(name, func(r io.Reader) (err error) {
		release, err = apt.ParseRelease(r)
		return err
	})
	if errors.Is(err, apt.ErrMalformed) {
		return fmt.Errorf("%w: %s: %w", ErrRefused, name, err)
	}
	if err != nil {
		return err
	}
	s.dir = path.Dir(name)
	for _, f := range release.Files {
		if !s.covers(f.Path) {
			continue
		}
		err := c.agree(name, path.Join(s.dir, f.Path), f.Size, strongest(f))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return c.aptIndexes(ctx, release, s)
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

// agree checks the file target against what the file name says of it. A size
// of -1 and an unknown kind of checksum agree with everything.
func (c *closure) agree(name, target string, size int64, sum rpmmd.Checksum) error {
	info, err := c.root.Stat(target)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "stat", Path: target, Err: fs.ErrNotExist}
	}
	if size >= 0 && info.Size() != size {
		return fmt.Errorf("%w: %s says that %s has %d bytes, but it has %d", ErrRefused, name, target, size, info.Size())
	}
	h := newHash(sum.Type)
	if h == nil || sum.Value == "" {
		return nil
	}
	var got string
	if f, ok := c.file(target); ok && sum.Type == "sha256" {
		got = f.SHA256
	} else {
		err := c.read(target, func(r io.Reader) error {
			_, err := io.Copy(h, r)
			return err
		})
		if err != nil {
			return err
		}
		got = hex.EncodeToString(h.Sum(nil))
	}
	if got != sum.Value {
		return fmt.Errorf("%w: %s says that %s has the %s %s, but it has %s", ErrRefused, name, target, sum.Type, sum.Value, got)
	}
	return nil
}

// newHash knows the names of createrepo_c, where "sha" is SHA-1.
func newHash(kind string) hash.Hash {
	switch kind {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	case "sha384":
		return sha512.New384()
	case "sha224":
		return sha256.New224()
	case "sha", "sha1":
		return sha1.New()
	case "md5":
		return md5.New()
	}
	return nil
}

func (c *closure) read(name string, fn func(io.Reader) error) error {
	f, err := c.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(fn(f), f.Close())
}
