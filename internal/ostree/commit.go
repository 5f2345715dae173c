package ostree

import (
	"fmt"

	"freshet/internal/gvariant"
)

// MaxMetadataSize bounds the bytes of a metadata object (commit, dirtree,
// dirmeta, commitmeta). libostree's bound is the same 128 MiB.
const MaxMetadataSize = 128 << 20

const commitType = "(a{sv}aya(say)sstayay)"

// Commit is the root of a tree with its history.
type Commit struct {
	Metadata  gvariant.Dict // ordered, covered by the checksum
	Parent    Checksum      // zero: none
	Related   []Related     // not used by any tool of today, but kept
	Subject   string
	Body      string
	Timestamp uint64   // seconds since 1970, UTC
	Tree      Checksum // dirtree of the root
	TreeMeta  Checksum // dirmeta of the root
}

// Related names another object in a commit.
type Related struct {
	Name     string
	Checksum Checksum
}

// ParseCommit reads a commit object.
func ParseCommit(data []byte) (*Commit, error) {
	c, err := parseCommit(data)
	if err != nil {
		return nil, fmt.Errorf("parse commit: %w", err)
	}
	return c, nil
}

func parseCommit(data []byte) (*Commit, error) {
	v, err := parseVariant(commitType, data)
	if err != nil {
		return nil, err
	}
	return commitOf(v)
}

// commitOf reads a value of commitType.
func commitOf(v gvariant.Value) (*Commit, error) {
	c := &Commit{
		Subject:   v.Child(3).Str(),
		Body:      v.Child(4).Str(),
		Timestamp: v.Child(5).Uint64BE(),
	}
	var err error
	if c.Metadata, err = gvariant.DictOf(v.Child(0)); err != nil {
		return nil, err
	}
	if parent := v.Child(1).Bytes(); len(parent) > 0 {
		if c.Parent, err = ChecksumFromBytes(parent); err != nil {
			return nil, fmt.Errorf("parent: %w", err)
		}
	}
	for r := range v.Child(2).Children() {
		sum, err := ChecksumFromBytes(r.Child(1).Bytes())
		if err != nil {
			return nil, fmt.Errorf("related object: %w", err)
		}
		c.Related = append(c.Related, Related{Name: r.Child(0).Str(), Checksum: sum})
	}
	if c.Tree, err = ChecksumFromBytes(v.Child(6).Bytes()); err != nil {
		return nil, fmt.Errorf("root tree: %w", err)
	}
	if c.TreeMeta, err = ChecksumFromBytes(v.Child(7).Bytes()); err != nil {
		return nil, fmt.Errorf("root metadata: %w", err)
	}
	return c, nil
}

func (c *Commit) value() gvariant.Value {
	var parent []byte
	if !c.Parent.IsZero() {
		parent = c.Parent[:]
	}
	related := gvariant.ArrayBuilder{Elem: "(say)"}
	for _, r := range c.Related {
		related.AppendTuple(gvariant.String(r.Name), gvariant.Bytes(r.Checksum[:]))
	}
	return gvariant.Tuple(
		c.Metadata.Value(),
		gvariant.Bytes(parent),
		related.Value(),
		gvariant.String(c.Subject),
		gvariant.String(c.Body),
		gvariant.Uint64BE(c.Timestamp),
		gvariant.Bytes(c.Tree[:]),
		gvariant.Bytes(c.TreeMeta[:]),
	)
}

// Encode returns the bytes of the object; [ChecksumOf] them is its name.
func (c *Commit) Encode() []byte { return c.value().Data() }

// Keys of commit metadata that libostree defines.
const (
	KeyRefBinding            = "ostree.ref-binding"             // as: refs the commit may be under
	KeyCollectionBinding     = "ostree.collection-binding"      // s: collection of the repository
	KeyCollectionRefsBinding = "ostree.collection-refs-binding" // a(ss): refs in other collections
	KeyEndOfLife             = "ostree.endoflife"               // s: reason
	KeyEndOfLifeRebase       = "ostree.endoflife-rebase"        // s: ref that replaces this one
)

// parseVariant is gvariant.Parse with the errors of this package.
func parseVariant(typ string, data []byte) (gvariant.Value, error) {
	if len(data) > MaxMetadataSize {
		return gvariant.Value{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(data))
	}
	v, err := gvariant.Parse(typ, data)
	if err != nil {
		return gvariant.Value{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return v, nil
}
