package flatpak

import (
	"crypto/sha256"
	"slices"

	"freshet/internal/gvariant"
	"freshet/internal/splice"
)

// entry is an encoded array element. It is immutable and shared between the
// generations of a summary, so that equal entries mostly are the same pointer.
type entry struct {
	key    string        // the ref
	padded []byte        // the element and the padding after it, up to 8
	size   int           // of the element alone
	sum    splice.Digest // SHA-256 of padded
}

func newEntry(key string, value gvariant.Value) *entry {
	data := value.Data()
	e := &entry{key: key, size: len(data), padded: make([]byte, len(data)+padding(len(data)))}
	copy(e.padded, data)
	e.sum = sha256.Sum256(e.padded)
	return e
}

// equal tells whether both entries have the same bytes.
func (e *entry) equal(other *entry) bool {
	return e.key == other.key && e.size == other.size && e.sum == other.sum
}

// record is a ref with all that is encoded of it.
type record struct {
	info      CommitInfo
	arch      string // "" belongs to every architecture
	appstream bool   // an appstream or appstream2 ref
	subset    string // of an appstream2 ref that has one

	entry  *entry // (s(taya{sv})) of subsummaries, with everything inline
	compat *entry // the same of the compat summary, with the time alone
	cache  *entry // {s(tts)} of xa.cache; nil for refs that are not flatpak's
	sparse *entry // {sa{sv}} of xa.sparse-cache; nil for most

	fragment splice.Digest // SHA-256 of info.Components
	icons    splice.Digest // of info.Icons
}

// newRecord encodes what is known of a ref. Names of subsets that are none are
// forgotten, since branches are named by them and commits may say anything.
func newRecord(info CommitInfo) *record {
	info.Subsets = slices.DeleteFunc(info.Subsets, func(name string) bool { return CheckSubset(name) != nil })
	r := &record{info: info, arch: refArch(info.Ref)}
	_, r.appstream = appstreamName(info.Ref)
	r.subset, _ = appstreamSubset(info.Ref)
	r.fragment = sha256.Sum256(info.Components)
	r.icons = iconsDigest(info.Icons)

	data := gvariant.Tuple(
		gvariant.Uint64BE(info.InstalledSize),
		gvariant.Uint64BE(info.DownloadSize),
		gvariant.String(info.Metadata),
	)
	sparse := sparseData(&info)
	ref := gvariant.String(info.Ref)
	var inline gvariant.Dict
	if hasFlatpakData(info.Ref) {
		r.cache = newEntry(info.Ref, gvariant.DictEntry(ref, data))
		if sparse.Len() > 0 {
			r.sparse = newEntry(info.Ref, gvariant.DictEntry(ref, sparse.Value()))
		}
		inline.Set("xa.data", data)
		for key, value := range sparse.All() {
			inline.Set(key, value)
		}
	}
	timestamp := gvariant.Uint64BE(info.Timestamp)
	inline.Set("ot.ts", timestamp)
	r.entry = refEntry(&info, hashed(inline))
	r.compat = refEntry(&info, gvariant.NewDict(gvariant.Entry{Key: "ostree.commit.timestamp", Value: timestamp}))
	return r
}

// iconsDigest is the identity of the icons of a ref.
func iconsDigest(icons []Icon) splice.Digest {
	var id []byte
	for i := range icons {
		id = append(id, byte(icons[i].Size))
		id = append(id, icons[i].Name...)
		id = append(append(id, 0), icons[i].Checksum[:]...)
	}
	return sha256.Sum256(id)
}

// refEntry encodes an element of a(s(taya{sv})).
func refEntry(info *CommitInfo, metadata gvariant.Dict) *entry {
	return newEntry(info.Ref, gvariant.Tuple(
		gvariant.String(info.Ref),
		gvariant.Tuple(
			gvariant.Uint64(info.CommitSize),
			gvariant.Bytes(info.Checksum[:]),
			metadata.Value(),
		),
	))
}

// sparseData is what few refs have.
func sparseData(info *CommitInfo) gvariant.Dict {
	var d gvariant.Dict
	if info.EndOfLife != "" {
		d.Set("eol", gvariant.String(info.EndOfLife))
	}
	if info.EndOfLifeRebase != "" {
		d.Set("eolr", gvariant.String(info.EndOfLifeRebase))
	}
	if info.HasTokenType && info.TokenType >= 0 {
		d.Set("tokt", gvariant.Int32(info.TokenType))
	}
	if info.ExtraDataCount > 0 {
		d.Set("eds", gvariant.Tuple(gvariant.Uint32(info.ExtraDataCount), gvariant.Uint64(info.ExtraDataSize)))
	}
	return d
}

// inSubset tells whether a ref stands in the subsummary of a subset, which is ""
// for everything: the rules of flatpak's generate_summary.
func (r *record) inSubset(subset string) bool {
	switch {
	case subset == "":
		return r.subset == ""
	case r.appstream:
		return r.subset == subset
	case r.cache == nil:
		return true
	}
	return slices.Contains(r.info.Subsets, subset)
}

// inArch tells whether a ref belongs to an architecture.
func (r *record) inArch(arch string) bool { return r.arch == "" || r.arch == arch }
