// Package rpmmd reads the metadata of rpm repositories: repodata/repomd.xml,
// the file in which such a repository begins, names the other metadata files
// with their checksums; one of them is primary.xml, which names the packages.
// Both are as createrepo_c writes them and librepo reads them.
//
// It opens nothing and is safe on foreign bytes: depth and memory are bounded
// however large the input is. What is compressed, the caller unpacks.
package rpmmd

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"freshet/internal/source"
)

// Limits of what [ParseRepomd] accepts. The repomd.xml of a large distribution
// has some 20 entries in 10 KiB.
const (
	MaxRepomdSize = 4 << 20
	maxData       = 1000
	maxDepth      = 16
)

// ErrMalformed is what every error of a parser here is, except those of the
// reader.
var ErrMalformed = errors.New("malformed rpm metadata")

// Repomd is the content of a repomd.xml.
type Repomd struct {
	// Revision is what the writer chose, a time or a serial as a rule.
	Revision string
	// Data are the files it names, in order.
	Data []Data
}

// Data is one metadata file.
type Data struct {
	// Type is what it is: "primary", "filelists", "updateinfo", …
	Type string
	// Base is the URL that Href is relative to; empty: the folder that holds
	// repodata.
	Base string
	// Href is where it is, a relative URL such as "repodata/….xml.gz".
	Href string
	// Checksum is that of the file as it lies there.
	Checksum Checksum
	// Size is the file's size in bytes, or -1 if it is not told.
	Size int64
	// Timestamp is when the file was made, in seconds since 1970; 0 if it is not told.
	Timestamp int64
}

// Checksum is a checksum in hex. Type is createrepo's name of the algorithm:
// "sha256", "sha512", "sha" (which is SHA-1), "md5", …
type Checksum struct{ Type, Value string }

// ParseRepomd reads a repomd.xml. Elements it does not know are passed over.
func ParseRepomd(r io.Reader) (*Repomd, error) {
	limited := &io.LimitedReader{R: r, N: MaxRepomdSize + 1}
	src := &source.Reader{R: limited}
	p := parser{dec: xml.NewDecoder(src)}
	err := p.run()
	switch {
	case src.Err != nil:
		return nil, fmt.Errorf("repomd.xml: %w", src.Err)
	case limited.N == 0:
		return nil, fmt.Errorf("%w: repomd.xml is larger than %d bytes", ErrMalformed, MaxRepomdSize)
	case err != nil:
		return nil, fmt.Errorf("%w: repomd.xml: %w", ErrMalformed, err)
	}
	return &p.repomd, nil
}

type parser struct {
	dec    *xml.Decoder
	path   []string
	text   strings.Builder
	data   Data
	repomd Repomd
	seen   bool
}

func (p *parser) run() error {
	for {
		token, err := p.dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			err = p.start(token)
		case xml.EndElement:
			err = p.end(token)
		case xml.CharData:
			p.text.Write(token)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", line(p.dec), err)
		}
	}
	switch {
	case len(p.path) > 0:
		return fmt.Errorf("it ends inside <%s>", p.path[len(p.path)-1])
	case !p.seen:
		return errors.New("there is no <repomd>")
	}
	return nil
}

func line(dec *xml.Decoder) int {
	n, _ := dec.InputPos()
	return n
}

func (p *parser) start(e xml.StartElement) error {
	if len(p.path) == maxDepth {
		return fmt.Errorf("deeper than %d elements", maxDepth)
	}
	if len(p.path) == 0 {
		if p.seen || e.Name.Local != "repomd" {
			return fmt.Errorf("<%s> where one <repomd> belongs", e.Name.Local)
		}
		p.seen = true
	}
	p.path = append(p.path, e.Name.Local)
	p.text.Reset()
	switch strings.Join(p.path[1:], "/") {
	case "data":
		if len(p.repomd.Data) == maxData {
			return fmt.Errorf("more than %d files", maxData)
		}
		p.data = Data{Type: attr(e, "type"), Size: -1}
	case "data/location":
		p.data.Href, p.data.Base = attr(e, "href"), attr(e, "base")
	case "data/checksum":
		p.data.Checksum.Type = attr(e, "type")
	}
	return nil
}

func (p *parser) end(e xml.EndElement) (err error) {
	if len(p.path) == 0 || p.path[len(p.path)-1] != e.Name.Local {
		return fmt.Errorf("</%s> closes nothing", e.Name.Local)
	}
	text := strings.TrimSpace(p.text.String())
	p.text.Reset()
	switch strings.Join(p.path[1:], "/") {
	case "revision":
		p.repomd.Revision = text
	case "data/checksum":
		p.data.Checksum.Value = strings.ToLower(text)
	case "data/size":
		p.data.Size, err = strconv.ParseInt(text, 10, 64)
		if err == nil && p.data.Size < 0 {
			err = fmt.Errorf("size %d", p.data.Size)
		}
	case "data/timestamp":
		// Some writers have fractions of seconds, and clients pass over what they
		// cannot read.
		whole, _, _ := strings.Cut(text, ".")
		if at, err := strconv.ParseInt(whole, 10, 64); err == nil {
			p.data.Timestamp = at
		}
	case "data":
		if p.data.Href == "" {
			return fmt.Errorf("<data type=%q> has no location", p.data.Type)
		}
		p.repomd.Data = append(p.repomd.Data, p.data)
	}
	p.path = p.path[:len(p.path)-1]
	return err
}

// attr looks for an attribute by its local name ("xml:base" is "base").
func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
