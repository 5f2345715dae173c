package ostree

import (
	"encoding/binary"
	"fmt"
	"strings"

	"freshet/internal/gvariant"
)

// The bits of a mode that tell the kind of a file, as in stat(2).
const (
	ModeType    = 0o170000
	ModeDir     = 0o040000
	ModeRegular = 0o100000
	ModeSymlink = 0o120000
)

const (
	dirMetaType       = "(uuua(ayay))"
	contentHeaderType = "(uuuusa(ayay))"
	archiveHeaderType = "(tuuuusa(ayay))"

	// maxHeaderSize bounds the header of a .filez; extended attributes are
	// bounded to 64 KiB each by Linux.
	maxHeaderSize = 1 << 20
)

// Xattr is an extended attribute. By convention the name ends with a NUL byte.
type Xattr struct {
	Name, Value []byte
}

// DirMeta is the metadata of a directory.
type DirMeta struct {
	UID, GID uint32
	Mode     uint32 // with the bits of [ModeType], which are [ModeDir]
	Xattrs   []Xattr
}

// CanonicalDirMeta is the metadata of every directory in a Flatpak tree: owned
// by root, mode 0755, without extended attributes.
func CanonicalDirMeta() DirMeta { return DirMeta{Mode: ModeDir | 0o755} }

// ParseDirMeta reads a dirmeta object.
func ParseDirMeta(data []byte) (*DirMeta, error) {
	v, err := parseVariant(dirMetaType, data)
	if err != nil {
		return nil, fmt.Errorf("parse dirmeta: %w", err)
	}
	d := &DirMeta{
		UID:    v.Child(0).Uint32BE(),
		GID:    v.Child(1).Uint32BE(),
		Mode:   v.Child(2).Uint32BE(),
		Xattrs: xattrsOf(v.Child(3)),
	}
	if d.Mode&ModeType != ModeDir || d.Mode&^(ModeType|0o7777) != 0 {
		return nil, fmt.Errorf("parse dirmeta: %w: mode %o is not of a directory", ErrMalformed, d.Mode)
	}
	return d, nil
}

// Encode returns the bytes of the object; [ChecksumOf] them is its name.
func (d *DirMeta) Encode() []byte {
	return gvariant.Tuple(
		gvariant.Uint32BE(d.UID), gvariant.Uint32BE(d.GID), gvariant.Uint32BE(d.Mode), xattrsValue(d.Xattrs),
	).Data()
}

// FileHeader is the metadata of a file or symlink. It is hashed together with
// the content.
type FileHeader struct {
	UID, GID uint32
	Mode     uint32 // with the bits of [ModeType], [ModeRegular] or [ModeSymlink]
	Symlink  string // target; empty for regular files
	Xattrs   []Xattr
}

// RegularFile returns the header of a file in a Flatpak tree: owned by root,
// mode 0644 or 0755, without extended attributes.
func RegularFile(executable bool) FileHeader {
	if executable {
		return FileHeader{Mode: ModeRegular | 0o755}
	}
	return FileHeader{Mode: ModeRegular | 0o644}
}

// SymlinkTo returns the header of a symlink in a Flatpak tree: owned by root,
// mode 0777, without extended attributes.
func SymlinkTo(target string) FileHeader {
	return FileHeader{Mode: ModeSymlink | 0o777, Symlink: target}
}

// IsSymlink tells whether this is a symlink, which has no content.
func (h *FileHeader) IsSymlink() bool { return h.Mode&ModeType == ModeSymlink }

// Validate demands a regular file, or a symlink with a target.
func (h *FileHeader) Validate() error {
	if h.Mode&^(ModeType|0o7777) != 0 {
		return fmt.Errorf("%w: mode %o", ErrMalformed, h.Mode)
	}
	switch h.Mode & ModeType {
	case ModeRegular:
		if h.Symlink != "" {
			return fmt.Errorf("%w: regular file with the target of a symlink", ErrMalformed)
		}
	case ModeSymlink:
		if h.Symlink == "" || strings.IndexByte(h.Symlink, 0) >= 0 {
			return fmt.Errorf("%w: symlink without a valid target", ErrMalformed)
		}
	default:
		return fmt.Errorf("%w: mode %o is neither of a file nor of a symlink", ErrMalformed, h.Mode)
	}
	return nil
}

// EncodeContentHeader returns the bytes that are hashed before the content to
// make the checksum of a file: length, padding and header.
func (h *FileHeader) EncodeContentHeader() []byte {
	return frame(gvariant.Tuple(
		gvariant.Uint32BE(h.UID), gvariant.Uint32BE(h.GID), gvariant.Uint32BE(h.Mode), gvariant.Uint32(0),
		gvariant.String(h.Symlink), xattrsValue(h.Xattrs),
	).Data())
}

// EncodeArchiveHeader returns the bytes that begin a .filez, before the
// deflated content of so many bytes: length, padding and header.
func (h *FileHeader) EncodeArchiveHeader(size uint64) []byte {
	return frame(gvariant.Tuple(
		gvariant.Uint64BE(size),
		gvariant.Uint32BE(h.UID), gvariant.Uint32BE(h.GID), gvariant.Uint32BE(h.Mode), gvariant.Uint32(0),
		gvariant.String(h.Symlink), xattrsValue(h.Xattrs),
	).Data())
}

// frame puts the length of a header, big-endian, and four zero bytes before it.
func frame(header []byte) []byte {
	framed := make([]byte, 8, 8+len(header))
	binary.BigEndian.PutUint32(framed, uint32(len(header)))
	return append(framed, header...)
}

// parseArchiveHeader reads the header of a .filez without its frame.
func parseArchiveHeader(data []byte) (FileHeader, uint64, error) {
	v, err := parseVariant(archiveHeaderType, data)
	if err != nil {
		return FileHeader{}, 0, err
	}
	h := FileHeader{
		UID:     v.Child(1).Uint32BE(),
		GID:     v.Child(2).Uint32BE(),
		Mode:    v.Child(3).Uint32BE(),
		Symlink: v.Child(5).Str(),
		Xattrs:  xattrsOf(v.Child(6)),
	}
	if v.Child(4).Uint32() != 0 {
		return FileHeader{}, 0, fmt.Errorf("%w: device number in a file header", ErrMalformed)
	}
	size := v.Child(0).Uint64BE()
	if err := h.Validate(); err != nil {
		return FileHeader{}, 0, err
	}
	if h.IsSymlink() && size != 0 {
		return FileHeader{}, 0, fmt.Errorf("%w: symlink with %d bytes of content", ErrMalformed, size)
	}
	return h, size, nil
}

func xattrsOf(v gvariant.Value) []Xattr {
	var xattrs []Xattr
	for x := range v.Children() {
		xattrs = append(xattrs, Xattr{Name: x.Child(0).Bytes(), Value: x.Child(1).Bytes()})
	}
	return xattrs
}

func xattrsValue(xattrs []Xattr) gvariant.Value {
	b := gvariant.ArrayBuilder{Elem: "(ayay)"}
	for _, x := range xattrs {
		b.AppendTuple(gvariant.Bytes(x.Name), gvariant.Bytes(x.Value))
	}
	return b.Value()
}
