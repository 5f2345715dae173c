package generation

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// A delta is what leads from the manifest of one generation to that of another, with the
// same lines, and two words that the manifests for directors have as well: base in its
// head, and gone before a path. docs/formats/mirror-store.md describes it.
const baseKey = "base "

// ErrLong says that a delta would be longer than it may be.
var ErrLong = errors.New("the delta is too long")

// WriteDelta writes what leads from the manifest of one generation to that of another,
// packed as manifests are, in limit bytes at most or not whole: [ErrLong]. It ends early when ctx
// does. [fs.ErrClosed] is that of a generation that has ended.
func WriteDelta(ctx context.Context, to io.Writer, base, now *Generation, limit int64) error {
	head, err := now.manifestHead()
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(&limited{to, limit}, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(manifestWindow), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return err
	}
	err = writeDelta(ctx, z, head, base, now)
	return errors.Join(err, z.Close())
}

func writeDelta(ctx context.Context, to io.Writer, head []byte, base, now *Generation) error {
	text := fmt.Appendf(bytes.TrimSuffix(head, []byte("\n")), "%s%s\n\n", baseKey, base.info.Name())
	lines := 0
	for c, err := range Changes(base, now) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if c.Right == nil {
			text = appendGone(text, c.Path)
		} else {
			text = appendLine(text, *c.Right)
		}
		text = append(text, '\n')
		lines++
		if _, err := to.Write(text); err != nil {
			return err
		}
		text = text[:0]
	}
	_, err := to.Write(fmt.Appendf(text, "end %d\n", lines))
	return err
}

// manifestHead is the head of the manifest, with the empty line behind it.
func (g *Generation) manifestHead() ([]byte, error) {
	f, err := g.OpenManifest()
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	in, err := newManifestDecoder(f)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r := manifestReader{lines: bufio.NewReaderSize(in, maxManifestLine)}
	if err := r.head(); err != nil {
		return nil, fmt.Errorf("generation %s of %s: %w", g.info.ID, g.info.Project, err)
	}
	return r.top, nil
}

// limited takes so many bytes.
type limited struct {
	to   io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, ErrLong
	}
	return l.to.Write(p)
}

// ApplyDelta makes of the manifest that a packed delta starts from the one that it leads to, as
// [UnpackManifest] does from a whole one, and with its errors. Its memory is that of a manifest.
func (m *Manifest) ApplyDelta(packed io.Reader, to *os.File, sum string) (*Manifest, error) {
	in, err := newManifestDecoder(packed)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	delta := manifestReader{lines: bufio.NewReaderSize(io.LimitReader(in, maxManifest), maxManifestLine)}
	if err := delta.head(); err != nil {
		return nil, err
	}
	head, ok := withoutBase(delta.top, m.Name())
	if !ok {
		return nil, fmt.Errorf("a delta that starts elsewhere than from %s: %w", m.Name(), ErrManifest)
	}
	h := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(to, h), 64<<10)
	if err := m.merge(out, head, &delta); err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return nil, fmt.Errorf("%w: with the delta its SHA-256 is %s, not %.64q", ErrOther, got, sum)
	}
	return openManifest(to, sum)
}

// withoutBase is the head of a manifest that a delta with this head leads to, if it starts
// from base.
func withoutBase(head []byte, base string) ([]byte, bool) {
	var out []byte
	found := false
	for line := range bytes.Lines(head) {
		if from, ok := bytes.CutPrefix(line, []byte(baseKey)); ok {
			found = string(from) == base+"\n"
			continue
		}
		out = append(out, line...)
	}
	return out, found
}

// merge writes the text of the manifest that a delta leads to: the lines of m as they are,
// but for those of paths that the delta tells of.
func (m *Manifest) merge(to *bufio.Writer, head []byte, delta *manifestReader) error {
	base := manifestReader{lines: bufio.NewReaderSize(io.NewSectionReader(m.text, 0, m.end), maxManifestLine)}
	if err := base.head(); err != nil {
		return err
	}
	out := merged{to: to}
	if _, err := to.Write(head); err != nil {
		return err
	}
	next, stop := iter.Pull2(delta.changes())
	defer stop()
	change, err, more := next()
	for err == nil {
		line, ended := base.lines.ReadSlice('\n')
		if ended != nil && !errors.Is(ended, io.EOF) {
			return ended
		}
		path, isFile := pathOf(bytes.TrimSuffix(line, []byte("\n"))) // the lines were parsed before
		for err == nil && more && (!isFile || change.Path < path) {
			if err = out.change(change, false); err == nil {
				change, err, more = next()
			}
		}
		switch {
		case err != nil:
		case !isFile:
			return out.end()
		case more && change.Path == path:
			if err = out.change(change, true); err == nil {
				change, err, more = next()
			}
		default:
			err = out.line(line)
		}
	}
	return err
}

// merged is the text of a manifest behind its head.
type merged struct {
	to     *bufio.Writer
	files  int64
	bytes  int64
	buffer []byte
}

// line writes that of a file, with its end.
func (w *merged) line(line []byte) error {
	w.files++
	if w.bytes += int64(len(line)); w.bytes > maxManifest {
		return fmt.Errorf("%w: it has more than %d bytes", ErrManifest, maxManifest)
	}
	_, err := w.to.Write(line)
	return err
}

// change writes what a delta says of a path, which was there before or was not.
func (w *merged) change(c deltaLine, was bool) error {
	switch {
	case !c.gone:
		w.buffer = append(appendLine(w.buffer[:0], c.File), '\n')
		return w.line(w.buffer)
	case !was:
		return fmt.Errorf("%.80q is gone and was not there: %w", c.Path, ErrManifest)
	}
	return nil
}

func (w *merged) end() error {
	if _, err := w.to.WriteString("end " + strconv.FormatInt(w.files, 10) + "\n"); err != nil {
		return err
	}
	return w.to.Flush()
}

// deltaLine is a line of a delta: a file that has come or changed, or only the path of
// one that is gone.
type deltaLine struct {
	File
	gone bool
}

// changes yields the lines of a delta.
func (r *manifestReader) changes() iter.Seq2[deltaLine, error] {
	return func(yield func(deltaLine, error) bool) {
		for {
			var c deltaLine
			f, err := r.nextOf(func(line []byte) (File, error) {
				path, gone := bytes.CutPrefix(line, []byte(goneMark))
				if c.gone = gone; !gone {
					return parseLine(line)
				}
				text, ok := unescape(path)
				if !ok || CheckPath(text) != nil {
					return File{}, errLine
				}
				return File{Path: text}, nil
			})
			if errors.Is(err, io.EOF) {
				return
			}
			c.File = f
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}
