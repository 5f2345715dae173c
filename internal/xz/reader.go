package xz

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
)

// MaxBlocks bounds the blocks of a file that is read, since their sizes are
// kept to be compared with the index.
const MaxBlocks = 1 << 20

// Reader reads the content of a .xz file. It checks everything that the format
// lets it check; the end, [io.EOF], comes only after the footer.
type Reader struct {
	src     countingReader
	maxDict uint32
	flags   [2]byte // of the stream
	block   *block
	index   []record
	err     error
}

// block is what is read at the moment.
type block struct {
	content io.Reader
	check   hash.Hash // nil: none
	start   int64     // of the block in the file
	size    uint64    // of the content so far
	// What the header announced; -1: nothing.
	packedSize, contentSize int64
	header                  int64 // bytes
}

// NewReader reads the header of a stream. Blocks whose dictionary is larger than
// maxDict bytes are refused with [ErrUnsupported]. The reader reads further in
// r than the stream goes, and demands that nothing follows it.
func NewReader(r io.Reader, maxDict uint32) (*Reader, error) {
	z := &Reader{maxDict: maxDict}
	z.src.r = bufio.NewReaderSize(&z.src.under, 32<<10)
	z.src.under.r = r
	var header [headerSize]byte
	if _, err := io.ReadFull(z.src.r, header[:]); err != nil {
		return nil, fmt.Errorf("read xz: %w", truncated(err))
	}
	flags := header[len(headerMagic) : len(headerMagic)+2]
	if string(header[:len(headerMagic)]) != headerMagic || binary.LittleEndian.Uint32(header[8:]) != crc32.ChecksumIEEE(flags) {
		return nil, fmt.Errorf("read xz: %w: no header", ErrMalformed)
	}
	z.flags = [2]byte(flags)
	if _, _, err := z.newCheck(); err != nil {
		return nil, fmt.Errorf("read xz: %w", err)
	}
	return z, nil
}

// newCheck returns the hash over the content of a block, and its size.
func (z *Reader) newCheck() (hash.Hash, int, error) {
	if z.flags[0] == 0 {
		switch z.flags[1] {
		case checkNone:
			return nil, 0, nil
		case checkCRC32:
			return crc32.NewIEEE(), crc32.Size, nil
		case checkCRC64:
			return crc64.New(crc64.MakeTable(crc64.ECMA)), crc64.Size, nil
		case checkSHA256:
			return sha256.New(), sha256.Size, nil
		}
	}
	return nil, 0, fmt.Errorf("%w: check %x", ErrUnsupported, z.flags)
}

// Read reads content.
func (z *Reader) Read(p []byte) (int, error) {
	for z.err == nil && len(p) > 0 {
		if z.block == nil {
			z.err = z.begin()
			continue
		}
		n, err := z.block.content.Read(p)
		z.block.size += uint64(n)
		if z.block.check != nil {
			z.block.check.Write(p[:n])
		}
		switch {
		case err == io.EOF:
			z.err = z.endBlock()
		case err != nil:
			z.err = err
		}
		if n > 0 {
			return n, nil
		}
	}
	if z.err != nil && z.err != io.EOF { //nolint:errorlint // set here
		return 0, fmt.Errorf("read xz: %w", z.err)
	}
	return 0, z.err
}

// begin reads the header of a block, or, when there is none left, the rest of
// the file.
func (z *Reader) begin() error {
	start := z.src.offset()
	size, err := z.src.r.ReadByte()
	if err != nil {
		return truncated(err)
	}
	if size == 0 {
		return z.finish(start)
	}
	if len(z.index) == MaxBlocks {
		return fmt.Errorf("%w: more than %d blocks", ErrUnsupported, MaxBlocks)
	}
	header := make([]byte, (int(size)+1)*4)
	header[0] = size
	if _, err := io.ReadFull(z.src.r, header[1:]); err != nil {
		return truncated(err)
	}
	end := len(header) - 4
	if binary.LittleEndian.Uint32(header[end:]) != crc32.ChecksumIEEE(header[:end]) {
		return fmt.Errorf("%w: header of a block has a wrong checksum", ErrMalformed)
	}
	b := &block{start: start, header: int64(len(header))}
	if err := z.chain(b, header[1:end]); err != nil {
		return err
	}
	b.check, _, err = z.newCheck()
	z.block = b
	return err
}

// chain reads the filters of a block from its header and sets up reading.
func (z *Reader) chain(b *block, header []byte) error {
	f := fields{b: header[1:]}
	flags := header[0]
	b.packedSize, b.contentSize = -1, -1
	if flags&hasPackedSize != 0 {
		b.packedSize = int64(f.number())
	}
	if flags&hasContentSize != 0 {
		b.contentSize = int64(f.number())
	}
	x86 := false
	for range flags & manyFilters {
		if id, props := f.number(), f.number(); x86 || id != filterX86 || props != 0 {
			return fmt.Errorf("%w: filter %#x", ErrUnsupported, id)
		}
		x86 = true
	}
	id, props := f.number(), f.number()
	code := f.number()
	switch {
	case f.bad || flags&reservedFlags != 0 || len(bytes.Trim(f.b, "\x00")) > 0:
		return fmt.Errorf("%w: header of a block", ErrMalformed)
	case id != filterLZMA2 || props != 1 || code > 40:
		return fmt.Errorf("%w: filter %#x", ErrUnsupported, id)
	}
	dict := dictSize(byte(code))
	if dict > z.maxDict {
		return fmt.Errorf("%w: dictionary of %d bytes, of which %d are allowed", ErrUnsupported, dict, z.maxDict)
	}
	b.content = newLZMA2Reader(z.src.r, dict)
	if x86 {
		b.content = newX86Reader(b.content)
	}
	return nil
}

// endBlock reads the padding and the check of a block.
func (z *Reader) endBlock() error {
	b := z.block
	z.block = nil
	unpadded := z.src.offset() - b.start
	pad := int(-unpadded & 3)
	var end [3 + sha256.Size]byte
	_, width, err := z.newCheck()
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(z.src.r, end[:pad+width]); err != nil {
		return truncated(err)
	}
	if !equalCheck(b.check, end[pad:pad+width]) || len(bytes.Trim(end[:pad], "\x00")) > 0 {
		return fmt.Errorf("%w: content has another checksum than its block says", ErrMalformed)
	}
	if b.packedSize >= 0 && b.packedSize != unpadded-b.header || b.contentSize >= 0 && uint64(b.contentSize) != b.size {
		return fmt.Errorf("%w: block is not as long as its header says", ErrMalformed)
	}
	z.index = append(z.index, record{unpadded: uint64(unpadded) + uint64(width), size: b.size})
	return nil
}

// equalCheck compares a checksum with its bytes in the file: CRCs are stored
// little-endian.
func equalCheck(h hash.Hash, stored []byte) bool {
	switch h := h.(type) {
	case nil:
		return true
	case hash.Hash32:
		return h.Sum32() == binary.LittleEndian.Uint32(stored)
	case hash.Hash64:
		return h.Sum64() == binary.LittleEndian.Uint64(stored)
	}
	return bytes.Equal(h.Sum(nil), stored)
}

// finish reads index and footer, which must be those of the blocks.
func (z *Reader) finish(start int64) error {
	want := appendIndex(nil, z.index)
	footer := binary.LittleEndian.AppendUint32(make([]byte, 0, 6), uint32(len(want)/4-1))
	footer = append(footer, z.flags[:]...)
	want = append(append(appendCRC32(want, footer), footer...), footerMagic...)
	rest := make([]byte, len(want)-1)
	if _, err := io.ReadFull(z.src.r, rest); err != nil {
		return truncated(err)
	}
	if !bytes.Equal(rest, want[1:]) {
		return fmt.Errorf("%w: the index at %d is not that of the blocks", ErrMalformed, start)
	}
	switch _, err := z.src.r.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: bytes after the end", ErrMalformed)
	case !errors.Is(err, io.EOF):
		return err
	}
	return io.EOF
}

// fields reads the numbers of a header.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) number() uint64 {
	v, n := binary.Uvarint(f.b[:min(len(f.b), maxVarint)])
	if n <= 0 || v > 1<<63-1 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

// countingReader knows how far a buffered reader has come.
type countingReader struct {
	r     *bufio.Reader
	under countedReader
}

func (c *countingReader) offset() int64 { return c.under.n - int64(c.r.Buffered()) }

type countedReader struct {
	r io.Reader
	n int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
