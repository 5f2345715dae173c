package flatpak

import (
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds of one application's catalogue file. The largest ones in the wild have
// a few hundred kB.
const (
	maxCatalogue = 16 << 20 // bytes of XML
	maxNodes     = 400_000  // elements, attributes and runs of text
	maxDepth     = 100
)

// ErrCatalogue is wrapped by every error about an application's catalogue file.
var ErrCatalogue = errors.New("invalid appstream data")

// catalogueEntry is what one ref adds to the catalogue.
type catalogueEntry struct {
	fragment []byte   // its <component> elements, one after the other
	ids      []string // the ids of those whose icons are looked for
}

// readCatalogue reads share/app-info/xmls/ID.xml.gz of a ref and returns its
// components as they go into the catalogue of the repository: those whose id
// begins with the ref's, without any bundle of their own and with one that
// names the ref, its runtime and its SDK. Elements, attributes and text stay as
// they are; comments and processing instructions are dropped and entities
// written in one way, both as flatpak itself does it.
func readCatalogue(gz io.Reader, ref Ref, metadata Metadata) (catalogueEntry, error) {
	zr, err := gzip.NewReader(gz)
	if err != nil {
		return catalogueEntry{}, fmt.Errorf("%w: %w", ErrCatalogue, err)
	}
	limited := &io.LimitedReader{R: zr, N: maxCatalogue + 1}
	components, err := parseComponents(limited)
	if limited.N <= 0 {
		return catalogueEntry{}, fmt.Errorf("%w: more than %d bytes", ErrCatalogue, maxCatalogue)
	}
	if err != nil {
		return catalogueEntry{}, err
	}
	var entry catalogueEntry
	for _, component := range components {
		id, ok := componentID(component)
		if !ok || !strings.HasPrefix(trimDesktop(id, ref.ID), ref.ID) {
			continue
		}
		addBundle(component, ref, metadata)
		addTags(component, metadata.Tags)
		entry.fragment = component.append(entry.fragment)
		if rest := id[len(ref.ID):]; rest == "" || rest[0] == '.' {
			entry.ids = append(entry.ids, id)
		}
	}
	if entry.fragment == nil {
		return catalogueEntry{}, fmt.Errorf("%w: no component has an id that begins with %s", ErrCatalogue, ref.ID)
	}
	return entry, nil
}

// trimDesktop drops the suffix that ids of desktop applications once had.
func trimDesktop(id, app string) string {
	if strings.HasSuffix(app, ".desktop") {
		return id
	}
	return strings.TrimSuffix(id, ".desktop")
}

func componentID(component *element) (string, bool) {
	id := component.child("id")
	if id == nil {
		return "", false
	}
	for _, child := range id.children {
		if child.name == "" {
			return strings.Trim(child.text, " \t\n\v\f\r"), true
		}
	}
	return "", false
}

// addBundle replaces the bundles of a component by the one that tells a software
// centre what to install. White space is placed as flatpak places it.
func addBundle(component *element, ref Ref, metadata Metadata) {
	kept := component.children[:0]
	for _, child := range component.children {
		if child.name != "bundle" {
			kept = append(kept, child)
		}
	}
	bundle := &element{name: "bundle", attrs: []attr{{"type", "flatpak"}}, children: textNode(ref.String())}
	if metadata.Runtime != "" && !strings.HasPrefix(metadata.Runtime, "runtime/") {
		bundle.attrs = append(bundle.attrs, attr{"runtime", metadata.Runtime})
	}
	if metadata.SDK != "" {
		bundle.attrs = append(bundle.attrs, attr{"sdk", metadata.SDK})
	}
	component.children = append(kept, &element{text: "  "}, bundle, &element{text: "\n  "})
}

// addTags puts the tags of the metadata where flatpak's clients look for them.
func addTags(component *element, tags []string) {
	if len(tags) == 0 {
		return
	}
	holder := component.child("metadata")
	if holder == nil {
		holder = &element{name: "metadata"}
		component.children = append(component.children, &element{text: "  "}, holder, &element{text: "\n  "})
	}
	value := &element{
		name:     "value",
		attrs:    []attr{{"key", "X-Flatpak-Tags"}},
		children: textNode(strings.Join(tags, ",")),
	}
	holder.children = append(holder.children, &element{text: "\n       "}, value, &element{text: "\n    "})
}

// element is an element, or, when name is empty, a run of text.
type element struct {
	name     string
	attrs    []attr
	text     string
	children []*element
}

type attr struct{ name, value string }

func textNode(text string) []*element { return []*element{{text: text}} }

func (e *element) child(name string) *element {
	for _, child := range e.children {
		if child.name == name {
			return child
		}
	}
	return nil
}

// append adds the element to dst as XML.
func (e *element) append(dst []byte) []byte {
	if e.name == "" {
		return appendEscaped(dst, e.text)
	}
	dst = append(dst, '<')
	dst = append(dst, e.name...)
	for _, a := range e.attrs {
		dst = append(dst, ' ')
		dst = append(dst, a.name...)
		dst = append(dst, `="`...)
		dst = appendEscaped(dst, a.value)
		dst = append(dst, '"')
	}
	if len(e.children) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for _, child := range e.children {
		dst = child.append(dst)
	}
	dst = append(dst, "</"...)
	dst = append(dst, e.name...)
	return append(dst, '>')
}

// appendEscaped escapes as g_markup_escape_text does.
func appendEscaped(dst []byte, text string) []byte {
	for _, r := range text {
		switch {
		case r == '&':
			dst = append(dst, "&amp;"...)
		case r == '<':
			dst = append(dst, "&lt;"...)
		case r == '>':
			dst = append(dst, "&gt;"...)
		case r == '\'':
			dst = append(dst, "&apos;"...)
		case r == '"':
			dst = append(dst, "&quot;"...)
		case r >= 0x7f && r <= 0x84, r >= 0x86 && r <= 0x9f:
			dst = fmt.Appendf(dst, "&#x%x;", r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// parseComponents returns the component elements of a document whose root is
// <components>.
func parseComponents(r io.Reader) ([]*element, error) {
	p := componentParser{decoder: xml.NewDecoder(r)}
	for {
		token, err := p.decoder.RawToken()
		if errors.Is(err, io.EOF) {
			return p.finish()
		}
		if err == nil {
			err = p.token(token)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCatalogue, err)
		}
	}
}

type componentParser struct {
	decoder *xml.Decoder
	open    []*element // the elements not yet closed, the root first
	root    *element
	nodes   int
}

func (p *componentParser) finish() ([]*element, error) {
	if len(p.open) > 0 {
		return nil, fmt.Errorf("%w: <%s> is not closed", ErrCatalogue, p.open[len(p.open)-1].name)
	}
	if p.root == nil {
		return nil, fmt.Errorf("%w: there is no root element", ErrCatalogue)
	}
	var components []*element
	for _, child := range p.root.children {
		if child.name == "component" {
			components = append(components, child)
		}
	}
	return components, nil
}

func (p *componentParser) token(token xml.Token) error {
	switch token := token.(type) {
	case xml.StartElement:
		return p.start(token)
	case xml.EndElement:
		name := rawName(token.Name)
		if len(p.open) == 0 || p.open[len(p.open)-1].name != name {
			return fmt.Errorf("line %d: </%s> closes nothing", p.line(), name)
		}
		p.open = p.open[:len(p.open)-1]
	case xml.CharData:
		if len(p.open) == 0 {
			if strings.TrimSpace(string(token)) != "" {
				return fmt.Errorf("line %d: text outside of the root element", p.line())
			}
			return nil
		}
		return p.add(&element{text: string(token)}, 1)
	}
	return nil
}

func (p *componentParser) start(token xml.StartElement) error {
	e := &element{name: rawName(token.Name)}
	for _, a := range token.Attr {
		e.attrs = append(e.attrs, attr{rawName(a.Name), a.Value})
	}
	if len(p.open) == 0 {
		if p.root != nil {
			return fmt.Errorf("line %d: a second root element <%.40s>", p.line(), e.name)
		}
		if e.name != "components" {
			return fmt.Errorf("the root element is <%.40s>, not <components>", e.name)
		}
		p.root = e
	} else if err := p.add(e, 1+len(e.attrs)); err != nil {
		return err
	}
	if len(p.open) >= maxDepth {
		return fmt.Errorf("line %d: elements nest deeper than %d", p.line(), maxDepth)
	}
	p.open = append(p.open, e)
	return nil
}

func (p *componentParser) add(e *element, nodes int) error {
	if p.nodes += nodes; p.nodes > maxNodes {
		return fmt.Errorf("more than %d elements, attributes and texts", maxNodes)
	}
	parent := p.open[len(p.open)-1]
	parent.children = append(parent.children, e)
	return nil
}

func (p *componentParser) line() int {
	line, _ := p.decoder.InputPos()
	return line
}

// rawName is the name as it was written: prefixes are not resolved.
func rawName(name xml.Name) string {
	if name.Space == "" {
		return name.Local
	}
	return name.Space + ":" + name.Local
}
