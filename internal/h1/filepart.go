package h1

import (
	"errors"
	"io"
	"os"
)

// filePart is a part of a file that [io.CopyN] is to send, large enough for
// sendfile.
type filePart struct {
	limited *io.LimitedReader
	file    *os.File
	at      int64
}

// filePartOf reports whether r is one.
func filePartOf(r io.Reader) (p filePart, ok bool) {
	limited, _ := r.(*io.LimitedReader)
	if limited == nil || limited.N <= sendfileFrom {
		return p, false
	}
	file, _ := limited.R.(*os.File)
	if file == nil {
		return p, false
	}
	at, err := file.Seek(0, io.SeekCurrent)
	return filePart{limited, file, at}, err == nil // else it has no position: it is read
}

// send sends it, and leaves what it was made of as if it had been read. A file
// that ends before is its end.
func (p filePart) send(out *sender) (sent int64, err error) {
	sent, err = out.sendFile(p.file, p.at, p.limited.N)
	p.limited.N -= sent
	if _, fault := errors.AsType[*FileError](err); fault && errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err != nil {
		return sent, err
	}
	_, err = p.file.Seek(p.at+sent, io.SeekStart)
	return sent, err
}
