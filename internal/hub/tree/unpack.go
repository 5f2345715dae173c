package tree

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"freshet/internal/xz"
)

// Limits of what unpack reads.
const (
	maxUnpacked   = 16 << 30  // bytes of one metadata file; the largest known have 1 GiB
	maxZstdWindow = 128 << 20 // bytes, which is what zstd(1) takes without being asked
	maxXZDict     = 64 << 20  // bytes, which is what xz -9 needs
)

// compressionError says in which form a file is that cannot be read here.
type compressionError string

func (e compressionError) Error() string { return string(e) + " cannot be read here" }

// unpack returns what the reader holds, decompressed if its first bytes say that
// it is compressed, or a [compressionError]. Without an error, done ends the use
// of it.
func unpack(r io.Reader) (plain io.Reader, done func(), err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	err = nil // a short file
	begins := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	done = func() {}
	switch {
	case begins("\x1f\x8b"): // RFC 1952, section 2.3.1
		plain, err = gzip.NewReader(in)
	case begins("\x28\xb5\x2f\xfd"): // RFC 8878, section 3.1.1
		var d *zstd.Decoder
		d, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err == nil {
			plain, done = d, d.Close
		}
	case begins("BZh"):
		plain = bzip2.NewReader(in)
	case begins("\xfd7zXZ\x00"):
		plain, err = xz.NewReader(in, maxXZDict)
	case begins("\x00ZCK1"):
		err = compressionError("zchunk")
	case begins("\x5d\x00\x00"): // the usual parameters; the format has no magic
		err = compressionError("lzma")
	case begins("\x04\x22\x4d\x18"):
		err = compressionError("lz4")
	case begins("\x1f\x9d"): // compress(1)
		err = compressionError("compress")
	case begins("\x89LZO"):
		err = compressionError("lzo")
	case begins("LRZI"):
		err = compressionError("lrzip")
	case begins("LZIP"):
		err = compressionError("lzip")
	default:
		plain = in
	}
	if err != nil {
		return nil, nil, err
	}
	return &limited{r: plain, left: maxUnpacked}, done, nil
}

// limited fails where io.LimitedReader would end.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("more than %d bytes when unpacked", int64(maxUnpacked))
	}
	return n, err
}

// source is a file of the tree being read. It tells errors of the disk from
// those of the content, and ends when check does not agree.
type source struct {
	r     io.Reader
	check func() error
	err   error
}

func (s *source) Read(b []byte) (int, error) {
	if s.err == nil {
		s.err = s.check()
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
