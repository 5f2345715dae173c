package ostree

import (
	"fmt"

	"freshet/internal/gvariant"
)

const (
	summaryType      = "(a(s(taya{sv}))a{sv})"
	summaryRefType   = "(s(taya{sv}))"
	summaryIndexType = "(a{s(ayaaya{sv})}a{sv})"
	subsummaryType   = "{s(ayaaya{sv})}"
)

// Summary lists the refs of a repository with their commits. The file summary
// has this form, and so have the subsummaries in summaries/<digest>.gz.
type Summary struct {
	Refs     []SummaryRef // sorted by ref, byte by byte
	Metadata gvariant.Dict
}

// SummaryRef is a ref in a summary.
type SummaryRef struct {
	Ref        string
	CommitSize uint64 // bytes of the commit object
	Commit     Checksum
	Metadata   gvariant.Dict
}

// ParseSummary reads a summary, and demands that refs are valid, sorted and
// unique.
func ParseSummary(data []byte) (*Summary, error) {
	s, err := parseSummary(data)
	if err != nil {
		return nil, fmt.Errorf("parse summary: %w", err)
	}
	return s, nil
}

func parseSummary(data []byte) (*Summary, error) {
	v, err := parseVariant(summaryType, data)
	if err != nil {
		return nil, err
	}
	refs := v.Child(0)
	s := &Summary{Refs: make([]SummaryRef, 0, refs.Len())}
	for e := range refs.Children() {
		info := e.Child(1)
		r := SummaryRef{Ref: e.Child(0).Str(), CommitSize: info.Child(0).Uint64()}
		if err := ValidateRef(r.Ref); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if n := len(s.Refs); n > 0 && s.Refs[n-1].Ref >= r.Ref {
			return nil, fmt.Errorf("%w: refs %s and %s are not in order", ErrMalformed, s.Refs[n-1].Ref, r.Ref)
		}
		if r.Commit, err = ChecksumFromBytes(info.Child(1).Bytes()); err != nil {
			return nil, fmt.Errorf("ref %s: %w", r.Ref, err)
		}
		if r.Metadata, err = gvariant.DictOf(info.Child(2)); err != nil {
			return nil, err
		}
		s.Refs = append(s.Refs, r)
	}
	if s.Metadata, err = gvariant.DictOf(v.Child(1)); err != nil {
		return nil, err
	}
	return s, nil
}

// Encode returns the bytes of the summary. Refs must be sorted.
func (s *Summary) Encode() []byte {
	refs := gvariant.ArrayBuilder{Elem: summaryRefType}
	for i := range s.Refs {
		r := &s.Refs[i]
		refs.Append(gvariant.Tuple(
			gvariant.String(r.Ref),
			gvariant.Tuple(gvariant.Uint64(r.CommitSize), gvariant.Bytes(r.Commit[:]), r.Metadata.Value()),
		))
	}
	return gvariant.Tuple(refs.Value(), s.Metadata.Value()).Data()
}

// SummaryIndex is the file summary.idx: the subsummaries of a repository.
type SummaryIndex struct {
	Subsummaries []Subsummary // sorted by name, byte by byte
	Metadata     gvariant.Dict
}

// Subsummary is an entry of a summary index. The subsummary is the file
// summaries/<Checksum>.gz; deltas from History are summaries/<old>-<new>.delta.
type Subsummary struct {
	Name     string     // "<arch>" or "<subset>-<arch>"
	Checksum Checksum   // of the subsummary before compression
	History  []Checksum // what it was before, newest first
	Metadata gvariant.Dict
}

// ParseSummaryIndex reads a summary.idx, and demands that names are sorted and
// unique.
func ParseSummaryIndex(data []byte) (*SummaryIndex, error) {
	x, err := parseSummaryIndex(data)
	if err != nil {
		return nil, fmt.Errorf("parse summary index: %w", err)
	}
	return x, nil
}

func parseSummaryIndex(data []byte) (*SummaryIndex, error) {
	v, err := parseVariant(summaryIndexType, data)
	if err != nil {
		return nil, err
	}
	x := &SummaryIndex{}
	for e := range v.Child(0).Children() {
		info := e.Child(1)
		s := Subsummary{Name: e.Child(0).Str()}
		if n := len(x.Subsummaries); n > 0 && x.Subsummaries[n-1].Name >= s.Name {
			return nil, fmt.Errorf("%w: subsummaries %.100q and %.100q are not in order", ErrMalformed, x.Subsummaries[n-1].Name, s.Name)
		}
		if s.Checksum, err = ChecksumFromBytes(info.Child(0).Bytes()); err != nil {
			return nil, fmt.Errorf("subsummary %.100q: %w", s.Name, err)
		}
		for old := range info.Child(1).Children() {
			sum, err := ChecksumFromBytes(old.Bytes())
			if err != nil {
				return nil, fmt.Errorf("history of subsummary %.100q: %w", s.Name, err)
			}
			s.History = append(s.History, sum)
		}
		if s.Metadata, err = gvariant.DictOf(info.Child(2)); err != nil {
			return nil, err
		}
		x.Subsummaries = append(x.Subsummaries, s)
	}
	if x.Metadata, err = gvariant.DictOf(v.Child(1)); err != nil {
		return nil, err
	}
	return x, nil
}

// Encode returns the bytes of the index. Subsummaries must be sorted.
func (x *SummaryIndex) Encode() []byte {
	b := gvariant.ArrayBuilder{Elem: subsummaryType}
	for _, s := range x.Subsummaries {
		history := gvariant.ArrayBuilder{Elem: "ay"}
		for _, old := range s.History {
			history.AppendRaw(old[:])
		}
		b.AppendTuple(
			gvariant.String(s.Name),
			gvariant.Tuple(gvariant.Bytes(s.Checksum[:]), history.Value(), s.Metadata.Value()),
		)
	}
	return gvariant.Tuple(b.Value(), x.Metadata.Value()).Data()
}

// SubsummaryPath returns the place of a subsummary: "summaries/<digest>.gz".
func SubsummaryPath(digest Checksum) string { return "summaries/" + digest.String() + ".gz" }

// SubsummaryDeltaPath returns the place of the difference between two
// subsummaries: "summaries/<old>-<new>.delta".
func SubsummaryDeltaPath(from, to Checksum) string {
	return "summaries/" + from.String() + "-" + to.String() + ".delta"
}

// SummaryIndexSignaturePath returns the place of the signatures of the index
// that has the digest: "summaries/<digest>.idx.sig".
func SummaryIndexSignaturePath(digest Checksum) string {
	return "summaries/" + digest.String() + ".idx.sig"
}
