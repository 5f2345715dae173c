package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"freshet/api/watchapi"
	"freshet/internal/source"
)

// maxWindow bounds the memory that reading a batch takes.
const maxWindow = 8 << 20

// Encode returns a batch as it is stored and sent.
func Encode(h watchapi.Head, lines []watchapi.Line) ([]byte, error) {
	var out bytes.Buffer
	// The checksum of the frame (RFC 8878, section 3.1.1) is that of the batch.
	z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, err
	}
	w, err := watchapi.NewWriter(z, h)
	if err != nil {
		return nil, errors.Join(err, z.Close())
	}
	for _, l := range lines {
		if err := w.Add(l); err != nil {
			return nil, errors.Join(err, z.Close())
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Decode reads a batch as it is stored and sent, and calls each with its lines until that
// fails. What is not whole or not sound is a [watchapi.ErrMalformed], perhaps after some
// lines.
func Decode(r io.Reader, begin func(watchapi.Head) error, each func(watchapi.Line) error) error {
	in := &source.Reader{R: r}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	blame := func(err error) error {
		switch {
		case in.Err != nil:
			return in.Err
		case errors.Is(err, watchapi.ErrMalformed), errors.Is(err, watchapi.ErrVersion), errors.Is(err, watchapi.ErrTooLarge):
			return err
		}
		return fmt.Errorf("%w: %w", watchapi.ErrMalformed, err) // zstd's
	}
	b, err := watchapi.NewReader(z)
	if err != nil {
		return blame(err)
	}
	if err := begin(b.Head); err != nil {
		return err
	}
	for {
		l, err := b.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return blame(err)
		}
		if err := each(l); err != nil {
			return err
		}
	}
}
