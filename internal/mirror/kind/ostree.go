package kind

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"freshet/internal/closure"
	"freshet/internal/glob"
	"freshet/internal/gvariant"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/roots"
	"freshet/internal/source"
	"freshet/internal/unpack"
)

// batch is how many files Prefetch is told of at once.
const batch = 4096

// ostree are the files of an OSTree repository: of each ref that is wanted the commit with
// all its objects and the static deltas that lead to it, then the summaries.
//
// Directories are read level by level, those of all refs at once, so that an upstream far
// away is waited for as often as the deepest tree has levels. Memory grows with the
// number of different objects, by some 40 bytes each.
func (k *Kind) ostree(ctx context.Context, tree Tree, r Repository, left *Left) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		w := treeWalk{
			kind: k, ctx: ctx, tree: tree, root: r.Root, left: left,
			yield: yield, seen: make(map[ostree.ObjectName]struct{}),
		}
		if err := w.run(r); err != nil && !errors.Is(err, errStopped) {
			yield(File{}, err)
		}
	}
}

type treeWalk struct {
	kind  *Kind
	ctx   context.Context //nolint:containedctx // it lives as long as one call
	tree  Tree
	root  string
	left  *Left
	yield func(File, error) bool
	seen  map[ostree.ObjectName]struct{}
}

func (w *treeWalk) run(r Repository) error {
	s, err := w.summaries(r)
	if err != nil {
		return err
	}
	refs := s.wanted(w.kind, w.left)
	deltas, err := w.deltas(s, refs)
	if err != nil {
		return err
	}
	if w.kind.config.HotSet > 0 {
		err = w.hot(refs, deltas)
	} else {
		err = w.whole(refs, deltas)
	}
	if err != nil {
		return err
	}
	return w.pointers(s, refs)
}

// whole yields all of the refs.
func (w *treeWalk) whole(refs []ref, deltas map[ostree.Checksum][]ostree.IndexedDelta) error {
	if err := w.commits(refs); err != nil {
		return err
	}
	var list []ostree.IndexedDelta
	for _, r := range refs {
		list = append(list, deltas[r.commit]...)
		delete(deltas, r.commit) // another ref may have the same
	}
	if err := w.prefetchSuperblocks(list); err != nil {
		return err
	}
	for _, d := range list {
		if _, _, err := w.delta(d); err != nil {
			return err
		}
	}
	return nil
}

// emit yields a file of the repository.
func (w *treeWalk) emit(name string, size int64, sum closure.Sum, optional bool) error {
	f := w.file(name, sum, optional)
	f.Size = size
	if !w.yield(f, nil) {
		return errStopped
	}
	return nil
}

// object yields an object that was not seen yet, and tells whether that was so.
func (w *treeWalk) object(name ostree.ObjectName) (first bool, err error) {
	if _, ok := w.seen[name]; ok {
		return false, nil
	}
	w.seen[name] = struct{}{}
	var sum closure.Sum
	if name.Type != ostree.TypeFile { // whose name is of the content before compression
		sum = sha256Of(name.Checksum)
	}
	return true, w.emit(name.Path(), -1, sum, false)
}

func sha256Of(c ostree.Checksum) closure.Sum {
	return closure.Sum{Hash: crypto.SHA256, Value: string(c[:])}
}

// commit yields a commit and its signatures, without what it consists of. First says that it had
// not been yielded before.
func (w *treeWalk) commit(c ostree.Checksum) (first bool, err error) {
	if first, err = w.object(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit}); err != nil || !first {
		return first, err
	}
	detached := ostree.ObjectName{Checksum: c, Type: ostree.TypeCommitMeta}
	return true, w.emit(detached.Path(), -1, closure.Sum{}, true)
}

// commits yields commits with all that they consist of.
func (w *treeWalk) commits(refs []ref) error {
	var names []ostree.ObjectName
	for _, r := range refs {
		first, err := w.commit(r.commit)
		if err != nil {
			return err
		}
		if first {
			names = append(names, ostree.ObjectName{Checksum: r.commit, Type: ostree.TypeCommit})
		}
	}
	level, err := w.level(names, func(data []byte) ([]ostree.TreeDir, error) {
		c, err := ostree.ParseCommit(data)
		if err != nil {
			return nil, err
		}
		return []ostree.TreeDir{c.Root()}, nil
	})
	for err == nil && len(level) > 0 {
		level, err = w.level(level, w.directory)
	}
	return err
}

// directory yields the files of a dirtree and returns its folders.
func (w *treeWalk) directory(data []byte) ([]ostree.TreeDir, error) {
	t, err := ostree.ParseDirTree(data)
	if err != nil {
		return nil, err
	}
	for _, f := range t.Files {
		if _, err := w.object(ostree.ObjectName{Checksum: f.File, Type: ostree.TypeFile}); err != nil {
			return nil, err
		}
	}
	return t.Dirs, nil
}

// level reads objects and yields the folders that they name, as far as they are new. It
// returns the dirtrees among these.
func (w *treeWalk) level(names []ostree.ObjectName, parse func([]byte) ([]ostree.TreeDir, error)) (next []ostree.ObjectName, err error) {
	for i, name := range names {
		if i%batch == 0 {
			if err := w.prefetch(names[i:min(i+batch, len(names))]); err != nil {
				return nil, err
			}
		}
		data, err := w.read(name)
		if err != nil {
			return nil, err
		}
		dirs, err := parse(data)
		if errors.Is(err, errStopped) {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.Join(w.root, name.Path()), err)
		}
		for _, d := range dirs {
			if _, err := w.object(ostree.ObjectName{Checksum: d.Meta, Type: ostree.TypeDirMeta}); err != nil {
				return nil, err
			}
			tree := ostree.ObjectName{Checksum: d.Tree, Type: ostree.TypeDirTree}
			first, err := w.object(tree)
			if err != nil {
				return nil, err
			}
			if first {
				next = append(next, tree)
			}
		}
	}
	return next, nil
}

func (w *treeWalk) prefetch(names []ostree.ObjectName) error {
	files := make([]File, len(names))
	for i, n := range names {
		files[i] = w.file(n.Path(), sha256Of(n.Checksum), false)
	}
	return w.ahead(files)
}

// ahead tells of files that will be opened next.
func (w *treeWalk) ahead(files []File) error {
	if w.tree.Prefetch == nil || len(files) == 0 {
		return nil
	}
	return w.tree.Prefetch(w.ctx, files)
}

// file is one of the repository whose size is not told.
func (w *treeWalk) file(name string, sum closure.Sum, optional bool) File {
	return File{File: closure.File{Path: path.Join(w.root, name), Size: -1, Sum: sum, Class: layout.OSTree(name).Class, Optional: optional}}
}

// read reads an object of metadata and compares it with its name.
func (w *treeWalk) read(name ostree.ObjectName) ([]byte, error) {
	return w.named(name.Path(), name.Checksum)
}

// named reads a file that something names, with its SHA-256.
func (w *treeWalk) named(name string, sum ostree.Checksum) ([]byte, error) {
	full := path.Join(w.root, name)
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	data, err := readAll(w.ctx, w.tree.Open, full, ostree.MaxMetadataSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, closure.Disagree(full, "%s is named and not there", full)
	}
	if err == nil && ostree.ChecksumOf(data) != sum {
		return nil, closure.Disagree(full, "%s has not the checksum that it is named with", full)
	}
	return data, err
}

// maxSize keeps sums of sizes from overflowing.
const maxSize = 1 << 50

// pointers yields what clients begin with, the summary last.
func (w *treeWalk) pointers(s *summaries, refs []ref) error {
	for _, r := range refs {
		content := ostree.RefFile(r.commit)
		if err := w.emit(ostree.RefPath(r.name), int64(len(content)), sha256Of(ostree.ChecksumOf(content)), true); err != nil {
			return err
		}
	}
	for _, f := range slices.Concat(s.indexes, s.files) {
		if !w.yield(f, nil) {
			return errStopped
		}
	}
	return nil
}

// ref is one that is wanted.
type ref struct {
	name   string
	commit ostree.Checksum
	size   int64 // what a client downloads; 0 if that is not told
}

// summaries are what a repository says of itself.
type summaries struct {
	refs   map[string]ref
	deltas map[ostree.DeltaName]ostree.Checksum
	// indexed says that there is an index of the deltas to each commit that has some.
	indexed bool
	// indexes and then files are what clients begin with, in the order of publishing.
	indexes, files []File
}

// wanted are the refs that are wanted, by name.
func (s *summaries) wanted(k *Kind, left *Left) []ref {
	var list []ref
	for _, r := range s.refs {
		if k.wantsRef(r.name) {
			list = append(list, r)
		} else {
			left.add(r.size)
		}
	}
	sortRefs(list)
	return list
}

// wantsRef tells whether a ref is wanted: by its name, and by its architecture if it has
// one ("app/org.example.App/x86_64/stable").
func (k *Kind) wantsRef(name string) bool {
	if len(k.config.Refs) > 0 && !glob.MatchAny(k.config.Refs, name) || glob.MatchAny(k.config.Exclude, name) {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if family(part) != "" && !k.arches.has(part) {
			return false
		}
	}
	return true
}

// summaries reads the summary and, where there is one, summary.idx with all it names.
func (w *treeWalk) summaries(r Repository) (*summaries, error) {
	s := &summaries{refs: make(map[string]ref), deltas: make(map[ostree.DeltaName]ostree.Checksum)}
	data, err := readAll(w.ctx, w.tree.Open, r.Pointer, roots.MaxSize)
	if err != nil {
		return nil, err
	}
	if err := s.add(data); err != nil {
		return nil, fmt.Errorf("%s: %w", r.Pointer, err)
	}
	if err := w.index(s); err != nil {
		return nil, err
	}
	for _, name := range [...]string{"config", "summary.idx.sig", "summary.idx", "summary.sig"} {
		f, ok, err := companion(w.ctx, w.tree.Open, path.Join(w.root, name))
		if err != nil {
			return nil, err
		}
		if ok {
			s.files = append(s.files, f)
		}
	}
	sum := ostree.ChecksumOf(data)
	s.files = append(s.files, pointerFile(r.Pointer, int64(len(data)), sum[:]))
	return s, nil
}

// index reads summary.idx and the subsummaries, which may name more than the summary.
func (w *treeWalk) index(s *summaries) error {
	name := path.Join(w.root, "summary.idx")
	data, err := readAll(w.ctx, w.tree.Open, name, roots.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	x, err := ostree.ParseSummaryIndex(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.note(&x.Metadata)
	for _, sub := range x.Subsummaries {
		full := path.Join(w.root, ostree.SubsummaryPath(sub.Checksum))
		text, err := w.subsummary(full, sub.Checksum)
		if err != nil {
			return err
		}
		if err := s.add(text); err != nil {
			return fmt.Errorf("%s: %w", full, err)
		}
		s.file(full, false)
		for _, from := range sub.History {
			if from != sub.Checksum {
				s.file(path.Join(w.root, ostree.SubsummaryDeltaPath(from, sub.Checksum)), true)
			}
		}
	}
	s.file(path.Join(w.root, ostree.SummaryIndexSignaturePath(ostree.ChecksumOf(data))), true)
	return nil
}

func (s *summaries) file(name string, optional bool) {
	s.files = append(s.files, File{File: closure.File{Path: name, Size: -1, Class: layout.Index, Optional: optional}})
}

// subsummary reads one, which is named by what it is before compression.
func (w *treeWalk) subsummary(name string, sum ostree.Checksum) ([]byte, error) {
	c, err := openContent(w.ctx, w.tree.Open, name, roots.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, closure.Disagree(name, "%s is named and not there", name)
	}
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing was written
	src := &source.Reader{R: c.reader()}
	text, err := inflated(src)
	if src.Err != nil || errors.Is(err, errTooLong) {
		return nil, fmt.Errorf("%s: %w", name, cmp.Or(src.Err, err))
	}
	if err != nil || ostree.ChecksumOf(text) != sum { // half of it is there while it is written
		return nil, closure.Disagree(name, "%s has not the checksum that it is named with", name)
	}
	return text, nil
}

// inflated reads a compressed summary.
func inflated(r io.Reader) ([]byte, error) {
	plain, done, err := unpack.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer done()
	text, err := io.ReadAll(io.LimitReader(plain, roots.MaxSize+1))
	if err == nil && len(text) > roots.MaxSize {
		err = errTooLong
	}
	return text, err
}

// add takes in a summary: its refs with their sizes, and the deltas that it names.
func (s *summaries) add(data []byte) error {
	x, err := ostree.ParseSummary(data)
	if err != nil {
		return err
	}
	sizes := cachedSizes(&x.Metadata)
	for _, r := range x.Refs {
		known, twice := s.refs[r.Ref]
		if twice && known.commit != r.Commit {
			return fmt.Errorf("%w: two summaries name two commits of %s", closure.ErrInconsistent, r.Ref)
		}
		known.name, known.commit = r.Ref, r.Commit
		known.size = max(known.size, sizes[r.Ref], inlineSize(&r.Metadata))
		s.refs[r.Ref] = known
	}
	s.note(&x.Metadata)
	if v, ok := x.Metadata.Get("ostree.static-deltas"); ok {
		index, err := ostree.DeltaIndexOf(v)
		if err != nil {
			return err
		}
		for _, d := range index.Deltas {
			s.deltas[d.Name] = d.Superblock
		}
	}
	return nil
}

// note takes in what the metadata of a summary or of an index of summaries say of deltas.
func (s *summaries) note(d *gvariant.Dict) {
	if v, _ := d.Get("ostree.summary.indexed-deltas"); v.Is("b") && v.Bool() {
		s.indexed = true
	}
}

// cachedSizes reads what clients download for each ref, as older summaries of Flatpak
// tell it.
func cachedSizes(d *gvariant.Dict) map[string]int64 {
	v, _ := d.Get("xa.cache")
	if v.Is("v") {
		v = v.Unwrap()
	}
	if !v.Is("a{s(tts)}") {
		return nil
	}
	sizes := make(map[string]int64, v.Len())
	for e := range v.Children() {
		sizes[e.Child(0).Str()] = bounded(e.Child(1).Child(1).Uint64BE())
	}
	return sizes
}

// inlineSize is the same of newer summaries.
func inlineSize(d *gvariant.Dict) int64 {
	v, _ := d.Get("xa.data")
	if !v.Is("(tts)") {
		return 0
	}
	return bounded(v.Child(1).Uint64BE())
}

func bounded(n uint64) int64 { return int64(min(n, maxSize)) }
