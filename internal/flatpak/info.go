package flatpak

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"freshet/internal/ostree"
)

// CommitInfo is all that the summaries and the catalogue need to know of the
// commit a ref points at. It is made once, by [ReadCommitInfo] or by the builder
// of the appstream branches, and kept in a database.
type CommitInfo struct {
	// Ref is the name of the ref, of whatever kind.
	Ref string

	// Checksum is the commit, Tree and TreeMeta are its root.
	Checksum, Tree, TreeMeta ostree.Checksum

	CommitSize uint64 // bytes of the commit object
	Timestamp  uint64 // seconds since 1970, as the commit has it

	// InstalledSize and DownloadSize are in bytes and include extra data.
	InstalledSize, DownloadSize uint64

	// Metadata is the key file (xa.metadata); empty for appstream refs.
	Metadata string

	// EndOfLife is the reason why the ref is no longer maintained, and
	// EndOfLifeRebase the ref that replaces it; empty for living ones.
	EndOfLife, EndOfLifeRebase string

	// TokenType is the kind of token a download needs; it counts when HasTokenType.
	TokenType    int32
	HasTokenType bool

	// Subsets are the named parts of the repository the ref belongs to
	// (xa.subsets), besides the whole.
	Subsets []string

	// ExtraDataCount and ExtraDataSize are the number and the download size of what
	// a client fetches from elsewhere.
	ExtraDataCount uint32
	ExtraDataSize  uint64

	// Components are the elements the ref adds to the catalogue; empty for none.
	Components []byte

	// Icons are the icon files the ref adds to the catalogue.
	Icons []Icon

	// CatalogueProblem says why a ref that has catalogue data does not appear in the
	// catalogue; empty when all is well.
	CatalogueProblem string
}

// Icon is an icon of the catalogue.
type Icon struct {
	Size     IconSize
	Name     string          // file name: component id and .png
	Checksum ostree.Checksum // of the file object
	Bytes    uint64          // length of the content
	Stored   uint64          // length of the stored object
}

// IconSize is one of the two sizes a catalogue has.
type IconSize uint8

// The sizes, in pixels.
const (
	Icon64 IconSize = iota
	Icon128
)

// String returns the name of the size's folder.
func (s IconSize) String() string {
	if s == Icon128 {
		return "128x128"
	}
	return "64x64"
}

// EndOfLifed tells whether the commit is marked as no longer maintained.
func (c *CommitInfo) EndOfLifed() bool { return c.EndOfLife != "" || c.EndOfLifeRebase != "" }

// ErrCommitInfo is wrapped by every error of [DecodeCommitInfo].
var ErrCommitInfo = errors.New("malformed commit info")

// commitInfoVersion is the first byte of the serialised form. A reader of a
// newer form refuses older ones; the caller then reads the commit again.
const commitInfoVersion = 1

// Encode returns the serialised form: a version byte, then every field in
// order; numbers as varints, strings and lists with their length before them.
func (c *CommitInfo) Encode() []byte {
	b := make([]byte, 0, 256+len(c.Metadata)+len(c.Components)+len(c.Icons)*80)
	b = append(b, commitInfoVersion)
	b = appendString(b, c.Ref)
	b = append(b, c.Checksum[:]...)
	b = append(b, c.Tree[:]...)
	b = append(b, c.TreeMeta[:]...)
	for _, n := range []uint64{c.CommitSize, c.Timestamp, c.InstalledSize, c.DownloadSize} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendString(b, c.Metadata)
	b = appendString(b, c.EndOfLife)
	b = appendString(b, c.EndOfLifeRebase)
	b = binary.AppendVarint(b, int64(c.TokenType))
	if c.HasTokenType {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Subsets)))
	for _, subset := range c.Subsets {
		b = appendString(b, subset)
	}
	b = binary.AppendUvarint(b, uint64(c.ExtraDataCount))
	b = binary.AppendUvarint(b, c.ExtraDataSize)
	b = appendString(b, string(c.Components))
	b = binary.AppendUvarint(b, uint64(len(c.Icons)))
	for i := range c.Icons {
		icon := &c.Icons[i]
		b = append(b, byte(icon.Size))
		b = appendString(b, icon.Name)
		b = append(b, icon.Checksum[:]...)
		b = binary.AppendUvarint(b, icon.Bytes)
		b = binary.AppendUvarint(b, icon.Stored)
	}
	return appendString(b, c.CatalogueProblem)
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// DecodeCommitInfo reads what Encode wrote. The result shares no memory with b.
func DecodeCommitInfo(b []byte) (CommitInfo, error) {
	d := decoder{rest: b}
	if version := d.byte(); version != commitInfoVersion {
		return CommitInfo{}, fmt.Errorf("%w: version %d, want %d", ErrCommitInfo, version, commitInfoVersion)
	}
	var c CommitInfo
	c.Ref = d.string()
	c.Checksum, c.Tree, c.TreeMeta = d.checksum(), d.checksum(), d.checksum()
	c.CommitSize, c.Timestamp = d.uvarint(), d.uvarint()
	c.InstalledSize, c.DownloadSize = d.uvarint(), d.uvarint()
	c.Metadata = d.string()
	c.EndOfLife, c.EndOfLifeRebase = d.string(), d.string()
	c.TokenType = d.int32()
	c.HasTokenType = d.byte() == 1
	for range d.count(1) {
		c.Subsets = append(c.Subsets, d.string())
	}
	count := d.uvarint()
	if count > math.MaxUint32 {
		d.bad = true
	}
	c.ExtraDataCount = uint32(count & math.MaxUint32)
	c.ExtraDataSize = d.uvarint()
	if components := d.string(); components != "" {
		c.Components = []byte(components)
	}
	for range d.count(36) {
		icon := Icon{Size: IconSize(d.byte()), Name: d.string(), Checksum: d.checksum()}
		icon.Bytes, icon.Stored = d.uvarint(), d.uvarint()
		if icon.Size > Icon128 {
			d.bad = true
		}
		c.Icons = append(c.Icons, icon)
	}
	c.CatalogueProblem = d.string()
	if d.bad || len(d.rest) > 0 {
		return CommitInfo{}, fmt.Errorf("%w: %d bytes", ErrCommitInfo, len(b))
	}
	return c, nil
}

// decoder takes values off the front of rest; after a bad one it gives zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) checksum() (sum ostree.Checksum) {
	copy(sum[:], d.take(uint64(len(sum))))
	return sum
}

func (d *decoder) string() string { return string(d.take(d.uvarint())) }

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) int32() int32 {
	n, size := binary.Varint(d.rest)
	if size <= 0 || n < math.MinInt32 || n > math.MaxInt32 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[size:]
	return int32(n)
}

// count reads the length of a list whose elements have minimum bytes at least,
// so that a forged length cannot ask for memory.
func (d *decoder) count(minimum uint64) uint64 {
	n := d.uvarint()
	if n > uint64(len(d.rest))/minimum {
		d.bad = true
		return 0
	}
	return n
}

// clone returns a copy that shares no slices with c.
func (c *CommitInfo) clone() CommitInfo {
	copied := *c
	copied.Subsets = slices.Clone(c.Subsets)
	copied.Components = slices.Clone(c.Components)
	copied.Icons = slices.Clone(c.Icons)
	return copied
}
