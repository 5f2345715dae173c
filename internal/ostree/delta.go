package ostree

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/bits"

	"freshet/internal/gvariant"
)

const (
	superblockType    = "(a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt))"
	deltaPartType     = "(uayttay)"
	deltaFallbackType = "(yaytt)"
	deltaObjectSize   = 1 + sha256.Size

	// keyDeltaEndianness in the metadata of a superblock tells the order of its
	// numbers: 'l' or 'B'.
	keyDeltaEndianness = "ostree.endianness"

	keyStaticDeltas = "ostree.static-deltas"
)

// Superblock is the head of a static delta: what it leads to and which files
// and loose objects a client has to fetch.
type Superblock struct {
	Metadata  gvariant.Dict // "ostree.endianness" among others; unknown keys are kept
	Timestamp uint64        // seconds since 1970
	Name      DeltaName
	Commit    *Commit
	// Recursion lists deltas to apply before; no tool of today writes any.
	Recursion []byte
	Parts     []DeltaPart
	Fallbacks []DeltaFallback
}

// DeltaPart describes a part of a static delta, file [DeltaName.PartPath].
type DeltaPart struct {
	Version  uint32
	Checksum Checksum // of the file
	Size     uint64   // of the file
	USize    uint64   // of all objects in the part, uncompressed
	Objects  []ObjectName
}

// DeltaFallback names an object that is not in the delta; it is fetched singly.
type DeltaFallback struct {
	Object ObjectName
	Size   uint64 // stored
	USize  uint64 // content
}

// ParseSuperblock reads the superblock of a static delta. The commit in it is
// parsed, and its checksum must be that the delta leads to.
func ParseSuperblock(data []byte) (*Superblock, error) {
	s, err := parseSuperblock(data)
	if err != nil {
		return nil, fmt.Errorf("parse superblock: %w", err)
	}
	return s, nil
}

func parseSuperblock(data []byte) (*Superblock, error) {
	v, err := parseVariant(superblockType, data)
	if err != nil {
		return nil, err
	}
	s := &Superblock{Timestamp: v.Child(1).Uint64BE(), Recursion: v.Child(5).Bytes()}
	if s.Metadata, err = gvariant.DictOf(v.Child(0)); err != nil {
		return nil, err
	}
	if from := v.Child(2).Bytes(); len(from) > 0 {
		if s.Name.From, err = ChecksumFromBytes(from); err != nil {
			return nil, fmt.Errorf("from: %w", err)
		}
	}
	if s.Name.To, err = ChecksumFromBytes(v.Child(3).Bytes()); err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	if s.Commit, err = commitOf(v.Child(4)); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if actual := ChecksumOf(v.Child(4).Data()); actual != s.Name.To {
		return nil, fmt.Errorf("%w: delta to %s holds commit %s", ErrMalformed, s.Name.To, actual)
	}
	order := s.byteOrder()
	for p := range v.Child(6).Children() {
		part := DeltaPart{
			Version: order.u32(p.Child(0).Uint32()),
			Size:    order.u64(p.Child(2).Uint64()),
			USize:   order.u64(p.Child(3).Uint64()),
		}
		if part.Checksum, err = ChecksumFromBytes(p.Child(1).Bytes()); err != nil {
			return nil, fmt.Errorf("part %d: %w", len(s.Parts), err)
		}
		if part.Objects, err = parseDeltaObjects(p.Child(4).Bytes()); err != nil {
			return nil, fmt.Errorf("part %d: %w", len(s.Parts), err)
		}
		if s.Parts = append(s.Parts, part); len(s.Parts) > MaxDeltaParts {
			return nil, fmt.Errorf("%w: more than %d parts", ErrTooLarge, MaxDeltaParts)
		}
	}
	for f := range v.Child(7).Children() {
		fallback := DeltaFallback{
			Object: ObjectName{Type: ObjectType(f.Child(0).Byte())},
			Size:   order.u64(f.Child(2).Uint64()),
			USize:  order.u64(f.Child(3).Uint64()),
		}
		if fallback.Object.Checksum, err = ChecksumFromBytes(f.Child(1).Bytes()); err != nil {
			return nil, fmt.Errorf("fallback %d: %w", len(s.Fallbacks), err)
		}
		s.Fallbacks = append(s.Fallbacks, fallback)
	}
	return s, nil
}

func parseDeltaObjects(b []byte) ([]ObjectName, error) {
	if len(b)%deltaObjectSize != 0 {
		return nil, fmt.Errorf("%w: list of objects has %d bytes", ErrMalformed, len(b))
	}
	objects := make([]ObjectName, 0, len(b)/deltaObjectSize)
	for ; len(b) > 0; b = b[deltaObjectSize:] {
		t := ObjectType(b[0])
		if t.Ext() == "" {
			return nil, fmt.Errorf("%w: object of type %d", ErrMalformed, b[0])
		}
		objects = append(objects, ObjectName{Checksum(b[1:deltaObjectSize]), t})
	}
	return objects, nil
}

// Encode returns the bytes of the superblock. Numbers are little-endian unless
// the metadata says otherwise; see [NewSuperblock].
func (s *Superblock) Encode() []byte {
	order := s.byteOrder()
	var from []byte
	if !s.Name.FromScratch() {
		from = s.Name.From[:]
	}
	parts := gvariant.ArrayBuilder{Elem: deltaPartType}
	for _, p := range s.Parts {
		objects := make([]byte, 0, len(p.Objects)*deltaObjectSize)
		for _, o := range p.Objects {
			objects = append(append(objects, byte(o.Type)), o.Checksum[:]...)
		}
		parts.AppendTuple(
			gvariant.Uint32(order.u32(p.Version)), gvariant.Bytes(p.Checksum[:]),
			gvariant.Uint64(order.u64(p.Size)), gvariant.Uint64(order.u64(p.USize)), gvariant.Bytes(objects),
		)
	}
	fallbacks := gvariant.ArrayBuilder{Elem: deltaFallbackType}
	for _, f := range s.Fallbacks {
		fallbacks.AppendTuple(
			gvariant.Byte(byte(f.Object.Type)), gvariant.Bytes(f.Object.Checksum[:]),
			gvariant.Uint64(order.u64(f.Size)), gvariant.Uint64(order.u64(f.USize)),
		)
	}
	return gvariant.Tuple(
		s.Metadata.Value(), gvariant.Uint64BE(s.Timestamp), gvariant.Bytes(from), gvariant.Bytes(s.Name.To[:]),
		s.Commit.value(), gvariant.Bytes(s.Recursion), parts.Value(), fallbacks.Value(),
	).Data()
}

// NewSuperblock returns the superblock of a delta to a commit, with its
// metadata set as this package writes them and no parts yet.
func NewSuperblock(from Checksum, commit *Commit, timestamp uint64) *Superblock {
	return &Superblock{
		Metadata:  gvariant.NewDict(gvariant.Entry{Key: keyDeltaEndianness, Value: gvariant.Byte('l')}),
		Timestamp: timestamp,
		Name:      DeltaName{From: from, To: ChecksumOf(commit.Encode())},
		Commit:    commit,
	}
}

// byteOrder is whether the numbers of a superblock are swapped. A superblock
// that does not tell is taken as little-endian, like everything else.
type byteOrder struct{ swapped bool }

func (s *Superblock) byteOrder() byteOrder {
	v, _ := s.Metadata.Get(keyDeltaEndianness)
	return byteOrder{swapped: v.Byte() == 'B'}
}

func (o byteOrder) u32(n uint32) uint32 {
	if o.swapped {
		return bits.ReverseBytes32(n)
	}
	return n
}

func (o byteOrder) u64(n uint64) uint64 {
	if o.swapped {
		return bits.ReverseBytes64(n)
	}
	return n
}

// Inline tells whether a part is in the superblock itself, so that there is no file of it.
func (s *Superblock) Inline(part int) bool {
	_, ok := s.Metadata.Get(s.Name.PartPath(part))
	return ok
}

// VerifyPart reads a part from r to its end and checks that it has the size and
// checksum of the superblock. What the part does when it is applied is not
// looked at. An error wraps [ErrMalformed] when the bytes are at fault.
func (s *Superblock) VerifyPart(part int, r io.Reader) error {
	if part < 0 || part >= len(s.Parts) {
		return fmt.Errorf("delta %s: %w: it has no part %d", s.Name, ErrMalformed, part)
	}
	want := s.Parts[part]
	if want.Size > 1<<62 {
		return fmt.Errorf("delta %s: part %d: %w: %d bytes", s.Name, part, ErrTooLarge, want.Size)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(r, int64(want.Size)+1))
	if err != nil {
		return fmt.Errorf("delta %s: part %d: %w", s.Name, part, err)
	}
	if uint64(n) != want.Size {
		return fmt.Errorf("delta %s: part %d: %w: size is not %d bytes", s.Name, part, ErrMalformed, want.Size)
	}
	if !bytes.Equal(sum.Sum(nil), want.Checksum[:]) {
		return fmt.Errorf("delta %s: part %d: %w: checksum mismatch", s.Name, part, ErrMalformed)
	}
	return nil
}

// DeltaIndex lists static deltas with the checksums of their superblocks. It is
// the content of a delta index file, and, by [DeltaIndex.Value], the value of
// "ostree.static-deltas" in a summary.
type DeltaIndex struct {
	Deltas []IndexedDelta
}

// IndexedDelta is an entry of a [DeltaIndex].
type IndexedDelta struct {
	Name       DeltaName
	Superblock Checksum // of the file
}

// ParseDeltaIndex reads a delta index file.
func ParseDeltaIndex(data []byte) (*DeltaIndex, error) {
	v, err := parseVariant("a{sv}", data)
	if err != nil {
		return nil, fmt.Errorf("parse delta index: %w", err)
	}
	deltas, ok := v.Lookup(keyStaticDeltas)
	if !ok {
		return &DeltaIndex{}, nil
	}
	return DeltaIndexOf(deltas)
}

// DeltaIndexOf reads the value of "ostree.static-deltas".
func DeltaIndexOf(v gvariant.Value) (*DeltaIndex, error) {
	d, err := gvariant.DictOf(v)
	if err != nil {
		return nil, fmt.Errorf("parse static deltas: %w: %w", ErrMalformed, err)
	}
	x := &DeltaIndex{}
	for key, sum := range d.All() {
		var e IndexedDelta
		if e.Name, err = ParseDeltaHex(key); err != nil {
			return nil, fmt.Errorf("parse static deltas: %w: %w", ErrMalformed, err)
		}
		if e.Superblock, err = ChecksumFromBytes(sum.Bytes()); err != nil {
			return nil, fmt.Errorf("parse static deltas: %s: %w", key, err)
		}
		x.Deltas = append(x.Deltas, e)
	}
	return x, nil
}

// Value returns the value of "ostree.static-deltas".
func (x *DeltaIndex) Value() gvariant.Value {
	b := gvariant.ArrayBuilder{Elem: "{sv}"}
	for _, e := range x.Deltas {
		b.AppendTuple(gvariant.String(e.Name.Hex()), gvariant.Variant(gvariant.Bytes(e.Superblock[:])))
	}
	return b.Value()
}

// Encode returns the bytes of a delta index file.
func (x *DeltaIndex) Encode() []byte {
	d := gvariant.NewDict(gvariant.Entry{Key: keyStaticDeltas, Value: x.Value()})
	return d.Value().Data()
}
