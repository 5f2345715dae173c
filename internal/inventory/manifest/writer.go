package manifest

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"

	"freshet/internal/inventory"
)

// Writer writes one manifest.
type Writer struct {
	to    *bufio.Writer
	delta bool
	lines uint64
	line  []byte
}

// NewWriter writes the head of a manifest. Errors of writing may come later, with Close
// at last.
func NewWriter(to io.Writer, h Head) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	w := &Writer{to: bufio.NewWriterSize(to, 1<<16), delta: h.Base != ""}
	head := magic + "\nproject " + h.Project + "\ngeneration " + h.Generation + "\n"
	if w.delta {
		head += "base " + h.Base + "\n"
	}
	if !h.At.IsZero() {
		head += "at " + strconv.FormatInt(h.At.Unix(), 10) + "\n"
	}
	_, err := w.to.WriteString(head + "\n")
	return w, err
}

// Add writes an entry. One that a reader would not take is an error that says why, and
// may be left out.
func (w *Writer) Add(e inventory.Entry) error {
	switch err := inventory.CheckPath(e.Path); {
	case err != nil:
		return err
	case e.Gone && !w.delta:
		return fmt.Errorf("%s: gone is for manifests with a base: %w", e.Path, ErrFormat)
	case e.Size < 0:
		return fmt.Errorf("%s: a length of %d: %w", e.Path, e.Size, ErrFormat)
	}
	b := w.line[:0]
	if e.Gone {
		b = append(b, "gone "...)
	} else {
		b = append(strconv.AppendInt(b, e.Size, 10), ' ')
		if s := e.ModTime.Unix(); s > 0 {
			b = append(strconv.AppendInt(b, s, 10), ' ')
		} else {
			b = append(b, "- "...)
		}
		if e.SHA256 != [32]byte{} {
			b = append(hex.AppendEncode(b, e.SHA256[:]), ' ')
		} else {
			b = append(b, "- "...)
		}
	}
	w.line = append(append(b, e.Path...), '\n')
	w.lines++
	_, err := w.to.Write(w.line)
	return err
}

// Close writes the end, without which a manifest is not one. It does not close what it
// writes to.
func (w *Writer) Close() error {
	if _, err := fmt.Fprintf(w.to, "end %d\n", w.lines); err != nil {
		return err
	}
	return w.to.Flush()
}
