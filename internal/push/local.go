package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/keyfile"
	"freshet/internal/ostree"
)

// localRepo is an OSTree repository in archive mode on this machine. Nothing
// outside of its folder is read.
type localRepo struct {
	root *os.Root
}

// maxConfig bounds a repository's config, in bytes.
const maxConfig = 1 << 20

func openRepo(dir string) (*localRepo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	r := &localRepo{root: root}
	if err := r.checkMode(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return r, nil
}

func (r *localRepo) close() { _ = r.root.Close() }

func (r *localRepo) checkMode() error {
	data, err := r.read("config", maxConfig)
	if err != nil {
		return err
	}
	config, err := keyfile.Parse(data)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	switch mode, _ := config.Get("core", "mode"); mode {
	case "archive-z2", "archive":
		return nil
	default:
		return fmt.Errorf("the repository's mode is %q: only one in archive mode can be pushed", mode)
	}
}

// read returns a whole file of at most limit bytes.
func (r *localRepo) read(name string, limit int64) ([]byte, error) {
	f, err := r.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, limit)
	}
	return data, nil
}

// refs returns the commits of the refs, or of all that a hub takes if none is
// named.
func (r *localRepo) refs(names []string) (map[string]ostree.Checksum, error) {
	if len(names) == 0 {
		for _, below := range []string{"app", "runtime", "screenshots"} {
			found, err := r.refsBelow(below)
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
		if len(names) == 0 {
			return nil, errors.New("no ref below app/, runtime/ or screenshots/")
		}
	}
	refs := make(map[string]ostree.Checksum, len(names))
	for _, name := range names {
		if err := ostree.ValidateRef(name); err != nil {
			return nil, err
		}
		data, err := r.read(ostree.RefPath(name), 1<<10)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the repository has no ref %s", name)
		}
		if err != nil {
			return nil, err
		}
		if refs[name], err = ostree.ParseRefFile(data); err != nil {
			return nil, fmt.Errorf("ref %s: %w", name, err)
		}
	}
	return refs, nil
}

func (r *localRepo) refsBelow(below string) ([]string, error) {
	const heads = "refs/heads/"
	var names []string
	err := fs.WalkDir(r.root.FS(), heads+below, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == heads+below {
			return fs.SkipAll
		}
		if err != nil {
			return err
		}
		if !d.IsDir() {
			names = append(names, strings.TrimPrefix(name, heads))
		}
		return nil
	})
	return names, err
}

// objects is what a build consists of, in the order in which it is sent.
type objects struct {
	files    []hubapi.Part
	metadata []hubapi.Part // commits last
}

// reachable lists every object of the commits, without their history. The
// metadata are read and checked on the way.
func (r *localRepo) reachable(ctx context.Context, commits map[string]ostree.Checksum) (objects, error) {
	w := &objectWalk{repo: r, seen: map[ostree.ObjectName]bool{}}
	var last []ostree.ObjectName
	for _, ref := range slices.Sorted(maps.Keys(commits)) {
		name := ostree.ObjectName{Checksum: commits[ref], Type: ostree.TypeCommit}
		if w.seen[name] {
			continue
		}
		w.seen[name] = true
		last = append(last, name)
		if err := w.commit(ctx, name); err != nil {
			return objects{}, fmt.Errorf("ref %s: %w", ref, err)
		}
	}
	for _, name := range last {
		if err := w.add(&w.found.metadata, name); err != nil {
			return objects{}, err
		}
	}
	return w.found, nil
}

type objectWalk struct {
	repo  *localRepo
	seen  map[ostree.ObjectName]bool
	found objects
}

func (w *objectWalk) commit(ctx context.Context, name ostree.ObjectName) error {
	data, err := w.repo.metadata(name)
	if err != nil {
		return err
	}
	commit, err := ostree.ParseCommit(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := w.dirMeta(commit.TreeMeta); err != nil {
		return err
	}
	return w.dirTree(ctx, commit.Tree)
}

// dirTree walks a tree of folders without recursion: how deep it is was
// decided by whoever made the repository.
func (w *objectWalk) dirTree(ctx context.Context, root ostree.Checksum) error {
	pending := []ostree.Checksum{root}
	for len(pending) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := ostree.ObjectName{Checksum: pending[len(pending)-1], Type: ostree.TypeDirTree}
		pending = pending[:len(pending)-1]
		if w.seen[name] {
			continue
		}
		w.seen[name] = true
		data, err := w.repo.metadata(name)
		if err != nil {
			return err
		}
		tree, err := ostree.ParseDirTree(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := w.add(&w.found.metadata, name); err != nil {
			return err
		}
		for _, file := range tree.Files {
			name := ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile}
			if w.seen[name] {
				continue
			}
			w.seen[name] = true
			if err := w.add(&w.found.files, name); err != nil {
				return err
			}
		}
		for _, dir := range tree.Dirs {
			if err := w.dirMeta(dir.Meta); err != nil {
				return err
			}
			pending = append(pending, dir.Tree)
		}
	}
	return nil
}

func (w *objectWalk) dirMeta(sum ostree.Checksum) error {
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirMeta}
	if w.seen[name] {
		return nil
	}
	w.seen[name] = true
	return w.add(&w.found.metadata, name)
}

func (w *objectWalk) add(to *[]hubapi.Part, name ostree.ObjectName) error {
	part, err := w.repo.part(name.String(), name.Path())
	if err != nil {
		return err
	}
	*to = append(*to, part)
	return nil
}

// metadata reads a metadata object and checks it against its name.
func (r *localRepo) metadata(name ostree.ObjectName) ([]byte, error) {
	data, err := r.read(name.Path(), ostree.MaxMetadataSize)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", name, err)
	}
	if sum := ostree.ChecksumOf(data); sum != name.Checksum {
		return nil, &ostree.MismatchError{Name: name, Actual: sum}
	}
	return data, nil
}

// part is a file of the repository as a part of an upload.
func (r *localRepo) part(name, file string) (hubapi.Part, error) {
	info, err := r.root.Stat(file)
	if err != nil {
		return hubapi.Part{}, fmt.Errorf("object %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return hubapi.Part{}, fmt.Errorf("%s: not a file", file)
	}
	return hubapi.Part{
		Name: name, Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return r.root.Open(file) },
	}, nil
}

// deltas is what the repository has of static deltas, in the order in which
// it is sent: a superblock names the parts.
type deltas struct {
	parts, superblocks []hubapi.Part
}

// deltasTo lists the static deltas that lead to one of the commits.
func (r *localRepo) deltasTo(commits map[string]ostree.Checksum) (deltas, error) {
	wanted := make(map[ostree.Checksum]bool, len(commits))
	for _, sum := range commits {
		wanted[sum] = true
	}
	var found deltas
	fans, err := r.entries("deltas")
	if err != nil {
		return found, err
	}
	for _, fan := range fans {
		names, err := r.entries(path.Join("deltas", fan.Name()))
		if err != nil {
			return found, err
		}
		for _, d := range names {
			name, err := ostree.ParseDeltaName(fan.Name() + d.Name())
			if err != nil || !wanted[name.To] {
				continue // not a delta, or not ours
			}
			if err := r.delta(name, &found); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// delta adds the files of one delta. One without a superblock is unfinished
// and left out.
func (r *localRepo) delta(name ostree.DeltaName, found *deltas) error {
	super, err := r.part(name.String()+".superblock.delta", name.SuperblockPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for i := range ostree.MaxDeltaParts {
		part, err := r.part(fmt.Sprintf("%s.%d.delta", name, i), name.PartPath(i))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		found.parts = append(found.parts, part)
	}
	found.superblocks = append(found.superblocks, super)
	return nil
}

// entries lists a folder that need not exist.
func (r *localRepo) entries(dir string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(r.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}
