package flatpak

import (
	"bytes"
	"errors"
	"fmt"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/splice"
)

// ErrSummary is wrapped by every error about a malformed summary or summary
// index.
var ErrSummary = errors.New("malformed summary")

// view is one generation of a subsummary, (a(s(taya{sv}))a{sv}): the entries of
// its refs and what follows them. It is immutable.
type view struct {
	entries []*entry
	tail    []byte // framing offsets of the refs, the metadata, the offset of the metadata
	digest  ostree.Checksum
	size    int
}

// newView lays out a subsummary of the entries, which are sorted, and hashes it
// with the help of hash, which belongs to the subsummary.
func newView(entries []*entry, hash *runHash) *view {
	v := &view{entries: entries}
	end := 0
	ends := make([]int, len(entries))
	for i, e := range entries {
		ends[i] = end + e.size
		end += len(e.padded)
	}
	refs := 0
	if len(ends) > 0 {
		refs = ends[len(ends)-1]
	}
	tail := encodeOffsets(refs, ends)
	end = refs + len(tail) // of the array
	tail = append(tail, zeros[:padding(end)]...)
	metadata := gvariant.NewDict(gvariant.Entry{Key: "xa.summary-version", Value: gvariant.Uint32(1)})
	tail = append(tail, metadata.Value().Data()...)
	v.tail = append(tail, encodeOffsets(refs+len(tail), []int{end})...)
	v.size = refs + len(v.tail)

	runs := make([][]byte, 0, len(entries)+1)
	for i := range entries {
		runs = append(runs, v.data(i))
	}
	v.digest = hash.sum(nil, append(runs, v.tail))
	return v
}

// data returns the bytes of an entry and of the padding before the next one.
func (v *view) data(i int) []byte {
	e := v.entries[i]
	if i == len(v.entries)-1 {
		return e.padded[:e.size]
	}
	return e.padded
}

// segments returns the view in pieces to compress.
func (v *view) segments() []splice.Segment {
	segments := make([]splice.Segment, 0, len(v.entries)+1)
	for i, e := range v.entries {
		segment := splice.Segment{Key: e.key, Data: v.data(i)}
		if len(segment.Data) == len(e.padded) {
			segment.Sum = e.sum
		}
		segments = append(segments, segment)
	}
	return append(segments, splice.Segment{Data: v.tail})
}

// rest returns the bytes from the i-th entry on.
func (v *view) rest(i int) []byte {
	if i == len(v.entries) {
		return v.tail
	}
	var b []byte
	for ; i < len(v.entries); i++ {
		b = append(b, v.data(i)...)
	}
	return append(b, v.tail...)
}

// sameEntries tells whether both views have the same refs at the same commits.
func sameEntries(a, b []*entry) bool {
	if len(a) != len(b) {
		return false
	}
	for i, e := range a {
		if e != b[i] && !e.equal(b[i]) {
			return false
		}
	}
	return true
}

// summaryType is the type of summaries and subsummaries.
const summaryType = "(a(s(taya{sv}))a{sv})"

// parseView reads a subsummary. Entries that are the same in known, which may be
// nil, share its memory.
func parseView(data []byte, known *view) (*view, error) {
	summary, err := gvariant.Parse(summaryType, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSummary, err)
	}
	v := &view{digest: ostree.ChecksumOf(data), size: len(data)}
	refs := summary.Child(0)
	v.entries = make([]*entry, 0, refs.Len())
	next, end := 0, 0
	for element := range refs.Children() {
		e := newEntry(element.Child(0).Str(), element)
		if n := len(v.entries); n > 0 && v.entries[n-1].key >= e.key {
			return nil, fmt.Errorf("%w: ref %q is out of order", ErrSummary, e.key)
		}
		if known != nil {
			for next < len(known.entries) && known.entries[next].key < e.key {
				next++
			}
			if next < len(known.entries) && known.entries[next].equal(e) {
				e = known.entries[next]
			}
		}
		v.entries = append(v.entries, e)
		end += padding(end) + e.size
	}
	v.tail = bytes.Clone(data[end:])
	return v, nil
}
