package autoindex

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

const (
	maxToken = 1 << 20
	maxAbout = 512 // of the text after a link
)

// reader reads a listing in HTML.
type reader struct {
	tokens *html.Tokenizer
	c      *collector
	open   *Entry // whose row is being read
	about  []byte // the text of it
	inLink bool
	pre    bool // preformatted: a line is a row
	title  bool // inside of a title or a heading
}

// parseHTML reads a listing in HTML, of which the end may be missing: servers do not
// write any, or it was cut, which HTTP tells.
func parseHTML(r io.Reader, c *collector) error {
	p := reader{tokens: html.NewTokenizer(r), c: c}
	p.tokens.SetMaxBuf(maxToken)
	for p.tokens.Next() != html.ErrorToken {
		if err := p.token(); err != nil {
			return err
		}
	}
	if err := p.tokens.Err(); !errors.Is(err, io.EOF) {
		if errors.Is(err, html.ErrBufferExceeded) {
			return ErrTooMuch
		}
		return err
	}
	if err := p.close(); err != nil {
		return err
	}
	if !c.listing {
		return ErrNoListing
	}
	return nil
}

func (p *reader) token() error {
	switch token := p.tokens.Token(); token.Type {
	case html.TextToken:
		return p.text(token.Data)
	case html.StartTagToken, html.SelfClosingTagToken:
		return p.start(&token)
	case html.EndTagToken:
		return p.end(&token)
	default:
	}
	return nil
}

func (p *reader) start(token *html.Token) error {
	switch token.DataAtom {
	case atom.A:
		return p.link(attribute(token, "href"))
	case atom.Tr, atom.Li, atom.Hr:
		return p.close()
	case atom.Title, atom.H1:
		p.title = true
	case atom.Pre:
		p.pre = true
	case atom.Td:
		p.write(" ")
		if size := attribute(token, "data-size"); size != "" {
			p.write(size + " ")
		}
	case atom.Time:
		p.write(" " + attribute(token, "datetime") + " ")
	default:
	}
	return nil
}

func (p *reader) end(token *html.Token) error {
	switch token.DataAtom {
	case atom.A:
		p.inLink = false
	case atom.Title, atom.H1:
		p.title = false
	case atom.Pre:
		p.pre = false
		return p.close()
	case atom.Tr, atom.Li, atom.Table:
		return p.close()
	default:
	}
	return nil
}

// text takes text between tags.
func (p *reader) text(text string) error {
	if p.title && isTitle(text) {
		p.c.listing = true
	}
	if p.open == nil || p.inLink {
		return nil
	}
	line, _, ended := strings.Cut(text, "\n")
	if !p.pre || !ended {
		p.write(text)
		return nil
	}
	p.write(line)
	return p.close()
}

// isTitle reports whether text is the beginning of a listing's title.
func isTitle(text string) bool {
	text = strings.ToLower(strings.TrimSpace(text))
	return strings.HasPrefix(text, "index of") || strings.HasPrefix(text, "directory listing")
}

func (p *reader) write(text string) {
	if p.open != nil && !p.inLink {
		p.about = append(p.about, text[:min(len(text), maxAbout-min(len(p.about), maxAbout))]...)
	}
}

// link begins a row, if it leads to a file or a folder.
func (p *reader) link(ref string) error {
	name, folder, ok := p.c.child(ref)
	if p.open != nil && ok && name == p.open.Name {
		p.inLink = true // once more, by an icon for instance
		return nil
	}
	if err := p.close(); err != nil {
		return err
	}
	if ok {
		p.open, p.inLink = &Entry{Name: name, Folder: folder}, true
	}
	return nil
}

// close ends a row.
func (p *reader) close() error {
	e := p.open
	if e == nil {
		return nil
	}
	e.tell(string(p.about))
	p.open, p.about, p.inLink = nil, p.about[:0], false
	return p.c.add(*e)
}

func attribute(token *html.Token, name string) string {
	for _, a := range token.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
