// Package checksums reads the lists of checksums that lie beside files for download:
//
//	b5bb9d80…  kali.iso              sha256sum and its kin; "*" before a binary file
//	SHA256 (fedora.iso) = b5bb9d80…  BSD, and Fedora's CHECKSUM files
//	b5bb9d80…                        of the one file that the list is named after
//
// A list may have an OpenPGP signature around it, which is not checked.
//
// It opens nothing and is safe on foreign bytes: memory is bounded however large the
// input is.
package checksums

import (
	"bufio"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strconv"
	"strings"

	"freshet/internal/source"
)

// Limits of what is read.
const (
	maxLine  = 16 << 10
	maxFiles = 1_000_000
)

// ErrMalformed is what every error here is, except those of the reader.
var ErrMalformed = errors.New("malformed list of checksums")

// Entry is a file of a list.
type Entry struct {
	// Name is relative to the folder of the list, clean, and stays inside it. It is
	// empty for a checksum without a name.
	Name string
	// Hash is how Sum was made, of which it has the bytes.
	Hash crypto.Hash
	Sum  string
	// Size in bytes, or -1 if it is not told.
	Size int64
}

// Read yields the files of a list in order. It reads as it goes. After an error, which is
// the last thing it yields, nothing more is read. Checksums of a kind that is not known
// are passed over.
func Read(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		src := &source.Reader{R: r}
		p := parser{lines: bufio.NewScanner(src)}
		p.lines.Buffer(nil, maxLine)
		for p.lines.Scan() {
			e, ok, err := p.next(p.lines.Text())
			if err != nil {
				yield(Entry{}, fmt.Errorf("%w: line %d: %w", ErrMalformed, p.line, err))
				return
			}
			if ok && !yield(e, nil) {
				return
			}
		}
		if err := p.end(); src.Err != nil {
			yield(Entry{}, src.Err)
		} else if err != nil {
			yield(Entry{}, fmt.Errorf("%w: %w", ErrMalformed, err))
		}
	}
}

// state says where in a signed message a line is.
type state uint8

const (
	plain  state = iota
	armor        // the headers of a signed message, to the empty line
	signed       // its text
	trailer
)

type parser struct {
	lines *bufio.Scanner
	line  int
	state state
	files int
	// The file whose size a comment told last: "# fedora.iso: 2398523392 bytes".
	sized string
	size  int64
}

func (p *parser) end() error {
	switch {
	case p.lines.Err() != nil:
		return p.lines.Err()
	case p.state == armor || p.state == signed:
		return errors.New("the signature is missing")
	case p.files == 0 && p.line > 0:
		return errors.New("there is no checksum")
	}
	return nil
}

func (p *parser) next(text string) (e Entry, ok bool, err error) {
	p.line++
	text = strings.TrimRight(text, " \t\r")
	switch {
	case p.line == 1 && text == "-----BEGIN PGP SIGNED MESSAGE-----":
		p.state = armor
		return e, false, nil
	case p.state == armor:
		if text == "" {
			p.state = signed
		}
		return e, false, nil
	case p.state == signed && text == "-----BEGIN PGP SIGNATURE-----":
		p.state = trailer
		return e, false, nil
	case p.state == trailer || text == "":
		return e, false, nil
	case p.state == signed:
		text = strings.TrimPrefix(text, "- ") // RFC 9580 section 7.2
	}
	if text[0] == '#' {
		p.comment(text)
		return e, false, nil
	}
	if p.files++; p.files > maxFiles {
		return e, false, fmt.Errorf("more than %d files", maxFiles)
	}
	e, err = parse(text)
	if err != nil || e.Hash == 0 {
		return e, false, err
	}
	if e.Size = -1; e.Name != "" && e.Name == p.sized {
		e.Size = p.size
	}
	return e, true, nil
}

// comment remembers the size that Fedora tells before each checksum.
func (p *parser) comment(text string) {
	name, size, _ := strings.Cut(strings.TrimPrefix(text, "# "), ": ")
	digits, isSize := strings.CutSuffix(size, " bytes")
	if n, err := strconv.ParseInt(digits, 10, 64); isSize && err == nil && n >= 0 {
		p.sized, p.size = name, n
	}
}

var errLine = errors.New("neither a checksum and a name nor a comment")

func parse(text string) (Entry, error) {
	if kind, rest, ok := strings.Cut(text, " ("); ok && !strings.Contains(kind, " ") {
		i := strings.LastIndex(rest, ") = ")
		if i < 0 {
			return Entry{}, errLine
		}
		return entry(bsdHash(kind), rest[:i], rest[i+len(") = "):])
	}
	escaped := strings.HasPrefix(text, `\`)
	sum, name, _ := strings.Cut(strings.TrimPrefix(text, `\`), " ")
	name = strings.TrimLeft(name, " ")
	name = strings.TrimPrefix(name, "*")
	if escaped {
		name = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(name)
	}
	hash := hashOf(len(sum))
	if hash == 0 {
		return Entry{}, errLine
	}
	return entry(hash, name, sum)
}

func entry(hash crypto.Hash, name, sum string) (Entry, error) {
	if hash == 0 {
		return Entry{}, nil
	}
	value, err := hex.DecodeString(sum)
	if err != nil || len(value) != hash.Size() {
		return Entry{}, errLine
	}
	e := Entry{Hash: hash, Sum: string(value)}
	if name != "" {
		e.Name = path.Clean(name)
		if !fs.ValidPath(e.Name) || e.Name == "." || strings.ContainsRune(e.Name, 0) {
			return Entry{}, fmt.Errorf("%.300q leads out of the folder", name)
		}
	}
	return e, nil
}

func bsdHash(kind string) crypto.Hash {
	switch kind {
	case "SHA256":
		return crypto.SHA256
	case "SHA512":
		return crypto.SHA512
	case "SHA384":
		return crypto.SHA384
	case "SHA1":
		return crypto.SHA1
	case "MD5":
		return crypto.MD5
	}
	return 0
}

// hashOf is the hash whose checksums have so many digits.
func hashOf(digits int) crypto.Hash {
	switch digits {
	case 32:
		return crypto.MD5
	case 40:
		return crypto.SHA1
	case 64:
		return crypto.SHA256
	case 96:
		return crypto.SHA384
	case 128:
		return crypto.SHA512
	}
	return 0
}

// IsList tells of the base of a name whether it is that of a list, and of which hash; 0
// if the name does not say. Lists that differ in nothing but the hash have the same stem,
// which for "kali.iso.sha256" names the file that it is of.
func IsList(base string) (stem string, hash crypto.Hash, ok bool) {
	lower := strings.ToLower(base)
	for _, h := range [...]struct {
		name string
		hash crypto.Hash
	}{{"sha256", crypto.SHA256}, {"sha512", crypto.SHA512}, {"sha384", crypto.SHA384}, {"sha1", crypto.SHA1}, {"md5", crypto.MD5}} {
		switch rest, found := strings.CutPrefix(lower, h.name); {
		case found && (rest == "sum" || rest == "sums" || rest == "sum.txt" || rest == "sums.txt" || rest == ""):
			return "", h.hash, true
		}
		for _, end := range [...]string{"", "sum", "sums"} {
			if strings.HasSuffix(lower, "."+h.name+end) {
				return base[:len(base)-len(h.name)-len(end)-1], h.hash, true
			}
		}
	}
	if base == "CHECKSUM" || strings.HasSuffix(base, "-CHECKSUM") || base == "CHECKSUMS" {
		return base, 0, true
	}
	return "", 0, false
}
