// Package apt reads the metadata of apt repositories. A suite begins in
// Release and InRelease, which name its index files with their checksums; of
// these, Packages and Sources name the packages (Debian Policy,
// wiki.debian.org/DebianRepository/Format; the syntax is that of
// deb-control(5)).
//
// It opens nothing, checks no signature, and is safe on foreign bytes: memory
// is bounded however large the input is. What is compressed, the caller
// unpacks.
package apt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Limits of what [ParseRelease] accepts. The Release of Debian's main suites
// has some 150 KiB and 1,500 entries per algorithm.
const (
	MaxReleaseSize = 16 << 20
	maxFiles       = 100_000
)

// ErrMalformed is what every error of a parser here is, except those of the
// reader.
var ErrMalformed = errors.New("malformed apt metadata")

// Release is the content of a Release or InRelease file.
type Release struct {
	Origin, Label, Suite, Codename string
	// Date and ValidUntil are as written (RFC 1123 with UTC); ValidUntil is
	// empty for a suite that does not expire.
	Date, ValidUntil string
	// ByHash says that clients may ask for index files by their checksum
	// (Acquire-By-Hash).
	ByHash bool
	// Files are the index files, in the order in which they are named first.
	// Not all of them need to exist: the uncompressed form is often only named.
	Files []File
}

// File is an index file of a suite.
type File struct {
	// Path is relative to the folder of the Release file, clean, and stays
	// inside it.
	Path string
	// Size in bytes.
	Size int64
	// MD5, SHA1, SHA256 and SHA512 are checksums in lower-case hex, empty if
	// not given.
	MD5, SHA1, SHA256, SHA512 string
}

// ParseTime reads a time as Release files have it. ok is false for what is none.
func ParseTime(s string) (t time.Time, ok bool) {
	for _, format := range [...]string{time.RFC1123, "Mon, _2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 MST", time.RFC1123Z} {
		if t, err := time.Parse(format, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// ParseRelease reads a Release file, or an InRelease file with its signature
// around it, which is not checked.
func ParseRelease(r io.Reader) (*Release, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxReleaseSize+1))
	if err != nil {
		return nil, fmt.Errorf("release file: %w", err)
	}
	if len(data) > MaxReleaseSize {
		return nil, fmt.Errorf("%w: the release file is larger than %d bytes", ErrMalformed, MaxReleaseSize)
	}
	p := parser{byPath: make(map[string]int)}
	if err := p.run(data); err != nil {
		return nil, fmt.Errorf("%w: release file: line %d: %w", ErrMalformed, p.line, err)
	}
	return &p.release, nil
}

const (
	beginSigned    = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
)

type parser struct {
	line    int
	field   string
	fields  int
	byPath  map[string]int
	release Release
}

func (p *parser) run(data []byte) error {
	const (
		plain   = iota
		armor   // the headers of a signed message, to the empty line
		signed  // its text
		trailer // its signature
	)
	state := plain
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		p.line++
		text := strings.TrimRight(lines.Text(), " \t\r")
		switch {
		case p.line == 1 && text == beginSigned:
			state = armor
			continue
		case state == armor:
			if text == "" {
				state = signed
			}
			continue
		case state == signed && text == beginSignature:
			state = trailer
			continue
		case state == trailer:
			continue
		case state == signed:
			// RFC 9580 section 7.2: lines that begin with a dash are escaped.
			text = strings.TrimPrefix(text, "- ")
		}
		if text == "" {
			// A second paragraph has no meaning here.
			if p.fields > 0 && state == plain {
				return nil
			}
			continue
		}
		if err := p.parse(text); err != nil {
			return err
		}
	}
	switch {
	case lines.Err() != nil:
		return lines.Err()
	case state == armor || state == signed:
		return errors.New("the signature is missing")
	case p.fields == 0:
		return errors.New("there is no field")
	}
	return nil
}

func (p *parser) parse(text string) error {
	if text[0] == ' ' || text[0] == '\t' {
		if p.field == "" {
			return errors.New("continuation of nothing")
		}
		return p.file(strings.Fields(text))
	}
	name, value, ok := strings.Cut(text, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return fmt.Errorf("no field: %.40q", text)
	}
	p.fields++
	p.field = strings.ToLower(name)
	value = strings.TrimSpace(value)
	switch p.field {
	case "origin":
		p.release.Origin = value
	case "label":
		p.release.Label = value
	case "suite":
		p.release.Suite = value
	case "codename":
		p.release.Codename = value
	case "date":
		p.release.Date = value
	case "valid-until":
		p.release.ValidUntil = value
	case "acquire-by-hash":
		p.release.ByHash = strings.EqualFold(value, "yes")
	}
	return nil
}

// file reads "checksum size path" below a field of checksums.
func (p *parser) file(columns []string) error {
	var size int // of the checksum in hex digits
	switch p.field {
	case "md5sum":
		size = 32
	case "sha1":
		size = 40
	case "sha256":
		size = 64
	case "sha512":
		size = 128
	default:
		return nil // a field of several lines that we do not read
	}
	if len(columns) != 3 {
		return fmt.Errorf("%d columns below %s, not 3", len(columns), p.field)
	}
	sum := strings.ToLower(columns[0])
	if len(sum) != size || strings.Trim(sum, "0123456789abcdef") != "" {
		return fmt.Errorf("checksum %.140q below %s", columns[0], p.field)
	}
	length, err := strconv.ParseInt(columns[1], 10, 64)
	if err != nil || length < 0 {
		return fmt.Errorf("size %.40q", columns[1])
	}
	name := columns[2]
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		return fmt.Errorf("path %q leads out of the suite", name)
	}
	i, ok := p.byPath[name]
	if !ok {
		if len(p.release.Files) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		i = len(p.release.Files)
		p.byPath[name] = i
		p.release.Files = append(p.release.Files, File{Path: name, Size: length})
	}
	f := &p.release.Files[i]
	if f.Size != length {
		return fmt.Errorf("%s has two sizes, %d and %d", name, f.Size, length)
	}
	switch p.field {
	case "md5sum":
		f.MD5 = sum
	case "sha1":
		f.SHA1 = sum
	case "sha256":
		f.SHA256 = sum
	case "sha512":
		f.SHA512 = sum
	}
	return nil
}
