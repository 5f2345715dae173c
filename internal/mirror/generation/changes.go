package generation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Change is how a path differs between two generations. Left, the former, is nil of a
// file that has come, Right of one that has gone.
type Change = Pair[File, File]

// Changes yields what is different in after, sorted by path; either may be nil.
// Files with the same content and time, and links with the same target, are not. What
// both manifests have in common is not unpacked as far as it is whole frames, and not
// parsed as far as it is whole lines. It ends with the first error.
func Changes(before, after *Generation) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		var left, right lines
		defer left.close()
		defer right.close()
		err := errors.Join(left.open(before), right.open(after))
		if errors.Is(err, errNoTable) {
			changesOfAll(before, after)(yield)
			return
		}
		for err == nil {
			var c Change
			if c, err = nextChange(&left, &right); err == nil && !yield(c, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(Change{}, err)
		}
	}
}

// changesOfAll is Changes for manifests that have no seek table, of earlier versions.
func changesOfAll(before, after *Generation) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for c, err := range Join(before.Files(), after.Files(), PathOf, PathOf) {
			if err == nil && c.Left != nil && c.Right != nil && sameFile(*c.Left, *c.Right) {
				continue
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// nextChange returns the next difference; io.EOF: there is none.
func nextChange(left, right *lines) (Change, error) {
	for {
		if err := advance(left, right); err != nil {
			return Change{}, err
		}
		l, r := left.line(), right.line()
		switch {
		case l == nil && r == nil:
			return Change{}, io.EOF
		case bytes.Equal(l, r):
			left.take(l)
			right.take(r)
			continue
		}
		c, err := changeOf(left, right)
		if err != nil || c.Left == nil || c.Right == nil || !sameFile(*c.Left, *c.Right) {
			return c, err
		}
	}
}

// advance goes on to where both have a line that was not looked at, or have none any more.
// Frames that both have at the same place are passed over.
func advance(left, right *lines) error {
	for left.between() && right.between() {
		if err := errors.Join(left.read(), right.read()); err != nil {
			return err
		}
		if !bytes.Equal(left.packed, right.packed) {
			break
		}
		left.skip()
		right.skip()
	}
	return errors.Join(left.fill(), right.fill())
}

// changeOf takes the line with the lesser path, or both.
func changeOf(left, right *lines) (Change, error) {
	l, err := left.file()
	if err != nil {
		return Change{}, err
	}
	r, err := right.file()
	if err != nil {
		return Change{}, err
	}
	var order int
	switch {
	case l == nil:
		order = 1
	case r == nil:
		order = -1
	default:
		order = strings.Compare(l.Path, r.Path)
	}
	var c Change
	if order <= 0 {
		c.Path, c.Left = l.Path, l
		left.take(left.line())
	}
	if order >= 0 {
		c.Path, c.Right = r.Path, r
		right.take(right.line())
	}
	return c, nil
}

func sameFile(a, b File) bool {
	return a.Size == b.Size && a.SHA256 == b.SHA256 && a.Link == b.Link && a.ModTime.Equal(b.ModTime)
}

// lines are those of the files of a manifest. The zero lines are none.
type lines struct {
	what     string
	manifest *os.File
	frames   *zstd.Decoder
	starts   []int64 // of the frames, and where the last one ends
	at       int     // the frame that comes next
	packed   []byte  // it, if it was read
	text     []byte  // of the frame before, what was not taken of it
	buffer   []byte
	last     string // the path that was parsed last
}

// open begins with the first line of a generation; nil has none.
func (l *lines) open(g *Generation) (err error) {
	if g == nil {
		return nil
	}
	l.what = "generation " + g.info.ID + " of " + g.info.Project
	if l.manifest, err = g.OpenManifest(); err != nil {
		return err
	}
	info, err := l.manifest.Stat()
	if err != nil {
		return err
	}
	if l.starts, err = readSeekTable(l.manifest, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", l.what, err)
	}
	l.frames, err = newFrameDecoder()
	return err
}

func (l *lines) close() {
	if l.frames != nil {
		l.frames.Close()
	}
	if l.manifest != nil {
		_ = l.manifest.Close() // opened for reading
	}
}

// between says whether all lines of a frame were taken, and there is another one.
func (l *lines) between() bool { return len(l.text) == 0 && l.at+1 < len(l.starts) }

// read reads the frame that comes next, as it is packed.
func (l *lines) read() (err error) {
	if len(l.packed) == 0 {
		if l.packed, err = readFrame(l.manifest, l.packed, l.starts[l.at], l.starts[l.at+1]); err != nil {
			err = fmt.Errorf("%s: %w", l.what, err)
		}
	}
	return err
}

// skip passes over the frame that comes next.
func (l *lines) skip() { l.packed, l.at = l.packed[:0], l.at+1 }

// fill unpacks frames until there is a line.
func (l *lines) fill() error {
	for l.between() {
		if err := l.read(); err != nil {
			return err
		}
		text, err := l.frames.DecodeAll(l.packed, l.buffer[:0])
		if err != nil {
			return fmt.Errorf("%s: %w: %w", l.what, ErrManifest, err)
		}
		l.buffer = text
		if l.at == 0 {
			_, text, _ = bytes.Cut(text, []byte("\n\n")) // the head
		}
		l.text = text
		l.skip()
	}
	return nil
}

// line is the one that comes next, without its end; nil: there is none.
func (l *lines) line() []byte {
	line, _, _ := bytes.Cut(l.text, []byte("\n"))
	if len(line) == 0 || bytes.HasPrefix(line, []byte("end ")) {
		return nil
	}
	return line
}

// take goes on behind a line.
func (l *lines) take(line []byte) { l.text = l.text[min(len(line)+1, len(l.text)):] }

// file is that of the line that comes next; nil: there is none.
func (l *lines) file() (*File, error) {
	line := l.line()
	if line == nil {
		return nil, nil //nolint:nilnil // as documented
	}
	f, err := parseLine(line)
	if err == nil && f.Path < l.last {
		err = fmt.Errorf("%q behind %q: %w", f.Path, l.last, ErrManifest)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.what, err)
	}
	l.last = f.Path
	return &f, nil
}
