package ostree

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync"

	"github.com/klauspost/compress/flate"
)

// DefaultCompression is the level of deflate that libostree uses by default
// ([archive] zlib-level).
const DefaultCompression = 6

// FilezReader reads a .filez: its header at once, then, by Read, its content
// inflated. It holds a few ten kilobytes however large the content, and ends
// with an error when content is longer or shorter than the header says.
type FilezReader struct {
	header FileHeader
	size   uint64 // by the header
	left   uint64 // content not read yet
	err    error  // once there is one, it stays
	stored int64  // bytes consumed, when in was given back
	in     *inflater
}

// NewFilezReader reads the header of a .filez. Errors wrap [ErrMalformed]
// when the bytes are at fault. The reader may read further in r than the file
// goes. Close it after use, so that its buffers can be used again.
func NewFilezReader(r io.Reader) (*FilezReader, error) {
	z := &FilezReader{in: newInflater(r)}
	var err error
	if z.header, z.size, err = readArchiveHeader(&z.in.src); err != nil {
		return nil, errors.Join(fmt.Errorf("read file header: %w", err), z.Close())
	}
	z.left = z.size
	return z, nil
}

func readArchiveHeader(r io.Reader) (FileHeader, uint64, error) {
	var frame [8]byte
	if _, err := io.ReadFull(r, frame[:]); err != nil {
		return FileHeader{}, 0, truncated(err)
	}
	length := binary.BigEndian.Uint32(frame[:4])
	if frame[4]|frame[5]|frame[6]|frame[7] != 0 {
		return FileHeader{}, 0, fmt.Errorf("%w: padding is not zero", ErrMalformed)
	}
	if length > maxHeaderSize {
		return FileHeader{}, 0, fmt.Errorf("%w: %w: header of %d bytes", ErrMalformed, ErrTooLarge, length)
	}
	header := make([]byte, length)
	if _, err := io.ReadFull(r, header); err != nil {
		return FileHeader{}, 0, truncated(err)
	}
	return parseArchiveHeader(header)
}

// truncated turns the end of input, where more was promised, into an error of
// the format.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: truncated", ErrMalformed)
	}
	return err
}

// Header returns the metadata of the file. It must not be changed.
func (z *FilezReader) Header() *FileHeader { return &z.header }

// Size returns the size of the content in bytes, by the header.
func (z *FilezReader) Size() uint64 { return z.size }

// Stored returns how many bytes of the .filez were consumed so far; at the end
// of the content, its whole length.
func (z *FilezReader) Stored() int64 {
	if z.in == nil {
		return z.stored
	}
	return z.in.src.n
}

// Read reads content. It returns [io.EOF] only when the content had the size of
// the header, the deflate stream ended, and nothing follows it.
func (z *FilezReader) Read(p []byte) (int, error) {
	if z.err != nil || len(p) == 0 {
		return 0, z.err
	}
	if z.header.IsSymlink() {
		z.err = z.finish()
		return 0, z.err
	}
	n, err := z.in.stream.Read(p)
	if uint64(n) > z.left {
		z.err = fmt.Errorf("%w: content is longer than the %d bytes of its header", ErrMalformed, z.size)
		return 0, z.err
	}
	z.left -= uint64(n)
	switch {
	case err == nil:
	case errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, io.EOF):
		z.err = inflateError(err)
	default:
		z.err = z.finish()
	}
	return n, z.err
}

// WriteTo writes all content to w; [io.Copy] finds it.
func (z *FilezReader) WriteTo(w io.Writer) (written int64, err error) {
	for z.err == nil {
		n, err := z.Read(z.in.buf[:])
		m, werr := w.Write(z.in.buf[:n])
		written += int64(m)
		switch {
		case werr != nil:
			return written, werr
		case m < n:
			return written, io.ErrShortWrite
		case err != nil && !errors.Is(err, io.EOF):
			return written, err
		}
	}
	if errors.Is(z.err, io.EOF) {
		return written, nil
	}
	return written, z.err
}

// finish tells whether the file may end here: [io.EOF] or what is wrong.
func (z *FilezReader) finish() error {
	if z.left > 0 {
		return fmt.Errorf("%w: content is %d bytes shorter than its header says", ErrMalformed, z.left)
	}
	switch _, err := z.in.src.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: bytes after the end of the content", ErrMalformed)
	case !errors.Is(err, io.EOF):
		return err
	}
	return io.EOF
}

// inflateError tells corrupt input from an input that cannot be read.
func inflateError(err error) error {
	if _, ok := errors.AsType[flate.CorruptInputError](err); ok {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return truncated(err)
}

// Close ends reading. It does not close the underlying reader.
func (z *FilezReader) Close() error {
	if z.in != nil {
		z.stored, z.err = z.in.src.n, fs.ErrClosed
		z.in.free()
		z.in = nil
	}
	return nil
}

// inflater is what reading a .filez takes; it is kept for the next one, since
// most files are small and setting it up costs more than using it.
type inflater struct {
	src    countingReader
	stream io.ReadCloser // inflates src
	buf    [32 << 10]byte
}

var inflaters sync.Pool // of *inflater

func newInflater(r io.Reader) *inflater {
	in, ok := inflaters.Get().(*inflater)
	if !ok {
		in = &inflater{src: countingReader{r: bufio.NewReaderSize(nil, 32<<10)}}
		in.stream = flate.NewReader(&in.src)
	}
	in.src.r.Reset(r)
	in.src.n = 0
	resetter, ok := in.stream.(flate.Resetter)
	if !ok || resetter.Reset(&in.src, nil) != nil {
		in.stream = flate.NewReader(&in.src)
	}
	return in
}

func (in *inflater) free() {
	in.src.r.Reset(nil)
	inflaters.Put(in)
}

// deflaters keeps writers of [DefaultCompression], each of which holds about a
// megabyte, for the next file.
var deflaters sync.Pool // of *flate.Writer

func newDeflater(w io.Writer, level int) (*flate.Writer, error) {
	if level == DefaultCompression {
		if z, ok := deflaters.Get().(*flate.Writer); ok {
			z.Reset(w)
			return z, nil
		}
	}
	return flate.NewWriter(w, level)
}

func freeDeflater(z *flate.Writer, level int) {
	if level == DefaultCompression {
		z.Reset(io.Discard)
		deflaters.Put(z)
	}
}

// countingReader counts the bytes that are read through it. It is an
// io.ByteReader, so that inflating takes no byte beyond its end.
type countingReader struct {
	r *bufio.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// Filez tells what [WriteFilez] wrote.
type Filez struct {
	Checksum Checksum // name of the object
	Size     uint64   // of the content
	Stored   int64    // bytes of the .filez
}

// WriteFilez writes a .filez to w: the header, and the content deflated with
// the level (1 to 9, or [DefaultCompression]). The content must have exactly
// the size. For symlinks, size is 0 and content is not read.
func WriteFilez(w io.Writer, h FileHeader, size uint64, content io.Reader, level int) (Filez, error) {
	out := &countingWriter{w: w}
	sum, err := beginFilez(out, &h, size)
	if err != nil {
		return Filez{}, fmt.Errorf("write filez: %w", err)
	}
	if !h.IsSymlink() {
		deflate, err := newDeflater(out, level)
		if err != nil {
			return Filez{}, fmt.Errorf("write filez: %w", err)
		}
		defer freeDeflater(deflate, level)
		if err := copyExactly(io.MultiWriter(sum, deflate), content, size); err != nil {
			return Filez{}, fmt.Errorf("write filez: %w", err)
		}
		if err := deflate.Close(); err != nil {
			return Filez{}, fmt.Errorf("write filez: %w", err)
		}
	}
	return Filez{Checksum: Checksum(sum.Sum(nil)), Size: size, Stored: out.n}, nil
}

// WriteFilezDeflated writes a .filez of content that is already deflated (raw,
// without the header of zlib or gzip), of which size is the size inflated. It
// only copies: the caller vouches that the stream is well-formed, and knows
// the checksum by [HashFile] or from having it verified before. It returns the
// bytes of the .filez.
func WriteFilezDeflated(w io.Writer, h FileHeader, size uint64, deflated io.Reader) (stored int64, err error) {
	out := &countingWriter{w: w}
	if _, err := beginFilez(out, &h, size); err != nil {
		return 0, fmt.Errorf("write filez: %w", err)
	}
	if !h.IsSymlink() {
		if _, err := io.Copy(out, deflated); err != nil {
			return 0, fmt.Errorf("write filez: %w", err)
		}
	}
	return out.n, nil
}

// beginFilez writes the header, and begins the checksum of the object.
func beginFilez(w io.Writer, h *FileHeader, size uint64) (hash.Hash, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	if h.IsSymlink() && size != 0 {
		return nil, fmt.Errorf("%w: symlink with content", ErrMalformed)
	}
	if _, err := w.Write(h.EncodeArchiveHeader(size)); err != nil {
		return nil, err
	}
	return NewFileHash(*h), nil
}

// NewFileHash begins the checksum of a file object: write the content to it,
// and its Sum names the object.
func NewFileHash(h FileHeader) hash.Hash {
	sum := sha256.New()
	sum.Write(h.EncodeContentHeader())
	return sum
}

// HashFile returns the checksum of a file object with this content, and the
// size of the content. For symlinks, content is not read and may be nil.
func HashFile(h FileHeader, content io.Reader) (Checksum, uint64, error) {
	if err := h.Validate(); err != nil {
		return Checksum{}, 0, err
	}
	sum := NewFileHash(h)
	var size int64
	if !h.IsSymlink() {
		var err error
		if size, err = io.Copy(sum, content); err != nil {
			return Checksum{}, 0, fmt.Errorf("hash content: %w", err)
		}
	}
	return Checksum(sum.Sum(nil)), uint64(size), nil
}

func copyExactly(w io.Writer, r io.Reader, size uint64) error {
	if size > 1<<62 {
		return fmt.Errorf("%w: content of %d bytes", ErrTooLarge, size)
	}
	n, err := io.Copy(w, io.LimitReader(r, int64(size)+1))
	switch {
	case err != nil:
		return err
	case n < int64(size):
		return fmt.Errorf("content has %d bytes instead of %d: %w", n, size, io.ErrUnexpectedEOF)
	case n > int64(size):
		return fmt.Errorf("%w: content has more than %d bytes", ErrTooLarge, size)
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
