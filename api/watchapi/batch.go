package watchapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a batch.
const (
	// MaxLine is how long a line may be, in bytes.
	MaxLine = 64 << 10
	// MaxLines is how many lines a batch may have between its first and its last.
	MaxLines = 200_000
	// MaxSize is how long a batch may be, in bytes, before it is compressed.
	MaxSize = 64 << 20

	maxLabels  = 8
	maxLabel   = 128
	maxBuckets = 512
	maxBucket  = 1024 // its index, up or down
	maxCubes   = 16
)

// ErrMalformed is what is wrong with a batch that is none.
var ErrMalformed = errors.New("malformed batch")

// ErrVersion is of a batch of another version.
var ErrVersion = errors.New("batch of another version")

// ErrTooLarge is of a batch that is beyond its bounds.
var ErrTooLarge = errors.New("batch too large")

// Writer writes a batch.
type Writer struct {
	out   *bufio.Writer
	json  *json.Encoder
	lines int
}

// NewWriter begins a batch. The caller sets all fields of h but the version.
func NewWriter(to io.Writer, h Head) (*Writer, error) {
	h.Telemetry = Version
	if err := h.check(); err != nil {
		return nil, err
	}
	w := &Writer{out: bufio.NewWriter(to)}
	w.json = json.NewEncoder(w.out)
	w.json.SetEscapeHTML(false)
	return w, w.json.Encode(h)
}

// Add writes a line, which is no end.
func (w *Writer) Add(l Line) error {
	if err := l.check(); err != nil {
		return err
	}
	if w.lines++; w.lines > MaxLines {
		return fmt.Errorf("%w: more than %d lines", ErrTooLarge, MaxLines)
	}
	return w.json.Encode(l)
}

// Close ends the batch. It does not close what is written to.
func (w *Writer) Close() error {
	if err := w.json.Encode(Line{End: &w.lines}); err != nil {
		return err
	}
	return w.out.Flush()
}

// Reader reads a batch. Its memory is bounded, whatever it reads. Fields that it does not
// know are passed over, and so are lines of which it knows no field.
type Reader struct {
	Head
	in    *bufio.Reader
	left  int64
	lines int
	ended bool
}

// NewReader reads the first line of a batch. r has it without compression.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{in: bufio.NewReaderSize(r, MaxLine), left: MaxSize}
	text, err := b.line()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &b.Head); err != nil {
		return nil, fmt.Errorf("%w: first line: %w", ErrMalformed, err)
	}
	return b, b.check()
}

// Next returns the next line, [io.EOF] after the last: then the batch was whole. The line
// belongs to the caller.
func (b *Reader) Next() (Line, error) {
	for !b.ended {
		text, err := b.line()
		if err != nil {
			return Line{}, err
		}
		var l Line
		if err := json.Unmarshal(text, &l); err != nil {
			return Line{}, fmt.Errorf("%w: line %d: %w", ErrMalformed, b.lines+2, err)
		}
		if l.End != nil {
			if err := b.end(*l.End); err != nil {
				return Line{}, err
			}
			break
		}
		if b.lines++; b.lines > MaxLines {
			return Line{}, fmt.Errorf("%w: more than %d lines", ErrTooLarge, MaxLines)
		}
		if l.Count == nil && l.Project == nil && l.Disk == nil && l.Dropped == nil {
			continue // of a later version
		}
		if err := l.check(); err != nil {
			return Line{}, fmt.Errorf("line %d: %w", b.lines+1, err)
		}
		return l, nil
	}
	return Line{}, io.EOF
}

func (b *Reader) end(lines int) error {
	if lines != b.lines {
		return fmt.Errorf("%w: it ends with %d lines and has %d", ErrMalformed, lines, b.lines)
	}
	b.ended = true
	switch _, err := b.in.ReadByte(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: something follows its end", ErrMalformed)
}

// line returns the next line without its end.
func (b *Reader) line() ([]byte, error) {
	text, err := b.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: line %d is longer than %d bytes", ErrTooLarge, b.lines+2, MaxLine)
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it was cut", ErrMalformed)
	case err != nil:
		return nil, err
	}
	if b.left -= int64(len(text)); b.left < 0 {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxSize)
	}
	if text = bytes.TrimSuffix(text, []byte{'\n'}); !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: line %d is no UTF-8", ErrMalformed, b.lines+2)
	}
	return text, nil
}

func (h *Head) check() error {
	switch {
	case h.Telemetry < 1:
		return fmt.Errorf("%w: the first line is none of a batch", ErrMalformed)
	case h.Telemetry != Version:
		return fmt.Errorf("%w: %d, and %d is known here", ErrVersion, h.Telemetry, Version)
	case !CheckNode(h.Node):
		return fmt.Errorf("%w: node %.200q is no name", ErrMalformed, h.Node)
	case !isWord(h.Epoch, 64) || strings.ContainsFunc(h.Epoch, isSign):
		return fmt.Errorf("%w: epoch %.200q: want letters and digits", ErrMalformed, h.Epoch)
	case h.Role != "" && !isWord(h.Role, 32):
		return fmt.Errorf("%w: role %.200q", ErrMalformed, h.Role)
	case h.First < 1 || h.Last < h.First:
		return fmt.Errorf("%w: it covers the numbers from %d to %d", ErrMalformed, h.First, h.Last)
	}
	return nil
}

// CheckNode reports whether a text can be the name of a node, see [ID].
func CheckNode(name string) bool { return isWord(name, 128) && !strings.Contains(name, "/") }

func isWord(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func isSign(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }

func (l *Line) check() error {
	set := 0
	for _, is := range [...]bool{l.Count != nil, l.Project != nil, l.Disk != nil, l.Dropped != nil} {
		if is {
			set++
		}
	}
	if set != 1 || l.End != nil {
		return fmt.Errorf("%w: a line is one thing", ErrMalformed)
	}
	switch {
	case l.Count != nil:
		return l.Count.check()
	case l.Project != nil && !isText(l.Project.Name, maxLabel):
		return fmt.Errorf("%w: project %.200q", ErrMalformed, l.Project.Name)
	case l.Dropped != nil && !isWord(l.Dropped.Reason, 32):
		return fmt.Errorf("%w: dropped for %.200q", ErrMalformed, l.Dropped.Reason)
	case l.Dropped != nil && (l.Dropped.Batches < 0 || l.Dropped.Requests < 0 || l.Dropped.Bytes < 0):
		return fmt.Errorf("%w: dropped %+v", ErrMalformed, *l.Dropped)
	}
	return nil
}

func (c *Count) check() error {
	switch {
	case !isWord(c.Cube, maxCubes):
		return fmt.Errorf("%w: cube %.200q", ErrMalformed, c.Cube)
	case c.Width != 60 && c.Width != 3600 && c.Width != 86400:
		return fmt.Errorf("%w: a window of %d seconds", ErrMalformed, c.Width)
	case c.At < 0 || c.At%c.Width != 0:
		return fmt.Errorf("%w: a window of %d seconds begins at %d", ErrMalformed, c.Width, c.At)
	case len(c.Labels) == 0 || len(c.Labels) > maxLabels:
		return fmt.Errorf("%w: %d labels", ErrMalformed, len(c.Labels))
	case c.Requests < 0 || c.Bytes < 0:
		return fmt.Errorf("%w: %d requests, %d bytes", ErrMalformed, c.Requests, c.Bytes)
	case len(c.Times) > maxBuckets:
		return fmt.Errorf("%w: %d buckets", ErrMalformed, len(c.Times))
	}
	for _, label := range c.Labels {
		if !isText(label, maxLabel) {
			return fmt.Errorf("%w: label %.200q", ErrMalformed, label)
		}
	}
	for _, b := range c.Times {
		if b[0] < -maxBucket || b[0] > maxBucket || b[1] < 0 {
			return fmt.Errorf("%w: %d in bucket %d", ErrMalformed, b[1], b[0])
		}
	}
	return nil
}

// isText reports whether s is one printable line that is neither empty nor too long.
func isText(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
