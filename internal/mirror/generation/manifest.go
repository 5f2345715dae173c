package generation

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A manifest is text, compressed with zstd: a line for each file, sorted by the bytes
// of their paths. docs/formats/mirror-store.md describes it.
const (
	manifestMagic = "freshet-generation 1"
	linkMark      = "->"
	// maxManifestLine is the longest line: two paths with all bytes escaped, and
	// room for the rest.
	maxManifestLine = 2*4*maxPath + 256
	manifestWindow  = 1 << 20
	// frameSize is the length of the text from which a frame ends, with a line: what is
	// read to find one file.
	frameSize = 32 << 10
	// leastFrame is from when it ends where the path says so.
	leastFrame = 8 << 10
)

// endsFrame says whether a frame ends behind the line of a file. It depends on the path
// alone, for one of 64, so that manifests of nearly the same files have nearly the same
// frames: a file more or less changes those around it, and no others.
func endsFrame(path string, length int) bool {
	if length < leastFrame || length >= frameSize {
		return length >= frameSize
	}
	h := uint32(2166136261) // FNV-1a, 32 bits
	for i := range len(path) {
		h = (h ^ uint32(path[i])) * 16777619
	}
	return h>>26 == 0
}

// ErrManifest is wrapped by errors of what is not a manifest, or not a whole one.
var ErrManifest = errors.New("not a sound manifest of a generation")

// manifestWriter writes a manifest, in frames that can be read one by one.
type manifestWriter struct {
	to     io.Writer
	frames *zstd.Encoder
	table  seekTable
	sum    hash.Hash
	lines  int64
	last   string
	text   []byte // of the next frame
	frame  []byte
}

func newManifestWriter(to io.Writer, project, id string) (*manifestWriter, error) {
	frames, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(manifestWindow), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	w := &manifestWriter{to: to, frames: frames, sum: sha256.New()}
	w.text = fmt.Appendf(nil, "%s\nproject %s\ngeneration %s\n\n", manifestMagic, project, id)
	return w, nil
}

// add writes a file, whose path sorts behind that of the one before.
func (w *manifestWriter) add(f File) error {
	if f.Path <= w.last {
		return fmt.Errorf("%q behind %q: %w", f.Path, w.last, ErrManifest)
	}
	w.last = f.Path
	w.lines++
	w.text = append(appendLine(w.text, f), '\n')
	if endsFrame(f.Path, len(w.text)) {
		return w.flush()
	}
	return nil
}

// flush writes a frame.
func (w *manifestWriter) flush() error {
	w.sum.Write(w.text)
	w.frame = w.frames.EncodeAll(w.text, w.frame[:0])
	w.table.add(len(w.frame), len(w.text))
	w.text = w.text[:0]
	_, err := w.to.Write(w.frame)
	return err
}

// close writes the end and returns the hash of the text.
func (w *manifestWriter) close() (sum []byte, err error) {
	w.text = fmt.Appendf(w.text, "end %d\n", w.lines)
	if err := w.flush(); err != nil {
		return nil, err
	}
	if _, err := w.to.Write(w.table.encode()); err != nil {
		return nil, err
	}
	return w.sum.Sum(nil), w.frames.Close()
}

// appendLine appends the line of a file without its end.
func appendLine(b []byte, f File) []byte {
	if f.IsLink() {
		b = append(b, linkMark+" "...)
		b = append(appendEscaped(b, f.Link, true), ' ')
		return appendEscaped(b, f.Path, false)
	}
	b = append(strconv.AppendInt(b, f.Size, 10), ' ')
	b = append(strconv.AppendInt(b, f.ModTime.Unix(), 10), ' ')
	b = append(hex.AppendEncode(b, f.SHA256[:]), ' ')
	return appendEscaped(b, f.Path, false)
}

// appendEscaped writes control characters and backslashes, and spaces if asked, as a
// backslash and three octal digits.
func appendEscaped(b []byte, s string, spaces bool) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f || c == '\\' || c == ' ' && spaces {
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		} else {
			b = append(b, c)
		}
	}
	return b
}

func unescape(b []byte) (string, bool) {
	at := bytes.IndexByte(b, '\\')
	if at < 0 {
		return string(b), true
	}
	out := append(make([]byte, 0, len(b)), b[:at]...)
	for i := at; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		if i+3 >= len(b) {
			return "", false
		}
		n, err := strconv.ParseUint(string(b[i+1:i+4]), 8, 8)
		if err != nil {
			return "", false
		}
		out = append(out, byte(n))
		i += 3
	}
	return string(out), true
}

// parseLine reads the line of a file.
func parseLine(line []byte) (File, error) {
	first, rest, _ := bytes.Cut(line, []byte(" "))
	second, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return File{}, errLine
	}
	var f File
	var pathOK bool
	if string(first) == linkMark {
		f.Link, ok = unescape(second)
		f.Path, pathOK = unescape(rest)
		if !ok || !pathOK || f.Link == "" || f.check() != nil {
			return File{}, errLine
		}
		return f, nil
	}
	sum, path, ok := bytes.Cut(rest, []byte(" "))
	if !ok || len(sum) != hex.EncodedLen(len(f.SHA256)) {
		return File{}, errLine
	}
	size, err1 := strconv.ParseInt(string(first), 10, 64)
	seconds, err2 := strconv.ParseInt(string(second), 10, 64)
	_, err3 := hex.Decode(f.SHA256[:], sum)
	f.Path, pathOK = unescape(path)
	f.Size, f.ModTime = size, time.Unix(seconds, 0).UTC()
	if err1 != nil || err2 != nil || err3 != nil || !pathOK || f.check() != nil {
		return File{}, errLine
	}
	return f, nil
}

var errLine = fmt.Errorf("a line of no file: %w", ErrManifest)

// readManifest yields the files of a manifest, and an error if it is not sound, at
// which it ends. Its memory does not depend on how long the manifest is.
func readManifest(from io.Reader) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		in, err := newManifestDecoder(from)
		if err != nil {
			yield(File{}, err)
			return
		}
		defer in.Close()
		r := manifestReader{lines: bufio.NewReaderSize(in, maxManifestLine)}
		if err := r.head(); err != nil {
			yield(File{}, err)
			return
		}
		for {
			f, err := r.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// newManifestDecoder unpacks a manifest. Its memory does not depend on how long that is.
func newManifestDecoder(from io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(manifestWindow), zstd.WithDecoderMaxMemory(1<<62))
}

type manifestReader struct {
	lines *bufio.Reader
	top   []byte // the head
	n     int64  // files
	last  string
}

// maxManifestHead bounds the lines of a head.
const maxManifestHead = 64

func (r *manifestReader) head() error {
	for n := range maxManifestHead {
		line, err := r.line()
		if err != nil {
			return err
		}
		if n == 0 && string(line) != manifestMagic {
			return fmt.Errorf("it does not begin with %q: %w", manifestMagic, ErrManifest)
		}
		r.top = append(append(r.top, line...), '\n')
		if len(line) == 0 {
			return nil
		}
	}
	return fmt.Errorf("the head has more than %d lines: %w", maxManifestHead, ErrManifest)
}

// value is that of a key in the head, empty if there is none.
func (r *manifestReader) value(key string) string {
	for line := range bytes.Lines(r.top) {
		if value, ok := bytes.CutPrefix(line, []byte(key+" ")); ok {
			return string(bytes.TrimSuffix(value, []byte("\n")))
		}
	}
	return ""
}

// next returns the next file; io.EOF at the end of a whole manifest.
func (r *manifestReader) next() (File, error) { return r.nextOf(parseLine) }

// nextOf is next for lines that are parsed in another way.
func (r *manifestReader) nextOf(parse func([]byte) (File, error)) (File, error) {
	line, err := r.line()
	if err != nil {
		return File{}, err
	}
	if told, ok := bytes.CutPrefix(line, []byte("end ")); ok {
		if string(told) != strconv.FormatInt(r.n, 10) {
			return File{}, fmt.Errorf("it tells of %.20q files and has %d: %w", told, r.n, ErrManifest)
		}
		if _, err := r.lines.ReadByte(); !errors.Is(err, io.EOF) {
			return File{}, fmt.Errorf("something follows the end: %w", errors.Join(ErrManifest, err))
		}
		return File{}, io.EOF
	}
	f, err := parse(line)
	if err == nil && f.Path <= r.last {
		err = fmt.Errorf("%q behind %q: %w", f.Path, r.last, ErrManifest)
	}
	if err != nil {
		return File{}, fmt.Errorf("file %d: %w", r.n+1, err)
	}
	r.n++
	r.last = f.Path
	return f, nil
}

// line returns the next line without its end. It is valid until the one after it.
func (r *manifestReader) line() ([]byte, error) {
	line, err := r.lines.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("it ends without its last line: %w", ErrManifest)
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("a line of more than %d bytes: %w", maxManifestLine, ErrManifest)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return line[:len(line)-1], nil
}
