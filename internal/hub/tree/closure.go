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
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/rpmmd"
	"freshet/internal/unpack"
)

// closure checks that the metadata of a tree agree with its files, because a
// client that is sent from one to the other believes the checksum and gives up;
// and that they are signed, if the tree has keys.
type closure struct {
	root    *os.Root
	files   []hubapi.TreeFile
	links   bool // some of the files are links
	keys    *Keys
	known   []hubapi.TreeFile // of an older generation, checked with the same keys
	checked map[string]bool   // indexes of packages
	wrong   findings
	notes   []string
	noted   int
}

// run checks each repomd.xml, whose files must all be there; each
// Release below dists or beside an index of packages, whose files must agree
// where they are there: apt names forms of an index that nobody needs to offer;
// each pacman database and each APKINDEX.tar.gz. The packages that these indexes
// name must be there. It returns a note of what could not be checked, "" if all
// was, and everything that is wrong as a [*RefusalError].
func (c *closure) run(ctx context.Context) (note string, err error) {
	c.checked = make(map[string]bool)
	c.links = slices.ContainsFunc(c.files, func(f hubapi.TreeFile) bool { return f.Link != "" })
	for i := range c.files {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if err := c.check(ctx, c.files[i].Path); err != nil {
			return "", err
		}
	}
	return c.allNotes(), c.wrong.err()
}

func (c *closure) check(ctx context.Context, name string) error {
	dir, base := path.Split(name)
	switch {
	case base == "repomd.xml" && path.Base(dir) == "repodata":
		return c.repomd(ctx, name)
	case base == "APKINDEX.tar.gz":
		return c.apkIndex(ctx, name)
	case isDatabase(base):
		return c.database(ctx, name)
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

// agree checks the file target against what the file by says of it. A size of -1
// and an unknown kind of checksum agree with everything. When the file is not
// there, the error is [fs.ErrNotExist]; what is wrong with it is a finding.
func (c *closure) agree(by, target string, size int64, sum rpmmd.Checksum, remedy string) error {
	info, err := c.root.Stat(target)
	if absent(err) || err == nil && !info.Mode().IsRegular() {
		return &fs.PathError{Op: "stat", Path: target, Err: fs.ErrNotExist}
	}
	if err != nil {
		return err
	}
	if size >= 0 && info.Size() != size {
		c.wrong.add(wrongSize(target, by, size, info.Size()), remedy)
		return nil
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
		c.wrong.add(wrongSum(target, by, sum.Type, sum.Value, got), remedy)
	}
	return nil
}

// wants checks a package against what the index by says of it. A size of -1 and
// an empty checksum agree with everything. It returns nil when the package is
// not as the index says.
func (c *closure) wants(by, name string, size int64, sum, remedy string) *hubapi.TreeFile {
	p := hubapi.TreeProblem{File: name, By: by, Reason: hubapi.TreeOutside}
	if fs.ValidPath(name) {
		f, ok := c.named(name)
		switch {
		case !ok:
			p.Reason = hubapi.TreeMissing
		case size >= 0 && f.Size != size:
			p = wrongSize(name, by, size, f.Size)
		case sum != "" && f.SHA256 != sum:
			p = wrongSum(name, by, "sha256", sum, f.SHA256)
		default:
			return f
		}
	}
	c.wrong.add(p, remedy)
	return nil
}

func wrongSize(name, by string, want, got int64) hubapi.TreeProblem {
	return hubapi.TreeProblem{
		File: name, By: by, Reason: hubapi.TreeSize,
		Want: strconv.FormatInt(want, 10), Got: strconv.FormatInt(got, 10),
	}
}

func wrongSum(name, by, kind, want, got string) hubapi.TreeProblem {
	return hubapi.TreeProblem{
		File: name, By: by, Reason: hubapi.TreeChecksum,
		Want: kind + ":" + want[:min(len(want), sha512.Size*2)], Got: kind + ":" + got,
	}
}

// malformed adds the finding that a file of metadata is not what it should be.
func (c *closure) malformed(name string, err error, remedy string) {
	c.wrong.add(hubapi.TreeProblem{File: name, Reason: hubapi.TreeMalformed, Detail: cut(err.Error(), maxProblemPath)}, remedy)
}

// maxNotes is how many indexes a note names.
const maxNotes = 3

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

// index reads an index of packages; what walk finds wrong with its form is a
// finding. When it cannot be read here, the error is a [unpack.FormatError].
func (c *closure) index(ctx context.Context, name, remedy string, walk func(io.Reader) error) error {
	src := &source{check: ctx.Err}
	err := c.read(name, func(r io.Reader) error {
		src.r = r
		plain, done, err := unpack.NewReader(src)
		if err != nil {
			return err
		}
		defer done()
		return walk(plain)
	})
	if src.err != nil {
		return fmt.Errorf("%s: %w", name, src.err)
	}
	if _, unreadable := errors.AsType[unpack.FormatError](err); err != nil && !unreadable {
		c.malformed(name, err, remedy)
		err = nil
	}
	return err
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
