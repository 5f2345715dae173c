package flatpak

import (
	"io"
	"iter"
	"slices"
	"sort"
	"strings"

	"github.com/klauspost/compress/gzip"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/splice"
)

// Index is the publisher's picture of one repository: every ref with what the
// summaries and the catalogue say of it, in encoded form, and the generations of
// summaries that clients may still hold.
//
// A publish is, in this order:
//
//  1. Update with the commits that are new and the refs that are gone;
//  2. BuildAppstream, which writes objects, then sign its commits, then Update
//     with what it returned;
//  3. SetDeltas for the commits whose static deltas changed;
//  4. Build, then write its files in order and set the refs;
//  5. Commit with those files, when all of them are in place.
//
// A Build that is not followed by Commit leaves no trace, so that a publish that
// failed half way can be built again. At start, Update with everything
// that the database holds, LoadDeltas, and LoadHistory.
//
// The zero value is an empty repository. An Index belongs to one goroutine at a
// time; it costs about 10 kB of memory per application.
type Index struct {
	records map[string]*record
	sorted  []*record // by ref

	deltas  map[ostree.Checksum][]Delta // by the commit they lead to
	touched map[ostree.Checksum]bool    // since the last Commit

	subsummaries map[string]lineage // by ARCH or SUBSET-ARCH, as published
	digest       ostree.Checksum    // of the published summary.idx; zero for none
	modified     uint64             // when that says it was published
	serial       uint64             // of that publish; zero: it does not say
	live         map[string]bool    // files below summaries/ that are known to exist

	catalogues map[string]catalogueState // by SUBSET-ARCH, of the last BuildAppstream

	hashes          map[string]*runHash // by SUBSET-ARCH, of subsummaries
	summaryPieces   splice.Cache
	cataloguePieces splice.Cache
	gz              *gzip.Writer
}

// lineage is a subsummary and those before it, the latest first.
type lineage struct {
	current *view
	history []*view
}

// Delta is a static delta that leads to a commit.
type Delta struct {
	From       ostree.Checksum // the commit it starts at; zero: from scratch
	Superblock ostree.Checksum // SHA-256 of the superblock file
}

// Update takes in the commits of refs that are new or changed and forgets the
// refs that are removed; a ref in both is removed. The infos are copied, without
// the subsets that CheckSubset refuses.
func (x *Index) Update(changed []CommitInfo, removed []string) {
	if x.records == nil {
		x.records = make(map[string]*record, len(changed))
	}
	resort := false
	for i := range changed {
		r := newRecord(changed[i].clone())
		if x.records[r.info.Ref] == nil {
			x.sorted = append(x.sorted, r)
			resort = true
		} else {
			x.sorted[x.find(r.info.Ref, resort)] = r
		}
		x.records[r.info.Ref] = r
	}
	if resort {
		slices.SortFunc(x.sorted, func(a, b *record) int { return strings.Compare(a.info.Ref, b.info.Ref) })
	}
	for _, ref := range removed {
		if x.records[ref] != nil {
			i := x.find(ref, false)
			x.sorted = slices.Delete(x.sorted, i, i+1)
			delete(x.records, ref)
		}
	}
}

// find returns the place of a ref that is there.
func (x *Index) find(ref string, unsorted bool) int {
	if unsorted {
		return slices.Index(x.sorted, x.records[ref])
	}
	return sort.Search(len(x.sorted), func(i int) bool { return x.sorted[i].info.Ref >= ref })
}

// Len returns the number of refs.
func (x *Index) Len() int { return len(x.sorted) }

// Get returns what is known of a ref. The slices of the result are the Index's
// own and must not be changed.
func (x *Index) Get(ref string) (CommitInfo, bool) {
	r := x.records[ref]
	if r == nil {
		return CommitInfo{}, false
	}
	return r.info, true
}

// Serial returns the number of the latest publish, as LoadHistory read it or the
// Build had it that was committed last; zero when the summary has none.
func (x *Index) Serial() uint64 { return x.serial }

// Deltas returns the static deltas that are known to lead to a commit, in the
// order of their names. The slice is the Index's own.
func (x *Index) Deltas(to ostree.Checksum) []Delta { return x.deltas[to] }

// Refs walks over all refs with their commits, sorted by name.
func (x *Index) Refs() iter.Seq2[string, ostree.Checksum] {
	return func(yield func(string, ostree.Checksum) bool) {
		for _, r := range x.sorted {
			if !yield(r.info.Ref, r.info.Checksum) {
				return
			}
		}
	}
}

// SetDeltas tells which static deltas lead to a commit, all of them; none removes
// its delta index. Deltas are listed for every commit, whether a ref points at it
// or not, but the compat summary names only those of its own refs.
func (x *Index) SetDeltas(to ostree.Checksum, deltas []Delta) {
	if x.touched == nil {
		x.touched = make(map[ostree.Checksum]bool)
	}
	x.touched[to] = true
	x.LoadDeltas(to, deltas)
}

// LoadDeltas is SetDeltas for what is published already, at start: the delta
// index of the commit is not written again.
func (x *Index) LoadDeltas(to ostree.Checksum, deltas []Delta) {
	if x.deltas == nil {
		x.deltas = make(map[ostree.Checksum][]Delta)
	}
	if len(deltas) == 0 {
		delete(x.deltas, to)
		return
	}
	sorted := slices.Clone(deltas)
	slices.SortFunc(sorted, func(a, b Delta) int { return strings.Compare(a.name(to), b.name(to)) })
	x.deltas[to] = sorted
}

// name is how summaries and delta indexes call a delta.
func (d *Delta) name(to ostree.Checksum) string {
	return ostree.DeltaName{From: d.From, To: to}.Hex()
}

// deltaEntries encodes the deltas to a commit as entries of an a{sv}.
func deltaEntries(to ostree.Checksum, deltas []Delta) []gvariant.Entry {
	entries := make([]gvariant.Entry, len(deltas))
	for i := range deltas {
		entries[i] = gvariant.Entry{Key: deltas[i].name(to), Value: gvariant.Bytes(deltas[i].Superblock[:])}
	}
	return entries
}

// scopes returns the architectures and the subsets of the repository, sorted;
// the first subset is "", which is everything.
func (x *Index) scopes(include func(*record) bool) (arches, subsets []string) {
	seenArch, seenSubset := map[string]bool{}, map[string]bool{"": true}
	for _, r := range x.sorted {
		if !include(r) {
			continue
		}
		if r.arch != "" {
			seenArch[r.arch] = true
		}
		if r.cache == nil {
			continue
		}
		for _, subset := range r.info.Subsets {
			seenSubset[subset] = true
		}
	}
	return sortedKeys(seenArch), sortedKeys(seenSubset)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// File is a file of the repository that a Build made.
type File struct {
	// Path is relative to the root of the repository.
	Path string

	pieces [][]byte
}

// Size returns the length of the file in bytes.
func (f *File) Size() int64 {
	n := int64(0)
	for _, piece := range f.pieces {
		n += int64(len(piece))
	}
	return n
}

// WriteTo writes the file's content.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	n := int64(0)
	for _, piece := range f.pieces {
		k, err := w.Write(piece)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Bytes returns the content, which must not be changed.
func (f *File) Bytes() []byte {
	if len(f.pieces) == 1 {
		return f.pieces[0]
	}
	return slices.Concat(f.pieces...)
}
