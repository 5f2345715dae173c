package hub

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"

	"freshet/api/hubapi"
)

const (
	// maxParts bounds the parts of one upload request. The batches of
	// flat-manager's clients have 4 MiB, so their parts are never as many.
	maxParts = 64 << 10
	// maxShownName bounds, in bytes, what is repeated of a part's bad name.
	maxShownName = 128
	// bodyBuffer is how much of a request is read at a time, in bytes.
	bodyBuffer = 64 << 10
)

// put stores one part of an upload under the name the client gave it, and
// returns how many bytes it stored. It reads content to its end before it
// stores anything, and stores nothing when that fails. An error that refused
// recognises concerns this part only.
type put func(ctx context.Context, name string, content *partContent) (int64, error)

// refusedError is a part that is not stored, with the reason told to the
// client.
type refusedError struct{ reason string }

func (e refusedError) Error() string { return e.reason }

func refuse(format string, args ...any) error { return refusedError{fmt.Sprintf(format, args...)} }

// receive stores the parts of a multipart request (multipart/form-data, RFC
// 7578, or multipart/mixed, RFC 2046 section 5.1.3) one after the other, as
// they come. It returns what was stored of each. Parts that are bad by
// themselves do not keep the others from being stored; the error then names
// them. Any other error ends the request, and what was stored before it stays.
func (s *server) receive(w http.ResponseWriter, r *http.Request, store put) ([]int64, error) {
	parts, body, err := s.openMultipart(w, r)
	if err != nil {
		return nil, err
	}
	sizes := []int64{}
	refused := make(map[string]string)
	for n := 0; ; n++ {
		// Raw: content transfer encodings have no place in HTTP (RFC 7578, 4.7).
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) && body.ended() {
			break
		}
		if err != nil {
			return nil, bodyError(err)
		}
		if n == maxParts {
			return nil, problem(hubapi.ErrTooLarge, "the request has more than %d parts", maxParts)
		}
		name := partName(part)
		content := &partContent{src: part, left: int64(s.cfg.Limits.Object)}
		stored, err := store(r.Context(), name, content)
		s.metrics.uploaded.Add(float64(content.read))
		if err == nil && content.err == nil {
			sizes = append(sizes, stored)
			continue
		}
		reason, err := partProblem(content, err)
		if err != nil {
			return nil, fmt.Errorf("store part %s: %w", showName(name, n), err)
		}
		refused[showName(name, n)] = reason
	}
	// What follows the parts means nothing, but a body that ends early may have
	// been changed on its way.
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, bodyError(err)
	}
	if len(refused) > 0 {
		first := slices.Min(slices.Collect(maps.Keys(refused)))
		e := problem(hubapi.ErrGeneric, "refused %d of %d parts; %s: %s", len(refused), len(sizes)+len(refused), first, refused[first])
		e.Refused = refused
		return nil, e
	}
	return sizes, nil
}

// openMultipart returns the parts of a request, and the body they are read
// from.
func (s *server) openMultipart(w http.ResponseWriter, r *http.Request) (*multipart.Reader, *delimited, error) {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/form-data" && mediaType != "multipart/mixed" {
		return nil, nil, problem(hubapi.ErrGeneric, "the content type must be multipart/form-data or multipart/mixed")
	}
	if params["boundary"] == "" {
		return nil, nil, problem(hubapi.ErrGeneric, "the content type lacks the boundary of the parts")
	}
	if r.ContentLength > int64(s.cfg.Limits.UploadBody) {
		return nil, nil, &http.MaxBytesError{Limit: int64(s.cfg.Limits.UploadBody)}
	}
	body, err := openBody(w, r, int64(s.cfg.Limits.UploadBody))
	if err != nil {
		return nil, nil, err
	}
	boundary := params["boundary"]
	// multipart.Reader asks for a few kilobytes at a time.
	watched := &delimited{src: bufio.NewReaderSize(body, bodyBuffer), last: []byte("--" + boundary + "--")}
	return multipart.NewReader(watched, boundary), watched, nil
}

// delimited is a multipart body that remembers whether its end was reached.
// [multipart.Reader] tells the end of all parts and a body that was cut off
// within the header of one by the same error.
type delimited struct {
	src  io.Reader
	last []byte // the delimiter after the last part, without its line ends
	tail []byte // of what was read, at least tailSize
}

// tailSize is more than [multipart.Reader] reads ahead.
const tailSize = 16 << 10

func (d *delimited) Read(p []byte) (int, error) {
	n, err := d.src.Read(p[:min(len(p), tailSize)])
	if len(d.tail)+n > cap(d.tail) { // not at every read, or it is copied again and again
		if d.tail == nil {
			d.tail = make([]byte, 0, 4*tailSize)
		}
		d.tail = append(d.tail[:0], d.tail[max(0, len(d.tail)-tailSize):]...)
	}
	d.tail = append(d.tail, p[:n]...)
	return n, err
}

// ended reports whether the parts came to their end.
func (d *delimited) ended() bool {
	return bytes.Contains(d.tail[max(0, len(d.tail)-tailSize):], d.last)
}

// partProblem decides what an error of one part means: a reason to refuse it,
// or the end of the request.
func partProblem(content *partContent, err error) (reason string, fatal error) {
	switch {
	case content.tooLarge:
		return "is larger than the limit of one file", nil
	case content.err != nil:
		return "", bodyError(content.err)
	case noSpace(err):
		return "", err
	}
	if e, ok := errors.AsType[refusedError](err); ok {
		return e.reason, nil
	}
	return "", err
}

// partName is the file name of a part exactly as sent. [multipart.Part.FileName]
// would cut a path down to its last element and so accept a bad name.
func partName(part *multipart.Part) string {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return ""
	}
	return params["filename"]
}

// showName is how the n-th part is called in an answer.
func showName(name string, n int) string {
	if name == "" {
		return fmt.Sprintf("part %d", n+1)
	}
	if len(name) > maxShownName {
		name = name[:maxShownName]
	}
	return strings.ToValidUTF8(name, "\uFFFD")
}

// partContent reads one part and keeps apart why the reading ended: the body's
// failure is not the part's.
type partContent struct {
	src      io.Reader
	left     int64
	read     int64
	err      error // other than io.EOF
	tooLarge bool
}

func (c *partContent) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	// One byte more than allowed tells a part of exactly the limit from a
	// larger one.
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.src.Read(p)
	c.read += int64(n)
	c.left -= int64(n)
	if c.left < 0 {
		c.tooLarge = true
		c.err = errors.New("too large")
		return 0, c.err
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
