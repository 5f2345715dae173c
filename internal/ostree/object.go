package ostree

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ObjectType is the kind of an object, numbered as in libostree
// (OstreeObjectType) and in static deltas.
type ObjectType uint8

// The kinds of objects that an archive repository holds.
const (
	TypeFile       ObjectType = 1
	TypeDirTree    ObjectType = 2
	TypeDirMeta    ObjectType = 3
	TypeCommit     ObjectType = 4
	TypeTombstone  ObjectType = 5 // marks a commit that was deleted
	TypeCommitMeta ObjectType = 6 // detached metadata, named by the commit
)

// Ext returns the end of the file name of such objects in an archive
// repository, without a dot; it is empty for an unknown type.
func (t ObjectType) Ext() string {
	switch t {
	case TypeFile:
		return "filez"
	case TypeDirTree:
		return "dirtree"
	case TypeDirMeta:
		return "dirmeta"
	case TypeCommit:
		return "commit"
	case TypeTombstone:
		return "commit-tombstone"
	case TypeCommitMeta:
		return "commitmeta"
	}
	return ""
}

func (t ObjectType) String() string {
	if ext := t.Ext(); ext != "" {
		return ext
	}
	return fmt.Sprintf("object type %d", uint8(t))
}

// ObjectName names an object. It is comparable.
type ObjectName struct {
	Checksum Checksum
	Type     ObjectType
}

// String returns "<64 hex>.<ext>".
func (n ObjectName) String() string {
	var room [longestPath]byte
	text := hex.AppendEncode(room[:0], n.Checksum[:])
	return string(append(append(text, '.'), n.Type.Ext()...))
}

// Path returns the place of the object in a repository:
// "objects/xx/<62 hex>.<ext>".
func (n ObjectName) Path() string {
	var room [longestPath]byte // it is asked for a lot
	text := hex.AppendEncode(append(room[:0], "objects/"...), n.Checksum[:1])
	text = hex.AppendEncode(append(text, '/'), n.Checksum[1:])
	return string(append(append(text, '.'), n.Type.Ext()...))
}

// longestPath is about as long as a path of an object can be, in bytes.
const longestPath = 96

// Compare orders names by checksum, then by type.
func (n ObjectName) Compare(m ObjectName) int {
	if c := n.Checksum.Compare(m.Checksum); c != 0 {
		return c
	}
	return int(n.Type) - int(m.Type)
}

// ParseObjectName reads "<64 hex>.<ext>".
func ParseObjectName(s string) (ObjectName, error) {
	hex, ext, ok := strings.Cut(s, ".")
	if !ok {
		return ObjectName{}, fmt.Errorf("%w: %.100q is no object name", ErrName, s)
	}
	for t := TypeFile; t <= TypeCommitMeta; t++ {
		if t.Ext() == ext {
			c, err := ParseChecksum(hex)
			return ObjectName{Checksum: c, Type: t}, err
		}
	}
	return ObjectName{}, fmt.Errorf("%w: %.100q has no known object type", ErrName, s)
}

// ParseObjectPath reads "objects/xx/<62 hex>.<ext>".
func ParseObjectPath(p string) (ObjectName, error) {
	rest, ok := strings.CutPrefix(p, "objects/")
	if !ok || len(rest) < 3 || rest[2] != '/' {
		return ObjectName{}, fmt.Errorf("%w: %.100q is no object path", ErrName, p)
	}
	return ParseObjectName(rest[:2] + rest[3:])
}
