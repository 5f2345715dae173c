package rpmmd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of the scanner.
const (
	maxTag  = 256 << 10 // bytes of one tag with its attributes
	maxText = 4 << 10   // bytes of a text that is asked for
)

// scanner splits XML into elements. It is some ten times as fast as
// encoding/xml, for texts of 200 MB of which little is wanted: it checks that
// elements nest, and not that names and texts hold only what XML allows. It
// takes UTF-8 and, where they differ, does not understand other encodings. A
// document type, which could define entities, is refused.
type scanner struct {
	r    *bufio.Reader
	read int64  // bytes taken from r
	open []byte // names of the open elements, one after the other
	ends []int  // where each ends in open
	text []byte
	keep bool // text is being collected
}

func newScanner(r io.Reader) *scanner {
	return &scanner{r: bufio.NewReaderSize(r, maxTag)}
}

// element is the start or the end of one; both, if it is empty ("<a/>"). Its
// slices are valid until the next scan.
type element struct {
	name, attrs []byte
	depth       int // the root has 1
	start, end  bool
}

func (s *scanner) offset() int64 { return s.read }

// collect begins to collect text, up to the next call of collected.
func (s *scanner) collect() { s.text, s.keep = s.text[:0], true }

func (s *scanner) collected() string {
	s.keep = false
	return string(s.text)
}

// scan returns the next element, or io.EOF when all are closed and no text
// follows but what does not matter.
func (s *scanner) scan() (element, error) {
	for {
		if err := s.skipText(); err != nil {
			return element{}, err
		}
		head, err := s.r.Peek(len("![CDATA["))
		if len(head) == 0 {
			return element{}, ended(err)
		}
		switch {
		case head[0] == '?':
			err = s.skipPast("?>", false)
		case bytes.HasPrefix(head, []byte("!--")):
			s.discard(len("!--"))
			err = s.skipPast("-->", false)
		case string(head) == "![CDATA[":
			s.discard(len(head))
			err = s.skipPast("]]>", s.keep)
		case head[0] == '!':
			err = errors.New("a document type is not accepted")
		default:
			return s.tag()
		}
		if err != nil {
			return element{}, err
		}
	}
}

// ended is the error where more was due.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (s *scanner) discard(n int) {
	n, _ = s.r.Discard(n) // it was peeked
	s.read += int64(n)
}

// skipText reads up to and with the next "<".
func (s *scanner) skipText() error {
	var text []byte
	for {
		part, err := s.r.ReadSlice('<')
		s.read += int64(len(part))
		if s.keep {
			text = append(text, bytes.TrimSuffix(part, []byte("<"))...)
			if len(s.text)+len(text) > maxText {
				return fmt.Errorf("a text of more than %d bytes", maxText)
			}
		}
		switch {
		case err == nil && s.keep:
			plain, err := unescape(text)
			s.text = append(s.text, plain...)
			return err
		case err == nil:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(s.ends) > 0:
			return fmt.Errorf("it ends inside <%s>: %w", s.top(), io.ErrUnexpectedEOF)
		default:
			return err
		}
	}
}

// skipPast reads up to and with end, which is "?>" or has three bytes, and
// collects what is before it.
func (s *scanner) skipPast(end string, collect bool) error {
	var last []byte // up to the two bytes before part
	for {
		part, err := s.r.ReadSlice('>')
		s.read += int64(len(part))
		if collect {
			if s.text = append(s.text, part...); len(s.text) > maxText+len(end) {
				return fmt.Errorf("a text of more than %d bytes", maxText)
			}
		}
		last = append(last, part[max(0, len(part)-len(end)):]...)
		last = last[max(0, len(last)-len(end)):]
		switch {
		case err == nil && string(last) == end:
			if collect {
				s.text = s.text[:len(s.text)-len(end)]
			}
			return nil
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
		default:
			return ended(err)
		}
	}
}

// tag reads a tag; its "<" has been read.
func (s *scanner) tag() (element, error) {
	tag, err := s.untilGreater()
	if err != nil {
		return element{}, err
	}
	if rest, closing := bytes.CutPrefix(tag, []byte("/")); closing {
		return s.close(bytes.TrimRight(rest, space))
	}
	rest, empty := bytes.CutSuffix(tag, []byte("/"))
	name := rest
	if i := bytes.IndexAny(rest, space); i >= 0 {
		name = rest[:i]
	}
	if len(name) == 0 || bytes.ContainsAny(name, `"'/=`) {
		return element{}, fmt.Errorf("tag <%.40s>", tag)
	}
	e := element{name: name, attrs: rest[len(name):], depth: len(s.ends) + 1, start: true, end: empty}
	if e.depth > maxDepth {
		return element{}, fmt.Errorf("deeper than %d elements", maxDepth)
	}
	if !empty {
		s.open = append(s.open, name...)
		s.ends = append(s.ends, len(s.open))
	}
	return e, nil
}

// untilGreater reads up to and with the ">" of a tag and returns what is
// before it.
func (s *scanner) untilGreater() ([]byte, error) {
	for have := 0; have < maxTag; {
		// Twice as much each time, so that looking again costs little.
		buffered, err := s.r.Peek(min(max(2*have, s.r.Buffered(), 1), maxTag))
		if len(buffered) == have {
			return nil, ended(err)
		}
		have = len(buffered)
		end, err := tagEnd(buffered)
		if err != nil {
			return nil, err
		}
		if end >= 0 {
			s.discard(end + 1)
			return buffered[:end], nil
		}
	}
	return nil, fmt.Errorf("a tag of more than %d bytes", maxTag)
}

const space = " \t\r\n"

// tagEnd returns where the ">" of a tag is, or -1.
func tagEnd(b []byte) (int, error) {
	quote := byte(0)
	for i, c := range b {
		switch {
		case c == '<':
			return 0, errors.New(`"<" inside a tag`)
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i, nil
		}
	}
	return -1, nil
}

// top is the name of the innermost open element.
func (s *scanner) top() []byte {
	n := len(s.ends)
	if n == 1 {
		return s.open
	}
	return s.open[s.ends[n-2]:]
}

func (s *scanner) close(name []byte) (element, error) {
	n := len(s.ends)
	if n == 0 || !bytes.Equal(s.top(), name) {
		return element{}, fmt.Errorf("</%.40s> closes nothing", name)
	}
	s.open = s.open[:len(s.open)-len(name)]
	s.ends = s.ends[:n-1]
	return element{name: name, depth: n, end: true}, nil
}

// attribute looks for an attribute by its local name ("xml:base" is "base").
// All the attributes must be well-formed.
func attribute(attrs []byte, name string) (string, error) {
	value, found := "", false
	for {
		attrs = bytes.TrimLeft(attrs, space)
		if len(attrs) == 0 {
			return value, nil
		}
		key, rest, ok := bytes.Cut(attrs, []byte("="))
		key, rest = bytes.TrimRight(key, space), bytes.TrimLeft(rest, space)
		if !ok || len(key) == 0 || len(rest) == 0 || rest[0] != '"' && rest[0] != '\'' || bytes.ContainsAny(key, space+`"'`) {
			return "", fmt.Errorf("attribute %.40q", attrs)
		}
		quoted, after, ok := bytes.Cut(rest[1:], rest[:1])
		if !ok {
			return "", fmt.Errorf("attribute %.40q", attrs)
		}
		attrs = after
		if found || string(local(key)) != name {
			continue
		}
		plain, err := unescape(quoted)
		if err != nil {
			return "", err
		}
		value, found = string(plain), true
	}
}

// unescape replaces the entities of XML (XML 1.0, sections 4.1 and 4.6) and
// its line ends (2.11).
func unescape(b []byte) ([]byte, error) {
	if bytes.IndexByte(b, '\r') >= 0 {
		b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	}
	if bytes.IndexByte(b, '&') < 0 {
		return b, nil
	}
	var out []byte
	for {
		i := bytes.IndexByte(b, '&')
		if i < 0 {
			return append(out, b...), nil
		}
		entity, rest, ok := bytes.Cut(b[i+1:], []byte(";"))
		r, known := character(string(entity))
		if !ok || !known {
			return nil, fmt.Errorf("unknown entity %.20q", b[i:])
		}
		out = utf8.AppendRune(append(out, b[:i]...), r)
		b = rest
	}
}

func character(entity string) (rune, bool) {
	switch entity {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, ok := strings.CutPrefix(entity, "#")
	if !ok {
		return 0, false
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	return rune(n), err == nil && n <= utf8.MaxRune && utf8.ValidRune(rune(n))
}
