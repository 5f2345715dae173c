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
	"sync"

	"freshet/api/hubapi"
	"freshet/internal/ostree"
)

// localRepo is an OSTree repository in archive mode on this machine. Nothing
// outside of its folder is read.
type localRepo struct {
	*ostree.Repo

	root *os.Root

	mu      sync.Mutex
	folders map[string]*os.Root // of objects, which are many in each: found once
}

func openRepo(dir string) (*localRepo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	repo, err := ostree.OpenRepo(root.FS())
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &localRepo{Repo: repo, root: root}, nil
}

func (r *localRepo) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, folder := range r.folders {
		_ = folder.Close()
	}
	_ = r.root.Close()
}

// find returns an open folder of the repository and the name in it of a file. It stays
// open if it is one of objects, of which there are 256.
func (r *localRepo) find(file string) (*os.Root, string, error) {
	dir, name := path.Split(file)
	if !strings.HasPrefix(dir, "objects/") {
		return r.root, file, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if folder, ok := r.folders[dir]; ok {
		return folder, name, nil
	}
	folder, err := r.root.OpenRoot(path.Clean(dir))
	if err != nil {
		return nil, "", err
	}
	if r.folders == nil {
		r.folders = make(map[string]*os.Root)
	}
	r.folders[dir] = folder
	return folder, name, nil
}

// refs returns the commits of the refs, or of all that a hub takes if none is
// named.
func (r *localRepo) refs(names []string) (map[string]ostree.Checksum, error) {
	if len(names) == 0 {
		refs, err := r.ListRefs()
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(refs, func(ref string, _ ostree.Checksum) bool {
			return !strings.HasPrefix(ref, "app/") && !strings.HasPrefix(ref, "runtime/") && !strings.HasPrefix(ref, "screenshots/")
		})
		if len(refs) == 0 {
			return nil, errors.New("no ref below app/, runtime/ or screenshots/")
		}
		return refs, nil
	}
	refs := make(map[string]ostree.Checksum, len(names))
	for _, name := range names {
		sum, err := r.ResolveRef(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the repository has no ref %s", name)
		}
		if err != nil {
			return nil, err
		}
		refs[name] = sum
	}
	return refs, nil
}

// objectNames are those of what a build consists of, in the order in which it is sent.
type objectNames struct {
	files    []ostree.ObjectName
	metadata []ostree.ObjectName // commits last
}

// objects are the parts of an upload with these names, in their order.
type objects struct{ files, metadata []hubapi.Part }

// lacking returns those that are among the names.
func (o objects) lacking(names []string) objects {
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	unwanted := func(part hubapi.Part) bool { return !wanted[part.Name] }
	return objects{
		files:    slices.DeleteFunc(slices.Clone(o.files), unwanted),
		metadata: slices.DeleteFunc(slices.Clone(o.metadata), unwanted),
	}
}

// reachable lists every object of the commits, without their history. The
// metadata are read and checked on the way.
func (r *localRepo) reachable(ctx context.Context, commits map[string]ostree.Checksum) (objectNames, error) {
	var found objectNames
	var last []ostree.ObjectName
	seen := map[ostree.ObjectName]bool{}
	visit := func(name ostree.ObjectName) error {
		if seen[name] { // with another commit
			if name.Type == ostree.TypeDirTree || name.Type == ostree.TypeCommit {
				return fs.SkipDir
			}
			return nil
		}
		seen[name] = true
		switch name.Type {
		case ostree.TypeFile:
			found.files = append(found.files, name)
		case ostree.TypeCommit:
			last = append(last, name)
		default:
			found.metadata = append(found.metadata, name)
		}
		return nil
	}
	for _, ref := range slices.Sorted(maps.Keys(commits)) {
		if err := r.Walk(ctx, commits[ref], visit); err != nil {
			return objectNames{}, fmt.Errorf("ref %s: %w", ref, err)
		}
	}
	found.metadata = append(found.metadata, last...)
	return found, nil
}

// objects looks at the files of all the names.
func (r *localRepo) objects(ctx context.Context, names objectNames) (found objects, err error) {
	if found.files, err = r.partsOf(ctx, names.files); err != nil {
		return objects{}, err
	}
	found.metadata, err = r.partsOf(ctx, names.metadata)
	return found, err
}

func (r *localRepo) partsOf(ctx context.Context, names []ostree.ObjectName) ([]hubapi.Part, error) {
	parts := make([]hubapi.Part, len(names))
	for i, name := range names {
		err := context.Cause(ctx)
		if err == nil {
			parts[i], err = r.part(name.String(), name.Path())
		}
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// part is a file of the repository as a part of an upload.
func (r *localRepo) part(name, file string) (hubapi.Part, error) {
	in, base, err := r.find(file)
	if err != nil {
		return hubapi.Part{}, fmt.Errorf("%s: %w", name, err)
	}
	info, err := in.Stat(base)
	if err != nil {
		return hubapi.Part{}, fmt.Errorf("%s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return hubapi.Part{}, fmt.Errorf("%s: not a file", file)
	}
	return hubapi.Part{
		Name: name, Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return in.Open(base) },
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
