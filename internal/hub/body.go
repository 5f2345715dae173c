package hub

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"freshet/api/hubapi"
)

const (
	// jsonBody is the limit of ordinary JSON bodies, in bytes.
	jsonBody = 2 << 20
	// stallTimeout ends a request whose body does not move.
	stallTimeout = time.Minute
	// slowestBody is how many bytes have to come in a stallTimeout of waiting.
	slowestBody = 60_000
)

// errSlowBody says that a body comes so slowly that it would never end.
var errSlowBody = fmt.Errorf("the body comes with less than %d bytes in %v: %w", slowestBody, stallTimeout, os.ErrDeadlineExceeded)

// openBody returns the request's body, decompressed if it is gzip, with at
// most limit bytes on the wire and as many after decompression. A body that
// stalls for [stallTimeout] fails.
func openBody(w http.ResponseWriter, r *http.Request, limit int64) (io.Reader, error) {
	body := &movingBody{src: http.MaxBytesReader(w, r.Body, limit), control: http.NewResponseController(w)}
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		zr, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("open gzip body: %w", bodyError(err))
		}
		return http.MaxBytesReader(w, zr, limit), nil
	default:
		e := problem(hubapi.ErrGeneric, "content encoding %q is not supported", encoding)
		e.Status = http.StatusUnsupportedMediaType // RFC 9110, section 8.4
		return nil, e
	}
}

// movingBody gives the client [stallTimeout] for every part of its body,
// however long all of it takes, unless it waits that long for fewer than
// [slowestBody] bytes.
type movingBody struct {
	src     io.Reader
	control *http.ResponseController
	renewed time.Time

	waited time.Duration // for the client, since it was last found fast enough
	got    int           // bytes in that time
}

func (b *movingBody) Read(p []byte) (int, error) {
	// Not at every read: setting a deadline costs more than a small read.
	if now := time.Now(); now.Sub(b.renewed) > stallTimeout/10 {
		b.renewed = now
		if err := b.control.SetReadDeadline(now.Add(stallTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, fmt.Errorf("set read deadline: %w", err)
		}
	}
	begun := time.Now()
	n, err := b.src.Read(p)
	b.got += n
	if b.waited += time.Since(begun); b.waited > stallTimeout {
		if err == nil && b.got < slowestBody {
			err = errSlowBody
		}
		b.waited, b.got = 0, 0
	}
	if err != nil {
		// The deadline is not to end what the handler does after the body.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// readJSON decodes the request's body into v. No body leaves v as it is:
// flat-manager's clients send their GETs with one, others need not. Keys that
// v does not have are ignored.
func readJSON(w http.ResponseWriter, r *http.Request, v any, limit int64) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	body, err := openBody(w, r, limit)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return bodyError(err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return problem(hubapi.ErrGeneric, "the body is not the JSON expected: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
