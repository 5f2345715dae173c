package metalink

import (
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"freshet/internal/source"
)

// Limits of what [Parse] accepts. A metalink of Fedora for all the world has 400
// URLs in 80 KB.
const (
	MaxSize     = 8 << 20 // bytes
	MaxFiles    = 10_000
	MaxURLs     = 10_000 // of one file
	MaxVersions = 100    // of one file
	maxDepth    = 16
	maxText     = 8192 // bytes of one value
	maxName     = 64   // bytes of the name of an element; longer ones are of no interest
)

// Parse reads a metalink of version 3 or 4, whichever it is. Elements that are
// not of the fields of [File] are passed over, and so are URLs that are no
// absolute ones and hashes of other kinds. URLs are sorted, the best first, those
// without a priority last. A metalink without files has none, and no error: that
// is how MirrorManager says that it has no such file.
//
// Names of files that could leave the folder of the client are an error (RFC
// 5854, section 4.1.2.1).
func Parse(r io.Reader) ([]File, error) {
	limited := &io.LimitedReader{R: r, N: MaxSize + 1}
	src := &source.Reader{R: limited}
	p := parser{dec: xml.NewDecoder(src)}
	err := p.run()
	switch {
	case src.Err != nil:
		return nil, fmt.Errorf("metalink: %w", src.Err)
	case limited.N == 0:
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrMalformed, MaxSize)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for i := range p.files {
		sortURLs(p.files[i].URLs)
	}
	return p.files, nil
}

// parser walks through the elements. Path is where it is: the names of the open
// elements, those of MirrorManager with the prefix "mm0:", other foreign ones as
// "?", so that no rule applies to them and what is in them.
type parser struct {
	dec   *xml.Decoder
	path  []string
	space string // the namespace of the root
	file  string // the path of a file's element in this version
	text  strings.Builder
	long  bool // text is longer than a value may be
	attrs []xml.Attr
	files []File
}

func (p *parser) run() error {
	for {
		token, err := p.dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = p.take(token)
		}
		if err != nil {
			line, _ := p.dec.InputPos()
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	if p.space == "" {
		return errors.New("it is empty")
	}
	return nil
}

func (p *parser) take(token xml.Token) error {
	switch token := token.(type) {
	case xml.StartElement:
		return p.start(token)
	case xml.CharData:
		if p.long = p.long || p.text.Len()+len(token) > maxText; !p.long {
			p.text.Write(token)
		}
	case xml.EndElement:
		err := p.end(strings.Join(p.path, "/"))
		p.path = p.path[:len(p.path)-1]
		p.clear()
		return err
	}
	return nil
}

func (p *parser) clear() {
	p.text.Reset()
	p.long, p.attrs = false, nil
}

func (p *parser) start(e xml.StartElement) error {
	p.clear()
	if len(p.path) == 0 {
		return p.root(e.Name)
	}
	if len(p.path) == maxDepth {
		return fmt.Errorf("elements are nested deeper than %d", maxDepth)
	}
	p.path, p.attrs = append(p.path, p.nameOf(e.Name)), e.Attr
	switch strings.Join(p.path, "/") {
	case p.file:
		return p.newFile()
	case "metalink/files/file/" + alternate:
		return p.newVersion()
	}
	return nil
}

// alternate is the element of another version, in that of a file.
const alternate = "mm0:alternates/mm0:alternate"

func (p *parser) nameOf(name xml.Name) string {
	switch {
	case len(name.Local) > maxName:
		return "?"
	case name.Space == p.space:
		return name.Local
	case name.Space == namespaceMM:
		return "mm0:" + name.Local
	}
	return "?"
}

func (p *parser) root(name xml.Name) error {
	switch {
	case p.space != "":
		return errors.New("it has a second root element")
	case name.Local != "metalink" || name.Space != namespaceV3 && name.Space != namespaceV4:
		return fmt.Errorf("its root element is %.100q of %.100q, not \"metalink\" of %q or %q", name.Local, name.Space, namespaceV3, namespaceV4)
	}
	p.space, p.path, p.file = name.Space, append(p.path, name.Local), "metalink/files/file"
	if p.space == namespaceV4 {
		p.file = "metalink/file"
	}
	return nil
}

func (p *parser) newFile() error {
	if len(p.files) == MaxFiles {
		return fmt.Errorf("it has more than %d files", MaxFiles)
	}
	name := p.attr("name")
	if err := checkName(name); err != nil {
		return err
	}
	p.files = append(p.files, File{Name: name})
	return p.newVersion()
}

// checkName refuses names with which a client would write outside of its folder.
func checkName(name string) error {
	if name == "" || len(name) > maxText || strings.Contains(name, "\\") || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("%.300q is no name of a file", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%.300q is no name of a file: it leaves the folder", name)
		}
	}
	return nil
}

func (p *parser) newVersion() error {
	f := &p.files[len(p.files)-1]
	if len(f.Versions) == MaxVersions {
		return fmt.Errorf("%.300q has more than %d versions", f.Name, MaxVersions)
	}
	f.Versions = append(f.Versions, Version{})
	return nil
}

// end takes the text of the element that ends.
func (p *parser) end(path string) error {
	rest, inFile := strings.CutPrefix(path, p.file+"/")
	if !inFile {
		return nil
	}
	f := &p.files[len(p.files)-1]
	v := &f.Versions[0]
	rest, other := strings.CutPrefix(rest, alternate+"/")
	if other {
		v = &f.Versions[len(f.Versions)-1]
	}
	var err error
	switch rest {
	case "mm0:timestamp":
		v.Timestamp, err = p.number(rest)
	case "size":
		v.Size, err = p.number(rest)
	case "verification/hash", "hash":
		err = p.hash(v)
	case "resources/url", "url":
		err = p.url(f)
	}
	if err != nil {
		return fmt.Errorf("%.300q: %w", f.Name, err)
	}
	return nil
}

// value is the text of the element, without the white space around it.
func (p *parser) value(name string) (string, error) {
	if p.long {
		return "", fmt.Errorf("<%s> has more than %d bytes", name, maxText)
	}
	return strings.TrimSpace(p.text.String()), nil
}

func (p *parser) number(name string) (uint64, error) {
	text, err := p.value(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("<%s>: %.40q is no number", name, text)
	}
	return n, nil
}

func (p *parser) hash(v *Version) error {
	var field *string
	var size int
	switch strings.ToLower(p.attr("type")) {
	case "md5":
		field, size = &v.MD5, 16
	case "sha1", "sha-1":
		field, size = &v.SHA1, 20
	case "sha256", "sha-256":
		field, size = &v.SHA256, 32
	case "sha512", "sha-512":
		field, size = &v.SHA512, 64
	default:
		return nil
	}
	text, err := p.value("hash")
	if err != nil {
		return err
	}
	text = strings.ToLower(text)
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != size {
		return fmt.Errorf("%.150q is no hash of %d bytes in hex", text, size)
	}
	if *field != "" && *field != text {
		return fmt.Errorf("two different hashes of the kind %q", p.attr("type"))
	}
	*field = text
	return nil
}

func (p *parser) attr(name string) string {
	for _, a := range p.attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
