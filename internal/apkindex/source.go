package apkindex

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// source reads gzip streams one by one, and knows where each ends: it hands out
// byte by byte what is decompressed, so that nothing is read too far.
type source struct {
	r    *bufio.Reader
	tap  io.Writer // gets the compressed bytes, if not nil
	gzip *gzip.Reader
	err  error // that of the reader
	one  [1]byte
}

func newSource(r io.Reader) *source { return &source{r: bufio.NewReaderSize(r, 32<<10)} }

// stream begins the next stream; after the last, the error is [io.EOF]. The one
// before it must have been read to its end.
func (s *source) stream() (io.Reader, error) {
	if _, err := s.r.Peek(1); err != nil {
		return nil, s.note(err)
	}
	var err error
	if s.gzip == nil {
		s.gzip, err = gzip.NewReader(s)
	} else {
		err = s.gzip.Reset(s)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	s.gzip.Multistream(false)
	return s.gzip, nil
}

// ReadByte makes the source one that gzip does not read ahead of.
func (s *source) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil && s.tap != nil {
		s.one[0] = b
		_, _ = s.tap.Write(s.one[:]) // hashes do not fail
	}
	return b, s.note(err)
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if s.tap != nil {
		_, _ = s.tap.Write(b[:n])
	}
	return n, s.note(err)
}

func (s *source) note(err error) error {
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return err
}

// explain returns the error of the reader, if there was one, and else err as one
// of the format.
func (s *source) explain(err error) error {
	if s.err != nil {
		return s.err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}
