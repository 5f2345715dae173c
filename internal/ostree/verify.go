package ostree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Info is what [VerifyObject] learned of an object.
type Info struct {
	Stored int64  // bytes of the object as it is stored
	Size   uint64 // bytes of content, for files; otherwise Stored

	// Header is set for files, the others for objects of their kind; they save
	// parsing twice.
	Header  *FileHeader
	Commit  *Commit
	DirTree *DirTree
	DirMeta *DirMeta
}

// VerifyObject reads an object from r to its end and checks that it is
// well-formed and that its content has the checksum of its name. Files are
// streamed; memory does not depend on their size, nor on how far they inflate.
// Other objects are held in memory and bounded by [MaxMetadataSize]. Detached
// metadata is only checked for its form, as its name is the commit's.
//
// Bad bytes give a [*MismatchError], when the content is another than the name
// says, or an [*ObjectError] that wraps [ErrMalformed] or [ErrTooLarge]. Errors
// of r come in an [*ObjectError] too.
func VerifyObject(name ObjectName, r io.Reader) (Info, error) {
	var info Info
	var err error
	switch name.Type {
	case TypeFile:
		info, err = verifyFile(name, r)
	case TypeDirTree, TypeDirMeta, TypeCommit, TypeCommitMeta:
		info, err = verifyMetadata(name, r)
	default:
		err = fmt.Errorf("%w: %s", ErrUnsupported, name.Type)
	}
	if err != nil {
		return Info{}, nameObject(name, err)
	}
	return info, nil
}

// nameObject tells the object of an error that does not tell it itself.
func nameObject(name ObjectName, err error) error {
	if _, ok := errors.AsType[*MismatchError](err); ok {
		return err
	}
	return &ObjectError{Name: name, Err: err}
}

func verifyFile(name ObjectName, r io.Reader) (Info, error) {
	z, err := NewFilezReader(r)
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = z.Close() }()
	sum := NewFileHash(z.header)
	if _, err := io.Copy(sum, z); err != nil {
		return Info{}, err
	}
	if actual := Checksum(sum.Sum(nil)); actual != name.Checksum {
		return Info{}, &MismatchError{Name: name, Actual: actual}
	}
	header := z.header
	return Info{Stored: z.Stored(), Size: z.size, Header: &header}, nil
}

func verifyMetadata(name ObjectName, r io.Reader) (Info, error) {
	data, err := readBounded(r, MaxMetadataSize)
	if err != nil {
		return Info{}, err
	}
	return checkMetadata(name, data)
}

// checkMetadata is [VerifyObject] for metadata in memory.
func checkMetadata(name ObjectName, data []byte) (Info, error) {
	if name.Type != TypeCommitMeta {
		if actual := ChecksumOf(data); actual != name.Checksum {
			return Info{}, &MismatchError{Name: name, Actual: actual}
		}
	}
	info := Info{Stored: int64(len(data)), Size: uint64(len(data))}
	var err error
	switch name.Type {
	case TypeCommit:
		info.Commit, err = parseCommit(data)
	case TypeDirTree:
		info.DirTree, err = parseDirTree(data)
	case TypeDirMeta:
		info.DirMeta, err = ParseDirMeta(data)
	case TypeCommitMeta:
		_, err = ParseDetached(data)
	default:
		err = fmt.Errorf("%w: %s", ErrUnsupported, name.Type)
	}
	return info, err
}

// readBounded reads r to its end; more than limit bytes are an error. The
// buffer grows with what was read, not with what was promised.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return b.Bytes(), nil
}
