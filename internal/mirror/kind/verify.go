package kind

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"freshet/internal/apkindex"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/roots"
	"freshet/internal/source"
	"freshet/internal/unpack"
)

// ErrWrong says that a file is not the one that the metadata name.
var ErrWrong = errors.New("not the file that is named")

// Verifiable tells whether [Verify] can say anything of a file beyond its size.
func Verifiable(f File) bool {
	return f.Sum.Hash != 0 || objectOf(f.Path) != (ostree.ObjectName{}) || subsummaryOf(f.Path) != (ostree.Checksum{})
}

// Verify reads a file to its end and compares it with what the metadata say: its size, its
// checksum, be that of the file, of its control stream (Alpine), or of what is in it
// (objects and subsummaries of OSTree, whose names are their checksums). Otherwise the
// error wraps [ErrWrong]; other errors are those of the reader.
func Verify(f File, r io.Reader) error {
	src := &source.Reader{R: r}
	if err := verify(f, src); err != nil {
		if src.Err != nil {
			return fmt.Errorf("%s: %w", f.Path, src.Err)
		}
		return fmt.Errorf("%w: %s: %w", ErrWrong, f.Path, err)
	}
	if f.Size >= 0 && src.N != f.Size {
		return fmt.Errorf("%w: %s has %d bytes, and not %d", ErrWrong, f.Path, src.N, f.Size)
	}
	return nil
}

var errSum = errors.New("it has another checksum")

func verify(f File, r io.Reader) error {
	switch {
	case f.Sum.Control:
		old, current, err := apkindex.Control(r)
		if err != nil {
			return err
		}
		if string(old) != f.Sum.Value && string(current) != f.Sum.Value {
			return errSum
		}
	case f.Sum.Hash != 0:
		sum := f.Sum.Hash.New()
		if _, err := io.Copy(sum, r); err != nil {
			return err
		}
		if string(sum.Sum(nil)) != f.Sum.Value {
			return errSum
		}
	case objectOf(f.Path) != ostree.ObjectName{}:
		if _, err := ostree.VerifyObject(objectOf(f.Path), r); err != nil {
			return err
		}
	case subsummaryOf(f.Path) != ostree.Checksum{}:
		text, err := inflated(r)
		if err != nil {
			return err
		}
		if ostree.ChecksumOf(text) != subsummaryOf(f.Path) {
			return errSum
		}
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// maxSignature is the longest signature that is looked into.
const maxSignature = 1 << 20

// Whole reads a pointer of which no checksum is told, and looks whether it is all there, as
// far as that can be seen: signatures of OpenPGP, and databases of pacman. The error wraps
// [ErrWrong], or is one of the reader.
func Whole(name string, r io.Reader) error {
	src := &source.Reader{R: r}
	var err error
	switch path.Ext(name) {
	case ".sig", ".asc", ".gpg", ".key":
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(src, maxSignature)); err == nil && len(data) < maxSignature {
			err = roots.Whole(data)
		}
	default:
		if layout.Arch(name).Class == layout.Pointer {
			err = wholeDatabase(src)
		}
	}
	switch {
	case src.Err != nil:
		return fmt.Errorf("%s: %w", name, src.Err)
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrWrong, name, err)
	}
	return nil
}

func wholeDatabase(r io.Reader) error {
	plain, done, err := unpack.NewReader(r)
	if _, unknown := errors.AsType[unpack.FormatError](err); unknown {
		return nil
	}
	if err != nil {
		return err
	}
	defer done()
	for archive := tar.NewReader(plain); ; {
		switch _, err := archive.Next(); {
		case errors.Is(err, io.EOF):
			_, err := io.Copy(io.Discard, plain) // and what the compression says of it
			return err
		case err != nil:
			return err
		}
	}
}

// objectOf is the object of OSTree that a path names; zero if it is none.
func objectOf(name string) ostree.ObjectName {
	i := strings.LastIndex("/"+name, "/objects/")
	if i < 0 {
		return ostree.ObjectName{}
	}
	object, err := ostree.ParseObjectPath(name[i:])
	if err != nil {
		return ostree.ObjectName{}
	}
	return object
}

// subsummaryOf is the checksum that the path of a subsummary tells.
func subsummaryOf(name string) ostree.Checksum {
	hex, ok := strings.CutSuffix(path.Base(name), ".gz")
	if !ok || path.Base(path.Dir(name)) != "summaries" {
		return ostree.Checksum{}
	}
	sum, err := ostree.ParseChecksum(hex)
	if err != nil {
		return ostree.Checksum{}
	}
	return sum
}
