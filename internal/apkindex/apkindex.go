// Package apkindex reads the indexes of apk repositories, APKINDEX.tar.gz, and
// the beginnings of packages, of the format that apk-tools 2 made
// (apk-package(5), wiki.alpinelinux.org/wiki/Apk_spec).
//
// Both are gzip streams one after the other, each with a piece of a tar archive:
//
//	signature   .SIGN.RSA.<file name of the public key>, if it is signed
//	control     .PKGINFO and scripts; of an index: DESCRIPTION, APKINDEX
//	data        the files; of a package only
//
// The signature is over the bytes of the control stream as they are, compressed;
// and the SHA-1 of these is what an index calls the checksum of a package.
//
// The package opens nothing and is safe on foreign bytes: memory is bounded however
// large the input is.
package apkindex

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
)

// Limits.
const (
	maxLine      = 1 << 20 // bytes; "p:" of a large package has some 100 KiB
	maxName      = 255     // bytes of a file name; the limit of Linux file systems
	maxSignature = 64 << 10
	maxControl   = 256 << 20 // bytes of a control stream, decompressed
)

var (
	// ErrMalformed is what every error of a parser here is, except those of the
	// reader.
	ErrMalformed = errors.New("malformed apk data")
	// ErrUnsupported is wrapped for packages of apk-tools 3.
	ErrUnsupported = errors.New("package of apk-tools 3")
)

// Package is what an index says of a package.
type Package struct {
	// Name and Version make up the name of the file. They have no slash.
	Name, Version string
	// Size of the file in bytes, or -1 if it is not told.
	Size int64
	// Sum is the checksum of the control stream by Hash, which is zero if
	// it is not told.
	Sum  []byte
	Hash crypto.Hash
}

// File is the name of the package's file, which lies beside the index.
func (p Package) File() string { return p.Name + "-" + p.Version + ".apk" }

// Packages reads an APKINDEX.tar.gz and yields its packages in their order. It
// reads as it goes, so that the index may be of any size. After an error, which
// is the last thing it yields, nothing more is read.
func Packages(r io.Reader) iter.Seq2[Package, error] {
	return func(yield func(Package, error) bool) {
		src := newSource(r)
		stopped, err := packages(src, yield)
		if err == nil || stopped {
			return
		}
		yield(Package{}, src.explain(err))
	}
}

func packages(src *source, yield func(Package, error) bool) (stopped bool, err error) {
	found := false
	for {
		stream, err := src.stream()
		if errors.Is(err, io.EOF) && found {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		archive := tar.NewReader(stream)
		for {
			h, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return false, err
			}
			if h.Name != "APKINDEX" {
				continue
			}
			found = true
			if stopped, err := entries(archive, yield); stopped || err != nil {
				return stopped, err
			}
		}
		if _, err := io.Copy(io.Discard, stream); err != nil {
			return false, err
		}
	}
}

// entries reads paragraphs of lines "X:value".
func entries(r io.Reader, yield func(Package, error) bool) (stopped bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	number, begun := 0, false
	p := Package{Size: -1}
	end := func() error {
		if begun && (p.Name == "" || p.Version == "") {
			return fmt.Errorf("line %d: a package without name or version", number)
		}
		if begun {
			stopped = !yield(p, nil)
		}
		begun, p = false, Package{Size: -1}
		return nil
	}
	for lines.Scan() && !stopped {
		number++
		line := lines.Text()
		if line == "" {
			err = end()
		} else {
			begun = true
			err = p.set(line)
		}
		if err != nil {
			return false, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil || stopped {
		return stopped, err
	}
	return stopped, end()
}

func (p *Package) set(line string) (err error) {
	field, value, ok := strings.Cut(line, ":")
	if !ok || len(field) != 1 {
		return fmt.Errorf("no field: %.40q", line)
	}
	switch field {
	case "P":
		p.Name, err = namePart(value)
	case "V":
		p.Version, err = namePart(value)
	case "S":
		if p.Size, err = strconv.ParseInt(value, 10, 64); err != nil || p.Size < 0 {
			return fmt.Errorf("size %.40q", value)
		}
	case "C":
		err = p.setSum(value)
	}
	return err
}

func namePart(s string) (string, error) {
	if s == "" || len(s) > maxName/2 || s[0] == '.' || strings.ContainsAny(s, "/\x00") {
		return "", fmt.Errorf("%.140q is no part of a file name", s)
	}
	return s, nil
}

// setSum reads a checksum, "Q1" and a SHA-1 or "Q2" and a SHA-256 in base64.
func (p *Package) setSum(value string) (err error) {
	kind, text := value[:min(len(value), 2)], value[min(len(value), 2):]
	switch kind {
	case "Q1":
		p.Hash = crypto.SHA1
	case "Q2":
		p.Hash = crypto.SHA256
	default:
		p.Hash = 0
		return nil // one of the future, which nobody can check
	}
	if p.Sum, err = base64.StdEncoding.DecodeString(text); err != nil || len(p.Sum) != p.Hash.Size() {
		return fmt.Errorf("checksum %.70q", value)
	}
	return nil
}

// Control reads the beginning of a package, up to the end of its control stream,
// and returns the checksums of that, SHA-1 and SHA-256. A package of
// apk-tools 3, which has no such stream, is [ErrUnsupported].
func Control(r io.Reader) (sha1Sum, sha256Sum []byte, err error) {
	src := newSource(r)
	if head, _ := src.r.Peek(3); bytes.Equal(head, []byte("ADB")) {
		return nil, nil, ErrUnsupported
	}
	for range 2 {
		old, current := sha1.New(), sha256.New()
		src.tap = io.MultiWriter(old, current)
		stream, err := src.stream()
		if err != nil {
			return nil, nil, src.explain(err)
		}
		name, err := firstName(stream)
		if err != nil {
			return nil, nil, src.explain(err)
		}
		if !strings.HasPrefix(name, ".SIGN.") {
			return old.Sum(nil), current.Sum(nil), nil
		}
	}
	return nil, nil, fmt.Errorf("%w: two signatures and no control stream", ErrMalformed)
}

// firstName returns the name of the first file of a stream, which is read to its
// end.
func firstName(stream io.Reader) (string, error) {
	limited := &io.LimitedReader{R: stream, N: maxControl}
	h, err := tar.NewReader(limited).Next()
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, limited); err != nil {
		return "", err
	}
	if limited.N == 0 {
		return "", fmt.Errorf("control stream of more than %d bytes", maxControl)
	}
	return h.Name, nil
}
