package flatpak

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/splice"
)

// AppstreamOptions is what BuildAppstream needs besides the refs.
type AppstreamOptions struct {
	// CollectionID is that of the repository; empty for none.
	CollectionID string

	// Now is the time of the commits in seconds since 1970. A commit that would not
	// be younger than the one before it, as when a clock was set back, is one second
	// younger: clients refuse older ones.
	Now uint64
}

// AppstreamCommit is a new commit of an appstream branch.
type AppstreamCommit struct {
	// Info has the ref, the checksum and what the summaries say of the commit; it
	// is for Update.
	Info CommitInfo

	// Parent is the commit before it, zero for the first one.
	Parent ostree.Checksum

	// Object is the commit object, which is what signatures are made of.
	Object []byte
}

// catalogueState is the outcome of the last build of a catalogue, so that one in
// which nothing changed is neither hashed nor compressed, and directories of icons
// are made when icons change.
type catalogueState struct {
	text  splice.Digest // of the components
	icons iconSet
	tree  ostree.Checksum

	plain, packed *runHash // of both catalogue files
}

const (
	catalogueHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<components version="0.8" origin="flatpak">` + "\n  "
	catalogueTail = "\n</components>"

	catalogueSubject = "Update"
)

// BuildAppstream makes the catalogue of every architecture and subset and
// returns the commits of the branches whose content changed. All their objects
// go to the sink, the commits last; icons are those of the applications' own
// commits and are in the repository already.
//
// A ref that is at its end of life, or has no readable catalogue data, is not
// part of the catalogue. There is a catalogue for x86_64 and aarch64 also when
// only i386 or arm has applications, but it does not list those: flatpak means
// to, and never does. A branch whose last application is gone gets an empty
// catalogue, so that clients stop offering what they could not install.
func (x *Index) BuildAppstream(sink ostree.Sink, opt AppstreamOptions) ([]AppstreamCommit, error) {
	x.cataloguePieces.Advance()
	arches, subsets := x.scopes(func(r *record) bool { return r.cache != nil && !r.appstream })
	for _, arch := range arches {
		if host := hostArch(arch); host != "" && !slices.Contains(arches, host) {
			arches = append(arches, host)
		}
	}
	slices.Sort(arches)
	b := catalogueBuild{x: x, sink: sink, opt: opt, next: make(map[string]catalogueState)}
	scopes := make([]scope, 0, len(subsets)*len(arches))
	for _, subset := range subsets {
		for _, arch := range arches {
			scopes = append(scopes, scope{subset, arch})
		}
	}
	for _, s := range x.withOutlived(scopes) {
		if err := b.build(s.subset, s.arch); err != nil {
			return nil, fmt.Errorf("appstream of %s: %w", subsummaryName(s.subset, s.arch), err)
		}
	}
	x.catalogues = b.next
	return b.commits, nil
}

// scope is what a catalogue is of.
type scope struct{ subset, arch string }

// withOutlived adds the scopes of branches that are there although nothing of
// theirs is any more.
func (x *Index) withOutlived(scopes []scope) []scope {
	for _, r := range x.sorted {
		s := scope{r.subset, r.arch}
		if r.appstream && s.arch != "" && CheckSubset(cmp.Or(s.subset, "whole")) == nil && !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}

// catalogueBuild is one BuildAppstream in progress.
type catalogueBuild struct {
	x       *Index
	sink    ostree.Sink
	opt     AppstreamOptions
	next    map[string]catalogueState
	commits []AppstreamCommit
}

// build makes one catalogue and the commits of its branches.
func (b *catalogueBuild) build(subset, arch string) error {
	name := subsummaryName(subset, arch)
	records := b.x.catalogueRecords(subset, arch)
	text, icons := contentDigests(records)
	branches := []string{Appstream2Ref(subset, arch)}
	if subset == "" {
		branches = append(branches, AppstreamRef(arch))
	}
	state, known := b.x.catalogues[name]
	if known && state.text == text && state.icons.content == icons && b.current(branches, state.tree) {
		b.next[name] = state
		return nil
	}
	if !known {
		state.plain, state.packed = &runHash{}, &runHash{}
	}
	if !known || state.icons.content != icons {
		state.icons = newIconSet(records, icons)
	}
	c := newCatalogue(records, state.icons)
	plain := c.plain(state.plain)
	state.text, state.tree = text, c.root(plain).sum
	b.next[name] = state
	if b.current(branches, b.next[name].tree) {
		return nil
	}
	stream, err := b.x.cataloguePieces.Build(c.segments)
	if err != nil {
		return err
	}
	c.stream = stream
	for _, branch := range branches {
		file := plain
		if branch == AppstreamRef(arch) {
			file = c.packed(state.packed)
		}
		if err := b.commit(branch, c, file); err != nil {
			return fmt.Errorf("branch %s: %w", branch, err)
		}
	}
	return nil
}

// current tells whether the branches are there and the first has the tree. The
// other one is made of the same content, compressed; how, is no reason for a new
// commit.
func (b *catalogueBuild) current(branches []string, tree ostree.Checksum) bool {
	for i, branch := range branches {
		r := b.x.records[branch]
		if r == nil || i == 0 && r.info.Tree != tree {
			return false
		}
	}
	return true
}

// commit writes the tree with the catalogue file and a commit of it.
func (b *catalogueBuild) commit(branch string, c *catalogue, file catalogueFile) error {
	root := c.root(file)
	objects := append(c.objects(), file.object(c), root.object(ostree.TypeDirTree))
	commit := ostree.Commit{
		Metadata: hashed(gvariant.NewDict(
			gvariant.Entry{Key: ostree.KeyCollectionBinding, Value: gvariant.String(b.opt.CollectionID)},
			gvariant.Entry{Key: ostree.KeyRefBinding, Value: gvariant.Strings([]string{branch})},
		)),
		Subject:   catalogueSubject,
		Timestamp: b.opt.Now,
		Tree:      root.sum,
		TreeMeta:  c.meta.sum,
	}
	if before := b.x.records[branch]; before != nil {
		commit.Parent = before.info.Checksum
		commit.Timestamp = max(commit.Timestamp, before.info.Timestamp+1)
	}
	data := commit.Encode()
	made := encodedObject{data: data, sum: ostree.ChecksumOf(data)}
	objects = append(objects, made.object(ostree.TypeCommit))
	stored := uint64(0)
	for _, o := range objects {
		if o.name.Checksum == file.sum && o.name.Type == ostree.TypeFile {
			stored = uint64(o.size())
		}
		if err := o.put(b.sink); err != nil {
			return fmt.Errorf("object %s: %w", o.name, err)
		}
	}
	info := CommitInfo{
		Ref:           branch,
		Checksum:      made.sum,
		Tree:          root.sum,
		TreeMeta:      c.meta.sum,
		CommitSize:    uint64(len(data)),
		Timestamp:     commit.Timestamp,
		InstalledSize: c.set.bytes + roundUp(file.size),
		DownloadSize:  c.set.stored + stored,
	}
	b.commits = append(b.commits, AppstreamCommit{Info: info, Parent: commit.Parent, Object: data})
	return nil
}

// catalogueRecords returns the refs of a catalogue, sorted.
func (x *Index) catalogueRecords(subset, arch string) []*record {
	var records []*record
	for _, r := range x.sorted {
		if len(r.info.Components) == 0 || r.info.EndOfLifed() || r.appstream {
			continue
		}
		if subset != "" && !slices.Contains(r.info.Subsets, subset) {
			continue
		}
		if r.arch == arch {
			records = append(records, r)
		}
	}
	return records
}

// contentDigests are the identities of the components and of the icons of a
// catalogue.
func contentDigests(records []*record) (text, icons splice.Digest) {
	texts := make([]byte, 0, len(records)*sha256.Size)
	pictures := make([]byte, 0, len(records)*sha256.Size)
	for _, r := range records {
		texts = append(texts, r.fragment[:]...)
		pictures = append(pictures, r.icons[:]...)
	}
	return sha256.Sum256(texts), sha256.Sum256(pictures)
}

// iconSet is the directories of icons of a catalogue.
type iconSet struct {
	content       splice.Digest
	dirs          [Icon128 + 1]encodedObject
	bytes, stored uint64 // sizes of all icons
}

func newIconSet(records []*record, content splice.Digest) iconSet {
	set := iconSet{content: content}
	for size := range set.dirs {
		set.dirs[size] = set.dir(records, IconSize(size))
	}
	return set
}

// dir makes the directory of icons of one size. Where two refs have an icon of
// the same name, which the branches of an application do, the last one counts.
func (s *iconSet) dir(records []*record, size IconSize) encodedObject {
	var icons []*Icon
	for _, r := range records {
		for i := range r.info.Icons {
			if icon := &r.info.Icons[i]; icon.Size == size {
				icons = append(icons, icon)
			}
		}
	}
	slices.SortStableFunc(icons, func(a, b *Icon) int { return strings.Compare(a.Name, b.Name) })
	files := make([]ostree.TreeFile, 0, len(icons))
	for i, icon := range icons {
		if i+1 < len(icons) && icons[i+1].Name == icon.Name {
			continue
		}
		files = append(files, ostree.TreeFile{Name: icon.Name, File: icon.Checksum})
		s.bytes += roundUp(icon.Bytes)
		s.stored += icon.Stored
	}
	return encodedTree(&ostree.DirTree{Files: files})
}

// catalogue is a catalogue that is being made.
type catalogue struct {
	segments []splice.Segment
	stream   *splice.Stream // nil until it is needed

	set   iconSet
	meta  encodedObject // of all directories
	links encodedObject // the directory of symlinks to those of icons
	icons encodedObject // the directory of all of these
}

func newCatalogue(records []*record, set iconSet) *catalogue {
	c := &catalogue{segments: make([]splice.Segment, 0, len(records)+2), set: set}
	c.segments = append(c.segments, splice.Segment{Data: []byte(catalogueHead)})
	for _, r := range records {
		c.segments = append(c.segments, splice.Segment{Key: r.info.Ref, Sum: r.fragment, Data: r.info.Components})
	}
	c.segments = append(c.segments, splice.Segment{Data: []byte(catalogueTail)})

	meta := ostree.CanonicalDirMeta()
	c.meta = encoded(meta.Encode())
	c.links = encodedTree(&ostree.DirTree{Files: []ostree.TreeFile{
		{Name: Icon128.String(), File: linkObject(Icon128).name.Checksum},
		{Name: Icon64.String(), File: linkObject(Icon64).name.Checksum},
	}})
	c.icons = encodedTree(&ostree.DirTree{Dirs: []ostree.TreeDir{
		{Name: Icon128.String(), Tree: set.dirs[Icon128].sum, Meta: c.meta.sum},
		{Name: Icon64.String(), Tree: set.dirs[Icon64].sum, Meta: c.meta.sum},
		{Name: "flatpak", Tree: c.links.sum, Meta: c.meta.sum},
	}})
	return c
}

// root makes the root directory around a catalogue file.
func (c *catalogue) root(file catalogueFile) encodedObject {
	return encodedTree(&ostree.DirTree{
		Files: []ostree.TreeFile{{Name: file.name, File: file.sum}},
		Dirs:  []ostree.TreeDir{{Name: "icons", Tree: c.icons.sum, Meta: c.meta.sum}},
	})
}

// objects returns the objects that the trees of both branches share.
func (c *catalogue) objects() []object {
	return []object{
		c.meta.object(ostree.TypeDirMeta),
		linkObject(Icon64), linkObject(Icon128),
		c.set.dirs[Icon64].object(ostree.TypeDirTree), c.set.dirs[Icon128].object(ostree.TypeDirTree),
		c.links.object(ostree.TypeDirTree), c.icons.object(ostree.TypeDirTree),
	}
}

// catalogueFile is appstream.xml or appstream.xml.gz.
type catalogueFile struct {
	name string
	sum  ostree.Checksum
	size uint64 // of the content
	gzip bool
}

// plain hashes appstream.xml.
func (c *catalogue) plain(hash *runHash) catalogueFile {
	runs := make([][]byte, len(c.segments))
	for i := range c.segments {
		runs[i] = c.segments[i].Data
	}
	file := catalogueFile{name: "appstream.xml"}
	file.sum, file.size = fileChecksum(runs, hash)
	return file
}

// packed hashes appstream.xml.gz; the stream must be there.
func (c *catalogue) packed(hash *runHash) catalogueFile {
	file := catalogueFile{name: "appstream.xml.gz", gzip: true}
	file.sum, file.size = fileChecksum(c.stream.GzipPieces(), hash)
	return file
}

// object returns the file as it is stored.
func (f catalogueFile) object(c *catalogue) object {
	header := ostree.RegularFile(false)
	runs := [][]byte{header.EncodeArchiveHeader(f.size)}
	if f.gzip {
		runs = append(runs, splice.Stored(c.stream.GzipPieces())...)
	} else {
		runs = append(runs, c.stream.DeflatePieces()...)
	}
	return object{name: ostree.ObjectName{Checksum: f.sum, Type: ostree.TypeFile}, runs: runs}
}

// fileChecksum returns the checksum and size of a plain file.
func fileChecksum(runs [][]byte, hash *runHash) (sum ostree.Checksum, size uint64) {
	for _, run := range runs {
		size += uint64(len(run))
	}
	header := ostree.RegularFile(false)
	return hash.sum(header.EncodeContentHeader(), runs), size
}

// linkObject is the symlink by which software centres that expect a folder per
// origin find the icons of a size.
func linkObject(size IconSize) object {
	header := ostree.SymlinkTo("../" + size.String())
	return object{
		name: ostree.ObjectName{Checksum: ostree.ChecksumOf(header.EncodeContentHeader()), Type: ostree.TypeFile},
		runs: [][]byte{header.EncodeArchiveHeader(0)},
	}
}

// object is an object to write.
type object struct {
	name ostree.ObjectName
	runs [][]byte
}

func (o *object) size() int64 {
	n := int64(0)
	for _, run := range o.runs {
		n += int64(len(run))
	}
	return n
}

func (o *object) put(sink ostree.Sink) error {
	if there, err := sink.Has(o.name); err != nil || there {
		return err
	}
	return sink.Put(o.name, func(w io.Writer) error {
		for _, run := range o.runs {
			if _, err := w.Write(run); err != nil {
				return err
			}
		}
		return nil
	})
}

// encodedObject is a metadata object.
type encodedObject struct {
	data []byte
	sum  ostree.Checksum
}

func encoded(data []byte) encodedObject {
	return encodedObject{data: data, sum: ostree.ChecksumOf(data)}
}

func encodedTree(tree *ostree.DirTree) encodedObject { return encoded(tree.Encode()) }

func (e encodedObject) object(typ ostree.ObjectType) object {
	return object{name: ostree.ObjectName{Checksum: e.sum, Type: typ}, runs: [][]byte{e.data}}
}

// roundUp is the space a file takes on the disk of a client, as flatpak counts it.
func roundUp(size uint64) uint64 { return (size + 511) / 512 * 512 }
