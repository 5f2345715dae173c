package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/hubapi"
	"freshet/internal/durable"
	"freshet/internal/layout"
)

// builder makes the folder of a generation.
type builder struct {
	t       *Trees
	to      string // the folder, relative to Trees.dir
	from    string // that of the current generation
	old     *manifest
	blobs   map[string]blob
	folders map[string]*durable.Folder // of blobs, by their two digits
}

// build makes the folder of the generation m by links to blobs. Files at
// mutable paths whose content did not change are links to those of old, so that
// they stay what they were to the byte and the second.
func (t *Trees) build(ctx context.Context, s *state, m, old *manifest, blobs map[string]blob) (err error) {
	b := &builder{
		t: t, to: s.generationDir(m.Generation), from: s.generationDir(old.Generation),
		old: old, blobs: blobs, folders: make(map[string]*durable.Folder),
	}
	defer func() {
		for _, f := range b.folders {
			err = errors.Join(err, f.Close())
		}
	}()
	for sum := range blobs {
		if b.folders[sum[:2]] == nil {
			if b.folders[sum[:2]], err = t.blobs.Folder(sum[:2]); err != nil {
				return err
			}
		}
	}
	if err := t.dir.Mkdirs(b.to, 0o755, func(string) {}); err != nil {
		return err
	}
	byFolder := make(map[string][]hubapi.TreeFile)
	for i := range m.Files {
		dir := path.Dir(m.Files[i].Path)
		byFolder[dir] = append(byFolder[dir], m.Files[i])
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for dir, files := range byFolder {
		group.Go(func() error { return b.folder(ctx, dir, files) })
	}
	return group.Wait()
}

func (b *builder) folder(ctx context.Context, dir string, files []hubapi.TreeFile) (err error) {
	to := path.Join(b.to, dir)
	if err := b.t.dir.Mkdirs(to, 0o755, func(string) {}); err != nil {
		return err
	}
	folder, err := b.t.dir.Folder(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	for i := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.file(folder, &files[i]); err != nil {
			return fmt.Errorf("%s: %w", files[i].Path, err)
		}
	}
	return nil
}

func (b *builder) file(folder *durable.Folder, f *hubapi.TreeFile) error {
	if f.Link != "" {
		return b.t.dir.NewSymlink(f.Link, path.Join(b.to, f.Path))
	}
	if layout.Tree(f.Path).Mutable() {
		if old, ok := find(b.old.Files, f.Path); ok && old.SHA256 == f.SHA256 {
			err := b.t.dir.Link(path.Join(b.from, f.Path), path.Join(b.to, f.Path))
			if !errors.Is(err, syscall.EMLINK) {
				return err
			}
			return b.copy(f)
		}
		if b.blobs[f.SHA256].mtime != f.ModTime {
			return b.copy(f)
		}
	}
	err := folder.Link(path.Base(f.Path), b.folders[f.SHA256[:2]], f.SHA256)
	// link(2): a file has at most 65,000 names on ext4.
	if errors.Is(err, syscall.EMLINK) {
		return b.copy(f)
	}
	return err
}

// copy gives the path a file of its own, with the time of the manifest.
func (b *builder) copy(f *hubapi.TreeFile) (err error) {
	from, err := b.t.blobs.Root.Open(blobPath(f.SHA256))
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // opened for reading
	name := path.Join(b.to, f.Path)
	to, err := b.t.dir.Create(name, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	when := time.Unix(f.ModTime, 0)
	return b.t.dir.Root.Chtimes(name, when, when)
}

// changed compares two lists of files, sorted by path, as readers see them. See
// [Switch].
func changed(old, files []hubapi.TreeFile) []string {
	cached := func(k layout.Kind) bool { return !k.Addressed }
	before, after := visible(old, cached), visible(files, cached)
	paths := []string{}
	for p, sum := range before {
		now, ok := after[p]
		if now != sum && (ok || layout.Tree(p).Mutable()) {
			paths = append(paths, p)
		}
	}
	for p := range after {
		if _, ok := before[p]; !ok && layout.Tree(p).Class == layout.Pointer {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// mutableSums returns the SHA256 of what is read at each mutable path.
func mutableSums(files []hubapi.TreeFile) map[string]string {
	return visible(files, layout.Kind.Mutable)
}

// visible returns the SHA256 of what is read at each path whose kind is
// wanted, including the paths that exist through symbolic links to folders
// ("dists/stable" for "dists/trixie").
func visible(files []hubapi.TreeFile, wanted func(layout.Kind) bool) map[string]string {
	v := viewer{files: files, wanted: wanted, sums: make(map[string]string), budget: 2*len(files) + 100_000}
	for i := range files {
		v.add(files[i].Path, &files[i], nil)
	}
	return v.sums
}

// maxLinks is how many links Linux follows to resolve a path
// (path_resolution(7)).
const maxLinks = 40

type viewer struct {
	files  []hubapi.TreeFile
	wanted func(layout.Kind) bool
	sums   map[string]string
	// budget bounds the paths through links, of which a few links that lead
	// to one another can make very many.
	budget int
}

// add adds what is read at the path name, where f lies; within are the links
// that led there.
func (v *viewer) add(name string, f *hubapi.TreeFile, within []*hubapi.TreeFile) {
	if f.Link == "" {
		if v.wanted(layout.Tree(name)) {
			v.sums[name] = f.SHA256
		}
		return
	}
	// A link to a folder that it lies in, or a chain that Linux does not follow
	// (path_resolution(7)). The budget also counts links to files.
	if v.budget--; v.budget < 0 || len(within) == maxLinks || slices.Contains(within, f) {
		return
	}
	within = append(slices.Clip(within), f)
	target := v.resolve(f)
	if file, ok := find(v.files, target); ok {
		v.add(name, file, within)
		return
	}
	prefix := target + "/"
	if target == "." {
		prefix = ""
	}
	for i := firstBelow(v.files, prefix); i < len(v.files) && len(v.files[i].Path) > len(prefix) && v.files[i].Path[:len(prefix)] == prefix; i++ {
		if v.budget--; v.budget < 0 {
			return
		}
		v.add(name+"/"+v.files[i].Path[len(prefix):], &v.files[i], within)
	}
}

// firstBelow returns the index of the first of the files, which are sorted, whose
// path is not before prefix.
func firstBelow(files []hubapi.TreeFile, prefix string) int {
	i, _ := slices.BinarySearchFunc(files, prefix, func(f hubapi.TreeFile, p string) int {
		if f.Path < p {
			return -1
		}
		return 1
	})
	return i
}

// resolve returns where a link leads, after following links in its target's
// folders.
func (v *viewer) resolve(f *hubapi.TreeFile) string {
	target := path.Join(path.Dir(f.Path), f.Link)
	for range maxLinks {
		next, ok := v.step(target)
		if !ok {
			break
		}
		target = next
	}
	return target
}

// step replaces the first folder of name that is a link.
func (v *viewer) step(name string) (string, bool) {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if link, ok := find(v.files, name[:i]); ok && link.Link != "" {
			return path.Join(path.Dir(link.Path), link.Link, name[i+1:]), true
		}
	}
	return "", false
}
