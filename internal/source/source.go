// Package source tells what is wrong with a source of bytes from what is wrong with
// the bytes: to a parser both are errors of its reader.
package source

import (
	"errors"
	"io"
)

// Reader reads from R and remembers how that went. It is for one goroutine.
type Reader struct {
	R io.Reader
	// N is how many bytes were read.
	N int64
	// Err is the last error of R but io.EOF, nil if there was none.
	Err error
}

// Read implements [io.Reader], with the results of R.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.R.Read(p)
	r.N += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.Err = err
	}
	return n, err
}
