package flatpak

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/klauspost/compress/gzip"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// DefaultHistory is the number of earlier subsummaries from which a delta is
// made when BuildOptions say nothing; flatpak's own default.
const DefaultHistory = 16

// BuildOptions is what a Build needs besides the refs.
type BuildOptions struct {
	Repo RepoInfo

	// Now is the time of the publish in seconds since 1970. Summaries never say that
	// they are older than those published before.
	Now uint64

	// Serial is the number of the publish. It stands in the metadata of summary.idx
	// and of the compat summary; zero leaves it out.
	Serial uint64

	// Sign returns detached OpenPGP signatures of data, one per key, in binary form.
	// Without it nothing is signed.
	Sign func(data []byte) ([][]byte, error)

	// SignEd25519 returns ostree's ed25519 signatures, which are put beside those of
	// Sign; nil for none.
	SignEd25519 func(data []byte) [][]byte

	// History is how many earlier generations of a subsummary clients may update
	// from; zero means DefaultHistory.
	History int

	// SummaryArches limits the compat summary, which is all that clients before
	// flatpak 1.9 read and which some refuse beyond 10 MiB, to these architectures;
	// none means all.
	SummaryArches []string
}

// Files is the outcome of a Build.
type Files struct {
	// Write is to be written in this order: payload, indexes, pointers, each pointer
	// after its signature where the name of the signature has a digest. Files
	// whose path has a digest may be there already with the same content.
	Write []File

	// Remove names files that nothing refers to any more. They may be removed after
	// everything is written; to wait a while is kind to clients that are
	// in the midst of an update.
	Remove []string

	next published
}

// CompatSize returns the length in bytes of the compat summary, which some clients
// refuse beyond 10 MiB.
func (f *Files) CompatSize() int64 {
	for i := range f.Write {
		if f.Write[i].Path == "summary" {
			return f.Write[i].Size()
		}
	}
	return 0
}

// published is what Commit makes the state of the Index.
type published struct {
	subsummaries map[string]lineage
	digest       ostree.Checksum
	modified     uint64
	serial       uint64
	live         map[string]bool
}

// Build makes the summaries: of each architecture and each subset of one, the
// index over them, the deltas from earlier generations, the compat summary and
// the delta indexes that changed.
func (x *Index) Build(opt BuildOptions) (*Files, error) {
	b := summaryBuild{x: x, opt: opt, files: &Files{}}
	b.opt.Now = max(opt.Now, x.modified)
	b.files.next = published{subsummaries: map[string]lineage{}, modified: b.opt.Now, serial: opt.Serial, live: map[string]bool{}}
	if b.opt.History == 0 {
		b.opt.History = DefaultHistory
	}
	x.summaryPieces.Advance()
	if err := b.subsummariesAll(); err != nil {
		return nil, err
	}
	b.deltaIndexes()
	if err := b.index(); err != nil {
		return nil, err
	}
	if err := b.compat(); err != nil {
		return nil, err
	}
	b.retire()
	return b.files, nil
}

// Commit tells the Index that the files of its latest Build are published. The
// deltas must not have been set anew since that Build.
func (x *Index) Commit(files *Files) {
	x.subsummaries = files.next.subsummaries
	x.digest = files.next.digest
	x.modified = files.next.modified
	x.serial = files.next.serial
	x.live = files.next.live
	x.touched = nil
}

// summaryBuild is one Build in progress.
type summaryBuild struct {
	x     *Index
	opt   BuildOptions
	files *Files
}

func (b *summaryBuild) write(path string, pieces ...[]byte) {
	b.files.Write = append(b.files.Write, File{Path: path, pieces: pieces})
}

func (b *summaryBuild) subsummariesAll() error {
	arches, subsets := b.x.scopes(func(*record) bool { return true })
	for _, subset := range subsets {
		for _, arch := range arches {
			if err := b.subsummary(subset, arch); err != nil {
				return fmt.Errorf("subsummary %s: %w", subsummaryName(subset, arch), err)
			}
		}
	}
	return nil
}

func (b *summaryBuild) subsummary(subset, arch string) error {
	var entries []*entry
	for _, r := range b.x.sorted {
		if r.inArch(arch) && r.inSubset(subset) {
			entries = append(entries, r.entry)
		}
	}
	name := subsummaryName(subset, arch)
	before := b.x.subsummaries[name]
	current := before.current
	if current == nil || !sameEntries(current.entries, entries) {
		hash := b.x.hashes[name]
		if hash == nil {
			hash = &runHash{}
			if b.x.hashes == nil {
				b.x.hashes = make(map[string]*runHash)
			}
			b.x.hashes[name] = hash
		}
		current = newView(entries, hash)
	}
	line := lineage{current: current}
	for _, old := range append([]*view{before.current}, before.history...) {
		if old != nil && old.digest != current.digest && len(line.history) < b.opt.History {
			line.history = append(line.history, old)
		}
	}
	b.files.next.subsummaries[name] = line

	path := ostree.SubsummaryPath(current.digest)
	if !b.present(path) {
		b.x.summaryPieces.Mean = summaryMean
		stream, err := b.x.summaryPieces.Build(current.segments())
		if err != nil {
			return err
		}
		b.write(path, stream.GzipPieces()...)
	}
	for _, old := range line.history {
		b.keep(ostree.SubsummaryPath(old.digest))
		path := ostree.SubsummaryDeltaPath(old.digest, current.digest)
		if b.present(path) {
			continue
		}
		packed, err := b.x.gzip(diffViews(old, current))
		if err != nil {
			return err
		}
		b.write(path, packed)
	}
	return nil
}

// summaryMean is the number of refs that a changed one has compressed again:
// entries have about 600 bytes and much in common.
const summaryMean = 96

// keep marks a file as wanted.
func (b *summaryBuild) keep(path string) { b.files.next.live[path] = true }

// present marks a file as wanted and tells whether it need not be written.
func (b *summaryBuild) present(path string) bool {
	there := b.x.live[path] || b.files.next.live[path]
	b.keep(path)
	return there
}

// gzip compresses a small file.
func (x *Index) gzip(data []byte) ([]byte, error) {
	var packed bytes.Buffer
	if x.gz == nil {
		x.gz = gzip.NewWriter(&packed)
	} else {
		x.gz.Reset(&packed)
	}
	if _, err := x.gz.Write(data); err != nil {
		return nil, err
	}
	if err := x.gz.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// deltaIndexes writes or removes the index of every commit whose deltas changed.
func (b *summaryBuild) deltaIndexes() {
	commits := make([]ostree.Checksum, 0, len(b.x.touched))
	for to := range b.x.touched {
		commits = append(commits, to)
	}
	slices.SortFunc(commits, ostree.Checksum.Compare)
	for _, to := range commits {
		path := ostree.DeltaIndexPath(to)
		deltas := b.x.deltas[to]
		if len(deltas) == 0 {
			b.files.Remove = append(b.files.Remove, path)
			continue
		}
		list := gvariant.NewDict(deltaEntries(to, deltas)...)
		index := gvariant.NewDict(gvariant.Entry{Key: "ostree.static-deltas", Value: list.Value()})
		b.write(path, index.Value().Data())
	}
}

// index writes summary.idx, (a{s(ayaaya{sv})}a{sv}), and its signatures.
func (b *summaryBuild) index() error {
	list := ostree.SummaryIndex{Metadata: b.opt.summaryMetadata()}
	for _, name := range sortedKeys(b.files.next.subsummaries) {
		line := b.files.next.subsummaries[name]
		subsummary := ostree.Subsummary{Name: name, Checksum: line.current.digest}
		for _, old := range line.history {
			subsummary.History = append(subsummary.History, old.digest)
		}
		list.Subsummaries = append(list.Subsummaries, subsummary)
	}
	index := list.Encode()
	digest := ostree.ChecksumOf(index)
	b.files.next.digest = digest

	signature, err := b.sign(index)
	if err != nil {
		return fmt.Errorf("sign summary.idx: %w", err)
	}
	if signature == nil {
		b.write("summary.idx", index)
		b.files.Remove = append(b.files.Remove, "summary.idx.sig")
		return nil
	}
	path := ostree.SummaryIndexSignaturePath(digest)
	b.keep(path)
	b.write(path, signature)
	b.write("summary.idx", index)
	b.write("summary.idx.sig", signature)
	return nil
}

// sign returns the content of a signature file, nil when nothing is signed.
func (b *summaryBuild) sign(data []byte) ([]byte, error) {
	if b.opt.Sign == nil {
		return nil, nil
	}
	signatures, err := b.opt.Sign(data)
	if err != nil {
		return nil, err
	}
	var file gvariant.Dict
	ostree.SetGPGSignatures(&file, signatures)
	if b.opt.SignEd25519 != nil {
		ostree.SetEd25519Signatures(&file, b.opt.SignEd25519(data))
	}
	return ostree.EncodeDetached(file), nil
}

// compat writes the summary of old clients and its signature.
func (b *summaryBuild) compat() error {
	var refs, cache, sparse []*entry
	var deltas []gvariant.Entry
	for _, r := range b.x.sorted {
		if !r.inSubset("") || len(b.opt.SummaryArches) > 0 && r.arch != "" && !slices.Contains(b.opt.SummaryArches, r.arch) {
			continue
		}
		refs = append(refs, r.compat)
		if r.cache != nil {
			cache = append(cache, r.cache)
		}
		if r.sparse != nil {
			sparse = append(sparse, r.sparse)
		}
		if list := b.x.deltas[r.info.Checksum]; len(list) > 0 {
			deltas = append(deltas, deltaEntries(r.info.Checksum, list)...)
		}
	}
	base := b.opt.summaryMetadata()
	var metadata []rope
	for element := range base.Value().Children() {
		metadata = append(metadata, ropeOf(element.Data()))
	}
	if len(b.x.deltas) > 0 {
		metadata = append(metadata, joinDictEntry("ostree.static-deltas", joinDeltas(deltas), "a{sv}"))
	}
	metadata = append(metadata,
		joinDictEntry("xa.cache", joinVariant(joinEntries(cache), "a{s(tts)}"), "v"),
		joinDictEntry("xa.sparse-cache", joinEntries(sparse), "a{sa{sv}}"))
	joined := joinPair(joinEntries(refs), joinArray(metadata))
	summary := joined.bytes()

	signature, err := b.sign(summary)
	if err != nil {
		return fmt.Errorf("sign summary: %w", err)
	}
	b.write("summary", summary)
	if signature == nil {
		b.files.Remove = append(b.files.Remove, "summary.sig")
	} else {
		b.write("summary.sig", signature)
	}
	return nil
}

// joinDeltas makes the a{sv} of static deltas, sorted by name; refs that share a
// commit name its deltas once.
func joinDeltas(deltas []gvariant.Entry) rope {
	slices.SortFunc(deltas, func(a, b gvariant.Entry) int { return cmp.Compare(a.Key, b.Key) })
	deltas = slices.CompactFunc(deltas, func(a, b gvariant.Entry) bool { return a.Key == b.Key })
	list := gvariant.ArrayBuilder{Elem: "{sv}"}
	list.Grow(len(deltas), len(deltas)*208)
	for _, delta := range deltas {
		list.AppendTuple(gvariant.String(delta.Key), gvariant.Variant(delta.Value))
	}
	return ropeOf(list.Value().Data())
}

// retire lists what the new generation no longer needs. The signature of
// the index before it stays for clients that have just read that.
func (b *summaryBuild) retire() {
	if !b.x.digest.IsZero() {
		previous := ostree.SummaryIndexSignaturePath(b.x.digest)
		if b.x.live[previous] {
			b.keep(previous)
		}
	}
	for _, path := range sortedKeys(b.x.live) {
		if !b.files.next.live[path] {
			b.files.Remove = append(b.files.Remove, path)
		}
	}
}
