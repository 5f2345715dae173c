package tree

import (
	"errors"
	"io"
)

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
