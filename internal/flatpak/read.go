package flatpak

import (
	"errors"
	"fmt"
	"io/fs"
	"math"

	"freshet/internal/ostree"
	"freshet/internal/source"
)

const (
	// maxMetadataFile bounds a key file that has to be read from the tree.
	maxMetadataFile = 10 << 20

	// maxTreeEntries bounds the tree of a commit whose sizes have to be added up; a
	// few dirtrees that name each other can describe more files than atoms.
	maxTreeEntries = 1 << 22

	// maxTreeDepth bounds how deep directories nest; a path of more is longer than
	// any system takes.
	maxTreeDepth = 1024

	appInfoDir = "files/share/app-info"
)

// ReadCommitInfo reads what the summaries and the catalogue need to know of a
// commit that the ref points at. It costs a handful of objects; only a commit
// that does not say its sizes makes it walk the tree.
//
// Catalogue data that cannot be read is no error: CatalogueProblem says why.
func ReadCommitInfo(repo *ostree.Repo, ref string, checksum ostree.Checksum) (CommitInfo, error) {
	commit, data, err := repo.CommitData(checksum)
	if err != nil {
		return CommitInfo{}, fmt.Errorf("read info of %s: %w", ref, err)
	}
	info := Describe(ref, checksum, commit)
	info.CommitSize = uint64(len(data))
	if !hasFlatpakData(ref) {
		return info, nil
	}
	r := infoReader{repo: repo, commit: commit, info: &info}
	for _, step := range []func() error{r.metadata, r.sizes, r.catalogue} {
		if err := step(); err != nil {
			return CommitInfo{}, fmt.Errorf("read info of %s: commit %s: %w", ref, checksum, err)
		}
	}
	return info, nil
}

type infoReader struct {
	repo   *ostree.Repo
	commit *ostree.Commit
	info   *CommitInfo
}

// Describe returns what a commit says of itself, without reading anything else:
// there is nothing of the catalogue in it, nor the commit's size, and when the
// commit leaves out the sizes or the metadata of its tree, neither are those.
func Describe(ref string, checksum ostree.Checksum, commit *ostree.Commit) CommitInfo {
	info := CommitInfo{
		Ref:       ref,
		Checksum:  checksum,
		Tree:      commit.Tree,
		TreeMeta:  commit.TreeMeta,
		Timestamp: commit.Timestamp,
	}
	if !hasFlatpakData(ref) {
		return info
	}
	m := &commit.Metadata
	info.Metadata, _ = m.Str(keyMetadata)
	info.EndOfLife, _ = m.Str(ostree.KeyEndOfLife)
	info.EndOfLifeRebase, _ = m.Str(ostree.KeyEndOfLifeRebase)
	if v, _ := m.Get(keyTokenType); v.Is("i") && v.Int64() >= 0 {
		info.TokenType, info.HasTokenType = int32(v.Int64()), true
	}
	info.Subsets, _ = m.Strings(keySubsets)
	if installed, download, ok := statedSizes(commit); ok {
		info.InstalledSize, info.DownloadSize = installed, download
		addExtraData(&info, commit)
	}
	return info
}

// statedSizes returns the sizes of the tree that the commit has.
func statedSizes(commit *ostree.Commit) (installed, download uint64, ok bool) {
	i, _ := commit.Metadata.Get(keyInstalledSize)
	d, _ := commit.Metadata.Get(keyDownloadSize)
	if !i.Is("t") || !d.Is("t") {
		return 0, 0, false
	}
	return i.Uint64BE(), d.Uint64BE(), true
}

// addExtraData adds what clients fetch from elsewhere.
func addExtraData(info *CommitInfo, commit *ostree.Commit) {
	sources, _ := commit.Metadata.Get(keyExtraDataSources)
	if !sources.Is("a(ayttays)") || sources.Len() > math.MaxUint32 {
		return
	}
	for source := range sources.Children() {
		info.ExtraDataCount++
		info.ExtraDataSize += source.Child(1).Uint64BE()
		info.InstalledSize += source.Child(2).Uint64BE()
	}
	info.DownloadSize += info.ExtraDataSize
}

// metadata reads the metadata from the tree when the commit does not have it.
func (r *infoReader) metadata() error {
	if _, ok := r.commit.Metadata.Str(keyMetadata); ok {
		return nil
	}
	content, err := r.repo.ReadPath(r.info.Checksum, "metadata", maxMetadataFile)
	if err != nil && !absent(err) {
		return err
	}
	r.info.Metadata = string(content)
	return nil
}

// sizes adds up the tree when the commit does not have its sizes.
func (r *infoReader) sizes() (err error) {
	if _, _, ok := statedSizes(r.commit); ok {
		return nil
	}
	if r.info.InstalledSize, r.info.DownloadSize, err = TreeSizes(r.repo, r.commit.Tree); err == nil {
		addExtraData(r.info, r.commit)
	}
	return err
}

// TreeSizes adds up the files of a tree: the space they take when installed, and
// the bytes of their objects. A file counts as often as it occurs, symlinks
// not at all. This is what xa.installed-size and xa.download-size hold. A tree
// with more entries, or deeper ones, than anybody can check out is
// [ostree.ErrTooLarge], however few objects describe it.
func TreeSizes(repo *ostree.Repo, root ostree.Checksum) (installed, download uint64, err error) {
	return treeSizes(repo, root, maxTreeEntries)
}

func treeSizes(repo *ostree.Repo, root ostree.Checksum, limit int) (installed, download uint64, err error) {
	w := sizeWalk{repo: repo, limit: limit, known: map[ostree.Checksum]treeSize{}}
	size, err := w.tree(root, 0)
	return size.installed, size.download, err
}

// treeSize is what a directory comes to with all that is below it.
type treeSize struct {
	installed, download uint64
	entries             int
}

// sizeWalk adds up a tree. Every directory object is read once, wherever it
// occurs.
type sizeWalk struct {
	repo  *ostree.Repo
	limit int // of entries
	known map[ostree.Checksum]treeSize
}

func (w *sizeWalk) tree(sum ostree.Checksum, depth int) (treeSize, error) {
	if size, ok := w.known[sum]; ok {
		return size, nil
	}
	if depth > maxTreeDepth {
		return treeSize{}, fmt.Errorf("%w: directories nest deeper than %d", ostree.ErrTooLarge, maxTreeDepth)
	}
	tree, err := w.repo.DirTree(sum)
	if err != nil {
		return treeSize{}, err
	}
	total := treeSize{entries: 1 + len(tree.Files)}
	if total.entries > w.limit {
		return treeSize{}, w.tooLarge()
	}
	for _, file := range tree.Files {
		bytes, stored, err := fileSizes(w.repo, file.File)
		if err != nil {
			return treeSize{}, err
		}
		total.installed += roundUp(bytes)
		total.download += stored
	}
	for _, dir := range tree.Dirs {
		size, err := w.tree(dir.Tree, depth+1)
		if err != nil {
			return treeSize{}, err
		}
		total.installed += size.installed
		total.download += size.download
		if total.entries += size.entries; total.entries > w.limit {
			return treeSize{}, w.tooLarge()
		}
	}
	w.known[sum] = total
	return total, nil
}

func (w *sizeWalk) tooLarge() error {
	return fmt.Errorf("%w: a tree of more than %d entries", ostree.ErrTooLarge, w.limit)
}

// fileSizes returns the length of a file's content and of its object, zeros for a
// symlink.
func fileSizes(repo *ostree.Repo, sum ostree.Checksum) (bytes, stored uint64, err error) {
	info, err := repo.StatFile(sum)
	if err != nil || info.Header.IsSymlink() {
		return 0, 0, err
	}
	return info.Size, uint64(info.Stored), nil
}

// catalogue reads the components and icons of an application or runtime.
func (r *infoReader) catalogue() error {
	ref, err := ParseRef(r.info.Ref)
	if err != nil {
		return nil //nolint:nilerr // an appstream branch has none
	}
	found, err := r.repo.Lookup(r.info.Checksum, appInfoDir+"/xmls/"+ref.ID+".xml.gz")
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	entry, err := r.components(ref, found)
	if err != nil {
		if _, ok := errors.AsType[*ostree.ObjectError](err); ok {
			return err // the repository is at fault, not the application
		}
		r.info.CatalogueProblem = err.Error()
		return nil
	}
	r.info.Components = entry.fragment
	for _, id := range entry.ids {
		for _, size := range []IconSize{Icon64, Icon128} {
			if err := r.icon(size, id+".png"); err != nil {
				return err
			}
		}
	}
	return nil
}

// absent tells whether a path is not in the tree, which is not the same as an
// object that is not in the repository.
func absent(err error) bool {
	_, isObject := errors.AsType[*ostree.ObjectError](err)
	return errors.Is(err, fs.ErrNotExist) && !isObject
}

func (r *infoReader) components(ref Ref, found ostree.PathEntry) (catalogueEntry, error) {
	if found.IsDir {
		return catalogueEntry{}, fmt.Errorf("%w: %s is a directory", ErrCatalogue, found.Name)
	}
	metadata, err := ParseMetadata(r.info.Metadata)
	if err != nil {
		return catalogueEntry{}, err
	}
	file, err := r.repo.OpenFile(found.File)
	if err != nil {
		return catalogueEntry{}, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	if file.Header().IsSymlink() {
		return catalogueEntry{}, fmt.Errorf("%w: %s is a symlink", ErrCatalogue, found.Name)
	}
	watched := &source.Reader{R: file}
	entry, err := readCatalogue(watched, ref, metadata)
	if watched.Err != nil {
		name := ostree.ObjectName{Checksum: found.File, Type: ostree.TypeFile}
		return catalogueEntry{}, &ostree.ObjectError{Name: name, Err: watched.Err}
	}
	return entry, err
}

// icon adds an icon if there is one of this size and name.
func (r *infoReader) icon(size IconSize, name string) error {
	if ostree.ValidateFileName(name) != nil {
		return nil //nolint:nilerr // no file can have this name
	}
	found, err := r.repo.Lookup(r.info.Checksum, appInfoDir+"/icons/flatpak/"+size.String()+"/"+name)
	if absent(err) {
		return nil
	}
	if err != nil || found.IsDir {
		return err
	}
	icon := Icon{Size: size, Name: name, Checksum: found.File}
	if icon.Bytes, icon.Stored, err = fileSizes(r.repo, found.File); err != nil {
		return err
	}
	r.info.Icons = append(r.info.Icons, icon)
	return nil
}
