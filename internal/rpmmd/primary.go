package rpmmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"freshet/internal/source"
)

// Package is what a primary.xml says of where a package is and how it looks.
type Package struct {
	// Base is the URL that Href is relative to; empty: the folder that holds
	// repodata.
	Base string
	// Href is where the package is, as written: createrepo_c does not encode
	// it, others do.
	Href string
	// Checksum is that of the file.
	Checksum Checksum
	// Size is the file's size in bytes, or -1 if it is not told.
	Size int64
}

// Packages reads a primary.xml and yields its packages, in order. It reads as
// it goes, so that the file may be of any size and the memory stays the same;
// it skips what is not asked for without looking closely. After an error,
// which is the last thing it yields, nothing more is read.
func Packages(r io.Reader) iter.Seq2[Package, error] {
	return func(yield func(Package, error) bool) {
		src := &source.Reader{R: r}
		p := primary{scanner: newScanner(src)}
		for {
			pkg, err := p.next()
			if err == nil {
				if !yield(pkg, nil) {
					return
				}
				continue
			}
			switch {
			case errors.Is(err, io.EOF):
			case src.Err != nil:
				yield(Package{}, fmt.Errorf("primary.xml: %w", src.Err))
			default:
				yield(Package{}, fmt.Errorf("%w: primary.xml: byte %d: %w", ErrMalformed, p.offset(), err))
			}
			return
		}
	}
}

// primary finds the packages in the elements of a scanner.
type primary struct {
	*scanner
	seen bool // the root
}

// next returns the next package, or io.EOF at the proper end of the file.
func (p *primary) next() (Package, error) {
	pkg := Package{Size: -1}
	for {
		e, err := p.scan()
		if errors.Is(err, io.EOF) && !p.seen {
			err = errors.New("there is no <metadata>")
		}
		if err != nil {
			return Package{}, err
		}
		switch {
		case e.depth == 1 && e.start:
			if p.seen || string(local(e.name)) != "metadata" {
				return Package{}, fmt.Errorf("<%.40s> where one <metadata> belongs", e.name)
			}
			p.seen = true
		case e.depth == 2 && string(local(e.name)) == "package":
			if e.start {
				pkg = Package{Size: -1}
			}
			if e.end {
				if pkg.Href == "" {
					return Package{}, errors.New("a package has no location")
				}
				return pkg, nil
			}
		case e.depth == 3:
			if err := p.detail(&pkg, e); err != nil {
				return Package{}, err
			}
		}
	}
}

// detail reads an element of a package.
func (p *primary) detail(pkg *Package, e element) (err error) {
	switch string(local(e.name)) {
	case "location":
		if e.start {
			if pkg.Base, err = attribute(e.attrs, "base"); err == nil {
				pkg.Href, err = attribute(e.attrs, "href")
			}
		}
	case "size":
		if e.start {
			pkg.Size, err = size(e.attrs)
		}
	case "checksum":
		if e.start {
			pkg.Checksum.Type, err = attribute(e.attrs, "type")
			p.collect()
		}
		if e.end && err == nil {
			pkg.Checksum.Value = strings.ToLower(strings.TrimSpace(p.collected()))
		}
	}
	return err
}

func size(attrs []byte) (int64, error) {
	text, err := attribute(attrs, "package")
	if err != nil || text == "" {
		return -1, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("size %.40q", text)
	}
	return n, nil
}

// local is a name without the prefix of its namespace.
func local(name []byte) []byte {
	if i := bytes.IndexByte(name, ':'); i > 0 && i < len(name)-1 {
		return name[i+1:]
	}
	return name
}
