package xz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Method compresses the content of a block.
type Method struct {
	// X86 says that content goes through the x86 filter before LZMA2.
	X86 bool
	// DictSize is the dictionary that a reader needs, in bytes. It is rounded up
	// to what the format can express, see [DictSize].
	DictSize uint32
	// New starts to compress. What is written to the result must come to out as
	// raw LZMA2 with its end marker (filtered before, when X86 says so), by the
	// time Close returns.
	New func(out io.Writer) (io.WriteCloser, error)
}

// Stored is the method that stores content in chunks as it is. It adds 3 bytes
// to each 64 KiB.
func Stored() Method {
	return Method{DictSize: 4096, New: func(out io.Writer) (io.WriteCloser, error) {
		return &storer{out: out, chunk: make([]byte, 3, 3+maxStored)}, nil
	}}
}

// Writer writes a .xz file, block by block. Begin a block, write its content,
// and so on; then Close. Blocks have a CRC32 as their check. Errors stay:
// after the first one, the file is lost.
type Writer struct {
	out     countingWriter
	encoder io.WriteCloser
	check   uint32
	start   int64 // of the block, in out
	size    uint64
	index   []record
	err     error
}

// record is the entry of a block in the index.
type record struct{ unpadded, size uint64 }

// NewWriter writes the header of a file.
func NewWriter(w io.Writer) (*Writer, error) {
	z := &Writer{out: countingWriter{w: w}}
	header := append([]byte(headerMagic), 0, checkCRC32)
	_, z.err = z.out.Write(appendCRC32(header, header[len(headerMagic):]))
	return z, z.err
}

// Begin ends the block that is open, if any, and begins another.
func (z *Writer) Begin(m Method) error {
	if z.endBlock(); z.err != nil {
		return z.err
	}
	z.start, z.size, z.check = z.out.n, 0, 0
	_, code := DictSize(m.DictSize)
	header := []byte{0, 0}
	if m.X86 {
		header[1]++
		header = append(header, filterX86, 0)
	}
	header = pad4(append(header, filterLZMA2, 1, code))
	header[0] = byte(len(header) / 4)
	if _, z.err = z.out.Write(appendCRC32(header, header)); z.err != nil {
		return z.err
	}
	encoder, err := m.New(&z.out)
	if err != nil {
		z.err = err
		return err
	}
	z.encoder = encoder
	return nil
}

// Write adds content to the block.
func (z *Writer) Write(p []byte) (int, error) {
	if z.err != nil {
		return 0, z.err
	}
	if z.encoder == nil {
		return 0, errors.New("write xz: no block was begun")
	}
	z.check = crc32.Update(z.check, crc32.IEEETable, p)
	z.size += uint64(len(p))
	var n int
	n, z.err = z.encoder.Write(p)
	return n, z.err
}

// endBlock finishes the block that is open, if any.
func (z *Writer) endBlock() {
	if z.encoder == nil {
		return
	}
	if err := z.encoder.Close(); z.err == nil {
		z.err = err
	}
	if z.encoder = nil; z.err != nil {
		return
	}
	end := make([]byte, 0, 8)
	packed := z.out.n - z.start
	for (packed+int64(len(end)))%4 != 0 {
		end = append(end, 0)
	}
	end = binary.LittleEndian.AppendUint32(end, z.check)
	z.index = append(z.index, record{unpadded: uint64(packed) + 4, size: z.size})
	_, z.err = z.out.Write(end)
}

// Close ends the block that is open and writes the index and the footer. It
// must be called also after an error, so that the encoder ends; it does not
// close the underlying writer.
func (z *Writer) Close() error {
	if z.endBlock(); z.err != nil {
		return fmt.Errorf("write xz: %w", z.err)
	}
	index := appendIndex(nil, z.index)
	footer := binary.LittleEndian.AppendUint32(make([]byte, 0, 6), uint32(len(index)/4-1))
	footer = append(footer, 0, checkCRC32)
	end := append(appendCRC32(index, footer), footer...)
	if _, z.err = z.out.Write(append(end, footerMagic...)); z.err != nil {
		return fmt.Errorf("write xz: %w", z.err)
	}
	z.err = errClosed
	return nil
}

var errClosed = errors.New("xz writer is closed")

// appendIndex appends the index of a stream, with its CRC32.
func appendIndex(b []byte, records []record) []byte {
	start := len(b)
	b = binary.AppendUvarint(append(b, 0), uint64(len(records)))
	for _, r := range records {
		b = binary.AppendUvarint(binary.AppendUvarint(b, r.unpadded), r.size)
	}
	for (len(b)-start)%4 != 0 {
		b = append(b, 0)
	}
	return appendCRC32(b, b[start:])
}

// storer makes chunks of LZMA2 that are not compressed.
type storer struct {
	out   io.Writer
	chunk []byte // header and content
	begun bool
}

const maxStored = 1 << 16 // bytes in a chunk

func (s *storer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), cap(s.chunk)-len(s.chunk))
		s.chunk = append(s.chunk, p[:k]...)
		p = p[k:]
		n += k
		if len(s.chunk) == cap(s.chunk) {
			if err := s.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (s *storer) flush() error {
	content := len(s.chunk) - 3
	if content == 0 {
		return nil
	}
	s.chunk[0] = chunkStored
	if !s.begun {
		s.chunk[0] = chunkStoredReset
		s.begun = true
	}
	binary.BigEndian.PutUint16(s.chunk[1:], uint16(content-1))
	_, err := s.out.Write(s.chunk)
	s.chunk = s.chunk[:3]
	return err
}

func (s *storer) Close() error {
	if err := s.flush(); err != nil {
		return err
	}
	_, err := s.out.Write([]byte{chunkEnd})
	return err
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
