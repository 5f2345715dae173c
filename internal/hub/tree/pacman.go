package tree

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/alpm"
	"freshet/internal/unpack"
)

const pacmanRemedy = "push the packages with it, or make the database anew with repo-add"

// isDatabase says whether a name is that of a pacman database: "core.db", which
// clients ask for, or "core.db.tar.gz", which repo-add writes.
func isDatabase(base string) bool {
	if strings.HasSuffix(base, ".db") {
		return true
	}
	_, form, ok := strings.Cut(base, ".db.tar")
	return ok && slices.Contains([]string{"", ".gz", ".zst", ".xz", ".bz2", ".lz4", ".lz", ".lzo", ".lrz", ".Z"}, form)
}

// isPackage says whether a name is that of a pacman package.
func isPackage(base string) bool {
	return strings.Contains(base, ".pkg.tar") && path.Ext(base) != ".sig"
}

// database checks a pacman repository: the packages of a database lie beside it.
// A file with the name of a database that is none, in a folder without packages,
// is something else.
func (c *closure) database(ctx context.Context, name string) error {
	content, ok := c.file(name)
	if !ok {
		return nil // a link to nowhere
	}
	dir := path.Dir(name)
	packages := c.beside(dir, isPackage)
	_, signed := c.file(name + ".sig")
	key := dir + "\x00" + content.SHA256
	if c.checked[key] {
		return nil // core.db is a link to core.db.tar.gz
	}
	c.checked[key] = true
	err := c.index(ctx, name, pacmanRemedy, func(r io.Reader) error {
		for p, err := range alpm.Packages(r) {
			if err != nil && !packages {
				return nil
			}
			if err != nil {
				return err
			}
			packages = true // whatever comes now, it is a database
			if err := c.pacmanPackage(name, dir, p, signed); err != nil {
				return err
			}
		}
		return nil
	})
	if form, ok := errors.AsType[unpack.FormatError](err); ok {
		c.note("the packages that %s names are not checked, because %s; repo-add writes gz, zst and xz", name, form)
		err = nil
	}
	if err != nil || !packages || !signed || c.keys == nil {
		return err
	}
	return c.verify(name, name+".sig", pacmanSignRemedy)
}

// pacmanPackage checks a package. If the tree has keys, a signature of the
// database vouches for all packages; without one, each needs its own. Those that
// are there must be good in any case.
func (c *closure) pacmanPackage(by, dir string, p alpm.Package, vouched bool) error {
	name := path.Join(dir, p.File)
	if c.wants(by, name, p.Size, p.SHA256, pacmanRemedy) == nil || c.keys == nil {
		return nil
	}
	signature := name + ".sig"
	_, beside := c.file(signature)
	switch {
	case !beside && p.Signature == nil:
		if !vouched {
			c.wrong.add(hubapi.TreeProblem{
				File: name, By: by, Reason: hubapi.TreeUnsigned,
				Detail: "and its database is not signed either",
			}, pacmanSignRemedy)
		}
		return nil
	case c.same(name, signature), c.checked[name]:
		return nil // clients of the older generation believe it
	}
	c.checked[name] = true
	if beside {
		return c.verify(name, signature, pacmanSignRemedy)
	}
	keys, ok := c.pgpKeys(name, pacmanSignRemedy)
	if !ok {
		return nil
	}
	return c.verifyBytes(name, p.Signature, keys, pacmanSignRemedy)
}

// beside says whether a file with such a name lies in the folder.
func (c *closure) beside(dir string, match func(base string) bool) bool {
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	for i := firstBelow(c.files, prefix); i < len(c.files) && strings.HasPrefix(c.files[i].Path, prefix); i++ {
		if base := c.files[i].Path[len(prefix):]; !strings.Contains(base, "/") && match(base) {
			return true
		}
	}
	return false
}
