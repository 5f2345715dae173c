package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/xz"
)

const (
	partType  = "(a(uuu)aa(ayay)ayay)"
	modeType  = "(uuu)"
	xattrType = "a(ayay)"

	filePlain = 0
	fileXZ    = 'x'

	// MaxDict bounds the dictionary of a part: libostree allows its decoder
	// 100 MiB since 2026.3.
	MaxDict = 64 << 20

	// MaxPart bounds the content of a part that is read.
	MaxPart = 512 << 20
)

// Part is the content of a part, see the package comment. Slices may be shared
// and must not be changed.
type Part struct {
	Modes   []Mode
	Xattrs  [][]ostree.Xattr
	Payload []byte
	Program []byte // of ops
}

// Mode is what a part says of files, besides their content.
type Mode struct{ UID, GID, Mode uint32 }

// ReadPart reads the file of a part to its end. Content above limit bytes is
// refused with [ostree.ErrTooLarge], see [PartLimit]; what is not a part, with
// [ostree.ErrMalformed].
func ReadPart(r io.Reader, limit int64) (*Part, error) {
	var kind [1]byte
	if _, err := io.ReadFull(r, kind[:]); err != nil {
		return nil, fmt.Errorf("read part: %w", fault(err))
	}
	switch kind[0] {
	case fileXZ:
		z, err := xz.NewReader(r, MaxDict)
		if err != nil {
			return nil, fmt.Errorf("read part: %w", fault(err))
		}
		r = z
	case filePlain:
	default:
		return nil, fmt.Errorf("read part: %w: compression %#x", ostree.ErrUnsupported, kind[0])
	}
	var content bytes.Buffer
	n, err := content.ReadFrom(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read part: %w", fault(err))
	}
	if n > limit {
		return nil, fmt.Errorf("read part: %w: content of more than %d bytes", ostree.ErrTooLarge, limit)
	}
	return parsePart(content.Bytes())
}

// PartLimit returns how large the content of a part may be, by what the
// superblock says of it; this is the bound of libostree 2026.3.
func PartLimit(p ostree.DeltaPart) int64 {
	objects := uint64(len(p.Objects))
	return int64(min(MaxPart, p.USize+4096+65_792*objects+p.USize/32))
}

func parsePart(data []byte) (*Part, error) {
	v, err := gvariant.Parse(partType, data)
	if err != nil {
		return nil, fmt.Errorf("read part: %w: %w", ostree.ErrMalformed, err)
	}
	p := &Part{Payload: v.Child(2).Bytes(), Program: v.Child(3).Bytes()}
	for m := range v.Child(0).Children() {
		p.Modes = append(p.Modes, Mode{m.Child(0).Uint32BE(), m.Child(1).Uint32BE(), m.Child(2).Uint32BE()})
	}
	for set := range v.Child(1).Children() {
		var xattrs []ostree.Xattr
		for x := range set.Children() {
			xattrs = append(xattrs, ostree.Xattr{Name: x.Child(0).Bytes(), Value: x.Child(1).Bytes()})
		}
		p.Xattrs = append(p.Xattrs, xattrs)
	}
	return p, nil
}

// head returns what comes before the payload: modes and xattrs, and the offsets
// that end them.
func (p *Part) head() (head []byte, ends [2]int) {
	modes := gvariant.ArrayBuilder{Elem: modeType}
	for _, m := range p.Modes {
		modes.AppendTuple(gvariant.Uint32BE(m.UID), gvariant.Uint32BE(m.GID), gvariant.Uint32BE(m.Mode))
	}
	sets := gvariant.ArrayBuilder{Elem: xattrType}
	for _, set := range p.Xattrs {
		xattrs := gvariant.ArrayBuilder{Elem: xattrType[1:]}
		for _, x := range set {
			xattrs.AppendTuple(gvariant.Bytes(x.Name), gvariant.Bytes(x.Value))
		}
		sets.Append(xattrs.Value())
	}
	head = append(head, modes.Value().Data()...)
	ends[0] = len(head)
	head = append(head, sets.Value().Data()...)
	ends[1] = len(head)
	return head, ends
}

// tail returns what comes after a payload of so many bytes: the program, and
// the table of offsets, as wide as the whole demands.
func (p *Part) tail(ends [2]int, payload int) []byte {
	end := ends[1] + payload
	total := end + len(p.Program)
	width := 8
	for _, w := range []int{1, 2, 4} {
		if total+3*w < 1<<(8*w) {
			width = w
			break
		}
	}
	tail := bytes.Clone(p.Program)
	for _, offset := range []int{end, ends[1], ends[0]} {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(offset))
		tail = append(tail, b[:width]...)
	}
	return tail
}

// fault says of bad bytes that they are, in the words of package ostree.
func fault(err error) error {
	switch {
	case errors.Is(err, xz.ErrMalformed):
		return fmt.Errorf("%w: %w", ostree.ErrMalformed, err)
	case errors.Is(err, xz.ErrUnsupported):
		return fmt.Errorf("%w: %w", ostree.ErrUnsupported, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: truncated", ostree.ErrMalformed)
	}
	return err
}
