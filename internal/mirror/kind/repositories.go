package kind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"freshet/internal/glob"
	"freshet/internal/layout"
)

// ErrNoListing says that the configuration can only be followed with a listing of the
// tree, and the upstream has none.
var ErrNoListing = errors.New("the upstream cannot be listed")

// maxRepositories is how many one project may have. Fedora has some 2,000.
const maxRepositories = 20_000

// Repositories finds the repositories of a tree, sorted by pointer. Patterns without "*"
// are taken at their word, and the tree is not asked; else it is listed, once.
func (k *Kind) Repositories(ctx context.Context, tree Tree) ([]Repository, error) {
	if k.config.Format == Plain {
		return nil, nil
	}
	found := make(map[string]Repository)
	var patterns []string
	for _, p := range k.patterns() {
		if strings.Contains(p, "*") {
			patterns = append(patterns, p)
			continue
		}
		r := k.repositoryAt(p)
		found[r.Pointer] = r
	}
	if len(k.config.Repositories) == 0 && k.config.Format == OSTree {
		r := k.repositoryAt(".")
		found[r.Pointer] = r
	} else if len(patterns) > 0 || len(k.config.Repositories) == 0 {
		if err := k.discover(ctx, tree, patterns, found); err != nil {
			return nil, err
		}
	}
	list := make([]Repository, 0, len(found))
	for _, r := range found {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Repository) int { return strings.Compare(a.Pointer, b.Pointer) })
	return list, nil
}

// NoneFound says what it may come from that no repository was found in a tree; nil for kinds of
// which a tree without any is mirrored as well.
func (k *Kind) NoneFound() error {
	switch k.config.Format {
	case Images, Plain:
		return nil
	case RPM, Deb, Arch, Alpine, OSTree:
	}
	return fmt.Errorf("no repository of the kind %s was found in the listing of the upstream: see kind, upstreams, repositories and releases of the project", k.config.Format)
}

// patterns are those of the configuration with the values in place of their names. Where
// no values are given, a name is "*".
func (k *Kind) patterns() []string {
	list := slices.Clone(k.config.Repositories)
	for _, v := range [...]struct {
		name   string
		values []string
	}{
		{"{release}", k.config.Releases},
		{"{arch}", k.config.Architectures},
		{"{component}", k.config.Components},
	} {
		if len(v.values) == 0 {
			v.values = []string{"*"}
		}
		var next []string
		for _, p := range list {
			if !strings.Contains(p, v.name) {
				next = append(next, p)
				continue
			}
			for _, value := range v.values {
				next = append(next, strings.ReplaceAll(p, v.name, value))
			}
		}
		list = next
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// discover adds the repositories whose pointers a listing has.
func (k *Kind) discover(ctx context.Context, tree Tree, patterns []string, found map[string]Repository) error {
	if tree.List == nil {
		return fmt.Errorf("%w: name its repositories without * in the configuration", ErrNoListing)
	}
	signatures := make(map[string]bool) // of lists of checksums
	for f, err := range tree.List(ctx) {
		if err != nil {
			return fmt.Errorf("%w (it is listed to find its repositories: those that are named in the configuration without * need no listing)", err)
		}
		if k.config.Format == Images && isSumSignature(f.Path) {
			signatures[f.Path] = true
		}
		if !k.isPointer(f.Path) || f.Link != "" && leadsOut(f) {
			continue
		}
		r := k.repositoryAt(f.Path)
		if !k.isWanted(r, patterns) {
			continue
		}
		if found[r.Pointer] = r; len(found) > maxRepositories {
			return fmt.Errorf("more than %d repositories: name the wanted ones in the configuration", maxRepositories)
		}
	}
	switch k.config.Format {
	case Images:
		bestLists(found, signatures)
	case Deb:
		for name, r := range found {
			// InRelease has the same in it, and its signature.
			if _, signed := found[path.Join(path.Dir(name), "InRelease")]; signed && path.Base(name) == "Release" {
				delete(found, r.Pointer)
			}
		}
	case RPM, Arch, Alpine, OSTree, Plain:
	}
	return nil
}

// isWanted tells whether a repository that was found is one that the configuration means.
func (k *Kind) isWanted(r Repository, patterns []string) bool {
	if glob.MatchAny(k.config.Exclude, r.Pointer) {
		return false
	}
	if len(k.config.Repositories) == 0 {
		_, released := k.releaseFolder(r.Pointer)
		return k.meant(r.Pointer) && (released || len(k.config.Releases) == 0)
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		return glob.Match(p, r.Pointer) || glob.Match(p, folderOf(r))
	})
}

// folderOf is what a pattern that names a folder is compared with.
func folderOf(r Repository) string {
	if r.Format == RPM || r.Format == OSTree {
		return r.Root
	}
	return path.Dir(r.Pointer)
}

// isPointer tells whether readers begin in a file of this name.
func (k *Kind) isPointer(name string) bool {
	base := path.Base(name)
	switch k.config.Format {
	case RPM:
		return base == "repomd.xml" && path.Base(path.Dir(name)) == "repodata"
	case Deb:
		// Each folder of indexes has a Release as well, which says nothing.
		inside := strings.Contains(name, "/binary-") || strings.Contains(name, "/source/")
		return !inside && (base == "InRelease" || base == "Release")
	case Arch:
		return strings.HasSuffix(base, ".db") && layout.Arch(name).Class == layout.Pointer
	case Alpine:
		return base == "APKINDEX.tar.gz"
	case Images:
		return isSumList(base)
	case OSTree:
		return base == "summary"
	case Plain:
	}
	return false
}

// repositoryAt is the repository that a path without "*" names: its folder, or its
// pointer.
func (k *Kind) repositoryAt(name string) Repository {
	name = path.Clean(name)
	r := Repository{Format: k.config.Format, Pointer: name}
	if !k.isPointer(name) {
		switch k.config.Format {
		case RPM:
			r.Pointer = path.Join(name, "repodata/repomd.xml")
		case Deb:
			r.Pointer = path.Join(name, "InRelease")
		case Alpine:
			r.Pointer = path.Join(name, "APKINDEX.tar.gz")
		case OSTree:
			r.Pointer = path.Join(name, "summary")
		case Images:
			if path.Ext(name) == "" {
				r.Pointer = path.Join(name, "SHA256SUMS")
			}
		case Arch, Plain:
		}
	}
	r.Root = path.Dir(r.Pointer)
	switch k.config.Format {
	case RPM:
		r.Root = path.Dir(r.Root)
	case Deb:
		if i := strings.LastIndex("/"+r.Root+"/", "/dists/"); i >= 0 {
			r.Root = path.Clean(r.Root[:max(i-1, 0)])
		}
	case Arch, Alpine, Images, OSTree, Plain:
	}
	return r
}

// Missing says of an error to read a repository, if its pointer is not there, what that may come
// from; it wraps the error. Others are returned as they are.
func Missing(r Repository, err error) error {
	p, ok := errors.AsType[*fs.PathError](err)
	if !ok || p.Path != r.Pointer || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &missing{r, p}
}

type missing struct {
	r   Repository
	err *fs.PathError
}

func (m *missing) Unwrap() error { return m.err }

func (m *missing) Error() string {
	text := fmt.Sprintf("there is no repository at %s (%v): see upstreams and repositories of the project", m.r.Pointer, m.err.Err)
	if folder, name := path.Split(m.r.Pointer); name == "InRelease" {
		text += fmt.Sprintf("; one that has a Release only is named by that: %q", folder+"Release")
	}
	return text
}
