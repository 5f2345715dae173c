package hubapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
)

// Part is one file of an upload.
type Part struct {
	// Name is the file name the hub stores it by: "<64 hex>.<type>" of an
	// OSTree object, "<name>.<part>.delta" of a static delta, or the SHA-256 in
	// hex of a tree's file.
	Name string
	// Size is the exact length of the content in bytes.
	Size int64
	// Open begins a new reading of the content. It is called once per attempt,
	// when the content's turn has come, so that few files are open at a time.
	Open func() (io.ReadCloser, error)
}

// FilePart is the part with the content of a local file.
func FilePart(name, path string, size int64) Part {
	return Part{Name: name, Size: size, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
}

// PartError says that the content of a part could not be read as announced:
// the fault is on this side, and nothing more is known of what the hub has
// stored of the request.
type PartError struct {
	Name string
	Err  error
}

func (e *PartError) Error() string { return fmt.Sprintf("upload %s: %v", e.Name, e.Err) }

// Unwrap returns Err.
func (e *PartError) Unwrap() error { return e.Err }

// Upload sends objects into a build in one request, which is streamed and so
// may be large. The answer tells how many bytes were stored of each part, in
// order; a caller compares its length with that of parts. If some parts are
// refused, the error is an [*Error] that names them, and the others are
// stored.
func (c *Client) Upload(ctx context.Context, id int64, parts []Part) ([]int64, error) {
	stored, err := c.upload(ctx, BuildPath(id, "upload"), parts)
	return stored, buildErr("upload into", id, err)
}

// expectFrom is the size of an upload from which on the client first waits for
// the server's consent, so that a refusal does not cost the whole transfer.
const expectFrom = 16 << 20

func (c *Client) upload(ctx context.Context, path string, parts []Part) ([]int64, error) {
	boundary := "freshet-" + rand.Text()
	size := int64(len(closing(boundary)))
	for _, part := range parts {
		if err := checkName("part", part.Name); err != nil {
			return nil, err
		}
		size += int64(len(partHeader(boundary, part))) + part.Size + int64(len(crlf))
	}
	header := http.Header{"Content-Type": {"multipart/form-data; boundary=" + boundary}}
	if size >= expectFrom {
		header.Set("Expect", "100-continue")
	}
	var stored []int64
	err := c.do(ctx, call{
		method: http.MethodPost, path: path, header: header, size: size,
		body: func() io.ReadCloser { return &multipartBody{boundary: boundary, parts: parts} },
	}, &stored)
	return stored, err
}

const crlf = "\r\n"

func partHeader(boundary string, part Part) string {
	return fmt.Sprintf("--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"%s\"\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", boundary, part.Name, part.Size)
}

func closing(boundary string) string { return "--" + boundary + "--" + crlf }

// multipartBody is a multipart body that opens each part when it is reached.
// Its length is known in advance, so a part that is shorter or longer than
// announced is an error.
type multipartBody struct {
	mu       sync.Mutex // a transport may close the body while it is being read
	boundary string
	parts    []Part
	text     string        // what comes before the next content, still to be read
	content  io.ReadCloser // the part being read, or nil
	left     int64         // of it
	name     string        // of it
	ended    bool
}

// Read implements io.Reader. It fills p, however short the parts are: a transport makes
// a system call of each reading.
func (b *multipartBody) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(p) && err == nil {
		var more int
		more, err = b.read(p[n:])
		n += more
	}
	return n, err
}

// read reads a piece, or none where one begins. The caller holds mu.
func (b *multipartBody) read(p []byte) (n int, err error) {
	switch {
	case b.text != "":
		n = copy(p, b.text)
		b.text = b.text[n:]
	case b.content != nil && b.left > 0:
		n, err = b.content.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		switch {
		case errors.Is(err, io.EOF) && b.left > 0:
			err = &PartError{Name: b.name, Err: fmt.Errorf("the file became shorter while it was read: %w", io.ErrUnexpectedEOF)}
		case errors.Is(err, io.EOF):
			err = nil
		case err != nil:
			err = &PartError{Name: b.name, Err: err}
		}
	case b.content != nil:
		err = b.finish()
	case len(b.parts) > 0:
		part := b.parts[0]
		b.parts = b.parts[1:]
		content, err := part.Open()
		if err != nil {
			return 0, &PartError{Name: part.Name, Err: err}
		}
		b.content, b.left, b.name = content, part.Size, part.Name
		b.text = partHeader(b.boundary, part)
	case !b.ended:
		b.ended = true
		b.text = closing(b.boundary)
	default:
		err = io.EOF
	}
	return n, err
}

// finish ends the part that was read to its announced size.
func (b *multipartBody) finish() error {
	var one [1]byte
	n, err := io.ReadFull(b.content, one[:])
	_ = b.content.Close()
	b.content = nil
	if n > 0 {
		return &PartError{Name: b.name, Err: errors.New("the file became longer while it was read")}
	}
	if !errors.Is(err, io.EOF) {
		return &PartError{Name: b.name, Err: err}
	}
	b.text = crlf
	return nil
}

func (b *multipartBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts, b.text, b.ended = nil, "", true
	if b.content == nil {
		return nil
	}
	err := b.content.Close()
	b.content = nil
	return err
}
