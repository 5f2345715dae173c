package kind

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"path"
	"strings"

	"freshet/internal/apt"
	"freshet/internal/glob"
	"freshet/internal/layout"
)

// Rest are the files of the tree beside the repositories, from its listing: all of them,
// where the configuration does not name repositories, else those that it includes. Files
// that repositories consist of are not among them, be they of a version that is gone or
// of a repository that is not wanted. Links that lead out of the tree, and the traces of
// syncs that are under way, are left out.
func (k *Kind) Rest(ctx context.Context, tree Tree, repositories []Repository, left *Left) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		if k.config.Format == OSTree || k.isPartial() && len(k.config.Include) == 0 {
			return
		}
		if tree.List == nil {
			yield(File{}, fmt.Errorf("%w: what lies beside the repositories is not known", ErrNoListing))
			return
		}
		owned, err := k.owned(ctx, tree, repositories)
		if err != nil {
			yield(File{}, err)
			return
		}
		for f, err := range tree.List(ctx) {
			if err == nil && (owned.has(f.Path) || !k.wantsRest(f, left)) {
				continue
			}
			if err == nil {
				f.Class = layout.Index
				if p := layout.PolicyOf("/" + f.Path); p.Ruled() {
					f.Class = p.Class
				}
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// isPartial tells whether only some of the tree is meant.
func (k *Kind) isPartial() bool { return len(k.config.Repositories) > 0 }

// wantsRest tells whether a file beside the repositories is wanted.
func (k *Kind) wantsRest(f File, left *Left) bool {
	wanted := len(k.config.Include) == 0 || glob.MatchAny(k.config.Include, f.Path)
	switch {
	case underWay(f.Path) || f.Link != "" && leadsOut(f):
		return false // nobody would miss it
	case !wanted || glob.MatchAny(k.config.Exclude, f.Path):
	case k.config.Format == Plain:
		return true
	case k.config.Format == Images:
		if k.arches.hasNamed(path.Base(f.Path)) {
			return true
		}
	case len(k.config.Include) > 0 || k.meant(f.Path):
		return true
	}
	left.add(f.Size)
	return false
}

// underWay tells of a path whether it is of somebody's sync and not of the project.
func underWay(name string) bool {
	return strings.Contains("/"+name, "/.~tmp~/") || strings.Contains(name, "Archive-Update-in-Progress-") || strings.Contains(name, "Archive-Update-Required-")
}

// leadsOut tells whether a link leads out of the tree.
func leadsOut(f File) bool {
	to := path.Join(path.Dir(f.Path), f.Link)
	return path.IsAbs(f.Link) || to == ".." || strings.HasPrefix(to, "../")
}

// owned tells which paths of a listing are those of repositories, or of releases that are
// not wanted.
type owned struct {
	format Format
	// roots are the folders of repositories that are wanted.
	roots map[string]bool
	// suites are the folders of the suites that are wanted.
	suites map[string]bool
	// names are single files.
	names map[string]bool
	// releases are the folders in which there is one folder for each release, and
	// ancestors those that lead to a repository.
	releases, ancestors map[string]bool
}

func (k *Kind) owned(ctx context.Context, tree Tree, repositories []Repository) (*owned, error) {
	o := &owned{
		format: k.config.Format, roots: make(map[string]bool), suites: make(map[string]bool), names: make(map[string]bool),
		releases: make(map[string]bool), ancestors: make(map[string]bool),
	}
	for _, r := range repositories {
		o.roots[r.Root] = true
		if folder, ok := k.releaseFolder(r.Pointer); ok {
			o.releases[folder] = true
			for dir := path.Dir(r.Pointer); dir != "."; dir = path.Dir(dir) {
				o.ancestors[dir] = true
			}
		}
		switch r.Format {
		case Deb:
			o.suites[path.Dir(r.Pointer)] = true
			o.release(ctx, tree.Open, r)
		case Images:
			if err := k.ownedImages(ctx, tree, r, o.names); err != nil {
				return nil, err
			}
		case RPM, Arch, Alpine, OSTree, Plain:
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// release adds the indexes that a Release names. Those of one that cannot be read now are
// taken for what lies beside it, which harms nobody.
func (o *owned) release(ctx context.Context, open Open, r Repository) {
	text, err := readAll(ctx, open, r.Pointer, apt.MaxReleaseSize)
	if err != nil {
		return
	}
	release, err := apt.ParseRelease(bytes.NewReader(text))
	if err != nil {
		return
	}
	for _, f := range release.Files {
		o.names[path.Join(path.Dir(r.Pointer), f.Path)] = true
	}
}

// ownedImages adds the files of a list.
func (k *Kind) ownedImages(ctx context.Context, tree Tree, r Repository, names map[string]bool) error {
	names[r.Pointer] = true
	for _, name := range r.besidePointer() {
		names[name] = true
	}
	_, err := k.imageFiles(ctx, tree, r, func(f File) bool {
		names[f.Path] = true
		return true
	})
	if err != nil && Reason(err) == "error" {
		return err
	}
	return nil
}

// has tells whether a path is of a repository.
func (o *owned) has(name string) bool {
	if o.names[name] || o.otherRelease(name) {
		return true
	}
	switch o.format {
	case RPM:
		if k := layout.RPM(name); k.Class == layout.Pointer || path.Base(path.Dir(name)) == "repodata" {
			return true
		}
		return layout.RPM(name).Class == layout.Payload && o.isBelow(name)
	case Deb:
		return layout.Deb(name) != (layout.Kind{Class: layout.Index}) || o.otherSuite(name)
	case Arch:
		return layout.Arch(name).Class != layout.Index
	case Alpine:
		return layout.Apk(name).Class != layout.Index
	case Images, OSTree, Plain:
	}
	return false
}

// otherRelease tells whether a path lies in the folder of a release that is not wanted.
func (o *owned) otherRelease(name string) bool {
	if len(o.releases) == 0 {
		return false
	}
	folder := path.Dir(name)
	for folder != "." {
		parent := path.Dir(folder)
		if o.releases[parent] && !o.ancestors[folder] {
			return true
		}
		folder = parent
	}
	return false
}

// isBelow tells whether a path lies in one of the repositories.
func (o *owned) isBelow(name string) bool {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if o.roots[dir] {
			return true
		}
		if dir == "." {
			return false
		}
	}
}

// otherSuite tells whether a path is in a suite that is not wanted.
func (o *owned) otherSuite(name string) bool {
	i := strings.Index("/"+name, "/dists/")
	if i < 0 {
		return false
	}
	from := i + len("dists/")
	for dir := path.Dir(name); len(dir) >= from; dir = path.Dir(dir) {
		if o.suites[dir] {
			return false
		}
	}
	return true
}
