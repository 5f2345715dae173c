// Package unpack reads files of metadata in whatever form they are compressed,
// which their first bytes tell. It is safe on foreign bytes: memory is bounded, and so
// is what comes out.
package unpack

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

// Limits of what is read.
const (
	// MaxSize is how many bytes one file may have when unpacked; the largest
	// known have 1 GiB.
	MaxSize = 16 << 30

	maxZstdWindow = 128 << 20 // bytes, which is what zstd(1) takes without being asked
	maxXZDict     = 64 << 20  // bytes, which is what xz -9 needs
)

// FormatError says in which form a file is that cannot be read here.
type FormatError string

func (e FormatError) Error() string { return string(e) + " cannot be read here" }

// NewReader returns what r holds, decompressed if its first bytes say that it is
// compressed, or a [FormatError]. More than [MaxSize] bytes are an error of the
// reader. Without an error, done ends the use of it.
func NewReader(r io.Reader) (plain io.Reader, done func(), err error) {
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
		err = FormatError("zchunk")
	case begins("\x5d\x00\x00"): // the usual parameters; the format has no magic
		err = FormatError("lzma")
	case begins("\x04\x22\x4d\x18"):
		err = FormatError("lz4")
	case begins("\x1f\x9d"): // compress(1)
		err = FormatError("compress")
	case begins("\x89LZO"):
		err = FormatError("lzo")
	case begins("LRZI"):
		err = FormatError("lrzip")
	case begins("LZIP"):
		err = FormatError("lzip")
	default:
		plain = in
	}
	if err != nil {
		return nil, nil, err
	}
	return Limit(plain), done, nil
}

// Limit returns a reader of r that fails after [MaxSize] bytes, for those who unpack
// by themselves; an [io.LimitedReader] would end.
func Limit(r io.Reader) io.Reader { return &limited{r: r, left: MaxSize} }

type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("more than %d bytes when unpacked", int64(MaxSize))
	}
	return n, err
}
