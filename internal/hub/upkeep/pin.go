package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"freshet/internal/hub/nameset"
	"freshet/internal/hub/relied"
	"freshet/internal/keyfile"
	"freshet/internal/ostree"
)

// pins are the objects that builds need.
type pins struct {
	names  nameset.Set
	walked nameset.Set // commits and folders, with all that is below them
	builds map[string]*pinned
}

// pinned is what is known of the build in a folder.
type pinned struct {
	relied  relied.Reader
	commits map[ostree.Checksum]bool // that were gone over
}

// buildCommits lists the builds of this repository, by their folders, with the
// commits in them.
func (p *pruner) buildCommits() (map[string][]ostree.Checksum, error) {
	all := map[string][]ostree.Checksum{}
	if p.opt.Builds == "" {
		return all, nil
	}
	self, err := filepath.Abs(p.path)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(p.opt.Builds)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		dir := filepath.Join(p.opt.Builds, entry.Name())
		data, err := os.ReadFile(filepath.Join(dir, "config"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue // no build, or one that comes or goes
		}
		if err != nil {
			return nil, err // who knows what it needs
		}
		config, err := keyfile.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "config"), err)
		}
		if parent, _ := config.Get("core", "parent"); parent != self {
			continue
		}
		all[dir] = nil
		commits, err := filepath.Glob(filepath.Join(dir, "objects", "*", "*.commit"))
		if err != nil {
			return nil, err
		}
		for _, path := range commits {
			relative, err := filepath.Rel(dir, path)
			if err != nil {
				return nil, err
			}
			if name, err := ostree.ParseObjectPath(filepath.ToSlash(relative)); err == nil {
				all[dir] = append(all[dir], name.Checksum)
			}
		}
	}
	return all, nil
}

// pin remembers what builds need: what their uploaders were told is there, and what
// the commits of that, and of the build itself, need.
func (p *pruner) pin(ctx context.Context, builds map[string][]ostree.Checksum) error {
	if p.pins.builds == nil {
		p.pins.builds = map[string]*pinned{}
	}
	for dir, commits := range builds {
		build := p.pins.builds[dir]
		if build == nil {
			build = &pinned{relied.Reader{Dir: dir}, map[ostree.Checksum]bool{}}
			p.pins.builds[dir] = build
		}
		names, err := build.relied.Next()
		if err != nil {
			return err
		}
		for _, sum := range commits {
			if !build.commits[sum] {
				build.commits[sum] = true
				names = append(names, ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit})
			}
		}
		w := pinning{pins: &p.pins, in: firstOf{p.repo.FS(), os.DirFS(dir)}}
		for _, name := range names {
			if _, err := w.object(ctx, name, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// pinning goes over what a build needs. What is still to be uploaded when it does is
// on the list when the uploader is told of it, or else the build's own.
type pinning struct {
	*pins
	in   fs.FS
	seen nameset.Set
}

// object pins an object and what is below it, and reports whether all of that could
// be read.
func (w *pinning) object(ctx context.Context, name ostree.ObjectName, depth int) (whole bool, err error) {
	w.names.Add(name)
	if name.Type != ostree.TypeCommit && name.Type != ostree.TypeDirTree || w.walked.Has(name) {
		return true, nil
	}
	if !w.seen.Add(name) || depth > maxTreeDepth {
		return false, nil
	}
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	below, err := w.below(name)
	if _, unread := errors.AsType[*fs.PathError](err); unread && !errors.Is(err, fs.ErrNotExist) {
		return false, err // who knows what it needs
	}
	if err != nil {
		return false, nil //nolint:nilerr // it is still to be uploaded; or nothing that can be published
	}
	whole = true
	for _, name := range below {
		all, err := w.object(ctx, name, depth+1)
		if err != nil {
			return false, err
		}
		whole = whole && all
	}
	if whole {
		w.walked.Add(name)
	}
	return whole, nil
}

// below lists what a commit or folder names.
func (w *pinning) below(name ostree.ObjectName) (all []ostree.ObjectName, err error) {
	if name.Type == ostree.TypeCommit {
		commit, err := readCommit(w.in, name.Checksum)
		if err != nil {
			return nil, err
		}
		return []ostree.ObjectName{{Checksum: commit.TreeMeta, Type: ostree.TypeDirMeta}, {Checksum: commit.Tree, Type: ostree.TypeDirTree}}, nil
	}
	tree, err := readTree(w.in, name.Checksum)
	if err != nil {
		return nil, err
	}
	for _, file := range tree.Files {
		all = append(all, ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile})
	}
	for _, dir := range tree.Dirs {
		all = append(all, ostree.ObjectName{Checksum: dir.Meta, Type: ostree.TypeDirMeta},
			ostree.ObjectName{Checksum: dir.Tree, Type: ostree.TypeDirTree})
	}
	return all, nil
}

// firstOf is the file system in which a file is that of the first one that has it.
type firstOf []fs.FS

// Open implements fs.FS.
func (all firstOf) Open(name string) (file fs.File, err error) {
	for _, fsys := range all {
		if file, err = fsys.Open(name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return file, err
}
