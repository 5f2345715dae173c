// Package alpm reads the databases of pacman repositories ("core.db"): tar
// archives, compressed as a rule, with a folder for each package, in which the
// file "desc" has the fields (repo-add(8) and lib/libalpm/be_sync.c of pacman).
//
//	hello-1.0-1/
//	hello-1.0-1/desc    %FILENAME%
//	                    hello-1.0-1-any.pkg.tar.zst
//
//	                    %CSIZE%
//	                    1234
//
// It opens nothing, checks no signature, and is safe on foreign bytes: memory is
// bounded however large the input is. The caller unpacks what is compressed.
package alpm

import (
	"archive/tar"
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strconv"
	"strings"

	"freshet/internal/source"
)

// Limits of a database.
const (
	maxDesc = 1 << 20 // bytes of one; those of Arch Linux have up to 20 KiB
	maxName = 255     // bytes of a file name; the limit of Linux file systems
)

// ErrMalformed is what every error here is, except those of the reader.
var ErrMalformed = errors.New("malformed pacman database")

// Package is what a database says of a package.
type Package struct {
	// File is the name of its file, which lies beside the database. It has no
	// slash.
	File string
	// Size of the file in bytes, or -1 if it is not told.
	Size int64
	// SHA256 of the file, in lower-case hex, empty if it is not told.
	SHA256 string
	// Signature is the detached OpenPGP signature of the file, binary, nil if
	// the database does not hold it.
	Signature []byte
}

// Packages reads a database and yields its packages in their order. It reads as
// it goes, so that the database may be of any size. After an error, which is the
// last thing it yields, nothing more is read.
func Packages(r io.Reader) iter.Seq2[Package, error] {
	return func(yield func(Package, error) bool) {
		src := &source.Reader{R: r}
		archive := tar.NewReader(src)
		for {
			p, err := next(archive)
			switch {
			case errors.Is(err, io.EOF) && src.Err == nil && src.N > 0:
				return
			case src.Err != nil:
				err = src.Err
			case errors.Is(err, io.EOF):
				err = fmt.Errorf("%w: it is empty", ErrMalformed)
			case err != nil:
				err = fmt.Errorf("%w: %w", ErrMalformed, err)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// next reads up to the end of the next desc; [io.EOF] is the end of the archive.
func next(archive *tar.Reader) (Package, error) {
	for {
		h, err := archive.Next()
		if err != nil {
			return Package{}, err
		}
		if dir, base := path.Split(path.Clean(h.Name)); base != "desc" || dir == "" || strings.Count(dir, "/") != 1 || h.Typeflag != tar.TypeReg {
			continue // a folder, "files" of a database of files, "depends" of old ones
		}
		if h.Size > maxDesc {
			return Package{}, fmt.Errorf("%.300q has %d bytes, more than %d", h.Name, h.Size, maxDesc)
		}
		p, err := parseDesc(archive)
		if err != nil {
			err = fmt.Errorf("%.300q: %w", h.Name, err)
		}
		return p, err
	}
}

// parseDesc reads fields: a line "%NAME%", lines of values, an empty line.
func parseDesc(r io.Reader) (Package, error) {
	p := Package{Size: -1}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxDesc)
	seen := make(map[string]bool)
	for field := ""; lines.Scan(); {
		line := lines.Text()
		switch {
		case line == "":
			field = ""
			continue
		case field == "" && len(line) > 2 && line[0] == '%' && line[len(line)-1] == '%':
			field = line
			continue
		case !wanted[field]:
			continue
		case seen[field]:
			return p, fmt.Errorf("%s has two values", field)
		}
		seen[field] = true
		if err := p.set(field, line); err != nil {
			return p, fmt.Errorf("%s: %w", field, err)
		}
	}
	if err := lines.Err(); err != nil {
		return p, err
	}
	if p.File == "" {
		return p, errors.New("it has no %FILENAME%")
	}
	return p, nil
}

// wanted are the fields that [Package.set] knows.
var wanted = map[string]bool{"%FILENAME%": true, "%CSIZE%": true, "%SHA256SUM%": true, "%PGPSIG%": true}

func (p *Package) set(field, value string) (err error) {
	switch field {
	case "%FILENAME%":
		if value == "." || value == ".." || len(value) > maxName || strings.ContainsAny(value, "/\x00") {
			return fmt.Errorf("%.300q is no file name", value)
		}
		p.File = value
	case "%CSIZE%":
		if p.Size, err = strconv.ParseInt(value, 10, 64); err != nil || p.Size < 0 {
			return fmt.Errorf("%.40q is no size", value)
		}
	case "%SHA256SUM%":
		p.SHA256 = strings.ToLower(value)
		if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != 32 {
			return fmt.Errorf("%.70q is no checksum", value)
		}
	case "%PGPSIG%":
		if p.Signature, err = base64.StdEncoding.DecodeString(value); err != nil {
			return fmt.Errorf("%.40q is not base64", value)
		}
	}
	return nil
}
